"""What a reader of a scoring returns, before its words are stages and its times epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

from datasets.readers.scorings import vocabulary
from utils.errors import UserError

VOCABULARY_HELP = (
    "what bare numbers in the expert's file stand for, where they could be several things: "
    f"{vocabulary.CHOICES}"
)
TABLE_HELP = (
    "columns of the expert's file, by number from 1 or by name, where its layout is not "
    "recognised: 'time=2,stage=5,sep=tab'; also duration=, end=, skip= (lines before the table)"
)
_FIRST = 400


@dataclass(frozen=True)
class Recorded:
    """The recording that a scoring belongs to: its name, first second, length in s, rates in Hz."""

    name: str
    start: datetime | None
    seconds: float
    rates: Sequence[float] = ()


@dataclass(frozen=True)
class Row:
    """One row of a scoring: a word, and where the file has them onset and length in s.

    ``onset`` counts from the start of the recording; rows without one are epochs in order.
    """

    word: str
    onset: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Scoring:
    """The rows of a scoring, and what its format is known to mean.

    ``epoch`` is the length of an epoch in s, where the file states it; ``only_stages``: a word that
    is no stage is a fault, not an event; ``vocabulary`` is what numbers mean in this format;
    ``until_next``: a stage lasts until the next row; ``blanks``: there are rows for blank lines,
    which may be unscored epochs or mere space.
    """

    rows: Sequence[Row]
    epoch: float | None = None
    only_stages: bool = True
    vocabulary: str | None = None
    until_next: bool = False
    blanks: bool = False
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Wishes:
    """What the user decides about a scoring: a vocabulary of numbers, and the columns of a table.

    ``table`` is of the form ``time=2,stage=5,sep=tab``.

    Raises:
        UserError: there is no such vocabulary.
    """

    vocabulary: str | None = None
    table: str | None = None

    def __post_init__(self) -> None:
        if self.vocabulary is not None and self.vocabulary not in vocabulary.VOCABULARIES:
            raise UserError(f"--vocabulary {self.vocabulary}: choose from {vocabulary.CHOICES}")


@dataclass(frozen=True)
class Text:
    """A scoring's text: its path, all of it, and its lines without line ends."""

    path: Path
    whole: str
    lines: Sequence[str] = field(repr=False)

    @property
    def first(self) -> list[str]:
        """The first lines that are not blank, enough to recognise a layout by."""
        return list(islice((line for line in self.lines if line.strip()), _FIRST))

    def wrong(self, what: str) -> UserError:
        """The error of a fault in this file."""
        return UserError(f"{self.path}: {what}")
