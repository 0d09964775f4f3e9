"""Log spectrograms of epochs, computed on the model's device and scaled by training statistics.

``psd`` is PhysioEx's "xsleepnet" input, ``phan`` that of Phan et al.'s original code; they differ
by a factor and an offset in decibels, which standardisation removes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

N_FFT = 256
SECONDS, HOP_SECONDS = 2, 1
_EPS = 2.220446049250313e-16  # of float64
_FLAT = 1e-5  # peak to peak of an epoch without a signal, in standard deviations or µV


def log_spectrogram(
    x: Tensor, fs: float, kind: Literal["psd", "phan"] = "psd", hop_seconds: float = HOP_SECONDS
) -> Tensor:
    """Decibels of 2 s Hamming windows, one per second: (…, t) -> (…, frames, 129).

    ``psd``: periodic window, mean of the window removed, one-sided density in unit**2/Hz, 20 log10.
    ``phan``: symmetric window, nothing removed, 20 log10 of the magnitude.
    """
    width, hop = round(SECONDS * fs), round(hop_seconds * fs)
    window = torch.hamming_window(width, periodic=kind == "psd", dtype=x.dtype, device=x.device)
    frames = x.unfold(-1, width, hop)
    if kind == "psd":
        frames = frames - frames.mean(dim=-1, keepdim=True)
    # above 128 Hz this cuts windows off: only weights of earlier versions are not read at 100 Hz
    spectrum = torch.fft.rfft(frames * window, n=N_FFT)
    if kind == "phan":
        return 20 * torch.log10(spectrum.abs().clamp_min(1e-10))
    power = spectrum.real.square() + spectrum.imag.square()
    power = power / (fs * window.square().sum())
    # one-sided: all but 0 Hz and Nyquist stand for a negative frequency as well
    power = torch.cat([power[..., :1], 2 * power[..., 1:-1], power[..., -1:]], dim=-1)
    return 20 * torch.log10(power + _EPS)  # 20 for a power too, as in PhysioEx


def log_power(x: Tensor, window: Tensor, hop: int, limit: float) -> Tensor:
    """Log power as in the Dreem papers: (…, t) -> (…, frames, bins).

    Clipped to ``limit`` and divided by it, then frames as long as ``window``, ``hop`` samples
    apart.
    """
    frames = (x.clamp(-limit, limit) / limit).unfold(-1, len(window), hop)
    spectrum = torch.fft.rfft(frames * window)
    power = spectrum.real.square() + spectrum.imag.square()
    return torch.log10(power.clamp_min(1e-20))  # flat signals have power 0


class Spectrogram(nn.Module):
    """(n, c, t) -> standardised decibels (n, c, frames, bins).

    ``mean`` and ``sd`` (c, frames, bins) are set by :meth:`fit` from training epochs and travel in
    the checkpoint; before that they are 0 and 1.
    """

    def __init__(
        self,
        n_channels: int,
        fs: float,
        n_samples: int,
        *,
        kind: str = "psd",
        bins: int = 129,
        hop_seconds: float = HOP_SECONDS,
    ) -> None:
        super().__init__()
        self.fs, self.kind, self.bins, self.hop_seconds = fs, kind, bins, hop_seconds
        self.per_decibel = 2 if kind == "psd" else 1  # 20 log10 of a power counts each twice
        self.frames = (n_samples - round(SECONDS * fs)) // round(hop_seconds * fs) + 1
        shape = (n_channels, self.frames, bins)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("sd", torch.ones(shape))

    def decibels(self, x: Tensor) -> Tensor:
        """Decibels, not standardised: (n, c, t) -> (n, c, frames, bins); low bins are cut first."""
        decibels = log_spectrogram(x, self.fs, self.kind, self.hop_seconds)
        return decibels[..., N_FFT // 2 + 1 - self.bins :]

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Middles of the frames in s and of the bins in Hz."""
        seconds = SECONDS / 2 + self.hop_seconds * np.arange(self.frames)
        hertz = np.arange(N_FFT // 2 + 1 - self.bins, N_FFT // 2 + 1) * self.fs / N_FFT
        return seconds, hertz

    def forward(self, x: Tensor) -> Tensor:
        """Standardised decibels: (n, c, t) -> (n, c, frames, bins)."""
        return (self.decibels(x) - self.mean) / self.sd

    @torch.no_grad()
    def fit_night(self, batches: Iterable[Tensor]) -> None:
        """Set mean and deviation of every bin over one night's epochs (n, c, t), all frames alike.

        For weights that came without the statistics they were trained with. Flat epochs, such as
        gaps, are left out; a channel that is flat throughout keeps mean 0 and deviation 1.
        """
        count, total, squares = 0.0, 0.0, 0.0
        for epochs in batches:
            # filters leave traces in gaps, whose decibels would spread every bin; NaN is no signal
            recorded = (epochs.amax(dim=-1) - epochs.amin(dim=-1) > _FLAT)[..., None, None].cpu()
            decibels = torch.where(recorded, self.decibels(epochs).cpu().double(), 0.0)
            count = count + recorded.sum(dim=0) * decibels.shape[2]
            total = total + decibels.sum(dim=(0, 2))[:, None]
            squares = squares + decibels.square().sum(dim=(0, 2))[:, None]
        mean = total / count.clamp_min(1)
        variance = (squares / count.clamp_min(1) - mean.square()).clamp_min(1e-12)
        self.mean.copy_(mean.expand_as(self.mean))
        self.sd.copy_(torch.where(count > 0, variance.sqrt(), 1.0).expand_as(self.sd))

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Set mean and deviation from epochs (n, c, t) of **training** subjects."""
        count, total, squares = 0, 0.0, 0.0
        for epochs in batches:
            # sums of squares over many nights lose digits in float32; not every GPU has doubles
            decibels = self.decibels(epochs).cpu().double()
            count += len(decibels)
            total, squares = total + decibels.sum(dim=0), squares + decibels.square().sum(dim=0)
        mean = total / count
        self.mean.copy_(mean)
        self.sd.copy_((squares / count - mean.square()).clamp_min(1e-12).sqrt())
