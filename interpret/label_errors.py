"""Planted label errors: whether a ranking of epochs brings them to the top.

Stages of an expert are changed in known epochs, a ranking is given the changed ones, and what it
puts first is compared with the epochs changed. Rows that ask no model stand beside the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from interpret.scoreboard import Score
from interpret.second_look import expected_gain, shares_of_alike, tempered, with_alike
from utils.metrics import confidence
from utils.stages import STAGES

# stages that scorers confuse most often (Rosenberg & Van Hout, J Clin Sleep Med 2013)
_CONFUSED = {"W": ("N1",), "N1": ("W", "N2", "REM"), "N2": ("N1", "N3"), "N3": ("N2",),
             "REM": ("N1", "N2")}  # fmt: skip
_LONGEST = 3  # epochs by which a border between two stages is moved
SHARE = 0.05  # of the scored epochs that are changed; of a night that is looked at again
_AROUND = 2  # neighbours in time on either side
MODEL_FREE = ("band powers", "neighbours in time")
MODEL = "expected gain"
PROBABILITIES = (MODEL, "expected gain, not calibrated")


@dataclass(frozen=True)
class Evidence:
    """What rankings may read of a night: probabilities (n, 5), decibels (n, bands), and stages.

    ``expert`` (n,) are the stages before any is changed, ``temperature`` calibrates
    what :func:`interpret.second_look.with_alike` makes of them.
    """

    subject: str
    probabilities: np.ndarray
    decibels: np.ndarray
    expert: np.ndarray
    temperature: float = 1.0


def confused(expert: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Stages (n,) with ``n`` scored epochs, drawn one by one, in a stage that is confused often."""
    changed = expert.copy()
    for k in rng.permutation(np.flatnonzero(expert >= 0))[:n].tolist():
        changed[k] = STAGES.index(rng.choice(_CONFUSED[STAGES[expert[k]]]))
    return changed


def moved_borders(expert: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Stages (n,) whose borders are moved by one to three epochs until ``n`` are changed."""
    changed = expert.copy()
    both = (expert[1:] >= 0) & (expert[:-1] >= 0)
    for border in rng.permutation(np.flatnonzero((np.diff(expert) != 0) & both) + 1).tolist():
        forwards = bool(rng.integers(2))
        first, step, stage = (border, 1, border - 1) if forwards else (border - 1, -1, border)
        for k in range(first, first + step * int(rng.integers(1, _LONGEST + 1)), step):
            # not beyond the bout that the border belongs to
            inside = 0 <= k < len(expert) and expert[k] == expert[first]
            if not inside or (changed != expert).sum() >= n:
                break
            changed[k] = expert[stage]
    return changed


ERRORS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "confused stages": confused,
    "moved borders": moved_borders,
}


def rankings(
    night: Evidence, labels: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Every ranking's score (n,) of how likely each of ``labels`` (n,) is wrong."""
    raw, shares = night.probabilities, shares_of_alike(night.decibels, labels)
    both = with_alike(raw, shares)
    return {
        MODEL: expected_gain(tempered(both, night.temperature), labels),
        PROBABILITIES[1]: expected_gain(both, labels),
        "model alone": expected_gain(raw, labels),
        "disagreement, any order": (raw.argmax(axis=1) != labels) + rng.random(len(labels)),
        "entropy alone": 1 - confidence(raw),
        MODEL_FREE[0]: 1 - shares[np.arange(len(labels)), labels],
        MODEL_FREE[1]: _unlike_neighbours(labels),
        "any order": rng.random(len(labels)),
    }


def _unlike_neighbours(labels: np.ndarray) -> np.ndarray:
    """Share of the two epochs on either side that have another stage (n,)."""
    padded = np.pad(labels, _AROUND, mode="edge")
    shifts = [shift for shift in range(-_AROUND, _AROUND + 1) if shift]
    others = [padded[_AROUND + s : len(labels) + _AROUND + s] != labels for s in shifts]
    return np.mean(others, axis=0)


def evaluated(nights: Sequence[Evidence], *, seed: int = 0, draws: int = 5) -> list[Score]:
    """Scores of every ranking by kind of error, one for each night and draw of the errors.

    ``precision``: share of planted errors among as many epochs as were planted. ``recovered``:
    share of them in the first twentieth of the night. ``claimed``: the mean expected gain of the
    epochs that precision counts, which is that precision where the gain is right. ``ahead``: what
    the expected gain's precision is above that of a row that asks no model. The kind of error
    stands in place of the stage.
    """
    scores = []
    for number, night in enumerate(nights):
        n = round(SHARE * int((night.expert >= 0).sum()))
        for kind, plant in ERRORS.items():
            for draw in range(draws):
                rng = np.random.default_rng((seed, number, draw))
                labels = plant(night.expert, n, rng)
                if (labels != night.expert).any():
                    scores += scored(night, labels, kind, rng)
    return scores


def scored(
    night: Evidence, labels: np.ndarray, kind: str, rng: np.random.Generator
) -> Iterator[Score]:
    """Scores of every ranking of one night whose ``labels`` (n,) are wrong where they differ.

    The measures are those of :func:`evaluated`; ``kind`` names the errors.
    """
    wrong, rows = labels != night.expert, np.flatnonzero(labels >= 0)
    precision = {}
    for name, score in rankings(night, labels, rng).items():
        # by chance where two are equal: in the order of the night borders would come in runs
        shuffled = rng.permutation(rows)
        ranked = shuffled[np.argsort(-score[shuffled], kind="stable")]
        hits = wrong[ranked]
        precision[name] = float(hits[: wrong.sum()].mean())
        first = round(SHARE * len(rows))
        yield Score(name, "precision", kind, night.subject, precision[name])
        if name in PROBABILITIES:
            claimed = float(score[ranked][: wrong.sum()].mean())
            yield Score(name, "claimed", kind, night.subject, claimed)
        recovered = float(hits[:first].sum() / wrong.sum())
        yield Score(name, "recovered", kind, night.subject, recovered)
    for name in MODEL_FREE:
        difference = precision[MODEL] - precision[name]
        yield Score(name, "ahead", kind, night.subject, difference)
