"""Contrastive pretraining beside a plain DataLoader that augments epoch after epoch in Python.

python -m benchmarks.pretraining                  # this machine's processor
python -m benchmarks.pretraining --device cuda    # a GPU
python -m benchmarks.pretraining --lightly         # beside a loop of lightly-ssl
python -m benchmarks.pretraining --memory         # of the scripts that evaluate encoders

Both take the same optimiser steps of the same encoder on the same epochs; the views are the same
six changes. Lightly is no requirement of ours: pip puts it into an environment that borrows this
one's torch; both loops take turns on one thread, in processor's seconds. Memory is the peak of
ssl_evaluate.py and of latent_space_evaluator.py on nights that share one file of signals, embedded
by an untrained encoder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import models
from benchmarks.peers import borrowing, environment_at
from benchmarks.side_by_side import peak_mb
from benchmarks.training import store_of
from datasets.store import splits
from datasets.store.batches import keys_of
from datasets.store.store import Store
from objectives.contrast_views import views_of
from objectives.contrastive import Contrastive, nt_xent
from utils.checkpoint import save_checkpoint
from utils.memory import keep_freed_memory

EPOCHS, BATCH, SAMPLES = 512, 128, 3000
TEMPERATURE = 0.1  # the default of Contrastive, so that all sides compute the same loss
LIGHTLY = ("lightly==1.6.0",)
_NIGHT = 1000  # epochs


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
        step(optimizer, nt_xent(*net(both)[0].chunk(2), TEMPERATURE))


def batched_pass(net: nn.Module, optimizer, signals: Tensor, objective: Contrastive) -> None:
    """One pass of ours: signals on the device, views drawn for whole batches there."""
    rng = np.random.default_rng(0)
    for rows in torch.randperm(len(signals), device=signals.device).split(BATCH):
        batch = SimpleNamespace(signals=signals[rows][:, None], keys=keys_of(rng, len(rows)))
        step(optimizer, objective(net, batch)[0])


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One optimiser step on a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def epochs_of() -> Tensor:
    """Epochs of noise, (n, 1, t)."""
    return torch.randn(EPOCHS, 1, SAMPLES, generator=torch.Generator().manual_seed(0))


def throughput(name: str, device: torch.device) -> tuple[float, float]:
    """Epochs per second of the plain loop and of ours."""
    torch.manual_seed(0)
    signals = epochs_of()
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


def beside_lightly(environment: Path, encoders: Sequence[str], rounds: int) -> None:
    """Print epochs per processor's second of lightly's loop and of ours, by encoder."""
    torch.set_num_threads(1)
    loop = Path(__file__).with_name("lightly_loop.py")
    command = [str(environment_at(environment, LIGHTLY)), "-P", "-W", "ignore", str(loop)]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg()[:2])
    print(f"{LIGHTLY[0]}, one thread, batches of {BATCH}, medians of {rounds}; load {load}")
    variables = borrowing(OMP_NUM_THREADS="1")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
    ) as process:
        for name in encoders:
            theirs, ours = [], []
            for _ in range(rounds):
                process.stdin.write(name + "\n")
                process.stdin.flush()
                theirs.append(json.loads(process.stdout.readline()))
                ours.append(seconds_of_ours(name))
            lightly, own = (EPOCHS / median(one) for one in (theirs, ours))
            print(f"{name:<14} lightly {lightly:>8,.1f}   ours {own:>8,.1f}   {own / lightly:.2f}x")


def seconds_of_ours(name: str) -> float:
    """Processor's seconds of a pass of ours that was warmed up."""
    torch.manual_seed(0)
    net = models.build("pretraining", encoder=name, decoder=False)
    optimizer, signals = torch.optim.Adam(net.parameters(), lr=1e-4), epochs_of()
    objective = Contrastive(views_of("benchmark"), temperature=TEMPERATURE)
    batched_pass(net, optimizer, signals, objective)
    started = time.process_time()
    batched_pass(net, optimizer, signals, objective)
    return time.process_time() - started


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


def untrained_run(path: Path, project: Path) -> None:
    """A run of a small encoder of random weights, 128 numbers per epoch, on a store's last fold."""
    store = Store(path)
    split = splits.split(splits.find_table(store, None), range(4), [4], share=0.1, seed=0)
    settings = {"encoder": "seqsleepnet", "decoder": False, "projection": []}
    facts = {
        "command": "benchmark", "cohort": store.cohort, "protocol": store.settings["protocol"],
        "preparation": store.settings, "store": splits.fingerprint(store), "folds": None,
        "train_folds": [0, 1, 2, 3], "held_out_folds": [4], "select_on": "validation",
        "subjects": asdict(split),
    }  # fmt: skip
    checkpoint = {
        "model": "pretraining", "settings": settings, "channels": [["EEG Fpz-Cz", "EEG"]],
        "fs": 100.0, "standardise": "recording", "scaled_over": "kept", "trained": facts, "pass": 1,
        "state": models.build("pretraining", **settings).state_dict(),
    }  # fmt: skip
    folder = project / "ssl_contrastive_seqsleepnet_fold4_seed0" / "checkpoints"
    folder.mkdir(parents=True)
    save_checkpoint(folder / "best.pt", checkpoint)


def report_memory(numbers: Sequence[int]) -> None:
    """Peak resident memory of both scripts that evaluate encoders, by number of epochs."""
    print("| epochs | embeddings of one encoder | ssl_evaluate.py | latent_space_evaluator.py |")
    print("|---|---|---|---|")
    probe = ["ssl_evaluate.py", "--tuned", "False", "--seeds", "0", "--device", "cpu"]
    measure = ["latent_space_evaluator.py", "--maps", "False"]
    for n_epochs in numbers:
        with tempfile.TemporaryDirectory() as folder:
            store, project = Path(folder) / "store", Path(folder) / "results"
            store.mkdir()
            store_of(store, n_epochs // _NIGHT, _NIGHT, copy=os.link)
            untrained_run(store, project)
            peaks = [
                peak_mb([sys.executable, *words, "--project_path", str(project)])
                for words in ([*probe, "--data_path", str(store)], measure)
            ]
        sizes = [512e-6 * n_epochs, *peaks]
        print(f"| {n_epochs:,} | {' | '.join(f'{mb:.0f} MB' for mb in sizes)} |", flush=True)


def main() -> None:
    """Measure throughput, or memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--memory", action="store_true", help="only that of evaluating encoders")
    parser.add_argument("--lightly", action="store_true", help="only beside lightly-ssl")
    parser.add_argument("--environment", type=Path, help="folder of lightly (default: temporary)")
    parser.add_argument("--rounds", type=int, default=3, help="turns beside lightly")
    parser.add_argument("--epochs", type=int, nargs="+", default=[50_000, 200_000], help="of it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--encoders", nargs="+", default=["tinysleepnet", "transformer", "cnn"])
    args = parser.parse_args()
    keep_freed_memory()  # as every script of ours does
    if args.memory:
        report_memory(args.epochs)
        return
    if args.lightly:
        with tempfile.TemporaryDirectory() as folder:
            beside_lightly(args.environment or Path(folder), args.encoders, args.rounds)
        return
    device = torch.device(args.device)
    print(f"{device}, {torch.get_num_threads()} threads; epochs per second, batches of {BATCH}")
    apart, together = of_views(device)
    print(f"views alone: one by one {apart:,.0f}, batched {together:,.0f}, {together / apart:.1f}x")
    for name in args.encoders:
        plain, ours = throughput(name, device)
        print(f"{name:<14} plain loop {plain:>8,.1f}   ours {ours:>8,.1f}   {ours / plain:.2f}x")


if __name__ == "__main__":
    main()
