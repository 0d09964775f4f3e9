"""BOAS: BIDS, a PSG and a headband per night, persons in a table, stages of two sources."""

from __future__ import annotations

from pathlib import Path

from tests.cohort_files.written import edf, noise, telling

FS = 256.0
NIGHTS = {
    "sub-1": [1, 2, 2, 3, 3, 4, 4, 0],
    "sub-2": [0, 0, 1, 2, -1, -1, 2, 4, 0],
    "sub-10": [0, 1, 2, 3, 2, 4, 4, 4],
}
PERSONS = {"sub-1": "7", "sub-2": "3", "sub-10": "7"}
DISCONNECTED = "8"


def write(folder: Path) -> dict[str, list[int]]:
    """Three nights of two persons; stages by recording."""
    folder.mkdir(parents=True)
    rows = [f"{night}\t{pid}\tF\t{30 + int(pid)}" for night, pid in PERSONS.items()]
    (folder / "participants.tsv").write_text("\n".join(["participant_id\tpid\tsex\tage", *rows]))
    for name, codes in NIGHTS.items():
        _night(folder / name / "eeg", name, codes)
    return NIGHTS


def _night(folder: Path, name: str, codes: list[int]) -> None:
    own = telling(codes, FS)
    eyes = {"PSG_EOG": (FS, own)}  # bipolar, or in other nights both against M1
    if name == "sub-2":
        eyes = {"PSG_EOGL": (FS, own), "PSG_EOGR": (FS, -own)}
    labels = ("PSG_F3", "PSG_F4", "PSG_C3", "PSG_C4", "PSG_O1", "PSG_O2", "PSG_EMG")
    psg = noise(labels, FS, len(own)) | {"PSG_C4": (FS, own)} | eyes
    stem = folder / f"{name}_task-Sleep_acq-psg"
    edf(Path(f"{stem}_eeg.edf"), psg)
    lines = ["name\ttype\tunits", *(f"{label}\tEEG\tuV" for label in psg)]
    Path(f"{stem}_channels.tsv").write_text("\n".join(lines))
    Path(f"{stem}_events.tsv").write_text(_events(codes, with_scorers=True))
    headband = folder / f"{name}_task-Sleep_acq-headband"
    edf(Path(f"{headband}_eeg.edf"), noise(("HB_1", "HB_2"), FS, len(own)))
    Path(f"{headband}_events.tsv").write_text(_events(codes, with_scorers=False))


def _events(codes: list[int], *, with_scorers: bool) -> str:
    """Rows from 0 on, 30 s each; the program finds N2 everywhere, an artefact in the first."""
    names = ["onset", "duration", "begsample", "endsample", "offset", "stage_hum", "stage_ai"]
    rows = [names]
    for k, code in enumerate(codes):
        person = DISCONNECTED if code < 0 else str(code)
        ends = [30 * k, 30, round(30 * k * FS) + 1, round(30 * (k + 1) * FS), 0]
        rows.append([*map(str, ends), person, "2" if k else "-2"])
    if not with_scorers:
        rows = [[*row[:5], row[6]] for row in rows]
    return "\n".join("\t".join(row) for row in rows) + "\n"
