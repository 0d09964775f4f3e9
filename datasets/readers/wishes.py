"""Wishes of users, cohorts and checkpoints: which labels of a file one means.

A wish is a label, a difference, ``A-B`` or ``A - B``, or a sum with spaces around its signs, as
chains are added up: ``A + B - C``, or ``- A`` of opposite sign. A label spelt so comes first, then
one that differs in case, spaces and punctuation alone, then a derivation without its prefix EEG,
then what is made of several labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datasets.readers.electrodes import normalised, site_rank
from datasets.readers.recording import Signal, unit_named
from utils.errors import UserError


@dataclass(frozen=True)
class MatchedChannel:
    """A signal, the labels it is made of (one, or those of a sum), and what was assumed.

    ``signs`` are those of the labels in the sum; ``is_sized``: the file names its unit, and its
    size fits that.
    """

    signal: Signal
    parts: tuple[str, ...]
    note: str | None = None
    is_sized: bool = True
    signs: tuple[str, ...] = ()

    @property
    def derivation(self) -> str:
        """What the signal is made of, as it is displayed: ``E1 - E2``."""
        return self._spelt(" ")

    @property
    def label(self) -> str:
        """What stores call it, however the wish was spelt: ``E1-E2``."""
        return self._spelt("")

    def _spelt(self, space: str) -> str:
        first, *others = zip(self.signs or _signs(len(self.parts)), self.parts, strict=True)
        begins = first[1] if first[0] == "+" else f"-{space}{first[1]}"
        return begins + "".join(f"{space}{sign}{space}{part}" for sign, part in others)


def parts_of(wish: str, labels: Iterable[str]) -> tuple[str, ...]:
    """The labels that a wish is made of among ``labels``; () if it cannot be made of them."""
    return tuple(part for _, part in _terms_of(wish, labels))


def _terms_of(wish: str, labels: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Signs and labels that a wish is made of; () if it cannot be made of ``labels``.

    A difference is cut at `` - `` if it can be, else at the first hyphen that leaves two labels.
    """
    labels = list(labels)
    # a leading sign is no punctuation of a label
    if not wish.startswith("- ") and (label := _spelt(wish, labels)) is not None:
        return (("+", label),)
    # "- A-B" is A-B of opposite sign, and never A - B
    pairs = () if wish.startswith("- ") else cuts_of(wish)
    for signs, parts in (*_sums_of(wish), *((_signs(2), pair) for pair in pairs)):
        spelt = [_spelt(part, labels) for part in parts]
        if None not in spelt:
            return tuple(zip(signs, spelt, strict=True))
    return ()


def _signs(n_parts: int) -> tuple[str, ...]:
    """Signs of a difference of so many labels."""
    return ("+", *"-" * (n_parts - 1))


def _sums_of(wish: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Signs and parts of a wish of several signs, or of the opposite one; [] of any other."""
    pieces = re.split(r"(?:^|\s)([+-])\s", wish if wish.startswith("- ") else f"+ {wish}")[1:]
    signs, parts = tuple(pieces[::2]), tuple(part.strip() for part in pieces[1::2])
    return [] if signs in (_signs(1), _signs(2)) or not all(parts) else [(signs, parts)]


def first_of(wishes: Iterable[str], signals: Mapping[str, Signal]) -> MatchedChannel | None:
    """The channel of the first wish that ``signals`` fulfil, passing over unlike differences."""
    for wish in wishes:
        terms = _terms_of(wish, signals)
        if terms and _are_alike(terms, signals):
            return _made_of(terms, signals)
    return None


def named(wish: str, signals: Mapping[str, Signal], where: object) -> MatchedChannel | None:
    """The channel that a user asks for by name; ``None`` if no label or difference fits.

    Raises:
        UserError: the channels of a difference have other rates or units.
    """
    terms = _terms_of(wish, signals)
    if not terms:
        return None
    if not _are_alike(terms, signals):
        first = signals[terms[0][1]]
        unlike = next(p for _, p in terms if not _are_alike((terms[0], ("+", p)), signals))
        other = signals[unlike]
        raise UserError(
            f"{where}: --channels {wish}: {terms[0][1]} has {first.fs:g} Hz in {first.unit}, "
            f"{unlike} {other.fs:g} Hz in {other.unit}; a difference needs one rate and one unit"
        )
    return _made_of(terms, signals)


def cuts_of(wish: str) -> list[tuple[str, str]]:
    """Ways to read a wish as a difference, at spaced hyphens first."""
    # labels may hold hyphens themselves (EOG-L), so every place to cut is offered
    hyphens = [place for hyphen in (r"\s-\s", "-") for place in re.finditer(hyphen, wish)]
    pairs = ((wish[: cut.start()].strip(), wish[cut.end() :].strip()) for cut in hyphens)
    return [pair for pair in dict.fromkeys(pairs) if all(pair)]


def _spelt(wish: str, labels: Sequence[str]) -> str | None:
    if wish in labels:
        return wish
    # without a key, labels of punctuation alone would all be the same
    if not (key := normalised(wish)):
        return None
    keys = [normalised(label) for label in labels]
    if key not in keys and site_rank(wish) is not None:
        key = key.removeprefix("eeg")  # MNE names derivations without it
    return labels[keys.index(key)] if key in keys else None


def _are_alike(terms: Sequence[tuple[str, str]], signals: Mapping[str, Signal]) -> bool:
    return len({(signals[part].fs, unit_named(signals[part].unit)) for _, part in terms}) == 1


def _made_of(terms: Sequence[tuple[str, str]], signals: Mapping[str, Signal]) -> MatchedChannel:
    signs, parts = zip(*terms, strict=True)
    own = [signals[part] for part in parts]
    if signs == ("+",):
        return MatchedChannel(own[0], parts)

    def read(start: float, stop: float) -> np.ndarray:
        total = own[0].read(start, stop)
        total = total if signs[0] == "+" else -total
        for sign, one in zip(signs[1:], own[1:], strict=True):
            samples = one.read(start, stop)
            total = total + samples if sign == "+" else total - samples
        return total

    signal = Signal(own[0].fs, own[0].unit, min(one.seconds for one in own), read)
    return MatchedChannel(signal, parts, signs=signs)
