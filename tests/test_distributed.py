"""Several processes train as one: each draws its own, and nothing waits for the others in vain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from datasets.store import views
from datasets.store.batches import Windows
from datasets.store.views import View
from models.batch_norm import BatchNorm
from objectives.draws import Draws
from objectives.staging import Staging
from tests.together import run_together
from training import loop
from training.loop import seed_dropout

ROOT = Path(__file__).parents[1]


def test_alone_it_is_torch_batch_norm():
    ours, theirs = BatchNorm(4), nn.BatchNorm1d(4)
    x = torch.randn(3, 7, 4)
    for _ in range(2):
        assert torch.allclose(ours(x), theirs(x.flatten(0, 1)).view_as(x))
    assert torch.allclose(ours.running_var, theirs.running_var)
    assert ours.eval()(x).shape == x.shape


def drawn(keys: list[int]) -> Draws:
    return Draws(np.array(keys), "test", torch.device("cpu"))


def test_numbers_belong_to_their_sample():
    whole, half = drawn([*range(300)]), drawn([*range(1, 300, 3)])
    for _ in range(2):
        assert torch.equal(whole.uniform(2, 5)[1::3], half.uniform(2, 5))
        assert torch.equal(whole.normal(70)[1::3], half.normal(70))
        assert torch.equal(whole.integers(-3, 4)[1::3], half.integers(-3, 4))
    uniform, normal = whole.uniform(500).double(), whole.normal(500).double()
    assert uniform.min() >= 0 and uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.005)
    assert uniform.var().item() == pytest.approx(1 / 12, rel=0.01)
    assert normal.mean().item() == pytest.approx(0, abs=0.01)
    assert normal.std().item() == pytest.approx(1, rel=0.01)
    # neither from number to number nor from key to key is anything alike
    for numbers in (uniform, uniform.T, normal, normal.T):
        alike = torch.corrcoef(torch.stack([numbers[:-1].flatten(), numbers[1:].flatten()]))
        assert abs(alike[0, 1]) < 0.02
    assert not torch.equal(whole.uniform(9), Draws(np.arange(300), "a", whole._device).uniform(9))


def test_dropout_differs_by_process_and_stays_what_it_was_on_the_first():
    masks = []
    for rank in (0, 1, 2):
        torch.manual_seed(7)
        seed_dropout(7, rank)
        masks.append(nn.functional.dropout(torch.ones(64)))
    torch.manual_seed(7)
    assert torch.equal(masks[0], nn.functional.dropout(torch.ones(64)))
    assert len({tuple(mask.tolist()) for mask in masks}) == 3


def test_the_random_state_of_a_later_process_can_be_restored(tmp_path):
    """torch crashed at a row of the states of all processes."""
    run_together(1, restore, tmp_path)


def restore(rank: int, folder: Path) -> None:
    """As the second of two processes, resume what both have saved."""
    from training.resume import Learner, Outputs, Position, resume, save_last
    from utils.runs import Run

    state = torch.get_rng_state()
    sums = torch.tensor([3.0, 4.0], dtype=torch.double)
    gathered = {5056: torch.stack([state, state]), 1: sums[:, None]}
    fabric = SimpleNamespace(
        world_size=2, global_rank=1, is_global_zero=True, device=torch.device("cpu"),
        all_gather=lambda x: gathered.get(x.numel(), x), barrier=lambda: None,
        strategy=SimpleNamespace(precision=SimpleNamespace(state_dict=dict)),
    )  # fmt: skip
    net = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(net.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    learner = Learner(net, net, optimizer, schedule, Staging())
    about = {"model": "sequence_cmt", "settings": {}, "channels": [["a", "EEG"]], "fs": 10.0,
             "standardise": "none"}  # fmt: skip
    outputs = Outputs(Run(folder), lambda figures, step: None, about)
    save_last(fabric, learner, Position(step=1, sums={"loss": 3.0}), outputs)
    torch.rand(5)
    assert resume(fabric, learner, outputs.run).sums == {"loss": 4.0}
    assert torch.equal(torch.get_rng_state(), state)


def test_signals_are_pinned_on_their_own_gpu(store, monkeypatch):
    """A thread begins on the first GPU, whichever its process trains on."""
    entered, pinned = [], []

    class Device:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            entered.append(self.device)

        def __exit__(self, *error):
            entered.pop()

    def pin(signals):
        pinned.append(list(entered))
        return SimpleNamespace(to=lambda *a, **k: signals)

    view = View(store, list(store.recordings)[:1], standardise="none", budget_gb=0)
    second = torch.device("cuda", 1)
    monkeypatch.setattr(view, "device", second)
    monkeypatch.setattr(view, "_stages_at", lambda index: index)
    monkeypatch.setattr(views.torch.cuda, "device", Device)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    list(view.read([Windows(np.array([0]), np.array([0]))], 2))
    assert pinned == [[second]]


def test_processes_agree_to_stop_as_rarely_as_a_gpu_is_read():
    asked = []
    fabric = SimpleNamespace(
        world_size=2, device=torch.device("cuda"), all_reduce=lambda x, **_: asked.append(1) or x
    )
    loop._scalar, plain = (lambda fabric, value: torch.tensor(float(value))), loop._scalar
    try:
        answers = [loop._agreed(fabric, True, group) for group in range(41)]
    finally:
        loop._scalar = plain
    assert [k for k, answer in enumerate(answers) if answer] == [0, 20, 40] and len(asked) == 3


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
