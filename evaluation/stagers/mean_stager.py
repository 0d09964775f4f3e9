"""The mean of unlike stagers as one stager; parts that cannot stage a recording are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from datasets.readers.any_file import AnyFile
from datasets.readers.recording import whole_epochs
from evaluation.staged_file import StagedFile
from evaluation.stagers.mean_reasons import MeanReasons
from evaluation.stagers.network_stager import HOUR_EPOCHS, PreparedOnce
from evaluation.stagers.stager import Asked, Stager
from evaluation.stagers.vote import combined
from utils.errors import UserError


@dataclass(frozen=True)
class Part:
    """One stager of a mean: what it was trained on, in a few words.

    ``is_night_relative``: it compares every epoch with the rest of its night, and needs enough of
    it.
    """

    stager: Stager
    trained_on: str
    is_night_relative: bool


class MeanStager(Stager):
    """Stages by each of its parts, which share equally in the mean of the probabilities."""

    def __init__(self, name: str, parts: Sequence[Part], shared: PreparedOnce) -> None:
        self.name, self.parts, self._shared = name, parts, shared
        self.headline = headline_of(parts)
        self.demographics = any(part.stager.demographics for part in parts)
        self.fingerprint = "; ".join(
            f"{part.stager.name}{' of nights' * part.is_night_relative}: {part.stager.fingerprint}"
            for part in parts
        )
        self.preparation = {part.stager.name: part.stager.preparation for part in parts}

    @property
    def roles(self) -> Sequence[str]:
        """Labels and roles of the channels that any part reads."""
        return list(dict.fromkeys(role for part in self.parts for role in part.stager.roles))

    def stage(self, file: AnyFile, asked: Asked) -> StagedFile:
        """Stage one file by every part that can, with a note for each that cannot.

        Raises:
            UserError: no part can, for the reason of the first one.
        """
        parts, notes = self.fitting(file)
        staged, errors = [], []
        for part in parts:
            try:
                staged.append((part, part.stager.stage(file, of_part(asked, part.stager))))
            except UserError as error:
                errors.append(error)
                notes.append(f"{part.stager.name} is left out: {error}")
        self._shared.forget()  # its memory is needed by what follows
        if not staged:
            raise errors[0]
        return mean_of(staged, notes)

    def fitting(self, file: AnyFile) -> tuple[list[Part], list[str]]:
        """Parts that a file is long enough for (all, if it is for none), and a note on others."""
        if whole_epochs(file.seconds) >= HOUR_EPOCHS:
            return list(self.parts), []
        used = [part for part in self.parts if not part.is_night_relative]
        others = [part.stager.name for part in self.parts if part.is_night_relative]
        if not used or not others:
            return list(self.parts), []
        note = f"shorter than an hour, in which {', '.join(others)} has no night to compare with"
        return used, [f"{note}: left out"]


def of_part(asked: Asked, stager: Stager) -> Asked:
    """What is asked of one part: the channels that it reads."""
    channels = {key: names for key, names in asked.channels.items() if key in stager.roles}
    return replace(asked, channels=channels)


def mean_of(staged: Sequence[tuple[Part, StagedFile]], notes: Sequence[str]) -> StagedFile:
    """The mean of the parts' nights, one vote for each; the signals are those that have maps."""
    # stable: the first part whose reasons are maps of its signals, or else the first part
    ordered = sorted(staged, key=lambda one: not one[1].explainer.maps_signals)
    share = 1 / len(staged)
    night = combined([(part.stager.name, share, replace(one, votes=())) for part, one in ordered])
    votes = {vote.name: vote for vote in night.votes}
    return replace(
        night,
        # in the order in which the parts are declared
        votes=[votes[part.stager.name] for part, _ in staged],
        notes=[*night.notes, *notes],
        reads=reads_of(staged),
        headline=headline_of([part for part, _ in staged]),
        explainer=MeanReasons(
            [one.explainer for _, one in ordered], [part.stager.name for part, _ in ordered]
        ),
    )


def reads_of(staged: Sequence[tuple[Part, StagedFile]]) -> dict[str, str]:
    """Channels by label, each once, and by part where parts mean different ones by one label."""
    every = [(label, source) for _, night in staged for label, source in night.reads.items()]
    by_label = dict(every)
    if all(by_label[label] == source for label, source in every):
        # parts may call one channel by several labels: the role is the shortest
        by_source = {by_label[label]: label for label in sorted(by_label, key=len, reverse=True)}
        return {label: source for source, label in by_source.items()}
    return {
        f"{part.stager.name}: {label}": source
        for part, night in staged
        for label, source in night.reads.items()
    }


def headline_of(parts: Sequence[Part]) -> str:
    """The parts and what each was trained on: it stands on every picture."""
    by_nights: dict[str, list[str]] = {}
    for part in parts:
        by_nights.setdefault(part.trained_on, []).append(part.stager.name)
    about = "; ".join(f"{', '.join(names)} ({nights})" for nights, names in by_nights.items())
    return f"mean of {about}" if len(parts) > 1 else about
