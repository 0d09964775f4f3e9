"""What a network of one EEG would need to see N3: the least edits that lead there, in N3 and N2.

    git show 8879eec:results/weights/one_eeg.pt > one_eeg.pt
    cd $SLEEP_REAL_DATA/ucddb_partial && NIGHTS=$(ls -d $PWD/*.npz) && cd -
    python -m benchmarks.missed_n3 --weights one_eeg.pt --nights $NIGHTS --output missed_n3.csv

Real nights are known in part, Wake and N3; of simulated ones (``*-PSG.edf``) N2 is edited.
Prints and writes what separates the expert's stages in the signals, one row for each night.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from unittest.mock import patch

import mne
import numpy as np
import torch
from scipy import signal

from datasets.readers import partial_night
from datasets.readers.any_file import opened
from datasets.store import equalisation
from datasets.store.filters import resample
from datasets.store.preparation import formerly_equalised
from evaluation.stage import load_staging_model
from evaluation.stagers.stager import Asked, expert_of
from interpret.counterfactual_words import amount_words, row_of
from interpret.counterfactuals import least, outcomes_of, search_of
from interpret.explained_night import ExplainedNight
from interpret.playing import player_of
from utils.checkpoint import load_checkpoint
from utils.files import write_table
from utils.staged_night import StagedNight, stage_signals
from utils.stages import EPOCH_SECONDS, STAGES

FS = 100
N2, N3 = STAGES.index("N2"), STAGES.index("N3")
_CONTRASTS = ("slow waves", "spindles", "delta power", "theta power", "sigma power", "beta power")


def night_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Samples of one EEG at 100 Hz, 0 where none were recorded, and the expert's stages."""
    if path.suffix == ".npz":
        file, expert = partial_night.read(path)
        (channel,) = file.channels
        samples, fs = file.read(channel.label, 0, file.seconds), channel.fs
    else:
        raw = mne.io.read_raw_edf(path, include=["EEG Fpz-Cz"], preload=True, verbose="error")
        samples, fs = raw.get_data()[0] * 1e6, raw.info["sfreq"]
        _, expert = expert_of(opened(path), Asked(), int(len(samples) / fs / EPOCH_SECONDS), [])
    return resample(samples, fs, FS)[: len(expert) * EPOCH_SECONDS * FS], expert


def median_density(samples: np.ndarray, fs: float) -> tuple[np.ndarray, np.ndarray, int]:
    """As ``equalisation.middle_density``, about the median, as it was when ``one_eeg`` was made."""
    epochs = samples.reshape(-1, EPOCH_SECONDS * round(fs))
    epochs = epochs[epochs.std(axis=1) > 1e-6]
    hertz, density = signal.welch(epochs, fs, nperseg=round(4 * fs))
    return hertz, np.log10(np.median(density, axis=0) + 1e-12), len(epochs)


def prepared(samples: np.ndarray, expert: np.ndarray, *, about_median: bool) -> torch.Tensor:
    """Equalised epochs (n, 1, t), those without a signal replaced by the nearest that has one."""
    recorded = np.flatnonzero(samples.reshape(len(expert), -1).std(axis=1) > 1e-6)
    density = median_density if about_median else equalisation.middle_density
    # nothing else takes the former equalisation, which no weights of today were made by
    with patch.object(equalisation, "middle_density", density):
        line = equalisation.equalise(samples, FS, unit_known=False)
    every = np.arange(len(expert))
    nearest = recorded[np.abs(every[:, None] - recorded).argmin(axis=1)]
    epochs = line.reshape(len(expert), 1, -1)[nearest]
    return torch.from_numpy(epochs.astype(np.float32))


def measure(weights: Path, path: Path, most: int, seed: int = 0) -> dict[str, object]:
    """One night: stages of the expert's N3, contrasts, and the least edits that lead to N3."""
    checkpoint = load_checkpoint(weights)
    model = load_staging_model(checkpoint)
    samples, expert = night_of(path)
    former = formerly_equalised(checkpoint.training.preparation)
    x = prepared(samples, expert, about_median=former)
    staged = StagedNight(path.stem, "", stage_signals(model, x).numpy(), expert)
    night = ExplainedNight(staged, x, np.zeros(1), np.ones(1), ("EEG",), ("EEG",), "µV", {})
    search = search_of(night, player_of(model, x), wanted=N3, seed=seed)
    other = 0 if path.suffix == ".npz" else N2
    missed = (expert == (N3 if path.suffix == ".npz" else N2)) & (staged.stages != N3)
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(missed))[:most].tolist()
    edits = [least(outcomes) for outcomes in outcomes_of(search, chosen)] if chosen else []
    values = {one.activity.name: one for one in search.measured}
    return {
        "night": path.stem,
        "n3": int((expert == N3).sum()),
        "staged": np.bincount(staged.stages[expert == N3], minlength=5).tolist(),
        "contrast_sd": {
            name: round(
                float(
                    np.mean(values[name].values[expert == N3])
                    - np.mean(values[name].values[expert == other])
                )
                / values[name].sd,
                2,
            )
            for name in _CONTRASTS
        },
        "slow_wave_time": {
            STAGES[code]: round(float(np.median(values["slow waves"].values[expert == code])), 1)
            for code in (other, N3)
        },
        "tried": len(chosen),
        "reached": sum(edit is not None for edit in edits),
        "edits": [amount_words(row_of(edit)) for edit in edits if edit is not None],
        "deviations": [round(edit.deviations, 2) for edit in edits if edit is not None],
    }


def main() -> None:
    """Print one row for each night."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--nights", type=Path, nargs="+", required=True)
    parser.add_argument("--epochs", type=int, default=5, help="of each night that are edited")
    parser.add_argument("--output", type=Path, help="table to write")
    args = parser.parse_args()
    rows = []
    for path in args.nights:
        rows.append(measure(args.weights, path, args.epochs))
        for name, value in rows[-1].items():
            print(f"{name:16}{value}")
        print()
    if args.output:
        write_table(args.output, rows)


if __name__ == "__main__":
    main()
