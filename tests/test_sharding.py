"""FSDP2: weights divided among processes train as whole ones, and are saved whole."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric import Fabric
from torch import distributed, multiprocessing
from torch.distributed.tensor import DTensor

import foundation_training
import models
import staging_training
from training import resume
from training.fabric import start_fabric
from training.sharding import Sharded, clip_norm, load_whole, optimiser_state_of, weights_of
from utils.errors import UserError

SIZES = {
    "roles": ["EEG", "EOG"], "fs": 25.0, "d_model": 16, "n_heads": 2, "dim_feedforward": 16,
    "layers": 1, "local_layers": 1, "dropout": 0.0,
}  # fmt: skip
STEPS, NORM = 3, 0.1


def nights() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 2, 25 * 30 * 8, generator=generator, dtype=torch.double)


def built(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return models.build("foundation_pretraining", **SIZES).double()


def adamw(net: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)


def step(fabric: Fabric, model, optimizer, x: torch.Tensor) -> float:
    """One clipped step; the loss over all processes."""
    out = model(x, x)
    loss = sum(
        (ours - theirs).square().mean()
        for ours, theirs in ((out.samples, out.true_samples), (out.spectra, out.true_spectra))
    )
    fabric.backward(loss)
    clip_norm(model.parameters(), NORM)
    optimizer.step()
    optimizer.zero_grad()
    return float(fabric.all_reduce(loss.detach(), reduce_op="mean"))


def of_one_process() -> tuple[list[float], dict, dict]:
    fabric, net = Fabric(accelerator="cpu", devices=1), built()
    model, optimizer = fabric.setup(net, adamw(net))
    losses = [step(fabric, model, optimizer, nights()) for _ in range(STEPS)]
    return losses, net.state_dict(), optimizer.state_dict()


def process(rank: int, folder: str) -> None:
    """One of two: train on its night, save, and load what was saved into other weights."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    fabric, net = Fabric(accelerator="cpu", devices=1), built()
    strategy = Sharded(2)
    mesh = distributed.init_device_mesh("cpu", (2, 1), mesh_dim_names=("data_parallel", "none"))
    model = strategy._parallelize_fn(net, mesh)
    optimizer = adamw(net)
    held = sum(p.to_local().numel() for p in net.parameters() if isinstance(p, DTensor))
    fabric.all_reduce = lambda loss, reduce_op: mean(loss)
    losses = [step(fabric, model, optimizer, nights()[rank::2]) for _ in range(STEPS)]
    saved = deepcopy((dict(weights_of(net)), optimiser_state_of(net, optimizer)))
    again = strategy._parallelize_fn(built(seed=7), mesh)
    other = adamw(again)
    load_whole(again, other, *deepcopy(saved))
    loaded = deepcopy((dict(weights_of(again)), optimiser_state_of(again, other)))
    after = [
        step(fabric, *pair, nights()[rank::2]) for pair in ((model, optimizer), (again, other))
    ]
    torch.save((losses, saved, loaded, after, held), Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def mean(loss: torch.Tensor) -> torch.Tensor:
    distributed.all_reduce(loss)
    return loss / 2


def assert_alike(ours, theirs) -> None:
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_alike(ours[key], theirs[key])
    elif isinstance(ours, torch.Tensor):
        assert torch.allclose(ours, theirs, rtol=1e-8, atol=1e-10)


def test_divided_weights_train_as_whole_ones_and_are_saved_whole(tmp_path):
    losses, weights, state = of_one_process()
    multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)
    n_weights = sum(value.numel() for value in built().parameters())
    for rank in (0, 1):
        content = torch.load(tmp_path / f"{rank}.pt")
        theirs, saved, loaded, after, held = content
        assert theirs == pytest.approx(losses, rel=1e-8)
        assert held < 0.51 * n_weights
        assert_alike(dict(weights), saved[0])
        assert_alike(state["state"], saved[1]["state"])
        # into other weights, which then go on alike
        assert_alike(saved[0], loaded[0])
        assert_alike(saved[1]["state"], loaded[1]["state"])
        assert after[0] == after[1]


def test_every_process_resumes_with_a_random_state_of_its_own(monkeypatch, tmp_path):
    """Was: torch crashed on the second row of the states, so no second process could resume."""
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    states = torch.stack([torch.Generator().manual_seed(k).get_state() for k in (1, 2)])
    progress = {
        "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
        "rng": {"cpu": states}, "position": {"passes": 3},
    }  # fmt: skip
    checkpoint = SimpleNamespace(state=net.state_dict(), progress=progress)
    monkeypatch.setattr(resume, "load_checkpoint", lambda path: checkpoint)
    seen = []
    monkeypatch.setattr(torch, "set_rng_state", seen.append)
    fabric = SimpleNamespace(
        global_rank=1, is_global_zero=False, barrier=lambda: None, device=torch.device("cpu")
    )
    objective = SimpleNamespace(load_state_dict=lambda state: None)
    learner = resume.Learner(net, net, optimizer, schedule, objective)
    run = SimpleNamespace(checkpoint=lambda name: tmp_path)
    assert resume.resume(fabric, learner, run).passes == 3
    assert torch.equal(seen[0], states[1])
    assert seen[0].storage_offset() == 0


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (staging_training.main, ["--devices", "2"], "only foundation_training.py --stage pretrain"),
        (foundation_training.main, ["--stage", "finetune", "--devices", "2"], "only foundation"),
        (foundation_training.main, [], "among several --devices"),
        (foundation_training.main, ["--devices", "2", "--compile"], "without --compile"),
    ],
)
def test_what_cannot_be_divided_is_refused(main, words, message):
    with pytest.raises(UserError, match=message):
        main(["--strategy", "fsdp", *words])


def test_fp16_is_refused_with_divided_weights():
    run = SimpleNamespace(accelerator="cuda", strategy="fsdp", precision="16-mixed", devices=2)
    with pytest.raises(UserError, match="not in 16-mixed; choose --precision 32-true"):
        start_fabric(run)
