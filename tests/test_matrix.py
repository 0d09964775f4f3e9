"""Every family trains at any rate, precision and number of processes, resident, streamed, killed.

The whole covering array is slow; its cells are listed by ``python -m tests.matrix``.
"""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import pytest
import torch

import generate_demo_data
from tests.conftest import prepare
from tests.matrix import AXES, Cell, covering, pairs_of, possible, train
from tests.together import run_together
from utils.checkpoint import load_checkpoint
from utils.runs import Run

# of each kind of script, with every number of processes
DIAGONAL = [
    Cell("sequence_cmt", 125, "bf16-mixed", 2, True, True),
    Cell("contrastive", 100, "32-true", 3, False, False),
    Cell("pretrain", 64, "16-mixed", 1, True, False),
]


@pytest.fixture(scope="session")
def store_at(tmp_path_factory):
    """Stores of five short nights by rate, each prepared once: two processes make two steps."""
    raw = tmp_path_factory.mktemp("matrix_raw")
    words = ["--subjects", "5", "--nights", "1", "--hours", "0.3", "--jobs", "1"]
    generate_demo_data.main(["--output", str(raw), *words])
    stores: dict[int, Path] = {}

    def made(rate: int) -> Path:
        if rate not in stores:
            stores[rate] = tmp_path_factory.mktemp(f"store{rate}")
            channels = ["--channels", "EEG", "EOG"]
            prepare(raw, stores[rate], *channels, "--resample", str(rate))
        return stores[rate]

    return made


def test_every_two_values_meet_in_a_cell():
    met = set().union(*map(pairs_of, covering()))
    wanted = [cell for cell in product(*AXES.values()) if possible(cell[0], cell[3])]
    assert set().union(*map(pairs_of, wanted)) == met
    assert len(covering()) == len(AXES["family"]) * len(AXES["rate"])


def check(cell: Cell, store: Path, folder: Path, seconds: float = 120) -> None:
    """Train a cell; one that is killed and resumed ends as one that was left alone."""

    def trained(name: str, runs: str, stop: bool = False) -> None:
        given = (cell, store, folder / runs, stop)
        run_together(cell.processes, train, folder / name, *given, seconds=seconds)

    trained("whole", "runs")
    (run,) = (path.parent for path in (folder / "runs").glob("*/run.json"))
    progress = load_checkpoint(run / "checkpoints/last.pt").progress
    assert ("scaler" in progress) == (cell.precision == "16-mixed")
    # no process drops what another drops
    assert len(progress["rng"]["cpu"].unique(dim=0)) == cell.processes
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in Run(run).rows()]
    assert len(rows) == 1 and math.isfinite(rows[0]["train_loss"])
    if cell.killed:
        again = folder / "again"
        trained("stopped", "again", stop=True)
        (other,) = (path.parent for path in again.glob("*/run.json"))
        assert load_checkpoint(other / "checkpoints/last.pt").progress["position"]["step"] == 1
        trained("resumed", "again")
        (resumed,) = ({k: v for k, v in row.items() if k != "seconds"} for row in Run(other).rows())
        if cell.processes > 2:
            # DDP groups gradients anew after a first step, so three are summed in another order
            assert resumed == pytest.approx(rows[0], rel=1e-3, abs=1e-3)
            return
        assert resumed == rows[0]
        one, two = (load_checkpoint(path / "checkpoints/last.pt").state for path in (run, other))
        assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("cell", DIAGONAL, ids=str)
def test_the_diagonal(cell, store_at, tmp_path):
    check(cell, store_at(cell.rate), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("cell", covering(), ids=str)
def test_the_matrix(cell, store_at, tmp_path):
    # a CPU takes several times as long in fp16
    check(cell, store_at(cell.rate), tmp_path, seconds=600)
