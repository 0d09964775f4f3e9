"""Which epochs of a night, or of many, are explained."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from interpret.second_look import expected_gain, tempered
from utils.errors import UserError
from utils.staged_night import StagedNight
from utils.stages import STAGES

SPELLINGS = "all, errors, second_look:N, uncertain:N, per_stage:N, or epochs such as 10,11,12"
_PER_STAGE = re.compile(r"per_stage:(\d+)")


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
    if match := _PER_STAGE.fullmatch(spec):
        return _per_stage([int(match[1])] * len(STAGES), predicted, expert, seed)
    if re.fullmatch(r"\[?\s*\d+(\s*,\s*\d+)*\s*\]?", spec):
        chosen = np.unique([int(number) for number in re.findall(r"\d+", spec)])
        if chosen[-1] >= len(expert):
            raise UserError(f"epoch {chosen[-1]}: the night has epochs 0 to {len(expert) - 1}")
        return chosen
    raise UserError(f"--interpret_select {spec!r}: takes {SPELLINGS}")


def select_of_nights(
    spec: str, nights: Sequence[StagedNight], *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Numbers of the selected epochs of each night, by recording.

    As :func:`select` for each of them, but ``per_stage:N`` are N of every stage of all subjects
    together, of each as many, and of none fewer than one that has any: where some have too few
    epochs of a stage, the others have more.
    """
    if not (match := _PER_STAGE.fullmatch(spec)):
        return {n.recording: select(spec, n.probabilities, n.expert, seed=seed) for n in nights}
    of_subjects: dict[str, list[int]] = defaultdict(list)
    for k, night in enumerate(nights):
        of_subjects[night.subject].append(k)
    left = np.array([_candidates(n.stages, n.expert).sum(axis=1) for n in nights])
    quotas = np.zeros_like(left)
    for stage in range(len(STAGES)):
        wanted = max(int(match[1]), len(of_subjects))
        while wanted and left[:, stage].any():
            for own in of_subjects.values():  # one of each subject in turn
                k = max(own, key=lambda k: left[k, stage])
                one = int(wanted > 0 and left[k, stage] > 0)
                left[k, stage] -= one
                quotas[k, stage] += one
                wanted -= one
    return {
        night.recording: _per_stage(quota, night.stages, night.expert, seed)
        for night, quota in zip(nights, quotas, strict=True)
    }


def _candidates(predicted: np.ndarray, expert: np.ndarray) -> np.ndarray:
    """Whether each epoch may stand for each stage, bool (5, n)."""
    # where an expert scored, only epochs staged rightly stand for a stage
    wanted = (predicted == expert) if (expert >= 0).any() else np.ones(len(expert), bool)
    return wanted & (predicted == np.arange(len(STAGES))[:, None])


def _per_stage(
    quotas: Sequence[int], predicted: np.ndarray, expert: np.ndarray, seed: int
) -> np.ndarray:
    rng, chosen = np.random.default_rng(seed), []
    for quota, is_candidate in zip(quotas, _candidates(predicted, expert), strict=True):
        candidates = np.flatnonzero(is_candidate)
        chosen.append(rng.choice(candidates, min(quota, len(candidates)), replace=False))
    return np.sort(np.concatenate(chosen)).astype(int)
