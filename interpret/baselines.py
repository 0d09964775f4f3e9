"""Baselines: the signals that attributions compare an epoch with."""

from __future__ import annotations

import torch
from torch import Tensor

from interpret.bands import BANDS, components
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS

LOW_HZ = 2.0  # upper edge of what a low-passed copy keeps
NAMES = (
    "zero",
    "mean",
    "shuffled",
    "same_stage",
    "lowpass",
    "wake",
    *(f"without_{band}" for band in BANDS),
)


def baselines_of(
    night: Tensor,
    epochs: Tensor,
    kind: str,
    *,
    seed: int = 0,
    wake: int | None = None,
    stages: Tensor | None = None,
) -> Tensor:
    """Baselines (…, m, t) for epoch numbers (…) of a night (n, m, t).

    ``zero`` (the recording's mean, after scaling), ``mean`` (the epoch's own mean per channel),
    ``shuffled`` (another epoch of the night, drawn by ``seed``), ``same_stage`` (another one of the
    same of the ``stages`` (n,)), ``lowpass`` (a copy below 2 Hz),
    ``wake`` (the epoch ``wake`` of the same night), ``without_sigma`` … (a copy without a band).
    Filters see the whole night, so no epoch border leaves a trace.

    Raises:
        UserError: an unknown kind.
    """
    fs = night.shape[-1] / EPOCH_SECONDS
    x = night[epochs]
    if kind == "zero":
        return torch.zeros_like(x)
    if kind == "mean":
        return x.mean(dim=-1, keepdim=True).expand_as(x).clone()
    if kind == "shuffled":
        # drawn on the CPU, so that a seed means the same epochs on every device
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(len(night), epochs.shape, generator=generator)
        return night[drawn.to(night.device)]
    if kind == "same_stage" and stages is not None:
        return night[another_of_stage(stages, epochs, seed)]
    if kind == "lowpass":
        return components(night, fs, [(0.0, LOW_HZ)])[0][epochs]
    if kind == "wake" and wake is not None:
        return night[wake].expand_as(x).clone()
    if kind.removeprefix("without_") in BANDS:
        return x - components(night, fs, [BANDS[kind.removeprefix("without_")]])[0][epochs]
    raise UserError(f"unknown baseline {kind!r}: {', '.join(NAMES)}")


def another_of_stage(stages: Tensor, epochs: Tensor, seed: int) -> Tensor:
    """For each of ``epochs`` (…) another epoch of its stage, of any where there is none: (…).

    ``stages`` (n,) of the night; the draw depends on the epoch and ``seed`` alone.
    """
    stages, numbers, drawn = stages.cpu(), torch.arange(len(stages)), []
    for epoch in epochs.flatten().tolist():
        others = numbers[(stages == stages[epoch]) & (numbers != epoch)]
        if not len(others):
            others = numbers
        generator = torch.Generator().manual_seed(seed * len(stages) + epoch)
        drawn.append(int(others[torch.randint(len(others), (1,), generator=generator)]))
    return torch.tensor(drawn, device=epochs.device).view_as(epochs)
