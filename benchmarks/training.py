"""Training by the script: memory against the number of nights, and a Sleep-EDF-78-sized pass.

python -m benchmarks.training                  # memory, streamed
python -m benchmarks.training --device cuda    # and 196,000 epochs on a GPU
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.reading import make_store
from datasets.store import folds

ROOT = Path(__file__).parents[1]
# a model so small that memory is that of reading nights
SMALL = ["--model_type", "Epoch", "--d_model", "16", "--dim_feedforward", "16"]
NIGHTS_78, EPOCHS_78 = 153, 1283  # 196,299 epochs; Sleep-EDF-78 has 196,350


def store_of(folder: Path, n_nights: int, n_epochs: int) -> Path:
    """A store of random nights with folds."""
    store = make_store(folder, n_nights, n_epochs)
    folds.write(folder / "folds", folds.make("kfold:5:0", store.subjects))
    return folder


def train(store: Path, *words: str) -> tuple[list[dict], float]:
    """Run the script in a process of its own: metrics, and its peak resident memory in MB."""
    with tempfile.TemporaryDirectory() as project:
        paths = ["--data_path", str(store), "--project_path", project, "--logger", "csv"]
        command = [sys.executable, str(ROOT / "cmt_training.py"), *paths, *words]
        # wait4 has the peak of this child; getrusage would have the largest of all so far
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        # the child is gone: Popen must not wait for it again
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"cmt_training.py left with {process.returncode}")
        lines = next(Path(project).glob("*/metrics.jsonl")).read_text().splitlines()
    return [json.loads(line) for line in lines], usage.ru_maxrss / 1024


def report_memory() -> None:
    """One pass with a budget of 0: nothing is kept, whatever the number of nights."""
    print("peak resident memory of one streamed pass (cmt_training.py --budget_gb 0)")
    for n_nights in (10, 20, 40, 80):
        with tempfile.TemporaryDirectory() as folder:
            store = store_of(Path(folder), n_nights, 1000)
            words = [*SMALL, "--n_epochs", "1", "--budget_gb", "0", "--accelerator", "cpu"]
            rows, peak = train(store, *words)
            size = n_nights * 24  # MB: 1000 epochs, two channels, 100 Hz, float32
            print(f"  {n_nights:>3} nights, {size:>5} MB: {peak:6.0f} MB  {rows[0]['seconds']} s")


def report_sleep_edf_78() -> None:
    """Passes of the shared Seq model over a store as large as Sleep-EDF-78, on the GPU."""
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), NIGHTS_78, EPOCHS_78)
        n_epochs = NIGHTS_78 * EPOCHS_78
        print(f"passes over {n_epochs:,} epochs, cmt_training.py --model_type Seq")
        for words in ("--batch_size 32", "--batch_size 256", "--batch_size 256 --compile"):
            rows, _ = train(store, "--model_type", "Seq", "--n_epochs", "3", *words.split())
            # four folds of five train, hence 5/4; the first pass warms up
            seconds = min(row["seconds"] for row in rows[1:]) * 5 / 4
            print(f"  {words:<28}{seconds:6.1f} s, 200 passes {200 * seconds:,.0f} s")


def main() -> None:
    """Report memory, then passes on a GPU if one is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    report_memory()
    if args.device == "cuda":
        report_sleep_edf_78()


if __name__ == "__main__":
    main()
