"""Counterfactuals: the least edit of an epoch, in a scorer's words, that changes its stage.

Every edit is a ladder of growing amounts. A few rungs are played forward first, then the lowest
that changes the stage is narrowed down by bisection; of all edits the least one is that of the
smallest amount in standard deviations of what it changes, between the epochs of the night.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from interpret.activities import Measured, measured_in
from interpret.edits import Edit, edits_of
from interpret.explained_night import ExplainedNight
from interpret.playing import Player

_COARSE = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of a ladder, played first: the way up need not be monotone
_AT_ONCE = 64  # edited epochs played together
_APART = 60  # epochs between edits that are confirmed in one night
_ROUNDS = 3  # rungs that are climbed where the whole night does not confirm an edit


@dataclass(frozen=True)
class Outcome:
    """What an edit does to its epoch, of ``stage`` with ``probabilities`` (5,) before.

    ``rung`` is the lowest that changes the stage, 0 where none does; ``edited`` (5,) are the
    probabilities at that rung, or at the last one. ``confirmed``: staging the whole edited night
    changes the stage as well; ``None`` where that was not tried.
    """

    edit: Edit
    stage: int
    probabilities: np.ndarray
    rung: int
    edited: np.ndarray
    confirmed: bool | None = None

    @property
    def changes(self) -> bool:
        """Whether any rung changes the stage."""
        return self.rung > 0

    @property
    def amount(self) -> float:
        """Amount of the rung, or of the last one where none changes the stage."""
        return float(self.edit.amounts[self.rung - 1])

    @property
    def deviations(self) -> float:
        """The amount in standard deviations between epochs of the night."""
        return self.amount / self.edit.measured.sd

    @property
    def new_stage(self) -> int:
        """The stage at that rung."""
        return int(self.edited.argmax())

    def added(self) -> np.ndarray:
        """What the edit adds to its channels (c, t), in the night's unit."""
        return self.edit.added(self.rung or len(self.edit))


@dataclass(frozen=True)
class Search:
    """A night, the model that stages it, and what an edit has to reach: ``wanted`` or any other."""

    night: ExplainedNight
    player: Player
    measured: Sequence[Measured]
    wanted: int | None = None
    seed: int = 0

    def changed(self, stage: int, probabilities: np.ndarray) -> bool:
        """Whether probabilities (5,) give an epoch of ``stage`` the stage that is sought."""
        now = int(probabilities.argmax())
        return now != stage and self.wanted in (None, now)

    def play(self, edits: Sequence[tuple[Edit, int]]) -> np.ndarray:
        """Probabilities (b, 5) of epochs with an edit up to a rung, 0 for none."""
        epochs = torch.tensor([edit.epoch for edit, _ in edits])
        parts = []
        with torch.no_grad():
            for rows in torch.arange(len(edits)).split(_AT_ONCE):
                edited = [signals_with(self.night, *edits[k]) for k in rows.tolist()]
                parts.append(self.player(torch.stack(edited), epochs[rows]).float().cpu())
        return torch.cat(parts).numpy() if parts else np.zeros((0, 5), np.float32)


def search_of(
    night: ExplainedNight, player: Player, wanted: int | None = None, seed: int = 0
) -> Search:
    """The search for edits of a night; ``night.roles`` say what its channels are."""
    return Search(night, player, measured_in(night), wanted, seed)


def signals_with(night: ExplainedNight, edit: Edit, rung: int) -> Tensor:
    """Signals of the edited epoch as the model receives them: (m, t)."""
    signals = night.signals[edit.epoch].clone()
    columns = edit.measured.columns
    added = edit.added(rung) / night.sd[columns][:, None]
    signals[columns] += torch.from_numpy(added).to(signals)
    return signals


def outcomes_of(search: Search, epochs: Sequence[int]) -> list[list[Outcome]]:
    """Every edit of every epoch, with the lowest rung that changes the stage.

    A ladder is played at four rungs, then bisected between the last that changes nothing and the
    first that does: at most four rounds of one rung each.
    """
    edits = [
        edit
        for epoch in epochs
        # one stream for each epoch, whatever others are asked for
        for measured in search.measured
        for edit in edits_of(measured, epoch, np.random.default_rng((search.seed, epoch)))
    ]
    before = {e.epoch: p for e, p in zip(edits, search.play([(e, 0) for e in edits]), strict=True)}
    ladders = [_Ladder(edit, int(before[edit.epoch].argmax())) for edit in edits]
    # the last rung first in none of them: all coarse ones at once
    while trials := [(ladder, rung) for ladder in ladders for rung in ladder.next_rungs()]:
        played = search.play([(ladder.edit, rung) for ladder, rung in trials])
        for (ladder, rung), probabilities in zip(trials, played, strict=True):
            ladder.results[rung] = probabilities
            if search.changed(ladder.stage, probabilities):
                ladder.changing.add(rung)
    by_epoch: dict[int, list[Outcome]] = {epoch: [] for epoch in epochs}
    for ladder in ladders:
        by_epoch[ladder.edit.epoch].append(ladder.outcome(before[ladder.edit.epoch]))
    return list(by_epoch.values())


class _Ladder:
    """The search along one edit: rungs played so far, and those that change the stage."""

    def __init__(self, edit: Edit, stage: int) -> None:
        self.edit, self.stage = edit, stage
        self.results: dict[int, np.ndarray] = {}
        self.changing: set[int] = set()

    def next_rungs(self) -> list[int]:
        """Rungs to play next; none once the lowest is known."""
        if not self.results:
            return sorted({max(1, round(share * len(self.edit))) for share in _COARSE})
        if not self.changing:
            return []
        high = min(self.changing)
        low = max((rung for rung in self.results if rung < high), default=0)
        return [(low + high) // 2] if high - low > 1 else []

    def outcome(self, before: np.ndarray) -> Outcome:
        """The result of the search."""
        rung = min(self.changing, default=0)
        edited = self.results[rung or max(self.results)]
        return Outcome(self.edit, self.stage, before, rung, edited)


def least(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The outcome of the smallest amount in deviations, of those that change the stage."""
    changing = [outcome for outcome in outcomes if outcome.changes]
    return min(changing, key=lambda outcome: outcome.deviations, default=None)


def confirmed(search: Search, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Outcomes of different epochs, each checked by staging the whole night with its edit in it.

    The night is scaled again as its edits change it. Edits far apart are checked in one night. An
    edit that fails climbs a few rungs, and is ``confirmed`` or not.
    """
    done, waiting = {}, list(outcomes)
    for _ in range(_ROUNDS):
        failed = []
        for group in _far_apart(waiting):
            for one, edited in zip(group, _in_whole_night(search, group), strict=True):
                held = search.changed(one.stage, edited)
                kept = edited if held else one.edited
                done[one.edit.epoch] = replace(one, edited=kept, confirmed=held)
                if not held and one.rung < len(one.edit):
                    failed.append(replace(one, rung=one.rung + 1))
        waiting = failed
    return [done[outcome.edit.epoch] for outcome in outcomes]


def _far_apart(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """Groups of outcomes whose epochs do not see each other."""
    groups: list[list[Outcome]] = []
    for outcome in outcomes:
        for group in groups:
            if all(abs(outcome.edit.epoch - other.edit.epoch) >= _APART for other in group):
                group.append(outcome)
                break
        else:
            groups.append([outcome])
    return groups


def _in_whole_night(search: Search, group: Sequence[Outcome]) -> np.ndarray:
    """Probabilities (b, 5) of a group's epochs, in the night with all its edits in it."""
    signals = search.night.signals.clone()
    for outcome in group:
        signals[outcome.edit.epoch] = signals_with(search.night, outcome.edit, outcome.rung)
    if search.night.scaled_by_night:
        # mean and deviation of the edited night, which a recording is scaled by
        shift, size = signals.mean(dim=(0, 2)), signals.std(dim=(0, 2))
        mean, sd = (moment(dim=(0, 2)) for moment in (search.night.signals.mean,
                                                      search.night.signals.std))  # fmt: skip
        gain = torch.where(size > 0, sd / size, 1.0)
        signals = (signals - shift[:, None]) * gain[:, None] + mean[:, None]
    epochs = torch.tensor([outcome.edit.epoch for outcome in group], device=signals.device)
    return search.player.staged(signals, epochs).float().cpu().numpy()
