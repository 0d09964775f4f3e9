"""A night of a declared cohort: signals by role, stages as the profile reads them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from datasets.readers import expert_annotations
from datasets.readers.any_file import AnyFile
from datasets.readers.channels import find_role
from datasets.readers.profiles import grid_epochs, own_onsets, scored_rows, stage_words
from datasets.readers.profiles.cohort_nights import Night
from datasets.readers.profiles.scored_rows import Declared
from datasets.readers.recording import Bout, FileSignals, Recording, bouts_of, whole_epochs
from datasets.readers.scorings.scoring import Wishes
from datasets.readers.signal_files import opened
from utils.errors import UserError
from utils.stages import UNSCORED


@dataclass(frozen=True)
class ScoredNight:
    """Stages (n,) int8 with the scorer's bouts and notes, ``onsets`` as in ``Recording``."""

    stages: np.ndarray
    bouts: tuple[Bout, ...]
    notes: tuple[str, ...]
    onsets: np.ndarray | None = None


def read(night: Night) -> Recording:
    """One night: signals by role (by label if the options name no roles), and its stages.

    Raises:
        UserError: a file cannot be read or is not as declared, or nothing is scored.
    """
    file = opened(night.path, night.signals, salvage=night.options.salvage)
    signals, derivations, notes = _signals(night, file)
    scored = stages_of(night, file)
    if (scored.stages == UNSCORED).all():
        raise UserError(f"{night.scored}: scores no epoch of {night.path.name}; check the pair")
    notes = [*file.notes, *notes, *_of_another_scorer(night), *scored.notes]
    return Recording(
        id=night.id,
        subject=night.subject,
        night=night.night,
        signals=signals,
        bouts=scored.bouts,
        stages=scored.stages,
        start=file.start,
        note="; ".join(dict.fromkeys(notes)) or None,
        derivations=derivations,
        onsets=scored.onsets,
        labels=[channel.label for channel in file.channels],
    )


def _of_another_scorer(night: Night) -> list[str]:
    """A note where nobody asked for a scoring, and the first of the profile is not there."""
    usual, own = night.profile.stages[0].name, night.stages.name
    if night.options.scoring or own == usual:
        return []
    return [f"has no scoring of {usual}: stages are of {own}, unlike those of other nights"]


def _signals(night: Night, file: AnyFile) -> tuple[dict | FileSignals, dict[str, str], list[str]]:
    """Signals by role and what they are made of, or all of the file by label."""
    if not night.options.roles:
        return FileSignals(file, night.signals.unit), {}, []
    by_role = {
        role: find_role(file, role, night.profile.roles.get(role, ()), blank=night.signals.unit)
        for role in night.options.roles
    }
    matched = {role: one for role, one in by_role.items() if one is not None}
    return (
        {role: one.signal for role, one in matched.items()},
        {role: one.derivation for role, one in matched.items()},
        [one.note for one in matched.values() if one.note],
    )


def stages_of(night: Night, file: AnyFile) -> ScoredNight:
    """Stages of a night's epochs, and where these lie.

    Raises:
        UserError: as :func:`read`.
    """
    if night.scored is None:
        files = " or ".join(one.file for one in night.profile.stages)
        raise UserError(f"{night.path}: no stages beside it ({files}); fetch them or move it")
    if night.stages.format == "auto":
        wishes = Wishes(vocabulary=night.stages.vocabulary)
        n_epochs = whole_epochs(file.seconds)
        stages, note = expert_annotations.read(night.scored, file, n_epochs, wishes)
        return ScoredNight(stages, bouts_of(stages), (note,) if note else ())
    epochs, recorded = night.profile.epochs, expert_annotations.recorded_of(file)
    if night.options.salvage:  # a recording that was cut has fewer epochs than its stages
        epochs = replace(epochs, extra=None)
    declared = Declared(night.scored, night.stages, epochs.seconds)
    rows = scored_rows.rows_of(declared, recorded)
    rows, notes = stage_words.coded(rows, night.stages.words, night.scored)
    notes = [*declared.notes, *notes]
    rows = scored_rows.with_lengths(rows, declared, file.seconds)
    if epochs.grid != "stages":
        is_list = night.stages.format in ("list", "profusion")
        grid = grid_epochs.placed(rows, epochs, recorded, night.scored, is_list=is_list)
        return ScoredNight(grid.stages, grid.bouts, (*notes, *grid.notes))
    own = own_onsets.placed(rows, epochs, file.seconds, night.scored)
    onsets = None if own_onsets.are_counted(own.onsets) else own.onsets
    return ScoredNight(own.stages, bouts_of(own.stages), (*notes, *own.notes), onsets)
