"""Annotations of synthetic NSRR nights: both kinds of XML, WSC's text files, APPLES' table."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np

from datasets.synthetic.night import Night
from utils.files import write_text
from utils.stages import EPOCH_SECONDS

# code (R&K, 6 movement, 9 unscored) -> concept; the two older families have no code in them
_PIPED = {0: "Wake|0", 1: "Stage 1 sleep|1", 2: "Stage 2 sleep|2", 3: "Stage 3 sleep|3",
          4: "Stage 4 sleep|4", 5: "REM sleep|5", 6: "Movement|6", 9: "Unscored|9"}  # fmt: skip
_SRO = {0: "SRO:Wake", 1: "SRO:Stage1Sleep", 2: "SRO:Stage2Sleep", 3: "SRO:Stage3Sleep",
        4: "SRO:Stage4Sleep", 5: "SRO:RapidEyeMovement", 6: "SRO:Movement",
        9: "SRO:Unscored"}  # fmt: skip
_NREM = "SDO:NonRapidEyeMovementSleep-N"
_SDO = {0: "SDO:WakeState", 1: f"{_NREM}1", 2: f"{_NREM}2", 3: f"{_NREM}3", 4: f"{_NREM}3",
        5: "SDO:RapidEyeMovementSleep", 6: "SDO:Movement", 9: "SDO:Unscored"}  # fmt: skip
# Twin and APPLES write AASM stages, which have no stage 4
_TWIN = {0: "W", 1: "N1", 2: "N2", 3: "N3", 4: "N3", 5: "R", 6: "MVT", 9: "NO STAGE"}
_APPLES = {0: "W", 1: "N1", 2: "N2", 3: "N3", 4: "N3", 5: "R", 6: "?", 9: "L"}
_GAMMA = {**{code: code for code in range(7)}, 9: 7}


def write(folder: Path, cohort: str, stem: str, night: Night, start: datetime) -> None:
    """Write all annotations of one night, where the cohort has them below ``folder``."""
    if cohort == "wsc":
        _write_wsc(folder, stem, night, start)
    elif cohort == "apples":
        write_text(folder / f"{stem}.annot", apples_annot(night, start))
    else:
        visit = {"shhs": stem[:5], "mros": f"visit{night.number}"}.get(cohort, "")
        number = night.subject.number
        family = number % 4 if cohort == "shhs" else 0
        bare = cohort == "mros" and number % 3 == 1  # stages, and no events
        path = folder / "annotations-events-nsrr" / visit / f"{stem}-nsrr.xml"
        encoding = "latin-1" if family == 1 else "utf-8"
        write_text(path, nsrr_xml(night, start, family, bare=bare), encoding=encoding)
        path = folder / "annotations-events-profusion" / visit / f"{stem}-profusion.xml"
        # a byte-order mark before the declaration, which readers must accept
        encoding = "utf-8-sig" if family == 3 else "utf-8"
        write_text(path, profusion_xml(night), encoding=encoding)


def runs_of(night: Night) -> list[tuple[int, int, int]]:
    """First epoch, length and code of every bout, as the scorer wrote it."""
    rk = night.timeline.rk
    borders = np.r_[0, np.flatnonzero(np.diff(rk)) + 1, len(rk)]
    return [(int(a), int(b - a), int(rk[a])) for a, b in pairwise(borders)]


def nsrr_xml(night: Night, start: datetime, family: int = 0, *, bare: bool = False) -> str:
    """NSRR annotation of a night (``PSGAnnotation``).

    ``family`` 1 and 3 are of older translators (concepts of SRO, of SDO), 2 has no order. ``bare``
    leaves out all events but stages.
    """
    concepts = {1: _SRO, 3: _SDO}.get(family, _PIPED)
    typed = family in (0, 2)

    def event(kind: str, concept: str, at: float, duration: float, more: str = "") -> str:
        parts = [
            f"<EventConcept>{concept}</EventConcept>",
            f"<Start>{at}</Start>",
            f"<Duration>{duration}</Duration>",
        ]
        if typed:
            parts = [f"<EventType>{kind}</EventType>" if kind else "<EventType/>", *parts]
        else:  # older translators write the duration first
            parts = [parts[0], parts[2], parts[1]]
        return "\n".join(["<ScoredEvent>", *parts, *([more] if more else []), "</ScoredEvent>"])

    clock = f"<ClockTime>01.01.85 {start:%H.%M.%S}</ClockTime>"
    first = event("", "Recording Start Time", 0, float(night.seconds), clock)
    arousal = ("Arousals|Arousals", "Arousal|Arousal ()") if typed else ("", "SRO:Arousal")
    others = [
        event(*arousal, round(float(at), 1), round(float(length), 1))
        for at, length in zip(
            night.events["arousal"].onset, night.events["arousal"].duration, strict=True
        )
    ]
    others.append(event("", "", 12.0, 5.0))  # a code the translator did not know
    stages = [
        event("Stages|Stages", concepts[code], float(EPOCH_SECONDS * at), float(EPOCH_SECONDS * n))
        for at, n, code in runs_of(night)
    ]
    events = stages if bare else [*others, *stages]
    if family == 2:
        events = events[1::2] + events[::2]
    encoding, end = ("ISO-8859-1", "\r\n") if family == 1 else ("UTF-8", "\n")
    lines = [
        f'<?xml version="1.0" encoding="{encoding}" standalone="no"?>',
        "<PSGAnnotation>",
        "<SoftwareVersion>Compumedics</SoftwareVersion>",
        "<EpochLength>30</EpochLength>",
        "<ScoredEvents>",
        first,
        *events,
        "</ScoredEvents>",
        "</PSGAnnotation>",
    ]
    return "\n".join(lines).replace("\n", end)


def profusion_xml(night: Night) -> str:
    """Profusion annotation (``CMPStudyConfig``): one ``SleepStage`` per epoch, tabs, CRLF."""
    stages = [f"\t\t<SleepStage>{code}</SleepStage>" for code in night.timeline.rk.tolist()]
    event = [
        "\t\t<ScoredEvent>",
        "\t\t\t<LowestSpO2>89</LowestSpO2>",
        "\t\t\t<Desaturation>4</Desaturation>",
        "\t\t\t<Name>SpO2 desaturation</Name>",
        "\t\t\t<Start>40.5</Start>",
        "\t\t\t<Duration>12</Duration>",
        "\t\t\t<Input>SaO2</Input>",
        "\t\t</ScoredEvent>",
    ]
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<!-- synthetic -->",  # readers must not take it for the root
        "<CMPStudyConfig>",
        "\t<EpochLength>30</EpochLength>",
        "\t<StepChannels/>",
        "\t<ScoredEventSettings/>",
        "\t<ScoredEvents>",
        *event,
        "\t</ScoredEvents>",
        "\t<SleepStages>",
        *stages,
        "\t</SleepStages>",
        "\t<Montage/>",
        "</CMPStudyConfig>",
    ]
    return "\r\n".join(lines)


def _write_wsc(folder: Path, stem: str, night: Night, start: datetime) -> None:
    """Gamma files for even subjects (every other one without header and too short), else Twin."""
    number = night.subject.number
    if number % 2:
        write_text(
            folder / f"{stem}-nsrr.allscore.txt", twin_text(night, start), encoding="latin-1"
        )
        return
    plain = number % 4 == 0
    rows = [
        f"{k}\t{_GAMMA[code]}\t{_GAMMA[code]}"
        for k, code in enumerate(night.timeline.rk.tolist(), 1)
    ]
    header = "Epoch\tUser-Defined Stage\tCAST-Defined Stage"
    lines = [header, *rows] if plain else rows[:-3]
    write_text(folder / f"{stem}-nsrr.stg.txt", "\n".join(lines) + "\n")
    # a test before the night, whose clock must not be taken for the recording's
    log = [
        "--/--/--",
        f"{start - timedelta(hours=2):%H:%M:%S} 1\tRecording Started (test)",
        f"{start:%H:%M:%S} 1\tRecording Started",
    ]
    write_text(folder / f"{stem}-nsrr.log.txt", "\n".join(log) + "\n")


def twin_text(night: Night, start: datetime) -> str:
    """Twin's ``.allscore.txt``: changes of stage by clock, one within an epoch, and other lines."""

    def line(seconds: float, text: str) -> str:
        at = start + timedelta(seconds=seconds)
        return f"{at:%H:%M:%S}.00\t{text}"

    # a stage before START RECORDING is none of the night's
    rows = [line(-90, "STAGE - N3"), line(-60, "NEW MONTAGE"), line(0, "START RECORDING")]
    events = [
        (float(at), f"AROUSAL - DUR: {d:.1f} SEC. - SPONTANEOUS")
        for at, d in zip(
            night.events["arousal"].onset, night.events["arousal"].duration, strict=True
        )
    ]
    # nine seconds late: an epoch keeps what covers most of it
    stages = [
        (EPOCH_SECONDS * at + 9.0 * (k == 2), f"STAGE - {_TWIN[code]}")
        for k, (at, _, code) in enumerate(runs_of(night))
    ]
    # a degree sign, which in Latin-1 is no valid UTF-8
    stages.append((EPOCH_SECONDS * 5.0, "PAUSED \xb0"))
    rows += [line(at, text) for at, text in sorted([*events, *stages])]
    rows.append(line(night.seconds, "LIGHTS ON"))
    return "\r\n".join(rows) + "\r\n"


def apples_annot(night: Night, start: datetime) -> str:
    """APPLES' ``.annot``: a preamble, then intervals by clock, one of them by elapsed seconds."""
    lines = ["# arousal", "# synthetic", "class\tinstance\tchannel\tstart\tstop\tmeta"]
    for k, (at, n, code) in enumerate(runs_of(night)):
        begin, end = EPOCH_SECONDS * at, EPOCH_SECONDS * (at + n)
        if k == 1:
            times = f"{float(begin)}\t{float(end)}"
        else:
            clock = [start + timedelta(seconds=s) for s in (begin, end)]
            times = f"{clock[0]:%H:%M:%S}\t{clock[1]:%H:%M:%S}"
        lines.append(f"{_APPLES[code]}\t.\t.\t{times}\t.")
    for at, d in zip(night.events["arousal"].onset, night.events["arousal"].duration, strict=True):
        lines.append(f"arousal\t.\t.\t{at:.1f}\t{at + d:.1f}\t.")
    return "\n".join(lines) + "\n"
