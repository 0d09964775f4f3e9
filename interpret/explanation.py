"""An explanation: maps of one output of a model at some epochs of a night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from utils.metrics import plain
from utils.stages import STAGES

INCOMPLETE = 0.05  # completeness error above which an explanation is flagged
Answer = dict[str, Any]


@dataclass(frozen=True)
class Explanation:
    """Attributions (b, m, t), signed, with what they explain.

    ``window`` (b, l, m, t) holds those of the whole window where it was asked for, ``bands``
    (b, f, m, t) those of every frequency band between ``edges`` in Hz where a method splits them,
    ``image`` (b, frames, bins) a map on the spectrogram, the same for all channels.
    ``spectrogram`` (b, m, frames, bins) holds the map where a model's standardised spectrogram was
    attributed to, with the middles of its frames in s and bins in Hz in ``grid``; ``attributions``
    are then its sums over bins, spread over the samples.
    ``value`` and ``baseline_value`` (b,) are F at the epoch and at the baseline; ``error`` (b,) is
    the completeness error, NaN for methods that do not promise it; ``context`` (b, l) what each
    epoch of the window adds to F. ``baseline_probabilities`` (b, 5) and ``baseline_distance`` (b,),
    in deviations of ``deviates_from``, describe the baseline.
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
    spectrogram: Tensor | None = None
    grid: tuple[np.ndarray, np.ndarray] | None = None
    baseline_probabilities: Tensor | None = None
    baseline_distance: Tensor | None = None
    deviates_from: str | None = None

    @property
    def finest(self) -> Tensor:
        """The map in what was attributed to: cells of the spectrogram, or samples."""
        return self.attributions if self.spectrogram is None else self.spectrogram

    def answer(self, row: int) -> Answer:
        """What is known of F and of the baseline at one epoch, as plain values; None if nothing."""
        rows = (self.baseline_probabilities, self.baseline_distance)
        probabilities, distance = (None if one is None else one[row].tolist() for one in rows)
        return answer_of(
            self.value[row],
            self.baseline_value[row],
            self.error[row],
            probabilities=probabilities,
            distance=distance,
            deviates_from=self.deviates_from,
        )


def answer_of(
    value: Any,
    baseline_value: Any,
    error: Any,
    *,
    probabilities: Sequence[float] | None = None,
    distance: float | None = None,
    deviates_from: str | None = None,
) -> Answer:
    """F, the baseline and the completeness of one explanation, as every file and page has them.

    NaN and what is not known is None. ``incomplete``: the map misses more than 5 % of
    F(x) - F(x'); None for methods that promise nothing.
    """
    value, baseline_value, error = (
        None if one is None else plain(one) for one in (value, baseline_value, error)
    )
    return {
        "value": value,
        "baseline_value": baseline_value,
        "baseline_probabilities": probabilities and [round(float(p), 6) for p in probabilities],
        "baseline_distance": None if distance is None else plain(round(float(distance), 4)),
        "deviates_from": deviates_from,
        "completeness_error": error,
        "incomplete": None if error is None else error > INCOMPLETE,
    }


NOTHING = answer_of(None, None, None)  # of what has no F


def in_words(answer: Mapping[str, Any], explained: str) -> str:
    """An :data:`Answer` in words, with the settings of its method in ``settings``; "" if empty.

    ``F(N2) 3.21, at the baseline (zero) -0.40: W .02 … 12.1 SD from the mean of the night;
    completeness error 0.3 %``.
    """
    if answer["value"] is None or answer["baseline_value"] is None:
        return ""
    baseline = answer["settings"].get("baseline")
    named = f" ({baseline.replace('_', ' ')})" if baseline else ""
    words = f"F({explained}) {answer['value']:.2f}, at the baseline{named} "
    words += f"{answer['baseline_value']:.2f}"
    if probabilities := answer["baseline_probabilities"]:
        words += ": " + " ".join(
            f"{stage} {p:.2f}" for stage, p in zip(STAGES, probabilities, strict=True)
        )
    if answer["baseline_distance"] is not None:
        distance, origin = answer["baseline_distance"], answer["deviates_from"]
        words += f"; it lies {distance:.1f} SD from the mean of {origin}"
    if answer["completeness_error"] is not None:
        words += f"; completeness error {100 * answer['completeness_error']:.1f} %"
    if answer["incomplete"]:
        words += f". INCOMPLETE: the map misses more than {100 * INCOMPLETE:.0f} % of the change"
    return words


def completeness_error(attributions: Tensor, value: Tensor, at_baseline: Tensor) -> Tensor:
    """Completeness error of each epoch, |sum A - (F(x) - F(x'))| / |F(x) - F(x')|: (b,)."""
    change = value - at_baseline
    missing = attributions.flatten(1).sum(dim=1) - change
    # a model that ignores the epoch does not change at all, and 0 / 0 would be NaN
    return missing.abs() / change.abs().clamp_min(1e-6)
