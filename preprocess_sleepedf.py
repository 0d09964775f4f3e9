"""Sleep-EDF files -> store: trimmed, filtered and cut into epochs, for every training script.

python preprocess_sleepedf.py                                      # the demo data
python preprocess_sleepedf.py --raw_path sleep-edfx --save_path data/sleepedf78
python preprocess_sleepedf.py --download --version 2013 --raw_path sleep-edfx --save_path data/20
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from datasets.readers.cohort_listing import check_against
from datasets.readers.discovery import files_below
from datasets.readers.profiles import cohort_nights, declared_night, profile
from datasets.readers.profiles.cohort_download import download_cohort
from datasets.store import folds, store_flags
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
# ids of recordings by --study
STUDIES = {"cassette": ("SC4*",), "telemetry": ("ST7*",), "both": ("SC4*", "ST7*")}
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
        store_flags.RESUMES,
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
        choices=tuple(STUDIES),
        default="cassette",
        help="cassette (SC files), telemetry (ST files) or both; published benchmarks use cassette",
    )
    store_flags.add_download(files, "8 GB")
    store_flags.add_subjects(files)
    add_flag(files, "--verify", help="check the files against SHA256SUMS.txt in --raw_path")
    store_flags.add_salvage(files)


def add_content(what: argparse._ArgumentGroup) -> None:
    """Add the flags that decide the content of the store."""
    what.add_argument(
        "--protocol",
        choices=[name for name in PROTOCOLS if name != "keep_all"],
        default="tinysleepnet",
        help="published rule that decides how much Wake before and after sleep is kept",
    )
    add_flag(what, "--keep_all", help="keep whole recordings, whatever the protocol")
    store_flags.add_channels(what, ["EEG", "EOG"], "EEG, EEG2, EOG, EMG")
    store_flags.add_bandpass(what, "; 0.2 40 by default with --protocol cmt")
    what.add_argument(
        "--preset",
        type=preset_named,
        choices=(EQUALISED, ROBUST),
        help="equalised: EEG with an equalised spectrum, for models that stage any recorder; "
        "robust: as RobustSleepNet reads any channels, at 60 Hz",
    )
    store_flags.add_resample(what, kind=float)
    # the former name first, as the commands that stores hold are worded
    store_flags.add_dtype(what, "--dtype", default=DTYPES[0])
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
    store_flags.add_jobs(run)
    store_flags.add_dask(run)
    run.add_argument("--figures", type=int, default=1, help="nights to draw into <store>/figures")


def check(flags: SleepEdfFlags) -> None:
    """Refuse settings that cannot work before any file is touched."""
    store_flags.check_bandpass(flags.bandpass)
    if flags.preset == ROBUST and (flags.bandpass or flags.resample not in (None, FS)):
        raise UserError("--preset robust has a filter and 60 Hz; leave out --bandpass, --resample")
    # written so that NaN and infinity are refused too
    if flags.resample is not None and not 0 < flags.resample <= FASTEST_HZ:
        raise UserError(f"--resample takes a rate in Hz above 0, up to {FASTEST_HZ:,}")
    if flags.figures < 0:
        raise UserError("--figures takes a number of nights, from 0")
    store_flags.check_jobs(flags.jobs)
    if flags.download and flags.raw_path == DEMO:
        # real and synthetic nights in one folder would become one cohort
        raise UserError("--download: name a --raw_path of its own, apart from the synthetic nights")
    store_flags.check_subjects(flags.subjects, flags.download)
    if flags.subjects and flags.study == "both":
        raise UserError("--subjects: name one --study, since each has subjects of its own")


def main(argv: list[str] | None = None) -> None:
    """Download if asked for, pair the files, build the store, write the folds, draw nights."""
    flags = parse_args(argv)
    cohort = profile.load("sleepedf")
    if flags.download:
        download_cohort(cohort, flags.raw_path, flags.subjects, among=wanted(flags))
    nights = nights_of(flags)
    if flags.verify:
        check_against(flags.raw_path / "SHA256SUMS.txt", [f for n in nights for f in n.files])
    tables = make_folds(flags, sorted({night.subject for night in nights}))
    # before the long work, not after it
    for table in tables:
        check_file(folds.path_of(flags.save_path / "folds", table.name))
    settings = settings_of(flags, nights)
    with on_cluster(flags.dask):
        store = build_store(
            flags.save_path,
            nights,
            Reader(declared_night.read, cohort.roles),
            settings=settings,
            command=stored_command(flags),
            jobs=flags.jobs,
        )
    for table in tables:
        folds.write(store.path / "folds", table)
    print_table(store)
    draw(store, flags.figures)


def wanted(flags: SleepEdfFlags) -> tuple[str, ...]:
    """Patterns of the ids of the recordings, and of the subjects, that the flags ask for."""
    of_2013 = {"SC4*": "SC4[01]*"} if flags.version == "2013" else {}
    return tuple(of_2013.get(one, one) for one in STUDIES[flags.study])


def nights_of(flags: SleepEdfFlags) -> list[cohort_nights.Night]:
    """The nights that the flags ask for, each with both files.

    Raises:
        UserError: there is none, or a PSG or hypnogram alone.
    """
    options = cohort_nights.Options(salvage=flags.salvage, only=wanted(flags))
    nights = cohort_nights.find(flags.raw_path, profile.load("sleepedf"), options)
    used = {night.scored for night in nights}
    alone = [(night.path, "hypnogram") for night in nights if night.scored is None]
    alone += [
        (path, "PSG")
        for path in files_below(flags.raw_path)
        if path not in used
        and cohort_nights.is_wanted(path.name, [f"{one}-Hypnogram.edf" for one in wanted(flags)])
    ]
    if alone:
        path, partner = min(alone, key=lambda one: one[0].name)
        others = f" ({len(alone)} nights are unpaired)" if len(alone) > 1 else ""
        raise UserError(f"{path}: no {partner} file beside it; fetch it or move this away{others}")
    return nights


def settings_of(flags: SleepEdfFlags, nights: list[cohort_nights.Night]) -> Settings:
    """Settings that decide the store's content; a cohort with generated nights is synthetic."""
    cohorts = {"cassette": f"sleepedf-{flags.version}", "telemetry": "sleepedf-telemetry"}
    # by this prefix of the cohort, figures of generated nights are kept apart from real ones
    synthetic = any(map(cohort_nights.is_synthetic, nights))
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
