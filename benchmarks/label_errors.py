"""Epochs for a second look on simulated nights: are wrong stages ranked first, by the default?

python -m benchmarks.label_errors                                  # nights of make weights
python -m benchmarks.label_errors --recordings data/demo/sleepedf --output table.csv

Errors are planted in the expert's stages, and those of the simulated scorer are known: where they
differ from the stage that the signal follows. A quarter of the nights fits the temperature alone.
Prototypes of the default are compared with the nearest epochs in band powers.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.readers.any_file import opened
from evaluation.staged_file import StagedFile
from evaluation.stagers import bundled
from evaluation.stagers.stager import Asked
from interpret.label_errors import Evidence, evaluated, scored
from interpret.prototype_report import compared
from interpret.prototypes import encoded
from interpret.scoreboard import Score, summarise
from interpret.second_look import decibels_of, fitted_temperature, shares_of_alike, with_alike
from utils.files import write_table
from utils.stages import STAGES

_HZ = 100.0  # of what the default's networks read


def main(argv: list[str] | None = None) -> None:
    """Stage the nights, evaluate every ranking and the prototypes, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=Path, default=Path("data/weights/raw_compared"))
    parser.add_argument("--output", type=Path, help="table to write")
    args = parser.parse_args(argv)
    stager = bundled.load(bundled.DEFAULT, torch.device("cpu"))
    network = stager.parts[0].stager
    files = sorted(args.recordings.glob("*-PSG.edf"))
    nights = [stager.stage(opened(path), Asked()) for path in files]
    n_fitted = len(nights) // 4
    powers = [decibels_of(night.signals[:, 0].cpu().numpy(), _HZ)[1] for night in nights]
    combined = [
        with_alike(night.probabilities, shares_of_alike(decibels, night.expert))
        for night, decibels in zip(nights[:n_fitted], powers, strict=False)
    ]
    expert = np.concatenate([night.expert for night in nights[:n_fitted]])
    temperature = fitted_temperature(np.concatenate(combined), expert)
    print(f"temperature {temperature:.2f} by {n_fitted} nights, tested on {len(nights) - n_fitted}")
    scores: list[Score] = []
    rng = np.random.default_rng(0)
    evidence = []
    tested = zip(files[n_fitted:], nights[n_fitted:], powers[n_fitted:], strict=True)
    for path, night, decibels in tested:
        own = (path.stem[:5], night.probabilities, decibels)
        evidence.append(Evidence(*own, night.expert, temperature))
        truth = np.where(night.expert >= 0, latent_of(path, len(night.expert)), -1)
        scores += scored(Evidence(*own, truth, temperature), night.expert, "scorer's own", rng)
        scores += of_prototypes(network, night, decibels, path.stem[:5])
    rows = summarise([*evaluated(evidence), *scores])
    for row in rows:
        shown = f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        print(f"{row['measure']:<11}{row['stage']:<17}{row['method']:<40}{shown}")
    if args.output:
        write_table(args.output, rows)


def latent_of(path: Path, n: int) -> np.ndarray:
    """The stage (n,) that the simulated signal of a recording follows."""
    table = path.with_name(path.name.replace("-PSG.edf", "_epochs.tsv"))
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return np.array([STAGES.index(row["latent_stage"]) for row in rows[:n]])


def of_prototypes(
    network: Any, night: StagedFile, decibels: np.ndarray, subject: str
) -> list[Score]:
    """Whether the nearest prototype of the network, if it has some, has the expert's stage."""
    if network.prototypes is None:
        return []
    z = encoded(network.net, night.signals, np.arange(len(night.signals)))
    return list(compared(network.prototypes, z, decibels, night.expert, subject))


if __name__ == "__main__":
    main()
