"""NCHSDB: EDFs that call themselves EDF+ without annotations, stages off their grid."""

from __future__ import annotations

from pathlib import Path

from tests.cohort_files.written import edf, noise, telling

FIRST, SECOND, OTHER, BARE = "10000_17728", "10000_17744", "10003_26038", "10006_22153"
# epochs that nobody scored before the first, then its stages
NIGHTS = {
    FIRST: [-1, -1, 0, 0, 1, 2, 3, 3, 4, -1, 0],
    SECOND: [0, 1, 2, 2, 3, 4, 4, 0],
    OTHER: [0, 0, 2, 3, -1, -1, 3, 4],
    BARE: [1, 2, 3, 4, 0, 2, 2],
}
LEADS = {FIRST: 10.96, SECOND: 16.5, OTHER: 0.0, BARE: 21.25}  # s to the first of these
RATES = {FIRST: 256.0, SECOND: 400.0, OTHER: 512.0, BARE: 256.0}
CHINS = {
    FIRST: "EMG Chin1-Chin2", SECOND: "EMG CHIN1-CHIN2", OTHER: "EMG Chin2-Chin1",
    BARE: "EEG Chin1-Chin2",
}  # fmt: skip
EXCLUDED = "1483_7963"
_WORDS = {0: "W", 1: "N1", 2: "N2", 3: "N3", 4: "R"}


def write(folder: Path) -> dict[str, list[int]]:
    """Four studies of three children, and a broken one; stages by recording."""
    for name, codes in NIGHTS.items():
        _signals(folder / f"{name}.edf", name, codes)
        (folder / f"{name}.tsv").write_text(stages_of(codes, LEADS[name]))
    _signals(folder / f"{EXCLUDED}.edf", FIRST, [0, 2])
    (folder / f"{EXCLUDED}.tsv").write_bytes(bytes(200))
    return NIGHTS


def _signals(path: Path, name: str, codes: list[int]) -> None:
    fs = RATES[name]
    own = telling(codes, fs, lead=LEADS[name], tail=7)
    own = own[: len(own) // int(fs) * int(fs)]
    n = len(own)
    if name == BARE:  # against what the recorder had in common
        ear = noise(("EEG M1",), fs, n)
        eeg = {"EEG C4": (fs, own + ear["EEG M1"][1]), **ear, **noise(("EEG C3", "EEG M2"), fs, n)}
    else:
        eeg = noise(("EEG C3-M2", "EEG O1-M2"), fs, n) | {"EEG C4-M1": (fs, own)}
    kind = "EEG" if name == OTHER else "EOG"
    eyes = {f"{kind} LOC-M2": (fs, own), f"{kind} ROC-M1": (fs, -own)}
    edf(path, eeg | eyes | noise((CHINS[name],), fs, n))
    content = bytearray(path.read_bytes())
    content[168:176], content[192:236] = b"01.01.01", b"EDF+C".ljust(44)
    path.write_bytes(content)


def stages_of(codes: list[int], lead: float) -> str:
    """The table: stages on the scorer's own onsets, among other events."""
    rows = [(1.25, 0.0, "Start Recording"), (lead + 60, 0.0, "Lights Off")]
    for k, code in enumerate(codes):
        if code >= 0:
            rows.append((lead + 30 * k, 30.0, f"Sleep stage {_WORDS[code]}"))
            rows.append((lead + 30 * k + 4.5, 11.2, "Oxygen Desaturation"))
    unknown = [k for k, code in enumerate(codes) if code < 0 and k > 3]
    if len(unknown) == 1:  # one that is said to be unknown; two are a gap of a minute
        rows.append((lead + 30 * unknown[0], 30.0, "Sleep stage ?"))
    rows.append((lead + 30 * len(codes), 0.0, "Lights On"))
    lines = [f"{a:.6f}\t{b:.6f}\t{text}" for a, b, text in sorted(rows)]
    return "\n".join(["onset\tduration\tdescription", *lines]) + "\n"
