"""A night of a declared cohort: signals by role, stages as the profile reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from datasets.readers import expert_annotations
from datasets.readers.any_file import AnyFile
from datasets.readers.channels import find_role
from datasets.readers.profiles import own_onsets, scored_rows, stage_words
from datasets.readers.profiles.cohort_nights import Night
from datasets.readers.profiles.scored_rows import Declared
from datasets.readers.profiles.stage_words import Coded
from datasets.readers.recording import (
    FileSignals,
    Recording,
    bouts_of,
    stages_from_bouts,
    whole_epochs,
)
from datasets.readers.scorings import placement
from datasets.readers.scorings.scoring import Wishes
from datasets.readers.signal_files import opened
from utils.errors import UserError
from utils.stages import UNSCORED


def read(night: Night) -> Recording:
    """One night: signals by role (by label if the options name no roles), and its stages.

    Raises:
        UserError: a file cannot be read or is not as declared, or nothing is scored.
    """
    file = opened(night.path, night.signals, salvage=night.options.salvage)
    signals, derivations, notes = _signals(night, file)
    stages, onsets, of_stages = stages_of(night, file)
    if (stages == UNSCORED).all():
        raise UserError(f"{night.scored}: scores no epoch of {night.path.name}; check the pair")
    return Recording(
        id=night.id,
        subject=night.subject,
        night=night.night,
        signals=signals,
        bouts=bouts_of(stages),
        stages=stages,
        start=file.start,
        note="; ".join(dict.fromkeys([*file.notes, *notes, *of_stages])) or None,
        derivations=derivations,
        onsets=onsets,
    )


def _signals(night: Night, file: AnyFile) -> tuple[dict | FileSignals, dict[str, str], list[str]]:
    """Signals by role and what they are made of, or all of the file by label."""
    if not night.options.roles:
        return FileSignals(file), {}, []
    matched = {
        role: one
        for role in night.options.roles
        if (one := find_role(file, role, night.profile.roles.get(role, ()))) is not None
    }
    return (
        {role: one.signal for role, one in matched.items()},
        {role: one.derivation for role, one in matched.items()},
        [one.note for one in matched.values() if one.note],
    )


def stages_of(night: Night, file: AnyFile) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Stages (n,) int8 of a night, onsets (n,) of its epochs where these lie on their own, notes.

    Raises:
        UserError: as :func:`read`.
    """
    n_epochs = whole_epochs(file.seconds)
    if night.scored is None:
        raise UserError(f"{night.path}: no file of stages; fetch it or move this away")
    recorded = expert_annotations.recorded_of(file)
    if night.stages.format == "auto":
        wishes = Wishes(vocabulary=night.stages.vocabulary)
        stages, note = expert_annotations.read(night.scored, file, n_epochs, wishes)
        return stages, None, [note] if note else []
    epochs = night.profile.epochs
    declared = Declared(night.scored, night.stages, epochs.seconds)
    rows, notes = stage_words.coded(
        scored_rows.rows_of(declared, recorded), night.stages.words, night.scored
    )
    rows = scored_rows.with_lengths(rows, declared, file.seconds)
    if epochs.grid == "stages":
        own = own_onsets.placed(rows, epochs, file.seconds, night.scored)
        onsets = None if own_onsets.are_counted(own.onsets) else own.onsets
        return own.stages, onsets, [*notes, *own.notes]
    placed = _runs(rows)
    notes += _of_ends(placed, night, file.seconds)
    stages, assumed = placement.of_times(placed, recorded, night.scored)
    return stages_from_bouts(bouts_of(stages), n_epochs), None, [*notes, *assumed]


def _runs(rows: Coded) -> list[placement.Placed]:
    """Rows in order, those that follow each other with one stage as one."""
    runs: list[placement.Placed] = []
    for row, code in rows:
        last = runs[-1] if runs else None
        if last and last.code == code and abs(last.end - row.onset) <= placement.TOLERANCE:
            runs[-1] = replace(last, seconds=row.onset + row.seconds - last.onset)
        else:
            runs.append(placement.Placed(row.onset, row.seconds, code, row.word))
    return runs


def _of_ends(placed: Sequence[placement.Placed], night: Night, seconds: float) -> list[str]:
    """A note on how much longer or shorter stages are than the signal.

    Raises:
        UserError: by more epochs than the profile allows.
    """
    epochs = night.profile.epochs
    difference = (max(one.end for one in placed) - seconds) / epochs.seconds
    extra = math.ceil(difference - 1e-6)
    missing = math.floor(-difference + 1e-6)
    # a recording that was cut has fewer epochs than its stages
    if extra > epochs.extra and not night.options.salvage:
        raise UserError(
            f"{night.scored}: ends {extra} epochs after {night.path.name}; the "
            f"profile allows {epochs.extra} (epochs.extra)"
        )
    if epochs.missing is not None and missing > epochs.missing:
        raise UserError(
            f"{night.scored}: ends {missing} epochs before {night.path.name}; the profile allows "
            f"{epochs.missing} (epochs.missing)"
        )
    if extra > 0:
        return [f"{extra} epochs of stages after the signal's end"]
    return [f"{missing} epochs of signal after the last stage"] if missing > 0 else []
