"""EDF recordings with one stage code a line beside them -> store: the Dublin sleep apnea database.

python preprocess_ucddb.py --raw_path ucddb --save_path data/ucddb --resample 100
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasets.readers import ucddb
from datasets.store import folds
from datasets.store.build import Reader, build_store
from datasets.store.preparation import Settings
from utils.arguments import ScriptParser, add_list, command_of, positive, settings_from
from utils.errors import UserError, run_script
from utils.files import check_file

NO_TRACE = ("raw_path", "save_path", "jobs")  # in the store


@dataclass(frozen=True)
class UcddbFlags:
    """What the command line asks for."""

    raw_path: Path
    save_path: Path
    channels: list[str]
    bandpass: list[float] | None
    resample: int | None
    jobs: int


def make_parser() -> ScriptParser:
    """Every flag; ``--help`` is their documentation."""
    parser = ScriptParser(
        "Turn recordings with a *_stage.txt beside each into a data store.",
        "Codes: 0 wake, 1 REM, 2 to 5 sleep stages 1 to 4 (R&K), 6 to 8 unscored.",
        script=__file__,
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
    return parser


def parse_args(argv: list[str] | None) -> UcddbFlags:
    """The flags, refused where they cannot work."""
    flags = settings_from(make_parser().parse(argv), UcddbFlags)
    if flags.bandpass is not None and len(flags.bandpass) != 2:
        raise UserError("--bandpass takes two frequencies in Hz, such as --bandpass 0.3 35")
    if flags.jobs == 0:
        raise UserError("--jobs takes a number of processes, or -1 for one per core")
    return flags


def main(argv: list[str] | None = None) -> None:
    """Pair the files, build the store, write folds where there are subjects enough."""
    flags = parse_args(argv)
    pairs = ucddb.find_pairs(flags.raw_path)
    check_file(folds.path_of(flags.save_path / "folds", "kfold:5:0"))
    settings = Settings(
        cohort="ucddb",
        protocol="keep_all",
        channels=tuple(flags.channels),
        bandpass=tuple(flags.bandpass) if flags.bandpass else None,
        fs=float(flags.resample) if flags.resample else None,
    )
    store = build_store(
        flags.save_path,
        pairs,
        Reader(ucddb.read, ucddb.ROLES),
        settings=settings,
        command=command_of(make_parser(), flags, leave_out=NO_TRACE),
        jobs=flags.jobs,
    )
    if len(pairs) >= 5:
        folds.write(store.path / "folds", folds.make("kfold:5:0", sorted(store.subjects)))
    epochs = sum(int(row["n_epochs"]) for row in store.recordings.values())
    print(f"{len(pairs)} nights, {epochs:,} epochs; store: {store.path}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
