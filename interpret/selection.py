"""Which epochs of a night are explained."""

from __future__ import annotations

import re

import numpy as np

from interpret.second_look import expected_gain, tempered
from utils.errors import UserError
from utils.stages import STAGES

SPELLINGS = "all, errors, second_look:N, uncertain:N, per_stage:N, or numbers such as 10,11,12"


def select(
    spec: str, probabilities: np.ndarray, expert: np.ndarray, *, seed: int = 0
) -> np.ndarray:
    """Numbers of the selected epochs, ascending.

    ``errors``: scored epochs the model gets wrong. ``second_look:N``: the N of those whose stage
    by the expert is least probable. ``uncertain:N``: the N of smallest highest
    probability. ``per_stage:N``: up to N of every stage the model gives, drawn by ``seed`` among
    those the expert confirms, or among all where nobody scored.

    Raises:
        UserError: an unknown selection, or epochs the night does not have.
    """
    predicted = probabilities.argmax(axis=1)
    if spec == "all":
        return np.arange(len(expert))
    if spec == "errors":
        return np.flatnonzero((expert >= 0) & (predicted != expert))
    if match := re.fullmatch(r"second_look:(\d+)", spec):
        wrong = np.flatnonzero((expert >= 0) & (predicted != expert))
        gain = expected_gain(tempered(probabilities, 1.0), expert)[wrong]
        return np.sort(wrong[np.argsort(-gain, kind="stable")[: int(match[1])]])
    if match := re.fullmatch(r"uncertain:(\d+)", spec):
        highest = probabilities.max(axis=1)
        # stable: of epochs equally uncertain the earlier ones, on every machine
        return np.sort(np.argsort(highest, kind="stable")[: int(match[1])])
    if match := re.fullmatch(r"per_stage:(\d+)", spec):
        return _per_stage(int(match[1]), predicted, expert, seed)
    if re.fullmatch(r"\[?\s*\d+(\s*,\s*\d+)*\s*\]?", spec):
        chosen = np.unique([int(number) for number in re.findall(r"\d+", spec)])
        if chosen[-1] >= len(expert):
            raise UserError(f"epoch {chosen[-1]}: the night has epochs 0 to {len(expert) - 1}")
        return chosen
    raise UserError(f"--interpret_select {spec!r}: takes {SPELLINGS}")


def _per_stage(n: int, predicted: np.ndarray, expert: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    # where an expert scored, only epochs staged rightly stand for a stage
    wanted = (predicted == expert) if (expert >= 0).any() else np.ones(len(expert), bool)
    chosen = []
    for stage in range(len(STAGES)):
        candidates = np.flatnonzero(wanted & (predicted == stage))
        chosen.append(rng.choice(candidates, min(n, len(candidates)), replace=False))
    return np.sort(np.concatenate(chosen)).astype(int)
