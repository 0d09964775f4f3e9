"""Stages that a program wrote: what marks them, and how a person's corrections show.

What this program exports carries a hash of its stages. Where somebody changed a stage by hand, or
filled in the column ``expert``, stages and hash disagree, and the file is that person's scoring.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from utils import manifest
from utils.manifest import is_ours
from utils.stages import MADE_BY_A_MODEL, STAGES

HASH_COLUMN = "stages_hash"
STAGED = "staged night"  # what lists of this program's files call its exports
UNCHANGED = (
    "stages that this program exported, unchanged: no expert's; correct them in it, or name an "
    "expert's file"
)
_IN_HEADER = re.compile(rb"stages_([0-9a-f]{16})")
_OF_PROGRAMS = re.compile(
    r"(p|prob|proba|probs|probability|confidence|conf|certainty|uncertainty)([ _.-].*)?"
    r"|.+[ _.-](prob|proba|probs|probability|confidence)"
)
_EVERY_STAGE = ({"w", "wake"}, {"n1"}, {"n2"}, {"n3"}, {"r", "rem"})


def stages_hash(codes: Iterable[int]) -> str:
    """Sixteen digits that stand for a sequence of stage codes."""
    return hashlib.sha256(",".join(str(int(code)) for code in codes).encode()).hexdigest()[:16]


def program_columns(header: Sequence[str]) -> list[str]:
    """The columns of a table that only a program writes: probabilities and confidences."""
    names = [name.strip().casefold() for name in header]
    if all(stage & set(names) for stage in _EVERY_STAGE):
        return [name for name, low in zip(header, names, strict=True) if low in ("n1", "n2", "n3")]
    return [
        name for name, low in zip(header, names, strict=True)
        if _OF_PROGRAMS.fullmatch(low) or low == HASH_COLUMN
    ]  # fmt: skip


def in_order(header: Sequence[str], table: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The rows of an export by epoch or onset, whatever they were sorted by."""
    names = [name for name in ("epoch", "onset") if name in header]
    place = header.index(names[0]) if names else len(header)

    def number(row: Sequence[str]) -> float:
        text = row[place].replace(",", ".") if len(row) > place else ""
        return float(text) if re.fullmatch(r"\d+(\.\d*)?", text, re.ASCII) else 0.0

    return sorted((row for row in table if any(row)), key=number)


def are_most_probable(
    header: Sequence[str], table: Sequence[Sequence[str]], codes: Sequence[int]
) -> bool:
    """Whether each of an export's stages is the most probable one, as nobody's correction is."""
    places = [header.index(f"p_{name}") for name in STAGES if f"p_{name}" in header]
    if len(places) < len(STAGES) or any(len(row) <= max(places) for row in table):
        return False
    try:
        rows = [[float(row[place].replace(",", ".")) for place in places] for row in table]
    except ValueError:
        return False
    pairs = zip(codes, rows, strict=True)
    return all(code < 0 or row[code] == max(row) for code, row in pairs)


def edf_hash(path: Path) -> str | None:
    """Hash in the header of EDF+ annotations that this program exported.

    ``""`` stands for an export from before there were hashes, ``None`` for anybody else's file.
    """
    with path.open("rb") as file:
        return stated_hash(file.read(168)[88:])  # the header's field on the recording


def stated_hash(head: bytes) -> str | None:
    """Hash in the first bytes of an export; ``""`` and ``None`` as of :func:`edf_hash`."""
    if MADE_BY_A_MODEL.encode() not in head:
        return None
    match = _IN_HEADER.search(head)
    return match[1].decode() if match else ""


def is_listed(path: Path) -> bool:
    """Whether its folder lists a file as this program's export, and nobody changed it.

    So are those known that have no room for a mark.
    """
    return is_ours(path, STAGED) or (is_ours(path) and manifest.read(path.parent).what == STAGED)


def edf_fields(codes: Iterable[int]) -> tuple[str, tuple[str, ...]]:
    """Equipment and additional fields of an EDF+ header that mark stages as a model's."""
    return MADE_BY_A_MODEL, (f"stages_{stages_hash(codes)}",)
