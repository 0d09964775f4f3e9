"""Train and evaluate every model by its own recipe and print one table, best kappa first.

Trainings are submitted to Slurm where there is one, and run on this machine elsewhere.

python reproduce_tables.py                                       # all models, on the demo store
python reproduce_tables.py --models tinysleepnet,chambon2018 --fold_list all --seeds 0,1,2
python reproduce_tables.py --data_path data/sleepedf-2018 --folds tiny78 --fold_list all
python reproduce_tables.py --table ssl --seeds 0,1,2 --jobs 2 --gpus 0,1
python reproduce_tables.py --flags "--max_minutes 5"             # the same limit for every training
python reproduce_tables.py --stagers yasa physioex-seqsleepnet-eeg   # rows of published stagers
python reproduce_tables.py --table cross_cohort --stores data/hmc data/cap data/dodh
python reproduce_tables.py --table pretraining --seeds 0,1,2      # curves of pretraining

After an interruption the same command resumes where it stopped.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import torch

from datasets.store import joined, splits
from datasets.store.store import Store
from datasets.store.views import View
from evaluation.stage import open_view, pick_device
from experiments import cross_cohort, model_table, pretraining_study, stager_rows, study_page
from experiments.cells import run_cells
from experiments.reproducing import (
    PRETRAINED,
    Job,
    Setting,
    cell_of,
    check_flags,
    check_same_experiment,
    fold_numbers,
)
from training.recipes import RECIPES, recipe_of
from utils.arguments import (
    DEMO_STORE,
    ScriptParser,
    add_flag,
    add_list,
    pairs,
    positive,
    settings_from,
)
from utils.checkpoint import load_checkpoint
from utils.errors import UserError, run_script
from utils.files import check_file, locked

ZOO = ("chambon2018", "deepsleepnet", "epoch_cmt", "seqsleepnet", "sequence_cmt",
       "simplesleepnet", "sleeptransformer", "tinysleepnet")  # fmt: skip
CROSS, STUDY = "cross_cohort", "pretraining"
TABLES = {"staging": ZOO, "cmt": ("epoch_cmt", "sequence_cmt"), "ssl": PRETRAINED,
          CROSS: ("tinysleepnet",), STUDY: ()}  # fmt: skip


@dataclass(frozen=True)
class TableFlags:
    """Settings of the tables, one field per flag."""

    cross: cross_cohort.CrossFlags
    study: pretraining_study.StudyFlags

    table: str
    models: list[str] | None
    stagers: list[str]
    data_path: Path
    project_path: Path
    folds: str | None
    fold_list: list[str]
    seeds: list[int]
    jobs: int
    gpus: list[int]
    submit: list[str]
    flags: str
    device: str
    overwrite: bool


def parse_args(argv: list[str] | None) -> TableFlags:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Train and evaluate models over folds and seeds, and write one table of them, beside "
        "published figures if there are any.",
        "Every row names its data; figures of synthetic nights never stand in a real cohort's row.",
    )
    parser.add_argument(
        "--table",
        choices=tuple(TABLES),
        default="staging",
        help="table to make, which decides the models unless --models does",
    )
    add_list(
        parser,
        "--models",
        help=f"models of the table: {', '.join(sorted(RECIPES))} and torchvision's image networks; "
        f"for --table ssl: {', '.join(PRETRAINED)}",
    )
    add_list(
        parser,
        "--stagers",
        default=[],
        help="rows of stagers by name or file (predict.py --list_models), which stage the same "
        "subjects; nothing is trained then unless --models names it",
    )
    parser.add_argument("--data_path", type=Path, default=DEMO_STORE, help="folder of the store")
    parser.add_argument(
        "--project_path",
        type=Path,
        default=Path("results/tables"),
        help="folder for runs and tables",
    )
    parser.add_argument("--folds", help="fold table (default: as in training)")
    add_list(
        parser,
        "--fold_list",
        default=["-1"],
        help="numbers of the folds to hold out in turn, or 'all'; -1 is the last",
    )
    add_list(
        parser, "--seeds", item=int, default=[0], help="seeds; every fold is trained with each"
    )
    parser.add_argument("--jobs", type=positive, default=1, help="trainings at the same time")
    add_list(
        parser,
        "--gpus",
        item=int,
        default=[],
        help="numbers of this machine's GPUs, which trainings share equally (default: chosen by "
        "the scripts)",
    )
    parser.add_argument(
        "--submit",
        nargs="+",
        default=[],
        help="settings of the Slurm jobs that trainings are submitted as where there is Slurm: "
        "slurm_partition=gpu gpus_per_node=1 timeout_min=600 … (docs/cluster.md)",
    )
    parser.add_argument(
        "--flags", default="", help="further flags for every training script, in quotes"
    )
    parser.add_argument(
        "--device", default="auto", help="device on which the staging of a night is timed"
    )
    add_flag(
        parser,
        "--overwrite",
        help="also replace tables that this script did not write",
    )
    cross_cohort.add_flags(parser.add_argument_group("across cohorts (--table cross_cohort)"))
    pretraining_study.add_flags(parser.add_argument_group("curves (--table pretraining)"))
    asked = settings_from(parser.parse(argv), TableFlags)
    check_flags(asked.flags)
    check_table_flags(asked)
    submit_options(asked)  # refuses what is no pair
    default = () if asked.stagers else TABLES[asked.table]
    # each once: two trainings at the same time would share a folder
    asked = replace(
        asked,
        models=list(dict.fromkeys(asked.models or default)),
        seeds=list(dict.fromkeys(asked.seeds)),
    )
    for name in asked.models:
        if (name in PRETRAINED) != (asked.table == "ssl"):
            known = ", ".join(PRETRAINED if asked.table == "ssl" else sorted(RECIPES))
            raise UserError(f"--models {name}: not of --table {asked.table}, which has {known}")
        if asked.table != "ssl":
            recipe_of(name)  # refuses unknown models before anything is trained
    return asked


def check_table_flags(asked: TableFlags) -> None:
    """Refuse flags that have no effect on the table."""
    is_cross = asked.table == CROSS
    for table, flags in ((CROSS, asked.cross), (STUDY, asked.study)):
        given = [f"--{name}" for name, value in vars(flags).items() if value]
        if given and asked.table != table:
            raise UserError(f"{given[0]}: of --table {table}; add that, or leave it out")
    if asked.table == STUDY and (asked.models or asked.stagers):
        raise UserError(f"--table {STUDY}: its --grid names what is compared; leave out --models")
    if is_cross and (asked.stagers or asked.folds or asked.fold_list != ["-1"]):
        raise UserError(
            f"--table {CROSS}: its folds are the cohorts, named by --train and --test; leave out "
            "--folds, --fold_list and --stagers"
        )


def submit_options(asked: TableFlags) -> dict[str, str]:
    """Settings of Slurm's jobs by name; of a name given twice the last counts."""
    options = pairs(asked.submit, "--submit", "name=value, such as timeout_min=600")
    return {name: values[-1] for name, values in options.items()}


def main(argv: list[str] | None = None) -> None:
    """Run the trainings that are missing, then write and print the table."""
    asked = parse_args(argv)
    # before the long work, not after it
    kind = study_page if asked.table == STUDY else model_table
    for path in kind.files_of(asked.project_path, asked.table):
        check_file(path, overwrite=asked.overwrite)
    # a second process waits, and then takes the trainings of the first for done
    with locked(asked.project_path):
        if asked.table == CROSS:
            reproduce_across(asked)
        elif asked.table == STUDY:
            study_pretraining(asked, Store(asked.data_path))
        else:
            reproduce(asked, Store(asked.data_path))


def reproduce(asked: TableFlags, store: Store) -> None:
    """Make a table of one store, in the one process that holds the folder's lock."""
    table = splits.find_table(store, asked.folds)
    folds = fold_numbers(asked.fold_list, len(table.folds))
    others = {k: tuple(n for n in range(len(table.folds)) if n != k) for k in folds}
    jobs = [
        Job(m, others[k], (k,), seed) for seed in asked.seeds for m in asked.models for k in folds
    ]
    setting = Setting(asked.project_path, asked.data_path, table.name, asked.flags)
    train_missing(asked, store, jobs, setting)
    rows = []
    for name in asked.models:
        rows += rows_of(name, asked, store, [job for job in jobs if job.model == name])
    if asked.stagers:
        subjects = sorted({subject for k in folds for subject in table.folds[k].test})
        which = f"{table.name} fold {', '.join(map(str, folds))}"
        root, device = asked.project_path / "stagers", pick_device(asked.device)
        rows += stager_rows.rows(asked.stagers, root, store, subjects, which, device)
    wanted = [model_table.CALLED.get(name, name) for name in asked.models]
    rows += model_table.published_rows(model_table.PUBLISHED, store.cohort, wanted)
    if store.cohort not in model_table.PUBLISHED_AS:
        print(f"{store.cohort} has no published numbers: the table holds ours alone")
    write(asked, rows, f"held-out fold(s) {', '.join(map(str, folds))}")


def study_pretraining(asked: TableFlags, store: Store) -> None:
    """Make the curves of pretraining, then its table, in the process that holds the lock."""
    table = splits.find_table(store, asked.folds)
    study = pretraining_study.study_of(
        asked.study, (store, table), fold_numbers(asked.fold_list, len(table.folds)), asked.seeds,
        asked.project_path, asked.flags, pick_device(asked.device),
    )  # fmt: skip
    how = {"at_once": asked.jobs, "gpus": asked.gpus, "options": submit_options(asked)}
    page = pretraining_study.run(study, asked.study, how, overwrite=asked.overwrite)
    print(page.read_text(encoding="utf-8"))
    print(f"written: {page}")


def reproduce_across(asked: TableFlags) -> None:
    """Make the table across cohorts, in the one process that holds the folder's lock."""
    stores = [Store(path) for path in asked.cross.stores]
    cohorts = [store.cohort for store in stores]
    trained, tests = cross_cohort.held_out(asked.cross.train, asked.cross.test, cohorts)
    store = joined.join(asked.project_path / "store", stores, asked.cross.roles, asked.cross.rate)
    roles = [channel.role for channel in store.channels]
    about = cross_cohort.write_cohorts(asked.project_path, stores, roles)
    print(about)
    everyone = range(len(stores))
    jobs = [
        Job(m, trained or tuple(n for n in everyone if n not in held_out), held_out, seed)
        for seed in asked.seeds
        for m in asked.models
        for held_out in tests
    ]
    own_flags = f"--channels {' '.join(roles)} {asked.flags}".strip()
    named = ", ".join(cohorts[k] for k in trained)
    setting = Setting(asked.project_path, store.path, joined.FOLDS, own_flags, named)
    train_missing(asked, store, jobs, setting)
    rows = []
    for name in asked.models:
        of_model = [job for job in jobs if job.model == name]
        view = timed_view(of_model[0].run(asked.project_path), asked, store)
        rows += cross_cohort.rows(name, of_model, asked.project_path, view, stores)
    how = f"channels {', '.join(roles)} at {store.channels[0].fs:g} Hz"
    write(asked, rows, f"whole cohorts held out, {how}; {about.replace(chr(10), '. ')}")


def train_missing(asked: TableFlags, store: Store, jobs: list[Job], setting: Setting) -> None:
    """Run the trainings that are not done yet."""
    check_same_experiment(setting, store)
    missing = [job for job in jobs if not job.is_done(asked.project_path)]
    if jobs:
        print(
            f"{len(jobs)} trainings, {len(jobs) - len(missing)} of them done: {asked.project_path}"
        )
    run_cells(
        [cell_of(job, setting) for job in missing],
        asked.project_path / "submitted",
        asked.jobs,
        gpus=asked.gpus,
        options=submit_options(asked),
    )


def write(asked: TableFlags, rows: list[dict[str, object]], held_out: str) -> None:
    """Write the table and print it; ``held_out`` is what was, in words."""
    model_table.write(
        asked.project_path,
        asked.table,
        rows,
        conditions(asked, held_out),
        overwrite=asked.overwrite,
    )
    print((asked.project_path / f"{asked.table}.md").read_text(encoding="utf-8"))
    print(f"written: {asked.project_path / asked.table}.md, .tex, .csv, .json")


def rows_of(name: str, asked: TableFlags, store: Store, jobs: list[Job]) -> list[dict[str, object]]:
    """Our row of one model; for a pretrained one also a row of the same model untrained."""
    runs = [job.run(asked.project_path) for job in jobs]
    model_table.check_cohort(runs, store.cohort)
    if name in PRETRAINED:
        return model_table.pretrained_rows(name, runs)
    return [model_table.own_row(name, runs, timed_view(runs[0], asked, store), selected="best")]


def timed_view(run: Path, asked: TableFlags, store: Store) -> View:
    """A night on which staging is timed, since the model has not seen it."""
    # models of all folds and seeds differ in their weights alone, so one is timed
    checkpoint = load_checkpoint(run / "checkpoints" / "best.pt")
    night = store.of_subjects(checkpoint.training.subjects["held_out"])[:1]
    return open_view(checkpoint, store, night, pick_device(asked.device))


def conditions(asked: TableFlags, held_out: str) -> str:
    """A sentence on the conditions of the figures: recipe, folds, seeds, device and date."""
    # some systems do not name their processor: then the machine's kind stands for it
    device = pick_device(asked.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    changed = f" with {asked.flags}" if asked.flags else ""
    how = (
        f"each model by its own recipe{changed}"
        if asked.models
        else "stagers by name, as published"
    )
    return (
        f"Ours: {how}; {held_out}, seed(s) {', '.join(map(str, asked.seeds))}; 95 % "
        f"intervals over subjects; {device.type} ({where or platform.machine()}, "
        f"{torch.get_num_threads()} threads), {asked.jobs} training(s) at once, {date.today()}. "
        "Wake trimming is part of the protocol named in each row."
    )


if __name__ == "__main__":
    raise SystemExit(run_script(main))
