"""Scorings as XML: Sleepware's RML, Wonambi, EDFbrowser, Profusion."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from datasets.readers.scorings import nsrr_annotations, times
from datasets.readers.scorings.clocks import clock_of, timeline_of
from datasets.readers.scorings.scoring import Recorded, Row, Scoring, Text

_STAGINGS = ("UserStaging", "MachineStaging")  # a person's is preferred


def tag_of(element: ElementTree.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def _named(root: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (element for element in root.iter() if tag_of(element) == name)


def read_profusion(text: Text, root: ElementTree.Element, recorded: Recorded) -> Scoring:
    """Read Compumedics Profusion: R&K's numbers, one per epoch of the length that it states."""
    codes, seconds = nsrr_annotations.profusion_codes(root, text.path)
    return Scoring([Row(code) for code in codes], epoch=seconds, vocabulary="rk")


def read_nsrr(text: Text, root: ElementTree.Element, recorded: Recorded) -> Scoring:
    """Read NSRR's XML, placed by its own starts."""
    runs = nsrr_annotations.nsrr_runs(root, text.path, recorded.seconds)
    words = ("W", "N1", "N2", "N3", "R", "?")  # -1 picks the last
    return Scoring([Row(words[code], start, end - start) for start, end, code in runs])


def read_rml(text: Text, root: ElementTree.Element, recorded: Recorded) -> Scoring:
    """Read Sleepware G3's RML: changes of stage, the last of which lasts to the end.

    Raises:
        UserError: it holds a program's stages alone.
    """
    stagings = (one for name in _STAGINGS for one in _named(root, name))
    staging = next((one for one in stagings if list(_named(one, "Stage"))), None)
    if staging is None:
        raise text.wrong("holds no sleep stages")
    if tag_of(staging) == "MachineStaging":
        raise text.wrong("its stages are the program's (MachineStaging), no expert's; score them")
    rows = []
    for stage in _named(staging, "Stage"):
        start = times.number_of(stage.get("Start") or "")
        if start is None:
            raise text.wrong(f"a stage starts at {stage.get('Start')!r}, no number of seconds")
        rows.append(Row(stage.get("Type") or "", start))
    return Scoring(rows, until_next=True)


def read_wonambi(text: Text, root: ElementTree.Element, recorded: Recorded) -> Scoring:
    """Read Wonambi's annotations; of several raters the first one."""
    raters = list(_named(root, "rater"))
    rows = []
    for epoch in _named(raters[0] if raters else root, "epoch"):
        start, end = (
            times.number_of(epoch.findtext(f"epoch_{name}") or "") for name in ("start", "end")
        )
        if start is None or end is None:
            raise text.wrong("an epoch without epoch_start or epoch_end; export it again")
        rows.append(Row((epoch.findtext("stage") or "").strip(), start, end - start))
    notes = []
    if len(raters) > 1:
        notes.append(f"{len(raters)} raters: read is {raters[0].get('name')!r}")
    return Scoring(rows, notes=notes)


def read_edfbrowser(text: Text, root: ElementTree.Element, recorded: Recorded) -> Scoring:
    """Read EDFbrowser's list of annotations; onsets are seconds, clock times or ISO 8601."""
    rows, notes = [], []
    onsets = [(one.findtext("onset") or "").strip() for one in _named(root, "annotation")]
    line_of = timeline_of(onsets, recorded, notes)
    for one in _named(root, "annotation"):
        cell = (one.findtext("onset") or "").strip()
        onset, clock = times.number_of(cell), clock_of(cell)
        if onset is None and clock is not None:
            onset = line_of.seconds(clock)
        word = (one.findtext("description") or one.findtext("text") or "").strip()
        if onset is None:
            notes.append(f"{word[:40]!r} is left out: its onset is {cell[:40]!r}")
        else:
            rows.append(Row(word, onset, times.number_of(one.findtext("duration") or "")))
    return Scoring(rows, only_stages=False, notes=notes[:3])


READERS = {
    "CMPStudyConfig": read_profusion,
    "PSGAnnotation": read_nsrr,
    "PatientStudy": read_rml,
    "annotations": read_wonambi,
    "annotationlist": read_edfbrowser,
}
