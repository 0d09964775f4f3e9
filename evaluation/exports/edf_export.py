"""Stages as EDF+ annotations, for MNE, EDFbrowser, Luna and whatever else reads EDF+."""

from __future__ import annotations

from pathlib import Path

from datasets.readers.scorings import own_exports
from evaluation.exports.exported_stages import bouts_of, codes_of, start_of
from utils.files import written_whole
from utils.staged_night import StagedNight
from utils.stages import EDF_STAGES


def write_edf(path: Path, night: StagedNight) -> Path:
    """Write EDF+ annotations, one per bout of a stage, on the clock of the source recording."""
    import edfio

    start = start_of(night)
    # by these marks the file is never taken for an expert's hypnogram, unless it was edited
    equipment, additional = own_exports.edf_fields(codes_of(night))
    about = edfio.Recording(
        startdate=start.date() if night.start else None,
        equipment_code=equipment,
        additional=additional,
    )
    edf = edfio.Edf(
        [],  # annotations alone, without a signal
        recording=about,
        starttime=start.time() if start else None,
        annotations=[
            edfio.EdfAnnotation(onset, seconds, f"Sleep stage {EDF_STAGES[code]}")
            for onset, seconds, code in bouts_of(night)
        ],
    )
    with written_whole(path) as temporary:
        edf.write(temporary)
    return path
