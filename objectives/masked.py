"""Masked prediction: hide a part of every epoch, predict it, with the loss on the hidden part.

He et al., CVPR 2022, for signals; the latent-representation benchmark took its loss on the
samples the encoder could see, which ``loss_on="visible"`` repeats. A signal's squared error is
mostly that of its slow waves, so ``log_power`` and ``both`` predict the log power of every
frequency, less its mean over the night: what a night has of its own, level and filter, is no
sign of a stage.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from objectives.draws import Draws
from objectives.masks import Masks
from objectives.objective import Objective, in_full
from utils.collectives import whole_mean

TARGETS = ("both", "log_power", "signal", "difference", "log_spectrum")
_FLOOR = 1e-3  # of spectral power in units of a standardised signal's


class MaskedPrediction(Objective):
    """Callable on a :class:`~models.pretraining.Pretraining` and a batch of single epochs.

    Args:
        masking, ratio, patch: which samples are hidden, see :class:`~objectives.masks.Masks`.
        loss_on: "masked" samples, or the "visible" ones as in the published code.
        target: ``log_power`` of every patch, less its night's, the ``signal``, ``both`` of them,
            the signal's first ``difference``, or the ``log_spectrum`` of the signal's patches.
        norm_patches: whether signals are standardised patch by patch.

    Raises:
        ValueError: an unknown target, settings that do not go together, or as of the masks.
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
        if target not in TARGETS or loss_on not in ("masked", "visible"):
            raise ValueError(f"target {target!r}, loss_on {loss_on!r}")
        self.masks = Masks(masking, ratio, patch)
        self.powers = target in ("both", "log_power")
        if (self.powers or target == "log_spectrum") and not self.masks.of_patches:
            raise ValueError(f"target {target!r} is of whole patches: masking 'block' or 'patch'")
        if norm_patches and target not in ("both", "signal"):
            raise ValueError(f"norm_patches has no effect on target {target!r}")
        self.patch, self.loss_on, self.target = patch, loss_on, target
        self.norm_patches = norm_patches

    def __call__(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on the first of ``batch.signals`` (b, l, c, t), parts of it hidden.

        Log powers need ``batch.night_power`` (b, c, k), their means over each epoch's night. Logged
        are the parts of a loss that has two.
        """
        x = batch.signals[:, 0]
        hidden = self.masks.draw(x.shape[-1], Draws(batch.keys, "masks", x.device))
        _, predicted = model(x, hidden=hidden)
        parts = {}
        if self.powers:
            wanted = log_power(x, self.patch) - batch.night_power[:, :, None]
            parts["power"] = self.by_patch(wanted, predicted.power, hidden)
        if self.target != "log_power":
            parts["signal"] = self.loss(x, predicted.signal, hidden)
        logs = parts if len(parts) > 1 else {}
        return sum(parts.values()), {name: part.detach() for name, part in logs.items()}

    def by_patch(self, wanted: Tensor, predicted: Tensor, hidden: Tensor) -> Tensor:
        """Mean squared error of log powers (n, c, p, k), of hidden or visible (n, t) patches."""
        each = (wanted - in_full(predicted)).square().mean(dim=(1, 3))
        # patches are hidden whole, so their first samples tell which
        counts = self._patches(hidden if self.loss_on == "masked" else ~hidden)[..., 0]
        return whole_mean((each * counts).sum(), counts.sum())

    def loss(self, x: Tensor, predicted: Tensor, hidden: Tensor) -> Tensor:
        """Mean squared error of predictions of ``x`` (n, c, t), on hidden or on visible samples."""
        if self.target == "log_spectrum":
            spectra = (_log_spectra(self._patches(part)) for part in (x, predicted))
            return self.by_patch(*spectra, hidden)
        wanted = hidden if self.loss_on == "masked" else ~hidden
        if self.target == "difference":
            x, predicted = x.diff(dim=-1), predicted.diff(dim=-1)
            wanted = wanted[:, 1:] & wanted[:, :-1]  # with one visible sample it is half known
        if self.norm_patches:
            patches = self._patches(x)
            spread, mean = torch.std_mean(patches, dim=-1, keepdim=True)
            x = ((patches - mean) / (spread + 1e-6)).flatten(2)  # flat patches have no spread
        error = (x - predicted).square().mean(dim=1)
        return whole_mean((error * wanted).sum(), wanted.sum())

    def _patches(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.patch))


def log_power(x: Tensor, patch: int) -> Tensor:
    """Log power of every patch and frequency: (n, c, t) -> (n, c, t / patch, patch + 1).

    Of a Hann window of two patches around each patch, mirrored at the ends of the epoch; 8 % of
    the window's energy lies outside of the patch. White noise of deviation 1 has power 1.
    """
    x = in_full(x)  # not every device transforms half precision
    before = patch // 2
    frames = nn.functional.pad(x, (before, patch - before), mode="reflect")
    window = torch.hann_window(2 * patch, dtype=x.dtype, device=x.device)
    spectrum = torch.fft.rfft(frames.unfold(-1, 2 * patch, patch) * window)
    power = spectrum.real.square() + spectrum.imag.square()
    return torch.log(power / window.square().sum() + _FLOOR)


def _log_spectra(patches: Tensor) -> Tensor:
    # not every device transforms half precision, nor every length
    spectrum = torch.fft.rfft(in_full(patches))
    power = (spectrum.real.square() + spectrum.imag.square()) / patches.shape[-1]
    return torch.log(power + _FLOOR)
