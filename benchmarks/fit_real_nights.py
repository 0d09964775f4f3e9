"""Fit the law that synthetic nights are drawn from to a table of band powers of real nights.

    python -m benchmarks.fit_real_nights --table $SLEEP_REAL_DATA/sleep_edf_bandpowers/sc153.npz

Writes ``datasets/synthetic/real_nights.json``: statistics over subjects, nothing of any one night.
The subjects held out (drawn with a fixed seed) are left out of every number, so that the simulator
can be checked against them. Afterwards run ``benchmarks.calibrate_synthetic``, since events and
mixtures of stages add to what is fitted here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.synthetic_measures import sleep_of
from datasets.band_tables import BandNight, read_table, split_of
from datasets.synthetic.law import PATH, context_of
from utils.files import check_file, refuse_inputs, write_json

N_STAGES, N_VALUES = 5, 10  # 10: bands of Fpz-Cz, then of Pz-Oz
FACTORS = 10
FEWEST = 8  # epochs of a stage, below which a night is no measure of it
ROUNDS = 60  # of filling in stages that a night lacks
RIDGE = 30.0
SHRINK = 0.9  # of correlations: ten of 121 nights are some .09 each by chance
LAGS = (2, 3, 4, 6, 8)  # epochs, at which what is left of a deviation is slow
SLOW_EPOCHS = 28.0  # time constant of slow deviations: N2 falls from 0.57 at 1 epoch to 0.33 at 16
LONGEST = 1300  # epochs of one sleep period; longer ones are several sleeps of a day and a night
SPLIT = {"n_test": 16, "n_val": 12, "seed": 20}  # as make weights splits the table
QUANTILES = (*np.arange(0, 1, 0.05), 0.98, 1.0)


def fit(nights: Sequence[BandNight]) -> dict:
    """Every constant of the law, as plain lists."""
    means = np.stack([stage_figures(night, np.mean) for night in nights])
    filled = with_missing_stages(means.reshape(len(nights), -1)).reshape(means.shape)
    mean, loadings, own, repeat, scores = factors(filled, [night.subject for night in nights])
    usual, effects = context_effects(nights, means)
    slow, fast = deviations(nights, filled, usual, effects)
    signals = {
        "mean_db": mean,
        "loadings_db": loadings,
        "own_db": own,
        "repeat": repeat,
        "trait_loadings": trait_loadings(nights, scores),
        "usual_context": usual,
        "context_db": effects,
        "slow_db": slow,
        "fast_db": fast,
        "slow_epochs": SLOW_EPOCHS,
        "spread_db": np.nanmean([stage_figures(night, np.std) for night in nights], axis=0),
    }
    return {**{k: np.round(v, 3).tolist() for k, v in signals.items()}, **architecture(nights)}


def stage_figures(night: BandNight, figure: Callable) -> np.ndarray:
    """A figure of the decibels (5, 10) of each stage; NaN for a stage of few epochs."""
    figures = np.full((N_STAGES, N_VALUES), np.nan)
    for stage in range(N_STAGES):
        of_stage = eeg_of(night)[night.stages == stage]
        if len(of_stage) >= FEWEST:
            figures[stage] = figure(of_stage, axis=0)
    return figures


def eeg_of(night: BandNight) -> np.ndarray:
    """Both EEGs' bands side by side (n, 10), in double precision: many squares are summed."""
    return night.decibels[:, :2].reshape(len(night.stages), -1).astype(float)


def with_missing_stages(rows: np.ndarray) -> np.ndarray:
    """Rows (nights, 50) with NaN replaced by what the other stages of a night suggest.

    By the principal components of all nights, estimated again with what they filled in.
    """
    missing = np.isnan(rows)
    filled = np.where(missing, np.nanmean(rows, axis=0), rows)
    for _ in range(ROUNDS):
        centre = filled.mean(axis=0)
        u, s, v = np.linalg.svd(filled - centre, full_matrices=False)
        filled = np.where(missing, (u[:, :FACTORS] * s[:FACTORS]) @ v[:FACTORS] + centre, rows)
    return filled


def factors(filled: np.ndarray, subjects: Sequence[str]) -> tuple[np.ndarray, ...]:
    """Mean (5, 10), loadings (5, 10, k), own deviation (5, 10), two nights' correlation, scores."""
    shape = filled.shape[1:]
    rows = filled.reshape(len(filled), -1)
    centre = rows.mean(axis=0)
    u, s, v = np.linalg.svd(rows - centre, full_matrices=False)
    scores = u[:, :FACTORS] * np.sqrt(len(rows) - 1)
    loadings = v[:FACTORS].T * s[:FACTORS] / np.sqrt(len(rows) - 1)
    own = (rows - centre - scores @ loadings.T).std(axis=0)
    first = [(i, k) for i, who in enumerate(subjects) for k in range(i) if subjects[k] == who]
    pairs = scores[[i for i, _ in first]], scores[[k for _, k in first]]
    repeat = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(*(p.T for p in pairs), strict=True)])
    loadings = loadings.reshape(*shape, FACTORS)
    return centre.reshape(shape), loadings, own.reshape(shape), repeat, scores


def trait_loadings(nights: Sequence[BandNight], scores: np.ndarray) -> np.ndarray:
    """How shares of N3, Wake and N1 go with the factors: correlations (3, k), shrunk for chance."""
    traits = []
    for night in nights:
        sleep = sleep_of(night.stages)
        counts = 3 + np.bincount(sleep[sleep >= 0], minlength=N_STAGES)  # 3: none is 0
        deep, light = np.log(counts[3] / counts[2]), np.log(counts[1] / counts[2])
        traits.append((deep, np.log(counts[0] / counts[1:].sum()), light))
    standard = (np.array(traits) - np.mean(traits, axis=0)) / np.std(traits, axis=0)
    return SHRINK * standard.T @ scores / len(nights)


def context_effects(nights: Sequence[BandNight], means: np.ndarray) -> tuple[np.ndarray, ...]:
    """How the stages around an epoch move its decibels: usual context (5, 20), effects (5, 20, 10).

    N2 beside N3 is deeper than N2 beside Wake: by ridge regression within each stage.
    """
    width = context_of(nights[0].stages).shape[1]
    usual, effects = np.zeros((N_STAGES, width)), np.zeros((N_STAGES, width, N_VALUES))
    for stage in range(N_STAGES):
        context, rest = [], []
        for night, of_night in zip(nights, means, strict=True):
            chosen = night.stages == stage
            if chosen.sum() >= FEWEST:
                context.append(context_of(night.stages)[chosen])
                rest.append(eeg_of(night)[chosen] - of_night[stage])
        x, y = np.concatenate(context), np.concatenate(rest)
        usual[stage] = x.mean(axis=0)
        x = x - usual[stage]
        effects[stage] = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
    return usual, effects


def deviations(
    nights: Sequence[BandNight], means: np.ndarray, usual: np.ndarray, effects: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Square roots (5, 10, 10) of the covariances of slow and of fast deviations in each stage.

    What is still correlated some minutes later is slow; the rest of the covariance is fast.
    """
    whole, later = np.zeros((2, N_STAGES, N_VALUES, N_VALUES))
    n_whole, n_later = np.zeros((2, N_STAGES))
    for night, of_night in zip(nights, means, strict=True):
        stage = np.maximum(night.stages, 0)
        moved = np.einsum("ni,nij->nj", context_of(night.stages) - usual[stage], effects[stage])
        rest = eeg_of(night) - of_night[stage] - moved
        for k in range(N_STAGES):
            own = rest[night.stages == k]
            whole[k] += own.T @ own
            n_whole[k] += len(own)
            for lag in LAGS:
                both = (night.stages[:-lag] == k) & (night.stages[lag:] == k)
                grown = np.exp(lag / SLOW_EPOCHS)
                later[k] += grown * rest[:-lag][both].T @ rest[lag:][both]
                n_later[k] += both.sum()
    whole, later = whole / n_whole[:, None, None], later / n_later[:, None, None]
    slow = np.stack([root((c + c.T) / 2) for c in later])
    fast = np.stack([root(w - s @ s) for w, s in zip(whole, slow, strict=True)])
    return slow, fast


def root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root; negative eigenvalues, which estimates have, count as none."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def architecture(nights: Sequence[BandNight]) -> dict:
    """Jumps between stages, lengths of bouts, shares by hour: of nights with one sleep period."""
    jumps, hourly = np.zeros((N_STAGES, N_STAGES)), np.zeros((8, N_STAGES))
    bouts: list[list[int]] = [[] for _ in range(N_STAGES)]
    for sleep in (sleep_of(night.stages) for night in nights):
        if len(sleep) > LONGEST:
            continue
        borders = np.r_[0, np.flatnonzero(np.diff(sleep)) + 1, len(sleep)]
        for first, last in pairwise(borders):
            if sleep[first] >= 0:
                bouts[sleep[first]].append(last - first)
                if last < len(sleep) and sleep[last] >= 0:
                    jumps[sleep[first], sleep[last]] += 1
        for hour in range(8):  # of 120 epochs
            part = sleep[120 * hour : 120 * (hour + 1)]
            hourly[hour] += np.bincount(part[part >= 0], minlength=N_STAGES)
    return {
        "jumps": (jumps / jumps.sum(axis=1, keepdims=True)).round(4).tolist(),
        "bout_shares": np.round(QUANTILES, 2).tolist(),
        "bout_epochs": [np.quantile(b, QUANTILES).round(1).tolist() for b in bouts],
        "hourly": (hourly / hourly.sum(axis=1, keepdims=True)).round(3).tolist(),
    }


def main() -> None:
    """Parse the flags, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="sc153.npz")
    parser.add_argument("--output", type=Path, default=PATH)
    parser.add_argument("--overwrite", action="store_true", help="also what others wrote there")
    args = parser.parse_args()
    refuse_inputs([args.output], [args.table])
    # the law that comes with this project is replaced, and a file that this script wrote
    overwrite = args.overwrite or args.output.resolve() == PATH.resolve()
    check_file(args.output, overwrite=overwrite)
    table = read_table(args.table)
    train, val, out = split_of(table.subjects, **SPLIT)
    fitted = table.of_subjects([*train, *val])
    about = {
        "source": "band powers of Sleep-EDF Expanded cassette nights (PhysioNet, ODC-By 1.0)",
        "nights": len(fitted),
        "held_out_subjects": out,
    }
    write_json(args.output, about | fit(fitted), overwrite=overwrite)
    print(f"{len(fitted)} nights fitted, {len(out)} subjects held out: {args.output}")


if __name__ == "__main__":
    main()
