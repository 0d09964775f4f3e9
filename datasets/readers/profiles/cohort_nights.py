"""Which files below a folder are a cohort's nights, whose they are, and which are left out."""

from __future__ import annotations

import csv
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from datasets.readers import edf_header
from datasets.readers.discovery import files_below, recordings_among
from datasets.readers.profiles.profile import Person, Profile, SignalFiles, StageFiles
from datasets.readers.scorings.decoding import text_of
from datasets.readers.signal_files import parts_beside
from utils.errors import UserError

_CASES = {"": str, "upper": str.upper, "lower": str.lower}
SIGNAL = "{signal}"  # stages that are in the recording itself


@dataclass(frozen=True)
class Options:
    """Roles to match (all labels if none), a scoring by name, whether cut files are read, and
    patterns (``*``) of the only ids that are taken.
    """

    roles: tuple[str, ...] = ()
    scoring: str = ""
    salvage: bool = False
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Night:
    """One night's files, as a profile pairs them: ``profile`` is that of this night's variant."""

    id: str
    subject: str
    night: int
    path: Path
    signals: SignalFiles
    scored: Path | None
    stages: StageFiles | None
    profile: Profile = field(repr=False)
    options: Options
    tables: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything the night is made from, the recording first."""
        scored = () if self.scored is None else (self.scored,)
        parts = parts_beside(self.path, self.signals.format)
        return tuple(dict.fromkeys((self.path, *parts, *scored, *self.tables)))


def find(raw_path: Path, profile: Profile, options: Options = Options()) -> list[Night]:
    """Every night of a cohort below a folder, by id; those without stages have none.

    Raises:
        UserError: there is none, two have one id or one file of stages, or the table of persons
            lacks one.
    """
    files = _Files(raw_path)
    persons = _Persons(profile.person, files) if files.paths else None
    nights: dict[str, Night] = {}
    for path, signals, groups in _signals(files, profile):
        own = profile.of(groups)
        name = filled(own.id, groups, "id")
        if (other := nights.get(name)) is not None:
            # one recording in several formats is read in the first that the profile has
            if path.parent != other.path.parent or signals == other.signals:
                raise UserError(f"{path}: a second recording {name}, beside {other.path}")
            if profile.signals.index(signals) > profile.signals.index(other.signals):
                continue
        who = {"cohort": profile.name, "who": persons.of(groups, path)}
        subject = filled(profile.person.subject, groups | who, "person.subject")
        scored, stages = None, None
        if is_wanted(name, options.only):
            scored, stages = _scored(files, path, groups, own, options.scoring)
        number = filled(own.night, groups, "night")
        number = int(number) if re.fullmatch(r"[0-9]{1,4}", number) else 0
        nights[name] = Night(
            name, subject, number, path, signals, scored, stages, own, options, persons.files
        )
    wanted = {name: night for name, night in nights.items() if is_wanted(name, options.only)}
    wanted = _without_holters(wanted)
    if not wanted:
        others = nights if options.only else ()
        raise UserError(f"{raw_path}: {_nothing(raw_path, profile, options.only, others)}")
    _check_apart(wanted.values())
    # a person's nights have their numbers among all, whichever are wanted
    every = nights if options.only else wanted
    numbered = _numbered([every[name] for name in sorted(every)])
    return [night for night in numbered if night.id in wanted]


def _check_apart(nights: Iterable[Night]) -> None:
    """Refuse a file of stages that belongs to two recordings."""
    scored: dict[Path, Path] = {}
    for night in nights:
        if night.scored and (other := scored.setdefault(night.scored, night.path)) != night.path:
            raise UserError(
                f"{night.scored}: scores both {other} and {night.path}; remove one of the two"
            )


def _nothing(raw_path: Path, profile: Profile, only: Sequence[str], others: Iterable[str]) -> str:
    """What a folder without wanted nights has instead, and what to do."""
    if names := sorted(others):
        some = f"{', '.join(names[:5])}{' …' * (len(names) > 5)}"
        what = f"no recording is called {' or '.join(only)}; there are {some}"
        return f"{what}: ask for one of these, or name another folder with --raw_path"
    patterns = " or ".join(signals.file for signals in profile.signals)
    what = f"no recording of {profile.name} there ({patterns})"
    demo = f"make synthetic ones with {profile.demo}, " if profile.demo else ""
    fetch = "--download" if profile.download else profile.page
    return (
        f"{what if raw_path.is_dir() else 'no such folder'}; {demo}fetch the real ones "
        f"({fetch}), or name another folder with --raw_path"
    )


def is_wanted(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits one of some patterns (``*``), without regard to case; all, if none."""
    return not patterns or any(fnmatchcase(name.lower(), one.lower()) for one in patterns)


def is_synthetic(night: Night) -> bool:
    """Whether a generator names itself in the recording.

    Raises:
        UserError: it cannot be read.
    """
    return night.signals.format == "edf" and edf_header.is_synthetic(night.path)


def excluded(ids: Iterable[str], profile: Profile) -> dict[str, str]:
    """Recordings that the profile leaves out, with the reason."""
    return {
        name: one.reason for name in ids for one in profile.exclude if is_wanted(name, [one.id])
    }


def _without_holters(nights: dict[str, Night]) -> dict[str, Night]:
    """The nights without EDFs that lie beside a recording, have no stages, and nothing to stage."""
    paths = {night.path for night in nights.values() if night.signals.format == "edf"}
    if all(night.scored is not None for night in nights.values() if night.path in paths):
        return nights
    beside = set(recordings_among(sorted(paths))[1])
    return {k: n for k, n in nights.items() if n.scored is not None or n.path not in beside}


def filled(template: str, groups: Mapping[str, str], name: str) -> str:
    """A template with the groups of a path in it; ``name`` is the field that it is of.

    Raises:
        UserError: the path has no such group.
    """
    if unknown := sorted(set(re.findall(r"{(\w+)}", template)) - set(groups)):
        raise UserError(
            f"{name}: {template!r} needs a group {unknown[0]!r}, and the pattern of signals has "
            f"{', '.join(groups)}; name it there as (?P<{unknown[0]}>…)"
        )
    return re.sub(r"{(\w+)}", lambda match: groups[match[1]], template)


class _Files:
    """Files below a folder by name; paths are compared from their end, without regard to case."""

    def __init__(self, root: Path) -> None:
        self.root = root
        files = files_below(root) if root.is_dir() else []
        self.paths = {path: path.relative_to(root).as_posix() for path in files}
        self._ends = {path: f"/{end.lower()}" for path, end in self.paths.items()}
        self._by_name: dict[str, list[Path]] = {}
        self._by_folder: dict[Path, list[Path]] = {}
        for path in self.paths:
            self._by_name.setdefault(path.name.lower(), []).append(path)
            self._by_folder.setdefault(path.parent, []).append(path)
        self._names = sorted(self._by_name)

    def named(self, wanted: str, near: Path | None) -> Path | None:
        """The file of a path's end, in the folder ``near`` or else in any.

        A name with ``*`` is looked for in that folder alone, or in all if there is none or the
        path begins with ``*/``.

        Raises:
            UserError: there are several.
        """
        end = wanted.lower().removeprefix("*/")
        name = PurePosixPath(end).name
        # names may hold brackets, which are no pattern unless there is a star
        if "*" in name:
            is_anywhere = near is None or wanted.startswith("*/")
            some = self._like(name) if is_anywhere else self._by_folder.get(near, [])
            fitting = [p for p in some if fnmatchcase(self._ends[p], f"*/{end}")]
        else:
            some = self._by_name.get(name, [])
            fitting = [p for p in some if self._ends[p].endswith(f"/{end}")]
        fitting = [path for path in fitting if path.parent == near] or fitting
        if len(fitting) > 1:
            raise UserError(f"{fitting[0]}: and {fitting[1]} could both be {wanted}; remove one")
        return fitting[0] if fitting else None

    def _like(self, pattern: str) -> Iterator[Path]:
        """Files whose names begin as a pattern does, so that few are compared with it."""
        begins = re.split(r"[*?[]", pattern)[0]
        place = bisect_left(self._names, begins)
        while place < len(self._names) and self._names[place].startswith(begins):
            yield from self._by_name[self._names[place]]
            place += 1


class _Persons:
    """Whose a night is: by its path, or by a table."""

    def __init__(self, person: Person, files: _Files) -> None:
        self.person, self.rows, self.files = person, {}, ()
        if not person.table:
            return
        table = files.named(person.table, None)
        if table is None:
            raise UserError(
                f"{files.root}: no {person.table}, which tells whose the nights are; fetch it"
            )
        self.files = (table,)
        lines = text_of(table).lines
        separator = "\t" if "\t" in lines[0] else ","
        rows = list(csv.DictReader(lines, delimiter=separator))
        if missing := {person.row, person.column} - set(rows[0] if rows else ()):
            raise UserError(f"{table}: no column {min(missing)!r}; correct the profile's person")
        for row in rows:
            key, who = ((row[name] or "").strip() for name in (person.row, person.column))
            if self.rows.setdefault(key, who) != who:
                raise UserError(f"{table}: {person.row} {key} is both {self.rows[key]} and {who}")

    def of(self, groups: Mapping[str, str], path: Path) -> str:
        """The person of a path's groups.

        Raises:
            UserError: the table has no row for it.
        """
        key = filled(self.person.key, groups, "person.key")
        if not self.person.table:
            return key
        # numbers may be written with leading zeros in the path, and without them in the table
        who = self.rows.get(key) or self.rows.get(key.lstrip("0"))
        if not who:
            raise UserError(f"{path}: {self.files[0].name} has no {self.person.row} {key}; fetch "
                            "the table of this release")  # fmt: skip
        return who


def _signals(files: _Files, profile: Profile) -> Iterator[tuple[Path, SignalFiles, dict[str, str]]]:
    """Every recording, what kind of file it is, and the groups of its path."""
    patterns = [
        (one, re.compile(rf"(?:.*/)?(?:{one.file})", re.IGNORECASE)) for one in profile.signals
    ]
    for path, relative in files.paths.items():
        for one, pattern in patterns:
            if match := pattern.fullmatch(relative):
                groups = {"stem": path.stem, **match.groupdict(default="")}
                spelt = _CASES[one.case]
                groups = {name: spelt(value) for name, value in groups.items()}
                yield path, one, groups | one.groups
                break


def _scored(
    files: _Files, path: Path, groups: Mapping[str, str], profile: Profile, wanted: str
) -> tuple[Path | None, StageFiles | None]:
    """The first file of stages that a night has, of the scoring ``wanted`` if one is named."""
    named = [one.name for one in profile.stages]
    if wanted and wanted not in named:
        has = ", ".join(name for name in dict.fromkeys(named) if name) or "one alone"
        raise UserError(f"--scoring {wanted}: {profile.name} has {has}")
    for one in profile.stages:
        if wanted and one.name != wanted:
            continue
        file = filled(one.file, {"signal": SIGNAL, **groups}, "stages.file")
        scored = path if file == SIGNAL else files.named(file, path.parent)
        if scored is not None:
            return scored, one
    return None, None


def _numbered(nights: Sequence[Night]) -> list[Night]:
    """Nights whose path names no number get one, in order of their ids within a person."""
    counts: dict[str, int] = {}
    numbered = []
    for night in nights:
        counts[night.subject] = counts.get(night.subject, 0) + 1
        numbered.append(replace(night, night=night.night or counts[night.subject]))
    return numbered
