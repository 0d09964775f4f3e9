"""Cross-modal transformers: one epoch, or a sequence of epochs.

Pradeepkumar et al., Towards Interpretable Sleep Stage Classification Using Cross-Modal
Transformers, IEEE TNSRE 32:2893-2904 (2024). Rebuilt from the description; parameter counts are the
published design's. Computation that no logit depends on is left out.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from einops import repeat
from torch import Tensor, nn

from models.attention import AttentionBlock, FeedForward, sinusoidal_positions
from models.base import AttentionMaps, StagingModel, average_windows, windows_of
from models.batch_norm import BatchNorm, normed_linear
from models.dense import Dense, linear
from models.dropout import Dropout
from utils.stages import STAGES

N_STAGES = len(STAGES)
_LEAK = 0.01
_UNIT = 25  # window sizes are multiples of the finest branch's 5 x 5 samples


class _Patches(Dense):
    """A convolution whose stride is its kernel, as one product, and LeakyReLU after it."""

    def __init__(self, kernel: int, inputs: int, outputs: int) -> None:
        super().__init__(kernel * inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Each ``kernel`` rows of (n, t, c) side by side become one row: (n, t / kernel, o)."""
        return linear(x.reshape(len(x), -1, self.in_features), self.weight, self.bias, _LEAK)


def _convolutions(*steps: tuple[int, int, int]) -> nn.Sequential:
    """Convolutions (kernel = stride, in, out), each with LeakyReLU; batch norm after the last."""
    layers: list[nn.Module] = [*(_Patches(*step) for step in steps), BatchNorm(steps[-1][2])]
    # weights are saved by these names: every second layer was an activation
    return nn.Sequential(OrderedDict((str(2 * k), layer) for k, layer in enumerate(layers)))


class WindowEmbedding(nn.Module):
    """One modality's epoch -> CLS and window tokens at three temporal scales (section III-A)."""

    def __init__(self, d_model: int, window_size: int, n_windows: int, dropout: float) -> None:
        super().__init__()
        # a quarter and twice the rest: the three branches together are d_model wide
        quarter, eighth, rest = d_model // 4, d_model // 8, (d_model - d_model // 4) // 2
        coarse = window_size // _UNIT
        self.branches = nn.ModuleList(
            [
                _convolutions((window_size, 1, quarter)),
                _convolutions((5, 1, eighth), (5, eighth, quarter), (coarse, quarter, rest)),
                _convolutions((_UNIT, 1, quarter), (coarse, quarter, rest)),
            ]
        )
        self.fuse = _convolutions((1, d_model, d_model))
        self.cls = nn.Parameter(torch.randn(1, 1, d_model))
        positions = sinusoidal_positions(1 + n_windows, d_model)
        self.register_buffer("positions", positions, persistent=False)  # no weights: not saved
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Embed epochs of one modality: (n, t) -> (n, 1 + windows, d), CLS first."""
        x = x[..., None].contiguous()  # each branch would copy it
        scales = torch.cat([branch[:-1](x) for branch in self.branches], dim=2)
        norms, (fuse, norm) = [branch[-1] for branch in self.branches], self.fuse
        windows = norm(normed_linear(norms, scales, fuse, _LEAK))
        tokens = torch.cat((repeat(self.cls, "1 1 d -> n 1 d", n=len(x)), windows), dim=1)
        return self.dropout(tokens.add_(self.positions))  # in place: cat has made a copy


class EpochEncoder(nn.Module):
    """An epoch of several modalities -> one vector; 256,128 parameters for two at d 128."""

    def __init__(
        self, *, n_modalities: int, n_samples: int, d_model: int, window_size: int, dropout: float
    ) -> None:
        super().__init__()
        n_windows = n_samples // window_size
        self.embeddings = nn.ModuleList(
            WindowEmbedding(d_model, window_size, n_windows, dropout) for _ in range(n_modalities)
        )
        self.intra = nn.ModuleList(
            AttentionBlock(d_model, dropout=dropout) for _ in range(n_modalities)
        )
        self.cls = nn.Parameter(torch.randn(1, 1, d_model))
        self.cross = AttentionBlock(d_model, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Encode epochs: (n, m, t) -> (n, d): the cross-modal CLS."""
        return self.with_weights(x)[0]

    def with_weights(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors (n, d) of epochs (n, m, t), weights (n, m, h, 1 + windows) and (n, h, 1 + m)."""
        summaries, intra = [], []
        for modality, (embed, attend) in enumerate(zip(self.embeddings, self.intra, strict=True)):
            summary, weights = attend.first(embed(x[:, modality]))
            summaries.append(summary)
            intra.append(weights)
        cls = repeat(self.cls, "1 1 d -> n 1 d", n=len(x))
        vector, cross = self.cross.first(torch.cat((cls, torch.stack(summaries, dim=1)), dim=1))
        return vector, torch.stack(intra, dim=1), cross


def _check(d_model: int, window_size: int, n_samples: int) -> None:
    if d_model % 8:
        raise ValueError(f"d_model {d_model} must be a multiple of 8")
    if window_size % _UNIT or n_samples % window_size:
        raise ValueError(
            f"window_size {window_size} must be a multiple of {_UNIT} that divides the epoch's "
            f"{n_samples} samples"
        )


class EpochCMT(StagingModel):
    """Epoch cross-modal transformer; 521,349 parameters by default."""

    shows_attention = True
    made_for_hz = 100.0

    def __init__(
        self,
        *,
        n_modalities: int = 2,
        n_samples: int = 3000,
        d_model: int = 128,
        dim_feedforward: int = 512,
        window_size: int = 50,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        _check(d_model, window_size, n_samples)
        self.encoder = EpochEncoder(
            n_modalities=n_modalities,
            n_samples=n_samples,
            d_model=d_model,
            window_size=window_size,
            dropout=dropout,
        )
        self.feed_forward = nn.ModuleList(
            FeedForward(d_model, dim_feedforward, dropout) for _ in range(n_modalities)
        )
        self.head = nn.Linear(n_modalities * d_model, N_STAGES)

    def encode_epochs(self, x: Tensor) -> Tensor:
        """Encode epochs: (n, m, t) -> (n, d)."""
        return self.encoder(x)

    def classify(self, z: Tensor) -> Tensor:
        """Logits (b, l, 5) of (b, l, d): feed-forwards read the CLS, the only row ever used."""
        return self.head(torch.cat([block(z) for block in self.feed_forward], dim=-1))

    def attention(self, x: Tensor) -> AttentionMaps:
        """Attention weights of single epochs (b, l, m, t)."""
        _, intra, cross = self.encoder.with_weights(x.flatten(0, 1))
        shape = x.shape[:2]
        return AttentionMaps(intra.unflatten(0, shape), cross.unflatten(0, shape), None)


class SequenceCMT(StagingModel):
    """Sequence cross-modal transformer.

    ``encoder`` "shared" (ours, 455,045 parameters) has one encoder and head for all positions; it
    would be blind to order without the code ``epoch_position`` adds. "per_position" (published,
    4,049,867 at length 15) knows the order because each position owns an encoder and a head.
    """

    shows_attention = True
    made_for_hz = 100.0
    sequence_layer = "feed_forward"

    def __init__(
        self,
        *,
        num_seq: int = 15,
        encoder: Literal["shared", "per_position"] = "shared",
        epoch_position: Literal["sinusoidal", "learned", "none"] = "sinusoidal",
        n_modalities: int = 2,
        n_samples: int = 3000,
        d_model: int = 128,
        dim_feedforward: int = 512,
        window_size: int = 50,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        _check(d_model, window_size, n_samples)
        if num_seq < 1:
            raise ValueError(f"num_seq {num_seq} must be at least 1")
        self.num_seq = num_seq
        self.shared = self.separable = encoder == "shared"
        copies = 1 if self.shared else num_seq
        self.encoders = nn.ModuleList(
            EpochEncoder(
                n_modalities=n_modalities,
                n_samples=n_samples,
                d_model=d_model,
                window_size=window_size,
                dropout=dropout,
            )
            for _ in range(copies)
        )
        self.inter = AttentionBlock(d_model, dropout=dropout)
        self.feed_forward = FeedForward(d_model, dim_feedforward, dropout)
        self.heads = nn.ModuleList(nn.Linear(d_model, N_STAGES) for _ in range(copies))
        self._add_positions(epoch_position if self.shared else "none", d_model)

    def _add_positions(self, kind: str, d_model: int) -> None:
        code = sinusoidal_positions(self.num_seq, d_model)
        if kind == "learned":
            self.positions = nn.Parameter(0.02 * torch.randn_like(code))
        else:
            code = code if kind == "sinusoidal" else torch.zeros_like(code)
            self.register_buffer("positions", code, persistent=False)

    def encode_epochs(self, x: Tensor) -> Tensor:
        """Encode epochs: (n, m, t) -> (n, d); shared encoders only, which need no position."""
        if not self.shared:
            raise ValueError("per_position encoders need an epoch's position: call forward")
        return self.encoders[0](x)

    def forward(self, x: Tensor, stride: int = 1) -> Tensor:
        """Logits of all windows of runs: (b, n, m, t) -> (b * windows, l, 5); see the base."""
        if self.shared:
            return super().forward(x, stride)
        windows = windows_of(x, self.num_seq, stride)
        # not strict: a run shorter than a window leaves the last encoders out
        pairs = zip(self.encoders, windows.unbind(dim=1), strict=False)
        return self.classify(torch.stack([encoder(epoch) for encoder, epoch in pairs], dim=1))

    def classify(self, z: Tensor) -> Tensor:
        """Classify encodings in sequence: (b, l, d) -> logits (b, l, 5), l <= ``num_seq``."""
        mixed, _ = self.inter(z + self.positions[: z.shape[1]], shown=False)
        mixed = self.feed_forward(mixed)
        if self.shared:
            return self.heads[0](mixed)
        pairs = zip(self.heads, mixed.unbind(dim=1), strict=False)
        return torch.stack([head(epoch) for head, epoch in pairs], dim=1)

    def output_layers(self) -> list[nn.Module]:
        """One head for all positions, or one for each."""
        return list(self.heads)

    @torch.no_grad()
    def stage_night(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """Probabilities of a whole night: (n, m, t) -> (n, 5), averaged over all windows."""
        if self.shared or not len(x):
            return super().stage_night(x, batch_size)
        length = min(self.num_seq, len(x))
        n_windows = len(x) - length + 1
        # at position p of a window stand only epochs p to n - l + p, so encoder p reads no others
        encoded = [
            torch.cat([encoder(part) for part in x[p : p + n_windows].split(batch_size)])
            for p, encoder in enumerate(self.encoders[:length])
        ]
        windows = torch.stack(encoded, dim=1)
        logits = torch.cat([self.classify(part) for part in windows.split(batch_size)])
        return average_windows(logits.softmax(dim=-1))

    def attention(self, x: Tensor) -> AttentionMaps:
        """Attention weights of windows (b, l, m, t)."""
        parts = [
            self.encoders[0 if self.shared else position].with_weights(epoch)
            for position, epoch in enumerate(x.unbind(dim=1))
        ]
        vectors, intra, cross = (torch.stack(part, dim=1) for part in zip(*parts, strict=True))
        _, inter = self.inter(vectors + self.positions[: x.shape[1]])
        return AttentionMaps(intra, cross, inter)
