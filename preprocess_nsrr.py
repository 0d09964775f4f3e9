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
from datasets.readers.channels import alternatives
from datasets.store import folds
from datasets.store.build import Reader, build_store, on_cluster
from datasets.store.preparation import RolePreprocessing, Settings
from datasets.store.store import Store
from utils.arguments import (
    ScriptParser,
    add_flag,
    add_list,
    command_of,
    count,
    positive,
    settings_from,
)
from utils.errors import UserError, run_script
from utils.files import check_file, remove_ours, write_table
from utils.stages import STAGES

ROLES = ["ECG", "EOG", "EMG", "EEG", "SPO2", "THOR", "ABDO"]
# unit, and edges in Hz of a zero-phase Butterworth band; further EEG and EOG roles as the first
ROLE_PREPROCESSING = {
    "EEG": RolePreprocessing("uV", 0.3, 35.0),
    "EOG": RolePreprocessing("uV", 0.3, 35.0),
    "EMG": RolePreprocessing("uV", 10.0),
    "ECG": RolePreprocessing("uV", 0.5, 40.0),
    "SPO2": RolePreprocessing("%", high=0.4),
    "THOR": RolePreprocessing("a.u.", high=0.5),
    "ABDO": RolePreprocessing("a.u.", high=0.5),
}


NO_TRACE = ("raw_path", "save_path", "folds", "jobs", "dask")  # in what the store is known by


@dataclass(frozen=True)
class FileFlags:
    """Where recordings are and what of them is read."""

    cohort: str
    person: str | None
    raw_path: Path
    save_path: Path
    roles: list[str]
    required: list[str]
    channel_map: Path | None


@dataclass(frozen=True)
class ContentFlags:
    """What decides the bytes of the store."""

    resample: int
    folds: list[str]


@dataclass(frozen=True)
class DisagreementFlags:
    """What is decided where files disagree."""

    annotation: str
    max_mismatch: int
    unlabelled: str
    keep_suspect: bool
    exclusions: bool
    skip_faulty: bool


@dataclass(frozen=True)
class NsrrFlags(FileFlags, ContentFlags, DisagreementFlags):
    """What the command line asks for."""

    jobs: int
    dask: str | None


def make_parser() -> ScriptParser:
    """Every flag; ``--help`` is their documentation."""
    parser = ScriptParser(
        "Turn recordings of an NSRR cohort into a data store, channels named by role.",
        "A run that was interrupted continues; what is finished is never prepared twice.",
        script=__file__,
    )
    add_files(parser.add_argument_group("files"))
    add_content(parser.add_argument_group("content of the store"))
    add_disagreements(parser.add_argument_group("where files disagree"))
    run = parser.add_argument_group("run")
    run.add_argument("--jobs", type=int, default=-1, help="nights at once; -1: one per core")
    run.add_argument("--dask", metavar="ADDRESS", help="prepare on this Dask cluster instead")
    return parser


def parse_args(argv: list[str] | None) -> NsrrFlags:
    """The flags with their defaults, refused where they cannot work."""
    flags = resolve_defaults(settings_from(make_parser().parse(argv), NsrrFlags))
    known = flags.cohort in nsrr.COHORTS
    if not known and flags.channel_map is None:
        raise UserError(
            f"--cohort {flags.cohort}: known are {', '.join(nsrr.COHORTS)}; of another one name "
            "its channels with --channel_map"
        )
    if known and flags.person:
        raise UserError(f"--person has no effect on {flags.cohort.upper()}; take it out")
    if flags.jobs == 0:
        raise UserError("--jobs takes a number of processes, or -1 for one per core")
    if foreign := sorted(set(flags.required) - set(flags.roles)):
        raise UserError(f"--required {', '.join(foreign)}: not among --roles")
    return flags


def resolve_defaults(flags: NsrrFlags) -> NsrrFlags:
    """Folders named after the cohort; cohort and roles in the case they are known by."""
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
    """Where recordings are and what of them is read."""
    group.add_argument(
        "--cohort",
        default="shhs",
        help=f"{', '.join(nsrr.COHORTS)}, or the name of another one, with --channel_map",
    )
    group.add_argument(
        "--person",
        help="of another cohort: pattern of an EDF's stem with a group for the person, and "
        "(?P<visit>…) where there are visits (default: every stem a person)",
    )
    group.add_argument(
        "--raw_path",
        type=Path,
        help="folder of EDFs and annotations, searched with its subfolders "
        "(default: data/demo/<cohort>)",
    )
    group.add_argument("--save_path", type=Path, help="the store (default: data/<cohort>)")
    add_list(
        group,
        "--roles",
        default=ROLES,
        help="channels by role; also EEG_C3, EEG_FRONTAL, EEG_OCCIPITAL, EOG_L, EOG_R and what "
        "--channel_map adds",
    )
    add_list(
        group,
        "--required",
        default=["EEG"],
        help="roles without which a recording is refused; the others may be absent",
    )
    group.add_argument(
        "--channel_map",
        type=Path,
        help='JSON of roles to labels, tried before the known ones: {"EEG": ["C4-M1", "C3-M2"]}',
    )


def add_content(group: argparse._ArgumentGroup) -> None:
    """What decides the bytes of the store."""
    group.add_argument("--resample", type=positive, default=125, help="rate of all channels in Hz")
    add_list(
        group, "--folds", default=["kfold:5:0"], help="fold tables to write by person: kfold:N:seed"
    )


def add_disagreements(group: argparse._ArgumentGroup) -> None:
    """What is decided where files disagree."""
    group.add_argument(
        "--annotation",
        choices=("both", "nsrr", "profusion"),
        default="both",
        help="of two XML files take one; both: they must agree",
    )
    group.add_argument(
        "--max_mismatch",
        type=count,
        default=5,
        help="epochs by which signal and stages may differ in length",
    )
    group.add_argument(
        "--unlabelled",
        choices=("skip", "keep"),
        default="skip",
        help="recordings without annotation: leave out and say so, or keep, all epochs unscored",
    )
    add_flag(group, "--keep_suspect", help="keep nights scored as wake and sleep alone")
    add_flag(
        group,
        "--exclusions",
        default=True,
        help="leave out what the cohort's documentation calls faulty (nsrr_exclusions.json)",
    )
    add_flag(
        group,
        "--skip_faulty",
        help="leave out recordings that cannot be read, and say so, instead of stopping at the "
        "first",
    )


def main(argv: list[str] | None = None) -> None:
    """Pair the files, leave out what is known to be faulty, build the store, write the folds."""
    flags = parse_args(argv)
    sources = nsrr.find(flags.raw_path, flags.cohort, options_of(flags))
    out = nsrr.excluded(sources, nsrr.exclusions(flags.cohort)) if flags.exclusions else {}
    if flags.unlabelled == "skip":
        out |= {
            s.id: "no annotation beside it"
            for s in sources
            if s.id not in out and not set(s.scored) - {".log.txt"}
        }
    chosen = [source for source in sources if source.id not in out]
    if not chosen:
        raise UserError(
            f"{flags.raw_path}: nothing left: "
            + "; ".join(f"{name}: {reason}" for name, reason in out.items())
        )
    for name in flags.folds:
        check_file(folds.path_of(flags.save_path / "folds", name))
    settings = settings_of(flags, any(nsrr.is_synthetic(source) for source in chosen))
    with on_cluster(flags.dask):
        store = build_store(
            flags.save_path,
            chosen,
            Reader(nsrr.read),
            settings=settings,
            jobs=flags.jobs,
            command=command_of(make_parser(), flags, leave_out=NO_TRACE),
            faults=out if flags.skip_faulty else None,
        )
    for name in flags.folds:
        write_folds(store, name)
    report(store, out)


def options_of(flags: NsrrFlags) -> nsrr.Options:
    """How every night is read.

    Raises:
        UserError: a role that nobody has names for.
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
        person=flags.person,
    )


def settings_of(flags: NsrrFlags, synthetic: bool) -> Settings:
    """What decides the store's content."""
    kept = {}
    for role in flags.roles:
        like = (
            ROLE_PREPROCESSING.get(role)
            or ROLE_PREPROCESSING.get(role.split("_")[0])
            or RolePreprocessing("a.u.")
        )
        kept[role] = RolePreprocessing(
            like.unit, like.low, like.high, required=role in flags.required
        )
    return Settings(
        cohort="synthetic-" * synthetic + flags.cohort,
        protocol="keep_all",
        channels=tuple(flags.roles),
        fs=float(flags.resample),
        kept=kept,
    )


def write_folds(store: Store, name: str) -> None:
    """The folds asked for; of fewer people than folds, one fold a person."""
    people = store.subjects
    if name == "kfold:5:0" and len(people) < 5:
        name = f"kfold:{len(people)}:0"
    if len(people) > 1:
        folds.write(store.path / "folds", folds.make(name, people))


def report(store: Store, out: dict[str, str]) -> None:
    """What is in the store, which roles are missing where, and what was left out."""
    rows = store.recordings.values()
    nights = [store.night(recording) for recording in store.recordings]
    print(f"{len(rows)} nights of {len(store.subjects)} people, {store.cohort}")
    totals = (f"{name} {sum(int(row[name]) for row in rows):,}" for name in (*STAGES, "unscored"))
    print("  epochs: " + ", ".join(totals))
    for k, channel in enumerate(store.channels):
        made = sorted({n.derivations[k] for n in nights if n.derivations[k] is not None})
        absent = sum(night.derivations[k] is None for night in nights)
        missing = f"; absent in {absent}" if absent else ""
        print(f"  {channel.role:<6}{', '.join(made) or '–'}{missing}")
    table = [{"recording": name, "reason": reason} for name, reason in sorted(out.items())]
    remove_ours(store.path / "left_out.csv")
    if table:
        write_table(store.path / "left_out.csv", table)
        for row in table[:10]:
            print(f"  left out: {row['recording']}: {row['reason']}")
        print(f"left out: {len(table)}, all in {store.path / 'left_out.csv'}")
    tables = folds.names_in(store.path / "folds")
    print(f"store: {store.path}   folds: {', '.join(tables) or 'none (a single person)'}")
    print(f"next: python foundation_training.py --data_path {store.path}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
