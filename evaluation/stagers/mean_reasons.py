"""Reasons of a mean of stagers: those of every part, in one entry for each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from evaluation.staged_file import Explainer, StagedFile
from interpret.explained_night import ExplainedNight
from interpret.index import Entry
from interpret.playing import MeanPlayer, Player, Unplayed
from interpret.question import Plan


@dataclass(frozen=True)
class MeanReasons:
    """Explains by the first of ``parts`` that maps its signals, and by all that need none.

    The night's signals are those of the first part, so that maps and traces belong together.
    ``names`` are those of the parts' votes.
    """

    parts: Sequence[Explainer]
    names: Sequence[str]
    maps_signals = True

    def able(self, staged: StagedFile) -> list[Explainer]:
        """Parts that can explain this night by the signals that it has."""
        first, *others = self.parts
        own = [first, *(part for part in others if not part.maps_signals)]
        return [part for part in own if not part.why_not(staged)]

    @property
    def explains(self) -> str:
        """Names of the parts."""
        first, *others = self.parts
        named = [first, *(part for part in others if not part.maps_signals)]
        return ", ".join(part.explains for part in named)

    def why_not(self, staged: StagedFile) -> str:
        """The first part's reason, where no part can explain."""
        return "" if self.able(staged) else self.parts[0].why_not(staged)

    def explain(
        self, night: ExplainedNight, chosen: np.ndarray, plan: Plan, folder: Path, why: Mapping
    ) -> list[Entry]:
        """Explain epochs by every part; the methods of all are in the entry of each epoch."""
        merged: dict[int, Entry] = {}
        for part in self.able(night.staged):
            for entry in part.explain(night, chosen, plan, folder, why):
                known = merged.setdefault(entry["epoch"], entry)
                known["methods"] |= entry["methods"]
        return [merged[epoch] for epoch in sorted(merged)]

    def player(self, night: ExplainedNight) -> Player | None:
        """The mean of the parts; the vote of one that cannot be played stays what it was."""
        votes = {vote.name: vote for vote in night.staged.votes}
        players = {}
        for name, part in zip(self.names, self.parts, strict=True):
            player = part.player(night)
            # as where derivations were staged each: the votes are others then
            share = votes[name].weight if name in votes else 1 / len(self.parts)
            if player is None and name in votes:
                kept = torch.from_numpy(votes[name].probabilities).to(night.signals.device)
                player = Unplayed(kept)
            if player is not None:
                players[name] = (player, share)
        return MeanPlayer(players) if players else None
