"""Contrastive pretraining beside a plain DataLoader that augments epoch after epoch in Python.

python -m benchmarks.pretraining                  # this machine's processor
python -m benchmarks.pretraining --device cuda    # a GPU

Both take the same optimiser steps of the same encoder on the same epochs; the views are the same
six changes. The memory of the latent metrics at 200,000 embeddings is that of a process of its own.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import models
from objectives.contrast_views import views_of
from objectives.contrastive import Contrastive, nt_xent

EPOCHS, BATCH, SAMPLES = 512, 128, 3000
_MANY, _WIDTH = 200_000, 128
_MEASURE = "from benchmarks.pretraining import measure_many; measure_many()"


class OneByOne(Dataset):
    """Two views of an epoch, drawn when it is asked for."""

    def __init__(self, signals: Tensor) -> None:
        self.signals, self.views = signals, views_of("benchmark")

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        # a slice, since views take a batch
        epoch = self.signals[index : index + 1]
        return self.views(epoch)[0], self.views(epoch)[0]


def plain_pass(net: nn.Module, optimizer: torch.optim.Optimizer, signals: Tensor, device) -> None:
    """One pass of the usual loop: views drawn epoch by epoch while loading."""
    for one, other in DataLoader(OneByOne(signals), BATCH, shuffle=True, drop_last=True):
        both = torch.cat([one, other]).to(device)
        # 0.1 is the default of Contrastive, so that both sides compute the same loss
        step(optimizer, nt_xent(*net(both)[0].chunk(2), 0.1))


def batched_pass(net: nn.Module, optimizer, signals: Tensor, objective: Contrastive) -> None:
    """One pass of ours: signals on the device, views drawn for whole batches there."""
    for rows in torch.randperm(len(signals), device=signals.device).split(BATCH):
        batch = SimpleNamespace(signals=signals[rows][:, None])
        step(optimizer, objective(net, batch)[0])


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One optimiser step on a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def throughput(name: str, device: torch.device) -> tuple[float, float]:
    """Epochs per second of the plain loop and of ours."""
    torch.manual_seed(0)
    signals = torch.randn(EPOCHS, 1, SAMPLES)
    net = models.build("pretraining", encoder=name, decoder=False).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    objective, resident = Contrastive(views_of("benchmark")), signals.to(device)
    rates = []
    for one_pass in (
        lambda: plain_pass(net, optimizer, signals, device),
        lambda: batched_pass(net, optimizer, resident, objective),
    ):
        started = time.perf_counter()
        one_pass()
        if device.type == "cuda":
            torch.cuda.synchronize()  # kernels are queued, not finished, when Python continues
        rates.append(EPOCHS / (time.perf_counter() - started))
    return tuple(rates)


def of_views(device: torch.device) -> tuple[float, float]:
    """Epochs per second of the views alone, one by one and batched."""
    signals, change = torch.randn(BATCH, 1, SAMPLES, device=device), views_of("benchmark")
    started = time.perf_counter()
    for k in range(BATCH):
        change(signals[k : k + 1])
    apart = BATCH / (time.perf_counter() - started)
    started = time.perf_counter()
    for _ in range(5):
        change(signals)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return apart, 5 * BATCH / (time.perf_counter() - started)


def measure_many() -> None:
    """Every metric of 200,000 embeddings; prints seconds and the largest memory in GB."""
    from probing.latent_report import Space, measure

    rng = np.random.default_rng(0)
    # bouts of 20 epochs, as metrics of continuity along the night expect
    y = np.repeat(rng.integers(0, 5, _MANY // 20), 20)
    z = rng.normal(size=(_MANY, _WIDTH)).astype(np.float32)
    z += 2 * np.eye(5, _WIDTH, dtype=np.float32)[y]
    # 200 nights of 1000 epochs, each of a subject of its own
    night, number = (np.arange(_MANY) // 1000).astype(str), np.arange(_MANY) % 1000
    space = Space("many", z, y, np.char.add("s", night), np.char.add("r", night), number)
    started = time.perf_counter()
    measure(space, parts=20)
    seconds = time.perf_counter() - started
    # of this program alone: getrusage would carry over what its parent had before it began
    status = Path("/proc/self/status").read_text()
    highest = int(re.search(r"VmHWM:\s+(\d+)", status)[1])
    print(f"{seconds:.1f} {highest / 1e6:.2f}")


def main() -> None:
    """Measure throughput, then memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--encoders", nargs="+", default=["tinysleepnet", "transformer", "cnn"])
    args = parser.parse_args()
    device = torch.device(args.device)
    print(f"{device}, {torch.get_num_threads()} threads; epochs per second, batches of {BATCH}")
    apart, together = of_views(device)
    print(f"views alone: one by one {apart:,.0f}, batched {together:,.0f}, {together / apart:.1f}x")
    for name in args.encoders:
        plain, ours = throughput(name, device)
        print(f"{name:<14} plain loop {plain:>8,.1f}   ours {ours:>8,.1f}   {ours / plain:.2f}x")
    # its own process: the peak of this one includes the training above
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True
    )
    seconds, memory = done.stdout.split()
    print(f"latent metrics of {_MANY:,} embeddings of {_WIDTH}: {seconds} s, {memory} GB")


if __name__ == "__main__":
    main()
