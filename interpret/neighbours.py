"""Nearest neighbours among epochs, by scikit-learn."""

from __future__ import annotations

import numpy as np


def nearest(among: np.ndarray, z: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distances and row numbers, both (n, k), of the rows ``among`` nearest to each z.

    ``among`` (m, d), ``z`` (n, d); all rows of ``among`` if they are fewer than k.
    """
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=min(k, len(among))).fit(among).kneighbors(z)
