"""From one EDF to its page: seconds and peak memory of ``predict.py``, as a user runs it.

python -m benchmarks.predicting            # 10 hours of 20 channels at 256 Hz, the default
python -m benchmarks.predicting --hours 8 --n_channels 7 --model yasa

Every row is a process of its own on two threads; the peak includes Python and torch. Where the
default's time goes is printed below: its parts one after the other, each with 12 epochs explained.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

THREADS = "2"
FS = 256
# Linux counts ru_maxrss in kB: printed in GiB
_MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2)
"""


def write_night(path: Path, hours: float, n_channels: int) -> None:
    """Write a night of EEG, EOG, EMG and more, all noise: contents do not change the cost."""
    import edfio  # heavy, and not needed by the process that measures

    rng = np.random.default_rng(0)
    digital = rng.integers(-300, 300, round(hours * 3600) * FS).astype(np.int16)
    digital[:2] = -2048, 2047
    labels = ["EEG C4-M1", "EOG E1-M2", "EMG chin", *(f"X{k}" for k in range(3, n_channels))]
    signals = [
        edfio.EdfSignal.from_digital(
            digital,
            FS,
            label=label,
            physical_dimension="uV",
            physical_range=(-400, 400),
            digital_range=(-2048, 2047),
        )
        for label in labels
    ]
    edfio.Edf(signals, data_record_duration=1).write(path)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print how long what follows takes."""
    started = time.perf_counter()
    yield
    print(f"    {name}: {time.perf_counter() - started:.1f} s", flush=True)


def print_steps(path: str) -> None:
    """Print where the time goes while the default stages a night and explains it."""
    with step("importing predict.py"):
        import torch

        import predict
        from evaluation.stagers import bundled
    with step("opening the weights"):
        stager = bundled.load(bundled.DEFAULT, torch.device("cpu"))
    file, nights = predict.opened(Path(path)), {}
    for part in stager.parts:
        with step(f"staging by {part.stager.name}"):
            nights[part.stager.name] = part.stager.stage(file, predict.Asked())
    with tempfile.TemporaryDirectory() as folder:
        for name, night in nights.items():
            with step(f"12 epochs explained by {name}"):
                night.write_reasons(Path(folder) / name, night.epochs_of_interest(12))


def main(argv: list[str] | None = None) -> None:
    """Time predict.py twice: without and with explanations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--n_channels", type=int, default=20)
    parser.add_argument("--model", nargs="*", default=[])
    args = parser.parse_args(argv)
    environment = os.environ | {"OMP_NUM_THREADS": THREADS}
    with tempfile.TemporaryDirectory() as folder:
        night = Path(folder) / "night.edf"
        write_night(night, args.hours, args.n_channels)
        print(f"{args.hours:g} h, {args.n_channels} channels, {night.stat().st_size / 1e6:.0f} MB")
        for name, wanted in (("without reasons", "False"), ("12 epochs explained", "True")):
            command = [
                sys.executable,
                "predict.py",
                "--edf",
                str(night),
                "--is_interpret",
                wanted,
                "--again",
                "-o",
                folder,
                *(["--model", *args.model] if args.model else []),
            ]
            started = time.perf_counter()
            # started by a small process: a child's peak begins with its parent's size
            done = subprocess.run(
                [sys.executable, "-c", _MEASURED, *command],
                check=True,
                env=environment,
                capture_output=True,
                text=True,
            )
            seconds = time.perf_counter() - started
            print(f"  {name}: {seconds:.1f} s, at most {float(done.stdout):.2f} GiB")
        if not args.model:
            print("  the default's steps:", flush=True)
            steps = f"from benchmarks.predicting import print_steps; print_steps({str(night)!r})"
            subprocess.run([sys.executable, "-c", steps], check=True, env=environment)


if __name__ == "__main__":
    main()
