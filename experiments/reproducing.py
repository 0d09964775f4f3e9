"""Many trainings and evaluations, run by the scripts themselves and resumed where they stopped."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import joblib

from datasets.store.splits import fingerprint
from datasets.store.store import Store
from utils.checkpoint import is_of_stamp
from utils.errors import UserError
from utils.files import read_json, write_json
from utils.processes import started
from utils.version import VERSION

ROOT = Path(__file__).parents[1]
PRETRAINED = tuple(
    f"{objective}_{encoder}"
    for objective in ("contrastive", "masked", "hybrid")
    for encoder in ("cnn", "cnn_attention", "transformer")
)
_SETTINGS = "settings.json"  # of the experiment that a folder holds


@dataclass(frozen=True)
class Job:
    """One training and its evaluation; models of :data:`PRETRAINED` are pretrained and probed."""

    model: str
    fold: int
    seed: int

    @property
    def is_pretrained(self) -> bool:
        """Whether the model is an objective with an encoder, not a staging model."""
        return self.model in PRETRAINED

    def project(self, root: Path) -> Path:
        """The --project_path of the job's scripts."""
        # staging runs are not named after their seed, so each seed has a folder of its own
        return root / f"seed{self.seed}"

    def run(self, root: Path) -> Path:
        """The folder of the job's run."""
        name = f"{self.model}_fold{self.fold}"
        if self.is_pretrained:
            name = f"ssl_{name}_seed{self.seed}"
        return self.project(root) / name

    def is_done(self, root: Path) -> bool:
        """Whether the weights that its run has now were evaluated, which is its last step."""
        name = "probes.json" if self.is_pretrained else "metrics.json"
        path = self.run(root) / "evaluation" / name
        return path.exists() and is_of_stamp(read_json(path)["about"], self.run(root))


@dataclass(frozen=True)
class Setting:
    """Store, fold table of ``n_folds`` and flags of all jobs, and the GPUs they take turns on."""

    root: Path
    store: Path
    folds: str
    n_folds: int
    flags: str
    gpus: tuple[int, ...] = ()

    def commands(self, job: Job) -> list[list[str]]:
        """Command lines of the training and the evaluation script."""
        where = ["--data_path", str(self.store), "--project_path", str(job.project(self.root))]
        more = shlex.split(self.flags)
        if job.is_pretrained:
            objective, _, encoder = job.model.partition("_")
            train = [
                "--objective",
                objective,
                "--encoder",
                encoder,
                "--fold",
                str(job.fold),
                "--folds",
                self.folds,
                "--seed",
                str(job.seed),
            ]
            probe = ["--runs", job.run(self.root).name, "--tuned", "False"]
            return [["ssl_training.py", *where, *train, *more], ["ssl_evaluate.py", *where, *probe]]
        others = ",".join(str(k) for k in range(self.n_folds) if k != job.fold)
        shared = [
            "--experiment",
            job.model,
            *where,
            "--folds",
            self.folds,
            "--val_data_list",
            str(job.fold),
        ]
        train = ["--train_data_list", others, "--seed", str(job.seed), *more]
        return [
            ["staging_training.py", *shared, *train],
            ["staging_evaluate.py", *shared, "--pictures", "2"],
        ]


def check_same_experiment(setting: Setting, store: Store) -> None:
    """Refuse a folder whose runs have other data, folds or flags: a table must not mix them.

    Raises:
        UserError: naming what differs.
    """
    path = setting.root / _SETTINGS
    asked = {
        "cohort": store.cohort,
        "protocol": store.settings["protocol"],
        "store": fingerprint(store),
        "folds": setting.folds,
        "flags": setting.flags,
        "version": VERSION,
    }
    if path.exists():
        known = read_json(path)
        if wrong := [name for name in asked if known.get(name) != asked[name]]:
            raise UserError(
                f"{setting.root}: holds runs of another {', '.join(wrong)}; choose another "
                "--project_path"
            )
    write_json(path, asked)


def run_all(jobs: Sequence[Job], setting: Setting, at_once: int) -> None:
    """Run all jobs, ``at_once`` of them at a time; each resumes where it stopped.

    Raises:
        UserError: a script failed, with its last line and the path of its log.
    """
    turns = count()  # jobs take the GPUs in the order in which they start, whichever ends first
    lock = threading.Lock()

    def one(job: Job) -> None:
        with lock:
            turn = next(turns)
        gpu = setting.gpus[turn % len(setting.gpus)] if setting.gpus else None
        run_one(job, setting, gpu)

    # threads are enough: each only waits for its subprocess
    joblib.Parallel(n_jobs=at_once, prefer="threads")(joblib.delayed(one)(job) for job in jobs)


def run_one(job: Job, setting: Setting, gpu: int | None) -> None:
    """Run both scripts of a job; what they print goes into a log beside the run's folder."""
    run = job.run(setting.root)
    log = run.with_name(f"{run.name}.log")
    print(f"{job.model}, fold {job.fold}, seed {job.seed}", flush=True)
    environment = None if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)}
    for script, *words in setting.commands(job):
        command = [sys.executable, str(ROOT / script), *words]
        # the number of the process is kept, so that one whose parent was killed is ended first
        with started(command, log, run.with_name(f"{run.name}.pid"), environment) as process:
            process.wait()
        if process.returncode:
            # the scripts' last line is their error message
            last = log.read_text(encoding="utf-8").strip().splitlines()[-1]
            raise UserError(f"{job.model}, fold {job.fold}: {last} (all of it: {log})")
