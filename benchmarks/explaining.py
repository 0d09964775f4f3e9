"""A whole night explained: 960 epochs, integrated gradients of 20 steps, time and peak memory.

python -m benchmarks.explaining
python -m benchmarks.explaining --device cuda
"""

from __future__ import annotations

import argparse
import resource
import time

import torch

import models
from interpret.registry import explain
from interpret.target import EpochTarget

EPOCHS = 960  # a night of 8 h


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    # Linux counts ru_maxrss in kB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv: list[str] | None = None) -> None:
    """Explain noise by an untrained sequence model: the work does not depend on either."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    model = models.build("sequence_cmt").eval().to(args.device)
    night = torch.randn(EPOCHS, 2, 3000, device=args.device)
    before = peak_mb()  # libraries, model and night: a peak never falls
    begin = time.perf_counter()
    target = EpochTarget(model, night)
    classes = model.stage_night(night).argmax(dim=1)
    explanation = explain(target, torch.arange(EPOCHS), classes, method="ig", steps=20)
    seconds = time.perf_counter() - begin
    # steps double up to a limit only, so some epochs may stay above 1 %
    share = (explanation.error <= 0.01).float().mean().item()
    print(f"{EPOCHS} epochs, ig from 20 steps on {args.device}: {seconds:.0f} s")
    print(f"  completeness error <= 1 % in {100 * share:.1f} % of them")
    print(f"  resident memory: {before:.0f} MB before, {peak_mb():.0f} MB at most")


if __name__ == "__main__":
    main()
