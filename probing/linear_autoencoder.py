"""The best linear autoencoder of a width, in closed form: what a nonlinear one has to beat."""

from __future__ import annotations

import numpy as np

_RIDGE = 1e-6  # share of the mean eigenvalue: constant samples leave the matrix singular


class LinearAutoencoder:
    """Reduced-rank regression of clean patches (n, s) on corrupted ones, in one sweep over them.

    Izenman 1975: the least-squares map, projected onto the main directions of what it predicts.
    """

    def __init__(self, n_samples: int, width: int) -> None:
        self.width = min(width, n_samples)
        # sums of products, one more row for the constant: any number of patches fits into memory
        self._inputs = np.zeros((n_samples + 1, n_samples + 1))
        self._both = np.zeros((n_samples + 1, n_samples))
        self.weights: np.ndarray | None = None
        self._kept: np.ndarray | None = None

    def add(self, corrupted: np.ndarray, clean: np.ndarray) -> None:
        """Add corrupted patches (n, s) and the same patches clean (n, s)."""
        x = _with_one(corrupted)
        self._inputs += x.T @ x
        self._both += x.T @ clean.astype(np.float64)

    def solve(self) -> LinearAutoencoder:
        """Fit the regression to everything added."""
        scale = np.trace(self._inputs) / len(self._inputs)
        ridge = _RIDGE * max(scale, 1e-12) * np.eye(len(self._inputs))
        full = np.linalg.solve(self._inputs + ridge, self._both)
        predicted = full.T @ self._inputs @ full  # the predictions' products with themselves
        _, vectors = np.linalg.eigh(predicted)
        # eigh gives the smallest first
        self._kept = vectors[:, -self.width :]
        self.weights = full @ self._kept @ self._kept.T
        return self

    def halves(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights of the encoder (s, width) and the decoder (width, s), and the bias (s,)."""
        inward = self.weights @ self._kept
        # the last row is the constant's: through the decoder it becomes the bias
        return inward[:-1], self._kept.T, inward[-1] @ self._kept.T

    def __call__(self, corrupted: np.ndarray) -> np.ndarray:
        """Cleaned patches (n, s)."""
        return _with_one(corrupted) @ self.weights


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x.astype(np.float64), np.ones((len(x), 1))], axis=1)
