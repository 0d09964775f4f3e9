"""What named features add to a stage: contributions, in groups that clinicians read.

Lundberg et al., From local explanations to global understanding with explainable AI for trees,
Nature Machine Intelligence 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from interpret.explained_night import ExplainedNight
from interpret.explanation import Answer, answer_of, in_words
from interpret.index import Entry, feature_entry
from utils import files
from utils.metrics import plain

METHOD = "treeshap"
# methods that explain by features instead of signals: each one's title and sentence on the page
METHODS = {
    "treeshap": (
        "Features of YASA's trees",
        "Every bar is what a group of features adds to the score of {stage}, red for it, blue "
        "against it: together they lead from {expected:.2f}, expected of any epoch, to "
        "{margin:.2f}. The stage of the highest score wins.",
    ),
    "bands": (
        "Power of this epoch in five bands, in dB about the middle of the night's range",
        "Every bar is what the power in a band adds to the lead of {stage} over {against}, red for "
        "it, blue against it; the last one is what the rest of the night adds to an epoch at that "
        "middle. Together they lead from {expected:.2f}, in a night that stays there, to "
        "{margin:.2f}.",
    ),
}
# a derived feature belongs to what it is derived from, so endings are not looked at
_OF_EEG = {
    "slow waves": ("sdelta", "fdelta", "dt", "ds", "db"),
    "theta": ("theta",),
    "alpha": ("alpha", "at"),
    "spindles": ("sigma",),
    "fast activity": ("beta",),
    "amplitude": ("std", "iqr", "abspow"),
    "complexity": ("skew", "kurt", "nzc", "hmob", "hcomp", "perm", "higuchi", "petrosian"),
}
_OTHERS = {
    "eyes": "eog_", "muscle": "emg_", "time of night": "time_", "age and sex": ("age", "male"),
}  # fmt: skip
GROUPS = (*_OF_EEG, *_OTHERS)
# how far around the epoch a feature reaches, by its ending
SPANS = {"": "this epoch", "_p2min_norm": "last 2 min", "_c7min_norm": "7.5 min around"}
_SHOWN = 12  # features named on the page


def place_of(feature: str) -> tuple[str, str]:
    """Group of a feature of YASA's, and its ending, by which it reaches around the epoch.

    Raises:
        ValueError: a feature that no rule places.
    """
    span = next((ending for ending in SPANS if ending and feature.endswith(ending)), "")
    measure = feature.removesuffix(span) if span else feature
    for group, beginnings in _OTHERS.items():
        if measure.startswith(beginnings):
            return group, span
    for group, measures in _OF_EEG.items():
        if measure.removeprefix("eeg_") in measures and measure.startswith("eeg_"):
            return group, span
    raise ValueError(f"feature {feature!r} belongs to no group")


@dataclass(frozen=True)
class FeatureContributions:
    """Contributions (b, f) of ``names`` (f,) to the margin of a stage at b epochs.

    ``values`` (b, f) are the features themselves; ``expected`` (b,) is the margin where nothing
    is known, ``margin`` (b,) that of the epoch: expected plus all contributions. ``probabilities``
    (b, 5) are those where nothing is known, ``distance`` (b,) how far that is from the mean of
    ``deviates_from``, in deviations, if it is an epoch that one could look at. ``place`` is the
    group and the span of a feature.
    """

    names: Sequence[str]
    values: np.ndarray
    contributions: np.ndarray
    expected: np.ndarray
    margin: np.ndarray
    probabilities: np.ndarray
    distance: np.ndarray | None = None
    deviates_from: str | None = None
    groups: Sequence[str] = GROUPS
    spans: Mapping[str, str] = field(default_factory=lambda: SPANS)
    place: Callable[[str], tuple[str, str]] = place_of

    @property
    def error(self) -> np.ndarray:
        """What the contributions miss of the change of the margin, as a share of it: (b,)."""
        change = self.margin - self.expected
        missing = np.abs(change - self.contributions.sum(axis=1))
        return missing / np.maximum(np.abs(change), 1e-6)

    def answer(self, row: int) -> Answer:
        """What is known of the margin and of what it is compared with, at one epoch."""
        return answer_of(
            self.margin[row],
            self.expected[row],
            self.error[row],
            probabilities=self.probabilities[row].tolist(),
            distance=None if self.distance is None else self.distance[row],
            deviates_from=self.deviates_from,
        )

    def grouped(self) -> np.ndarray:
        """Sums of contributions by group and span: (b, groups, spans)."""
        groups, spans = list(self.groups), list(self.spans)
        sums = np.zeros((len(self.contributions), len(groups), len(spans)))
        for k, name in enumerate(self.names):
            group, span = self.place(name)
            sums[:, groups.index(group), spans.index(span)] += self.contributions[:, k]
        return sums


def write_contributions(
    folder: Path,
    night: ExplainedNight,
    chosen: np.ndarray,
    reasons: FeatureContributions,
    why: Mapping[int, str],
    method: str = METHOD,
    settings: Sequence[Mapping[str, Any]] = (),
) -> list[Entry]:
    """Write the arrays of the epochs ``chosen`` (b,), a folder each; returns their entries.

    ``settings`` of ``method`` at each epoch stand in the entries, if there are any.
    """
    sums, entries = reasons.grouped(), []
    for row, epoch in enumerate(chosen.tolist()):
        place = f"{night.staged.recording}_e{epoch:04d}"
        signals = night.physical(epoch).astype(np.float32)
        time = np.arange(signals.shape[1], dtype=np.float32) / night.fs
        files.write_arrays(folder / place / "input.npz", {"signals": signals, "time_s": time})
        arrays = {
            "groups": np.array(reasons.groups),
            "spans": np.array(list(reasons.spans.values())),
            "contributions": sums[row],
            "features": np.array(reasons.names),
            "feature_values": reasons.values[row],
            "feature_contributions": reasons.contributions[row],
        }
        files.write_arrays(folder / place / f"{method}.npz", arrays)
        about, answer = settings[row] if settings else {}, reasons.answer(row)
        entries.append(feature_entry(night, epoch, place, method, answer, about, why.get(epoch)))
    return entries


def shown(arrays: Mapping[str, np.ndarray], entry: Mapping[str, Any], method: str) -> dict:
    """What the page shows of an epoch: groups by span, and the features that count most.

    ``entry``: of the epoch in the index, ``arrays`` those of its ``method``.
    """
    answer = entry["methods"][method]
    title, sentence = METHODS[method]
    by_group = arrays["contributions"]
    # only those of channels that were read
    kept = np.abs(by_group).sum(axis=1) > 0
    size = arrays["feature_contributions"]
    largest = np.argsort(-np.abs(size), kind="stable")[:_SHOWN]
    return {
        "title": title,
        "note": sentence.format(
            stage=entry["explained"],
            against=answer["settings"].get("against"),
            expected=answer["baseline_value"],
            margin=answer["value"],
        ),
        "comparison": in_words(answer, entry["explained"]),
        "incomplete": bool(answer["incomplete"]),
        "groups": arrays["groups"][kept].tolist(),
        "spans": arrays["spans"].tolist(),
        "contributions": by_group[kept].round(3).tolist(),
        "features": [
            [
                str(arrays["features"][k]),
                plain(round(float(arrays["feature_values"][k]), 3)),
                round(float(size[k]), 3),
            ]
            for k in largest
        ],
    }
