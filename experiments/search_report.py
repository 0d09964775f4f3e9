"""The report of a search: its trials as a table, the best setting as a file, and pictures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.search import DEFAULT, Search, folder_of
from utils.errors import UserError
from utils.files import write_json, write_table


def report(search: Search, study: Any) -> dict[str, Any]:
    """Write ``trials.csv``, ``best.json`` (a ``--config``), ``search.json`` and pictures.

    Raises:
        UserError: no trial was completed.
    """
    from optuna.trial import TrialState

    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    if not complete:
        raise UserError(f"{search.output}: no trial was completed; see trials/*/log.txt there")
    names = list(search.space)
    write_table(
        search.output / "trials.csv",
        [
            {
                "trial": t.number,
                "state": t.state.name.lower(),
                search.metric: t.value,
                **{name: t.params.get(name) for name in names},
                "folder": folder_of(t.params),
            }
            for t in study.trials
        ],
    )
    best = study.best_trial
    write_json(search.output / "best.json", best.params)
    summary = {
        "script": search.script.name,
        "fixed": list(search.fixed),
        "metric": search.metric,
        "default": study.user_attrs[DEFAULT],
        "best": best.value,
        "setting": best.params,
        "trials": {
            state.name.lower(): sum(t.state == state for t in study.trials) for state in TrialState
        },
    }
    write_json(search.output / "search.json", summary)
    draw(study, search.output, len(complete))
    return summary


def draw(study: Any, folder: Path, n_complete: int) -> list[Path]:
    """Draw history, importances, slices and parallel coordinates with Optuna."""
    from optuna.visualization import matplotlib as plots

    from utils.figures import close, save

    wanted: Sequence[tuple[str, Any]] = [
        ("history", plots.plot_optimization_history),
        ("slices", plots.plot_slice),
        ("parallel", plots.plot_parallel_coordinate),
    ]
    # importances compare parameters over several trials
    if n_complete > 3 and len(study.best_trial.params) > 1:
        wanted = [*wanted, ("importances", plots.plot_param_importances)]
    written = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "experimental" until further notice
        for name, plot in wanted:
            axes = plot(study)
            # Optuna returns one axes or an array of them
            figure = np.atleast_1d(axes).flat[0].figure
            figure.set_size_inches(10, 5)
            written.append(save(figure, folder / f"{name}.png"))
            close(figure)
    return written
