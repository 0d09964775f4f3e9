"""The published cross-modal transformers, plainly: every token and attention row is computed.

Written from the paper and the names of its weights alone, with torch's own layers; no module of
ours is used, so what is made faster there leaves this as it is. Benchmarks are measured against it,
and converted weights are compared with it. Frozen: change it only if it is wrong.

Pradeepkumar et al., Towards Interpretable Sleep Stage Classification Using Cross-Modal
Transformers, IEEE TNSRE 32:2893-2904 (2024).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

N_STAGES, HEADS, LONGEST = 5, 8, 5000


class Positions(nn.Module):
    """A fixed code of sines and cosines, added; saved with the weights as ``pe``."""

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        rates = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10_000.0) / d_model))
        angles = torch.arange(LONGEST)[:, None] * rates
        code = torch.zeros(LONGEST, 1, d_model)
        code[:, 0, 0::2], code[:, 0, 1::2] = torch.sin(angles), torch.cos(angles)
        self.register_buffer("pe", code)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, d)."""
        return self.dropout(x + self.pe[: x.shape[1], 0])


def branch(*steps: tuple[int, int, int]) -> nn.Sequential:
    """Convolutions of (kernel, in, out) whose stride is the kernel, LeakyReLU, batch norm."""
    layers: list[nn.Module] = []
    for kernel, inputs, outputs in steps:
        layers += [nn.Conv1d(inputs, outputs, kernel, stride=kernel), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.BatchNorm1d(steps[-1][2]))


class Embedding(nn.Module):
    """One signal's epoch (n, 1, t) -> CLS and windows of half a second, (n, 1 + windows, d)."""

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        quarter, eighth, rest = d_model // 4, d_model // 8, (d_model - d_model // 4) // 2
        self.projection_1 = branch((50, 1, quarter))
        self.projection_2 = branch((5, 1, eighth), (5, eighth, quarter), (2, quarter, rest))
        self.projection_3 = branch((25, 1, quarter), (2, quarter, rest))
        self.projection_4 = branch((1, d_model, d_model))
        self.cls_token = nn.Parameter(torch.randn(1, 1, d_model))
        self.pos = Positions(d_model, dropout)

    def forward(self, x: Tensor) -> Tensor:
        scales = [self.projection_1(x), self.projection_2(x), self.projection_3(x)]
        tokens = self.projection_4(torch.cat(scales, dim=1)).transpose(1, 2)
        return self.pos(torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], dim=1))


class SelfAttention(nn.Module):
    """Attention among the tokens of one signal, or the epochs of a sequence: (n, tokens, d)."""

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(d_model, HEADS, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        mixed, _ = self.self_attn(x, x, x)  # the weights are made, and not used
        return self.norm(x + self.dropout(mixed))


class OneSignal(SelfAttention):
    """One signal's epoch (n, 1, t) -> its tokens (n, 1 + windows, d)."""

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__(d_model, dropout)
        self.window_embed = Embedding(d_model, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.window_embed(x))


class CrossAttention(nn.Module):
    """A learned token among the signals' summaries: (n, signals, d) -> (n, 1 + signals, d)."""

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, d_model))
        self.cross_attn = nn.MultiheadAttention(d_model, HEADS, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, summaries: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(len(summaries), -1, -1), summaries], dim=1)
        mixed, _ = self.cross_attn(x, x, x)
        return self.norm(x + self.dropout(mixed))


class FeedForward(nn.Module):
    """Two linear layers, residual and layer norm on every token."""

    def __init__(self, d_model: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, d_model)
        self.dropout, self.dropout2 = nn.Dropout(dropout), nn.Dropout(dropout)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.linear1(x).relu())
        return self.norm(x + self.dropout2(self.linear2(hidden)))


class Encoder(nn.Module):
    """An epoch of EEG and EOG (n, 2, t) -> its vector (n, d) and the windows' tokens of each."""

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        self.eeg_atten = OneSignal(d_model, dropout)
        self.eog_atten = OneSignal(d_model, dropout)
        self.cross_atten = CrossAttention(d_model, dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        tokens = [self.eeg_atten(x[:, :1]), self.eog_atten(x[:, 1:])]
        mixed = self.cross_atten(torch.stack([each[:, 0] for each in tokens], dim=1))
        return mixed[:, 0], tokens


def head(inputs: int) -> nn.Sequential:
    """A linear layer; the original flattens before it."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, N_STAGES))


class PublishedEpoch(Encoder):
    """The Epoch CMT: (b, 1, 2, t) -> logits (b, 1, 5)."""

    def __init__(
        self, d_model: int = 128, dim_feedforward: int = 512, dropout: float = 0.1
    ) -> None:
        super().__init__(d_model, dropout)
        self.eeg_ff = FeedForward(d_model, dim_feedforward, dropout)
        self.eog_ff = FeedForward(d_model, dim_feedforward, dropout)
        self.mlp = head(2 * d_model)

    def forward(self, x: Tensor) -> Tensor:
        vector, tokens = super().forward(x[:, 0])
        # all tokens go through the feed-forwards, though the head reads the first alone
        both = [
            block(torch.cat([vector[:, None], each[:, 1:]], dim=1))[:, 0]
            for block, each in zip((self.eeg_ff, self.eog_ff), tokens, strict=True)
        ]
        return self.mlp(torch.cat(both, dim=1))[:, None]


class PublishedSequence(nn.Module):
    """The Sequence CMT, an encoder and a head for each position: (b, l, 2, t) -> (b, l, 5)."""

    def __init__(
        self,
        d_model: int = 128,
        dim_feedforward: int = 512,
        dropout: float = 0.1,
        length: int = 15,
    ) -> None:
        super().__init__()
        self.length = length
        for position in range(1, length + 1):
            self.add_module(f"epoch_{position}", Encoder(d_model, dropout))
            self.add_module(f"mlp_{position}", head(d_model))
        self.seq_atten = SelfAttention(d_model, dropout)
        self.ff_net = FeedForward(d_model, dim_feedforward, dropout)

    def forward(self, x: Tensor) -> Tensor:
        places = range(1, self.length + 1)
        vectors = [self.get_submodule(f"epoch_{p}")(x[:, p - 1])[0] for p in places]
        mixed = self.ff_net(self.seq_atten(torch.stack(vectors, dim=1)))
        logits = [self.get_submodule(f"mlp_{p}")(mixed[:, p - 1]) for p in places]
        return torch.stack(logits, dim=1)


def loss_of(logits: Tensor, stages: Tensor) -> Tensor:
    """The published loss: cross entropy of each position, weighted by stage, summed."""
    weighted = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 1.0, 2.0, 2.0], device=logits.device))
    return sum(weighted(logits[:, p], stages[:, p]) for p in range(logits.shape[1]))
