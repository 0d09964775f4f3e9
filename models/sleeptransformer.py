"""SleepTransformer: attention over the frames of an epoch, then over the epochs.

Phan et al., SleepTransformer: automatic sleep staging with interpretability and uncertainty
quantification, IEEE TBME 2022.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.attention import attend, by_rows, sinusoidal_positions
from models.base import StagingModel
from models.dropout import Dropout
from models.pooling import AttentionPool
from models.spectrogram import Spectrogram
from utils.stages import STAGES

_BINS = 128  # the lowest of 129 is left out


class SleepTransformer(StagingModel):
    """Stages every epoch of a window of ``num_seq``, from log spectrograms of 128 bins.

    Args:
        n_channels, fs, n_samples: of an epoch; the width is 128 per channel.
        num_seq: epochs of a window.
        n_blocks: blocks over frames, and as many over epochs.
        variant: "published", whose attention has no output projection and is scaled by the whole
            width, or "physioex", made of PyTorch's own encoder layers.
        dropout: in blocks and head.
    """

    made_for_hz = 100.0
    sequence_layer = "head"
    reads_spectrograms = True

    def __init__(
        self,
        *,
        n_channels: int = 1,
        fs: float = 100.0,
        n_samples: int = 3000,
        num_seq: int = 21,
        n_blocks: int = 4,
        variant: str = "published",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if variant not in ("published", "physioex"):
            raise ValueError(f"variant {variant!r}: published or physioex")
        self.num_seq, published = num_seq, variant == "published"
        width = _BINS * n_channels
        self.spectrogram = Spectrogram(n_channels, fs, n_samples, kind="phan", bins=_BINS)
        block = _Block if published else _TorchBlock
        self.frames = nn.Sequential(*(block(width, dropout) for _ in range(n_blocks)))
        self.pool = AttentionPool(width, 64 if published else 128)
        self.epochs = nn.Sequential(*(block(width, dropout) for _ in range(n_blocks)))
        self.head = nn.Linear(width, len(STAGES))
        if published:
            dense = [nn.Linear(width, 1024), nn.ReLU(), Dropout(dropout)]
            dense += [nn.Linear(1024, 1024), nn.ReLU(), Dropout(dropout)]
            self.head = nn.Sequential(*dense, nn.Linear(1024, len(STAGES)))

    def encode_epochs(self, x: Tensor) -> Tensor:
        """Encode epochs: (n, c, t) -> (n, 128 c)."""
        return self.encode_spectrogram(self.spectrograms(x))

    def encode_spectrogram(self, x: Tensor) -> Tensor:
        """Encode spectrograms: standardised decibels (n, c, frames, 128) -> (n, 128 c)."""
        tokens = x.transpose(1, 2).flatten(2)
        return self.pool(self.frames(tokens + sinusoidal_positions(*tokens.shape[1:]).to(tokens)))[
            0
        ]

    def classify(self, z: Tensor) -> Tensor:
        """Classify encodings in sequence: (b, l, d) -> logits (b, l, 5)."""
        return self.head(self.epochs(z + sinusoidal_positions(*z.shape[1:]).to(z)))


class _Block(nn.Module):
    """Attention without output projection, feed-forward, both normalised afterwards."""

    def __init__(self, width: int, dropout: float, heads: int = 8, hidden: int = 1024) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        # (b, steps, 3 d) -> three of (b, heads, steps, d / heads)
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v, scale=x.shape[-1] ** -0.5)
        x = self.norm(x + self.dropout(mixed.transpose(1, 2).flatten(2)))
        return self.second_norm(x + self.dropout(self.feed_forward(x)))


class _TorchBlock(nn.TransformerEncoderLayer):
    """PyTorch's encoder layer in the sizes of PhysioEx."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(width, 8, 1024, dropout, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return by_rows(super().forward, x)
