"""Random epochs and sequences beside a bare memory map, and memory over a store too big for it.

python -m benchmarks.reading
"""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.side_by_side import one_core, resident_mb, seconds
from datasets.readers.recording import Recording
from datasets.store.preparation import PreparedNight, Settings, StoredChannel
from datasets.store.store import Store, finish, write_night
from datasets.store.views import View

N_NIGHTS, N_EPOCHS, FS = 60, 1000, 100
CHANNELS = (
    StoredChannel("EEG Fpz-Cz", "EEG", "uV", FS, None),
    StoredChannel("EOG horizontal", "EOG", "uV", FS, None),
)


def make_store(
    path: Path, n_nights: int = N_NIGHTS, n_epochs: int = N_EPOCHS, copy: Any = shutil.copyfile
) -> Store:
    """A store of random nights, 1.4 GB by default; one is drawn, the others are copies.

    With ``os.link`` for ``copy`` all nights share one file of signals, for listing thousands.
    """
    settings = Settings("benchmark", "keep_all", ("EEG", "EOG"))
    rng = np.random.default_rng(0)
    signals = rng.standard_normal((n_epochs, 2, FS * 30), dtype=np.float32)
    stages = rng.integers(0, 5, n_epochs).astype(np.int8)
    night = Recording("N000", "S000", 1, {}, (), stages, None)
    source = path / "source.txt"
    source.write_text("none")
    write_night(
        path / "nights",
        PreparedNight(night, CHANNELS, {FS: signals}, stages, 0),
        settings,
        [source],
    )
    # copies do: the cost of reading does not depend on what the samples are
    first = path / "nights" / "N000"
    for number in range(1, n_nights):
        name = f"N{number:03d}"
        own = shutil.ignore_patterns("night.json")
        shutil.copytree(first, path / "nights" / name, copy_function=copy, ignore=own)
        # ids are part of the description; every night is of another subject
        facts = (first / "night.json").read_text().replace("N000", name).replace("S000", f"S{name}")
        (path / "nights" / name / "night.json").write_text(facts)
    return finish(path, settings, "benchmark")


def bare_memory_map(
    store: Store, windows: list[tuple[np.ndarray, np.ndarray]], length: int
) -> None:
    """The least any code must do: copy the same windows out of memory maps."""
    maps = [store.night(recording).signals() for recording in store.recordings]
    for nights, first in windows:
        out = np.empty((len(nights), length, 2, FS * 30), np.float32)
        for row, (night, start) in enumerate(zip(nights, first, strict=True)):
            out[row] = maps[night][start : start + length]


def main() -> None:
    """Memory while a store beyond the budget is streamed, then ratios of time."""
    one_core()
    torch.set_num_threads(1)  # two threads on one core wait for each other: 40 times as long
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder))
        # 1.4 GB of signals against 0.1 GB: streamed; standardising would not be in the bare copy
        view = View(store, list(store.recordings), standardise="none", budget_gb=0.1)
        report_memory(view)  # first: a resident view would raise the level it starts from
        whole = View(store, list(store.recordings)[:20], standardise="none", budget_gb=4)
        for name, length, batch_size in (("epochs", 1, 256), ("sequences of 21", 21, 16)):
            print(compare(store, view, length, batch_size).format(name=name))
        for name, length, batch_size in (("epochs", 1, 256), ("sequences of 21", 21, 16)):
            batches = partial(whole.sequences, length, batch_size=batch_size, seed=1)
            taken = seconds({"resident": lambda batches=batches: list_all(batches())}, 3)
            print(f"{name:<16} of 20 nights, resident: {taken['resident']:.3f} s")


def compare(store: Store, view: View, length: int, batch_size: int) -> str:
    """One line: the same random windows from bare maps and from the streamed view."""
    # the same seed lists the same windows each time
    batches = partial(view.sequences, length, batch_size=batch_size, seed=1)
    windows = [(batch.nights, batch.first) for batch in batches()]
    taken = seconds(
        {
            "map": lambda: bare_memory_map(store, windows, length),
            "view": lambda: list_all(batches()),
        },
        3,
    )
    ratio = taken["view"] / taken["map"]
    return (
        f"{{name:<16}} of {N_NIGHTS} nights: bare map {taken['map']:.2f} s   "
        f"streamed {taken['view']:.2f} s   ratio {ratio:.2f} (limit 2)"
    )


def list_all(batches) -> None:
    """Take every batch."""
    for _ in batches:
        pass


def report_memory(view: View) -> None:
    """Resident memory after each tenth of a pass over the streamed store."""
    # rounded up: the last batch may be smaller
    n_batches = -(-view.n_epochs // 256)
    seen = []
    for number, _ in enumerate(view.epochs(256, seed=2)):
        if number % (n_batches // 10) == 0:
            seen.append(resident_mb())
    size = 4 * view.n_epochs * 2 * FS * 30 / 1e6
    print(f"store of {size:.0f} MB, streamed: resident memory over one pass, MB:")
    print("  " + "  ".join(f"{mb:.0f}" for mb in seen))


if __name__ == "__main__":
    main()
