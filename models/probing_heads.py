"""Heads that read stages from a foundation encoder's tokens; every one takes the mask of them.

Tokens (b, c, q, d) with valid (b, c, q), ``per`` tokens per epoch -> logits (b, q / per, 5).
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.dropout import Dropout
from utils.stages import STAGES

N = len(STAGES)


def masked_mean(x: Tensor, valid: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean of x (…, d) over ``dim`` where valid (…); zero, and not valid, where nothing is."""
    weights = valid[..., None].to(x.dtype)
    count = weights.sum(dim=dim)
    return (x * weights).sum(dim=dim) / count.clamp_min(1), count[..., 0] > 0


def by_epoch(tokens: Tensor, valid: Tensor, per: int) -> tuple[Tensor, Tensor]:
    """Means over the tokens of an epoch: (b, c, q, d) -> (b, c, n, d)."""
    if per == 1:
        return tokens, valid
    return masked_mean(
        rearrange(tokens, "b c (n k) d -> b c n k d", k=per),
        rearrange(valid, "b c (n k) -> b c n k", k=per),
        dim=3,
    )


class Linear(nn.Module):
    """The linear probe: a logit from every role, averaged over those present."""

    def __init__(self, n_roles: int, d_model: int) -> None:
        super().__init__()
        # zeros will do: a single layer has no symmetry to break
        self.weight = nn.Parameter(torch.zeros(n_roles, d_model, N))
        self.bias = nn.Parameter(torch.zeros(n_roles, 1, N))

    def forward(self, tokens: Tensor, valid: Tensor, per: int) -> Tensor:
        """Logits of all epochs of nights, (b, n, 5)."""
        tokens, valid = by_epoch(tokens, valid, per)
        logits = torch.einsum("bcnd,cdk->bcnk", tokens, self.weight) + self.bias
        return masked_mean(logits, valid, dim=1)[0]


class Fused(nn.Module):
    """Roles brought into one sequence (b, n, width), then what a subclass makes of it."""

    def __init__(self, n_roles: int, d_model: int, width: int, out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(d_model)
        self.weight = nn.Parameter(torch.empty(n_roles, d_model, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_roles, 1, width))
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(out, N)

    def forward(self, tokens: Tensor, valid: Tensor, per: int) -> Tensor:
        """Logits of all epochs of nights, (b, n, 5)."""
        tokens, valid = by_epoch(tokens, valid, per)
        fused = torch.einsum("bcnd,cdw->bcnw", tokens, self.weight) + self.bias
        fused, valid = masked_mean(fused, valid, dim=1)
        return self.classify(self.mix(self.norm(fused) * valid[..., None], valid))

    def mix(self, x: Tensor, valid: Tensor) -> Tensor:
        """Features of epochs from fused roles: (b, n, width), valid (b, n) -> (b, n, out)."""
        raise NotImplementedError


class Mlp(Fused):
    """One hidden layer, on each epoch alone."""

    def __init__(self, n_roles: int, d_model: int, width: int = 128) -> None:
        super().__init__(n_roles, d_model, width, width)
        self.hidden = nn.Sequential(nn.Linear(width, width), nn.GELU(), Dropout(0.1))

    def mix(self, x: Tensor, valid: Tensor) -> Tensor:
        """Features of each epoch alone."""
        return self.hidden(x)


class Gru(Fused):
    """A bidirectional GRU over the night; what is after its end is never read."""

    def __init__(self, n_roles: int, d_model: int, width: int = 64) -> None:
        super().__init__(n_roles, d_model, width, 2 * width)
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)

    def mix(self, x: Tensor, valid: Tensor) -> Tensor:
        """States of both directions at each epoch."""
        return recurrent(self.gru, x, valid)


class Transformer(Fused):
    """One pre-norm layer over the night."""

    def __init__(self, n_roles: int, d_model: int, width: int = 128) -> None:
        super().__init__(n_roles, d_model, width, width)
        self.layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.last = nn.LayerNorm(width)

    def mix(self, x: Tensor, valid: Tensor) -> Tensor:
        """Every epoch attends to the others; a night without valid epochs attends to all."""
        index = torch.arange(x.shape[1], device=x.device)[:, None]
        # 9.2 is ln 10,000, the base of sinusoidal position codes
        rates = torch.exp(torch.arange(0, x.shape[2], 2, device=x.device) / x.shape[2] * -9.2)
        x = x + torch.cat([(index * rates).sin(), (index * rates).cos()], dim=1)
        empty = ~valid.any(dim=1, keepdim=True)  # a softmax over nothing is undefined
        return self.last(self.layer(x, src_key_padding_mask=~(valid | empty)))


class Cnn(Fused):
    """Two temporal convolutions; beyond the night is zero, as beyond a padded one."""

    def __init__(self, n_roles: int, d_model: int, width: int = 64) -> None:
        super().__init__(n_roles, d_model, width, width)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, 7, padding="same") for _ in range(2)
        )

    def mix(self, x: Tensor, valid: Tensor) -> Tensor:
        """Features of each epoch from itself and six to either side."""
        keep = valid[:, None, :]
        h = rearrange(x, "b n w -> b w n")
        for convolution in self.convolutions:
            h = (h + convolution(h).relu()) * keep
        return rearrange(h, "b w n -> b n w")


class Published(nn.Module):
    """The reference's head: two BiGRU layers of 1024 on concatenated channels, then an MLP.

    49,315,859 parameters for 7 roles of 512. Logits of patches are averaged over an epoch.
    """

    def __init__(self, n_roles: int, d_model: int, width: int = 1024) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(n_roles, 1, 1))
        self.offset = nn.Parameter(torch.zeros(n_roles, 1, 1))
        self.gru = nn.GRU(n_roles * d_model, width, 2, batch_first=True, bidirectional=True)
        self.hidden = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(width, N)

    def forward(self, tokens: Tensor, valid: Tensor, per: int) -> Tensor:
        """Logits of all epochs of nights, (b, n, 5)."""
        keep = valid[..., None]
        x = rearrange((tokens * self.gain + self.offset) * keep, "b c q d -> b q (c d)")
        states = recurrent(self.gru, x, valid.any(dim=1))
        logits = self.classify(self.norm(self.hidden(states).relu()))
        return rearrange(logits, "b (n k) s -> b n k s", k=per).mean(dim=2)


def recurrent(gru: nn.GRU, x: Tensor, valid: Tensor) -> Tensor:
    """A GRU over each row (b, n, i) up to its last valid place; zeros after it."""
    number = torch.arange(1, x.shape[1] + 1, device=x.device)
    # packing wants lengths on the CPU, and none of 0
    lengths = (valid * number).amax(dim=1).clamp_min(1).cpu()
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=x.shape[1])[0]


HEADS = {
    "linear": Linear, "mlp": Mlp, "gru": Gru, "transformer": Transformer, "cnn": Cnn,
    "published": Published,
}  # fmt: skip


def build_head(name: str, n_roles: int, d_model: int) -> nn.Module:
    """A head by name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in HEADS:
        raise ValueError(f"unknown head {name!r}; there are {', '.join(HEADS)}")
    return HEADS[name](n_roles, d_model)
