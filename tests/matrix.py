"""Every family at every rate, precision, number of processes, budget, whole or killed: in pairs.

``python -m tests.matrix`` lists the cells of the covering array. All of them run on a CPU, those in
fp16 with a scaler that stands in for a GPU's; torch has a half kernel for every operation there.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import torch

import models
from tests.together import join_group

_STAGING = ["--n_epochs", "1", "--batch_size", "8", "--first_epochs", "0",
            "--channels", "EEG"]  # fmt: skip
_SSL = ["--n_epochs", "1", "--batch_size", "8", "--encoder", "cnn"]
_NIGHTS = ["--n_epochs", "1", "--batch_size", "1", "--d_model", "16", "--dim_feedforward", "16",
           "--local_layers", "1", "--layers", "1"]  # fmt: skip
_CMT = ["--n_epochs", "1", "--batch_size", "8", "--d_model", "16", "--dim_feedforward", "16"]
# by name: the script and the smallest training that it does
FAMILIES = {
    "epoch_cmt": ("cmt_training", ["--model_type", "Epoch", *_CMT]),
    "sequence_cmt": ("cmt_training", ["--model_type", "Seq", "--num_seq", "5", *_CMT]),
    **{
        name: (
            "staging_training",
            ["-e", name, *_STAGING, "--num_seq", "1" if name in models.ENCODERS else "5"],
        )
        for name in (*models.names(), "shufflenet_v2_x0_5")
        if not name.endswith("_cmt")
    },
    **{
        objective: ("ssl_training", ["--objective", objective, *_SSL])
        for objective in ("masked", "contrastive", "hybrid")
    },
    "pretrain": ("foundation_training", ["--stage", "pretrain", *_NIGHTS]),
    "finetune": ("foundation_training", ["--stage", "finetune", "--pretrained", "none", *_NIGHTS]),
    "probe": ("foundation_training", ["--stage", "probe", "--pretrained", "none", *_NIGHTS]),
}
ONE_DEVICE = {name for name in models.names() if models.is_stateful(name)}
AXES = {
    "family": tuple(FAMILIES),
    "rate": (64, 100, 125, 128, 200, 256, 512),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
    "processes": (1, 2, 3),
    "streamed": (False, True),
    "killed": (False, True),
}


class Cell(NamedTuple):
    """One training of the matrix."""

    family: str
    rate: int
    precision: str
    processes: int
    streamed: bool
    killed: bool

    def __str__(self) -> str:
        kind = "streamed" if self.streamed else "resident"
        end = "killed" if self.killed else "whole"
        return f"{self.family}-{self.rate}Hz-{self.precision}-x{self.processes}-{kind}-{end}"


def possible(family: str, processes: int) -> bool:
    """Whether a family trains on so many processes."""
    return processes == 1 or family not in ONE_DEVICE


def pairs_of(cell: Sequence) -> set[tuple]:
    """All pairs of values that a cell has, each with its axis."""
    return set(combinations(zip(AXES, cell, strict=True), 2))


def covering() -> list[Cell]:
    """Cells in which every two values of two axes meet, but for those that are refused."""
    met: set[tuple] = set()
    cells = []
    # the two longest axes meet in as many cells as they have pairs; the others fit into those
    for family in AXES["family"]:
        for rate in AXES["rate"]:
            best = max(_choices(family, rate), key=lambda cell: len(pairs_of(cell) - met))
            met |= pairs_of(best)
            cells.append(best)
    return cells


def _choices(family: str, rate: int) -> Iterator[Cell]:
    for precision in AXES["precision"]:
        for processes in AXES["processes"]:
            for streamed in AXES["streamed"]:
                for killed in AXES["killed"]:
                    if possible(family, processes):
                        yield Cell(family, rate, precision, processes, streamed, killed)


def words_of(cell: Cell, store: Path, project: Path) -> tuple[str, list[str]]:
    """Script and command line of a cell."""
    script, words = FAMILIES[cell.family]
    budget = ["--budget_gb", "0"] if cell.streamed else []
    return script, [
        *words, *budget, "--precision", cell.precision, "--devices", str(cell.processes),
        "--data_path", str(store), "--project_path", str(project), "--accelerator", "cpu",
        "--train_data_list", "0,1,2,3", "--logger", "csv",
    ]  # fmt: skip


def train(rank: int, folder: Path, cell: Cell, store: Path, project: Path, stop: bool) -> None:
    """Train a cell as process ``rank``; ``stop``: until the first step, then like one killed."""
    from training import loop

    os.chdir(folder)
    if cell.precision == "16-mixed":
        scale_losses()
    if cell.processes > 1:
        join_group(rank, cell.processes, folder / "meet")
    if stop:
        loop._agreed = lambda fabric, wanted, group: True
    script, words = words_of(cell, store, project)
    sys.argv = [f"{script}.py", *words]
    try:
        importlib.import_module(script).main(words)
    except KeyboardInterrupt:
        os._exit(0 if stop else 1)


def scale_losses() -> None:
    """Train in fp16 on a CPU, which is refused to users: its scaler stands in for a GPU's."""
    from training import precision
    from utils import devices

    devices.kind_of = lambda accelerator: "no cpu"
    # a scale at which two steps already change the weights; a GPU's finds it within some
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    plugin = precision.WholeInputs("16-mixed", "cpu", scaler)
    precision.of_fabric = lambda name, kind: {"plugins": plugin}


if __name__ == "__main__":
    print(*covering(), sep="\n")
