"""Wishes of users, cohorts and checkpoints: which labels of a file one means.

A wish is a label or a difference, ``A-B`` or ``A - B``. A label spelt so comes first, then one that
differs in case, spaces and punctuation alone, then a derivation without its prefix EEG, then a
difference of two labels.
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
    """A signal, the labels it is made of (one, or two of a difference), and what was assumed.

    ``is_sized``: the file names its unit, and its size fits that.
    """

    signal: Signal
    parts: tuple[str, ...]
    note: str | None = None
    is_sized: bool = True

    @property
    def derivation(self) -> str:
        """What the signal is made of, as it is displayed: ``E1 - E2``."""
        return " - ".join(self.parts)

    @property
    def label(self) -> str:
        """What stores call it, however the wish was spelt: ``E1-E2``."""
        return "-".join(self.parts)


def parts_of(wish: str, labels: Iterable[str]) -> tuple[str, ...]:
    """The label that a wish means among ``labels``, or the two of a difference; () for neither.

    A difference is cut at `` - `` if it can be, else at the first hyphen that leaves two labels.
    """
    labels = list(labels)
    if (label := _spelt(wish, labels)) is not None:
        return (label,)
    for pair in cuts_of(wish):
        first, second = (_spelt(part, labels) for part in pair)
        if first is not None and second is not None:
            return (first, second)
    return ()


def first_of(wishes: Iterable[str], signals: Mapping[str, Signal]) -> MatchedChannel | None:
    """The channel of the first wish that ``signals`` fulfil, passing over unlike differences."""
    for wish in wishes:
        parts = parts_of(wish, signals)
        if parts and _are_alike(parts, signals):
            return _made_of(parts, signals)
    return None


def named(wish: str, signals: Mapping[str, Signal], where: object) -> MatchedChannel | None:
    """The channel that a user asks for by name; ``None`` if no label or difference fits.

    Raises:
        UserError: the two channels of a difference have other rates or units.
    """
    parts = parts_of(wish, signals)
    if not parts:
        return None
    if not _are_alike(parts, signals):
        one, other = (signals[part] for part in parts)
        raise UserError(
            f"{where}: --channels {wish}: {parts[0]} has {one.fs:g} Hz in {one.unit}, {parts[1]} "
            f"{other.fs:g} Hz in {other.unit}; a difference needs one rate and one unit"
        )
    return _made_of(parts, signals)


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


def _are_alike(parts: tuple[str, ...], signals: Mapping[str, Signal]) -> bool:
    return len({(signals[part].fs, unit_named(signals[part].unit)) for part in parts}) == 1


def _made_of(parts: tuple[str, ...], signals: Mapping[str, Signal]) -> MatchedChannel:
    if len(parts) == 1:
        return MatchedChannel(signals[parts[0]], parts)
    one, other = (signals[part] for part in parts)

    def read(start: float, stop: float) -> np.ndarray:
        return one.read(start, stop) - other.read(start, stop)

    return MatchedChannel(Signal(one.fs, one.unit, min(one.seconds, other.seconds), read), parts)
