"""Several scorers of one recording: agreement, ranking and consensus.

The rules of the Dreem Open Datasets' evaluation (Guillot et al., IEEE TNSRE 2020, section III-C):
scorers are ranked per record by soft agreement, ties go to the first of the ranking, a scorer is
compared with the other four and a model with the best four.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from utils.errors import UserError

_CODES = 6  # -1 to 4, counted from 0
BEST = 4
# DOD-H records whose lights went off (on) within the scored part: epochs cut at the start (end)
LIGHTS_OFF = {
    "5bf0f969-304c-581e-949c-50c108f62846": 60,
    "b5d5785d-87ee-5078-b9b9-aac6abd4d8de": 60,
}
LIGHTS_ON = {"3e842aa8-bcd9-521e-93a2-72124233fe2c": 620}


def scored_window(stages: np.ndarray, record: str = "") -> tuple[int, int]:
    """Epochs [first, last) that every scorer (s, n) has reached and none has left."""
    scored = stages >= 0  # argmax of it is a scorer's first scored epoch
    if not scored.any(axis=1).all():
        raise UserError(f"{record}: a scorer has scored no epoch")
    first = max(int(scored.argmax(axis=1).max()), LIGHTS_OFF.get(record, 0))
    trailing = int(scored[:, ::-1].argmax(axis=1).max())
    return first, min(stages.shape[1] - trailing, LIGHTS_ON.get(record, stages.shape[1]))


def check_lights(records: Sequence[str], lights: Mapping[str, int]) -> None:
    """Refuse light times of records that do not exist: older lists use other ids.

    Raises:
        UserError: naming them.
    """
    if unknown := sorted(set(lights) - set(records)):
        raise UserError(f"light times of unknown records: {', '.join(unknown)}; are the ids stale?")


def votes(stages: np.ndarray) -> np.ndarray:
    """Votes of the scorers (s, n) for every code from -1 to 4, (n, 6)."""
    # +1: the code of unscored, -1, takes the first column
    return (stages[:, :, None] + 1 == np.arange(_CODES)).sum(axis=0)


def soft_agreement(stages: np.ndarray) -> np.ndarray:
    """Soft agreement of every scorer (s, n) with the others, (s,).

    Mean over epochs of the others' votes for the scorer's code over their largest. Where two codes
    share the largest count, either agrees fully.
    """
    counted, epochs = votes(stages), np.arange(stages.shape[1])
    result = []
    for own in stages:
        others = counted - (own[:, None] + 1 == np.arange(_CODES))
        result.append((others[epochs, own + 1] / others.max(axis=1)).mean())
    return np.array(result)


def ranking(stages: np.ndarray) -> np.ndarray:
    """Scorers by soft agreement, best first; exact ties in the order given."""
    return np.argsort(-soft_agreement(stages), kind="stable")


def consensus(stages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n,) int8 and their share of votes (n,) of scorers (s, n) in rank order.

    Where several codes have the most votes the first scorer's code is taken, even if it is none of
    them.
    """
    counted = votes(stages)
    top = counted.max(axis=1)
    tied = (counted == top[:, None]).sum(axis=1) > 1
    # argmax alone would give a tie to the lowest code
    codes = np.where(tied, stages[0], counted.argmax(axis=1) - 1).astype(np.int8)
    return codes, counted[np.arange(len(codes)), codes + 1] / len(stages)


def for_model(stages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Consensus of the best four of five scorers (s, n): what a model is compared with."""
    return consensus(stages[ranking(stages)[:BEST]])


def for_scorer(stages: np.ndarray, scorer: int) -> tuple[np.ndarray, np.ndarray]:
    """Consensus of all others in rank order: what ``scorer`` is compared with."""
    ranked = ranking(stages)
    return consensus(stages[ranked[ranked != scorer]])


def all_of(stages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Consensus of every scorer in rank order."""
    return consensus(stages[ranking(stages)])


def aligned(scored: np.ndarray, wanted: np.ndarray, *, agree: float = 0.95) -> int | None:
    """Offset of the scorers' consensus (n,) in a file's hypnogram (k,), ``None`` if undecided.

    Every shift that keeps half of the shorter one inside is tried; the best must be unique and
    agree on 95 % of the epochs that both score.
    """
    shortest = min(len(scored), len(wanted)) // 2
    shifts = []  # (agreement, offset)
    # negative offsets: the scorers may begin before the hypnogram
    for offset in range(shortest - len(scored), len(wanted) - shortest + 1):
        start, stop = max(0, offset), min(len(wanted), offset + len(scored))
        both = (wanted[start:stop] >= 0) & (scored[start - offset : stop - offset] >= 0)
        if both.any():
            same = wanted[start:stop] == scored[start - offset : stop - offset]
            shifts.append((float(same[both].mean()), offset))
    shifts.sort(reverse=True)
    unique = len(shifts) > 1 and shifts[0][0] > shifts[1][0]
    return shifts[0][1] if shifts and unique and shifts[0][0] >= agree else None
