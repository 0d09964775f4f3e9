"""Two processes train as one: same gradients, same running statistics, same metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import distributed, multiprocessing, nn

import models
from models.batch_norm import BatchNorm
from objectives.staging import Staging

ROOT = Path(__file__).parents[1]
SMALL = {
    "num_seq": 3, "n_samples": 300, "d_model": 16, "dim_feedforward": 16, "dropout": 0.0
}  # fmt: skip


def batch_of(part: slice) -> SimpleNamespace:
    """Five runs with unequal stages, some unscored: shares of two processes differ in weight."""
    generator = torch.Generator().manual_seed(1)
    signals = torch.randn(5, 6, 2, 300, generator=generator, dtype=torch.double)
    stages = torch.randint(-1, 5, (5, 6), generator=generator)
    stages[::2, :3] = 0
    return SimpleNamespace(signals=signals[part], stages=stages[part])


def gradients(wrap, part: slice) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    torch.manual_seed(0)
    net = models.build("sequence_cmt", **SMALL).double().train()
    model = wrap(net)  # kept: its hooks average the gradients
    loss, _ = Staging()(model, batch_of(part))
    loss.backward()
    return [p.grad for p in net.parameters()], list(net.buffers())


class Shared(nn.parallel.DistributedDataParallel):
    """What the wrapped model declares can be asked of the wrapper, as of Fabric's."""

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    own_gradients = gradients(Shared, slice(rank, None, 2))
    torch.save(own_gradients, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_make_the_gradients_of_one(tmp_path):
    alone, buffers = gradients(lambda net: net, slice(None))
    multiprocessing.spawn(worker, (str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        shared, their_buffers = torch.load(tmp_path / f"{rank}.pt")
        for ours, theirs in zip(alone, shared, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)
        for ours, theirs in zip(buffers, their_buffers, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-9)


def test_alone_it_is_torch_batch_norm():
    ours, theirs = BatchNorm(4), nn.BatchNorm1d(4)
    x = torch.randn(3, 7, 4)
    for _ in range(2):
        assert torch.allclose(ours(x), theirs(x.flatten(0, 1)).view_as(x))
    assert torch.allclose(ours.running_var, theirs.running_var)
    assert ours.eval()(x).shape == x.shape


def metrics(project: Path) -> list[dict]:
    lines = next(project.glob("*/metrics.jsonl")).read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("model_type", ["Seq", pytest.param("Epoch", marks=pytest.mark.slow)])
def test_the_script_on_two_processes_trains_as_on_one(store, tmp_path, model_type):
    words = [
        "--model_type",
        model_type,
        "--num_seq",
        "5",
        "--d_model",
        "16",
        "--dim_feedforward",
        "16",
        "--window_size",
        "150",
        "--n_epochs",
        "1",
        "--train_data_list",
        "[0,1]",
        "--dropout",
        "0",
        "--logger",
        "csv",
        "--accelerator",
        "cpu",
        "--lr",
        "1e-4",
    ]
    results = []
    for devices in ("1", "2"):
        project = tmp_path / devices
        paths = ["--data_path", str(store.path), "--project_path", str(project)]
        done = subprocess.run(
            [sys.executable, "cmt_training.py", *paths, *words, "--devices", devices],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("best pass") == 1
        results.append(metrics(project))
    for one, two in zip(*results, strict=True):
        assert one.keys() == two.keys()
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-4)
        assert one["val_accuracy"] == pytest.approx(two["val_accuracy"], abs=0.03)
