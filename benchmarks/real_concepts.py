"""Concepts that a network of one EEG uses on real nights, of which Wake and N3 are known.

    python -m benchmarks.real_concepts --weights results/weights/spectra_0.pt \\
        --nights $SLEEP_REAL_DATA/ucddb_partial/*.npz --output real_concepts

Directions are learned on every second night and tested on the others. The signals name no unit:
slow waves are detected in the microvolts of the equalised ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.missed_n3 import night_of, prepared
from evaluation.stage import load_staging_model
from interpret import explanation_flags
from interpret.concept_run import NightAndWithout, write_concepts
from interpret.detected import SOURCE, detect
from interpret.explained_night import ExplainedNight
from utils.arguments import ScriptParser, settings_from
from utils.checkpoint import load_checkpoint
from utils.staged_night import StagedNight, stage_signals


def opened(model: torch.nn.Module, paths: Sequence[Path]) -> Iterator[NightAndWithout]:
    """Equalised nights, staged, with what yasa detects; no night without events is known."""
    for path in paths:
        samples, expert = night_of(path)
        x = prepared(samples, expert, about_median=False)
        probabilities = stage_signals(model, x).numpy()
        staged = StagedNight(path.stem, path.stem, probabilities, expert)
        one = (np.zeros(1), np.ones(1), ("EEG",), ("EEG",), "µV")
        events = detect(ExplainedNight(staged, x, *one, {}))
        yield ExplainedNight(staged, x, *one, events, SOURCE), ()


def main() -> None:
    """Write the table and its figure, and print the rules."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--nights", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    defaults = ScriptParser("")
    explanation_flags.add_flags(defaults)
    flags = settings_from(defaults.parse([]), explanation_flags.ExplanationFlags)
    model = load_staging_model(load_checkpoint(args.weights))
    paths = sorted(args.nights)
    nights = (opened(model, paths[::2]), opened(model, paths[1::2]))
    about = {"headline": f"{args.weights.name}, {len(paths)} real nights, Wake and N3"}
    write_concepts(args.output, flags, model, nights, about)


if __name__ == "__main__":
    main()
