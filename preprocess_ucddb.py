"""EDF recordings with one stage code a line beside them -> store: the Dublin sleep apnea database.

python preprocess_ucddb.py --raw_path ucddb --save_path data/ucddb --resample 100
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from datasets.readers import ucddb
from datasets.store import folds
from datasets.store.build import Reader, build_store
from datasets.store.preparation import Settings
from utils.arguments import ScriptParser, add_list, positive
from utils.errors import UserError, run_script
from utils.files import check_file


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Turn recordings with a *_stage.txt beside each into a data store.",
        "Codes: 0 wake, 1 REM, 2 to 5 sleep stages 1 to 4 (R&K), 6 to 8 unscored.",
    )
    parser.add_argument(
        "--raw_path", type=Path, default=Path("ucddb"), help="searched with subfolders"
    )
    parser.add_argument("--save_path", type=Path, default=Path("data/ucddb"), help="the store")
    add_list(
        parser, "--channels", default=["EEG"], help="labels or roles (EEG, EOG, EMG), or 'all'"
    )
    add_list(
        parser,
        "--bandpass",
        item=float,
        help="zero-phase FIR band in Hz; channels without a unit of voltage are left as they are",
    )
    parser.add_argument("--resample", type=positive, help="bring all channels to this rate in Hz")
    parser.add_argument("--jobs", type=int, default=-1, help="nights at once; -1: one per core")
    args = parser.parse(argv)
    if args.bandpass is not None and len(args.bandpass) != 2:
        raise UserError("--bandpass takes two frequencies in Hz, such as --bandpass 0.3 35")
    if args.jobs == 0:
        raise UserError("--jobs takes a number of processes, or -1 for one per core")
    return args


def main(argv: list[str] | None = None) -> None:
    """Pair the files, build the store, write folds where there are subjects enough."""
    args = parse_args(argv)
    pairs = ucddb.find_pairs(args.raw_path)
    check_file(folds.path_of(args.save_path / "folds", "kfold:5:0"))
    settings = Settings(
        cohort="ucddb",
        protocol="keep_all",
        channels=tuple(args.channels),
        bandpass=tuple(args.bandpass) if args.bandpass else None,
        fs=float(args.resample) if args.resample else None,
    )
    store = build_store(
        args.save_path, pairs, Reader(ucddb.read, ucddb.ROLES),
        settings=settings, command=command_of(settings), jobs=args.jobs,
    )  # fmt: skip
    if len(pairs) >= 5:
        folds.write(store.path / "folds", folds.make("kfold:5:0", sorted(store.subjects)))
    epochs = sum(int(row["n_epochs"]) for row in store.recordings.values())
    print(f"{len(pairs)} nights, {epochs:,} epochs; store: {store.path}")


def command_of(settings: Settings) -> str:
    """The command that makes this store anywhere."""
    words = ["preprocess_ucddb.py", "--channels", *settings.channels]
    if settings.bandpass:
        words += ["--bandpass", *(f"{edge:g}" for edge in settings.bandpass)]
    if settings.fs:
        words += ["--resample", f"{settings.fs:g}"]
    return shlex.join(words)


if __name__ == "__main__":
    raise SystemExit(run_script(main))
