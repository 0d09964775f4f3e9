"""SeqSleepNet: a learned filter bank, a recurrent network in the epoch and one over the epochs.

Phan et al., SeqSleepNet: end-to-end hierarchical recurrent neural network for sequence-to-sequence
automatic sleep staging, IEEE TNSRE 2019; sizes and cells as in PhysioEx.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from models.base import StagingModel
from models.pooling import AttentionPool
from models.spectrogram import N_FFT, Spectrogram
from utils.stages import STAGES

_FILTERS, _HIDDEN, _POOL = 32, 64, 32
_HIGHEST_HZ = 50.0


def triangular_bank(fs: float, n_filters: int = _FILTERS) -> Tensor:
    """Triangles from 0 to 50 Hz over the bins of a spectrogram: (129, filters).

    Raises:
        ValueError: the rate holds no 50 Hz.
    """
    if fs < 2 * _HIGHEST_HZ:
        raise ValueError(f"fs {fs:g}: SeqSleepNet reads up to 50 Hz, in signals of 100 Hz")
    # N_FFT + 1 and rounding down are those of the published bank, which comes out bit for bit
    hz = torch.linspace(0, _HIGHEST_HZ, n_filters + 2, dtype=torch.float64)
    edges = torch.floor((N_FFT + 1) * hz / fs).int().tolist()
    bank = torch.zeros(N_FFT // 2 + 1, n_filters)
    for k in range(n_filters):
        low, middle, high = edges[k : k + 3]
        for f in range(low, middle):
            bank[f, k] = (f - low) / (middle - low)
        for f in range(middle, high):
            bank[f, k] = (high - f) / (high - middle)
    return bank


class FilterBank(nn.Module):
    """``sigmoid(W) * S`` per channel: (n, c, frames, bins) -> (n, frames, c * filters)."""

    def __init__(self, n_channels: int, fs: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_channels, N_FFT // 2 + 1, _FILTERS))
        self.register_buffer("triangles", triangular_bank(fs).repeat(n_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Filter every channel, filters of one frame side by side."""
        # the sigmoid keeps learned gains between 0 and 1 within each triangle
        filtered = torch.einsum("ncfb,cbk->nfck", x, self.weight.sigmoid() * self.triangles)
        return filtered.flatten(2)


class SeqSleepNet(StagingModel):
    """Stages every epoch of a window of ``num_seq``, from log spectrograms.

    Args:
        n_channels, fs, n_samples: of an epoch.
        num_seq: epochs of a window.
        scaled_by: what standardises the spectrograms: statistics of the "training" nights, as
            published, or of each "night" that is staged, for weights published without them.
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
        num_seq: int = 20,
        scaled_by: Literal["training", "night"] = "training",
    ) -> None:
        super().__init__()
        if scaled_by not in ("training", "night"):
            raise ValueError(f"scaled_by {scaled_by!r}: training or night")
        self.num_seq, self.scaled_by = num_seq, scaled_by
        self.spectrogram = Spectrogram(n_channels, fs, n_samples)
        self.bank = FilterBank(n_channels, fs)
        inputs = _FILTERS * n_channels
        self.epoch_rnn = nn.LSTM(inputs, _HIDDEN, batch_first=True, bidirectional=True)
        self.pool = AttentionPool(2 * _HIDDEN, _POOL)
        self.rnn = nn.GRU(2 * _HIDDEN, _HIDDEN, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * _HIDDEN, len(STAGES))

    @property
    def adapts_to_night(self) -> bool:
        """Whether its spectrograms are scaled by the night's own statistics."""
        return self.scaled_by == "night"

    def adapt_to_night(self, x: Tensor, batch_size: int = 256) -> None:
        """Take the spectrograms' statistics from the night, if it is to be scaled by its own."""
        if self.adapts_to_night:
            self.spectrogram.fit_night(x.split(batch_size))

    def encode_epochs(self, x: Tensor) -> Tensor:
        """Encode epochs: (n, c, t) -> (n, 128)."""
        return self.encode_spectrogram(self.spectrograms(x))

    def encode_spectrogram(self, features: Tensor) -> Tensor:
        """Encode spectrograms: standardised decibels (n, c, frames, 129) -> (n, 128)."""
        frames, _ = self.epoch_rnn(self.bank(features))
        return self.pool(frames)[0]

    def classify(self, z: Tensor) -> Tensor:
        """Classify encodings in sequence: (b, l, 128) -> logits (b, l, 5)."""
        return self.head(self.rnn(z)[0])

    def decayed_parameters(self) -> list[Tensor]:
        """The weights that L2 regularisation is for: all but the filter bank."""
        return [p for name, p in self.named_parameters() if not name.startswith("bank.")]
