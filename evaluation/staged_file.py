"""A staged recording together with its signals, and with whoever can explain its stages."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from evaluation.night_page import write_page
from evaluation.page_channels import PageChannel, with_events
from interpret.counterfactual_report import add_counterfactuals
from interpret.epochs_of_interest import choose_epochs
from interpret.explain_nights import explain_nights
from interpret.explained_night import ExplainedNight
from interpret.index import INDEX, Entry
from interpret.playing import Player
from interpret.question import Plan
from interpret.second_look import second_look
from interpret.second_look_report import reasons_by_epoch
from utils.errors import UserError
from utils.files import read_json
from utils.staged_night import StagedNight

_STEPS, _MOST_STEPS = 20, 1_600  # of integrated gradients: a page is not waited for much longer


class Explainer(Protocol):
    """What explains stages; ``explains`` names it where several models voted.

    ``maps_signals``: its reasons are maps of the signals that it staged, not of named features.
    """

    explains: str
    maps_signals: bool

    def why_not(self, staged: StagedFile) -> str:
        """Why the stages of this recording cannot be explained, "" if they can."""

    def explain(
        self, night: ExplainedNight, chosen: np.ndarray, plan: Plan, folder: Path, why: Mapping
    ) -> list[Entry]:
        """Explain the epochs ``chosen`` (b,) into ``folder``; returns their index entries."""

    def player(self, night: ExplainedNight) -> Player | None:
        """What plays edited epochs of the night forward; ``None`` if nothing can."""


@dataclass(frozen=True, kw_only=True)
class StagedFile(StagedNight):
    """The staged night of one file, and the signals, units and notes it was staged with.

    ``signals`` (n, c, t) as the model received them, without channels that are ``absent``; ``mean``
    and ``sd`` (c,) bring them back to ``unit``; ``channels`` the file's channel by the model's
    label, ``roles`` (c,) what each is, ``expert_path`` the file of the expert's stages. Where
    several models voted, signals, ``channels`` and explanations are those of the first, and
    ``reads`` are the channels of all. ``headline`` names the model. ``recorded`` are the channels
    that any of them reads, and those asked for, as they lie in the file: the page shows them.
    """

    signals: torch.Tensor
    mean: np.ndarray
    sd: np.ndarray
    unit: str
    channels: Mapping[str, str]
    reads: Mapping[str, str]
    headline: str
    explainer: Explainer
    roles: Sequence[str] = ()
    absent: Sequence[str] = ()
    notes: Sequence[str] = ()
    expert_path: Path | None = None
    recorded: Sequence[PageChannel] = ()

    def explain(
        self, epochs: Sequence[int] | int = 12, *, counterfactuals: int = 0
    ) -> dict[int, dict[str, Any]]:
        """Reasons for the stages of ``epochs``, by number and method, as arrays.

        ``epochs``: numbers, or how many epochs of interest to choose: transitions and uncertain
        ones. Methods on signals have ``signed`` (c, t), evidence for the stage above 0, against it
        below; ``treeshap`` has ``groups`` and their ``contributions``. Complete methods lead from
        ``baseline_value`` to ``value``. For the first ``counterfactuals`` epochs the least edit is
        sought that changes the stage: ``counterfactual`` has a ``sentence`` and the ``edited``
        signals (c, t).

        Raises:
            UserError: no such epoch, or a model whose epochs cannot be explained.
        """
        if reason := self.explainer.why_not(self):
            raise UserError(f"{self.recording}: {reason}")
        chosen = self.epochs_of_interest(epochs)
        with tempfile.TemporaryDirectory() as scratch:
            entries = self.write_reasons(Path(scratch), chosen, counterfactuals=counterfactuals)
            return {entry["epoch"]: _arrays(Path(scratch), entry) for entry in entries}

    def page(
        self, path: Path | str, epochs: Sequence[int] | int = 12, *, counterfactuals: int = 0
    ) -> Path:
        """Write the interactive page of the night: stages, probabilities, traces and reasons.

        ``epochs``, of which 0 explains none, and ``counterfactuals`` as in :meth:`explain`.
        """
        path = Path(path)
        with tempfile.TemporaryDirectory() as scratch:
            return self.write_page(path, Path(scratch), epochs, counterfactuals)

    def write_page(
        self, path: Path, arrays: Path, epochs: Sequence[int] | int, counterfactuals: int = 0
    ) -> Path:
        """Write the page, and the arrays of its explained epochs into the folder ``arrays``."""
        headline, entries = self.headline, []
        chosen = self.epochs_of_interest(epochs)
        if chosen and (reason := self.explainer.why_not(self)):
            headline, chosen = f"{headline}. Not explained. {reason}", {}
        if chosen:
            entries = self.write_reasons(arrays, chosen, counterfactuals=counterfactuals)
        if entries and self.votes:
            headline += f". Explained: {self.explainer.explains}"
        night, again = self.explained_night(), self.second_look(arrays)
        if chosen:  # as long as reasons are asked for: the search takes seconds
            night = with_events(night)
        return write_page(path, night, entries, [], headline, arrays=arrays, second_look=again)

    def second_look(self, arrays: Path | None = None) -> list[dict[str, Any]]:
        """Rows of the epochs for a second look, with the reasons that the folder ``arrays`` has."""
        night, reasons = self.explained_night(), {}
        if arrays is not None and (arrays / INDEX).is_file():
            entries = read_json(arrays / INDEX)["explanations"]
            reasons = reasons_by_epoch(arrays, entries, self.recording)
        return second_look(self, night.channel_epochs(0), night.fs, reasons=reasons)

    def epochs_of_interest(self, epochs: Sequence[int] | int) -> dict[int, str]:
        """Epochs to explain and why each is of interest; those asked for have no reason.

        Raises:
            UserError: the recording has no such epoch.
        """
        if isinstance(epochs, int):
            # without an expert they would be those that are uncertain, which come anyway
            rows = self.second_look() if (self.expert >= 0).any() else []
            again = [row["epoch"] for row in rows]
            return dict(choose_epochs(self.probabilities, self.quality_flags, epochs, again))
        last = len(self.probabilities) - 1
        if wrong := [k for k in epochs if not 0 <= k <= last]:
            raise UserError(f"{self.recording}: no epoch {wrong[0]}; it has 0 to {last}")
        return dict.fromkeys(sorted(set(epochs)), "")

    def write_reasons(
        self,
        folder: Path,
        chosen: Mapping[int, str],
        methods: tuple[str, ...] = ("ig", "eg", "specgrad", "gradcam", "attention"),
        counterfactuals: int = 0,
    ) -> list[Entry]:
        """Explain epochs into ``folder``: an index, and a folder of arrays for each epoch.

        ``methods`` that a model does not allow are left out; stagers of others have their own.
        """
        steps = {"steps": _STEPS, "most_steps": _MOST_STEPS}
        plan = Plan(methods=methods, counterfactuals=counterfactuals, **steps)
        about = {"headline": self.headline, "interpretation": asdict(plan)}

        def explain_one(into: Path, night: ExplainedNight) -> list[Entry]:
            entries = self.explainer.explain(night, np.array(list(chosen)), plan, into, chosen)
            if counterfactuals and (player := self.explainer.player(night)):
                add_counterfactuals(into, night, entries, player, plan)
            return entries

        return explain_nights(folder, [self.explained_night()], explain_one, about)

    def explained_night(self) -> ExplainedNight:
        """The night as explanations and pages take it."""
        return ExplainedNight(
            staged=self,
            signals=self.signals,
            mean=self.mean,
            sd=self.sd,
            channels=tuple(self.channels.values()),
            roles=tuple(self.roles),
            unit=self.unit,
            events={},
            recorded=self.recorded,
        )


def _arrays(folder: Path, entry: Entry) -> dict[str, Any]:
    """Every method's arrays of an epoch, in memory."""
    reasons: dict[str, Any] = {"stage": entry["explained"], "why": entry["why"]}
    for method, about in entry["methods"].items():
        values = {name: about[name] for name in ("value", "baseline_value")}
        with np.load(folder / about["file"]) as arrays:
            reasons[method] = values | {name: arrays[name] for name in arrays.files}
        if "sentence" in about["settings"]:
            reasons[method]["sentence"] = about["settings"]["sentence"]
    return reasons
