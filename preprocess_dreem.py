"""Dreem Open Datasets (DOD-H, DOD-O), HDF5 -> store.

python preprocess_dreem.py --raw_path dodh --save_path data/dreem-dodh
python preprocess_dreem.py --raw_path dodo.zip --version dodo --channels EEG EOG1-EOG2 EMG
python preprocess_dreem.py --raw_path data/raw/dodh --download
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from datasets.readers import dreem, dreem_download
from datasets.store import folds
from datasets.store.build import Reader, build_store
from datasets.store.preparation import Settings
from utils.arguments import ScriptParser, add_flag, add_list, count, positive
from utils.errors import UserError, run_script
from utils.files import check_file

PAD_EPOCHS = 30  # 900 s
FOLDS = {"dodh": ("dodh_loo",), "dodo": ("dodo_10", "dodo_28")}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Turn a folder of Dreem records into a data store.",
        "A run that was interrupted continues; what is finished is never prepared twice.",
    )
    parser.add_argument(
        "--raw_path",
        type=Path,
        default=Path("data/demo/dreem"),
        help="folder with *.h5, searched with its subfolders, or a zip of them",
    )
    add_flag(
        parser, "--download", help="first fetch what --raw_path lacks from Zenodo, 0.9 GB a record"
    )
    parser.add_argument(
        "--records", type=count, default=0, help="fetch so many records, by id; 0: all"
    )
    parser.add_argument("--save_path", type=Path, help="the store (default: data/dreem-<version>)")
    parser.add_argument(
        "--version", choices=tuple(FOLDS), default="dodh", help="healthy people or patients"
    )
    add_list(
        parser, "--channels", default=["EEG", "EOG"], help="labels, differences such as "
        f"EOG1-EOG2, roles ({', '.join(dreem.ROLES)}), or 'all'",
    )  # fmt: skip
    parser.add_argument(
        "--preset",
        choices=("dreem",),
        help="prepare as the Dreem papers do: their causal filter, lines between samples, and "
        "900 s of zeros at both ends of a night",
    )
    add_list(parser, "--bandpass", item=float, help="zero-phase FIR band in Hz, such as 0.3 35")
    parser.add_argument("--resample", type=positive, default=100, help="rate of all channels in Hz")
    parser.add_argument(
        "--scorers",
        type=Path,
        help="folder with scorer_1 … scorer_5: their consensus, aligned, instead of /hypnogram",
    )
    add_flag(
        parser, "--allow_length_mismatch", help="take stages and signals as beginning together"
    )
    parser.add_argument("--jobs", type=int, default=-1, help="records at once; -1: one per core")
    args = parser.parse(argv)
    if args.bandpass is not None and len(args.bandpass) != 2:
        raise UserError("--bandpass takes two frequencies in Hz, such as --bandpass 0.3 35")
    if args.bandpass and args.preset:
        raise UserError("--preset dreem has a filter of its own; leave out --bandpass")
    if args.download and args.raw_path.suffix == ".zip":
        raise UserError("--download fetches records into a folder; --raw_path names a zip")
    if args.jobs == 0:
        raise UserError("--jobs takes a number of processes, or -1 for one per core")
    args.save_path = args.save_path or Path("data") / f"dreem-{args.version}"
    return args


def main(argv: list[str] | None = None) -> None:
    """Find the records, build the store, write the folds."""
    args = parse_args(argv)
    if args.download:
        dreem_download.download(args.raw_path, version=args.version, most=args.records)
    records = dreem.find_records(
        args.raw_path, scorers=args.scorers, allow_length_mismatch=args.allow_length_mismatch
    )
    tables = tables_of(args.version, sorted(record.id for record in records))
    for table in tables:
        check_file(folds.path_of(args.save_path / "folds", table.name))
    synthetic = any(dreem.is_synthetic(record) for record in records)
    settings = Settings(
        cohort="synthetic-" * synthetic + args.version,
        protocol="keep_all",
        channels=tuple(args.channels),
        bandpass=tuple(args.bandpass) if args.bandpass else None,
        fs=float(args.resample),
        preset=args.preset,
        pad_epochs=PAD_EPOCHS if args.preset else 0,
    )
    store = build_store(
        args.save_path, records, Reader(dreem.read, dreem.ROLES),
        settings=settings, command=command_of(args, settings), jobs=args.jobs,
    )  # fmt: skip
    for table in tables:
        folds.write(store.path / "folds", table)
    epochs = sum(int(row["n_epochs"]) for row in store.recordings.values())
    tables = folds.names_in(store.path / "folds")
    print(f"{len(records)} records, {epochs:,} epochs, {settings.cohort}")
    print(f"store: {store.path}   folds: {', '.join(tables) or 'none (too few records)'}")


def tables_of(version: str, ids: list[str]) -> list[folds.FoldTable]:
    """The published numbers of folds where the records allow them, and kfold:5:0."""
    counts = {"dodh_loo": len(ids), "dodo_10": 10, "dodo_28": -(-len(ids) // 2)}
    wanted = {name: counts[name] for name in FOLDS[version]}
    tables = [folds.in_order(name, ids, n) for name, n in wanted.items() if 2 < n <= len(ids)]
    return tables + ([folds.make("kfold:5:0", ids)] if len(ids) >= 5 else [])


def command_of(args: argparse.Namespace, settings: Settings) -> str:
    """The command that makes this store anywhere: no paths."""
    words = ["preprocess_dreem.py", "--version", args.version, "--channels", *settings.channels]
    words += ["--resample", f"{settings.fs:g}"]
    if settings.preset:
        words += ["--preset", settings.preset]
    if settings.bandpass:
        words += ["--bandpass", *(f"{edge:g}" for edge in settings.bandpass)]
    if args.scorers:
        words += ["--scorers", "SCORERS"]
    return shlex.join(words)


if __name__ == "__main__":
    raise SystemExit(run_script(main))
