"""NSRR cohorts (SHHS, MESA, MrOS, WSC, APPLES), EDF and annotations -> store.

python preprocess_nsrr.py --cohort shhs --raw_path shhs/polysomnography --save_path data/shhs
python preprocess_nsrr.py --cohort mros --raw_path mros/polysomnography --skip_faulty
python preprocess_nsrr.py --cohort mesa --roles EEG EOG EMG --required EEG EOG --resample 100
python preprocess_nsrr.py --cohort cfs --channel_map cfs.json --person "cfs-visit.-(.+)"
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from datasets.readers import nsrr
from datasets.readers.edf_header import is_synthetic
from datasets.readers.known_channels import alternatives
from datasets.readers.profiles import cohort_nights, profile
from datasets.store import folds, store_flags
from datasets.store.build import Reader, build_store, on_cluster
from datasets.store.preparation import DTYPES, Settings
from datasets.store.role_settings import kept_by_role
from datasets.store.summary import report, write_folds
from utils.arguments import (
    ScriptParser,
    add_flag,
    command_of,
    count,
    next_command,
    settings_from,
)
from utils.errors import UserError, run_script
from utils.files import check_file

# the roles that the foundation model reads, in its order
ROLES = ["ECG", "EOG", "EMG", "EEG", "SPO2", "THOR", "ABDO"]

# flags that change no signal or stage, so the command that the store holds leaves them out
NO_TRACE = ("raw_path", "save_path", "folds", "jobs", "dask")


@dataclass(frozen=True)
class FileFlags:
    """Cohort, folders, and roles of the channels."""

    cohort: str
    person: str | None
    raw_path: Path
    save_path: Path
    roles: list[str]
    required: list[str]
    channel_map: Path | None


@dataclass(frozen=True)
class ContentFlags:
    """Sampling rate, type and fold tables of the store."""

    resample: int
    store_dtype: str | None
    folds: list[str]


@dataclass(frozen=True)
class DisagreementFlags:
    """Decisions where the files of a recording disagree, or are faulty."""

    annotation: str
    max_mismatch: int
    unlabelled: str
    keep_suspect: bool
    exclusions: bool
    skip_faulty: bool
    salvage: bool


@dataclass(frozen=True)
class NsrrFlags(FileFlags, ContentFlags, DisagreementFlags):
    """Settings of this preparation, one field per flag."""

    jobs: int
    dask: str | None


def make_parser() -> ScriptParser:
    """Make the parser with all flags; ``--help`` documents them."""
    parser = ScriptParser(
        "Turn recordings of an NSRR cohort into a data store whose channels are named by role.",
        store_flags.RESUMES,
        script=__file__,
    )
    add_files(parser.add_argument_group("files"))
    add_content(parser.add_argument_group("content of the store"))
    add_disagreements(parser.add_argument_group("where files disagree"))
    run = parser.add_argument_group("run")
    store_flags.add_jobs(run)
    store_flags.add_dask(run)
    return parser


def parse_args(argv: list[str] | None) -> NsrrFlags:
    """Parse the flags, fill in defaults, and refuse flags that contradict each other."""
    flags = resolve_defaults(settings_from(make_parser().parse(argv), NsrrFlags))
    known = flags.cohort in nsrr.COHORTS
    if not known and flags.channel_map is None:
        raise UserError(
            f"--cohort {flags.cohort}: known are {', '.join(nsrr.COHORTS)}; for another one, name "
            "its channels with --channel_map"
        )
    if known and flags.person:
        raise UserError(f"--person has no effect on {flags.cohort.upper()}; take it out")
    store_flags.check_jobs(flags.jobs)
    store_flags.check_required(flags.required, flags.roles)
    return flags


def resolve_defaults(flags: NsrrFlags) -> NsrrFlags:
    """Fill in folders named after the cohort; cohort in lower case, roles in upper case."""
    cohort = flags.cohort.lower()
    return replace(
        flags,
        cohort=cohort,
        raw_path=flags.raw_path or Path("data/demo") / cohort,
        save_path=flags.save_path or Path("data") / cohort,
        roles=[role.upper() for role in flags.roles],
        required=[role.upper() for role in flags.required],
    )


def add_files(group: argparse._ArgumentGroup) -> None:
    """Add the flags of cohort, folders and roles."""
    group.add_argument(
        "--cohort",
        default="shhs",
        help=f"{', '.join(nsrr.COHORTS)}, or any name for another one, together with --channel_map",
    )
    group.add_argument(
        "--person",
        help="for another cohort: regular expression of an EDF's name without suffix, with a "
        "group for the subject, and (?P<visit>…) for the visit (default: one subject per file)",
    )
    group.add_argument(
        "--raw_path",
        type=Path,
        help="folder with EDFs and annotations, also in its subfolders "
        "(default: data/demo/<cohort>)",
    )
    group.add_argument("--save_path", type=Path, help="store's folder (default: data/<cohort>)")
    others = "EEG_C3, EEG_FRONTAL, EEG_OCCIPITAL, EOG_L, EOG_R, and roles of --channel_map"
    store_flags.add_roles(group, ROLES, f"; also {others}")
    group.add_argument(
        "--channel_map",
        type=Path,
        help="JSON file of labels by role, which are tried before the known ones: "
        '{"EEG": ["C4-M1", "C3-M2"]}',
    )


def add_content(group: argparse._ArgumentGroup) -> None:
    """Add the flags of sampling rate, type and fold tables."""
    store_flags.add_resample(group, 125)
    store_flags.add_dtype(group)
    store_flags.add_folds(group)


def add_disagreements(group: argparse._ArgumentGroup) -> None:
    """Add the flags that decide where the files of a recording disagree, or are faulty."""
    group.add_argument(
        "--annotation",
        choices=("both", "nsrr", "profusion"),
        default="both",
        help="which of two XML files to read; both: they must agree",
    )
    group.add_argument(
        "--max_mismatch",
        type=count,
        default=5,
        help="number of epochs by which signals and stages may differ in length",
    )
    group.add_argument(
        "--unlabelled",
        choices=("skip", "keep"),
        default="skip",
        help="recordings without annotation: leave them out and list them, or keep them unscored",
    )
    add_flag(group, "--keep_suspect", help="keep nights scored as wake and sleep only")
    store_flags.add_exclusions(group, "the cohort's documentation calls faulty")
    store_flags.add_skip_faulty(group)
    store_flags.add_salvage(group)


def main(argv: list[str] | None = None) -> None:
    """Pair the files, leave out faulty recordings, build the store, write the folds."""
    flags = parse_args(argv)
    sources = nsrr.find(flags.raw_path, flags.cohort, options_of(flags))
    out = {}
    if flags.exclusions and flags.cohort in nsrr.COHORTS:
        out = cohort_nights.excluded((s.id for s in sources), profile.load(flags.cohort))
    if flags.unlabelled == "skip":
        out |= {
            s.id: "no annotation beside it"
            for s in sources
            if s.id not in out and not set(s.scored) - {".log.txt"}  # WSC's logs hold no stages
        }
    chosen = [source for source in sources if source.id not in out]
    if not chosen:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in out.items())
        raise UserError(f"{flags.raw_path}: nothing left: {reasons}")
    for name in flags.folds:
        check_file(folds.path_of(flags.save_path / "folds", name))
    settings = settings_of(flags, any(is_synthetic(source.path) for source in chosen))
    with on_cluster(flags.dask):
        store = build_store(
            flags.save_path,
            chosen,
            Reader(nsrr.read),
            settings=settings,
            jobs=flags.jobs,
            command=command_of(make_parser(), flags, leave_out=NO_TRACE),
            # nights that cannot be prepared are added here; without it the store stays open
            faults=out if flags.skip_faulty else None,
        )
    for name in flags.folds:
        write_folds(store, name)
    report(store, out)
    if folds.names_in(store.path / "folds"):
        print(next_command("python", "foundation_training.py", "--data_path", store.path))


def options_of(flags: NsrrFlags) -> nsrr.Options:
    """Options of the reader, the same for every night.

    Raises:
        UserError: a role whose channels have no known names.
    """
    channels = alternatives(flags.cohort, flags.channel_map)
    if unknown := [role for role in flags.roles if role not in channels]:
        raise UserError(
            f"--roles {', '.join(unknown)}: {flags.cohort.upper()} has {', '.join(channels)}; name "
            "others with --channel_map"
        )
    return nsrr.Options(
        channels=channels,
        roles=tuple(flags.roles),
        annotation=flags.annotation,
        max_mismatch=flags.max_mismatch,
        keep_unlabelled=flags.unlabelled == "keep",
        keep_suspect=flags.keep_suspect,
        salvage=flags.salvage,
        person=flags.person,
    )


def settings_of(flags: NsrrFlags, synthetic: bool) -> Settings:
    """Settings that decide the content of the store."""
    return Settings(
        cohort="synthetic-" * synthetic + flags.cohort,
        protocol="keep_all",
        channels=tuple(flags.roles),
        fs=float(flags.resample),
        dtype=flags.store_dtype or DTYPES[0],
        kept=kept_by_role(flags.roles, flags.required),
    )


if __name__ == "__main__":
    raise SystemExit(run_script(main))
