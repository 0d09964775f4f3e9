"""Probes of frozen embeddings: logistic regression, nearest neighbours, hand-made features.

Everything that is chosen is chosen on the validation subjects; the test subjects are read once.
Embeddings may lie in files. The training epochs that a probe is fitted to are in memory together,
at most ``MOST`` of them: of more it takes a sample, and what was chosen names its size.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from probing.row_files import Rows, parts_of
from utils import metrics
from utils.signals import BANDS, band_powers
from utils.stages import STAGES

STRENGTHS = (1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0)  # C, the inverse of the penalty
NEIGHBOURS = 20
MOST = 50_000  # training epochs; 25 MB of 128 numbers
_WORKING_MB = 64  # scikit-learn's distances at a time
_FLOOR = 1e-6  # keeps logarithms and standardised dimensions finite


@dataclass(frozen=True)
class Labelled:
    """Embeddings z (n, d) of epochs, their stages (n,), -1 where unscored, and subjects (n,)."""

    z: np.ndarray | Rows
    stages: np.ndarray
    subjects: np.ndarray

    def some(self, rows: np.ndarray) -> Labelled:
        """The epochs of these rows."""
        return Labelled(self.z[rows], self.stages[rows], self.subjects[rows])

    @property
    def scored(self) -> Labelled:
        """The epochs that have a stage."""
        return self.some(np.flatnonzero(self.stages >= 0))


@dataclass(frozen=True)
class Probed:
    """A probe's stages (n,) and probabilities (n, 5) of the test epochs, and what was chosen."""

    stages: np.ndarray
    probabilities: np.ndarray
    chosen: str


def linear_probe(
    train: Labelled, validation: Labelled, test: Labelled, *, balanced: bool = False
) -> Probed:
    """Multinomial logistic regression on standardised embeddings, its penalty chosen on validation.

    Five weights per dimension and five biases: 129 x 5 parameters for 128 dimensions.
    """
    from sklearn.linear_model import LogisticRegression

    train, note = in_memory(train)
    mean, sd = train.z.mean(axis=0), train.z.std(axis=0)
    sd = np.where(sd > _FLOOR, sd, 1.0)
    if len(np.unique(train.stages)) < 2:  # scikit-learn refuses a single class
        return _constant(train, test, "one stage")
    best: tuple[float, float, object] | None = None
    model = LogisticRegression(
        max_iter=1000, class_weight="balanced" if balanced else None, warm_start=True
    )
    standard = (train.z - mean) / sd
    for strength in STRENGTHS:  # strongest penalty first: each starts where the last one ended
        # a copy, as fitting on would change the best model kept so far
        model = deepcopy(model).set_params(C=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # convergence is reported below
            model.fit(standard, train.stages)
        staged = [model.predict((part - mean) / sd) for part in parts_of(validation.z)]
        counts = metrics.confusion(validation.stages, np.concatenate(staged))
        score = float(metrics.macro_f1(counts))
        if best is None or score > best[0]:
            best = score, strength, model
    _, strength, model = best
    probabilities = _by_parts(model, ((part - mean) / sd for part in parts_of(test.z)))
    limit = " (not converged)" if (model.n_iter_ >= model.max_iter).any() else ""
    return Probed(probabilities.argmax(axis=1), probabilities, f"C {strength:g}{limit}{note}")


def nearest_neighbours(train: Labelled, test: Labelled, *, k: int = NEIGHBOURS) -> Probed:
    """Stage test epochs by their ``k`` nearest training epochs (cosine), weighted by closeness."""
    from sklearn import config_context
    from sklearn.neighbors import KNeighborsClassifier

    train, note = in_memory(train)
    k = min(k, len(train.z))  # a small share of the labels may be fewer
    model = KNeighborsClassifier(k, weights="distance", metric="cosine").fit(train.z, train.stages)
    with config_context(working_memory=_WORKING_MB):
        probabilities = _by_parts(model, parts_of(test.z))
    return Probed(probabilities.argmax(axis=1), probabilities, f"k {k}{note}")


def in_memory(train: Labelled) -> tuple[Labelled, str]:
    """The scored epochs, read into memory, and a note: of more than ``MOST`` it is a sample.

    The sample has the same share of every stage.
    """
    scored = train.scored
    total, note = len(scored.stages), ""
    if total > MOST:
        scored = scored.some(draw_epochs(scored, MOST / total, seed=0))
        note = f", {len(scored.stages):,} of {total:,} training epochs"
    return replace(scored, z=np.asarray(scored.z)), note


def _by_parts(model: Any, parts: Iterable[np.ndarray]) -> np.ndarray:
    """Probabilities (n, 5) of epochs that come in parts, 0 of a stage that the model has not."""
    each = []
    for part in parts:
        probabilities = np.zeros((len(part), len(STAGES)))
        # a stage without a training epoch has no column in the model
        probabilities[:, model.classes_] = model.predict_proba(part)
        each.append(probabilities)
    return np.concatenate(each)


def information_bound(probabilities: np.ndarray, stages: np.ndarray) -> float:
    """Lower bound on the mutual information of embedding and stage: H(Y) less cross-entropy, bits.

    By a probe's probabilities (n, 5); not above 0 where there is no information.
    """
    scored = stages >= 0
    share = np.bincount(stages[scored], minlength=len(STAGES)) / max(scored.sum(), 1)
    entropy = -(share * np.log2(np.where(share > 0, share, 1.0))).sum()
    given = probabilities[scored][np.arange(scored.sum()), stages[scored]]
    return float(entropy + np.log2(np.maximum(given, 1e-12)).mean())


def majority(train: Labelled, test: Labelled) -> Probed:
    """Stage every test epoch as the most frequent training stage."""
    return _constant(train.scored, test, "majority")


def _constant(train: Labelled, test: Labelled, chosen: str) -> Probed:
    share = np.bincount(train.stages, minlength=len(STAGES)) / len(train.stages)
    probabilities = np.tile(share, (len(test.z), 1))
    return Probed(probabilities.argmax(axis=1), probabilities, chosen)


def hand_made(epochs: np.ndarray, fs: float) -> np.ndarray:
    """Hand-made features (n, c, t) -> (n, 12 c): log band powers, log shares, log total, edge.

    Bands as in ``utils.signals``; the spectral edge is the frequency below which 95 % of the power
    between 0.5 and 50 Hz lies.
    """
    from scipy import signal

    powers = band_powers(epochs, fs)
    total = powers.sum(axis=-1, keepdims=True)
    # 4 s segments resolve a quarter of a hertz
    hertz, density = signal.welch(epochs, fs, nperseg=min(round(4 * fs), epochs.shape[-1]))
    inside = (hertz >= 0.5) & (hertz <= min(50.0, fs / 2))
    gathered = density[..., inside].cumsum(axis=-1)
    below = gathered < 0.95 * gathered[..., -1:]
    edge = hertz[inside][np.minimum(below.sum(axis=-1), inside.sum() - 1)][..., None]
    parts = [np.log(powers + _FLOOR), np.log(powers / (total + _FLOOR) + _FLOOR)]
    features = np.concatenate([*parts, np.log(total + _FLOOR), edge], axis=-1)
    return features.reshape(len(epochs), -1).astype(np.float32)


N_HAND_MADE = 2 * len(BANDS) + 2


def draw_epochs(labelled: Labelled, share: float, seed: int) -> np.ndarray:
    """Draw a share of the scored epochs, the same share of every stage and at least one: rows."""
    rng = np.random.default_rng(seed)
    chosen = []
    for code in range(len(STAGES)):
        rows = np.flatnonzero(labelled.stages == code)
        n = min(len(rows), max(1, round(share * len(rows))))
        chosen.append(rng.choice(rows, n, replace=False) if len(rows) else rows)
    return np.sort(np.concatenate(chosen))


def draw_subjects(subjects: Sequence[str], share: float, seed: int) -> list[str]:
    """Draw a share of the subjects, at least one: their ids, sorted."""
    names = sorted(set(subjects))  # sorted: sets have no order that a seed could repeat
    rng = np.random.default_rng(seed)
    n = min(len(names), max(1, round(share * len(names))))
    return sorted(rng.choice(names, n, replace=False).tolist())
