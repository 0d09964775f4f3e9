"""A user's own recording, whatever it is in, as an unscored night of the matched channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np

from datasets.readers.channels import MatchedChannel
from datasets.readers.dreem_file import DreemFile
from datasets.readers.edf import Annotation, EdfFile
from datasets.readers.recording import Recording, SignalFile, whole_epochs
from utils.errors import UserError
from utils.stages import UNSCORED

SUFFIXES = (".edf", ".bdf", ".rec", ".h5")


class AnyFile(SignalFile, Protocol):
    """What can be staged: channels, a clock, and an expert's stages if it holds any.

    ``notes`` tell what was odd; what channels are passed over is added.

    ``clock`` is ``start``, on 1 January 1985 where its date alone is unknown;
    ``gaps`` (k, 2) in s, where nothing was recorded; ``stages`` (n,) codes of an expert, or
    ``None``; ``is_plus`` whether stages may be among its :meth:`annotations`.
    """

    start: datetime | None
    clock: datetime | None
    gaps: np.ndarray
    stages: np.ndarray | None
    is_plus: bool

    def hold(self, labels: Iterable[str]) -> None:
        """Keep these channels' samples in memory, if reading them again would be slow."""

    def annotations(self, broken: list[str] | None = None) -> Sequence[Annotation]:
        """All annotations, of a file that :attr:`is_plus`; broken ones in words in ``broken``."""


def opened(path: Path) -> AnyFile:
    """Open an EDF or BDF file, which may be cut or have gaps, or a Dreem record.

    Raises:
        UserError: it cannot be read.
    """
    if path.suffix.lower() == ".h5":
        return DreemFile(path)
    # gaps are allowed here alone: staging flags the epochs that they touch, a store could not
    return EdfFile(path, gaps=True, salvage=True)


def recording_of(file: AnyFile, matched: Mapping[str, MatchedChannel]) -> Recording:
    """The night of a file with its matched signals, all epochs unscored.

    Raises:
        UserError: the file is shorter than an epoch.
    """
    n_epochs = whole_epochs(file.seconds)
    if not n_epochs:
        raise UserError(f"{file.path}: lasts {file.seconds:g} s; staging needs 30 s at least")
    notes = [*file.notes, *(one.note for one in matched.values() if one.note)]
    return Recording(
        id=Path(file.path).stem,
        subject=Path(file.path).stem,
        night=1,
        signals={label: one.signal for label, one in matched.items()},
        bouts=(),
        stages=np.full(n_epochs, UNSCORED, np.int8),
        start=file.start,
        note="; ".join(notes) or None,
        derivations={label: one.derivation for label, one in matched.items()},
    )
