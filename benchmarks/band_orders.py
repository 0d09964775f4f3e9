"""Orders of five bands: which band an explanation puts first, and what is lost by removing it.

Methods that explain features or bands have no map by which samples could be removed. What all of
them have is an order of bands; with the probability of every subset of bands removed, the deletion
curve of any order is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from interpret.bands import BANDS, components, components_of, exchanged_with
from utils.stages import STAGES

ORDERED = ("delta", "theta", "alpha", "sigma", "beta")
EDGES = tuple(BANDS[name] for name in ORDERED)
MEASURE = "band_deletion_below_random"
# groups of YASA's features that are bands
_GROUPS = {
    "slow waves": "delta",
    "theta": "theta",
    "alpha": "alpha",
    "spindles": "sigma",
    "fast activity": "beta",
}
# by the scoring manual alone; results/explanations_rule.md has the reasons
_RHYTHMS = {
    "W": ("alpha", "beta", "sigma", "theta", "delta"),
    "N1": ("theta", "alpha", "beta", "sigma", "delta"),
    "N2": ("sigma", "delta", "theta", "alpha", "beta"),
    "N3": ("delta", "theta", "sigma", "alpha", "beta"),
    "REM": ("theta", "delta", "alpha", "beta", "sigma"),
}
MODEL_FREE = ("band_energy", "band_deviation", "size_of_deviation", "stage_rhythm")


def below_random(probabilities: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Mean area of all orders of bands less that of the order of ``scores``: (b,).

    ``probabilities`` (b, 2 ** n) as of :func:`without_bands`, ``scores`` (b, n): highest first,
    ties in the order of the bands.
    """
    n = scores.shape[1]
    every = [np.broadcast_to(order, scores.shape) for order in permutations(range(n))]
    chance = np.mean([area(probabilities, orders) for orders in every], axis=0)
    return chance - area(probabilities, np.argsort(-scores, axis=1, kind="stable"))


def area(probabilities: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Area (b,) under the probability while bands are removed in ``orders`` (b, n), first to last.

    ``probabilities`` (b, 2 ** n): bit k of a column's number is set where band k is removed.
    """
    removed = np.cumsum(1 << orders, axis=1)
    columns = np.concatenate([np.zeros_like(removed[:, :1]), removed], axis=1)
    curve = np.take_along_axis(probabilities, columns, axis=1)
    return np.trapezoid(curve, np.linspace(0, 1, columns.shape[1]), axis=1)


def exchanges(night: Tensor, fs: float, epochs: Tensor, others: Tensor) -> Tensor:
    """What each band of ``epochs`` (b,) changes by when it is that of ``others``: (5, b, m, t).

    ``night`` (n, m, t) is continuous. The sum over any bands, added to the epochs, exchanges them.
    """
    own, new = (components_of(night, fs, EDGES, chosen) for chosen in (epochs, others))
    return exchanged_with(own, new, fs) - own


def without_bands(
    stage: Callable[[Tensor], np.ndarray],
    night: Tensor,
    epochs: Tensor,
    classes: np.ndarray,
    changes: Tensor,
) -> np.ndarray:
    """Probabilities (v, b, 2 ** k) of ``classes`` at ``epochs`` (b,) without every subset of bands.

    ``stage`` gives the probabilities (v, n, 5) of v voters for signals (n, m, t): once for each
    subset, with all epochs edited at once. ``changes`` (k, b, m, t) as of :func:`exchanges`. Bit j
    of a column's number is set where band j is exchanged.
    """
    columns = []
    for subset in range(2 ** len(changes)):
        bands = [k for k in range(len(changes)) if subset >> k & 1]
        edited = night.clone()
        edited[epochs] += changes[bands].sum(dim=0)
        columns.append(stage(edited)[:, epochs.numpy(), classes])
    return np.stack(columns, axis=-1)


def contributions_of(method: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """What a method adds to the stage by each band (5,), from its file of arrays.

    Raises:
        ValueError: a method that has no bands.
    """
    if method == "specgrad":
        edges = [tuple(pair) for pair in arrays["edges_hz"].tolist()]
        sums = dict(zip(edges, arrays["bands"].sum(axis=(1, 2)).tolist(), strict=True))
        return np.array([sums.get(edge, 0.0) for edge in EDGES])
    if method == "ig":
        of_bins, hertz = arrays["spectrogram"].sum(axis=(0, 1)), arrays["bins_hz"]
        return np.array([of_bins[(hertz >= low) & (hertz < high)].sum() for low, high in EDGES])
    if method in ("treeshap", "bands"):
        sums = arrays["contributions"].sum(axis=1).tolist()
        named = dict(zip(arrays["groups"].tolist(), sums, strict=True))
        by_band = {_GROUPS.get(group, group): value for group, value in named.items()}
        return np.array([by_band[name] for name in ORDERED])
    raise ValueError(f"{method}: its maps are not split into bands")


def model_free(
    night: Tensor, fs: float, epochs: np.ndarray, stages: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores (b, 5) of bands that know no model, at ``epochs`` (b,) of explained ``stages`` (b,).

    ``night`` (n, 1, t) as recorded.
    """
    # one band at a time: a night of all would be five times as large
    powers = [components(night, fs, [edge])[0].square().mean(dim=(1, 2)) for edge in EDGES]
    decibels = 10 * torch.stack(powers, dim=1).clamp_min(1e-12).log10().numpy()
    above = (decibels - decibels.mean(axis=0))[epochs]
    places = [[_RHYTHMS[STAGES[code]].index(name) for name in ORDERED] for code in stages]
    scores = (decibels[epochs], above, np.abs(above), -np.array(places, float).reshape(-1, 5))
    return dict(zip(MODEL_FREE, scores, strict=True))


def chosen_epochs(
    stages: np.ndarray, per_stage: int, apart: int, rng: np.random.Generator
) -> np.ndarray:
    """Epochs (b,), up to ``per_stage`` of every stage, no two nearer than ``apart``.

    ``stages`` (n,), -1 for epochs that are not to be chosen. One of every stage in turn, the rarest
    first, as they would find no room after the others.
    """
    counts = np.bincount(stages[stages >= 0], minlength=len(STAGES))
    chosen: list[int] = []
    for _ in range(per_stage):
        for code in np.argsort(counts, kind="stable"):
            places = np.flatnonzero(stages == code)
            near = np.abs(places[:, None] - np.array(chosen, int)).min(axis=1, initial=apart)
            if (near >= apart).any():
                chosen.append(int(rng.choice(places[near >= apart])))
    return np.array(sorted(chosen), int)


def of_other_stages(stages: np.ndarray, epochs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each of ``epochs`` (b,) one of another stage, drawn from ``stages`` (n,), -1 for none."""
    pools = [np.flatnonzero((stages >= 0) & (stages != stages[epoch])) for epoch in epochs]
    return np.array([rng.choice(pool) for pool in pools], int)
