"""Prototypes: epochs of training nights that lie nearest to an epoch in a model's latent space.

The latent space is that of single epochs, ``encode_epochs`` of the model: what it makes of an epoch
before it knows the neighbours. Distances are Euclidean, every dimension by its SD.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpret.neighbours import nearest
from interpret.second_look import decibels_of, eeg_of
from utils.errors import UserError
from utils.files import write_arrays
from utils.signals import slowed
from utils.stages import STAGES

METHOD = "prototypes"
BUNDLED = "prototypes.npz"
GATHERED, PER_STAGE = 200, 30  # epochs of every stage: of which the medoids are taken, and those
_FROZEN = 1e-6  # SD of a dimension that hardly varies
_ROUNDS = 20  # in which medoids may move
_TEXTS = ("unit", "weights")
_REMEDY = "bundle_prototypes.py makes them"


@dataclass(frozen=True)
class Prototypes:
    """Epochs of training nights with an expert's stage, encoded by a model.

    ``z`` (k, d), ``stages`` (k,), ``decibels`` (k, bands) of the first EEG, ``traces`` (k, m, t) in
    ``unit`` at 40 Hz or less, ``recordings`` and ``epochs`` (k,) they are of. ``weights`` is the
    fingerprint of the model.
    """

    z: np.ndarray
    stages: np.ndarray
    decibels: np.ndarray
    traces: np.ndarray
    recordings: np.ndarray
    epochs: np.ndarray
    unit: str = ""
    weights: str = ""

    def some(self, rows: np.ndarray) -> Prototypes:
        """The prototypes of these rows."""
        kept = {
            name: value[rows] if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }
        return Prototypes(**kept)

    def nearest(self, z: np.ndarray, k: int = 2) -> tuple[np.ndarray, np.ndarray]:
        """Distances and row numbers, both (n, k), of the prototypes nearest to z (n, d)."""
        mean, sd = self.z.mean(axis=0), np.maximum(self.z.std(axis=0), _FROZEN)
        return nearest((self.z - mean) / sd, (z - mean) / sd, k)

    def nearest_powers(self, decibels: np.ndarray) -> np.ndarray:
        """Row numbers (n,) of the prototypes of nearest log band powers; no model is asked.

        ``decibels`` (n, bands) without NaN.
        """
        known = np.flatnonzero(np.isfinite(self.decibels).all(axis=1))
        own = self.decibels[known]
        mean, sd = own.mean(axis=0), np.maximum(own.std(axis=0), _FROZEN)
        return known[nearest((own - mean) / sd, (decibels - mean) / sd, 1)[1][:, 0]]

    @property
    def typical(self) -> float:
        """Median distance of a prototype to the nearest other one: far is what lies beyond it."""
        return float(np.median(self.nearest(self.z)[0][:, -1]))


def allows(model: Any) -> bool:
    """Whether a model encodes epochs on their own."""
    return model.stages_epochs and model.separable


@torch.no_grad()
def encoded(model: Any, signals: Tensor, rows: np.ndarray, at_once: int = 256) -> np.ndarray:
    """Encodings (b, d) of the epochs ``rows`` (b,) of a night's signals (n, m, t)."""
    model.eval()
    model.adapt_to_night(signals)
    chosen = signals[torch.from_numpy(rows).to(signals.device)]
    return torch.cat([model.encode_epochs(part) for part in chosen.split(at_once)]).cpu().numpy()


def gathered(model: Any, view: Any, *, per_stage: int = GATHERED) -> Prototypes:
    """Encode scored epochs of a view's recordings, up to ``per_stage`` of every stage in all.

    They are drawn by a fixed seed, equally many of every recording as long as there are enough.
    """
    rng, parts, nights = np.random.default_rng(0), [], len(view.recordings)
    eeg = eeg_of([channel.role for channel in view.channels])
    for recording, signals, stages in view.whole_nights():
        rows = drawn(stages.cpu().numpy(), max(1, per_stage // nights), rng)
        mean, sd = view.moments(recording)
        chosen = signals[torch.from_numpy(rows).to(signals.device)].cpu().numpy()
        physical = chosen * sd[:, None] + mean[:, None]
        parts.append(
            {
                "z": encoded(model, signals, rows),
                "stages": stages.cpu().numpy()[rows],
                "decibels": decibels_of(physical[:, eeg], view.fs)[1],
                "traces": slowed(physical).astype(np.float32),
                "recordings": np.full(len(rows), recording),
                "epochs": rows,
            }
        )
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Prototypes(**arrays, unit=unit_of(view))


def unit_of(view: Any) -> str:
    """Unit of a view's signals, brought back to their scale, for pictures."""
    return view.channels[0].unit.replace("uV", "µV") or "no unit"


def drawn(stages: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Up to ``n`` epochs of every stage (sorted numbers) of a night's ``stages`` (n,)."""
    of_stage = (np.flatnonzero(stages == code) for code in range(len(STAGES)))
    return np.sort(np.concatenate([rng.permutation(rows)[:n] for rows in of_stage])).astype(int)


def medoids(z: np.ndarray, k: int) -> np.ndarray:
    """Row numbers (k,) of the epochs that stand for k clusters of z (n, d), in order.

    Begins with the rows nearest to the centres of k-means; then every medoid moves to the row of
    its cluster that has the least sum of distances, until none moves (Park & Jun 2009).
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import pairwise_distances

    if len(z) <= k:
        return np.arange(len(z))
    centres = KMeans(k, n_init=1, random_state=0).fit(z).cluster_centers_
    distances = pairwise_distances(z)
    chosen = np.unique(pairwise_distances(z, centres).argmin(axis=0))
    for _ in range(_ROUNDS):
        cluster = distances[:, chosen].argmin(axis=1)
        # of two that are the same point, one has no cluster
        members = [np.flatnonzero(cluster == j) for j in np.unique(cluster)]
        moved = np.array([own[distances[np.ix_(own, own)].sum(axis=1).argmin()] for own in members])
        if np.array_equal(moved, chosen):
            break
        chosen = moved
    return np.sort(chosen)


def thinned(prototypes: Prototypes, per_stage: int = PER_STAGE) -> Prototypes:
    """The medoids of every stage, up to ``per_stage``."""
    sd = np.maximum(prototypes.z.std(axis=0), _FROZEN)
    kept = []
    for code in range(len(STAGES)):
        own = np.flatnonzero(prototypes.stages == code)
        kept.append(own[medoids(prototypes.z[own] / sd, per_stage)] if len(own) else own)
    return prototypes.some(np.concatenate(kept))


def save(path: Path, prototypes: Prototypes) -> None:
    """Write prototypes as ``.npz``: encodings in half precision, traces in 8 bits."""
    scale = np.abs(prototypes.traces).max(axis=2, keepdims=True).clip(1e-6)
    arrays = asdict(prototypes) | {
        "z": prototypes.z.astype(np.float16),
        "decibels": prototypes.decibels.astype(np.float32),
        "traces": np.round(127 * prototypes.traces / scale).astype(np.int8),
        "scale": scale.astype(np.float32),
    }
    write_arrays(path, {name: np.asarray(value) for name, value in arrays.items()})


def read_from(arrays: Mapping[str, np.ndarray], path: Path) -> Prototypes:
    """Prototypes of the arrays that :func:`save` wrote to ``path``.

    Raises:
        UserError: they are those of another file, or damaged.
    """
    names = [one.name for one in fields(Prototypes)]
    if lacking := sorted({*names, "scale"} - set(arrays)):
        raise UserError(f"{path}: no prototypes: no {lacking[0]}; {_REMEDY}")
    kept = {name: arrays[name] for name in names}
    k, kinds = kept["z"].shape[:1], {name: kept[name].dtype.kind for name in names}
    shapes = {name: kept[name].shape for name in names}
    fit = all(shapes[name][:1] == k for name in names if name not in _TEXTS)
    fit &= [len(shapes[name]) for name in ("z", "decibels", "traces")] == [2, 2, 3]
    fit &= arrays["scale"].shape == (*shapes["traces"][:2], 1) and k != (0,)
    fit &= "".join(kinds[name] for name in ("z", "decibels", "traces")) == "ffi"
    stages = kept["stages"]
    if not fit or stages.dtype.kind != "i" or not np.isin(stages, range(len(STAGES))).all():
        raise UserError(f"{path}: its arrays are no prototypes; {_REMEDY}")
    texts = {name: str(kept[name]) for name in _TEXTS}
    traces = kept["traces"] * (arrays["scale"] / np.float32(127))
    return Prototypes(**kept | texts | {"traces": traces, "z": kept["z"].astype(np.float32)})


def arrays_of(
    prototypes: Prototypes, distances: np.ndarray, rows: np.ndarray
) -> dict[str, np.ndarray]:
    """What is stored of the prototypes ``rows`` (k,) of an epoch, with their ``distances`` (k,)."""
    own = prototypes.some(rows)
    kept = {name: vars(own)[name] for name in ("traces", "stages", "recordings", "epochs")}
    return kept | {"distances": distances}


def shown(arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Prototypes of an epoch for the page, by those arrays: stage, origin, distance, traces."""
    return [
        {
            "stage": STAGES[stage],
            "origin": f"training night {recording}, epoch {epoch}",
            "distance": round(float(distance), 2),
            "traces": traces,
        }
        for stage, recording, epoch, distance, traces in zip(
            *(arrays[n] for n in ("stages", "recordings", "epochs", "distances", "traces")),
            strict=True,
        )
    ]
