"""Sleep-EDF files -> store: trimmed, filtered, in epochs, ready for every training script.

python preprocess_sleepedf.py                                      # the demo data
python preprocess_sleepedf.py --raw_path sleep-edfx --save_path data/sleepedf78
python preprocess_sleepedf.py --download --version 2013 --raw_path sleep-edfx --save_path data/20
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from datasets.readers import sleepedf
from datasets.readers.sleepedf_download import check_against, download
from datasets.store import folds
from datasets.store.build import Reader, build_store, on_cluster
from datasets.store.preparation import EQUALISED, Settings, preset_named
from datasets.store.protocols import PROTOCOLS
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
CMT_BAND = [0.2, 40.0]
ANY_COHORT = "kfold:5:0"
FASTEST_HZ = 10_000


# in what the store is known by
NO_TRACE = (
    "raw_path", "save_path", "download", "verify", "folds", "allow_missing", "jobs", "dask",
    "figures",
)  # fmt: skip


@dataclass(frozen=True)
class FileFlags:
    """Where recordings come from and the store goes to."""

    raw_path: Path
    save_path: Path
    version: str
    study: str
    download: bool
    verify: bool


@dataclass(frozen=True)
class ContentFlags:
    """What decides the bytes of the store."""

    protocol: str
    keep_all: bool
    channels: list[str]
    bandpass: list[float] | None
    preset: str | None
    resample: float | None
    dtype: str
    folds: list[str]
    allow_missing: bool


@dataclass(frozen=True)
class SleepEdfFlags(FileFlags, ContentFlags):
    """What the command line asks for; with --keep_all the protocol is that."""

    jobs: int
    dask: str | None
    figures: int


def make_parser() -> ScriptParser:
    """Every flag; ``--help`` is their documentation."""
    parser = ScriptParser(
        "Turn a folder of Sleep-EDF recordings into a data store.",
        "A run that was interrupted continues; what is finished is never prepared twice.",
        script=__file__,
    )
    add_files(parser.add_argument_group("files"))
    add_content(parser.add_argument_group("what the store holds"))
    add_run(parser.add_argument_group("how it runs"))
    return parser


def parse_args(argv: list[str] | None) -> SleepEdfFlags:
    """The flags with their defaults, refused where they cannot work."""
    flags = settings_from(make_parser().parse(argv), SleepEdfFlags)
    check(flags)
    return resolve_defaults(flags)


def resolve_defaults(flags: SleepEdfFlags) -> SleepEdfFlags:
    """What --keep_all and the protocol decide beside the range of the night."""
    protocol = "keep_all" if flags.keep_all else flags.protocol
    bandpass = flags.bandpass or (CMT_BAND if protocol == "cmt" else None)
    return replace(flags, protocol=protocol, bandpass=bandpass)


def add_files(files: argparse._ArgumentGroup) -> None:
    """Where recordings come from and the store goes to."""
    files.add_argument(
        "--raw_path",
        type=Path,
        default=DEMO,
        help="folder with *-PSG.edf and *-Hypnogram.edf, searched with its subfolders",
    )
    files.add_argument("--save_path", type=Path, default=DEMO_STORE, help="folder of the store")
    files.add_argument(
        "--version",
        choices=("2013", "2018"),
        default="2018",
        help="2013: cassette subjects 0-19 (Sleep-EDF-20); 2018: all 78",
    )
    files.add_argument(
        "--study",
        choices=tuple(sleepedf.STUDIES),
        default="cassette",
        help="SC files, ST files or both; published benchmarks use cassette",
    )
    add_flag(files, "--download", help="fetch the real recordings into --raw_path first (8 GB)")
    add_flag(files, "--verify", help="compare the files with SHA256SUMS.txt in --raw_path")


def add_content(what: argparse._ArgumentGroup) -> None:
    """What decides the bytes of the store."""
    what.add_argument(
        "--protocol",
        choices=[name for name in PROTOCOLS if name != "keep_all"],
        default="tinysleepnet",
        help="published rule for how much Wake around the night is kept",
    )
    add_flag(what, "--keep_all", help="keep whole recordings instead of a protocol's range")
    add_list(
        what,
        "--channels",
        default=["EEG", "EOG"],
        help="labels or roles (EEG, EEG2, EOG, EMG), or 'all'",
    )
    add_list(
        what,
        "--bandpass",
        item=float,
        help="zero-phase FIR band in Hz, such as 0.3 35; the cmt protocol brings 0.2 40 by itself",
    )
    what.add_argument(
        "--preset",
        type=preset_named,
        choices=(EQUALISED,),
        help="equalised: EEG brought to one average spectrum, for models that stage any recorder",
    )
    what.add_argument("--resample", type=float, help="bring all channels to this rate in Hz")
    what.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="float16 halves the disk"
    )
    add_list(
        what,
        "--folds",
        default=["auto"],
        help=f"fold tables to write: {', '.join(folds.published_names())}, kfold:N:seed; auto "
        f"writes every published one that fits the subjects, and {ANY_COHORT}",
    )
    add_flag(what, "--allow_missing", help="accept fold tables naming subjects you do not have")


def add_run(run: argparse._ArgumentGroup) -> None:
    """What the arrays do not depend on."""
    run.add_argument("--jobs", type=int, default=-1, help="nights at once; -1: one per core")
    run.add_argument("--dask", metavar="ADDRESS", help="prepare on this Dask cluster instead")
    run.add_argument("--figures", type=int, default=1, help="nights to draw into <store>/figures")


def check(flags: SleepEdfFlags) -> None:
    """Refuse settings that cannot work before any file is touched."""
    if flags.bandpass is not None and len(flags.bandpass) != 2:
        raise UserError("--bandpass takes two frequencies in Hz, such as --bandpass 0.3 35")
    if flags.resample is not None and not 0 < flags.resample <= FASTEST_HZ:
        raise UserError(f"--resample takes a rate in Hz above 0, up to {FASTEST_HZ:,}")
    if flags.figures < 0:
        raise UserError("--figures takes a number of nights, from 0")
    if flags.jobs == 0:
        raise UserError("--jobs takes a number of processes, or -1 for one per core")
    if flags.download and flags.raw_path == DEMO:
        raise UserError("--download: name a --raw_path of its own, apart from the synthetic nights")


def main(argv: list[str] | None = None) -> None:
    """Download if asked, pair the files, build the store, write folds, draw a night."""
    flags = parse_args(argv)
    if flags.download:
        download(flags.raw_path, version=flags.version, study=flags.study)
    pairs = sleepedf.find_pairs(flags.raw_path, version=flags.version, study=flags.study)
    if flags.verify:
        check_against(flags.raw_path / "SHA256SUMS.txt", [f for pair in pairs for f in pair.files])
    tables = make_folds(flags, sorted({pair.subject for pair in pairs}))
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


def settings_of(flags: SleepEdfFlags, pairs: list[sleepedf.Pair]) -> Settings:
    """What decides the store's content; a cohort of generated nights is called synthetic."""
    cohorts = {"cassette": f"sleepedf-{flags.version}", "telemetry": "sleepedf-telemetry"}
    synthetic = any(sleepedf.is_synthetic(pair) for pair in pairs)
    return Settings(
        cohort="synthetic-" * synthetic + cohorts.get(flags.study, "sleepedf-both"),
        protocol=flags.protocol,
        channels=tuple(flags.channels),
        bandpass=tuple(flags.bandpass) if flags.bandpass else None,
        fs=flags.resample,
        dtype=flags.dtype,
        preset=flags.preset,
    )


def stored_command(flags: SleepEdfFlags) -> str:
    """The command that makes this store anywhere: no paths, nothing that leaves no trace in it."""
    no_trace = (*NO_TRACE, "protocol") if flags.keep_all else NO_TRACE
    return command_of(make_parser(), flags, leave_out=no_trace)


def make_folds(flags: SleepEdfFlags, subjects: list[str]) -> list[folds.FoldTable]:
    """The fold tables asked for, checked against the subjects at hand before the long work."""
    if flags.folds != ["auto"]:
        return [folds.make(n, subjects, allow_missing=flags.allow_missing) for n in flags.folds]
    names = [ANY_COHORT] if len(subjects) >= 5 else []
    if 2 <= len(subjects) < 5:
        names = [f"kfold:{len(subjects)}:0"]
    tables = [folds.make(name, subjects) for name in names]
    for name in folds.published_names():
        table = folds.load(folds.TABLES / f"{name}.json")
        if {s for fold in table.folds for s in fold.test} == set(subjects):
            tables.append(folds.fit(table, subjects))
    return tables


def print_table(store: Store) -> None:
    """Recordings and stage counts, and where everything is."""
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
    print(f"store: {store.path}   folds: {', '.join(tables) or 'none (a single subject)'}")


def draw(store: Store, n_nights: int) -> None:
    """Hypnogram over spectrogram for the first nights: the quickest check there is."""
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
