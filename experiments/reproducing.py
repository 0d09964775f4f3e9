"""Many trainings and evaluations, run by the scripts themselves and resumed where they stopped."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from datasets.store.splits import fingerprint
from datasets.store.store import Store
from experiments.cells import Cell
from utils.checkpoint import is_of_stamp
from utils.errors import UserError
from utils.files import read_json, write_json
from utils.version import VERSION

ROOT = Path(__file__).parents[1]
PRETRAINED = tuple(
    f"{objective}_{encoder}"
    for objective in ("contrastive", "masked", "hybrid")
    for encoder in ("cnn", "cnn_attention", "transformer")
)
# flags by which a job chooses its run: of two jobs with the same ones, each would train the other's
_CHOOSING = {
    "--experiment", "-e", "--objective", "--encoder", "--fold", "--folds", "--train_data_list",
    "--val_data_list", "--test_data_list", "--all_folds", "--seed", "--data_path", "--project_path",
}  # fmt: skip
_SETTINGS = "settings.json"  # of the experiment that a folder holds


@dataclass(frozen=True)
class Job:
    """One training and its evaluation; models of :data:`PRETRAINED` are pretrained and probed.

    ``train`` and ``held_out`` are numbers of folds.
    """

    model: str
    train: tuple[int, ...]
    held_out: tuple[int, ...]
    seed: int

    @property
    def is_pretrained(self) -> bool:
        """Whether the model is an objective with an encoder, not a staging model."""
        return self.model in PRETRAINED

    @property
    def folds(self) -> str:
        """The folds held out, as the names of runs have them."""
        return "-".join(map(str, self.held_out))

    def project(self, root: Path) -> Path:
        """The --project_path of the job's scripts."""
        # staging runs are not named after their seed, so each seed has a folder of its own
        return root / f"seed{self.seed}"

    def run(self, root: Path) -> Path:
        """The folder of the job's run."""
        name = f"{self.model}_fold{self.folds}"
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
    """Store, fold table and further flags of all jobs.

    ``train`` names what all of them train on, where that does not follow from what is held out.
    """

    root: Path
    store: Path
    folds: str
    flags: str
    train: str = ""

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
                job.folds,
                "--folds",
                self.folds,
                "--seed",
                str(job.seed),
            ]
            probe = ["--runs", job.run(self.root).name, "--tuned", "False"]
            return [["ssl_training.py", *where, *train, *more], ["ssl_evaluate.py", *where, *probe]]
        shared = [
            "--experiment",
            job.model,
            *where,
            "--folds",
            self.folds,
            "--val_data_list",
            ",".join(map(str, job.held_out)),
        ]
        trained = ",".join(map(str, job.train))
        train = ["--train_data_list", trained, "--seed", str(job.seed), *more]
        return [
            ["staging_training.py", *shared, *train],
            ["staging_evaluate.py", *shared, "--pictures", "2"],
        ]


def check_flags(words: str) -> None:
    """Refuse further flags that decide which run a job trains.

    Raises:
        UserError: naming one, or quotes that do not end.
    """
    try:
        given = [word.partition("=")[0] for word in shlex.split(words)]
    except ValueError as error:
        raise UserError(f"--flags {words}: {error}") from error
    if taken := [word for word in given if word in _CHOOSING]:
        raise UserError(
            f"--flags {taken[0]}: this script sets it for each of its trainings; use its own flags"
        )


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
        "train": setting.train,
        "version": VERSION,
    }
    if path.exists():
        known = read_json(path)
        # folders from before --train lack it
        if wrong := [name for name in asked if known.get(name, "") != asked[name]]:
            raise UserError(
                f"{setting.root}: holds runs of another {', '.join(wrong)}; choose another "
                "--project_path"
            )
    write_json(path, asked)


def cell_of(job: Job, setting: Setting) -> Cell:
    """The commands of a job, whose log lies beside the run's folder."""
    run = job.run(setting.root)
    return Cell(
        name=f"{job.model}, fold {job.folds}, seed {job.seed}",
        commands=[
            [sys.executable, str(ROOT / script), *words] for script, *words in setting.commands(job)
        ],
        log=run.with_name(f"{run.name}.log"),
    )


def fold_numbers(wanted: list[str], n_folds: int) -> list[int]:
    """Numbers of the folds to hold out in turn, negative ones counted from the last."""
    if wanted == ["all"]:
        return list(range(n_folds))
    try:
        # indexing a range checks the number and resolves negative ones
        numbers = [range(n_folds)[int(k)] for k in wanted]
    except (ValueError, IndexError):
        raise UserError(f"--fold_list takes 0 to {n_folds - 1}, -1 or 'all'") from None
    return list(dict.fromkeys(numbers))
