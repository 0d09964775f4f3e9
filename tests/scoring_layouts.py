"""Scorings as laboratories' software writes them: one slow writer per layout, for planted stages.

Written from the layouts' descriptions alone, without the project's code. ``NIGHT`` has R&K's
letters of 40 epochs; every writer returns the text of a file that scores them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import groupby

START = datetime(2021, 3, 4, 23, 50)  # midnight lies in the middle
NIGHT = "WWW112222?2333443322RRRRRWW11222RRR?WWWW"
CODE = {"W": 0, "1": 1, "2": 2, "3": 3, "4": 3, "R": 4, "?": -1}
TRUTH = [CODE[letter] for letter in NIGHT]
AASM = {"W": "W", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "R": "R", "?": "?"}
RK = {"W": 0, "1": 1, "2": 2, "3": 3, "4": 4, "R": 5, "?": 9}
YASA = {"W": 0, "1": 1, "2": 2, "3": 3, "4": 3, "R": 4, "?": -2}


def words(names: dict, night: str = NIGHT) -> list[str]:
    return [str(names[letter]) for letter in night]


def clock(k: float, form: str = "%H:%M:%S") -> str:
    return (START + timedelta(seconds=30 * k)).strftime(form)


def bouts(night: Sequence = NIGHT) -> list[tuple[int, int, str]]:
    """First epoch, length and letter of every run."""
    runs, at = [], 0
    for letter, run in groupby(night):
        length = len(list(run))
        runs.append((at, length, letter))
        at += length
    return runs


def lines(rows: Sequence[str]) -> str:
    return "\n".join(rows) + "\n"


def table(header: str, rows: Sequence[Sequence[object]], separator: str = ",") -> str:
    return lines([header, *(separator.join(map(str, row)) for row in rows)])


def remlogic(form: str = "%H:%M:%S", *, french: bool = False, position: bool = True) -> str:
    sleep = {"W": "S0", "1": "S1", "2": "S2", "3": "S3", "4": "S4", "R": "REM", "?": "UNSCORED"}
    header = ["Sleep Stage", "Position", "Time [hh:mm:ss]", "Event", "Duration[s]", "Location"]
    if french:
        header = ["Stade", "Position", "Heure [hh:mm:ss]", "Événement", "Durée[s]", "Lieu"]
    rows = []
    for k, letter in enumerate(NIGHT):
        name = f"SLEEP-{sleep[letter]}"
        rows.append([sleep[letter], "Unknown", clock(k, form), name, "30", "EEG"])
        if k % 7 == 3:
            rows.append(["S2", "Left", clock(k + 0.2, form), "MCAP-A1", "4", "EEG C4"])
            rows.append(["S2", "Left", clock(k + 0.3, form), "SPINDLE", "1", "EEG C4"])
    if not position:
        header, rows = ([row[0], *row[2:]] for row in [header]), [[r[0], *r[2:]] for r in rows]
        header = next(iter(header))
    head = [
        "RemLogic Event Export", "Patient:\tAnon", "Recording Date:\t04/03/2021", "",
        "Events Included:", "SLEEP-S0", "SLEEP-S1", "MCAP-A1", "", "Scoring Session:", "",
    ]  # fmt: skip
    return lines([*head, "\t".join(header), *("\t".join(row) for row in rows)])


def domino(start: str = "%d.%m.%Y %H:%M:%S") -> str:
    names = {"W": "Wake", "1": "N1", "2": "N2", "3": "N3", "4": "N4", "R": "Rem", "?": "A"}
    head = [
        "Signal ID: SchlafProfil\\profil", f"Start Time: {START.strftime(start)}", "Unit: ",
        "Signal Type: Discret", "Events list: N4,N3,N2,N1,Rem,Wake,Artifact", "Rate: 30 s", "",
    ]  # fmt: skip
    return lines([*head, *(f"{clock(k)},000; {w}" for k, w in enumerate(words(names)))])


def profusion(seconds: int = 30, night: str = NIGHT) -> str:
    stages = "".join(f"<SleepStage>{RK[letter]}</SleepStage>" for letter in night)
    return (
        f'<?xml version="1.0"?><CMPStudyConfig><EpochLength>{seconds}</EpochLength>'
        f"<SleepStages>{stages}</SleepStages></CMPStudyConfig>"
    )


def rml(*, machine: bool = True) -> str:
    names = {"W": "Wake", "1": "NonREM1", "2": "NonREM2", "3": "NonREM3", "4": "NonREM3"}
    names |= {"R": "REM", "?": "NotScored"}
    stages = "".join(f'<Stage Type="{names[x]}" Start="{30 * first}" />' for first, _, x in bouts())
    other = (
        "<MachineStaging><NeuroAdultAASMStaging><Stage Type='Wake' Start='0'/>"
        "</NeuroAdultAASMStaging></MachineStaging>"
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<PatientStudy xmlns="http://www.respironics.com/PatientStudy.xsd"><ScoringData>'
        f"<StagingData>{other if machine else ''}<UserStaging><NeuroAdultAASMStaging>{stages}"
        "</NeuroAdultAASMStaging></UserStaging></StagingData></ScoringData></PatientStudy>"
    )


def wonambi() -> str:
    names = {"W": "Wake", "1": "NREM1", "2": "NREM2", "3": "NREM3", "4": "NREM3", "R": "REM"}
    names |= {"?": "Undefined"}
    epochs = "".join(
        f"<epoch><epoch_start>{30 * k}</epoch_start><epoch_end>{30 * k + 30}</epoch_end>"
        f"<stage>{name}</stage><quality>Good</quality></epoch>"
        for k, name in enumerate(words(names))
    )
    return (
        '<annotations version="5"><dataset/><rater name="a"><bookmarks/><events/>'
        f"<stages>{epochs}</stages></rater></annotations>"
    )


def edfbrowser_xml(form: str | None = None) -> str:
    def onset(k: int) -> str:
        return f"{30 * k}.0000000" if form is None else clock(k, form)

    rows = "".join(
        f"<annotation><onset>{onset(k)}</onset><duration>30</duration>"
        f"<description>Sleep stage {AASM[x]}@@EEG C4</description></annotation>"
        for k, x in enumerate(NIGHT)
    )
    return f'<?xml version="1.0" encoding="UTF-8"?><annotationlist>{rows}</annotationlist>'


def saf() -> str:
    return "".join(f"+{30 * k}\x1530\x14Sleep stage {x}\x14\x00" for k, x in enumerate(NIGHT))


def annot(*, clocks: bool = False) -> str:
    names = {**AASM, "?": "L"}
    rows = ["# N1 | stage", "class\tinstance\tchannel\tstart\tstop\tmeta"]
    for k, name in enumerate(words(names)):
        begin, end = (clock(k), clock(k + 1)) if clocks else (30 * k, 30 * k + 30)
        rows.append(f"{name}\t.\t.\t{begin}\t{end}\t.")
        if k == 5:
            rows.append(f"arousal\t.\tC4\t{begin}\t{clock(k + 0.3) if clocks else 158}\t.")
    return lines(rows)


def visbrain() -> str:
    names = {"W": "Wake", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "R": "REM", "?": "Art"}
    rows = [f"{names[x]}\t{30 * (first + n)}" for first, n, x in bouts()]
    return lines(["*Duration_sec\t1200", "*Datafile\tUnspecified", *rows])


def markers(fs: int = 100) -> str:
    head = [
        "Brain Vision Data Exchange Marker File, Version 1.0", "[Common Infos]",
        "DataFile=a.eeg", "[Marker Infos]", "Mk1=New Segment,,1,1,0,20210304235000000000",
    ]  # fmt: skip
    rows = [f"Mk{k + 2}=Comment,Sleep stage {AASM[x]},{30 * fs * k + 1},1,0"
            for k, x in enumerate(NIGHT)]  # fmt: skip
    return lines([*head, *rows])


def epochs(names: dict, separator: str = ",", first: int = 0) -> list[str]:
    return [f"{k + first}{separator}{word}" for k, word in enumerate(words(names))]


def timed(names: dict, *, step: int = 30, length: int | None = 30, separator: str = ",") -> list:
    extra = [] if length is None else [length]
    return [[step * k, *extra, word] for k, word in enumerate(words(names))]


SANDMAN = {"W": "Wake", "1": "1", "2": "2", "3": "3", "4": "4", "R": "REM", "?": "?"}
ALICE = {"W": "WK", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "R": "REM", "?": "NotScored"}
DELTAMED = {"W": 1, "R": 2, "1": 3, "2": 4, "3": 5, "4": 5, "?": 0}
DREAMS = {"W": 5, "R": 4, "1": 3, "2": 2, "3": 1, "4": 0, "?": -1}
NOX = {"W": "Éveil", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "R": "REM", "?": "Mouvement"}
FORMAT = "%d/%m/%Y %H:%M:%S"
NOX_ROWS = [[clock(k, FORMAT), clock(k + 1, FORMAT), w, 30] for k, w in enumerate(words(NOX))]
SLEEP = {letter: f"Sleep stage {name}" for letter, name in AASM.items()}
CHANGES = [[30 * first, name] for first, _, name in bouts(words(AASM))]

# name -> file name, text
LAYOUTS: dict[str, tuple[str, str | Callable[[], str]]] = {
    "remlogic": ("a.txt", remlogic()),
    "remlogic, dots": ("a.txt", remlogic("%H.%M.%S", position=False)),
    "remlogic, am and pm": ("a.txt", remlogic("%I:%M:%S %p")),
    "remlogic, ISO": ("a.txt", remlogic("%Y-%m-%dT%H:%M:%S")),
    "remlogic, French": ("a.txt", remlogic(french=True)),
    "profusion": ("a.xml", profusion()),
    "compumedics": ("a.txt", lines(words({**AASM, "W": "AWA"}))),
    "compumedics, digits": ("a.txt", lines(words({**SANDMAN, "W": "W", "R": "R"}))),
    "domino": ("Schlafprofil.txt", domino()),
    "domino, US": ("Sleep profile.txt", domino("%m/%d/%Y %I:%M:%S %p")),
    "alice csv": ("a.csv", table(
        " Epoch Number ,Start Time ,Sleep Stage",
        [[f" {k + 1} ", clock(k, "%I:%M:%S %p").lower(), w] for k, w in enumerate(words(ALICE))],
    )),
    "alice txt": ("a.txt", lines(
        f"{k + 1}\t{clock(k, '%I:%M:%S %p')}\t{w}" for k, w in enumerate(words(ALICE))
    )),
    "alice codes": ("a.txt", lines(words(
        {"W": 11, "1": 12, "2": 13, "3": 14, "4": 14, "R": 15, "?": 10}
    ))),
    "rml": ("a.rml", rml()),
    "rml, one staging": ("a.rml", rml(machine=False)),
    "nox": ("a.csv", table("Start Time,End Time,Event,Duration", NOX_ROWS)),
    "nox, French": ("a.csv", table("Début;Fin;Évènement;Durée", NOX_ROWS, ";")),
    "nox, no header": ("a.csv", table(*(lambda r: (",".join(map(str, r[0])), r[1:]))(NOX_ROWS))),
    "sandman": ("a.txt", lines(
        [f"line {k}" for k in range(13)] + ["Epoch\tStage\tTime"]
        + [f"{k + 1}\t{w}\t{clock(k, '%I:%M:%S %p')}" for k, w in enumerate(words(SANDMAN))]
    )),
    "deltamed": ("a.txt", lines(f"30\t{w}" for w in words(DELTAMED))),
    "prana": ("a.txt", lines(
        ["Prana", "Patient", "", "Epoch 30 s", ""]
        + [f"{clock(k, '%d %H:%M:%S')} (00:00:00)     {w}" for k, w in enumerate(words(RK))]
    )),
    "stanford": ("a.STA", lines(epochs({**RK, "?": 7}, " ", 1))),
    "saf": ("a_saf.txt", saf()),
    "eannot": ("a.eannot", "\n\n".join(words({**AASM, "1": "NREM1", "W": "wake"})) + "\n"),
    "annot": ("a.annot", annot()),
    "annot, clocks": ("a.annot", annot(clocks=True)),
    "yasa words": ("a.txt", lines(words(
        {"W": "WAKE", "1": "N1", "2": "N2", "3": "N3", "4": "N3", "R": "REM", "?": "UNS"}
    ))),
    "yasa codes": ("a_hypno.txt", lines(words(YASA))),
    "yasa csv": ("a.csv", table("Epoch,Stage", [row.split(",") for row in epochs(AASM)])),
    "nidra": ("a.csv", table("sleep_stage", [[w] for w in words(RK)])),
    "r&k codes": ("a.txt", lines(words(RK))),
    "usleep": ("a.hyp", lines(["EPOCH=30", "START=0", *words({**NOX, "W": "Wake"})])),
    "bids": ("a_events.tsv", table("onset\tduration\ttrial_type", timed(SLEEP), "\t")),
    "bids, n/a": ("a_events.tsv", table(
        "onset\tduration\tstage", timed({**AASM, "?": "n/a"}), "\t"
    )),
    "boas": ("a_events.tsv", table(
        "onset\tduration\tbegsample\tendsample\toffset\tstage_hum\tstage_ai",
        [[30 * k, 30, 1, 2, 0, w, 2] for k, w in enumerate(words({**YASA, "?": 8}))], "\t",
    )),
    "edfbrowser csv": ("a.csv", table("Onset,Duration,Annotation", timed(SLEEP))),
    "edfbrowser, clocks": ("a.txt", table(
        "Onset,Duration,Annotation", [[clock(k), 30, w] for k, w in enumerate(words(SLEEP))]
    )),
    "edfbrowser, ISO": ("a.txt", table("Onset,Duration,Annotation", [
        [clock(k, "%Y-%m-%dT%H:%M:%S.0000000"), 30, w] for k, w in enumerate(words(SLEEP))
    ])),
    "edfbrowser xml": ("a.xml", edfbrowser_xml()),
    "edfbrowser xml, ISO": ("a.xml", edfbrowser_xml("%Y-%m-%dT%H:%M:%S.0000000")),
    "hmc": ("SN001_sleepscoring.txt", table(
        "Date, Time, Recording onset, Duration, Annotation, Linked channel",
        [["2021-03-04", " " + clock(0), " 0", " 0", " Lights off", " EEG F4-M1"],
         *([clock(k, "%Y-%m-%d"), " " + clock(k), f" {30 * k}", " 30", " " + w, " "]
           for k, w in enumerate(words(SLEEP)))],
    )),
    "visbrain": ("a.txt", visbrain()),
    "visbrain without its header": ("a.txt", lines(visbrain().splitlines()[2:])),
    "ends of stages": ("a.csv", table("time,stage", [
        [30 * (first + n), name] for first, n, name in bouts(words(AASM))])),
    "visbrain per second": ("a.hyp", lines(
        ["*Duration_sec 1200", *(w for w in words({**YASA, "?": -1}) for _ in range(30))]
    )),
    "visbrain, codes named": ("a.txt", lines(
        ["*Duration_sec 1200", "*W 5", "*N1 4", "*N2 3", "*N3 2", "*REM 1", "*Art 0"]
        + [f"{dict(zip('W1234R?', '5432210', strict=True))[x]}\t{30 * (first + n)}"
           for first, n, x in bouts()]
    )),
    "elan": ("a.hyp", lines(
        ["time_base 30", "sampling_period 0.01", "epoch_nb 40", "epoch_list", *words(
            {**RK, "?": -1})]
    )),
    "wonambi": ("a.xml", wonambi()),
    "mne csv": ("a.csv", table("onset,duration,description", [
        [clock(k, "%Y-%m-%d %H:%M:%S.000000"), 30.0, w] for k, w in enumerate(words(SLEEP))
    ])),
    "mne csv, undated": ("a.csv", table("onset,duration,description", [
        [f"1970-01-01 00:{k // 2:02d}:{30 * (k % 2):02d}.000000", 30.0, w]
        for k, w in enumerate(words(SLEEP))
    ])),
    "mne txt": ("a.txt", table(
        "# MNE-Annotations\n# orig_time : 2021-03-04 23:50:00+00:00\n"
                "# onset, duration, description",
        [[f"{30.0 * k}", "30.0", w] for k, w in enumerate(words(SLEEP))],
    )),
    "vmrk": ("a.vmrk", markers()),
    "vmrk, unknown rate": ("a.vmrk", markers(333)),
    "snooz": ("a.tsv", table("group\tname\tstart_sec\tduration_sec\tchannels", [
        row for k, x in enumerate(words(RK))
        for row in (["stage", x, 30.0 * k, 30.0, "[]"], ["spindle", "5", 30.0 * k + 3, 1, "[C4]"])
    ], "\t")),
    "dreams": ("a.txt", lines(
        ["[HypnogramR&K]", *(w for w in words(DREAMS) for _ in range(6))]
    )),
    "dcsm": ("hypnogram.ids", lines(f"{30 * a},{30 * n},{AASM[x]}" for a, n, x in bouts())),
    "anphy": ("a.txt", lines(f"{AASM[x]}\t{30 * a}\t{30 * n}" for a, n, x in bouts())),
    "sleep-edf words": ("a.txt", lines(words({**SLEEP, "3": "Sleep stage 3", "4": "Stage 4"}))),
    "digits beside R": ("a.txt", lines(words({**RK, "W": "W", "R": "R", "?": "MT"}))),
    "blank for unscored": ("a.txt", "\n".join(words({**AASM, "?": ""}))),
    "double line ends": ("a.txt", "\n\n".join(words(AASM)) + "\n\n"),
    "header above": ("a.txt", "Patient: X\nstage list\n\n" + lines(words(AASM))),
    "10 s epochs": ("a.txt", lines(w for w in words(AASM) for _ in range(3))),
    "a value per sample": ("a.txt", lines(w for w in words(RK) for _ in range(30 * 10))),
    "changes": ("a.csv", table("time,stage", CHANGES)),
    "ends": ("a.csv", table("time,stage", [[t + 30, w] for t, w in timed(AASM, length=None)])),
    "samples": ("a.csv", table("onset,stage", [[t, w] for t, w in timed(
        AASM, step=3000, length=None)])),
    "samples and lengths": ("a.csv", table("onset,duration,stage", timed(
        AASM, step=3000, length=3000))),
    "noise in onsets": ("a.csv", table("onset,duration,stage", [
        [t + 0.0009 * (-1) ** (t // 30), 29.9995, w] for t, _, w in timed(AASM)])),
    "decimal commas": ("a.csv", table("onset;duration;stage", [
        [f"{t},0", "30,0", w] for t, _, w in timed(AASM)], ";")),
    "quoted": ("a.txt", lines(f'"{w}"' for w in words(AASM))),
    "separators behind": ("a.txt", lines(f"{w};" for w in words(AASM))),
    "in one line": ("a.txt", ",".join(words(AASM))),
    "JSON": ("a.txt", str(words(AASM)).replace("'", '"')),
    "numpy.savetxt": ("a.txt", lines(f"{int(w):.18e}" for w in words(RK))),
    "codes with commas": ("a.txt", lines(f"{w},0" for w in words(RK))),
    "explained words": ("a.txt", lines(words({**AASM, "3": "N3 (SWS)", "R": "MOR", "W": "Wake"}))),
    "French letters": ("a.txt", lines(words({**AASM, "W": "Éveil", "R": "SP"}))),
    "German words": ("a.txt", lines(words({**AASM, "W": "Wach", "R": "REM-Schlaf"}))),
    "numbered": ("a.txt", lines(epochs(AASM, "\t", 1))),
    "numbered from 0": ("a.txt", lines(epochs(AASM, ","))),
    "numbered with dots": ("a.txt", lines(epochs(AASM, ". ", 1))),
    "numbered, unscored left out": ("a.txt", lines(
        row for row in epochs(AASM, "\t", 1) if "?" not in row)),
    "numbered csv, unscored left out": ("a.csv", lines(
        ["Epoch,Stage", *(row for row in epochs(AASM, ",", 1) if "?" not in row)])),
    "numbered beside times": ("a.txt", lines(
        f"{k + 1}\t{30 * k}\t{w}" for k, w in enumerate(words(AASM)))),
    "index of pandas": ("a.csv", lines([",0", *epochs(AASM)])),
    "a foot": ("a.txt", lines(["Epoch,Stage", *epochs(AASM), "", "Scored by X"])),
    "minutes": ("a.csv", table("Time (min),Stage", [[k / 2, w] for k, w in enumerate(
        words(AASM))])),
    "hours": ("a.csv", table("Start [h],End [h],Stage", [
        [k / 120, (k + 1) / 120, w] for k, w in enumerate(words(AASM))])),
    "milliseconds": ("a.csv", table("onset_ms,duration,stage", timed(AASM, step=30_000))),
    "unnamed milliseconds": ("a.csv", table("onset,duration,stage", timed(AASM, step=30_000))),
    "in epochs": ("a.csv", table("onset,duration,stage", [[a, n, AASM[x]] for a, n, x in bouts()])),
    "epochs without a header": ("a.txt", lines(f"{AASM[x]}\t{a}\t{n}" for a, n, x in bouts())),
    "since the start": ("a.csv", table("Onset,Duration,Annotation", [
        [f"00:{k // 2:02d}:{30 * (k % 2):02d}", 30, w] for k, w in enumerate(words(SLEEP))])),
    "minutes of the clock, numbered": ("a.csv", table("Epoch,Time,Stage", [
        [k + 1, clock(k, "%H:%M"), w] for k, w in enumerate(words(AASM))])),
    "a row twice": ("a.csv", table("onset,duration,stage", [*timed(AASM), [90, 30, "N1"]])),
    "dates before clocks": ("a.annot", lines(
        f"{w}\t.\t.\t{clock(k, '%d-%m-%y-%H:%M:%S')}\t+30\t." for k, w in enumerate(words(AASM)))),
    "STA of three columns": ("a.STA", lines(
        f"{row} 0" for row in epochs({**RK, "?": 7}, " ", 1))),
    "stages as values": ("a_events.tsv", table("onset\tduration\ttrial_type\tvalue", [
        [t, 30, "sleep_stage", w] for t, _, w in timed(AASM)], "\t")),
    "Swedish": ("a.txt", table("Tid [hh:mm:ss]\tHändelse\tVaraktighet[s]", [
        [clock(k), f"SLEEP-{w}", 30] for k, w in enumerate(words(AASM))], "\t")),
    "Dutch": ("a.csv", table("Tijd;Duur;Slaapstadium", [
        [clock(k), "30,0", w] for k, w in enumerate(words(AASM))], ";")),
    "lone quotation marks": ("a.csv", table("onset,duration,description", [
        row for t, _, w in timed(SLEEP) for row in ([t, 30, w], [t + 1, 2, '"note'])])),
}  # fmt: skip
