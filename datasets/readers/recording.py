"""What every reader returns: a night's signals, still in the file, and its stages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from utils.stages import EPOCH_SECONDS, UNSCORED

# factors of units in lower case
TO_MICROVOLT = {"nv": 1e-3, "uv": 1.0, "µv": 1.0, "mv": 1e3, "v": 1e6}
UNKNOWN_UNIT = "unknown"  # of signals whose gain nobody knows, as a cohort's profile declares
Scale = tuple[float, float]  # gain and offset: a value is (a recorder's integer + offset) * gain
# signs of Unicode: both letters mu, nV, uV and mV
_SIGNS = {0xB5: "\u03bc", 0x33B5: "nV", 0x33B6: "uV", 0x33B7: "mV"}
# mu, as in code pages of Greek and Russian, and read in one that it is not, of Japan or China
_MICRO = (
    "\u03bc|\u00c2\u03bc|\u00ce\u00bc|\u00ec|\u00e6|[?\u0083]\u00ca|\u00a6\u00cc|\ufffd|mc|mk"
    "|\u043c\u043a|micro?|[?]|u"
)
_VOLTS = re.compile(
    rf"(?:({_MICRO})|(m|milli)|(n|nano))?[ -]?[v\u0432](?:olts?)?(?:rms)?", re.IGNORECASE
)


def unit_named(written: str) -> str:
    """The unit that a file spells: ``nV``, ``uV``, ``mV``, ``V``, "" for none, else as written."""
    text = written.translate(_SIGNS).strip(" \0.()[]")
    match = _VOLTS.fullmatch(text)
    if match is None:
        return text
    micro, milli, nano = match.groups()
    return "uV" if micro else "mV" if milli else "nV" if nano else "V"


@dataclass(frozen=True)
class Signal:
    """One channel at its own rate; ``read(start_s, stop_s)`` returns float64 in ``unit``.

    Samples that the file lacks, or that are no numbers, are NaN in what is read. ``scale`` is the
    recorder's own, in ``unit``, if it is known; whoever changes the samples may leave it.
    """

    fs: float
    unit: str
    seconds: float
    read: Callable[[float, float], np.ndarray] = field(repr=False)
    scale: Scale | None = None


@dataclass(frozen=True)
class Bout:
    """A run of epochs as the scorer wrote it: first epoch, length, stage code."""

    first: int
    length: int
    stage: int


@dataclass(frozen=True)
class Recording:
    """One night of one subject, as its files have it.

    ``bouts`` keep the source's own order and grouping, which one published protocol needs;
    ``stages`` (int8, one per whole epoch of signal) is what everything else uses. ``note`` is
    what a reader had to change; ``derivations`` which channels of the file a signal is made of,
    where signals are named by role, and ``labels`` those of the whole file. ``onsets`` (n,) in s
    are those of 30 s windows that do not follow each other from the signal's start: a scorer's own
    epochs, or shorter ones with context.
    """

    id: str
    subject: str
    night: int
    signals: Mapping[str, Signal]
    bouts: tuple[Bout, ...]
    stages: np.ndarray
    start: datetime | None
    note: str | None = None
    derivations: Mapping[str, str] = field(default_factory=dict)
    onsets: np.ndarray | None = None
    labels: Sequence[str] = ()


class LabelledChannel(Protocol):
    """One channel of a file, as its header describes it."""

    label: str
    unit: str
    fs: float

    @property
    def scale(self) -> Scale | None: ...


class SignalFile(Protocol):
    """A file with channels, whatever its format; ``channel`` refuses broken ones."""

    path: Path
    seconds: float
    channels: Sequence[LabelledChannel]
    notes: list[str]

    def channel(self, label: str) -> LabelledChannel: ...

    def hold(self, labels: Iterable[str]) -> None: ...

    def read(self, label: str, start: float, stop: float) -> np.ndarray: ...


class FileSignals(Mapping[str, Signal]):
    """Every channel of a file by label, still in the file.

    A channel that occurs twice or cannot be read is refused when it is looked up, not before:
    it matters to nobody who does not ask for it. ``blank`` is the unit of channels that name none.
    """

    def __init__(self, file: SignalFile, blank: str = "") -> None:
        self._file, self._blank = file, blank
        # in file order, each once: a file may repeat a label
        self._labels = tuple(dict.fromkeys(channel.label for channel in file.channels))

    def __getitem__(self, label: str) -> Signal:
        channel = self._file.channel(label)
        unit = unit_named(channel.unit) or self._blank
        read = partial(self._file.read, label)
        return Signal(channel.fs, unit, self._file.seconds, read, channel.scale)

    def __contains__(self, label: object) -> bool:
        # Mapping's own would look the channel up, which refuses broken ones
        return label in self._labels

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)


def bouts_of(codes: Iterable[int]) -> tuple[Bout, ...]:
    """One bout per epoch, for scorings that have one code per epoch."""
    return tuple(Bout(number, 1, int(code)) for number, code in enumerate(codes))


def stages_from_bouts(bouts: tuple[Bout, ...], n_epochs: int) -> np.ndarray:
    """Codes per epoch (int8, ``n_epochs``), cut to the signal; epochs nobody scored are -1."""
    stages = np.full(n_epochs, UNSCORED, dtype=np.int8)
    # slices end with the array: a scoring may be longer than the signal
    for bout in bouts:
        stages[bout.first : bout.first + bout.length] = bout.stage
    return stages


def whole_epochs(seconds: float) -> int:
    """Number of whole epochs in ``seconds`` of signal, forgiving float noise in the rate."""
    return int(seconds / EPOCH_SECONDS + 1e-9)
