"""Words of a file of stages as codes, by the map that a profile declares: none is guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from datasets.readers.profiles.profile import CODES, Words
from datasets.readers.scorings.scoring import Row
from utils.errors import UserError
from utils.stages import UNSCORED

Coded = list[tuple[Row, int]]


def coded(rows: Sequence[Row], words: Words, path: Path) -> tuple[Coded, list[str]]:
    """Rows that are stages with their codes, and notes on words that count as unscored.

    Raises:
        UserError: a word that the profile neither maps nor ignores, or no stage at all.
    """
    known = {word.casefold(): CODES[stage] for word, stage in words.map.items()}
    bare = {text: _bare(text, words) for text in {row.word for row in rows}}
    stages, strange = [], Counter[str]()
    for row in rows:
        word = bare[row.word]
        if word in known:
            stages.append((row, known[word]))
        elif word is not None and not _is_ignored(row.word, word, words):
            if words.unknown == "error":
                raise UserError(
                    f"{path}: {row.word[:60]!r}{_at(row)} is no word of the profile, which has "
                    f"{', '.join(words.map)}; map it there or ignore it"
                )
            strange[word] += 1
            stages.append((row, UNSCORED))
    if all(code == UNSCORED for _, code in stages):
        raise UserError(f"{path}: holds none of the stages {', '.join(words.map)}")
    listed = ", ".join(f"{word[:30]!r} ({n})" for word, n in strange.most_common(5))
    return stages, [f"unknown words are unscored: {listed}"] if strange else []


def _is_ignored(text: str, word: str, words: Words) -> bool:
    """Whether a row's text, or its word alone, is one that the profile passes over."""
    both = (text.strip().casefold(), word)

    def fits(patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(one, pattern.casefold()) for one in both for pattern in patterns)

    return fits(words.ignore) and not fits(words.heed)


def _at(row: Row) -> str:
    return "" if row.onset is None else f" at {row.onset:g} s"


def _bare(text: str, words: Words) -> str | None:
    """The word itself, without what the profile cuts away; ``None`` for an event."""
    word = text.split(words.cut_at)[0] if words.cut_at else text
    word, prefix = word.strip().casefold(), words.prefix.casefold()
    if not word.startswith(prefix):
        return None
    word = word.removeprefix(prefix).strip()
    return word if words.letters is None else word[: words.letters]
