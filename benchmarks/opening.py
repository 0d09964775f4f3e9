"""Ten thousand nights: opening the store, listing its folds, drawing the first batch.

python -m benchmarks.opening                  # 10,000 nights of 8 h, which share one file
python -m benchmarks.opening --nights 500
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.reading import make_store
from benchmarks.side_by_side import resident_mb
from datasets.store import folds, splits
from datasets.store.store import Store
from datasets.store.views import View

ROOT = Path(__file__).parents[1]
N_NIGHTS, N_EPOCHS = 10_000, 960
MOST_SECONDS, MOST_MB = 10, 1500


def steps(path: Path) -> Iterator[str]:
    """What a training does before its first step, in order: the name of each part once it is done.

    The batch is one of the cross-modal transformer's: 4 runs of 22 epochs, windows 1 apart.
    """
    store = Store(path)
    yield "store"
    table = splits.find_table(store, None)
    split = splits.split(table, range(4), [4], share=0.1, seed=0)
    yield "folds"
    view = View(store, store.of_subjects(split.train), budget_gb=0.0)
    View(store, store.of_subjects(split.validation), budget_gb=0.0)
    yield "views"
    batches = view.sequences(22, stride=8, batch_size=4, seed=[0, 0], jitter=True)
    next(iter(batches.for_process(0, 1)))
    yield "first batch"


def report_own(path: Path) -> None:
    """Print seconds and resident MB after every step of this process, as JSON."""
    rows, started = [["Python and torch", None, resident_mb()]], time.perf_counter()
    for name in steps(path):
        rows.append([name, time.perf_counter() - started, resident_mb()])
        started = time.perf_counter()
    print(json.dumps(rows))


def measured(path: Path) -> tuple[list[list], float]:
    """Steps in a process of its own, and its peak resident memory in MB."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.opening", "--store", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    rows = json.loads(process.stdout.read())
    # wait4 has the peak of this child; getrusage would have the largest of all so far
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    # what the steps did not take
    rows[0][1] = time.perf_counter() - started - sum(seconds for _, seconds, _ in rows[1:])
    return rows, usage.ru_maxrss / 1024


def main() -> None:
    """Make the store, open it in a process of its own, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--nights", type=int, default=N_NIGHTS)
    parser.add_argument("--store", type=Path, help="only open this store, and report as JSON")
    args = parser.parse_args()
    if args.store:
        report_own(args.store)
        return
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), args.nights, N_EPOCHS, copy=os.link)
        started = time.perf_counter()
        folds.write(store.path / "folds", folds.make("kfold:5:0", store.subjects))
        made = time.perf_counter() - started
        rows, peak = measured(store.path)
    print(f"{args.nights:,} nights of {N_EPOCHS} epochs; their folds are made in {made:.2f} s")
    print("| done | s | resident MB |\n|---|---|---|")
    for name, seconds, mb in rows:
        print(f"| {name} | {seconds:.2f} | {mb:.0f} |")
    total = sum(seconds for _, seconds, _ in rows[1:])
    print(
        f"| **after the imports** (limit {MOST_SECONDS}; {MOST_MB:,}) | {total:.2f} | {peak:.0f} |"
    )


if __name__ == "__main__":
    main()
