"""Agreement with the expert, from one confusion matrix per recording; undefined is NaN, never 0.

Every figure takes counts ``[..., true, predicted]`` with any leading axes, so pooled figures,
figures per recording and of thousands of draws of subjects are the same few lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from utils.stages import STAGES


def confusion(true: np.ndarray, predicted: np.ndarray, n_classes: int = len(STAGES)) -> np.ndarray:
    """Counts (n_classes, n_classes) as ``[true, predicted]``; unscored epochs are left out."""
    scored = true >= 0
    flat = true[scored].astype(np.int64) * n_classes + predicted[scored]
    return np.bincount(flat, minlength=n_classes**2).reshape(n_classes, n_classes)


def confusions(
    true: np.ndarray, predicted: np.ndarray, group: np.ndarray, n_groups: int
) -> np.ndarray:
    """Counts (n_groups, 5, 5) of epochs by the numbers ``group`` (n,) of their groups, at once."""
    k, scored = len(STAGES), true >= 0
    flat = (group[scored] * k + true[scored]) * k + predicted[scored]
    return np.bincount(flat, minlength=n_groups * k * k).reshape(n_groups, k, k)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    # np.where divides everywhere before it chooses
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is defined; NaN where nothing is."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def support(counts: np.ndarray) -> np.ndarray:
    """Expert epochs per class (..., k)."""
    return counts.sum(axis=-1)


def precision(counts: np.ndarray) -> np.ndarray:
    """Share of the epochs predicted as a class that are right (..., k); NaN if there are none."""
    return _ratio(_hits(counts), counts.sum(axis=-2))


def recall(counts: np.ndarray) -> np.ndarray:
    """Share of the expert's epochs of a class that are predicted (..., k); NaN if none."""
    return _ratio(_hits(counts), support(counts))


def specificity(counts: np.ndarray) -> np.ndarray:
    """Share of the epochs of other classes not given this one (..., k)."""
    others = counts.sum(axis=(-2, -1))[..., None] - support(counts)
    return _ratio(others - (counts.sum(axis=-2) - _hits(counts)), others)


def f1(counts: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall (..., k); NaN for a class neither side gives."""
    return _ratio(2 * _hits(counts), support(counts) + counts.sum(axis=-2))


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Share of epochs agreed on."""
    return _ratio(_hits(counts).sum(axis=-1), counts.sum(axis=(-2, -1)))


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes that either side gives."""
    return _mean(f1(counts))


def balanced_accuracy(counts: np.ndarray) -> np.ndarray:
    """Mean recall over the classes the expert gives."""
    return _mean(recall(counts))


def g_mean(counts: np.ndarray) -> np.ndarray:
    """Geometric mean of the recalls of the classes the expert gives; 0 if one is never right."""
    with np.errstate(divide="ignore"):  # log 0 is -inf, whose exponential is the 0 wanted
        return np.exp(_mean(np.log(recall(counts))))


def kappa(counts: np.ndarray) -> np.ndarray:
    """Cohen's kappa; NaN where chance alone would agree on everything."""
    total = counts.sum(axis=(-2, -1)).astype(float)
    by_chance = (support(counts) * counts.sum(axis=-2)).sum(axis=-1) / np.maximum(total, 1) ** 2
    return _ratio(accuracy(counts) - by_chance, 1 - by_chance)


def mcc(counts: np.ndarray) -> np.ndarray:
    """Matthews correlation for several classes (Gorodkin 2004)."""
    counts = counts.astype(float)  # fourth powers of counts overflow int64
    total, true, predicted = counts.sum(axis=(-2, -1)), support(counts), counts.sum(axis=-2)
    covariance = _hits(counts).sum(axis=-1) * total - (true * predicted).sum(axis=-1)
    spread = (total**2 - (true**2).sum(axis=-1)) * (total**2 - (predicted**2).sum(axis=-1))
    return _ratio(covariance, np.sqrt(spread))


def _hits(counts: np.ndarray) -> np.ndarray:
    return np.diagonal(counts, axis1=-2, axis2=-1)


SUMMARIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "kappa": kappa,
    "balanced_accuracy": balanced_accuracy,
    "mcc": mcc,
    "g_mean": g_mean,
}
PER_STAGE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "precision": precision,
    "recall": recall,
    "specificity": specificity,
    "f1": f1,
    "support": support,
}


def confidence(probabilities: np.ndarray) -> np.ndarray:
    """Confidence of epochs: one minus normalised entropy, (n, k) -> (n,) from 0 to 1.

    Phan et al. 2022 (SleepTransformer), section II-D.
    """
    # p log p is 0 at p = 0
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    entropy = -(probabilities * logs).sum(axis=1)
    # rounding leaves certain and uniform rows just outside the range
    return np.clip(1 - entropy / np.log(probabilities.shape[1]), 0.0, 1.0)


def risk_coverage(
    probabilities: np.ndarray, true: np.ndarray, n_points: int = 20
) -> tuple[float, np.ndarray]:
    """Share of errors among the surest epochs: area under the curve, and points (n_points, 3).

    A point is coverage (share of epochs kept), risk (share of them that is wrong) and the lowest
    confidence kept. The area is the mean risk over all coverages (Geifman & El-Yaniv 2017); NaN
    and no points where nothing is scored.
    """
    scored = true >= 0
    if not scored.any():
        return float("nan"), np.zeros((0, 3))
    sure = confidence(probabilities[scored])
    order = np.argsort(-sure, kind="stable")
    wrong = (probabilities[scored].argmax(axis=1) != true[scored])[order]
    risk = wrong.cumsum() / np.arange(1, len(wrong) + 1)
    last = np.unique(np.ceil(np.linspace(1 / n_points, 1, n_points) * len(wrong)).astype(int)) - 1
    points = np.stack([(last + 1) / len(wrong), risk[last], sure[order][last]], axis=1)
    return float(risk.mean()), points


def calibration(
    probabilities: np.ndarray, true: np.ndarray, n_bins: int = 15
) -> tuple[float, np.ndarray]:
    """Expected calibration error of the predicted class (Guo et al. 2017), and the bins behind it.

    ``probabilities`` (n, k), ``true`` (n,) with -1 left out. Bins (n_bins, 3): epochs, mean
    confidence, accuracy; NaN in empty ones.
    """
    scored = true >= 0
    confidence = probabilities[scored].max(axis=1)
    right = probabilities[scored].argmax(axis=1) == true[scored]
    # a confidence of exactly 1 belongs to the last bin
    bin_of = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    size, sure, hit = (
        np.bincount(bin_of, weights, n_bins) for weights in (None, confidence, right.astype(float))
    )
    error = np.abs(sure - hit).sum() / scored.sum() if scored.any() else np.nan
    return float(error), np.stack((size, _ratio(sure, size), _ratio(hit, size)), axis=1)


def text_of(value: float | None) -> str:
    """A figure in three digits, or a dash where it is undefined."""
    return "–" if value is None else f"{value:.3f}"


def plain(value: Any) -> float | None:
    """A float for JSON; ``None`` for NaN."""
    number = float(value)
    return None if np.isnan(number) else number
