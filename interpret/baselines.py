"""Baselines: what attributions compare an epoch with, and how far it is from real epochs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from interpret.bands import BANDS, components
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS

LOW_HZ = 2.0  # upper edge of what a low-passed copy keeps
AUTO = "auto"  # the training mean of spectrograms, zero for signals
OF_SIGNALS = ("zero", "mean", "lowpass")  # have no meaning but in samples
REAL = ("shuffled", "same_stage", "other_stage", "wake")  # real epochs of the same night
NAMES = (
    AUTO, "training_mean", "mean_epoch", *OF_SIGNALS, *REAL, *(f"without_{band}" for band in BANDS),
)  # fmt: skip
# log power further below the mean is all the same, or the distance of silence would be infinite
_FLOOR = 1e-6


def baselines_of(
    night: Tensor,
    epochs: Tensor,
    kind: str,
    *,
    seed: int = 0,
    staged: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Baselines (…, m, t) for epoch numbers (…) of a night (n, m, t).

    ``zero`` (the recording's mean, after scaling), ``mean`` (the epoch's own mean per channel),
    ``mean_epoch`` (the mean of all epochs), ``shuffled`` (another epoch of the night, drawn by
    ``seed``), ``same_stage`` (another one that the model stages alike), ``other_stage`` (one that
    it stages otherwise), ``lowpass`` (a copy below 2 Hz), ``wake`` (the epoch that the model is
    surest to be Wake), ``without_sigma`` … (a copy without a band). Filters see the whole night, so
    no epoch border leaves a trace. ``staged`` gives the model's probabilities (n, 5) of the night.
    Those of :data:`REAL` and ``mean_epoch`` are made of nights of spectrograms (n, m, frames,
    bins), too.

    Raises:
        UserError: an unknown kind, or one that only spectrograms have.
    """
    x = night[epochs]
    if kind in REAL:
        return night[_real(len(night), epochs, kind, seed, staged)]
    if kind == "mean_epoch":
        return night.mean(dim=0).expand_as(x).clone()
    if kind == "zero":
        return torch.zeros_like(x)
    if kind == "mean":
        return x.mean(dim=-1, keepdim=True).expand_as(x).clone()
    fs = night.shape[-1] / EPOCH_SECONDS
    if kind == "lowpass":
        return components(night, fs, [(0.0, LOW_HZ)])[0][epochs]
    if kind.removeprefix("without_") in BANDS:
        return x - components(night, fs, [BANDS[kind.removeprefix("without_")]])[0][epochs]
    if kind == "training_mean":
        raise UserError(
            "baseline training_mean: there are no samples of which it would be the spectrogram; "
            f"choose another: {', '.join(name for name in NAMES if name != kind)}"
        )
    raise UserError(f"unknown baseline {kind!r}: {', '.join(NAMES)}")


def another_of_stage(stages: Tensor, epochs: Tensor, seed: int) -> Tensor:
    """For each of ``epochs`` (…) another epoch of its stage, of any where there is none: (…).

    ``stages`` (n,) of the night; the draw depends on the epoch and ``seed`` alone.
    """
    stages = stages.cpu()
    return _drawn(stages == stages[:, None], epochs, seed)


def _real(
    n: int, epochs: Tensor, kind: str, seed: int, staged: Callable[[], Tensor] | None
) -> Tensor:
    """Numbers (…) of the epochs of a night of n that stand for ``epochs`` (…)."""
    if kind == "wake":
        # the model's own: no expert is needed
        return staged()[:, 0].argmax().expand(epochs.shape)
    if kind == "shuffled":
        return _drawn(torch.ones(n, n, dtype=torch.bool), epochs, seed)
    stages = staged().argmax(dim=1).cpu()
    if kind == "same_stage":
        return another_of_stage(stages, epochs, seed)
    return _drawn(stages != stages[:, None], epochs, seed)


def _drawn(wanted: Tensor, epochs: Tensor, seed: int) -> Tensor:
    """For each of ``epochs`` (…) another epoch that is ``wanted`` (n, n) for it, any if none is.

    Drawn for all epochs of the night, so that it does not matter which others are explained with
    one, and on the CPU, so that a seed means the same epochs on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(wanted.shape, generator=generator) + wanted
    order.fill_diagonal_(-1.0)  # itself last
    return order.argmax(dim=1)[epochs.cpu()].to(epochs.device)


class Deviations:
    """How far signals are from the epochs of a night, in their own mean and deviation."""

    def __init__(self, night: Tensor) -> None:
        self.fs = night.shape[-1] / EPOCH_SECONDS
        power = self._power(night)
        self.floor = _FLOOR * power.mean(dim=0)
        log_power = (power + self.floor).log10()
        self.mean, self.sd = log_power.mean(dim=0), log_power.std(dim=0, correction=0)

    def distance(self, x: Tensor) -> Tensor:
        """Root mean square of the deviations of log power, over channels and bands: (b,)."""
        z = ((self._power(x) + self.floor).log10() - self.mean) / self.sd
        z = torch.where(z.isfinite(), z, 0.0)  # a channel or band that is empty all night
        return z.flatten(1).square().mean(dim=1).sqrt()

    def _power(self, x: Tensor) -> Tensor:
        """Power in bands of signals (n, m, t): (n, m, bands)."""
        bands = [(low, high) for low, high in BANDS.values() if low < self.fs / 2]
        x = x.nan_to_num()
        parts = []
        for part in x.split(256):
            spectrum = torch.fft.rfft(part).abs().square()
            hertz = torch.fft.rfftfreq(x.shape[-1], 1 / self.fs, device=x.device)
            inside = [(hertz >= low) & (hertz < high) for low, high in bands]
            parts.append(torch.stack([spectrum[..., one].sum(dim=-1) for one in inside], dim=-1))
        return torch.cat(parts)
