"""Dreem Open Datasets (DOD-H, DOD-O), HDF5 -> store.

python preprocess_dreem.py --raw_path dodh --save_path data/dreem-dodh
python preprocess_dreem.py --raw_path dodo.zip --version dodo --channels EEG EOG1-EOG2 EMG
python preprocess_dreem.py --raw_path data/raw/dodh --download
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from datasets.readers import dreem
from datasets.readers.profiles import profile
from datasets.readers.profiles.cohort_download import download_cohort
from datasets.store import folds, store_flags
from datasets.store.build import Reader, build_store
from datasets.store.descriptions import note_lines
from datasets.store.preparation import DTYPES, Settings
from utils.arguments import (
    ScriptParser,
    add_flag,
    command_of,
    count,
    settings_from,
)
from utils.errors import UserError, run_script
from utils.files import check_file

PAD_EPOCHS = 30  # 900 s of zeros at both ends, as the Dreem papers have them
# leave-one-out for DOD-H; 10 or 28 folds for DOD-O
FOLDS = {"dodh": ("dodh_loo",), "dodo": ("dodo_10", "dodo_28")}

# flags that change nothing in the store, so the command that it holds leaves them out
NO_TRACE = ("raw_path", "download", "records", "save_path", "jobs")


@dataclass(frozen=True)
class DreemFlags:
    """Settings of this preparation, one field per flag."""

    raw_path: Path
    download: bool
    records: int
    save_path: Path
    version: str
    channels: list[str]
    preset: str | None
    bandpass: list[float] | None
    resample: int
    store_dtype: str | None
    scorers: Path | None
    allow_length_mismatch: bool
    jobs: int


def make_parser() -> ScriptParser:
    """Make the parser with all flags; ``--help`` documents them."""
    parser = ScriptParser(
        "Turn recordings of the Dreem Open Datasets into a data store.",
        store_flags.RESUMES,
        script=__file__,
    )
    parser.add_argument(
        "--raw_path",
        type=Path,
        default=Path("data/demo/dreem"),
        help="folder with *.h5 files, also in its subfolders, or a zip of them",
    )
    store_flags.add_download(parser, "0.9 GB per record")
    parser.add_argument(
        "--records", type=count, default=0, help="records to fetch, in order of their ids; 0: all"
    )
    parser.add_argument(
        "--save_path", type=Path, help="folder of the store (default: data/dreem-<version>)"
    )
    parser.add_argument(
        "--version", choices=tuple(FOLDS), default="dodh", help="healthy subjects or patients"
    )
    store_flags.add_channels(parser, ["EEG", "EOG"], ", ".join(dreem.ROLES))
    parser.add_argument(
        "--preset",
        choices=("dreem",),
        help="prepare as the Dreem papers do: their causal filter, resampling by linear "
        "interpolation, and 900 s of zeros at both ends of each night",
    )
    store_flags.add_bandpass(parser)
    store_flags.add_resample(parser, 100)
    store_flags.add_dtype(parser)
    parser.add_argument(
        "--scorers",
        type=Path,
        help="folder with scorer_1 … scorer_5: stages are the consensus of these scorers, aligned "
        "with the signals (default: the hypnogram within each record)",
    )
    add_flag(
        parser,
        "--allow_length_mismatch",
        help="accept stages and signals of different length, as starting together",
    )
    store_flags.add_jobs(parser)
    return parser


def parse_args(argv: list[str] | None) -> DreemFlags:
    """Parse the flags, fill in defaults, and refuse flags that contradict each other."""
    flags = settings_from(make_parser().parse(argv), DreemFlags)
    store_flags.check_bandpass(flags.bandpass)
    if flags.bandpass and flags.preset:
        raise UserError("--preset dreem has a filter of its own; leave out --bandpass")
    if flags.download and flags.raw_path.suffix == ".zip":
        raise UserError("--download fetches records into a folder; --raw_path names a zip")
    store_flags.check_jobs(flags.jobs)
    return replace(flags, save_path=flags.save_path or Path("data") / f"dreem-{flags.version}")


def main(argv: list[str] | None = None) -> None:
    """List the records, build the store, write the folds."""
    flags = parse_args(argv)
    if flags.download:
        first = [f"1-{flags.records}"] if flags.records else []
        download_cohort(profile.load(flags.version), flags.raw_path, first)
    records = dreem.find_records(
        flags.raw_path, scorers=flags.scorers, allow_length_mismatch=flags.allow_length_mismatch
    )
    tables = tables_of(flags.version, sorted(record.id for record in records))
    # before the long work, not after it
    for table in tables:
        check_file(folds.path_of(flags.save_path / "folds", table.name))
    # a cohort with a single generated night never passes for the real one
    synthetic = any(dreem.is_synthetic(record) for record in records)
    settings = Settings(
        cohort="synthetic-" * synthetic + flags.version,
        protocol="keep_all",
        channels=tuple(flags.channels),
        bandpass=tuple(flags.bandpass) if flags.bandpass else None,
        fs=float(flags.resample),
        dtype=flags.store_dtype or DTYPES[0],
        preset=flags.preset,
        pad_epochs=PAD_EPOCHS if flags.preset else 0,
    )
    store = build_store(
        flags.save_path,
        records,
        Reader(dreem.read, dreem.ROLES),
        settings=settings,
        command=command_of(make_parser(), flags, leave_out=NO_TRACE),
        jobs=flags.jobs,
    )
    for table in tables:
        folds.write(store.path / "folds", table)
    epochs = sum(int(row["n_epochs"]) for row in store.recordings.values())
    tables = folds.names_in(store.path / "folds")
    print(f"{len(records)} records, {epochs:,} epochs, {settings.cohort}")
    for line in note_lines(store.path / "nights"):
        print(line)
    print(f"store: {store.path}   folds: {', '.join(tables) or folds.OF_ONE_SUBJECT}")


def tables_of(version: str, ids: list[str]) -> list[folds.FoldTable]:
    """Tables with the published numbers of folds, if there are records enough, and kfold:5:0."""
    # Dreem's ids are uuids, one record per subject; 28 folds of 55 records hold two or one each
    counts = {"dodh_loo": len(ids), "dodo_10": 10, "dodo_28": -(-len(ids) // 2)}
    wanted = {name: counts[name] for name in FOLDS[version]}
    tables = [folds.in_order(name, ids, n) for name, n in wanted.items() if 2 < n <= len(ids)]
    return tables + ([few] if (few := folds.for_few(ids)) else [])


if __name__ == "__main__":
    raise SystemExit(run_script(main))
