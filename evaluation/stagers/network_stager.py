"""Networks as stagers: channels and preparation as their checkpoints have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.readers.any_file import AnyFile
from datasets.readers.channels import MatchedChannel
from datasets.readers.derivations import every_derivation
from datasets.readers.incoming import are_numbers
from datasets.readers.missing import filled
from datasets.readers.recording import Recording
from datasets.readers.wishes import parts_of
from datasets.store.filters import resample
from datasets.store.preparation import (
    EQUALISED,
    ROBUST,
    SLOWEST_WAVEFORM_HZ,
    UNITLESS,
    RolePreprocessing,
    Settings,
    formerly_equalised,
    prepare,
    preset_named,
)
from evaluation.stage import load_staging_model
from evaluation.staged_file import Explainer, StagedFile
from evaluation.stagers.band_reasons import BandReasons
from evaluation.stagers.in_microvolt import without_unit
from evaluation.stagers.scaling import is_trimmed, scaled_and_staged
from evaluation.stagers.stager import Asked, ChannelStager, Computed, without_assumed_unit
from interpret import registry
from interpret.explain_nights import explain_epochs
from interpret.explained_night import ExplainedNight
from interpret.index import Entry
from interpret.playing import Player, mean_player
from interpret.prototype_report import add_prototypes
from interpret.prototypes import Prototypes
from interpret.question import Plan
from utils.checkpoint import Checkpoint
from utils.errors import UserError
from utils.staged_night import Vote, mean_of, stage_signals
from utils.stages import EPOCH_SECONDS

_UNITS = {EQUALISED: "µV, equalised", ROBUST: "quartile ranges"}
HOUR_EPOCHS = 120  # of a recording that is long enough to know the rest of its night
_SHORT = 60  # epochs below which a model of equalised spectra knows little of the recorder
_AT_ONCE = 12  # epochs explained together, which bounds the memory
_JOINT = ("EEG", "EOG", "EMG")  # what a model of any channels reads of a file
Prepare = Callable[[Recording, Checkpoint, Sequence[tuple[str, str]]], np.ndarray]


@dataclass(frozen=True)
class Member:
    """One of several checkpoints that are prepared alike, by a short name.

    ``prototypes`` of its training nights are shown beside epochs that it explains.
    """

    name: str
    checkpoint: Checkpoint
    prototypes: Prototypes | None = None


class NetworkStager(ChannelStager):
    """Checkpoints of one preparation; where they are several, the mean of their probabilities.

    ``prepare`` stands for :func:`prepared` where several stagers share what it makes.
    ``ignores_units``: recordings of an hour or more are prepared as if they named none, so that a
    unit that is wrong, or a gain that nobody corrected, has no effect.

    Raises:
        UserError: a checkpoint that stages nothing, or lacks the preparation of its nights.
    """

    maps_signals = True

    def __init__(
        self,
        name: str,
        members: Sequence[Member],
        device: torch.device,
        *,
        headline: str | None = None,
        prepare: Prepare | None = None,
        ignores_units: bool = False,
        bridges_gaps: bool = False,
    ) -> None:
        self.name, self.device = name, device
        self.ignores_units, self.bridges_gaps = ignores_units, bridges_gaps
        self.prepare = prepare or prepared
        self.checkpoint = members[0].checkpoint
        self.nets = {member.name: opened_net(member.checkpoint) for member in members}
        self.net = next(iter(self.nets.values()))
        self.prototypes = members[0].prototypes
        self.joint = self.net.any_channels
        trained = f"{self.checkpoint.model}, trained on {self.checkpoint.training.cohort}"
        self.headline = headline or trained
        self.explains = name if len(members) == 1 else f"{name} {members[0].name}"
        # the same weights answer otherwise by other settings, such as what spectra are scaled over
        about = json.dumps(dict(self.checkpoint.settings), sort_keys=True, default=str)
        weights = [member.checkpoint.fingerprint() for member in members]
        how = " without units" * ignores_units + " without gaps" * bridges_gaps
        self.fingerprint = f"{'-'.join(weights)} {about}{how}"
        self.preparation = {
            "channels": self.checkpoint.channels,
            "fs": self.checkpoint.fs,
            "standardise": self.checkpoint.standardise,
            "store": self.checkpoint.training.preparation,
        }
        if is_trimmed(self.checkpoint):  # results from before are not reused
            self.preparation["scaled_over"] = self.checkpoint.scaled_over

    @property
    def roles(self) -> Sequence[str]:
        """Labels and roles of the checkpoint's channels."""
        if self.joint:
            return _JOINT
        return list(dict.fromkeys(word for pair in self.checkpoint.channels for word in pair))

    def wanted(self, file: AnyFile, asked: Asked) -> list[tuple[str, str]]:
        """The checkpoint's channels; for a model of any channels those asked for, else all."""
        if not self.joint:
            return list(self.checkpoint.channels)
        if asked.channels:
            named = [(name, role) for role, names in asked.channels.items() for name in names]
            labels = [channel.label for channel in file.channels]
            # matching falls back to the role, which must not stand for a channel asked for
            if unknown := [name for name, _ in named if not parts_of(name, labels)]:
                raise UserError(f"{file.path}: no channel {unknown[0]!r}; it has {labels}")
            return named
        return [
            (one.label, role) for role in _JOINT for one in every_derivation(file, role)
        ] or list(self.checkpoint.channels)

    def needs(self, label: str) -> bool:
        """Every channel, unless the model stages by any of its roles."""
        return not self.joint and self.checkpoint.standardise != "present"

    def refined(self, matches: dict[str, MatchedChannel]) -> dict[str, MatchedChannel]:
        """Channels that the preparation can take.

        Without units that were assumed, where it sets the scale itself; at the model's rate, where
        theirs does not hold its band.
        """
        if is_unitless(self.checkpoint):
            return {label: without_assumed_unit(one) for label, one in matches.items()}
        _, high = self.checkpoint.training.preparation.get("bandpass") or (None, 0.0)
        return {label: at_rate(one, self.checkpoint.fs, high) for label, one in matches.items()}

    def compute(
        self,
        recording: Recording,
        wanted: Sequence[tuple[str, str]],
        matches: Mapping[str, MatchedChannel],
        asked: Asked,
    ) -> Computed:
        """Stage a recording, prepared as the checkpoint's own nights were."""
        if self.joint:
            wanted = [pair for pair in wanted if pair[0] in matches]
        if self.ignores_units and len(recording.stages) >= HOUR_EPOCHS:
            signals = {label: without_unit(one) for label, one in recording.signals.items()}
            recording = replace(recording, signals=signals)
        signals = self.prepare(recording, self.checkpoint, wanted)
        (scaled, mean, sd), votes = scaled_and_staged(signals, self.checkpoint, self.votes)
        x, notes = torch.from_numpy(scaled).to(self.device), []
        if is_unitless(self.checkpoint) and len(x) < _SHORT:
            notes = [f"shorter than {_SHORT * EPOCH_SECONDS // 60} minutes: less reliable"]
        is_sized = all(one.is_sized for one in matches.values())
        unit = _UNITS.get(preset_of(self.checkpoint), "µV" if is_sized else "no unit")
        recorded = [k for k, (label, _) in enumerate(wanted) if label in matches]
        return Computed(
            probabilities=mean_of(votes),
            signals=x[:, recorded],
            mean=mean[recorded],
            sd=sd[recorded],
            unit=unit,
            labels=[wanted[k][0] for k in recorded],
            explainer=self.explainer_of(x),
            votes=votes if len(votes) > 1 else (),
            notes=notes,
        )

    def votes(self, scaled: np.ndarray) -> list[Vote]:
        """What every network makes of scaled signals (n, c, t)."""
        x = torch.from_numpy(scaled).to(self.device)
        probabilities = {
            name: stage_signals(net.to(self.device), x).float().cpu().numpy()
            for name, net in self.nets.items()
        }
        return [Vote(name, p, 1 / len(probabilities)) for name, p in probabilities.items()]

    def explainer_of(self, x: torch.Tensor) -> Explainer:
        """Who explains the stages of the signals ``x`` (n, c, t): networks of band powers apart."""
        if self.net.reads_bands:
            return BandReasons(list(self.nets.values()), x, self.name)
        return self

    def why_not(self, staged: StagedFile) -> str:
        """Models that read whole nights of roles are explained by another script."""
        if self.net.stages_epochs and (self.joint or not staged.absent):
            return ""
        return "Models of whole nights are explained by foundation_evaluate.py"

    def explain(
        self, night: ExplainedNight, chosen: np.ndarray, plan: Plan, folder: Path, why: Mapping
    ) -> list[Entry]:
        """Explain epochs by the first member: by quick methods where windows are encoded anew."""
        if not self.net.separable:
            quick = [name for name in plan.methods if registry.method_named(name).by_layer]
            plan = replace(plan, methods=tuple(quick))
        explained = explain_epochs(self.net, night, chosen, plan, folder, why=why, at_once=_AT_ONCE)
        if explained and self.prototypes is not None:
            add_prototypes(folder, night, self.net, self.prototypes, explained.entries)
        return explained.entries if explained else []

    def player(self, night: ExplainedNight) -> Player:
        """The mean of the networks, each by its own player."""
        return mean_player(self.nets, night.signals)


def opened_net(checkpoint: Checkpoint) -> Any:
    """The checkpoint's model, if it stages.

    Raises:
        UserError: it stages nothing, or its checkpoint lacks the preparation of its nights, or has
            that of an earlier version.
    """
    if checkpoint.training is None or not checkpoint.training.preparation:
        raise UserError(
            f"{checkpoint.path}: how its nights were prepared is not known; convert the weights "
            "again, or train with them here"
        )
    if formerly_equalised(checkpoint.training.preparation):
        raise UserError(
            f"{checkpoint.path}: trained on nights that an earlier version equalised about their "
            "median, as no file is any more; prepare them again and train again"
        )
    return load_staging_model(checkpoint)


def at_rate(channel: MatchedChannel, fs: float, high: float) -> MatchedChannel:
    """The channel, resampled to ``fs`` if its own rate holds nothing as fast as ``high`` Hz.

    The band's filter can be applied then, and finds nothing more than the recorder left. Rates
    below 10 Hz are those of envelopes, which are not filtered.
    """
    signal = channel.signal
    if not SLOWEST_WAVEFORM_HZ <= signal.fs <= 2 * high:
        return channel

    @cache
    def whole() -> np.ndarray:
        samples = signal.read(0, signal.seconds)
        return resample(filled(samples, are_numbers(samples)), signal.fs, fs)

    def read(start: float, stop: float) -> np.ndarray:
        return whole()[round(start * fs) : round(stop * fs)]

    return replace(channel, signal=replace(signal, fs=fs, read=read))


def preset_of(checkpoint: Checkpoint) -> str | None:
    """The preset by which the checkpoint's nights were prepared, and files are too."""
    return preset_named(checkpoint.training.preparation.get("preset"))


def is_unitless(checkpoint: Checkpoint) -> bool:
    """Whether the preparation sets the scale of signals itself, so that no unit is needed."""
    return preset_of(checkpoint) in UNITLESS


def prepared(
    recording: Recording, checkpoint: Checkpoint, wanted: Sequence[tuple[str, str]]
) -> np.ndarray:
    """Epochs (n, c, t) in the checkpoint's channels and rate, filtered as its store was."""
    settings = settings_of(checkpoint, wanted)
    roles = {role: [label for label, own in wanted if own == role] for _, role in wanted}
    return prepare(recording, settings, roles).signals[float(checkpoint.fs)]


class PreparedOnce:
    """As :func:`prepared`, but once for all checkpoints of one preparation, until :meth:`forget`.

    For one recording at a time: signals are known by their channels alone.
    """

    def __init__(self) -> None:
        self._made: dict[Any, np.ndarray] = {}

    def __call__(
        self, recording: Recording, checkpoint: Checkpoint, wanted: Sequence[tuple[str, str]]
    ) -> np.ndarray:
        """Epochs (n, c, t), which nobody may change."""
        # labels are the checkpoint's own names, and no part of what is computed
        settings = replace(settings_of(checkpoint, wanted), channels=())
        present = [
            (role, recording.derivations[label], signal.unit, signal.fs)
            for label, role in wanted
            if (signal := recording.signals.get(label)) is not None
        ]
        key = json.dumps([settings.as_json(), present, len(wanted)])
        if key not in self._made:
            self._made[key] = prepared(recording, checkpoint, wanted)
        return self._made[key]

    def forget(self) -> None:
        """Before the next recording."""
        self._made.clear()


def settings_of(checkpoint: Checkpoint, wanted: Sequence[tuple[str, str]]) -> Settings:
    """How the checkpoint's nights were prepared, for the labels and roles ``wanted`` of a file."""
    made = checkpoint.training.preparation
    kept = None
    # not required: a role that this file lacks is absent, where a store would refuse the night
    if made.get("kept"):
        try:
            kept = {
                label: RolePreprocessing(**made["kept"][role] | {"required": False})
                for label, role in wanted
            }
        except (TypeError, KeyError) as error:
            raise UserError(
                f"{checkpoint.path}: how its roles were prepared cannot be read ({error}); train "
                "again, or fetch it again"
            ) from error
    band = made.get("bandpass")
    return Settings(
        cohort="predict",
        protocol="keep_all",  # every epoch of the file is staged, whatever training kept
        channels=tuple(label for label, _ in wanted),
        bandpass=tuple(band) if band else None,
        fs=float(checkpoint.fs),
        preset=preset_of(checkpoint),
        kept=kept,
    )
