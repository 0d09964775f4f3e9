"""Sleep-EDF files -> store: trimmed, filtered, in epochs, ready for every training script.

python preprocess_sleepedf.py                                      # the demo data
python preprocess_sleepedf.py --raw_path sleep-edfx --save_path data/sleepedf78
python preprocess_sleepedf.py --download --version 2013 --raw_path sleep-edfx --save_path data/20
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from datasets.readers import sleepedf
from datasets.readers.sleepedf_download import check_against, download
from datasets.store import folds
from datasets.store.build import Reader, build_store, on_cluster
from datasets.store.preparation import LEVELLED, Settings
from datasets.store.protocols import PROTOCOLS
from datasets.store.store import Store
from utils.arguments import ScriptParser, add_flag, add_list
from utils.errors import UserError, run_script
from utils.files import check_file
from utils.stages import STAGES

DEMO = Path("data/demo/sleepedf")
CMT_BAND = [0.2, 40.0]
ANY_COHORT = "kfold:5:0"
FASTEST_HZ = 10_000


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Turn a folder of Sleep-EDF recordings into a data store.",
        "A run that was interrupted continues; what is finished is never prepared twice.",
    )
    add_files(parser.add_argument_group("files"))
    add_content(parser.add_argument_group("what the store holds"))
    add_run(parser.add_argument_group("how it runs"))
    args = parser.parse(argv)
    check(args)
    return args


def add_files(files: argparse._ArgumentGroup) -> None:
    """Where recordings come from and the store goes to."""
    files.add_argument(
        "--raw_path",
        type=Path,
        default=DEMO,
        help="folder with *-PSG.edf and *-Hypnogram.edf, searched with its subfolders",
    )
    files.add_argument(
        "--save_path", type=Path, default=Path("data/demo/store"), help="folder of the store"
    )
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
        choices=(LEVELLED,),
        help="levelled: EEG brought to one average spectrum, for models that stage any recorder",
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


def check(args: argparse.Namespace) -> None:
    """Refuse settings that cannot work before any file is touched."""
    if args.bandpass is not None and len(args.bandpass) != 2:
        raise UserError("--bandpass takes two frequencies in Hz, such as --bandpass 0.3 35")
    if args.resample is not None and not 0 < args.resample <= FASTEST_HZ:
        raise UserError(f"--resample takes a rate in Hz above 0, up to {FASTEST_HZ:,}")
    if args.figures < 0:
        raise UserError("--figures takes a number of nights, from 0")
    if args.jobs == 0:
        raise UserError("--jobs takes a number of processes, or -1 for one per core")
    if args.download and args.raw_path == DEMO:
        raise UserError("--download: name a --raw_path of its own, apart from the synthetic nights")


def main(argv: list[str] | None = None) -> None:
    """Download if asked, pair the files, build the store, write folds, draw a night."""
    args = parse_args(argv)
    if args.download:
        download(args.raw_path, version=args.version, study=args.study)
    pairs = sleepedf.find_pairs(args.raw_path, version=args.version, study=args.study)
    if args.verify:
        check_against(args.raw_path / "SHA256SUMS.txt", [f for pair in pairs for f in pair.files])
    tables = make_folds(args, sorted({pair.subject for pair in pairs}))
    for table in tables:
        check_file(folds.path_of(args.save_path / "folds", table.name))
    settings = settings_of(args, pairs)
    with on_cluster(args.dask):
        store = build_store(
            args.save_path,
            pairs,
            Reader(sleepedf.read, sleepedf.ROLES),
            settings=settings,
            command=command_of(args, settings),
            jobs=args.jobs,
        )
    for table in tables:
        folds.write(store.path / "folds", table)
    print_table(store)
    draw(store, args.figures)


def settings_of(args: argparse.Namespace, pairs: list[sleepedf.Pair]) -> Settings:
    """What decides the store's content; a cohort of generated nights is called synthetic."""
    protocol = "keep_all" if args.keep_all else args.protocol
    band = args.bandpass or (CMT_BAND if protocol == "cmt" else None)
    cohorts = {"cassette": f"sleepedf-{args.version}", "telemetry": "sleepedf-telemetry"}
    synthetic = any(sleepedf.is_synthetic(pair) for pair in pairs)
    return Settings(
        cohort="synthetic-" * synthetic + cohorts.get(args.study, "sleepedf-both"),
        protocol=protocol,
        channels=tuple(args.channels),
        bandpass=tuple(band) if band else None,
        fs=args.resample,
        dtype=args.dtype,
        preset=args.preset,
    )


def command_of(args: argparse.Namespace, settings: Settings) -> str:
    """The command that makes this store anywhere: no paths, nothing that leaves no trace in it."""
    words = ["preprocess_sleepedf.py", "--version", args.version, "--study", args.study]
    if settings.protocol == "keep_all":
        words.append("--keep_all")
    else:
        words += ["--protocol", settings.protocol]
    words += ["--channels", *settings.channels, "--dtype", settings.dtype]
    if settings.bandpass:
        words += ["--bandpass", *(f"{edge:g}" for edge in settings.bandpass)]
    if settings.preset:
        words += ["--preset", settings.preset]
    if settings.fs:
        words += ["--resample", f"{settings.fs:g}"]
    return shlex.join(words)


def make_folds(args: argparse.Namespace, subjects: list[str]) -> list[folds.FoldTable]:
    """The fold tables asked for, checked against the subjects at hand before the long work."""
    if args.folds != ["auto"]:
        return [folds.make(n, subjects, allow_missing=args.allow_missing) for n in args.folds]
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
