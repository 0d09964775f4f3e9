"""Pretraining on whole nights: fill in what is hidden, or clean what is corrupted.

``masked``: patches, whole epochs and whole roles are hidden, and only they count. ``denoise``: the
corruption of PFTSleep (SLEEP 2025, code), samples set to zero or to noise, everything counts; its
noise is scaled by each channel of each night, not by the largest value of the batch. ``both``:
patches are hidden, what is left is corrupted, and everything counts, so that tokens keep what they
were shown beside what they predict.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from objectives.draws import Draws
from objectives.objective import Objective, in_full
from utils.collectives import whole_mean

KINDS = ("both", "masked", "denoise")
TARGETS = ("both", "signal", "spectrum")
_CORRUPTED = 0.05  # of the samples set to zero, and as many to noise
_TAIL = NormalDist().inv_cdf(1 - _CORRUPTED)  # that many normal numbers lie beyond it
_STEP = 97  # every 97th sample is enough for a channel's scale
_TO_SD = 1.4826  # a normal distribution's deviation over its median absolute deviation


class Denoising(Objective):
    """Loss of a ``models.foundation.FoundationPretraining`` on nights (b, n, c, t).

    Args:
        kind: ``both``, ``masked`` or ``denoise``.
        ratio: share of the valid patches that is hidden, half of it as single patches and half as
            whole epochs; not of ``denoise``.
        role_p: probability that a role is hidden as a whole; one always stays.
        target: standardised samples, log spectra, or both.
        patches_per_epoch: patches of an epoch.
    """

    def __init__(
        self,
        kind: str = "both",
        *,
        ratio: float = 0.5,
        role_p: float = 0.2,
        target: str = "both",
        patches_per_epoch: int = 5,
    ) -> None:
        if not 0 < ratio < 1:
            raise ValueError(f"--mask_ratio {ratio:g} hides nothing or everything")
        self.kind, self.ratio, self.role_p = kind, ratio, role_p
        self.target, self.patches_per_epoch = target, patches_per_epoch

    def __call__(self, model: Any, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error over the patches that count, and its parts."""
        x = rearrange(batch.signals, "b n c t -> b c (n t)")
        present = ~x.isnan().all(dim=-1)
        draws = Draws(batch.keys, "corruption", x.device)
        hidden = None
        if self.kind != "denoise":
            n_patches = batch.signals.shape[1] * self.patches_per_epoch
            hidden = hide(
                present, n_patches, self.ratio, self.role_p, self.patches_per_epoch, draws
            )
        rebuilt = model(x, x if self.kind == "masked" else corrupt(x, draws), hidden)
        counts = rebuilt.valid & hidden if self.kind == "masked" else rebuilt.valid
        if batch.stand_in:
            counts = torch.zeros_like(counts)
        parts = {}
        if self.target != "spectrum":
            parts["signal"] = mean_square(rebuilt.samples, rebuilt.true_samples, counts)
        if self.target != "signal":
            parts["spectrum"] = mean_square(rebuilt.spectra, rebuilt.true_spectra, counts)
        return sum(parts.values()), {name: part.detach() for name, part in parts.items()}


def mean_square(predicted: Tensor, true: Tensor, counts: Tensor) -> Tensor:
    """Mean squared error (b, c, p, …) over the patches that count (b, c, p)."""
    each = (in_full(predicted) - in_full(true)).square().mean(dim=-1)
    return whole_mean((each * counts).sum(), counts.sum())


def hide(
    present: Tensor,
    n_patches: int,
    ratio: float,
    role_p: float,
    patches_per_epoch: int,
    draws: Draws,
) -> Tensor:
    """Which patches (b, c, p) are hidden from the model, given which roles are ``present`` (b, c).

    Epochs are hidden in all roles at once in half of the nights: then they can be filled in
    only from the time before and after, else from the other roles too.
    """
    c = present.shape[1]
    part = 1 - (1 - ratio) ** 0.5  # two of them together leave 1 - ratio
    patches = draws.uniform(c, n_patches) < part
    n = n_patches // patches_per_epoch
    alone, together = draws.uniform(c, n) < part, draws.uniform(1, n) < part
    epochs = torch.where(draws.uniform(1, 1) < 0.5, alone, together)
    roles = dropped_roles(present, role_p, draws)
    return patches | epochs.repeat_interleave(patches_per_epoch, dim=2) | roles[..., None]


def dropped_roles(present: Tensor, p: float, draws: Draws) -> Tensor:
    """Roles (b, c) left out with probability ``p``; one of those ``present`` is always kept."""
    draw = draws.uniform(present.shape[1])
    keep = torch.where(present, draw, -1.0)  # absent roles below every draw, so never the one kept
    kept = torch.zeros_like(present).scatter(1, keep.argmax(dim=1, keepdim=True), True)
    return (draw < p) & ~kept


def corrupt(x: Tensor, draws: Draws) -> Tensor:
    """Signals (b, c, t) with 5 % of the samples at zero and 5 % at noise of the channel's scale.

    The scale is the channel's own median absolute deviation, so an artefact in one night leaves
    the noise of all others as it is.
    """
    some = x[..., ::_STEP]
    middle = some.nanmedian(dim=-1, keepdim=True).values
    scale = _TO_SD * (some - middle).abs().nanmedian(dim=-1, keepdim=True).values
    # one draw for both kinds, so that no sample has two
    draw = draws.normal(*x.shape[1:])
    noise = draws.normal(*x.shape[1:]) * scale
    corrupted = torch.where(draw < -_TAIL, 0.0, torch.where(draw > _TAIL, noise, x))
    return torch.where(x.isnan(), x, corrupted)
