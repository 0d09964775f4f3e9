"""Tables whose columns a user names, with ``--expert_table``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datasets.readers.scorings.lists import is_stage
from datasets.readers.scorings.scoring import Recorded, Scoring, Text
from datasets.readers.scorings.stage_tables import PREAMBLE, SEPARATORS, Columns, cells_of, rows_of

_KEYS = ("time", "stage", "duration", "end", "sep", "skip")
_NAMED_SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "space": " "}


def read(text: Text, spec: str, recorded: Recorded) -> Scoring:
    """Read a table as ``--expert_table`` describes it: ``time=2,stage=5,sep=tab``.

    Columns are numbers from 1, or names of a header; rows whose stage is none are skipped.

    Raises:
        UserError: a description that is wrong, or does not fit the file.
    """
    wishes = dict(part.partition("=")[::2] for part in spec.split(",") if part)
    wishes = {key.strip(): value.strip() for key, value in wishes.items()}
    if unknown := [key for key in wishes if key not in _KEYS]:
        raise text.wrong(f"--expert_table: no {unknown[0]!r}; it takes {', '.join(_KEYS)}")
    if "stage" not in wishes:
        raise text.wrong("--expert_table: name the column of stages, such as stage=2")
    skip = wishes.get("skip", "0")
    if not (skip.isascii() and skip.isdigit() and len(skip) < 6):
        raise text.wrong(f"--expert_table: skip={skip} is no number of lines")
    lines = [line for line in text.lines[int(skip) :] if line.strip()]
    separator = wishes.get("sep", "")
    separator = _NAMED_SEPARATORS.get(separator, separator) or _likely(lines)
    table = [cells_of(line, separator) for line in lines]
    places = {key: _place(text, table, wishes[key]) for key in wishes if key not in ("sep", "skip")}
    columns = Columns(
        places["stage"], places.get("time"), places.get("end"), places.get("duration"),
        separator=separator, only_stages=False, starts=True,
    )  # fmt: skip
    width = max(places.values()) + 1
    table = [row for row in table if len(row) >= width and is_stage(row[columns.stage])]
    return replace(rows_of(text, table, columns, recorded), blanks=False)


def _likely(lines: Sequence[str]) -> str:
    """The separator that most lines have, a comma if none has any."""
    return max(SEPARATORS, key=lambda one: sum(one in line for line in lines[:500]))


def _place(text: Text, table: Sequence[Sequence[str]], wish: str) -> int:
    """Number from 0 of a column that is named by number or header."""
    width = max((len(row) for row in table), default=0)
    if wish.isascii() and wish.isdigit() and len(wish) < 6:
        if not 1 <= int(wish) <= width:
            raise text.wrong(f"--expert_table: no column {wish}; its rows have up to {width}")
        return int(wish) - 1
    for row in table[:PREAMBLE]:
        if wish in row:
            return row.index(wish)
    raise text.wrong(f"--expert_table: no column is called {wish!r}")
