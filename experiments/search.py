"""Search over the settings of any training script: one subprocess per trial, watched as it trains.

Trials live in a SQLite study that any number of workers share. The run of a setting is kept in a
folder named after the setting, so a trial that was killed resumes where its training stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.search_space import combinations, suggest
from utils.errors import UserError
from utils.files import check_file, claim
from utils.json_values import parsed
from utils.locks import alive, locked
from utils.processes import started
from utils.version import VERSION

FILES = ("trials.csv", "best.json", "search.json")  # of the report
_POLL_SECONDS = 0.1
DEFAULT = "default"  # attribute of the study, and folder of the setting without any flag
WHY = "why"  # attribute of a trial that failed
_REPEATED = "repeats"  # attribute of a trial: the number of the killed one that it stands for
_STUDY = "search"


@dataclass(frozen=True)
class Search:
    """A search: script with fixed flags, space of its settings, and the figure that decides."""

    script: Path
    fixed: tuple[str, ...]
    space: Mapping[str, Any]
    metric: str
    maximise: bool
    output: Path
    n_trials: int
    prune: bool
    seed: int  # of the sampler
    grid: bool = False  # every combination once, in the place of what the sampler draws


class TrialFailedError(Exception):
    """A training that ended with an error; the study continues without it."""


def run(search: Search) -> Any:
    """Train the script's defaults once, then settings of the space until there are ``n_trials``.

    Raises:
        UserError: the script refuses its fixed flags, or a grid of ranges.
    """
    from optuna.study import MaxTrialsCallback
    from optuna.trial import TrialState

    study = begin(search)
    if DEFAULT not in study.user_attrs:
        value = train(search, {}, None)
        study.set_user_attr(DEFAULT, value)
        print(f"the script's defaults: {search.metric} {value:.4f}")
    done = (TrialState.COMPLETE, TrialState.PRUNED)

    def objective(trial: Any) -> float:
        # by which abandon_dead() can tell trials that were killed
        trial.set_user_attr("worker", [socket.gethostname(), os.getpid()])
        return train(search, suggest(trial, search.space), trial)

    def stop_after_grid(study: Any, trial: Any) -> None:
        if search.grid and not waiting(study):
            study.stop()

    # callbacks count after a trial, so a complete study would get one more
    is_open = not search.grid or waiting(study)
    if is_open and sum(t.state in done for t in study.trials) < search.n_trials:
        study.optimize(
            objective,
            catch=(TrialFailedError,),
            callbacks=[
                MaxTrialsCallback(search.n_trials, states=done),
                report_trial(search),
                stop_after_grid,
            ],
        )
    return study


def begin(search: Search) -> Any:
    """The study of the folder, made if it is not there; a grid's settings wait in it.

    Raises:
        UserError: a folder of somebody else's files or of another search, or a grid of ranges.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # report_trial() tells of failed trials
    database = search.output / "study.db"
    with locked(database):  # workers that begin together make one study
        own_database(search)
        study = optuna.create_study(
            study_name=_STUDY,
            storage=f"sqlite:///{database}",
            load_if_exists=True,
            direction="maximize" if search.maximise else "minimize",
            sampler=sampler_of(search.seed),
            # never at a trial's first pass, nor before four trials were completed
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)
            if search.prune
            else optuna.pruners.NopPruner(),
        )
        same_search(study, search)
        abandon_dead(study)
        if search.grid:
            for combination in combinations(search.space):
                study.enqueue_trial(combination, skip_if_exists=True)
    return study


def waiting(study: Any) -> bool:
    """Whether settings that were asked for have not been trained yet."""
    from optuna.trial import TrialState

    return any(trial.state == TrialState.WAITING for trial in study.trials)


def sampler_of(seed: int) -> Any:
    """Draws the settings of every trial anew from the seed and the trial's number.

    So a search that is continued draws what one search would have drawn, and workers of equal
    flags draw unlike settings. A trial that was killed and is tried again counts once.
    """
    from optuna.samplers import BaseSampler, TPESampler

    class Sampler(BaseSampler):
        def before_trial(self, study: Any, trial: Any) -> None:
            repeated = [t.number for t in study.trials if _REPEATED in t.user_attrs]
            number = trial.number - sum(other < trial.number for other in repeated)
            drawn = np.random.default_rng([seed, number]).integers(2**32)
            self.of_trial = TPESampler(seed=int(drawn), n_startup_trials=5)

        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return self.of_trial.infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, space: dict[str, Any]) -> dict[str, Any]:
            return self.of_trial.sample_relative(study, trial, space)

        def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
            return self.of_trial.sample_independent(study, trial, name, distribution)

    return Sampler()


def own_database(search: Search) -> None:
    """Claim the study's database, and check that the report will overwrite nothing foreign.

    Raises:
        UserError: the folder holds a file of such a name that no search wrote.
    """
    for name in FILES:
        check_file(search.output / name)
    path = search.output / "study.db"
    # also ours by its content, where a list of our files lacks it
    claim(path, just_made=holds_search(path))


def holds_search(path: Path) -> bool:
    """Whether an SQLite file is the database of an earlier search."""
    if not path.is_file():
        return False
    try:  # read only: it may be somebody else's
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            names = database.execute("SELECT study_name FROM studies").fetchall()
    except sqlite3.Error:
        return False
    return names == [(_STUDY,)]


def same_search(study: Any, search: Search) -> None:
    """Refuse to add trials of another script, metric or space to a study.

    Raises:
        UserError: naming what differs.
    """
    asked = {
        "script": search.script.name,
        "fixed": list(search.fixed),
        "metric": search.metric,
        "space": dict(search.space),
        "version": VERSION,
    }
    known = study.user_attrs.get("search")
    if known is None:
        study.set_user_attr("search", asked)
    elif known != asked:
        wrong = ", ".join(name for name in asked if known.get(name) != asked[name])
        raise UserError(
            f"{search.output}: holds a search with another {wrong}; choose another --output"
        )


def abandon_dead(study: Any) -> None:
    """Mark trials of workers that were killed as failed, and try their settings again."""
    from optuna.trial import TrialState

    # only of this machine: whether a process of another one is alive cannot be seen here
    for trial in study.trials:
        host, pid = trial.user_attrs.get("worker", [None, 0])
        if trial.state == TrialState.RUNNING and host == socket.gethostname() and not alive(pid):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs={_REPEATED: trial.number})


def report_trial(search: Search) -> Any:
    """A callback that prints one line after every trial."""

    def print_trial(study: Any, trial: Any) -> None:
        failed = trial.user_attrs.get(WHY, "")
        value = failed if trial.value is None else f"{search.metric} {trial.value:.4f}"
        words = " ".join(
            f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.params.items()
        )
        print(f"trial {trial.number}: {trial.state.name.lower():<9}{value}  {words}", flush=True)

    return print_trial


def train(search: Search, setting: Mapping[str, Any], trial: Any | None) -> float:
    """Train one setting in its own folder, reporting every pass to the trial; its best figure.

    Raises:
        UserError: the script's defaults cannot be trained.
        TrialFailedError: this setting cannot.
        optuna.TrialPruned: it is worse than others were at the same pass.
    """
    import optuna

    folder = search.output / "trials" / folder_of(setting)
    words = [f"--{name}={value}" for name, value in setting.items()]
    command = [
        sys.executable,
        str(search.script),
        *search.fixed,
        *words,
        "--project_path",
        str(folder),
    ]
    reported: set[int] = set()  # the files of a training that resumes hold its earlier passes
    # a worker that draws another's setting waits for it, then only reads the trained run
    with locked(folder), started(command, folder / "log.txt", folder / "pid") as process:
        while True:
            ended = process.poll() is not None  # before the rows are read, or the last may be lost
            rows = rows_of(folder, search.metric)
            for step, value in rows:
                if trial is not None and value is not None and step not in reported:
                    trial.report(value, step)
                    reported.add(step)
                    # also when it has ended meanwhile: equal searches end alike
                    if trial.should_prune():
                        raise optuna.TrialPruned
            if ended:
                break
            time.sleep(_POLL_SECONDS)
    values = [value for _, value in rows if value is not None]
    if process.returncode or not values:
        log = (folder / "log.txt").read_text(encoding="utf-8").splitlines() or ["no output"]
        why = f"{search.script.name} ended with {process.returncode}: {log[-1]}"
        if not values and not process.returncode:
            why = f"{search.script.name} wrote no {search.metric} into metrics.jsonl"
        if trial is None:
            raise UserError(why)
        trial.set_user_attr(WHY, why)
        raise TrialFailedError(why)
    return max(values) if search.maximise else min(values)


def folder_of(setting: Mapping[str, Any]) -> str:
    """Name of a setting's folder, the same for the same setting."""
    text = json.dumps(setting, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12] if setting else DEFAULT


def rows_of(folder: Path, metric: str) -> list[tuple[int, float | None]]:
    """Passes, and their figures, that a training has written so far."""
    figures = []
    for path in folder.glob("*/metrics.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = parsed(line)
            except ValueError:
                continue  # the line being written
            if metric in row:
                figures.append((int(row.get("pass", len(figures) + 1)), row[metric]))
    return figures
