"""What a night costs the foundation model: seconds and memory, by length, and of a training step.

python -m benchmarks.foundation                   # this machine's processor, two threads
python -m benchmarks.foundation --device cuda     # a GPU

Every row is a process of its own, so that its peak is its own; the peak includes Python and torch.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import time

import torch

import models
from models.foundation import PUBLISHED, ROLES

THREADS = 2
ROWS = (
    ("published", 8.0, "forward"),
    ("published", 8.0, "train"),
    ("published", 8.0, "head"),
    ("published", 4.0, "forward"),
    ("published", 12.0, "forward"),
    ("light", 8.0, "forward"),
    ("light", 8.0, "train"),
    ("light", 4.0, "forward"),
    ("light", 12.0, "forward"),
    ("fused", 8.0, "forward"),
)
# fused: one token of 30 s per role instead of five of 6 s
SETTINGS = {
    "published": PUBLISHED | {"head": "linear"},
    "light": {"head": "gru"},
    "fused": {"head": "gru", "d_model": 64, "patch_seconds": 30.0, "local_layers": 0, "layers": 2},
}


def measure(name: str, hours: float, what: str, device: str) -> None:
    """Print seconds and peak memory in GiB of one row."""
    torch.set_num_threads(THREADS)
    settings = SETTINGS[name] | ({"head": "published"} if what == "head" else {})
    model = models.build("foundation", **settings).to(device)
    n, samples = round(120 * hours), round(30 * settings.get("fs", 125.0))
    # the time of dense layers does not depend on what the signals hold
    night = torch.randn(1, n, len(ROLES), samples, device=device)
    work = {"forward": forward, "train": train_step, "head": head_alone}[what]
    if device != "cpu":  # kernels are chosen the first time
        work(model, night)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    # the head alone brings its own seconds: the clock here includes the encoder
    spent = work(model, night)
    if device == "cpu":
        # Linux counts ru_maxrss in kB
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    else:
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"seconds {spent or time.perf_counter() - started:.2f} peak {peak:.2f}")


def forward(model: torch.nn.Module, night: torch.Tensor) -> None:
    """Stage the night."""
    model.eval().stage_night(night[0])


def train_step(model: torch.nn.Module, night: torch.Tensor) -> None:
    """Compute a loss and its gradients."""
    # any loss: what gradients cost does not depend on it
    model.train()(night).square().mean().backward()


def head_alone(model: torch.nn.Module, night: torch.Tensor) -> float:
    """Seconds of the head alone, the night being encoded beforehand."""
    model.eval()
    with torch.no_grad():
        encoded = model.encode(night)
        started = time.perf_counter()
        model(None, encoded)
    return time.perf_counter() - started


def main() -> None:
    """Measure all rows, then print how memory grows with the length of the night."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    # a container may use fewer cores than the machine has; macOS has no affinity
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{cores} cores, {THREADS} threads, {device}, 7 roles at 125 Hz, float32")
    peaks = {}
    for name, hours, what in ROWS:
        words = f"from benchmarks.foundation import measure; measure({name!r}, {hours}, {what!r}, "
        result = subprocess.run(
            [sys.executable, "-c", f"{words}{device!r})"],
            capture_output=True,
            text=True,
            check=True,
        )
        # the one line that measure prints
        seconds, peak = map(float, re.findall(r"[\d.]+", result.stdout))
        peaks[name, hours, what] = peak
        print(f"{name:<10}{hours:>5.0f} h  {what:<8}{seconds:>8.2f} s   peak {peak:.2f} GiB")
    # steps of 4 h: equal growth is memory linear in the night, larger growth is quadratic attention
    for name in ("published", "light"):
        low, middle, high = (peaks[name, hours, "forward"] for hours in (4.0, 8.0, 12.0))
        print(
            f"{name}: memory from 4 to 8 h grows by {middle - low:.2f} GiB, from 8 to 12 h by "
            f"{high - middle:.2f} GiB"
        )


if __name__ == "__main__":
    main()
