"""Sleep-EDF files -> store: trimmed, filtered and cut into epochs, for every training script.

python preprocess_sleepedf.py                                      # the demo data
python preprocess_sleepedf.py --raw_path sleep-edfx --save_path data/sleepedf78
python preprocess_sleepedf.py --download --version 2013 --raw_path sleep-edfx --save_path data/20
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from datasets.readers import sleepedf
from datasets.readers.cohort_listing import check_against
from datasets.readers.profiles import profile
from datasets.readers.profiles.cohort_download import download_cohort
from datasets.store import folds
from datasets.store.build import Reader, build_store, on_cluster
from datasets.store.descriptions import note_lines
from datasets.store.preparation import DTYPES, EQUALISED, ROBUST, Settings, preset_named
from datasets.store.protocols import PROTOCOLS
from datasets.store.robust_scaling import FS
from datasets.store.store import Store
from utils.arguments import (
    DEMO_STORE,
    ScriptParser,
    add_flag,
    add_list,
    command_of,
    settings_from,
)
from utils.errors import UserError, run_script
from utils.files import check_file
from utils.stages import STAGES

DEMO = Path("data/demo/sleepedf")
CMT_BAND = [0.2, 40.0]  # Hz, as published with the cmt protocol
ANY_COHORT = "kfold:5:0"
FASTEST_HZ = 10_000

# flags that change no signal or stage, so the command that the store holds leaves them out
NO_TRACE = (
    "raw_path", "save_path", "download", "subjects", "verify", "folds", "allow_missing", "jobs",
    "dask", "figures",
)  # fmt: skip


@dataclass(frozen=True)
class FileFlags:
    """Folders of the recordings and of the store, and which recordings to take."""

    raw_path: Path
    save_path: Path
    version: str
    study: str
    download: bool
    subjects: list[str]
    verify: bool
    salvage: bool


@dataclass(frozen=True)
class ContentFlags:
    """Settings that decide the content of the store."""

    protocol: str
    keep_all: bool
    channels: list[str]
    bandpass: list[float] | None
    preset: str | None
    resample: float | None
    store_dtype: str
    folds: list[str]
    allow_missing: bool


@dataclass(frozen=True)
class SleepEdfFlags(FileFlags, ContentFlags):
    """Settings of this preparation, one field per flag; --keep_all replaces the protocol."""

    jobs: int
    dask: str | None
    figures: int


def make_parser() -> ScriptParser:
    """Make the parser with all flags; ``--help`` documents them."""
    parser = ScriptParser(
        "Turn a folder of Sleep-EDF recordings into a data store.",
        "After an interruption the same command continues; finished nights are not prepared again.",
        script=__file__,
    )
    add_files(parser.add_argument_group("files"))
    add_content(parser.add_argument_group("content of the store"))
    add_run(parser.add_argument_group("run"))
    return parser


def parse_args(argv: list[str] | None) -> SleepEdfFlags:
    """Parse the flags, fill in defaults, and refuse values that cannot work."""
    flags = settings_from(make_parser().parse(argv), SleepEdfFlags)
    check(flags)
    return resolve_defaults(flags)


def resolve_defaults(flags: SleepEdfFlags) -> SleepEdfFlags:
    """Resolve the protocol, which --keep_all replaces, the band-pass it brings, and the rate."""
    protocol = "keep_all" if flags.keep_all else flags.protocol
    bandpass = flags.bandpass or (CMT_BAND if protocol == "cmt" else None)
    if flags.preset == ROBUST:  # which has a filter and a rate of its own
        return replace(flags, protocol=protocol, bandpass=None, resample=FS)
    return replace(flags, protocol=protocol, bandpass=bandpass)


def add_files(files: argparse._ArgumentGroup) -> None:
    """Add the flags of folders and recordings."""
    files.add_argument(
        "--raw_path",
        type=Path,
        default=DEMO,
        help="folder with *-PSG.edf and *-Hypnogram.edf files, also in its subfolders",
    )
    files.add_argument("--save_path", type=Path, default=DEMO_STORE, help="folder of the store")
    files.add_argument(
        "--version",
        choices=("2013", "2018"),
        default="2018",
        help="cassette subjects: 0 to 19 in 2013 (Sleep-EDF-20), all 78 in 2018 (Sleep-EDF-78)",
    )
    files.add_argument(
        "--study",
        choices=tuple(sleepedf.STUDIES),
        default="cassette",
        help="cassette (SC files), telemetry (ST files) or both; published benchmarks use cassette",
    )
    add_flag(files, "--download", help="first download the recordings into --raw_path (8 GB)")
    add_list(
        files,
        "--subjects",
        default=[],
        help="subjects to download: names (SC400), patterns (SC40*), or numbers in the order of "
        "names (1-3)",
    )
    add_flag(files, "--verify", help="check the files against SHA256SUMS.txt in --raw_path")
    add_flag(
        files,
        "--salvage",
        help="take the whole records of files that were cut or never closed, with a note",
    )


def add_content(what: argparse._ArgumentGroup) -> None:
    """Add the flags that decide the content of the store."""
    what.add_argument(
        "--protocol",
        choices=[name for name in PROTOCOLS if name != "keep_all"],
        default="tinysleepnet",
        help="published rule that decides how much Wake before and after sleep is kept",
    )
    add_flag(what, "--keep_all", help="keep whole recordings, whatever the protocol")
    add_list(
        what,
        "--channels",
        default=["EEG", "EOG"],
        help="channels to keep: labels or roles (EEG, EEG2, EOG, EMG), or 'all'",
    )
    add_list(
        what,
        "--bandpass",
        item=float,
        help="zero-phase FIR band-pass in Hz, as in 0.3 35; 0.2 40 by default with --protocol cmt",
    )
    what.add_argument(
        "--preset",
        type=preset_named,
        choices=(EQUALISED, ROBUST),
        help="equalised: EEG with an equalised spectrum, for models that stage any recorder; "
        "robust: as RobustSleepNet reads any channels, at 60 Hz",
    )
    what.add_argument("--resample", type=float, help="new sampling rate of all channels in Hz")
    what.add_argument(
        # the former name first, as the commands that stores hold are worded
        "--dtype",
        "--store_dtype",
        dest="store_dtype",
        choices=DTYPES,
        default=DTYPES[0],
        help="type of stored samples; float16 and int16 halve the size, and int16 keeps what the "
        "recorder wrote where nothing is filtered",
    )
    add_list(
        what,
        "--folds",
        default=["auto"],
        help=f"fold tables to write: {', '.join(folds.published_names())}, kfold:N:seed; auto: "
        f"every published one that has exactly these subjects, and {ANY_COHORT}",
    )
    add_flag(what, "--allow_missing", help="accept fold tables of subjects who are missing here")


def add_run(run: argparse._ArgumentGroup) -> None:
    """Add the flags on which the content of the store does not depend."""
    run.add_argument("--jobs", type=int, default=-1, help="processes; -1: one per core")
    run.add_argument("--dask", metavar="ADDRESS", help="Dask cluster to prepare on instead")
    run.add_argument("--figures", type=int, default=1, help="nights to draw into <store>/figures")


def check(flags: SleepEdfFlags) -> None:
    """Refuse settings that cannot work before any file is touched."""
    if flags.bandpass is not None and len(flags.bandpass) != 2:
        raise UserError("--bandpass takes two frequencies in Hz, such as --bandpass 0.3 35")
    if flags.preset == ROBUST and (flags.bandpass or flags.resample not in (None, FS)):
        raise UserError("--preset robust has a filter and 60 Hz; leave out --bandpass, --resample")
    # written so that NaN and infinity are refused too
    if flags.resample is not None and not 0 < flags.resample <= FASTEST_HZ:
        raise UserError(f"--resample takes a rate in Hz above 0, up to {FASTEST_HZ:,}")
    if flags.figures < 0:
        raise UserError("--figures takes a number of nights, from 0")
    if flags.jobs == 0:
        raise UserError("--jobs takes a number of processes, or -1 for one per core")
    if flags.download and flags.raw_path == DEMO:
        # real and synthetic nights in one folder would become one cohort
        raise UserError("--download: name a --raw_path of its own, apart from the synthetic nights")
    if flags.subjects and not flags.download:
        raise UserError("--subjects is of --download; add that, or leave it out")
    if flags.subjects and flags.study == "both":
        raise UserError("--subjects: name one --study, since each has subjects of its own")


def main(argv: list[str] | None = None) -> None:
    """Download if asked for, pair the files, build the store, write the folds, draw nights."""
    flags = parse_args(argv)
    if flags.download:
        cohort = profile.load("sleepedf")
        download_cohort(cohort, flags.raw_path, flags.subjects, among=fetched(flags))
    pairs = sleepedf.find_pairs(
        flags.raw_path, version=flags.version, study=flags.study, salvage=flags.salvage
    )
    if flags.verify:
        check_against(flags.raw_path / "SHA256SUMS.txt", [f for pair in pairs for f in pair.files])
    tables = make_folds(flags, sorted({pair.subject for pair in pairs}))
    # before the long work, not after it
    for table in tables:
        check_file(folds.path_of(flags.save_path / "folds", table.name))
    settings = settings_of(flags, pairs)
    with on_cluster(flags.dask):
        store = build_store(
            flags.save_path,
            pairs,
            Reader(sleepedf.read, sleepedf.ROLES),
            settings=settings,
            command=stored_command(flags),
            jobs=flags.jobs,
        )
    for table in tables:
        folds.write(store.path / "folds", table)
    print_table(store)
    draw(store, flags.figures)


def fetched(flags: SleepEdfFlags) -> list[str]:
    """Patterns of the subjects that the flags ask for."""
    cassette, telemetry = {"2013": "SC4[01]*", "2018": "SC4*"}[flags.version], "ST7*"
    one = {"cassette": [cassette], "telemetry": [telemetry]}
    return one.get(flags.study, [cassette, telemetry])


def settings_of(flags: SleepEdfFlags, pairs: list[sleepedf.Pair]) -> Settings:
    """Settings that decide the store's content; a cohort with generated nights is synthetic."""
    cohorts = {"cassette": f"sleepedf-{flags.version}", "telemetry": "sleepedf-telemetry"}
    # by this prefix of the cohort, figures of generated nights are kept apart from real ones
    synthetic = any(sleepedf.is_synthetic(pair) for pair in pairs)
    return Settings(
        cohort="synthetic-" * synthetic + cohorts.get(flags.study, "sleepedf-both"),
        protocol=flags.protocol,
        channels=tuple(flags.channels),
        bandpass=tuple(flags.bandpass) if flags.bandpass else None,
        fs=flags.resample,
        dtype=flags.store_dtype,
        preset=flags.preset,
    )


def stored_command(flags: SleepEdfFlags) -> str:
    """The command that the store holds: no paths, and only flags that change its content."""
    # --keep_all makes the protocol meaningless
    no_trace = (*NO_TRACE, "protocol") if flags.keep_all else NO_TRACE
    return command_of(make_parser(), flags, leave_out=no_trace)


def make_folds(flags: SleepEdfFlags, subjects: list[str]) -> list[folds.FoldTable]:
    """Make the fold tables, checked against the subjects of the recordings before the long work."""
    if flags.folds != ["auto"]:
        return [folds.make(n, subjects, allow_missing=flags.allow_missing) for n in flags.folds]
    tables = [few] if (few := folds.for_few(subjects)) else []
    for name in folds.published_names():
        table = folds.load(folds.TABLES / f"{name}.json")
        if {s for fold in table.folds for s in fold.test} == set(subjects):
            tables.append(folds.fit(table, subjects))
    return tables


def print_table(store: Store) -> None:
    """Print the epochs per stage of every recording, the channels, and the store's path."""
    columns = ("n_epochs", *STAGES, "unscored")
    print(f"{'recording':<12}" + "".join(f"{name:>10}" for name in columns))
    rows = list(store.recordings.values())
    for row in rows[:20]:
        print(f"{row['recording']:<12}" + "".join(f"{int(row[name]):>10,}" for name in columns))
    if len(rows) > 20:
        print(f"... and {len(rows) - 20} more in {store.path / 'recordings.csv'}")
    totals = "".join(f"{sum(int(row[name]) for row in rows):>10,}" for name in columns)
    print(f"{'total':<12}{totals}")
    channels = ", ".join(f"{c.label} ({c.fs:g} Hz, {c.unit or 'no unit'})" for c in store.channels)
    protocol = store.settings["protocol"]
    print(f"{len(rows)} nights of {len(store.subjects)} subjects; protocol {protocol}; {channels}")
    tables = folds.names_in(store.path / "folds")
    for line in note_lines(store.path / "nights"):
        print(line)
    print(f"store: {store.path}   folds: {', '.join(tables) or folds.OF_ONE_SUBJECT}")


def draw(store: Store, n_nights: int) -> None:
    """Draw hypnogram over spectrogram for the first nights: the quickest check of a store."""
    from utils.figures import draw_night, save

    for recording in list(store.recordings)[:n_nights]:
        night = store.night(recording)
        title = f"{recording}, {store.channels[0].label}, protocol {store.settings['protocol']}"
        channel = store.channels[0]
        figure = draw_night(
            night.signals()[:, 0], night.stages, fs=channel.fs, title=title, unit=channel.unit
        )
        print(f"picture: {save(figure, store.path / 'figures' / f'{recording}.png')}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
