"""What every stager is: a name, the channels it reads, and a night of a file staged by it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.gaps import bridged
from datasets.quality import quality_flags, without_signal
from datasets.readers import expert_annotations
from datasets.readers.any_file import AnyFile, recording_of
from datasets.readers.channels import MatchedChannel, match
from datasets.readers.missing import mended
from datasets.readers.recording import Recording
from datasets.readers.scorings.scoring import Wishes
from evaluation.page_channels import matched
from evaluation.staged_file import Explainer, StagedFile
from utils.errors import UserError
from utils.staged_night import Vote
from utils.stages import UNSCORED


@dataclass(frozen=True)
class Asked:
    """What the user decides: channels by label or role, the expert's file, age and sex.

    Several channels of a role are staged each and averaged; ``all`` stands for every one of the
    role. ``expert`` None takes a file of stages beside the recording if there is one, "none" takes
    none; ``scoring`` is what the user decides about it. ``age`` in years and ``sex``, male or
    female, are used by stagers that know them. With ``score_everything`` epochs without a signal
    have a stage, too. ``page_channels`` are further ones that the page shows.
    """

    channels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    expert: str | None = None
    age: int | None = None
    sex: str | None = None
    scoring: Wishes = field(default_factory=Wishes)
    score_everything: bool = False
    page_channels: Sequence[str] = ()


@dataclass(frozen=True)
class Computed:
    """What a stager makes of a recording: probabilities (n, 5), and the signals it read.

    ``signals`` (n, c, t) with ``mean`` and ``sd`` (c,), which bring them back to ``unit``, belong
    to the channels ``labels``; ``explainer`` explains the stages.
    """

    probabilities: np.ndarray
    signals: torch.Tensor
    mean: np.ndarray
    sd: np.ndarray
    unit: str
    labels: Sequence[str]
    explainer: Explainer
    votes: Sequence[Vote] = ()
    notes: Sequence[str] = ()


class Stager(ABC):
    """Stages files.

    ``fingerprint`` changes whenever its answers could, together with ``preparation``, what is done
    to signals before its weights see them, as JSON can hold it. ``roles`` are the keys by which a
    user names channels for it, ``joint`` whether it reads all channels of a role at once.
    ``demographics``: it uses age and sex.
    """

    name: str
    headline: str
    fingerprint: str
    preparation: Any = None
    joint: bool = False
    demographics: bool = False

    @property
    @abstractmethod
    def roles(self) -> Sequence[str]:
        """Labels and roles of the channels that it reads."""

    @abstractmethod
    def stage(self, file: AnyFile, asked: Asked) -> StagedFile:
        """Stage one file by one channel for each key of ``asked`` (all, if ``joint``).

        Raises:
            UserError: a file that cannot be read, or lacks a channel that the stager needs.
        """


class ChannelStager(Stager):
    """Stages files by channels of its own choice: all stagers but those that are made of others.

    ``bridges_gaps``: epochs without a signal get that of the nearest recorded one.
    """

    bridges_gaps: bool = False

    @abstractmethod
    def wanted(self, file: AnyFile, asked: Asked) -> list[tuple[str, str]]:
        """Labels and roles of the channels that it would read of a file."""

    @abstractmethod
    def needs(self, label: str) -> bool:
        """Whether it stages nothing without the channel of that label."""

    @abstractmethod
    def compute(
        self,
        recording: Recording,
        wanted: Sequence[tuple[str, str]],
        matches: Mapping[str, MatchedChannel],
        asked: Asked,
    ) -> Computed:
        """Stage a recording by its matched channels, of the labels and roles ``wanted``."""

    def stage(self, file: AnyFile, asked: Asked) -> StagedFile:
        """Stage one file by the channels that match; see :meth:`Stager.stage`."""
        wanted = self.wanted(file, asked)
        chosen = {key: names[0] for key, names in asked.channels.items()}
        as_recorded = match(file, wanted, {} if self.joint else chosen)
        matches = self.refined(as_recorded)
        absent = [label for label, _ in wanted if label not in matches]
        if not matches or any(self.needs(label) for label in absent):
            lacking = ", ".join(label for label in absent if self.needs(label) or not matches)
            present = ", ".join(channel.label for channel in file.channels)
            notes = "".join(f"; {note}" for note in file.notes)
            raise UserError(
                f"{file.path}: no channel for {lacking}, which the model needs; it has "
                f"{present or 'none'}{notes}; name those that stand for them with --channels, or "
                "choose another --model"
            )
        recording, notes = recording_of(file, matches), []
        if self.bridges_gaps:
            recording, n = bridged(recording)
            notes = [f"{n} epochs have no signal: staged as the nearest that has"] if n else []
        else:
            recording = mended(recording)
        computed = self.compute(recording, wanted, matches, asked)
        n_epochs = len(computed.probabilities)
        assumed = [one.note for one in matches.values() if one.note]
        notes = [*file.notes, *assumed, *notes, *computed.notes]
        channels = {label: matches[label].derivation for label in computed.labels}
        path, expert = expert_of(file, asked, n_epochs, notes)
        flags, lost = quality_of(file, wanted, as_recorded, n_epochs)
        return StagedFile(
            recording=recording.id,
            subject=recording.id,
            probabilities=computed.probabilities,
            expert=expert,
            start=recording.start.isoformat() if recording.start else None,
            clock=file.clock.isoformat() if file.clock else None,
            seconds=file.seconds,
            quality_flags=flags,
            lost=None if asked.score_everything else lost,
            votes=computed.votes,
            signals=computed.signals,
            mean=computed.mean,
            sd=computed.sd,
            unit=computed.unit,
            channels=channels,
            roles=[dict(wanted)[label] for label in computed.labels],
            reads=channels,
            headline=self.headline,
            explainer=computed.explainer,
            absent=absent,
            notes=notes,
            expert_path=path,
            recorded=[
                matched(as_recorded[label], role) for label, role in wanted if label in as_recorded
            ],
        )

    def refined(self, matches: dict[str, MatchedChannel]) -> dict[str, MatchedChannel]:
        """The matched channels as this stager takes them: unchanged, usually."""
        return matches


def without_assumed_unit(channel: MatchedChannel) -> MatchedChannel:
    """The channel without the unit that was assumed for it: the stager sets its level itself."""
    if channel.is_sized:
        return channel
    note = re.sub(", taken as [munV]+", "", channel.note)
    return replace(channel, signal=replace(channel.signal, unit=""), note=note)


def quality_of(
    file: AnyFile,
    wanted: Sequence[tuple[str, str]],
    matches: Mapping[str, MatchedChannel],
    n_epochs: int,
) -> tuple[list[str], np.ndarray]:
    """Quality flags of the epochs (n,), by the limits of brain and eyes, and which lack a signal.

    An epoch in which every EEG is flat (without an EEG: every EOG) lacks one.
    """
    by_kind = {
        kind: [matches[label] for label, role in wanted if label in matches and kind in role[:3]]
        for kind in ("EEG", "EOG")
    }
    read = [one for ones in by_kind.values() for one in ones]
    signals = {one.derivation: one.signal for one in read}
    sized = {one.derivation for one in read if one.is_sized}
    flags = quality_flags(signals, sized, file.gaps, n_epochs)
    decisive = by_kind["EEG"] or by_kind["EOG"]
    return flags, without_signal(flags, [one.derivation for one in decisive])


def expert_of(
    file: AnyFile, asked: Asked, n_epochs: int, notes: list[str]
) -> tuple[Path | None, np.ndarray]:
    """The expert's file and stages; one that was not asked for and is broken becomes a note.

    Raises:
        UserError: the file that was named cannot be read, or scores nothing of this recording.
    """
    nobody = np.full(n_epochs, UNSCORED, np.int8)
    path = Path(asked.expert) if asked.expert not in (None, "none") else None
    wish = asked.scoring.vocabulary or asked.scoring.table
    if asked.expert == "none":
        notes += [f"{wish!r} is not used: no expert's stages are asked for"] if wish else []
        return None, nobody
    if path is None and file.path.is_file():  # recordings in memory have nothing beside them
        path = expert_annotations.find(file.path)
        passed_over = expert_annotations.exports_beside(file.path)
        notes += [f"{one.name}: stages of a program, not taken for an expert's"
                  for one in passed_over]  # fmt: skip
        others = expert_annotations.others_beside(file.path, path) if path else []
        notes += [f"{one.name}: could be the expert's, too; {path.name} is read, as --expert names "
                  "none" for one in others]  # fmt: skip
    assumed: list[str] = []
    try:
        if path is None:
            notes += [f"{wish!r} is not used: no expert's file lies there"] if wish else []
            path, stages = file.path, within(file, n_epochs, assumed)
        else:
            stages, note = expert_annotations.read(path, file, n_epochs, asked.scoring)
            assumed += [note] if note else []
    except UserError as error:
        if asked.expert is not None:
            raise
        # a file beside the recording that nobody named must not keep it from being staged
        notes.append(f"no agreement: {error}")
        return None, nobody
    notes += [f"{path.name}: {note}" for note in assumed]
    if stages is None or (stages == UNSCORED).all():
        return None, nobody
    return path, stages


def within(file: AnyFile, n_epochs: int, notes: list[str]) -> np.ndarray | None:
    """Stages in the recording's own file, if any: a Dreem hypnogram, or EDF+ annotations."""
    if file.stages is not None:
        return file.stages[:n_epochs]
    if not file.is_plus:
        return None
    return expert_annotations.of_annotations(file, n_epochs, notes)
