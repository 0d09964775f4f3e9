"""RobustSleepNet: any channels, through attention over them; spectra scaled by their own window.

Guillot and Thorey, RobustSleepNet: transfer learning for automated sleep staging at scale, IEEE
TNSRE 2021.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from models.base import StagingModel, average_windows, windows_of
from models.dropout import Dropout
from models.pooling import AttentionPool
from models.recurrent import ResidualGRU
from models.spectrogram import log_power
from utils.stages import EPOCH_SECONDS, STAGES

_FS, _N_FFT, _HOP, _CLIP = 60.0, 128, 60, 20.0
_FILTERS, _VIRTUAL, _CHANNEL_CONTEXT = 32, 4, 30
_HIDDEN, _REDUCED, _CONTEXT, _CELLS = 64, 50, 25, 50
# log power from 4 Hz on, of signals of a hundredth of the usual size: no brain, eye or muscle is as
# quiet, but gaps are, and below 4 Hz the traces that filters leave in them are not
_SILENCE, _FROM_BIN = -8.5, 9
_NOTHING = -20.0  # the log power of zeros
_LEAST_SD = 1e-4  # far below that of any signal; keeps rounding errors of constants from growing


class RobustSleepNet(StagingModel):
    """Stages every epoch of a window of ``num_seq``; no parameter depends on the channels.

    Signals are scaled robustly before (``datasets.store.robust_scaling``). Seconds without signal,
    NaN or as quiet as a gap, are absent: no statistic and no attention sees them. (The published
    program fills gaps and the ends of a night with zeros, which distort the statistics.)

    Args:
        n_channels, n_samples: of an epoch; any will do.
        fs: of an epoch; the spectrogram is made for 60 Hz.
        num_seq: epochs of a window.
        standardise_over: what the spectra are standardised over. "window" is published: every
            window by its own statistics, so an epoch is encoded anew for every window. "night"
            (ours): once, by statistics of the run or night given.
        dropout: after the channels are mixed and after every recurrent layer.

    Raises:
        ValueError: another ``fs``, or an unknown ``standardise_over``.
    """

    any_channels = True
    made_for_hz = _FS
    sequence_layer = "head"
    reads_spectrograms = True
    scaled_by = "night"

    def __init__(
        self,
        *,
        n_channels: int = 1,
        fs: float = _FS,
        n_samples: int = 1800,
        num_seq: int = 21,
        standardise_over: Literal["window", "night"] = "window",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if fs != _FS:
            raise ValueError(
                f"fs {fs:g}: RobustSleepNet reads 60 Hz; prepare the store with --resample 60"
            )
        if standardise_over not in ("window", "night"):
            raise ValueError(f"standardise_over {standardise_over!r}: window or night")
        self.num_seq, self.by_night = num_seq, standardise_over == "night"
        # else the scaling of an epoch depends on the window around it
        self.separable = self.by_night
        self._of_night: tuple[Tensor, Tensor] | None = None  # of the night adapted to
        window = torch.hann_window(_N_FFT, periodic=False)  # as numpy.hanning, which they used
        self.register_buffer("window", window / window.sum(), persistent=False)
        self.filters = nn.Linear(_N_FFT // 2 + 1, _FILTERS)
        self.virtual = nn.ModuleList(
            AttentionPool(_FILTERS, _CHANNEL_CONTEXT) for _ in range(_VIRTUAL)
        )
        self.dropout = Dropout(dropout)
        self.epoch_rnn = nn.GRU(_FILTERS * _VIRTUAL, _HIDDEN, batch_first=True, bidirectional=True)
        self.reduction = nn.Linear(2 * _HIDDEN, _REDUCED)
        self.pool = AttentionPool(_REDUCED, _CONTEXT)
        self.layers = nn.ModuleList(
            ResidualGRU(width, _CELLS, dropout) for width in (_REDUCED, 2 * _CELLS)
        )
        self.head = nn.Linear(2 * _CELLS, len(STAGES))

    def forward(self, x: Tensor, stride: int = 1) -> Tensor:
        """Logits of all windows of runs of epochs: (b, n, c, t) -> (b * windows, l, 5)."""
        power = self.log_power(x)
        if self.by_night:
            return self.classify(windows_of(self.encode(power), self.num_seq, stride))
        return self.classify(self.encode(windows_of(power, self.num_seq, stride)))

    @property
    def adapts_to_night(self) -> bool:
        """Whether spectra are standardised over the night."""
        return self.by_night

    def adapt_to_night(self, x: Tensor, batch_size: int = 256) -> None:
        """Take the spectra's statistics from the night."""
        with torch.no_grad():
            power = torch.cat([self.log_power(part) for part in x.split(batch_size)])[None]
        self._of_night = _statistics(*_heard(power))

    def spectrograms(self, x: Tensor) -> Tensor:
        """Log power, standardised over the night adapted to: (n, c, t) -> (n, c, frames, 65)."""
        mean, sd = (of_night[0] for of_night in self._of_night)
        # NaN, which nothing can be attributed to, as the power of silence
        return (self.log_power(x).nan_to_num(nan=_NOTHING) - mean) / sd

    def spectrogram_grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Middles of the frames in s and of the bins in Hz."""
        frames = (round(EPOCH_SECONDS * _FS) - _N_FFT) // _HOP + 1
        seconds = (_N_FFT / 2 + _HOP * np.arange(frames)) / _FS
        return seconds, np.arange(_N_FFT // 2 + 1) * _FS / _N_FFT

    def mean_spectrograms(self, x: Tensor) -> Tensor:
        """The night's mean wherever ``x`` (n, c, frames, 65) holds a signal, else ``x``."""
        heard = _heard(self._power_of(x))[1]
        return x.masked_fill(heard[..., None], 0.0)

    def encode_spectrogram(self, x: Tensor) -> Tensor:
        """Encode spectrograms, of a model that standardises over nights: (n, c, …) -> (n, 50)."""
        return self.encode(self._power_of(x)[None], self._of_night)[0]

    def stage_spectrograms(self, x: Tensor) -> Tensor:
        """Logits (b, l, 5) of windows of spectrograms (b, l, c, frames, 65)."""
        statistics = self._of_night if self.by_night else None
        return self.classify(self.encode(self._power_of(x), statistics))

    def _power_of(self, x: Tensor) -> Tensor:
        """Log power of standardised spectrograms (…, c, frames, 65)."""
        mean, sd = (of_night[0, 0] for of_night in self._of_night)
        return x * sd + mean

    def encode_epochs(self, x: Tensor) -> Tensor:
        """Encode epochs: (n, c, t) -> (n, 50).

        Standardised over the night that the model was adapted to, or over all of them as one
        window.
        """
        statistics = self._of_night if self.by_night else None
        return self.encode(self.log_power(x)[None], statistics)[0]

    def log_power(self, x: Tensor) -> Tensor:
        """Log power of epochs: (…, c, t) -> (…, c, frames, 65), NaN where a channel is absent."""
        is_lost = x.isnan()
        # an epoch that is lost in part has its median there, which is 0
        power = log_power(x.masked_fill(is_lost, 0.0), self.window, _HOP, _CLIP)
        return power.masked_fill(is_lost.all(dim=-1)[..., None, None], float("nan"))

    def encode(self, power: Tensor, statistics: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Log power of windows or runs (b, l, c, frames, 65), standardised -> (b, l, 50).

        Each by its own mean and deviation, unless ``statistics`` of a night are given.
        """
        power, heard = _heard(power)
        mean, sd = statistics or _statistics(power, heard)
        z = ((power - mean) / sd).masked_fill(~heard[..., None], 0.0)
        reduced = self.filters(z.flatten(0, 1)).transpose(1, 2)  # b * l, frames, c, 32
        present = heard.flatten(0, 1).transpose(1, 2)  # b * l, frames, c
        mixed = torch.cat([attend(reduced, present)[0] for attend in self.virtual], dim=-1)
        frames = self.dropout(self.epoch_rnn(self.dropout(mixed))[0])
        return self.pool(self.reduction(frames))[0].unflatten(0, z.shape[:2])

    def classify(self, z: Tensor) -> Tensor:
        """Classify encodings in sequence: (b, l, 50) -> logits (b, l, 5)."""
        for layer in self.layers:
            z = layer(z)
        return self.head(z)

    @torch.no_grad()
    def stage_night(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """Probabilities of a whole night: (n, c, t) -> (n, 5), averaged over all windows.

        ``batch_size``, in epochs, bounds memory and does not change the result. A night shorter
        than a window is one shorter window.
        """
        if not len(x) or self.by_night:
            return super().stage_night(x, batch_size)
        power = torch.cat([self.log_power(part) for part in x.split(batch_size)])
        windows = windows_of(power[None], self.num_seq)  # a view of overlapping windows
        at_once = max(1, batch_size // windows.shape[1])
        logits = [self.classify(self.encode(part)) for part in windows.split(at_once)]
        return average_windows(torch.cat(logits).softmax(dim=-1))


def _heard(power: Tensor) -> tuple[Tensor, Tensor]:
    """Log power (b, l, c, frames, bins), 0 for NaN, and which frames hold a signal (…, frames)."""
    heard = power[..., _FROM_BIN:].amax(dim=-1) > _SILENCE  # never so for NaN
    # 0 now, as a gradient through NaN is NaN even where it is masked
    return power.masked_fill(~heard[..., None], 0.0), heard


def _statistics(power: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased deviation over the epochs and frames of each run, by channel and bin.

    ``power`` (b, l, c, frames, bins), 0 where not ``heard`` (b, l, c, frames) -> two
    (b, 1, c, 1, bins).
    """
    counted = heard[..., None]
    count = counted.sum(dim=(1, 3), keepdim=True)
    mean = power.sum(dim=(1, 3), keepdim=True) / count.clamp_min(1)
    squares = ((power - mean) * counted).square().sum(dim=(1, 3), keepdim=True)
    variance = squares / (count - 1).clamp_min(1)
    # before the root, whose slope at 0 is infinite
    return mean, variance.clamp_min(_LEAST_SD**2).sqrt()
