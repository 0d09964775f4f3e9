"""Any cohort that a profile declares -> store, with channels named by role.

python preprocess.py --list_cohorts
python preprocess.py --cohort hmc --raw_path hmc/recordings --save_path data/hmc
python preprocess.py --cohort hmc --raw_path hmc --download --subjects 1-3
python preprocess.py --cohort my_cohort.json --raw_path my_recordings      # docs/own_cohort.md
python preprocess.py --write_profile my_recordings                         # a draft of that file
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from datasets.readers.profiles import cohort_list, cohort_nights, declared_night, draft, profile
from datasets.readers.profiles.checked_json import open_fields
from datasets.readers.profiles.cohort_download import download_cohort
from datasets.readers.profiles.cohort_nights import is_wanted
from datasets.store import folds, store_flags
from datasets.store.build import Reader, build_store, on_cluster
from datasets.store.preparation import DTYPES, Settings
from datasets.store.protocols import PROTOCOLS
from datasets.store.role_settings import kept_by_role
from datasets.store.summary import report, write_folds
from utils.arguments import (
    ScriptParser,
    add_flag,
    add_list,
    command_of,
    next_command,
    settings_from,
)
from utils.errors import UserError, run_script
from utils.files import check_file, write_json

ROLES = ("EEG", "EOG", "EMG")  # kept by default, of those that a profile has

# flags that change no signal or stage, so the command that the store holds leaves them out
NO_TRACE = (
    "raw_path", "save_path", "download", "subjects", "folds", "jobs", "dask", "list_cohorts",
    "write_profile",
)  # fmt: skip


@dataclass(frozen=True)
class CohortFlags:
    """The cohort, its folders, and what of it is taken."""

    cohort: str | None
    raw_path: Path | None
    save_path: Path | None
    download: bool
    subjects: list[str]
    only: list[str]
    scoring: str
    exclusions: bool
    unlabelled: str
    skip_faulty: bool
    salvage: bool


@dataclass(frozen=True)
class StoreFlags:
    """Content of the store: roles, range of the night, rate, type, folds."""

    roles: list[str]
    required: list[str]
    protocol: str | None
    resample: int
    store_dtype: str | None
    folds: list[str]


@dataclass(frozen=True)
class PreprocessFlags(CohortFlags, StoreFlags):
    """Settings of this preparation, one field per flag."""

    list_cohorts: bool
    write_profile: Path | None
    jobs: int
    dask: str | None


def make_parser() -> ScriptParser:
    """Make the parser with all flags; ``--help`` documents them."""
    parser = ScriptParser(
        "Turn the recordings of a declared cohort into a data store.",
        store_flags.RESUMES,
        script=__file__,
    )
    add_flag(
        parser, "--list_cohorts", help="print the known cohorts: access, licence, citation, counts"
    )
    parser.add_argument(
        "--write_profile",
        metavar="FOLDER",
        type=Path,
        help="write a draft of the profile of a folder with recordings, with questions "
        "left open as ?",
    )
    add_cohort(parser.add_argument_group("cohort"))
    add_content(parser.add_argument_group("content of the store"))
    run = parser.add_argument_group("run")
    store_flags.add_jobs(run)
    store_flags.add_dask(run)
    return parser


def add_cohort(group: argparse._ArgumentGroup) -> None:
    """Add the flags of the cohort and its files."""
    group.add_argument("--cohort", help="name of a known cohort, or a profile of another (.json)")
    group.add_argument(
        "--raw_path", type=Path, help="folder with its files, also in its subfolders"
    )
    group.add_argument("--save_path", type=Path, help="store's folder (default: data/<cohort>)")
    store_flags.add_download(group, "or print the steps to get it")
    store_flags.add_subjects(group)
    add_list(
        group,
        "--only",
        default=[],
        help="recordings to take, by ids with * (default: all)",
    )
    group.add_argument(
        "--scoring",
        default="",
        help="which of several scorings of a night, by its name in the profile (default: the first "
        "that a night has)",
    )
    store_flags.add_exclusions(group, "the profile excludes")
    group.add_argument(
        "--unlabelled",
        choices=("skip", "refuse"),
        default="skip",
        help="recordings without stages: leave them out and list them, or stop",
    )
    store_flags.add_skip_faulty(group)
    store_flags.add_salvage(group)


def add_content(group: argparse._ArgumentGroup) -> None:
    """Add the flags that decide the content of the store."""
    default = f" (default: {' '.join(ROLES)}, as far as the profile has them)"
    store_flags.add_roles(group, [], default)
    group.add_argument(
        "--protocol",
        choices=[name for name in PROTOCOLS if name != "cmt"],
        help="how much Wake before and after sleep is kept (default: as the profile declares)",
    )
    store_flags.add_resample(group, 100)
    store_flags.add_dtype(group)
    store_flags.add_folds(group)


def parse_args(argv: list[str] | None) -> PreprocessFlags:
    """Parse the flags and refuse values that cannot work."""
    flags = settings_from(make_parser().parse(argv), PreprocessFlags)
    if flags.list_cohorts or flags.write_profile:
        return flags
    if flags.cohort is None:
        raise UserError(f"--cohort: name one of {', '.join(profile.names())}, or a profile")
    if flags.raw_path is None:
        raise UserError("--raw_path: name the folder with the cohort's files")
    store_flags.check_subjects(flags.subjects, flags.download)
    store_flags.check_jobs(flags.jobs)
    return replace(
        flags,
        roles=[role.upper() for role in flags.roles],
        required=[role.upper() for role in flags.required],
    )


def main(argv: list[str] | None = None) -> None:
    """Fetch a cohort, find its nights, leave out excluded ones, build the store and its folds."""
    flags = parse_args(argv)
    if flags.list_cohorts:
        print(cohort_list.listing())
        return
    if flags.write_profile:
        write_draft(flags.write_profile)
        return
    cohort = profile.load(flags.cohort)
    if flags.download:
        download_cohort(cohort, flags.raw_path, flags.subjects)
    if not cohort.is_prepared:
        fault = " ".join((f"{cohort.name}: {cohort_list.UNDECLARED}.", *cohort.notes))
        if not flags.download:
            raise UserError(f"--cohort {fault}")
        print(fault)
        return
    flags = resolve_defaults(flags, cohort)
    chosen, out = choose(flags, cohort)
    for name in flags.folds:
        check_file(folds.path_of(flags.save_path / "folds", name))
    with on_cluster(flags.dask):
        store = build_store(
            flags.save_path,
            chosen,
            Reader(declared_night.read),
            settings=settings_of(flags, cohort, any(map(cohort_nights.is_synthetic, chosen))),
            command=command_of(make_parser(), flags, leave_out=NO_TRACE),
            jobs=flags.jobs,
            # nights that cannot be prepared are added here; without it the store stays open
            faults=out if flags.skip_faulty else None,
        )
    for name in flags.folds:
        write_folds(store, name)
    report(store, out)
    for line in cohort_list.compared(cohort, store.recordings.values()):
        print(line)
    if folds.names_in(store.path / "folds"):
        print(next_command("python", "staging_training.py", "--data_path", store.path))


def write_draft(folder: Path) -> None:
    """Write a draft of a folder's profile, and print what it leaves open.

    Raises:
        UserError: there are no recordings, or a file of that name.
    """
    fields = draft.of_folder(folder)
    path = Path(f"{fields['name'].replace('-', '_')}.json")
    if path.exists():
        raise UserError(f"{path}: is there already; move it away, it may hold your answers")
    write_json(path, fields)
    print(f"draft: {path}; answer its '?': {', '.join(open_fields(fields))}")
    print(next_command("python", "preprocess.py", "--cohort", path, "--raw_path", folder))


def resolve_defaults(flags: PreprocessFlags, cohort: profile.Profile) -> PreprocessFlags:
    """Fill in what depends on the profile: roles, protocol, the store's folder.

    Raises:
        UserError: roles that the profile does not have.
    """
    roles = flags.roles or [role for role in ROLES if role in cohort.all_roles]
    if unknown := [role for role in roles if role not in cohort.all_roles]:
        raise UserError(
            f"--roles {', '.join(unknown)}: {cohort.name} has {', '.join(cohort.all_roles)}"
        )
    store_flags.check_required(flags.required, roles)
    return replace(
        flags,
        cohort=cohort.name,  # a store holds no paths
        save_path=flags.save_path or Path("data") / cohort.name,
        roles=roles,
        protocol=flags.protocol or cohort.protocol,
    )


def choose(
    flags: PreprocessFlags, cohort: profile.Profile
) -> tuple[list[cohort_nights.Night], dict[str, str]]:
    """The nights to prepare, and why others are left out.

    Raises:
        UserError: none is left, or a pattern of ``--only`` fits none.
    """
    options = cohort_nights.Options(
        tuple(flags.roles), flags.scoring, flags.salvage, tuple(flags.only)
    )
    every = cohort_nights.find(flags.raw_path, cohort, options)
    if lone := [one for one in flags.only if not any(is_wanted(n.id, [one]) for n in every)]:
        raise UserError(f"--only {lone[0]}: no recording is called so")
    out = cohort_nights.excluded((night.id for night in every), cohort) if flags.exclusions else {}
    if flags.unlabelled == "skip":
        no_file = "no file of stages"
        out = {night.id: no_file for night in every if night.scored is None} | out
    chosen = [night for night in every if night.id not in out]
    if not chosen:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in out.items())
        raise UserError(f"{flags.raw_path}: nothing left: {reasons}")
    return chosen, out


def settings_of(flags: PreprocessFlags, cohort: profile.Profile, synthetic: bool) -> Settings:
    """Settings that decide the content of the store."""
    return Settings(
        cohort="synthetic-" * synthetic + cohort.name,
        protocol=flags.protocol,
        channels=tuple(flags.roles),
        fs=float(flags.resample),
        dtype=flags.store_dtype or DTYPES[0],
        kept=kept_by_role(flags.roles, flags.required),
        # scorings of one file differ in nothing else
        profile=" ".join(filter(None, (cohort.digest, flags.scoring))),
    )


if __name__ == "__main__":
    raise SystemExit(run_script(main))
