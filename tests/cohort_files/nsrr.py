"""CFS, CCSHS, CHAT, HomePAP, SOF: EDFs against Fpz, two forms of XML in trees of their own."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np

from tests.cohort_files.written import edf, noise, telling

_CODES = {0: "0", 1: "1", 2: "2", 3: "3", 4: "5", -1: "9"}
_CONCEPTS = {
    0: "Wake|0", 1: "Stage 1 sleep|1", 2: "Stage 2 sleep|2", 3: "Stage 3 sleep|3",
    4: "REM sleep|5", -1: "Unscored|9",
}  # fmt: skip
# by cohort: recordings with their folders and stages
NIGHTS = {
    "cfs": {
        "cfs-visit5-800002": ("", [0, 0, 1, 2, 3, 3, 4, 0]),
        "cfs-visit5-800010": ("", [0, 1, 2, 2, -1, 3, 4, 4]),
        "cfs-visit5-800033": ("", [2, 2, 3, 4, 0, 0, 1, 1]),
    },
    "ccshs": {"ccshs-trec-1800001": ("", [0, 0, 1, 2, 3, 3, 4, 0])},
    "chat": {
        "chat-baseline-300001": ("baseline", [0, 1, 2, 3, 3, 2, 4, 4]),
        "chat-followup-300001": ("followup", [2, 2, 3, 4, 4, 0, 0, 1]),
        "chat-nonrandomized-300007": ("nonrandomized", [0, 2, 2, 3, -1, 4, 4, 0]),
    },
    "homepap": {
        "homepap-lab-full-1600001": ("lab/full", [0, 0, 1, 2, 3, 2, 4, 4]),
        "homepap-lab-split-1600001": ("lab/split", [0, 1, 2, 2, 3, 3, 4, 0]),
    },
    "sof": {"sof-visit-8-07853": ("", [0, 0, 0, 1, 2, 3, 3, 4])},
}
# sites against what is common to the recorder, left and right eye, chins (left, centre), rate
_MONTAGES = {
    "cfs": ("C4", "A1", "LOC", "ROC", "EMG2", "EMG1", 128.0),
    "ccshs": ("C4", "A1", "LOC", "ROC", "EMG2", "EMG1", 128.0),
    "chat": ("C4", "M1", "E1", "E2", "Lchin", "Cchin", 200.0),
    "homepap": ("C4", "M1", "E1", "E2", "Rchon", "Cchin", 200.0),
    "sof": ("C4", "A1", "LOC", "ROC", "L Chin", "R Chin", 128.0),
}
FAMILIES = {"800002": "12", "800010": "31", "800033": "12"}


def write(folder: Path, cohort: str) -> dict[str, list[int]]:
    """Recordings of one cohort; their stages."""
    for name, (place, codes) in NIGHTS[cohort].items():
        tree = folder / "polysomnography"
        _signals(tree / "edfs" / place / f"{name}.edf", cohort, name, codes)
        for kind, text in (("profusion", profusion(codes)), ("nsrr", nsrr(codes))):
            path = tree / f"annotations-events-{kind}" / place / f"{name}-{kind}.xml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if cohort == "cfs":
        rows = [f"{person},{family},1" for person, family in FAMILIES.items()]
        path = folder / "datasets" / "cfs-visit5-dataset-0.7.0.csv"
        path.parent.mkdir()
        path.write_text("\n".join(["nsrrid,familyid,visit", *rows]) + "\n")
    return {name: codes for name, (_, codes) in NIGHTS[cohort].items()}


def _signals(path: Path, cohort: str, name: str, codes: list[int]) -> None:
    site, ear, left, right, chin, centre, fs = _MONTAGES[cohort]
    own = telling(codes, fs)
    # what Fpz has is in every channel, and in no difference
    fpz = 80 * np.sin(2 * np.pi * 7 * np.arange(len(own)) / fs)
    signals = noise((site, ear, chin, centre, "C3"), fs, len(own))
    ears = signals[ear][1]
    marked = {site: own + ears, left: own, right: -own, ear: ears}
    signals |= {label: (fs, values + fpz) for label, values in marked.items()}
    if "split" in name:  # sites with other labels
        spelt = {site: "C4-M1", left: "L-EOG", right: "R-EOG", chin: "Chin1-Chin2"}
        del signals[ear]
        signals = {spelt.get(label, label): one for label, one in signals.items()}
        signals["C4-M1"] = (fs, own)
    edf(path, signals)


def profusion(codes: list[int], seconds: int = 30) -> str:
    """Compumedics' XML: a number per epoch."""
    stages = "".join(f"<SleepStage>{_CODES[code]}</SleepStage>" for code in codes)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<CMPStudyConfig>'
        f"<EpochLength>{seconds}</EpochLength><ScoredEvents><ScoredEvent><Name>Unsure</Name>"
        "<Start>61</Start><Duration>12</Duration></ScoredEvent></ScoredEvents>"
        f"<SleepStages>{stages}</SleepStages></CMPStudyConfig>"
    )


def nsrr(codes: list[int]) -> str:
    """NSRR's XML: bouts of stages among events."""
    events, at = [], 0
    for code, run in groupby(codes):
        n = len(list(run))
        events.append(("Stages|Stages", _CONCEPTS[code], 30 * at, 30 * n))
        at += n
    events.append(("Respiratory|Respiratory", "Unsure|Unsure", 61, 12))
    rows = "".join(
        f"<ScoredEvent><EventType>{kind}</EventType><EventConcept>{concept}</EventConcept>"
        f"<Start>{start}</Start><Duration>{seconds}</Duration></ScoredEvent>"
        for kind, concept, start, seconds in events
    )
    return (
        f'<?xml version="1.0"?><PSGAnnotation><EpochLength>30</EpochLength><ScoredEvents>{rows}'
        "</ScoredEvents></PSGAnnotation>"
    )
