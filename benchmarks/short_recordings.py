"""From what length on each part of the default helps: excerpts of simulated nights, by minutes.

    python -m benchmarks.short_recordings            # after make data/weights/raw_compared

Writes ``results/weights/short_recordings.csv``: kappa of every part, and of the means with and
without the parts that compare an epoch with the rest of its night.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mne
import numpy as np
import torch

from datasets.readers.any_file import opened
from datasets.readers.raw_file import RawFile
from evaluation.stagers import bundled
from evaluation.stagers.stager import Asked, Stager, expert_of
from utils.files import check_file, write_table
from utils.metrics import confusion, kappa

MINUTES = (10, 20, 30, 45, 60, 90, 120)
OUTPUT = bundled.BUNDLE.with_name("short_recordings.csv")


def measure(folder: Path, nights: int) -> list[dict]:
    """One row per length: kappa over two excerpts of each night, from its first and second half."""
    parts = bundled.parts()
    stagers = {name: bundled.part_of(about, torch.device("cpu")) for name, about in parts.items()}
    whole_night = [name for name, about in parts.items() if about["night_relative"]]
    counts: dict[tuple[int, str], np.ndarray] = {}
    for path in sorted(folder.glob("*-PSG.edf"))[:nights]:
        raw = mne.io.read_raw_edf(path, include=["EEG Fpz-Cz"], preload=True, verbose="error")
        n = int(raw.times[-1] / 30)
        _, expert = expert_of(opened(path), Asked(), n, [])
        for minutes in MINUTES:
            for first in (n // 4, n // 2):
                chosen = slice(first, min(first + 2 * minutes, n))
                answers = staged(raw, chosen, stagers)
                others = [p for name, p in answers.items() if name not in whole_night]
                answers |= {"mean": np.mean(list(answers.values()), axis=0)}
                answers |= {"mean without " + ", ".join(whole_night): np.mean(others, axis=0)}
                for name, p in answers.items():
                    own = confusion(expert[chosen], p.argmax(axis=1))
                    counts[minutes, name] = counts.get((minutes, name), 0) + own
    names = list(dict.fromkeys(name for _, name in counts))
    return [
        {"minutes": m, "nights": nights, **{k: f"{kappa(counts[m, k]):.3f}" for k in names}}
        for m in MINUTES
    ]


def staged(raw: mne.io.BaseRaw, chosen: slice, stagers: dict[str, Stager]) -> dict:
    """Probabilities (n, 5) of an excerpt by every part."""
    end = chosen.stop * 30 - 1 / raw.info["sfreq"]
    excerpt = RawFile(raw.copy().crop(chosen.start * 30, end))
    asked = Asked(expert="none")
    return {name: stager.stage(excerpt, asked).probabilities for name, stager in stagers.items()}


def main() -> None:
    """Parse the flags, stage the excerpts, write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("data/weights/raw_compared"))
    parser.add_argument("--nights", type=int, default=10)
    args = parser.parse_args()
    check_file(OUTPUT)  # before the long work, not after it
    rows = measure(args.folder, args.nights)
    write_table(OUTPUT, rows)
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
