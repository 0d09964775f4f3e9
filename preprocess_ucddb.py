"""EDF recordings with text files of stage codes -> store: the Dublin sleep apnea database.

python preprocess_ucddb.py --raw_path ucddb --save_path data/ucddb --resample 100
python preprocess_ucddb.py --raw_path ucddb --download --subjects 1-3
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasets.readers.profiles import cohort_nights, declared_night, profile
from datasets.readers.profiles.cohort_download import download_cohort
from datasets.store import folds, store_flags
from datasets.store.build import Reader, build_store
from datasets.store.descriptions import note_lines
from datasets.store.preparation import DTYPES, Settings
from utils.arguments import ScriptParser, command_of, settings_from
from utils.errors import run_script
from utils.files import check_file

# flags that change no signal or stage, so the command that the store holds leaves them out
NO_TRACE = ("raw_path", "download", "subjects", "save_path", "jobs")


@dataclass(frozen=True)
class UcddbFlags:
    """Settings of this preparation, one field per flag."""

    raw_path: Path
    download: bool
    subjects: list[str]
    save_path: Path
    channels: list[str]
    bandpass: list[float] | None
    resample: int | None
    store_dtype: str | None
    salvage: bool
    jobs: int


def make_parser() -> ScriptParser:
    """Make the parser with all flags; ``--help`` documents them."""
    parser = ScriptParser(
        "Turn recordings with a *_stage.txt beside each, as in the Dublin sleep apnea database, "
        "into a data store.",
        "A *_stage.txt has one code per line and epoch: 0 is Wake, 1 REM, 2 to 5 are sleep stages "
        "1 to 4 (R&K), 6 to 8 are unscored.",
        script=__file__,
    )
    parser.add_argument(
        "--raw_path",
        type=Path,
        default=Path("ucddb"),
        help="folder with the recordings, also in its subfolders",
    )
    store_flags.add_download(parser)
    store_flags.add_subjects(parser)
    parser.add_argument(
        "--save_path", type=Path, default=Path("data/ucddb"), help="folder of the store"
    )
    store_flags.add_channels(parser, ["EEG"], "EEG, EOG, EMG")
    store_flags.add_bandpass(parser)
    store_flags.add_resample(parser)
    store_flags.add_dtype(parser)
    store_flags.add_salvage(parser)
    store_flags.add_jobs(parser)
    return parser


def parse_args(argv: list[str] | None) -> UcddbFlags:
    """Parse the flags and refuse values that cannot work."""
    flags = settings_from(make_parser().parse(argv), UcddbFlags)
    store_flags.check_bandpass(flags.bandpass)
    store_flags.check_subjects(flags.subjects, flags.download)
    store_flags.check_jobs(flags.jobs)
    return flags


def main(argv: list[str] | None = None) -> None:
    """Find the nights, build the store, write folds if there are several subjects."""
    flags = parse_args(argv)
    ucddb = profile.load("ucddb")
    if flags.download:
        download_cohort(ucddb, flags.raw_path, flags.subjects)
    nights = cohort_nights.find(flags.raw_path, ucddb, cohort_nights.Options(salvage=flags.salvage))
    table = folds.for_few(sorted({night.subject for night in nights}))
    if table:
        check_file(folds.path_of(flags.save_path / "folds", table.name))
    settings = Settings(
        cohort="ucddb",
        protocol="keep_all",
        channels=tuple(flags.channels),
        bandpass=tuple(flags.bandpass) if flags.bandpass else None,
        fs=float(flags.resample) if flags.resample else None,
        dtype=flags.store_dtype or DTYPES[0],
    )
    store = build_store(
        flags.save_path,
        nights,
        Reader(declared_night.read, ucddb.roles),
        settings=settings,
        command=command_of(make_parser(), flags, leave_out=NO_TRACE),
        jobs=flags.jobs,
    )
    if table:
        folds.write(store.path / "folds", table)
    epochs = sum(int(row["n_epochs"]) for row in store.recordings.values())
    written = table.name if table else folds.OF_ONE_SUBJECT
    for line in note_lines(store.path / "nights"):
        print(line)
    print(f"{len(nights)} nights, {epochs:,} epochs; store: {store.path}   folds: {written}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
