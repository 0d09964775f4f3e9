"""Several models, and several derivations of a role, staged each and averaged."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from datasets.readers.any_file import AnyFile
from datasets.readers.derivations import every_derivation
from evaluation.page_channels import asked_for, merged
from evaluation.staged_file import StagedFile
from evaluation.stagers.stager import Asked, Stager
from utils.arguments import nearest
from utils.errors import UserError
from utils.staged_night import Vote, mean_of

ALL = "all"


def stage_file(
    file: AnyFile,
    stagers: Sequence[Stager],
    asked: Asked,
    progress: Callable[[str], None] = lambda step: None,
) -> StagedFile:
    """Stage a file by every stager and every choice of channels; the mean of all, with the votes.

    Every stager has the same weight, whatever the number of its derivations or members.
    ``progress`` is called with each step before it begins.

    Raises:
        UserError: a channel is asked for that no stager reads, or as
            :meth:`evaluation.stagers.stager.Stager.stage`.
    """
    if not stagers:
        raise UserError("no model is named; `predict.py --list_models` lists them")
    check_keys(stagers, asked.channels)
    check_demographics(stagers, asked)
    others, staged = asked_for(file, asked.page_channels), []
    for stager in stagers:
        choices = choices_of(file, stager, asked.channels)
        for choice in choices:
            name = stager.name if len(choices) == 1 else f"{stager.name} {named(choice)}"
            progress(f"staging by {name}")
            one = stager.stage(file, replace(asked, channels=choice))
            staged.append((name, 1 / len(choices) / len(stagers), one))
    if len(staged) == 1:
        night = staged[0][2]
        return replace(night, recorded=merged(night.recorded, others))
    # files of one name in other folders: tables have a column for each
    names = [name for name, _, _ in staged]
    numbered = [f"{name} ({k})" for k, name in enumerate(names, start=1)]
    night = combined(
        [
            (number if names.count(name) > 1 else name, weight, night)
            for number, (name, weight, night) in zip(numbered, staged, strict=True)
        ]
    )
    return replace(night, recorded=merged(night.recorded, others))


def check_keys(stagers: Sequence[Stager], channels: Mapping[str, Sequence[str]]) -> None:
    """Refuse channels of a role that no stager reads.

    Raises:
        UserError: naming the role, and those that are read.
    """
    known = list(dict.fromkeys(role for stager in stagers for role in stager.roles))
    if unknown := [key for key in channels if key not in known]:
        raise UserError(
            f"--channels {unknown[0]}=…: the model reads no {unknown[0]}; it reads "
            f"{', '.join(known)}{nearest(unknown[0], known)}"
        )


def check_demographics(stagers: Sequence[Stager], asked: Asked) -> None:
    """Refuse an age and sex that are not both given, make no sense, or that no stager uses.

    Raises:
        UserError: as said.
    """
    if asked.age is None and asked.sex is None:
        return
    if asked.age is None or asked.sex not in ("female", "male") or not 0 < asked.age < 120:
        raise UserError(
            f"age {asked.age}, sex {asked.sex}: give both, years from 1 to 119 and female or male"
        )
    if not any(stager.demographics for stager in stagers):
        names = ", ".join(stager.name for stager in stagers)
        raise UserError(f"age {asked.age}: none of {names} uses it; yasa does")


def choices_of(
    file: AnyFile, stager: Stager, channels: Mapping[str, Sequence[str]]
) -> list[dict[str, tuple[str, ...]]]:
    """Every choice of channels that a stager makes of those asked for, by its own keys.

    Raises:
        UserError: ``all`` of a role that the file has no channel of.
    """
    own = {key: names for key, names in channels.items() if key in stager.roles}
    named_all = {key: expanded(file, key, names) for key, names in own.items()}
    if stager.joint:
        return [{key: tuple(names) for key, names in named_all.items()}]
    return [
        dict(zip(named_all, ((name,) for name in combination), strict=True))
        for combination in itertools.product(*named_all.values())
    ]


def expanded(file: AnyFile, role: str, names: Sequence[str]) -> list[str]:
    """The names, with those of every derivation of the role in place of ``all``."""
    if ALL not in names:
        return list(names)
    labels = [one.derivation for one in every_derivation(file, role)]
    if not labels:
        present = ", ".join(channel.label for channel in file.channels)
        raise UserError(f"{file.path}: no {role} channel; it has {present}")
    return labels


def named(choice: Mapping[str, Sequence[str]]) -> str:
    """A choice of channels as text: ``C4-M1, E1-M2``."""
    return ", ".join(names[0] for names in choice.values())


def combined(staged: Sequence[tuple[str, float, StagedFile]]) -> StagedFile:
    """One night of several: (name, weight, night); signals and reasons are those of the first."""
    nights = [night for _, _, night in staged]
    votes = [vote for name, weight, night in staged for vote in votes_of(name, weight, night)]
    names = list(dict.fromkeys(name.split()[0] for name, _, _ in staged))
    return replace(
        nights[0],
        probabilities=mean_of(votes),
        votes=votes,
        quality_flags=[
            "; ".join(dict.fromkeys(words for flag in flags for words in flag.split("; ") if words))
            for flags in zip(*(night.quality_flags for night in nights), strict=True)
        ],
        # what any of them could stage is staged
        lost=None
        if any(night.lost is None for night in nights)
        else np.logical_and.reduce([night.lost for night in nights]),
        notes=list(dict.fromkeys(note for night in nights for note in night.notes)),
        reads={
            f"{name}: {label}": source
            for name, _, night in staged
            for label, source in night.reads.items()
        },
        headline=f"mean of {len(votes)} votes: {', '.join(names)}",
        recorded=merged(*(night.recorded for night in nights)),
    )


def votes_of(name: str, weight: float, night: StagedFile) -> list[Vote]:
    """A night's votes at a share of all, or its own stages as one vote."""
    if not night.votes:
        return [Vote(name, night.probabilities, weight)]
    return [
        Vote(f"{name} {vote.name}", vote.probabilities, weight * vote.weight)
        for vote in night.votes
    ]
