"""What is known of a stager, for the list of models, and what stands for reasons it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.staged_file import StagedFile
from interpret.explained_night import ExplainedNight
from interpret.index import Entry
from interpret.playing import Player
from interpret.question import Plan


@dataclass(frozen=True)
class Package:
    """A package's stager for the list of models; ``n_bytes`` of its weights, 0 if not installed."""

    origin: str
    trained_on: str
    reads: str
    licence: str
    n_bytes: int
    is_here: bool


@dataclass(frozen=True, kw_only=True)
class Listed(Package):
    """A stager as ``--list_models`` describes it; ``where`` it is, or would come from."""

    name: str
    where: str

    def __str__(self) -> str:
        """Four lines of text."""
        size = f"{self.n_bytes / 1e6:.1f} MB, " if self.n_bytes else ""
        size += "here" if self.is_here else "not here"
        return (
            f"{self.name}\n  {self.origin}; {self.licence}; {size}\n  reads {self.reads}; "
            f"trained on {self.trained_on}\n  {self.where}"
        )


@dataclass(frozen=True)
class NotExplained:
    """Stands for an explainer where a stager shows no reasons."""

    explains: str
    reason: str
    maps_signals = False

    def why_not(self, staged: StagedFile) -> str:
        """The reason, whatever was staged."""
        return self.reason

    def explain(
        self, night: ExplainedNight, chosen: np.ndarray, plan: Plan, folder: Path, why: Mapping
    ) -> list[Entry]:
        """Explain nothing."""
        return []

    def player(self, night: ExplainedNight) -> Player | None:
        """Nothing plays it."""
        return None
