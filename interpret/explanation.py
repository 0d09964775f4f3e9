"""An explanation: maps of one output of a model at some epochs of a night."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Explanation:
    """Attributions (b, m, t), signed, with what they explain.

    ``window`` (b, l, m, t) holds those of the whole window where it was asked for, ``bands``
    (b, f, m, t) those of every frequency band between ``edges`` in Hz where a method splits them,
    ``image`` (b, frames, bins) a map on the spectrogram.
    ``value`` and ``baseline_value`` (b,) are F at the epoch and at the baseline; ``error`` (b,) is
    the completeness error, NaN for methods that do not promise it; ``context`` (b, l) what each
    epoch of the window adds to F.
    """

    method: str
    attributions: Tensor
    value: Tensor
    baseline_value: Tensor
    error: Tensor
    context: Tensor
    settings: dict[str, Any] = field(default_factory=dict)
    window: Tensor | None = None
    bands: Tensor | None = None
    edges: tuple[tuple[float, float], ...] = ()
    image: Tensor | None = None


def completeness_error(attributions: Tensor, value: Tensor, at_baseline: Tensor) -> Tensor:
    """Completeness error of each epoch, |sum A - (F(x) - F(x'))| / |F(x) - F(x')|: (b,)."""
    change = value - at_baseline
    missing = attributions.flatten(1).sum(dim=1) - change
    # a model that ignores the epoch does not change at all, and 0 / 0 would be NaN
    return missing.abs() / change.abs().clamp_min(1e-6)
