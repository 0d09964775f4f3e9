"""What a profile declares of a cohort: every field, its kind and its meaning, is here.

A profile is a JSON file; ``datasets/cohorts/profiles/`` has those of public cohorts. Paths are
matched without regard to case, from their end: ``SN(?P<person>\\d{3})\\.edf`` is that file in any
folder. Names of groups in a pattern of signals can be used as ``{person}`` wherever a field is
called a template; ``{stem}`` is the name of the signal's file without its suffix.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from datasets.readers.profiles.checked_json import (
    FieldError,
    check_pattern,
    check_positive,
    made_from,
    open_fields,
)
from datasets.readers.profiles.download import Download
from utils.errors import UserError
from utils.json_values import value_in
from utils.stages import EPOCH_SECONDS, STAGES, UNSCORED

FOLDER = Path(__file__).parents[2] / "cohorts" / "profiles"
Stage = Literal["W", "N1", "N2", "N3", "REM", "unscored"]
CODES = {name: code for code, name in enumerate(STAGES)} | {"unscored": UNSCORED}
# fields that say what a night's signals and stages are, as opposed to what is printed about them
_CONTENT = ("signals", "stages", "epochs", "roles", "variants", "person", "night", "id")


@dataclass(frozen=True)
class SignalFiles:
    """Files of signals: a pattern of their paths, and their format.

    Of a recording that lies in a folder in several formats, the first that is declared is read.
    ``gaps``: recordings with pauses (EDF+D) are read, epochs in a pause being unscored. ``rate``
    (Hz) is of arrays that name none (``mat``), ``unit`` of channels that name none, of any format:
    a voltage, or ``unknown`` where nobody knows the gain. ``groups`` are set for templates as if
    the path had them, where one thing is spelt in several ways. ``case``: what the groups of a path
    are spelt in, capitals or small letters, so that one person in both stays one.
    """

    file: str
    format: Literal["edf", "wfdb", "h5", "mne", "mat"]
    gaps: bool = False
    rate: float | None = None
    unit: Literal["", "V", "mV", "uV", "nV", "unknown"] = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    case: Literal["", "upper", "lower"] = ""

    def __post_init__(self) -> None:
        check_pattern("file", self.file)
        if self.format == "mat" and self.rate is None:
            raise FieldError("rate", "is missing; a MATLAB file of arrays does not name it")


@dataclass(frozen=True)
class Words:
    """Which words are which stages, after what is written around them is cut away.

    ``cut_at``: what follows this text is not part of a word. ``prefix``: a stage begins with it,
    and rows that do not are events. ``letters``: so many first letters are the stage. ``map``:
    stages by word, compared without case. ``ignore``: patterns (``*``) of rows that are no stages;
    ``heed``: of those that are all the same, where ``ignore`` passes over free text. ``unknown``:
    what a word is that is neither, an error or an unscored epoch.
    """

    map: Mapping[str, Stage]
    cut_at: str = ""
    prefix: str = ""
    letters: int | None = None
    ignore: tuple[str, ...] = ()
    heed: tuple[str, ...] = ()
    unknown: Literal["error", "unscored"] = "error"

    def __post_init__(self) -> None:
        if not self.map:
            raise FieldError("map", "names no word")
        if len({word.casefold() for word in self.map}) < len(self.map):
            raise FieldError("map", "names a word twice, as case makes no difference")


@dataclass(frozen=True)
class StageFiles:
    """Files of stages: a template of their paths, their format, and what is in them.

    ``file`` may be ``{signal}``, where the stages are in the recording itself. A name with ``*`` is
    looked for beside the recording, and one that begins with ``*/`` below the whole folder.
    ``name`` tells several scorings of one night apart; the first whose file exists is read.

    * ``edf+``: annotations. ``wfdb``: notes of an annotation file.
    * ``table``: rows of ``separator``, with ``columns``, which are ``word``, ``onset``,
      ``duration``, ``end``, by their header (compared by letters alone; ``A|B`` where it is either)
      or their number from 1.
      ``skip``: lines before it. ``most_columns``: what follows the last separator but these is one
      cell, commas and all.
      ``broken``: so many rows that cannot be read are left out, with a note.
    * ``list``: a word for every ``seconds`` (an epoch, unless declared), after ``skip`` lines; the
      words of one epoch have to be the same.
    * ``saf``: text of EDF+ annotations, as Harmonie exports it.
    * ``profusion``: Compumedics' XML, a number per epoch.
    * ``masks``: HDF5 with a mask per stage and sample in the group ``where``, at ``rate`` Hz.
    * ``auto``: any layout that ``--expert`` reads; words are then its own, and none are declared
      (``vocabulary``: what its numbers are).

    ``times``: onsets are seconds from the signal's start, clock times, or samples.
    ``lasts``: as long as its row, its annotation has; an epoch; or until the next stage.
    """

    file: str
    format: Literal["edf+", "wfdb", "table", "list", "saf", "profusion", "masks", "auto"]
    words: Words | None = None
    name: str = ""
    separator: str = ","
    columns: Mapping[str, str | int] = field(default_factory=dict)
    skip: int = 0
    most_columns: int | None = None
    broken: int = 0
    seconds: float | None = None
    times: Literal["seconds", "clock", "samples"] = "seconds"
    lasts: Literal["row", "epoch", "until_next"] = "row"
    where: str = ""
    rate: float | None = None
    vocabulary: str | None = None

    def __post_init__(self) -> None:
        if self.words is None and self.format != "auto":
            raise FieldError("words", f"is missing, which {self.format} needs")
        if self.format == "table" and not {"word", "onset"} <= set(self.columns):
            raise FieldError("columns", "names no column for both word and onset")
        if unknown := set(self.columns) - {"word", "onset", "duration", "end"}:
            raise FieldError(f"columns.{min(unknown)}", "known are word, onset, duration, end")
        if low := [name for name, one in self.columns.items() if isinstance(one, int) and one < 1]:
            raise FieldError(f"columns.{low[0]}", "is no number of a column, from 1")
        if not self.separator:
            raise FieldError("separator", "is empty")
        if self.format == "masks" and self.rate is None:
            raise FieldError("rate", "is missing; masks do not name it")
        check_positive(seconds=self.seconds, rate=self.rate)


@dataclass(frozen=True)
class Epochs:
    """Length of scored epochs in s, and where they lie.

    ``context`` (s) of signal on both sides make up for epochs shorter than 30 s. ``grid``: epochs
    are counted from the signal's start, or each lies on its own onset (``stages``), as fractions of
    a second or a scorer's clock have them; ``exact`` refuses stages that do not fill epochs from
    the start. ``extra``, ``missing``: most epochs that stages may be longer than the signal, or
    shorter; ``null``: any number. Where ``extra`` is any, no note is made of other ends.
    """

    seconds: float = EPOCH_SECONDS
    context: float = 0.0
    grid: Literal["signal", "exact", "stages"] = "signal"
    extra: int | None = 1
    missing: int | None = None

    def __post_init__(self) -> None:
        check_positive(seconds=self.seconds)
        whole = self.seconds + 2 * self.context
        # windows on onsets of their own would otherwise hold a part of their neighbours unseen
        if (self.context or self.grid == "stages") and whole != EPOCH_SECONDS:
            raise FieldError("context", f"makes epochs of {whole:g} s, not of {EPOCH_SECONDS} s")
        if self.context and self.grid != "stages":
            raise FieldError("grid", f"is {self.grid}; epochs with context need stages")


@dataclass(frozen=True)
class Person:
    """Who a night is of: all nights of one value stay together in folds.

    A template such as ``{person}``; or the ``column`` of a table beside the cohort (``table``: a
    template of its path; ``,`` or tab), in the row whose column ``row`` is the template ``key``.
    ``subject``: what stores call this person, ``{who}``, of any cohort.
    """

    key: str = "{person}"
    subject: str = "{cohort}-{who}"
    table: str = ""
    row: str = ""
    column: str = ""

    def __post_init__(self) -> None:
        if self.table and not (self.row and self.column):
            raise FieldError("column", "and row have to name the table's columns")


@dataclass(frozen=True)
class Exclusion:
    """Recordings that are left out: a pattern (``*``) of their ids, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Expected:
    """Published numbers of a whole cohort; ``epochs`` are scored ones."""

    recordings: int | None = None
    persons: int | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class Variant:
    """What is different in a part of a cohort: where the groups of the path match the patterns."""

    when: Mapping[str, str]
    stages: tuple[StageFiles, ...] | None = None
    epochs: Epochs | None = None
    roles: Mapping[str, tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        for name, pattern in self.when.items():
            check_pattern(f"when.{name}", pattern)


@dataclass(frozen=True)
class Profile:
    """A cohort as its profile declares it; templates and patterns as the module describes them.

    ``id`` and ``night`` are templates of a recording's id and of the number of a person's night.
    ``roles``: labels for every role, best first, as ``A``, ``A - B``, ``A + B``, or ``- A`` for one
    of opposite sign. ``protocol``: what is kept of the Wake around the night, unless asked for.
    ``folds``: names of published fold tables. ``demo``: the command that makes synthetic nights.
    A profile with a ``download`` and neither signals, stages nor roles is of a cohort that can be
    fetched, and whose files are not declared yet.
    """

    schema: Literal[1]
    name: str
    title: str
    access: str
    licence: str
    page: str
    cite: tuple[str, ...]
    signals: tuple[SignalFiles, ...] = ()
    stages: tuple[StageFiles, ...] = ()
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    person: Person = Person()
    id: str = "{stem}"
    night: str = ""
    epochs: Epochs = Epochs()
    variants: tuple[Variant, ...] = ()
    exclude: tuple[Exclusion, ...] = ()
    expect: Expected = Expected()
    protocol: Literal["keep_all", "tinysleepnet", "deepsleepnet"] = "keep_all"
    folds: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    demo: str = ""
    download: Download | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.name):
            raise FieldError("name", f"is {self.name!r}; small letters, digits and hyphens alone")
        missing = [name for name in ("signals", "stages", "roles") if not vars(self)[name]]
        if missing and not (self.download and len(missing) == 3):
            raise FieldError(missing[0], "is empty or missing")
        groups = {g for s in self.signals for g in (*re.compile(s.file).groupindex, *s.groups)}
        for k, variant in enumerate(self.variants):
            if unknown := sorted(set(variant.when) - groups - {"stem"}):  # it would never apply
                raise FieldError(f"variants[{k}].when.{unknown[0]}", "no pattern has such a group")

    def of(self, groups: Mapping[str, str]) -> Profile:
        """The profile for a night whose path has these groups."""
        profile = self
        for variant in self.variants:
            if all(re.fullmatch(p, groups.get(n, ""), re.I) for n, p in variant.when.items()):
                profile = replace(
                    profile,
                    stages=variant.stages or profile.stages,
                    epochs=variant.epochs or profile.epochs,
                    roles=variant.roles or profile.roles,
                )
        return profile

    @property
    def is_prepared(self) -> bool:
        """Whether it declares what its files are, and not only where they are fetched."""
        return bool(self.signals)

    @property
    def all_roles(self) -> tuple[str, ...]:
        """Roles of the profile and of its variants."""
        others = (role for variant in self.variants for role in variant.roles or ())
        return tuple(dict.fromkeys((*self.roles, *others)))

    @property
    def digest(self) -> str:
        """A hash of all fields that decide what is stored: others of them, other nights."""
        content = {name: _declared(vars(self)[name]) for name in _CONTENT}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _declared(value: Any) -> Any:
    """A value as JSON without fields at their defaults, so that new fields change no digest."""
    if is_dataclass(value):
        return {
            f.name: _declared(own)
            for f in fields(value)
            if (own := vars(value)[f.name]) != f.default and own != {}
        }
    if isinstance(value, Mapping):
        return {name: _declared(one) for name, one in value.items()}
    return [_declared(one) for one in value] if isinstance(value, tuple) else value


def names() -> list[str]:
    """Names of the cohorts that come with the code."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(wanted: str) -> Profile:
    """The profile of a cohort by name, or of a JSON file.

    Raises:
        UserError: there is none, or a field of it is wrong.
    """
    path = Path(wanted)
    if path.suffix.lower() != ".json":
        path = FOLDER / f"{wanted}.json"
        if wanted not in names():
            raise UserError(
                f"--cohort {wanted}: known are {', '.join(names())}; declare another one in a "
                ".json file (docs/own_cohort.md)"
            )
    try:
        value = value_in(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a profile ({error}); see docs/own_cohort.md") from error
    if unanswered := open_fields(value):
        raise UserError(f"{path}: still '?': {', '.join(unanswered)}; answer these fields")
    try:
        return made_from(value, Profile)
    except FieldError as error:
        raise UserError(f"{path}: {error}; correct the profile") from error
