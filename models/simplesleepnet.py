"""SimpleSleepNet: reduced log spectrograms, a GRU in the epoch, two residual GRUs over the epochs.

Guillot et al., Dreem Open Datasets: multi-scored sleep datasets to compare human and automated
sleep staging, IEEE TNSRE 2020.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from models.base import StagingModel, average_windows, windows_of
from models.pooling import AttentionPool
from models.recurrent import ResidualGRU
from models.spectrogram import log_power
from utils.stages import EPOCH_SECONDS, STAGES

_HZ, _N_FFT, _HOP, _FILTERS, _HIDDEN = 100.0, 256, 100, 30, 25
_CLIP_UV, _NIGHT = 500.0, 1200  # 1,200 epochs: ten hours
_CYCLES = (10, 30, 60, 90, 120)  # epochs
_FEATURES = 5


class DreemSpectrogram(nn.Module):
    """(n, c, t) in µV -> standardised log power (n, c, 28, 129); ``mean`` and ``sd`` (c, 129, 1).

    Clipped to 500 µV and divided by it; Hann windows of 256 samples every 100, over their sum.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        window = torch.hann_window(_N_FFT, periodic=False)  # as numpy.hanning, which they used
        self.register_buffer("window", window / window.sum(), persistent=False)
        self.register_buffer("mean", torch.zeros(n_channels, _N_FFT // 2 + 1, 1))
        self.register_buffer("sd", torch.ones(n_channels, _N_FFT // 2 + 1, 1))

    def log_power(self, x: Tensor) -> Tensor:
        """Log power of epochs, not standardised: (n, c, t) in µV -> (n, c, 129, 28)."""
        return log_power(x, self.window, _HOP, _CLIP_UV).transpose(-1, -2)

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Middles of the frames in s and of the bins in Hz."""
        frames = (round(EPOCH_SECONDS * _HZ) - _N_FFT) // _HOP + 1
        seconds = (_N_FFT / 2 + _HOP * np.arange(frames)) / _HZ
        return seconds, np.arange(_N_FFT // 2 + 1) * _HZ / _N_FFT

    def forward(self, x: Tensor) -> Tensor:
        """Standardised log power of epochs: (n, c, t) in µV -> (n, c, 28, 129)."""
        return ((self.log_power(x) - self.mean) / self.sd).transpose(-1, -2)

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Set mean and deviation by channel and bin over epochs (n, c, t) of training subjects."""
        count, total, squares = 0, 0.0, 0.0
        for epochs in batches:
            # sums of squares over many nights lose digits in float32; not every GPU has doubles
            log_power = self.log_power(epochs).cpu().double()
            count += len(log_power) * log_power.shape[-1]
            total = total + log_power.sum(dim=(0, 3))
            squares = squares + log_power.square().sum(dim=(0, 3))
        mean = total / count
        self.mean.copy_(mean[..., None])
        self.sd.copy_((squares / count - mean.square()).clamp_min(1e-12).sqrt()[..., None])


class SimpleSleepNet(StagingModel):
    """Stages every epoch of a window of ``num_seq``, also from its place in the night.

    Training is given where a run begins in its night (``first``); whole nights begin at 0.

    Args:
        n_channels: signals of an epoch: 16 in DOD-H, 12 in DOD-O.
        fs, n_samples: of an epoch; the spectrogram is made for 100 Hz.
        num_seq: epochs of a window.
        dropout: in the sequence encoder.
    """

    placed = True  # forward takes the number of each run's first epoch
    made_for_hz = _HZ
    sequence_layer = "head"
    reads_spectrograms = True

    def __init__(
        self,
        *,
        n_channels: int = 16,
        fs: float = 100.0,
        n_samples: int = 3000,
        num_seq: int = 21,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if fs != _HZ:
            raise ValueError(f"fs {fs:g}: SimpleSleepNet reads 100 Hz; resample the store to that")
        self.num_seq = num_seq
        self.spectrogram = DreemSpectrogram(n_channels)
        self.filters = nn.Linear(_N_FFT // 2 + 1, _FILTERS)
        self.channels = nn.Linear(n_channels, n_channels)
        self.epoch_rnn = nn.GRU(
            _FILTERS * n_channels, _HIDDEN, batch_first=True, bidirectional=True
        )
        self.pool = AttentionPool(2 * _HIDDEN, _HIDDEN)
        self.time = nn.Sequential(nn.Linear(1 + len(_CYCLES), _FEATURES), nn.ReLU())
        width = 2 * _HIDDEN
        self.layers = nn.ModuleList(
            ResidualGRU(inputs, _HIDDEN, dropout) for inputs in (width + _FEATURES, width)
        )
        self.head = nn.Linear(width, len(STAGES))

    def forward(self, x: Tensor, stride: int = 1, first: Tensor | None = None) -> Tensor:
        """Runs (b, n, c, t) that begin at epochs ``first`` (b,) -> logits (b * windows, l, 5)."""
        encoded = self.encode_epochs(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        windows = windows_of(encoded, self.num_seq, stride)
        begin = torch.zeros(len(x), device=x.device) if first is None else first
        per_run = len(windows) // len(x)
        starts = begin[:, None] + stride * torch.arange(per_run, device=x.device)
        return self.classify(windows, starts.flatten())

    def encode_epochs(self, x: Tensor) -> Tensor:
        """Encode epochs: (n, c, t) in µV -> (n, 50)."""
        return self.encode_spectrogram(self.spectrograms(x))

    def encode_spectrogram(self, x: Tensor) -> Tensor:
        """Encode standardised log power: (n, c, frames, 129) -> (n, 50)."""
        reduced = self.filters(x.transpose(1, 2))  # n, frames, c, 30
        mixed = self.channels(reduced.transpose(-1, -2)).transpose(-1, -2)
        return self.pool(self.epoch_rnn(mixed.flatten(2))[0])[0]

    def classify(self, z: Tensor, first: Tensor | None = None) -> Tensor:
        """Classify windows (b, l, 50) that begin at epochs ``first`` (b,) -> logits (b, l, 5)."""
        if first is None:
            first = torch.zeros(len(z), device=z.device)
        places = first[:, None] + torch.arange(z.shape[1], device=z.device)
        h = torch.cat([z, self.time(time_features(places).to(z.dtype))], dim=-1)
        for layer in self.layers:
            h = layer(h)
        return self.head(h)

    @torch.no_grad()
    def stage_night(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """Probabilities (n, 5) of a whole night, averaged over windows at their place in it."""
        if not len(x):
            return x.new_zeros(0, len(STAGES))
        encoded = torch.cat([self.encode_epochs(part) for part in x.split(batch_size)])
        windows = windows_of(encoded[None], self.num_seq)
        first = torch.arange(len(windows), device=x.device)
        parts = zip(windows.split(batch_size), first.split(batch_size), strict=True)
        return average_windows(torch.cat([self.classify(*part) for part in parts]).softmax(dim=-1))


def time_features(places: Tensor) -> Tensor:
    """Epoch numbers (…) -> share of a night of 1200, and cosines of five cycles: (…, 6)."""
    cycles = torch.tensor(_CYCLES, device=places.device)
    return torch.cat(
        [places[..., None] / _NIGHT, torch.cos(torch.pi * places[..., None] / cycles)], dim=-1
    )
