"""NSRR cohorts: which files belong together, and how they are read.

SHHS, MESA, MrOS, WSC and APPLES are known by the names of their files; of another cohort a stem is
a recording, and a pattern marks the part of it that is the subject.

sleepdata.org, under a data-use agreement. Subjects are identified by cohort and number, so that the
visits of one subject stay together; a night that cannot be read is refused by name, never skipped
in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.readers.channels import find_role
from datasets.readers.discovery import files_below
from datasets.readers.edf import EdfFile
from datasets.readers.recording import Recording, bouts_of, stages_from_bouts, whole_epochs
from datasets.readers.scorings import nsrr_annotations as annotations
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, UNSCORED

COHORTS = ("shhs", "mesa", "mros", "wsc", "apples")
_SUSPECT_SLEEP = 240  # epochs of sleep, two hours, in which one kind alone is no staging
# subject (person) and visit in the stem of an EDF; the file itself may end in "-nsrr"
_STEMS = {
    "shhs": re.compile(r"shhs(?P<visit>\d)-(?P<person>\d+)"),
    "mesa": re.compile(r"mesa-sleep-(?P<person>\d+)"),
    "mros": re.compile(r"mros-visit(?P<visit>\d)-(?P<person>aa\d+)"),
    "wsc": re.compile(r"wsc-visit(?P<visit>\d)-(?P<person>\d+)"),
    "apples": re.compile(r"apples-(?P<person>\d+)"),
}
# endings of annotation files; the first two are XML
_KINDS = ("-nsrr.xml", "-profusion.xml", ".stg.txt", ".log.txt", ".allscore.txt", ".annot")


@dataclass(frozen=True)
class Key:
    """Identity of a night: recording id, subject (with the cohort before it) and visit."""

    id: str
    subject: str
    visit: int


@dataclass(frozen=True)
class Options:
    """How nights are read: channels by role, which annotation decides, and what is tolerated."""

    channels: Mapping[str, Sequence[str]]
    roles: tuple[str, ...]
    annotation: str = "both"
    max_mismatch: int = 5
    keep_unlabelled: bool = False
    keep_suspect: bool = False
    salvage: bool = False
    person: str | None = None


@dataclass(frozen=True)
class Source:
    """One night's files; ``scored`` by the ending of each annotation file's name."""

    path: Path
    cohort: str
    scored: Mapping[str, Path]
    options: Options

    @property
    def key(self) -> Key:
        """Recording id, subject and visit."""
        return key_of(self.cohort, self.path.stem, self.options.person)

    @property
    def id(self) -> str:
        """The recording's id."""
        return self.key.id

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything the night is made from."""
        return (self.path, *self.scored.values())


def key_of(cohort: str, stem: str, person: str | None = None) -> Key:
    """Recording id, subject and visit from a file's stem, with or without ``-nsrr``.

    ``person`` is, for cohorts not known here, a pattern whose groups ``person`` (or first group)
    and ``visit`` are looked for; without one the whole stem is the subject.

    Raises:
        UserError: the stem is not of that cohort, or the pattern is none.
    """
    name = stem.lower().removesuffix("-nsrr")
    match = _pattern(cohort, person).fullmatch(name)
    if match is None:
        raise UserError(f"{stem}: not a file name of {cohort.upper()}")
    named = match.groupdict()
    who = named.get("person") or (match[1] if match.groups() else name)
    return Key(name, f"{cohort}-{who}", int(named.get("visit") or 1))


def _pattern(cohort: str, person: str | None) -> re.Pattern:
    if cohort in _STEMS:
        return _STEMS[cohort]
    try:
        return re.compile(person or ".+", re.IGNORECASE)
    except re.error as error:
        raise UserError(f"--person {person}: not a regular expression ({error})") from error


def find(raw_path: Path, cohort: str, options: Options) -> list[Source]:
    """Every EDF of a cohort below a folder, by id, with its annotation files.

    Raises:
        UserError: there is none, or two of one night.
    """
    scored: dict[str, dict[str, Path]] = {}
    files = files_below(raw_path) if raw_path.exists() else []
    for path in files:
        kind = next((kind for kind in _KINDS if path.name.lower().endswith(kind)), None)
        if kind is not None:
            stem = path.name.lower().removesuffix(kind).removesuffix("-nsrr")
            scored.setdefault(stem, {})[kind] = path
    sources: dict[str, Source] = {}
    for path in files:
        if path.suffix.lower() != ".edf":
            continue
        stem = path.stem.lower().removesuffix("-nsrr")
        if _pattern(cohort, options.person).fullmatch(stem) is None:
            continue
        name = key_of(cohort, path.stem, options.person).id
        if name in sources:
            raise UserError(f"{path}: a second EDF of {name}, beside {sources[name].path}")
        sources[name] = Source(path, cohort, scored.get(name, {}), options)
    if not sources:
        raise UserError(
            f"{raw_path}: no EDF of {cohort.upper()} there; fetch it from sleepdata.org, or make "
            f"synthetic ones with generate_demo_data.py --format nsrr --cohort {cohort}"
        )
    return [sources[name] for name in sorted(sources)]


def read(source: Source) -> Recording:
    """One night: signals by role, stages from the EDF's start, and what had to be decided.

    Raises:
        UserError: files that cannot be read, or that do not fit together.
    """
    # cohorts are de-identified, and some files have no date left
    file = EdfFile(source.path, salvage=source.options.salvage)
    matched = {
        role: find_role(file, role, source.options.channels.get(role, ()))
        for role in source.options.roles
    }
    present = {role: one for role, one in matched.items() if one is not None}
    stages, notes = stages_of(source, file)
    n_epochs = min(whole_epochs(file.seconds), len(stages))
    notes += [*file.notes, *(one.note for one in present.values() if one.note)]
    key = source.key
    bouts = bouts_of(stages)
    return Recording(
        id=key.id,
        subject=key.subject,
        night=key.visit,
        signals={role: one.signal for role, one in present.items()},
        bouts=bouts,
        stages=stages_from_bouts(bouts, n_epochs)[:n_epochs],
        start=file.start,
        note="; ".join(notes) or None,
        derivations={role: one.derivation for role, one in present.items()},
        labels=[channel.label for channel in file.channels],
    )


def stages_of(source: Source, file: EdfFile) -> tuple[np.ndarray, list[str]]:
    """Stages cut to the signal, and what had to be decided.

    Raises:
        UserError: nobody scored the night, or its annotation is of another length, or of wake and
            sleep alone.
    """
    n_epochs, options = whole_epochs(file.seconds), source.options
    if not set(source.scored) - {".log.txt"}:  # WSC's log has times and no stages
        if not options.keep_unlabelled:
            raise UserError(
                f"{source.path}: no annotation beside it; --unlabelled keep prepares it without "
                "stages"
            )
        return np.full(n_epochs, UNSCORED, np.int8), ["unlabelled"]
    stages, note = _read_stages(source, file, n_epochs)
    notes = [note] if note else []
    difference = len(stages) - n_epochs
    if abs(difference) > options.max_mismatch:
        raise UserError(
            f"{source.path}: {n_epochs} epochs of signal, {len(stages)} of stages; more than "
            f"--max_mismatch {options.max_mismatch} apart"
        )
    if abs(difference) > 1:
        notes.append(f"{len(stages)} epochs of stages for {n_epochs} of signal, cut")
    if is_suspect(stages):
        if not options.keep_suspect:
            raise UserError(
                f"{source.path}: scored as wake and sleep alone; --keep_suspect prepares it"
            )
        notes.append("suspect: scored as wake and sleep alone")
    return stages[:n_epochs], notes


def is_suspect(stages: np.ndarray) -> bool:
    """Whether a night is scored as wake and sleep alone: over 2 h of sleep, no N1, N3 or REM."""
    return bool((stages > 0).sum() > _SUSPECT_SLEEP and not np.isin(stages, (1, 3, 4)).any())


def _read_stages(source: Source, file: EdfFile, n_epochs: int) -> tuple[np.ndarray, str]:
    scored = source.scored
    # WSC was scored in two programs, Gamma (.stg) and Twin (.allscore); .annot is APPLES'
    if path := scored.get(".stg.txt"):
        return annotations.read_wsc_gamma(path, n_epochs), _clock_note(source, file)
    if path := scored.get(".allscore.txt"):
        return annotations.read_wsc_twin(path, n_epochs, file.start), ""
    if path := scored.get(".annot"):
        return annotations.read_apples(path, file.start, n_epochs), ""
    return _of_xml(source, file.seconds)


def _of_xml(source: Source, seconds: float) -> tuple[np.ndarray, str]:
    """Stages of one XML file, or of both if they agree; --annotation decides if they do not."""
    wanted = source.options.annotation
    nsrr, profusion = (source.scored.get(kind) for kind in _KINDS[:2])
    # "both" is no key: it is content with either file
    if {"nsrr": nsrr, "profusion": profusion}.get(wanted, source.path) is None:
        raise UserError(f"{source.path}: no {wanted} annotation beside it")
    if wanted == "profusion" or nsrr is None:
        return annotations.read_profusion(profusion), ""
    stages = annotations.read_nsrr(nsrr, seconds)
    if wanted == "nsrr" or profusion is None:
        return stages, ""
    return annotations.reconciled(stages, annotations.read_profusion(profusion), source.path)


def _clock_note(source: Source, file: EdfFile) -> str:
    """A note if the scorer's log starts the recording at another time than the EDF, else ""."""
    path = source.scored.get(".log.txt")
    clock = annotations.read_wsc_log(path) if path else None
    if clock is None or file.start is None:
        return ""
    if abs(late := annotations.apart(clock, file.start)) <= EPOCH_SECONDS:
        return ""
    return f"its log starts the recording {late:+.0f} s from the EDF"
