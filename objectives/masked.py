"""Masked prediction: hide a part of every epoch, predict it, with the loss on the hidden part.

He et al., CVPR 2022, for signals; the latent-representation benchmark took its loss on the
samples the encoder could see, which ``loss_on="visible"`` repeats.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from objectives.draws import Draws
from objectives.objective import Objective, in_full
from utils.collectives import whole_mean

MASKINGS = ("patch", "fixed_proportion_random", "probabilistic_random")
TARGETS = ("signal", "difference", "log_spectrum")
_FLOOR = 1e-3  # of spectral power in units of a standardised signal's


class MaskedPrediction(Objective):
    """Callable on a :class:`~models.pretraining.Pretraining` and a batch of single epochs.

    Args:
        masking: whole patches, a fixed number of samples, or each sample with a probability.
        ratio: share that is hidden.
        patch: samples of a patch.
        loss_on: "masked" samples, or the "visible" ones as in the published code.
        target: the signal, its first difference, or the log spectrum of every patch.
        norm_patches: whether targets are standardised patch by patch.

    Raises:
        ValueError: an unknown masking or target, or a ratio that hides nothing or all.
    """

    def __init__(
        self,
        *,
        masking: str = "patch",
        ratio: float = 0.5,
        patch: int = 50,
        loss_on: Literal["masked", "visible"] = "masked",
        target: str = "signal",
        norm_patches: bool = False,
    ) -> None:
        if masking not in MASKINGS or target not in TARGETS or loss_on not in ("masked", "visible"):
            raise ValueError(f"masking {masking!r}, target {target!r}, loss_on {loss_on!r}")
        if not 0 < ratio < 1:
            raise ValueError(f"ratio {ratio:g}: a share between 0 and 1 is hidden")
        if target == "log_spectrum" and masking != "patch":
            raise ValueError("a log spectrum is of whole patches: masking 'patch'")
        self.masking, self.ratio, self.patch = masking, ratio, patch
        self.loss_on, self.target, self.norm_patches = loss_on, target, norm_patches

    def __call__(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on ``batch.signals`` (b, 1, c, t) with new samples hidden, and no logs."""
        x = batch.signals.flatten(0, 1)
        hidden = self.draw(x.shape[-1], Draws(batch.keys, "masks", x.device))
        _, predicted = model(x, hidden=hidden)
        return self.loss(x, predicted, hidden), {}

    def draw(self, n_samples: int, draws: Draws) -> Tensor:
        """Which samples are hidden: (n, t) bool."""
        if self.masking == "probabilistic_random":
            return draws.uniform(n_samples) < self.ratio
        width = self.patch if self.masking == "patch" else 1
        count = n_samples // width
        # a random order, so that exactly the same number is hidden in every epoch
        order = draws.uniform(count).argsort(dim=1)
        return (order < round(self.ratio * count)).repeat_interleave(width, dim=1)

    def loss(self, x: Tensor, predicted: Tensor, hidden: Tensor) -> Tensor:
        """Mean squared error of predictions of ``x`` (n, c, t), on hidden or on visible samples."""
        wanted = hidden if self.loss_on == "masked" else ~hidden
        if self.target == "difference":
            x, predicted = x.diff(dim=-1), predicted.diff(dim=-1)
            wanted = wanted[:, 1:] & wanted[:, :-1]  # with one visible sample it is half known
        elif self.target == "log_spectrum":
            x, predicted = (_log_spectra(self._patches(part)) for part in (x, predicted))
            # patches are hidden whole, so their first samples tell which
            wanted = self._patches(wanted[:, None])[:, 0, :, :1]
            error, wanted = (x - predicted).square().mean(dim=(1, 3)), wanted[..., 0]
            return whole_mean((error * wanted).sum(), wanted.sum())
        if self.norm_patches and self.target == "signal":
            patches = self._patches(x)
            spread, mean = torch.std_mean(patches, dim=-1, keepdim=True)
            x = ((patches - mean) / (spread + 1e-6)).flatten(2)  # flat patches have no spread
        error = (x - predicted).square().mean(dim=1)
        return whole_mean((error * wanted).sum(), wanted.sum())

    def _patches(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.patch))


def _log_spectra(patches: Tensor) -> Tensor:
    # not every device transforms half precision, nor every length
    spectrum = torch.fft.rfft(in_full(patches))
    power = (spectrum.real.square() + spectrum.imag.square()) / patches.shape[-1]
    return torch.log(power + _FLOOR)
