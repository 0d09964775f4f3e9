"""Training by the scripts: memory against the number of nights, and a cohort like Sleep-EDF-78.

python -m benchmarks.training                  # memory, streamed, of small cohorts
python -m benchmarks.training --cohort         # 155 nights, streamed beside resident: half an hour
python -m benchmarks.training --cohort --nights 6 --epochs 100
python -m benchmarks.training --device cuda    # and 199,000 epochs on a GPU
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.opening import steps
from benchmarks.reading import make_store
from benchmarks.side_by_side import peak_mb
from datasets.store import folds

# a model so small that memory is that of reading nights
SMALL = ["cmt_training.py", "--model_type", "Epoch", "--d_model", "16", "--dim_feedforward", "16"]
SEQ = ["cmt_training.py", "--model_type", "Seq"]
# validated once per pass, as the transformer is
SEQSLEEPNET = ["staging_training.py", "-e", "seqsleepnet", "-vci", "0", "--channels", "EEG", "EOG"]
# 155 tapes of 22 h, of which the usual protocol keeps 198,865 epochs; Sleep-EDF-78 has 199,352
NIGHTS_78, EPOCHS_78 = 155, 1283
STREAMED, RESIDENT = ("--budget_gb", "0"), ("--budget_gb", "100")


@dataclass(frozen=True)
class Trained:
    """Seconds of every pass, epochs trained on per pass, and peak resident memory in MB."""

    seconds: list[float]
    n_epochs: int
    peak: float

    @property
    def speed(self) -> float:
        """Epochs per second of the quickest pass."""
        return self.n_epochs / min(self.seconds)


def store_of(
    folder: Path, n_nights: int, n_epochs: int, copy: Callable[..., Any] = shutil.copyfile
) -> Path:
    """A store of random nights with folds; with ``os.link`` for ``copy`` they share one file."""
    store = make_store(folder, n_nights, n_epochs, copy)
    folds.write(folder / "folds", folds.make("kfold:5:0", store.subjects))
    return folder


def train(store: Path, *words: str) -> Trained:
    """Run a training script in a process of its own."""
    with tempfile.TemporaryDirectory() as project:
        paths = ["--data_path", str(store), "--project_path", project, "--logger", "csv"]
        peak = peak_mb([sys.executable, *words, *paths])
        run = next(Path(project).glob("*/metrics.jsonl")).parent
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        trained = json.loads((run / "run.json").read_text())["subjects"]["train"]
    # every night is of a subject of its own
    n_epochs = len(trained) * epochs_per_night(store)
    return Trained([row["seconds"] for row in rows], n_epochs, peak)


def epochs_per_night(store: Path) -> int:
    """Epochs of the first night; the others are its copies."""
    return json.loads((store / "nights" / "N000" / "night.json").read_text())["n_epochs"]


def report_memory() -> None:
    """One pass with a budget of 0: nothing is kept, whatever the number of nights."""
    print("peak resident memory of one streamed pass (cmt_training.py --budget_gb 0)")
    for n_nights in (10, 20, 40, 80):
        with tempfile.TemporaryDirectory() as folder:
            store = store_of(Path(folder), n_nights, 1000)
            done = train(store, *SMALL, *STREAMED, "--n_epochs", "1", "--accelerator", "cpu")
            size = n_nights * 24  # MB: 1000 epochs, two channels, 100 Hz, float32
            print(f"  {n_nights:>3} nights, {size:>5} MB: {done.peak:6.0f} MB  {done.seconds[0]} s")


def report_cohort(n_nights: int, n_epochs: int) -> None:
    """A pass of two models on a CPU, streamed beside resident, and the wait for the first batch."""
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), n_nights, n_epochs)
        size = n_nights * n_epochs * 24e-6
        print(f"{n_nights} nights of {n_epochs} epochs, {size:.1f} GB, one pass on the CPU")
        started = time.perf_counter()
        list(steps(store))
        print(
            f"store, folds, views and first batch, streamed: {time.perf_counter() - started:.2f} s"
        )
        print("| model | | epochs/s | of resident | peak MB |\n|---|---|---|---|---|")
        for name, words in (("sequence CMT", SEQ), ("SeqSleepNet", SEQSLEEPNET)):
            usual = [*words, "--n_epochs", "1", "--accelerator", "cpu"]
            resident, streamed = (train(store, *usual, *b) for b in (RESIDENT, STREAMED))
            for how, done in (("resident", resident), ("streamed", streamed)):
                share = done.speed / resident.speed
                print(f"| {name} | {how} | {done.speed:.0f} | {share:.0%} | {done.peak:.0f} |")


def report_gpu() -> None:
    """Passes of the shared Seq model over a store as large as Sleep-EDF-78, on the GPU."""
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), NIGHTS_78, EPOCHS_78)
        n_epochs = NIGHTS_78 * EPOCHS_78
        print(f"passes over {n_epochs:,} epochs, cmt_training.py --model_type Seq")
        for words in ("--batch_size 32", "--batch_size 256", "--batch_size 256 --compile"):
            done = train(store, *SEQ, "--n_epochs", "3", *words.split())
            # the first pass warms up
            seconds = n_epochs / done.speed
            print(f"  {words:<28}{seconds:6.1f} s, 200 passes {200 * seconds:,.0f} s")


def main() -> None:
    """Report memory, or a large cohort, or passes on a GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--cohort", action="store_true", help="only streamed beside resident")
    parser.add_argument("--nights", type=int, default=NIGHTS_78, help="of --cohort")
    parser.add_argument("--epochs", type=int, default=EPOCHS_78, help="of each of its nights")
    args = parser.parse_args()
    if args.cohort:
        report_cohort(args.nights, args.epochs)
        return
    report_memory()
    if args.device == "cuda":
        report_gpu()


if __name__ == "__main__":
    main()
