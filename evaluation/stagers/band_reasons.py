"""Reasons of networks that read band powers: what each band adds to the margin of the stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation.staged_file import StagedFile
from interpret.band_contributions import METHOD, STEPS, band_contributions
from interpret.explained_night import ExplainedNight
from interpret.feature_contributions import FeatureContributions, write_contributions
from interpret.index import Entry
from interpret.playing import Player, mean_player
from interpret.question import Plan
from models.night_bands import BANDS
from utils.stages import STAGES


@dataclass(frozen=True)
class BandReasons:
    """Integrated gradients of the networks ``nets`` on the decibels of a night's ``signals``.

    Explained is the margin of an epoch's stage over the runner-up, the second in the probabilities.
    """

    nets: Sequence[Any]
    signals: Tensor
    explains: str
    maps_signals = False

    def why_not(self, staged: StagedFile) -> str:
        """Nothing keeps epochs from being explained."""
        return ""

    def explain(
        self, night: ExplainedNight, chosen: np.ndarray, plan: Plan, folder: Path, why: Mapping
    ) -> list[Entry]:
        """Write the contributions to the margin at each epoch in ``chosen`` (b,)."""
        reasons, runners_up = self.contributions(night, chosen)
        settings = [{"against": STAGES[code], "steps": STEPS} for code in runners_up]
        return write_contributions(folder, night, chosen, reasons, why, METHOD, settings)

    def contributions(
        self, night: ExplainedNight, chosen: np.ndarray
    ) -> tuple[FeatureContributions, np.ndarray]:
        """Contributions to the margin at each epoch in ``chosen`` (b,), and the runners-up (b,)."""
        stages = night.staged.stages[chosen]
        runners_up = np.argsort(-night.staged.probabilities[chosen], axis=1, kind="stable")[:, 1]
        # of one network, since all are built alike and no weight takes part in it
        db = self.nets[0].decibels(self.signals)[:, 0]
        return (
            band_contributions(self.nets, db, chosen, stages, runners_up, list(BANDS)),
            runners_up,
        )

    def player(self, night: ExplainedNight) -> Player | None:
        """The mean of the networks, if the night holds the signals that they read."""
        # in a mean of stagers it holds those of the part that has maps, prepared alike or not
        if not torch.equal(self.signals, night.signals):
            return None
        nets = {f"{self.explains} {k}": net for k, net in enumerate(self.nets)}
        return mean_player(nets, night.signals)
