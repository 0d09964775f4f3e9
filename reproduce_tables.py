"""Train and evaluate every model by its own recipe and print one table, best kappa first.

python reproduce_tables.py                                       # the zoo on the demo store
python reproduce_tables.py --models tinysleepnet,chambon2018 --fold_list all --seeds 0,1,2
python reproduce_tables.py --data_path data/sleepedf-2018 --folds sleepyco78 --fold_list all
python reproduce_tables.py --flags "--max_minutes 5"             # the same limit for every training

Interrupted, the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import joblib
import torch

from datasets import splits
from datasets.store import Store
from datasets.views import View
from utils import flags
from utils.arguments import ScriptParser, add_list, positive
from utils.errors import UserError, run_script
from utils.runs import load_checkpoint
from workflow import tables
from workflow.evaluating import pick_device
from workflow.recipes import RECIPES, recipe_of

PUBLISHED = Path(__file__).parent / "results" / "published_results.csv"
ZOO = ("chambon2018", "deepsleepnet", "epoch_cmt", "seqsleepnet", "sequence_cmt",
       "simplesleepnet", "sleeptransformer", "tinysleepnet")  # fmt: skip
TABLES = {"staging": ZOO, "cmt": ("epoch_cmt", "sequence_cmt")}
# how the published table begins the names of our models
CALLED = {
    "chambon2018": "chambon", "epoch_cmt": "epoch cmt", "sequence_cmt": "sequence cmt",
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One training and its evaluation."""

    model: str
    fold: int
    seed: int

    def run(self, project: Path) -> Path:
        """Its folder."""
        return project / f"seed{self.seed}" / f"{self.model}_fold{self.fold}"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Folds x models x seeds into one table, published numbers beside ours where there are any.",
        "Every row names its data; synthetic nights never stand in a real cohort's row.",
    )
    parser.add_argument(
        "--table", choices=tuple(TABLES), default="staging", help="which models, unless --models"
    )
    add_list(
        parser,
        "--models",
        help=f"any of {', '.join(sorted(RECIPES))} and torchvision's image networks",
    )
    parser.add_argument(
        "--data_path", type=Path, default=flags.DEMO_STORE, help="folder of the store"
    )
    parser.add_argument(
        "--project_path", type=Path, default=Path("results/tables"), help="runs and tables"
    )
    parser.add_argument("--folds", help="fold table (default: as in training)")
    add_list(parser, "--fold_list", default=["-1"], help="folds held out in turn, 'all', -1: last")
    add_list(parser, "--seeds", item=int, default=[0], help="one training of every fold each")
    parser.add_argument("--jobs", type=positive, default=1, help="trainings at once")
    parser.add_argument("--flags", default="", help="more flags for every training, in quotes")
    parser.add_argument("--device", default="auto", help="where staging a night is timed")
    args = parser.parse(argv)
    args.models = list(args.models or TABLES[args.table])
    for name in args.models:
        recipe_of(name)
    return args


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, then write and print the table."""
    args = parse_args(argv)
    store = Store(args.data_path)
    table = splits.find_table(store, args.folds)
    folds = fold_numbers(args.fold_list, len(table.folds))
    jobs = [Job(m, k, seed) for seed in args.seeds for m in args.models for k in folds]
    missing = [job for job in jobs if not is_done(job, args.project_path)]
    print(f"{len(jobs)} trainings, {len(jobs) - len(missing)} of them done: {args.project_path}")
    joblib.Parallel(n_jobs=args.jobs, prefer="threads")(
        joblib.delayed(train_and_evaluate)(job, args, table.name, len(table.folds))
        for job in missing
    )
    rows = [row_of(name, args, store, [j for j in jobs if j.model == name]) for name in args.models]
    wanted = [CALLED.get(name, name) for name in args.models]
    rows += tables.published_rows(PUBLISHED, store.cohort, wanted)
    if store.cohort not in tables.PUBLISHED_AS:
        print(f"{store.cohort} has no published numbers: the table holds ours alone")
    tables.write(args.project_path, args.table, rows, conditions(args, folds))
    print((args.project_path / f"{args.table}.md").read_text(encoding="utf-8"))
    print(f"written: {args.project_path / args.table}.md, .tex, .csv, .json")


def fold_numbers(wanted: list[str], n_folds: int) -> list[int]:
    """Numbers of the folds to hold out in turn."""
    if wanted == ["all"]:
        return list(range(n_folds))
    try:
        numbers = [range(n_folds)[int(k)] for k in wanted]
    except (ValueError, IndexError):
        raise UserError(f"--fold_list takes 0 to {n_folds - 1}, -1 or 'all'") from None
    return list(dict.fromkeys(numbers))


def is_done(job: Job, project: Path) -> bool:
    """Whether it was evaluated."""
    return (job.run(project) / "evaluation" / "metrics.json").exists()


def train_and_evaluate(job: Job, args: argparse.Namespace, folds: str, n_folds: int) -> None:
    """Both scripts, as a user would type them; their output goes into a file beside the run."""
    others = ",".join(str(k) for k in range(n_folds) if k != job.fold)
    project = job.run(args.project_path).parent
    shared = [
        "--experiment", job.model, "--data_path", str(args.data_path), "--project_path",
        str(project), "--folds", folds, "--val_data_list", str(job.fold),
    ]  # fmt: skip
    training = ["--train_data_list", others, "--seed", str(job.seed), *shlex.split(args.flags)]
    print(f"{job.model}, fold {job.fold}, seed {job.seed}", flush=True)
    project.mkdir(parents=True, exist_ok=True)
    log = project / f"{job.model}_fold{job.fold}.log"
    for script, words in (
        ("staging_training.py", [*shared, *training]),
        ("staging_evaluate.py", [*shared, "--pictures", "2"]),
    ):
        command = [sys.executable, str(Path(__file__).with_name(script)), *words]
        with log.open("a", encoding="utf-8") as file:
            done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            last = log.read_text(encoding="utf-8").strip().splitlines()[-1]
            raise UserError(f"{job.model}, fold {job.fold}: {last} (all of it: {log})")


def row_of(name: str, args: argparse.Namespace, store: Store, jobs: list[Job]) -> dict[str, object]:
    """Our row of one model."""
    runs = [job.run(args.project_path) for job in jobs]
    checkpoint = load_checkpoint(runs[0] / "checkpoints" / "best.pt")
    view = View(
        store,
        store.of_subjects(checkpoint["trained"]["subjects"]["held_out"])[:1],
        channels=[label for label, _ in checkpoint["channels"]],
        standardise=checkpoint["standardise"],
        device=pick_device(args.device),
    )
    return tables.own_row(name, runs, view, selected="best")


def conditions(args: argparse.Namespace, folds: list[int]) -> str:
    """What the figures depend on beside the data."""
    device = pick_device(args.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    changed = f" with {args.flags}" if args.flags else ""
    return (
        f"Ours: each model by its own recipe{changed}; held-out fold(s) "
        f"{', '.join(map(str, folds))}, seed(s) {', '.join(map(str, args.seeds))}; 95 % "
        f"intervals by subject; {device.type} ({where or platform.machine()}, "
        f"{torch.get_num_threads()} threads), {args.jobs} training(s) at once, {date.today()}. "
        "Wake trimming is part of the protocol named in each row."
    )


if __name__ == "__main__":
    raise SystemExit(run_script(main))
