"""NSRR cohorts (SHHS, MESA, MrOS, WSC, APPLES), EDF and annotations -> store.

python preprocess_nsrr.py --cohort shhs --raw_path shhs/polysomnography --save_path data/shhs
python preprocess_nsrr.py --cohort mros --raw_path mros/polysomnography --skip_faulty
python preprocess_nsrr.py --cohort mesa --roles EEG EOG EMG --required EEG EOG --resample 100
python preprocess_nsrr.py --cohort cfs --channel_map cfs.json --person "cfs-visit.-(.+)"
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from datasets.readers import nsrr
from datasets.readers.channels import alternatives
from datasets.store import folds
from datasets.store.build import Reader, build_store, on_cluster
from datasets.store.preparation import Kept, Settings
from datasets.store.store import Store
from utils.arguments import ScriptParser, add_flag, add_list, count, positive
from utils.errors import UserError, run_script
from utils.files import check_file, remove_ours, write_table
from utils.stages import STAGES

ROLES = ["ECG", "EOG", "EMG", "EEG", "SPO2", "THOR", "ABDO"]
# unit, and edges in Hz of a zero-phase Butterworth band; further EEG and EOG roles as the first
KEPT = {
    "EEG": Kept("uV", 0.3, 35.0), "EOG": Kept("uV", 0.3, 35.0), "EMG": Kept("uV", 10.0),
    "ECG": Kept("uV", 0.5, 40.0), "SPO2": Kept("%", high=0.4), "THOR": Kept("a.u.", high=0.5),
    "ABDO": Kept("a.u.", high=0.5),
}  # fmt: skip


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Turn recordings of an NSRR cohort into a data store, channels named by role.",
        "A run that was interrupted continues; what is finished is never prepared twice.",
    )
    add_files(parser.add_argument_group("files"))
    add_content(parser.add_argument_group("content of the store"))
    add_doubts(parser.add_argument_group("what is doubtful"))
    run = parser.add_argument_group("run")
    run.add_argument("--jobs", type=int, default=-1, help="nights at once; -1: one per core")
    run.add_argument("--dask", metavar="ADDRESS", help="prepare on this Dask cluster instead")
    args = parser.parse(argv)
    args.cohort = args.cohort.lower()
    known = args.cohort in nsrr.COHORTS
    if not known and args.channel_map is None:
        raise UserError(
            f"--cohort {args.cohort}: known are {', '.join(nsrr.COHORTS)}; of another one name "
            "its channels with --channel_map"
        )
    if known and args.person:
        raise UserError(f"--person has no effect on {args.cohort.upper()}; take it out")
    args.raw_path = args.raw_path or Path("data/demo") / args.cohort
    args.save_path = args.save_path or Path("data") / args.cohort
    args.roles = [role.upper() for role in args.roles]
    args.required = [role.upper() for role in args.required]
    if args.jobs == 0:
        raise UserError("--jobs takes a number of processes, or -1 for one per core")
    if foreign := sorted(set(args.required) - set(args.roles)):
        raise UserError(f"--required {', '.join(foreign)}: not among --roles")
    return args


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


def add_doubts(group: argparse._ArgumentGroup) -> None:
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
    args = parse_args(argv)
    sources = nsrr.find(args.raw_path, args.cohort, options_of(args))
    out = nsrr.excluded(sources, nsrr.exclusions(args.cohort)) if args.exclusions else {}
    if args.unlabelled == "skip":
        out |= {s.id: "no annotation beside it" for s in sources
                if s.id not in out and not set(s.scored) - {".log.txt"}}  # fmt: skip
    chosen = [source for source in sources if source.id not in out]
    if not chosen:
        raise UserError(f"{args.raw_path}: nothing left: " + "; ".join(
            f"{name}: {reason}" for name, reason in out.items()))  # fmt: skip
    for name in args.folds:
        check_file(folds.path_of(args.save_path / "folds", name))
    settings = settings_of(args, any(nsrr.is_synthetic(source) for source in chosen))
    with on_cluster(args.dask):
        store = build_store(
            args.save_path, chosen, Reader(nsrr.read),
            settings=settings, command=command_of(args), jobs=args.jobs,
            faults=out if args.skip_faulty else None,
        )  # fmt: skip
    for name in args.folds:
        write_folds(store, name)
    report(store, out)


def options_of(args: argparse.Namespace) -> nsrr.Options:
    """How every night is read.

    Raises:
        UserError: a role that nobody has names for.
    """
    channels = alternatives(args.cohort, args.channel_map)
    if unknown := [role for role in args.roles if role not in channels]:
        raise UserError(
            f"--roles {', '.join(unknown)}: {args.cohort.upper()} has {', '.join(channels)}; name "
            "others with --channel_map"
        )
    return nsrr.Options(
        channels=channels,
        roles=tuple(args.roles),
        annotation=args.annotation,
        max_mismatch=args.max_mismatch,
        keep_unlabelled=args.unlabelled == "keep",
        keep_suspect=args.keep_suspect,
        person=args.person,
    )


def settings_of(args: argparse.Namespace, synthetic: bool) -> Settings:
    """What decides the store's content."""
    kept = {}
    for role in args.roles:
        like = KEPT.get(role) or KEPT.get(role.split("_")[0]) or Kept("a.u.")
        kept[role] = Kept(like.unit, like.low, like.high, required=role in args.required)
    return Settings(
        cohort="synthetic-" * synthetic + args.cohort,
        protocol="keep_all",
        channels=tuple(args.roles),
        fs=float(args.resample),
        kept=kept,
    )


def command_of(args: argparse.Namespace) -> str:
    """The command that makes this store anywhere: no paths."""
    words = ["preprocess_nsrr.py", "--cohort", args.cohort, "--roles", *args.roles]
    words += ["--required", *args.required, "--resample", str(args.resample)]
    words += ["--annotation", args.annotation, "--max_mismatch", str(args.max_mismatch)]
    words += ["--unlabelled", args.unlabelled]
    words += ["--person", args.person] if args.person else []
    words += ["--channel_map", args.channel_map.name] if args.channel_map else []
    for name in ("keep_suspect", "skip_faulty"):
        words += [f"--{name}"] if getattr(args, name) else []
    return shlex.join(words + ([] if args.exclusions else ["--exclusions", "False"]))


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
