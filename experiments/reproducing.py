"""Many trainings and evaluations by the scripts themselves, resumed where they stopped."""

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
from utils.errors import UserError
from utils.files import read_json, write_json
from utils.processes import started

ROOT = Path(__file__).parents[1]
PRETRAINED = tuple(
    f"{objective}_{encoder}"
    for objective in ("contrastive", "masked", "hybrid")
    for encoder in ("cnn", "cnn_attention", "transformer")
)
_SETTINGS = "settings.json"


@dataclass(frozen=True)
class Job:
    """One training and its evaluation; names of :data:`PRETRAINED` are pretrained and probed."""

    model: str
    fold: int
    seed: int

    @property
    def is_pretrained(self) -> bool:
        """Whether it is an objective and an encoder, not a staging model."""
        return self.model in PRETRAINED

    def project(self, root: Path) -> Path:
        """Where its scripts write their runs."""
        return root / f"seed{self.seed}"

    def run(self, root: Path) -> Path:
        """Its folder."""
        name = f"{self.model}_fold{self.fold}"
        if self.is_pretrained:
            name = f"ssl_{name}_seed{self.seed}"
        return self.project(root) / name

    def is_done(self, root: Path) -> bool:
        """Whether it was evaluated."""
        name = "probes.json" if self.is_pretrained else "metrics.json"
        return (self.run(root) / "evaluation" / name).exists()


@dataclass(frozen=True)
class Setting:
    """What all jobs share: a store, a fold table of ``n_folds``, flags; one job a GPU in turn."""

    root: Path
    store: Path
    folds: str
    n_folds: int
    flags: str
    gpus: tuple[int, ...] = ()

    def commands(self, job: Job) -> list[list[str]]:
        """Both scripts, as a user would type them."""
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
    """One folder, one question: other data, folds or flags would be mixed up in its table.

    Raises:
        UserError: the folder holds runs of another setting.
    """
    path = setting.root / _SETTINGS
    asked = {
        "cohort": store.cohort,
        "protocol": store.settings["protocol"],
        "store": fingerprint(store),
        "folds": setting.folds,
        "flags": setting.flags,
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
    """Train and evaluate, several at once; each resumes where it stopped.

    Raises:
        UserError: a script failed; its last line, and where the others are.
    """
    turns = count()
    lock = threading.Lock()

    def one(job: Job) -> None:
        with lock:
            turn = next(turns)
        gpu = setting.gpus[turn % len(setting.gpus)] if setting.gpus else None
        run_one(job, setting, gpu)

    joblib.Parallel(n_jobs=at_once, prefer="threads")(joblib.delayed(one)(job) for job in jobs)


def run_one(job: Job, setting: Setting, gpu: int | None) -> None:
    """Both scripts; what they print goes into a log beside the run."""
    run = job.run(setting.root)
    log = run.with_name(f"{run.name}.log")
    print(f"{job.model}, fold {job.fold}, seed {job.seed}", flush=True)
    environment = None if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)}
    for script, *words in setting.commands(job):
        command = [sys.executable, str(ROOT / script), *words]
        with started(command, log, run.with_name(f"{run.name}.pid"), environment) as process:
            process.wait()
        if process.returncode:
            last = log.read_text(encoding="utf-8").strip().splitlines()[-1]
            raise UserError(f"{job.model}, fold {job.fold}: {last} (all of it: {log})")
