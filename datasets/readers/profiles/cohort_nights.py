"""Which files below a folder are a cohort's nights, whose they are, and which are left out."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from datasets.readers.discovery import files_below, recordings_among
from datasets.readers.profiles.profile import Person, Profile, SignalFiles, StageFiles
from datasets.readers.scorings.decoding import text_of
from datasets.readers.signal_files import parts_beside
from utils.errors import UserError

SIGNAL = "{signal}"  # stages that are in the recording itself


@dataclass(frozen=True)
class Options:
    """How nights are read: roles to match (all labels if none), a scoring by name, cut files."""

    roles: tuple[str, ...] = ()
    scoring: str = ""
    salvage: bool = False


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
        UserError: there is none, two have one id, or the table of persons lacks one.
    """
    if not raw_path.is_dir():
        raise UserError(f"{raw_path}: no such folder; name that of {profile.name} by --raw_path")
    files = _Files(raw_path)
    persons = _Persons(profile.person, files)
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
        scored, stages = _scored(files, path, groups, own, options.scoring)
        number = filled(own.night, groups, "night")
        number = int(number) if re.fullmatch(r"[0-9]{1,4}", number) else 0
        nights[name] = Night(
            name, subject, number, path, signals, scored, stages, own, options, persons.files
        )
    nights = _without_holters(nights)
    if not nights:
        patterns = " or ".join(signals.file for signals in profile.signals)
        raise UserError(
            f"{raw_path}: no recording of {profile.name} there ({patterns}); {profile.page}"
        )
    return _numbered([nights[name] for name in sorted(nights)])


def only(nights: Sequence[Night], wanted: Sequence[str]) -> list[Night]:
    """Nights whose id fits one of the patterns (``*``), all of them without any.

    Raises:
        UserError: a pattern that fits none.
    """
    fitting = {
        pattern: [n for n in nights if fnmatchcase(n.id.lower(), pattern.lower())]
        for pattern in wanted
    }
    if lone := [pattern for pattern, some in fitting.items() if not some]:
        some = ", ".join(night.id for night in nights[:5])
        raise UserError(f"--only {lone[0]}: no recording is called so; there are {some} …")
    chosen = {night.id for some in fitting.values() for night in some}
    return [night for night in nights if not wanted or night.id in chosen]


def excluded(nights: Sequence[Night], profile: Profile) -> dict[str, str]:
    """Nights that the profile leaves out, with the reason."""
    return {
        night.id: one.reason
        for night in nights
        for one in profile.exclude
        if fnmatchcase(night.id.lower(), one.id.lower())
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
        self.paths = {path: path.relative_to(root).as_posix() for path in files_below(root)}
        self._by_name: dict[str, list[Path]] = {}
        self._by_folder: dict[Path, list[Path]] = {}
        for path in self.paths:
            self._by_name.setdefault(path.name.lower(), []).append(path)
            self._by_folder.setdefault(path.parent, []).append(path)

    def named(self, wanted: str, near: Path | None) -> Path | None:
        """The file of a path's end, in the folder ``near`` or else in any.

        A name with ``*`` is looked for in that folder alone, or in all without one.

        Raises:
            UserError: there are several.
        """
        end = wanted.lower()
        name = PurePosixPath(end).name
        every = self.paths if near is None else self._by_folder.get(near, [])
        some = every if "*" in name else self._by_name.get(name, [])
        # names may hold brackets, which are no pattern unless there is a star
        ends = {p: f"/{self.paths[p].lower()}" for p in some}
        if "*" in name:
            fitting = [p for p, one in ends.items() if fnmatchcase(one, f"*/{end}")]
        else:
            fitting = [p for p, one in ends.items() if one.endswith(f"/{end}")]
        fitting = [path for path in fitting if path.parent == near] or fitting
        if len(fitting) > 1:
            raise UserError(f"{fitting[0]}: and {fitting[1]} could both be {wanted}; remove one")
        return fitting[0] if fitting else None


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
        # numbers may be written with leading zeros in one of the two
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
                groups = {name: value or "" for name, value in match.groupdict().items()}
                yield path, one, {"stem": path.stem, **groups, **one.groups}
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
