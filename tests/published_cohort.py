"""153 annotation-faithful nights whose counts add up to the published ones, by construction.

Every night's true counts under each protocol follow from how it was put together, so the sums test
the trimming code and nothing else: regular tapes, movement and ``?`` inside sleep, tapes that end
in ``?`` within the signal, begin with ``?``, or end without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.edf_files import write_pair

IDS = [i for i in range(83) if i not in (39, 68, 69, 78, 79)]
NIGHTS = [(i, n) for i in IDS for n in (1, 2) if (i, n) not in ((13, 2), (36, 1), (52, 1))]
FOLDS = {
    1: (0, 11, 13, 14, 23, 25, 27, 28, 45, 48, 50, 56, 59, 62, 70, 76, 82),
    2: (1, 10, 18, 21, 29, 30, 32, 35, 36, 53, 57, 60, 61, 73, 74, 77),
    3: (2, 8, 9, 12, 16, 17, 26, 41, 44, 52, 54, 55, 64, 80, 81),
    4: (3, 4, 5, 6, 19, 24, 33, 38, 42, 46, 51, 58, 65, 66, 71),
    5: (7, 15, 20, 22, 31, 34, 37, 40, 43, 47, 49, 63, 67, 72, 75),
}
FOLD_EPOCHS = {1: 43_754, 2: 40_155, 3: 35_373, 4: 40_411, 5: 36_657}
# sleep classes N1, N2, N3, REM: Sleep-EDF-20, Sleep-EDF-78, CMT fold 5
SLEEP_20 = np.array([2_804, 17_799, 5_703, 7_717])
SLEEP_78 = np.array([21_522, 69_132, 13_039, 25_835])
SLEEP_FOLD5 = np.array([4_269, 12_995, 2_225, 4_638])
WAKE = {
    "2013": {"deepsleepnet": 8_285, "tinysleepnet": 10_197},
    "2018": {"deepsleepnet": 65_951, "tinysleepnet": 69_824, "cmt": 66_822},
}
TOTAL = {
    "2013": {"deepsleepnet": 42_308, "tinysleepnet": 44_220},
    "2018": {"deepsleepnet": 195_479, "tinysleepnet": 199_352, "cmt": 196_350},
}
# extra Wake a peculiar tape keeps, by what is peculiar: (tinysleepnet, cmt) beyond deepsleepnet
_ENDS_IN_QUESTION = {
    (0, 1): 500,
    (4, 2): 612,
    (9, 1): 400,
    (16, 2): 400,
    (25, 1): 539,
    (71, 2): 539,
}
_BEGINS_IN_QUESTION = {(30, 1): 300, (55, 1): 321, (62, 1): 262}
_NO_QUESTION = {(46, 2): 12}  # last sleep bout of 12 epochs: cmt keeps 48 of 60 Wake epochs


@dataclass
class Night:
    """One night's inner Wake and sleep epochs, and the traps in it."""

    key: tuple[int, int]
    fold: int
    sleep: np.ndarray = field(default_factory=lambda: np.zeros(4, int))
    inner_wake: int = 0


def share(total: int, n: int) -> list[int]:
    """``total`` in ``n`` whole parts, as equal as can be."""
    return [total // n + (k < total % n) for k in range(n)]


def cohort() -> list[Night]:
    """All nights with counts that meet every published sum at once."""
    fold_of = {subject: fold for fold, ids in FOLDS.items() for subject in ids}
    nights = [Night(key, fold_of[key[0]]) for key in NIGHTS]
    young = [night for night in nights if night.key[0] < 20]
    old = [night for night in nights if night.key[0] >= 20]
    _spread_sleep(young, SLEEP_20)
    fifth = [night for night in old if night.fold == 5]
    done = sum((n.sleep for n in young if n.fold == 5), start=np.zeros(4, int))
    _spread_sleep(fifth, SLEEP_FOLD5 - done)
    _spread_sleep([n for n in old if n.fold != 5], SLEEP_78 - SLEEP_20 - (SLEEP_FOLD5 - done))
    wake = share(WAKE["2013"]["deepsleepnet"] - 120 * len(young), len(young))
    for night, inner in zip(young, wake, strict=True):
        night.inner_wake = inner
    for fold, epochs in FOLD_EPOCHS.items():
        members = [night for night in nights if night.fold == fold]
        extra = sum(_BEGINS_IN_QUESTION.get(n.key, 0) - _NO_QUESTION.get(n.key, 0) for n in members)
        left = epochs - extra - sum(int(n.sleep.sum()) + 120 + n.inner_wake for n in members)
        rest = [night for night in members if night.key[0] >= 20]
        for night, inner in zip(rest, share(left, len(rest)), strict=True):
            night.inner_wake = inner
    return nights


def _spread_sleep(nights: list[Night], totals: np.ndarray) -> None:
    for stage in range(4):
        for night, part in zip(nights, share(int(totals[stage]), len(nights)), strict=True):
            night.sleep[stage] = part


def bouts(night: Night) -> tuple[list[tuple[str, int]], int]:
    """Annotations of one night and the epochs its signal has."""
    n1, n2, n3, rem = (int(n) for n in night.sleep)
    last = _NO_QUESTION.get(night.key, 5)
    subject, number = night.key
    middle = [
        ("1", n1 - last),
        ("2", n2 // 2),
        ("3", n3 // 2),
        ("4", n3 - n3 // 2),
        ("M", 1),
        ("W", night.inner_wake),
        ("2", n2 - n2 // 2),
        ("?", 1 + subject % 7),
        ("R", rem),
        ("M", number),
        ("1", last),
    ]
    lead = [("W", 70 + subject)]
    tail = [("W", 65 + 3 * number)]
    beyond = [("?", 30)]
    if night.key in _BEGINS_IN_QUESTION:
        lead = [("?", 10), ("W", 60 + _BEGINS_IN_QUESTION[night.key])]
    inside = 0
    if night.key in _ENDS_IN_QUESTION:
        tail, inside = [("W", 60 + _ENDS_IN_QUESTION[night.key])], 20
    if night.key in _NO_QUESTION:
        beyond = []
    parts = [bout for bout in (*lead, *middle, *tail) if bout[1] > 0]
    n_epochs = sum(length for _, length in parts) + inside
    return [*parts, *beyond], n_epochs


def write_cohort(folder: Path) -> None:
    """All 153 pairs; one 1 Hz channel is enough to count epochs. SC4362 has 60 s records."""
    for night in cohort():
        subject, number = night.key
        annotations, n_epochs = bouts(night)
        long = night.key == (36, 2) and n_epochs % 2 == 0
        write_pair(
            folder,
            annotations,
            n_epochs,
            name=f"SC4{subject:02d}{number}{'EFG'[subject % 3]}0",
            channels={"EEG Fpz-Cz": 1},
            record_seconds=60 if long else 30,
        )
