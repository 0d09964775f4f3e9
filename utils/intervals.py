"""95 % intervals over subjects, the one place that makes them: t for a few subjects, BCa for more.

Epochs and nights of one subject resemble each other, so subjects are what is counted and drawn.
``python -m benchmarks.coverage`` measures how often the true value lies inside.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from utils.metrics import plain

LEVEL = 0.95
FEWEST_TO_DRAW = 8  # below, draws of subjects say too little about others
DRAWS = 2000
T, BCA, JACKKNIFE = "t, mean over subjects", "BCa over subjects", "jackknife over subjects"
FISHER = "Fisher z over runs"
NONE, FEW = "none", "none: fewer than two subjects"
_BATCH = 200  # draws at a time: cohorts of 10,000 subjects fit into memory
_ROUNDING = 1e-12

Figure = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """A pooled figure, the mean over subjects, and the interval of one of them; NaN if undefined.

    ``kind`` names how it was made: by :data:`T` it is that of ``mean``, by :data:`BCA` and
    :data:`JACKKNIFE` that of ``value``. ``subjects`` counts those with a value of their own.
    """

    value: float
    mean: float
    low: float
    high: float
    kind: str
    subjects: int

    def plain(self) -> dict[str, Any]:
        """For JSON and tables; ``None`` for NaN."""
        numbers = {
            "value": self.value,
            "mean_of_subjects": self.mean,
            "low": self.low,
            "high": self.high,
        }
        about = {"interval": self.kind, "subjects": self.subjects}
        return {name: plain(number) for name, number in numbers.items()} | about


def columns(name: str, figure: Mapping[str, Any]) -> dict[str, Any]:
    """A plain figure as columns of a table: ``name``, ``name_low``, ``name_high``, …"""
    return {name if key == "value" else f"{name}_{key}": value for key, value in figure.items()}


def of_columns(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The plain figure of a row that :func:`columns` is part of."""
    keys = ("mean_of_subjects", "low", "high", "interval", "subjects")
    return {"value": row[name]} | {key: row.get(f"{name}_{key}") for key in keys}


def with_interval(figure: Mapping[str, Any], digits: int = 3) -> str:
    """A plain figure as text, with what its interval is and of how many subjects.

    ``0.720 [0.680, 0.760] (BCa, 12 subjects)``, or, where the interval is not that of the pooled
    figure, ``0.720; mean of 4 subjects 0.710 [0.600, 0.820] (t)``.
    """
    value, mean, low, high = (
        "–" if number is None else f"{number:.{digits}f}"
        for number in (figure[key] for key in ("value", "mean_of_subjects", "low", "high"))
    )
    kind, n = figure["interval"], figure["subjects"]
    if figure["low"] is None:
        return value  # no subject, or one, which no interval can be made of
    if kind == T:
        return f"{value}; mean of {n} subjects {mean} [{low}, {high}] (t)"
    return f"{value} [{low}, {high}] ({kind.partition(' ')[0]}, {n} subjects)"


def over_subjects(
    parts: np.ndarray, subjects: Sequence[str], figures: Mapping[str, Figure], *, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of figures that follow from sums over the epochs of subjects.

    ``parts`` (rows, …) are summed by subject, ``subjects`` has one id per row, and every figure
    maps sums (…, \\*parts.shape[1:]) to values (…), as those of :mod:`utils.metrics` map counts.
    A paired difference is a figure of both sides' parts, side by side in one row
    (:func:`difference`).

    Subjects without a value of their own (F1 of a stage they never have) have no say in it. Below
    eight the interval is Student's t of the subjects' own values; from eight on BCa, pooled
    figures of subjects drawn with replacement (Efron 1987), its level widened for few subjects
    as Hesterberg 2015 does for percentiles, https://doi.org/10.1080/00031305.2015.1089789.
    """
    names, of = np.unique(subjects, return_inverse=True)
    by_subject = np.zeros((len(names), *parts.shape[1:]))
    np.add.at(by_subject, of, parts)
    own = {name: np.asarray(figure(by_subject), float) for name, figure in figures.items()}
    total = by_subject.sum(axis=0)
    result = {
        name: of_values(values[~np.isnan(values)], float(figures[name](total)))
        for name, values in own.items()
    }
    drawn: dict[bytes, list[str]] = {}
    for name, one in result.items():
        if one.subjects >= FEWEST_TO_DRAW:  # figures of the same subjects share their draws
            drawn.setdefault(np.isnan(own[name]).tobytes(), []).append(name)
    for some in drawn.values():
        defined = ~np.isnan(own[some[0]])
        ends = _bca(by_subject[defined], [figures[name] for name in some], seed)
        for name, (low, high) in zip(some, ends.tolist(), strict=True):
            result[name] = replace(result[name], low=low, high=high, kind=BCA)
    return result


def difference(figure: Figure) -> Figure:
    """A figure of the first of two sides, counts (…, 2, k, k), less that of the second."""
    return lambda pairs: figure(pairs[..., 0, :, :]) - figure(pairs[..., 1, :, :])


def of_values(values: np.ndarray, value: float = np.nan) -> Interval:
    """Student's interval of the mean of one value per subject (n,); ``value``: the pooled one."""
    n = len(values)
    mean = float(values.mean()) if n else np.nan
    if n < 2:
        return Interval(value, mean, np.nan, np.nan, FEW, n)
    reach = _t(n - 1) * float(values.std(ddof=1)) / n**0.5
    return Interval(value, mean, mean - reach, mean + reach, T, n)


def left_out(value: float, without: np.ndarray, subjects: int) -> Interval:
    """Jackknife interval around a ``value`` that no sums give, by Student's t.

    For costly figures of pairs or clusters of epochs, which the epochs of one subject do not have.
    The ``subjects`` are divided into g parts; ``without`` (g,) is the figure without each of them.
    There is no interval of fewer than two, or where one is undefined.
    """
    g = len(without)
    if g < 2 or np.isnan([value, *without]).any():
        return Interval(value, np.nan, np.nan, np.nan, NONE, subjects)
    reach = _t(g - 1) * float(without.std()) * (g - 1) ** 0.5
    return Interval(value, np.nan, value - reach, value + reach, JACKKNIFE, subjects)


def of_rank_correlation(value: float, n: int) -> Interval:
    """Interval of Spearman's correlation of n pairs by Fisher's z, with Bonett & Wright's variance.

    https://doi.org/10.1007/BF02294183. A perfect order counts as half a step from it: there are
    finitely many orders, and the next best may be the truth. ``subjects`` are the n pairs.
    """
    if n < 4 or np.isnan(value):
        return Interval(value, np.nan, np.nan, np.nan, NONE, n)
    most = 1 - 6 / (n * (n**2 - 1))
    z = np.arctanh(np.clip(value, -most, most))
    reach = ndtri((1 + LEVEL) / 2) * ((1 + value**2 / 2) / (n - 3)) ** 0.5
    low, high = np.tanh([z - reach, z + reach]).tolist()
    return Interval(value, np.nan, low, high, FISHER, n)


def _t(degrees: int) -> float:
    return float(stdtrit(degrees, (1 + LEVEL) / 2))


def _bca(by_subject: np.ndarray, figures: Sequence[Figure], seed: int) -> np.ndarray:
    """Ends (figures, 2) of the intervals of figures of the subjects' parts (n, …)."""
    from scipy.stats import DegenerateDataWarning, bootstrap  # a second to import, used here alone

    n = len(by_subject)

    def pooled(drawn: np.ndarray, axis: int) -> np.ndarray:
        # how often each subject is drawn is all that sums depend on: (draws, n)
        rows = drawn.reshape(-1, drawn.shape[-1])
        rows = rows + n * np.arange(len(rows))[:, None]
        times = np.bincount(rows.ravel(), minlength=len(rows) * n).reshape(*drawn.shape[:-1], n)
        sums = np.tensordot(times, by_subject, axes=1)
        return np.stack([figure(sums) for figure in figures])

    # draws vary less than subjects of the population do, by n - 1 to n, and are normal, not t
    level = 2 * ndtr(np.sqrt(n / (n - 1)) * _t(n - 1)) - 1
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        result = bootstrap(
            (np.arange(n),),
            pooled,
            vectorized=True,
            confidence_level=level,
            n_resamples=DRAWS,
            batch=_BATCH,
            rng=np.random.default_rng(seed),
        )
    ends = np.stack(result.confidence_interval, axis=-1)
    # the same whoever is drawn: BCa is undefined, and the interval a point
    drawn = result.bootstrap_distribution
    least, most = drawn.min(axis=1), drawn.max(axis=1)
    same = most - least < _ROUNDING
    ends[same] = least[same, None]
    return ends
