"""Cross-modal transformers beside the published way of computing them, in one run.

python -m benchmarks.cmt                  # this machine's processor
python -m benchmarks.cmt --device cuda    # a GPU

The published way is :mod:`benchmarks.published_cmt`, which shares no module with ours: strided
convolutions, all tokens and attention rows, every window encoding all its epochs again, torch's own
Adam, and evaluation of one window at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import models
from benchmarks.published_cmt import PublishedEpoch, PublishedSequence, loss_of
from benchmarks.side_by_side import seconds
from models.cmt import EpochCMT, SequenceCMT
from objectives.staging import Staging
from utils.memory import keep_freed_memory

N_WINDOWS, LENGTH, NIGHT, SAMPLES = 32, 15, 960, 3000


class Batch:
    """Random runs of epochs, already on the device."""

    def __init__(self, runs: int, length: int, device: str) -> None:
        self.signals = torch.randn(runs, length, 2, SAMPLES, device=device)
        self.stages = torch.randint(0, 5, (runs, length), device=device)


def published_step(model: nn.Module, batch: Batch, device: str) -> Callable[[], None]:
    """A training step as it was published."""
    model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-9, weight_decay=1e-4)

    def run() -> None:
        optimizer.zero_grad()
        loss_of(model(batch.signals), batch.stages).backward()
        optimizer.step()
        wait(device)

    run()
    return run


def step(model: nn.Module, batch: Batch, device: str, dtype: torch.dtype) -> Callable[[], None]:
    """A whole training step: forward, loss, backward, Adam."""
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    objective = Staging()

    def run() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            loss, _ = objective(model, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        wait(device)

    run()  # compiles, fills caches
    return run


def wait(device: str) -> None:
    """Wait until a GPU has finished its queued work."""
    if device == "cuda":
        torch.cuda.synchronize()


def steps(device: str) -> dict[str, Callable[[], None]]:
    """Training steps over 32 windows (32 epochs for Epoch), published first."""
    single, half = torch.float32, torch.bfloat16
    shared = {"encoder": "shared"}

    def sequence(**settings) -> SequenceCMT:
        return models.build("sequence_cmt", **settings).to(device)

    def epoch() -> EpochCMT:
        return models.build("epoch_cmt").to(device)

    windows = Batch(N_WINDOWS, LENGTH, device)
    # a run of n + length - 1 epochs holds n windows: 32 in one run, or 4 times 8
    run, four = Batch(1, N_WINDOWS + LENGTH - 1, device), Batch(4, 8 + LENGTH - 1, device)
    epochs = Batch(N_WINDOWS, 1, device)
    make = partial(step, device=device)
    return {
        "Seq, published": published_step(PublishedSequence(), windows, device),
        "Seq, per_position": make(sequence(encoder="per_position"), windows, dtype=single),
        # the shared encoder on the published batch: what sharing alone is good for
        "Seq, shared, windows re-encoded": make(sequence(**shared), windows, dtype=single),
        "Seq, shared, 4 runs of 22 (default)": make(sequence(**shared), four, dtype=single),
        "Seq, shared, 1 run of 46": make(sequence(**shared), run, dtype=single),
        "  the same, bf16": make(sequence(**shared), run, dtype=half),
        "  the same, compiled": make(torch.compile(sequence(**shared)), run, dtype=single),
        "  the same, compiled, bf16": make(torch.compile(sequence(**shared)), run, dtype=half),
        "Epoch, published": published_step(PublishedEpoch(), epochs, device),
        "Epoch": make(epoch(), epochs, dtype=single),
        "Epoch, bf16": make(epoch(), epochs, dtype=half),
        "Epoch, compiled": make(torch.compile(epoch()), epochs, dtype=single),
    }


@torch.no_grad()
def window_by_window(model: nn.Module, night: Tensor, length: int) -> list[Tensor]:
    """Published evaluation: a batch of one window, re-encoded, for every start."""
    return [
        model(night[None, start : start + length]).softmax(-1)
        for start in range(len(night) - length + 1)
    ]


def nights(device: str) -> dict[str, Callable[[], object]]:
    """Staging a night of 960 epochs, published first."""
    night = torch.randn(NIGHT, 2, SAMPLES, device=device)
    sequence, single = PublishedSequence().to(device).eval(), PublishedEpoch().to(device).eval()
    own = models.build("sequence_cmt", encoder="per_position").to(device).eval()
    shared = models.build("sequence_cmt").to(device).eval()
    epoch = models.build("epoch_cmt").to(device).eval()

    def staged(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            model.stage_night(night).cpu()  # the copy waits for the GPU

    return {
        "Seq, published": lambda: window_by_window(sequence, night, LENGTH)[-1].cpu(),
        "Seq, per_position": partial(staged, own),
        "Seq, shared (default)": partial(staged, shared),
        "  the same, bf16": partial(staged, shared, torch.bfloat16),
        "Epoch, published": lambda: window_by_window(single, night, 1)[-1].cpu(),
        "Epoch": partial(staged, epoch),
    }


def table(
    title: str, ways: dict[str, Callable[[], object]], repeats: int, *, steady: bool = False
) -> None:
    """Milliseconds, and how often each way fits into the published one above it."""
    print(f"\n{title}")
    published = 0.0
    for name, taken in seconds(ways, repeats, steady=steady).items():
        published = taken if "published" in name else published
        print(f"  {name:<38}{1e3 * taken:>10.1f} ms {published / taken:>8.1f}x")


def ceiling(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    size = 8192 if device == "cuda" else 2048
    a = torch.randn(size, size, device=device, dtype=dtype)

    def product() -> None:
        a @ a
        wait(device)

    product()  # the first call loads the library's kernels
    # a multiplication and an addition for every term of every sum
    return 2 * size**3 / seconds({"product": product}, 5)["product"]


def utilisation(device: str) -> None:
    """FLOP/s that training steps of growing size reach, against the ceiling."""
    print("\nachieved FLOP/s of a training step (shared, bf16 where a GPU has it)")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    limit = ceiling(device, dtype)
    print(f"  matrix-product ceiling {limit / 1e12:.2f} TFLOP/s")
    for runs in (4, 32, 128) if device == "cuda" else (4,):
        model = models.build("sequence_cmt").to(device)
        run = step(model, Batch(runs, 22, device), device, dtype)
        # counted in a step of its own: counting slows every operation
        with FlopCounterMode(display=False) as counter:
            run()
        taken = seconds({"step": run}, 10)["step"]
        reached = counter.get_total_flops() / taken
        print(
            # a run of 22 epochs holds 8 windows of 15
            f"  {8 * runs:>5} windows per step: {1e3 * taken:7.1f} ms  "
            f"{reached / 1e12:.3f} TFLOP/s  {100 * reached / limit:.1f} % of the ceiling"
        )


def main() -> None:
    """Time training steps and whole nights, then report utilisation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(0)
    keep_freed_memory()  # as scripts do; it helps the published way as well
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}; medians")
    table("training step, 32 windows of 15 epochs", steps(args.device), args.repeats, steady=True)
    table("staging a night of 960 epochs", nights(args.device), 3)
    utilisation(args.device)


if __name__ == "__main__":
    main()
