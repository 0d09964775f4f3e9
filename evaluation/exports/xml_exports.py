"""Stages as XML: Compumedics Profusion, NSRR, EDFbrowser."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from evaluation.exports.exported_stages import (
    UNKNOWN_START,
    bouts_of,
    codes_of,
    counted_codes_of,
    mark_of,
    seconds_of,
    start_of,
)
from utils.files import write_text
from utils.staged_night import StagedNight
from utils.stages import EDF_STAGES, EPOCH_SECONDS, RK_CODES
from utils.version import VERSION

# by code, the last where unscored
_NSRR_CONCEPTS = (
    "Wake|0", "Stage 1 sleep|1", "Stage 2 sleep|2", "Stage 3 sleep|3", "REM sleep|5", "Unscored|9",
)  # fmt: skip


def write_profusion(path: Path, night: StagedNight) -> None:
    """Write Profusion's ``CMPStudyConfig``: R&K's number of every epoch, 9 where unscored."""
    codes = counted_codes_of(night)
    stages = [f"\t\t<SleepStage>{RK_CODES[code]}</SleepStage>" for code in codes]
    _write(path, codes, [
        "<CMPStudyConfig>", f"\t<EpochLength>{EPOCH_SECONDS}</EpochLength>", "\t<StepChannels/>",
        "\t<ScoredEventSettings/>", "\t<ScoredEvents/>", "\t<SleepStages>", *stages,
        "\t</SleepStages>", "\t<Montage/>", "</CMPStudyConfig>",
    ])  # fmt: skip


def write_nsrr(path: Path, night: StagedNight) -> None:
    """Write NSRR's ``PSGAnnotation``: the recording's start and length, then stages in bouts."""
    start = start_of(night)
    clock = [f"<ClockTime>{start:%d.%m.%y %H.%M.%S}</ClockTime>"] if start else []

    def event(kind: str, concept: str, onset: float, seconds: float, more: Sequence[str]) -> list:
        return [
            "<ScoredEvent>", kind, f"<EventConcept>{concept}</EventConcept>",
            f"<Start>{_decimal(onset)}</Start>", f"<Duration>{seconds:.10g}</Duration>", *more,
            "</ScoredEvent>",
        ]  # fmt: skip

    lines = event("<EventType/>", "Recording Start Time", 0, seconds_of(night), clock)
    for onset, seconds, code in bouts_of(night):
        kind = "<EventType>Stages|Stages</EventType>"
        lines += event(kind, _NSRR_CONCEPTS[code], onset, seconds, ())
    _write(path, codes_of(night), [
        "<PSGAnnotation>", f"<SoftwareVersion>sleep-staging {VERSION}</SoftwareVersion>",
        f"<EpochLength>{EPOCH_SECONDS}</EpochLength>", "<ScoredEvents>", *lines, "</ScoredEvents>",
        "</PSGAnnotation>",
    ])  # fmt: skip


def _decimal(seconds: float) -> str:
    """Seconds with a decimal, as NSRR's files have them, or as many as there are."""
    return str(round(float(seconds), 6))


def write_edfbrowser(path: Path, night: StagedNight) -> None:
    """Write EDFbrowser's list of annotations, a bout each, which it places by their clock time.

    It passes over onsets in seconds. Where the start is unknown they count from the start that EDF+
    gives such recordings.
    """
    start = start_of(night) or UNKNOWN_START
    lines = []
    for onset, seconds, code in bouts_of(night):
        at = start + timedelta(seconds=onset)
        lines += [
            "<annotation>", f"<onset>{at:%Y-%m-%dT%H:%M:%S.%f}0</onset>",
            f"<duration>{seconds}</duration>",
            f"<description>Sleep stage {EDF_STAGES[code]}</description>", "</annotation>",
        ]  # fmt: skip
    _write(path, codes_of(night), ["<annotationlist>", *lines, "</annotationlist>"])


def _write(path: Path, codes: Sequence[int], lines: Sequence[str]) -> None:
    head = ['<?xml version="1.0" encoding="UTF-8"?>', f"<!-- {mark_of(codes)} -->"]
    write_text(path, "\n".join([*head, *lines]) + "\n")
