"""Loggers that get the metrics beside ``metrics.jsonl``: TensorBoard, W&B or Neptune."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import claim

NAMES = ("tensorboard", "csv", "wandb", "neptune")
Log = Callable[[Mapping[str, float], int], None]


def open_logger(name: str, folder: Path, settings: Mapping[str, Any], project: str) -> Log:
    """Open a logger: a function of (figures, pass); ``csv`` adds nothing to the usual files.

    W&B and Neptune take their tokens from their own environment variables, never from a flag.

    Raises:
        UserError: the library asked for is not installed.
    """
    makers = {"tensorboard": _tensorboard, "wandb": _wandb, "neptune": _neptune}
    if name not in makers:
        return lambda figures, step: None
    try:
        return makers[name](folder, settings, project)
    except ImportError as error:
        raise UserError(
            f"--logger {name}: not installed; pip install {name}, or choose --logger tensorboard"
        ) from error


def _tensorboard(folder: Path, settings: Mapping[str, Any], project: str) -> Log:
    from lightning_fabric.loggers import TensorBoardLogger

    # no version: a resumed training writes into the folder of its former events
    logger = TensorBoardLogger(root_dir=folder, name="tensorboard", version="")
    known = set((folder / "tensorboard").glob("events.*"))

    def log(figures: Mapping[str, float], step: int) -> None:
        logger.log_metrics(dict(figures), step)
        logger.save()
        # the library names its file itself, at the first write; claimed, --resume False removes it
        for path in set((folder / "tensorboard").glob("events.*")) - known:
            known.add(claim(path, just_made=True))

    return log


def _wandb(folder: Path, settings: Mapping[str, Any], project: str) -> Log:
    import wandb

    # "allow": a resumed training continues its W&B run where WANDB_RUN_ID names one
    run = wandb.init(
        project=project, name=folder.name, dir=str(folder), config=dict(settings), resume="allow"
    )
    return lambda figures, step: run.log(dict(figures), step=step)


def _neptune(folder: Path, settings: Mapping[str, Any], project: str) -> Log:
    import neptune

    run = neptune.init_run(project=project, name=folder.name)
    # as text: Neptune does not take lists
    run["settings"] = {name: str(value) for name, value in settings.items()}

    def log(figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            run[name].append(value, step=step)

    return log
