"""The law of real nights that synthetic ones follow: band powers by stage, and sequences of stages.

Fitted by ``benchmarks/fit_real_nights.py`` to cassette nights of Sleep-EDF; the numbers lie in
``real_nights.json``. Decibels are of ten values: five bands of Fpz-Cz, then of Pz-Oz. Their
absolute level is arbitrary: ``tables.N2_LEVEL`` sets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from utils.json_values import value_in
from utils.stages import STAGES

PATH = Path(__file__).with_name("real_nights.json")
CONTEXT_EPOCHS = (4, 16)  # reach of the windows before and after an epoch


@dataclass(frozen=True)
class Law:
    """Constants of the law.

    ``mean_db`` (5, 10) of each stage; subjects differ by ``loadings_db`` (5, 10, k) times k unit
    normals, which two nights of a subject share with correlation ``repeat``, and by ``own_db``
    (5, 10). How they sleep goes with the same normals: ``trait_loadings`` (3, k) of the shares of
    N3, Wake and N1. Within nights each epoch is moved by the stages around it: ``context_db``
    (5, 20, 10) times its :func:`context_of` less ``usual_context`` (5, 20); and by slow and fast
    deviations, whose covariances have the square roots ``slow_db`` and ``fast_db`` (5, 10, 10).
    Slow ones last
    ``slow_epochs``. ``spread_db`` (5, 10) is the deviation within a night and stage that all of it
    together has. ``jumps`` (5, 5) from stage to stage; ``bout_epochs`` (5, q): lengths that the
    shares ``bout_shares`` (q,) of bouts do not exceed; ``hourly`` (8, 5): shares of each hour.
    Nothing was fitted to the ``held_out_subjects``.
    """

    mean_db: np.ndarray
    loadings_db: np.ndarray
    own_db: np.ndarray
    repeat: float
    trait_loadings: np.ndarray
    usual_context: np.ndarray
    context_db: np.ndarray
    slow_db: np.ndarray
    fast_db: np.ndarray
    slow_epochs: float
    spread_db: np.ndarray
    jumps: np.ndarray
    bout_shares: np.ndarray
    bout_epochs: np.ndarray
    hourly: np.ndarray
    held_out_subjects: np.ndarray


@cache
def law() -> Law:
    """The fitted law."""
    values = value_in(PATH)
    return Law(
        **{
            name: values[name] if kind == "float" else np.array(values[name])
            for name, kind in Law.__annotations__.items()
        }
    )


def context_of(stages: np.ndarray) -> np.ndarray:
    """Shares of the five stages among the epochs before and after each of ``stages`` (n,): (n, 20).

    4 epochs before, 4 after, 16 before, 16 after; unscored ones are not counted.
    """
    onehot = (stages[:, None] == np.arange(len(STAGES))).astype(float)
    counted = np.concatenate((np.zeros((1, len(STAGES))), np.cumsum(onehot, axis=0)))
    here, last = np.arange(len(stages)), len(stages)
    parts = []
    for reach in CONTEXT_EPOCHS:
        for first, stop in ((here - reach, here), (here + 1, here + 1 + reach)):
            around = counted[np.clip(stop, 0, last)] - counted[np.clip(first, 0, last)]
            parts.append(around / np.maximum(around.sum(axis=1, keepdims=True), 1))
    return np.concatenate(parts, axis=1)
