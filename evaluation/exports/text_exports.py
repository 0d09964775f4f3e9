"""Stages as text for Luna and Snooz, and as YASA's own JSON."""

from __future__ import annotations

from pathlib import Path

from evaluation.exports.exported_stages import codes_of, counted_codes_of, epochs_of, mark_of
from utils.files import write_json, write_table, write_text
from utils.staged_night import StagedNight
from utils.stages import EDF_STAGES, RK_CODES

# what Luna's annot calls a class is described in a line of its own
_CLASSES = ("wake", "NREM 1", "NREM 2", "NREM 3", "REM sleep", "unscored")


def write_annot(path: Path, night: StagedNight) -> None:
    """Write Luna's ``.annot``: a row per epoch, in seconds from the recording's start."""
    mark = mark_of(codes_of(night))
    classes = zip(EDF_STAGES, _CLASSES, strict=True)
    head = [f"# {name} | {words}, {mark}" for name, words in classes]
    rows = [
        f"{EDF_STAGES[code]}\t.\t.\t{onset:.10g}\t+{night.length}\t."
        for onset, code in epochs_of(night)
    ]
    columns = "class\tinstance\tchannel\tstart\tstop\tmeta"
    write_text(path, "\n".join([*head, columns, *rows]) + "\n")


def write_eannot(path: Path, night: StagedNight) -> None:
    """Write Luna's ``.eannot``: a word per epoch, as many as Luna finds in the recording.

    Luna takes any line for an epoch, so nothing in it names its origin; that is known by the list
    of the folder alone.
    """
    write_text(path, "".join(f"{EDF_STAGES[code]}\n" for code in counted_codes_of(night)))


def write_snooz(path: Path, night: StagedNight) -> None:
    """Write Snooz's table of annotations: a row per epoch, R&K's numbers, 9 where unscored."""
    mark = mark_of(codes_of(night))
    origin = {"group": "sleep-staging", "name": mark, "start_sec": 0, "duration_sec": 0}
    stages = [
        {"group": "stage", "name": RK_CODES[code], "start_sec": f"{onset:.10g}",
         "duration_sec": night.length}
        for onset, code in epochs_of(night)
    ]  # fmt: skip
    write_table(path, [row | {"channels": "[]"} for row in (origin, *stages)], delimiter="\t")


def write_yasa(path: Path, night: StagedNight) -> None:
    """Write a ``yasa.Hypnogram``, with start and probabilities, for ``Hypnogram.from_json``."""
    write_json(path, night.hypnogram().to_dict())
