"""Epochs counted from the signal's start: rows of stages on them, and how their ends differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datasets.readers.profiles.profile import Epochs
from datasets.readers.profiles.stage_words import Coded
from datasets.readers.recording import Bout, bouts_of, stages_from_bouts, whole_epochs
from datasets.readers.scorings import placement
from datasets.readers.scorings.placement import TOLERANCE, Placed
from datasets.readers.scorings.scoring import Recorded
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, UNSCORED


@dataclass(frozen=True)
class GridEpochs:
    """Stages (n,) int8 of whole epochs of signal, the scorer's bouts, and what was assumed."""

    stages: np.ndarray
    bouts: tuple[Bout, ...]
    notes: tuple[str, ...]


def placed(
    rows: Coded, epochs: Epochs, recorded: Recorded, path: Path, *, is_list: bool = False
) -> GridEpochs:
    """Rows in order of time on epochs from the signal's start.

    Of a list (``is_list``) every line is an epoch, else an unscored end is none of the stages.

    Raises:
        UserError: rows overlap or, on an exact grid, do not fill whole epochs; they end too far
            from the signal's end, or all lie outside it.
    """
    n_epochs = whole_epochs(recorded.seconds)
    counted = rows if is_list else [one for one in rows if one[1] != UNSCORED]
    notes = _of_ends(counted, epochs, recorded, path)
    bouts = _bouts(rows, path, is_exact=epochs.grid == "exact")
    # what lies after the signal is noted above
    last = EPOCH_SECONDS * math.ceil(recorded.seconds / EPOCH_SECONDS - 1e-9)
    inside = [
        replace(one, seconds=min(one.end, last) - one.onset)
        for one in _runs(rows)
        if one.onset < last
    ]
    stages, assumed = placement.of_times(inside, recorded, path)
    stages = stages_from_bouts(bouts_of(stages), n_epochs)
    return GridEpochs(stages, bouts or bouts_of(stages), (*notes, *assumed))


def _bouts(rows: Coded, path: Path, *, is_exact: bool) -> tuple[Bout, ...]:
    """The scorer's own bouts, or none if rows do not fill whole epochs.

    Raises:
        UserError: they have to, and do not, or overlap.
    """
    bouts, scored_until = [], 0
    for row, code in rows:
        first, length = (round(t / EPOCH_SECONDS) for t in (row.onset, row.seconds))
        apart = max(abs(row.onset - 30 * first), abs(row.seconds - 30 * length))
        if apart > TOLERANCE or first < 0 or length < 1:
            if not is_exact:
                return ()
            raise UserError(
                f"{path}: {row.word!r} at {row.onset:g} s for {row.seconds:g} s does not fill "
                "whole 30 s epochs; correct the file"
            )
        if first < scored_until and is_exact:
            raise UserError(
                f"{path}: {row.word!r} at {row.onset:g} s begins before the stage above it ends; "
                "correct the file"
            )
        scored_until = first + length
        bouts.append(Bout(first, length, code))
    return tuple(bouts)


def _runs(rows: Coded) -> list[Placed]:
    """Rows in order, those that follow each other with one stage as one."""
    runs: list[Placed] = []
    for row, code in rows:
        last = runs[-1] if runs else None
        if last and last.code == code and abs(last.end - row.onset) <= TOLERANCE:
            runs[-1] = replace(last, seconds=row.onset + row.seconds - last.onset)
        else:
            runs.append(Placed(row.onset, row.seconds, code, row.word))
    return runs


def _of_ends(rows: Coded, epochs: Epochs, recorded: Recorded, path: Path) -> Sequence[str]:
    """A note on how much longer or shorter stages are than the signal, in their own epochs.

    Raises:
        UserError: by more epochs than the profile allows.
    """
    length = epochs.seconds
    n_signal = int(recorded.seconds / length + 1e-9)
    n_stages = math.ceil(max(row.onset + row.seconds for row, _ in rows) / length - 1e-6)
    extra, missing = n_stages - n_signal, n_signal - n_stages
    most = (math.inf if most is None else most for most in (epochs.extra, epochs.missing))
    if any(one > limit for one, limit in zip((extra, missing), most, strict=True)):
        allowed = f"extra {epochs.extra}" if extra > 0 else f"missing {epochs.missing}"
        raise UserError(
            f"{path}: {n_stages} stages for the {n_signal} epochs of {recorded.name}, and the "
            f"profile allows {allowed}; they are not one night, or of other epochs than "
            f"{length:g} s"
        )
    is_noted = extra and epochs.extra is not None
    return [f"{n_stages} stages for {n_signal} epochs"] if is_noted else []
