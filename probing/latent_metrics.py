"""Metrics of a latent space: clusters against stages, alignment, uniformity, rank, dimension.

Embeddings are z (n, d), stages y (n,) with -1 where nobody scored. What compares neighbours in time
reads z part by part; the rest takes memory linear in n, and is meant for samples of 5,000 epochs.
Undefined is NaN, never a quiet 0.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import pdist

from probing.row_files import AT_ONCE, Rows

MOST = 5_000  # epochs for what compares all pairs
_CHUNK = 512  # rows of the distance matrix at a time
_TINY = 1e-12  # below it, a length or a sum counts as zero


def normalised(z: np.ndarray) -> np.ndarray:
    """Embeddings (n, d) scaled to length 1."""
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), _TINY)


def contingency(clusters: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Contingency table [cluster, stage]: epochs of each cluster (n,) and stage (n,)."""
    k, s = clusters.max() + 1, y.max() + 1
    return np.bincount(clusters * s + y, minlength=k * s).reshape(k, s)


def purity(clusters: np.ndarray, y: np.ndarray) -> float:
    """Share of epochs in their cluster's most frequent stage."""
    counts = contingency(clusters, y)
    return float(counts.max(axis=1).sum() / counts.sum())


def matching_accuracy(clusters: np.ndarray, y: np.ndarray) -> float:
    """Share of epochs right under the best one-to-one matching of clusters and stages."""
    counts = contingency(clusters, y)
    rows, columns = linear_sum_assignment(-counts)  # it minimises a cost
    return float(counts[rows, columns].sum() / counts.sum())


def cluster_entropy(clusters: np.ndarray, y: np.ndarray) -> float:
    """Mean entropy of the stages within clusters, in bits; 0 is pure."""
    counts = contingency(clusters, y).astype(float)
    sizes = counts.sum(axis=1)
    share = counts / np.maximum(sizes[:, None], 1)  # numbers that no epoch has are empty clusters
    logs = np.log2(np.where(share > 0, share, 1.0))  # 0 log 0 is 0
    return float(-(sizes / sizes.sum() * (share * logs).sum(axis=1)).sum())


def compactness(z: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Mean squared distance to the stage's centre, and mean distance between centres.

    The first is half the mean squared distance of pairs within a stage, without forming the pairs.
    """
    codes = [k for k in np.unique(y) if k >= 0]
    centres = np.stack([z[y == k].mean(axis=0) for k in codes])
    within = [
        (np.square(z[y == k]).sum() / (y == k).sum() - np.square(c).sum())
        for k, c in zip(codes, centres, strict=True)
    ]
    between = pdist(centres).mean() if len(codes) > 1 else np.nan
    # E|z|² - |E z|² may come out a little below 0 by rounding
    return float(np.mean(np.maximum(within, 0))), float(between)


def alignment(one: np.ndarray, other: np.ndarray) -> float:
    """Mean squared distance of two views (n, d) of an epoch on the sphere (Wang & Isola 2020)."""
    return float(np.square(normalised(one) - normalised(other)).sum(axis=1).mean())


def uniformity(z: np.ndarray) -> float:
    """Log of the mean Gaussian potential of pairs on the sphere (Wang & Isola); 0 is collapsed."""
    unit, total = normalised(z), 0.0
    for start in range(0, len(unit), _CHUNK):
        # squared distances of unit vectors; rounding takes some a little below 0
        distances = 2 - 2 * unit[start : start + _CHUNK] @ unit.T
        total += np.exp(-2 * np.maximum(distances, 0)).sum()
    n = len(unit)
    # without the n pairs of an epoch and itself, each of which added 1
    return float(np.log((total - n) / (n * (n - 1))))


def rank_me(z: np.ndarray) -> float:
    """Exponential entropy of the singular values (Garrido et al. 2023); at most d."""
    # by the eigenvalues of (d, d), which is far smaller than z
    return _effective(np.sqrt(np.maximum(np.linalg.eigvalsh(z.T.astype(float) @ z), 0)))


def alpha_req(z: np.ndarray) -> float:
    """Decay of the covariance's eigenvalues: minus the slope of log value by log rank."""
    values = np.linalg.eigvalsh(np.cov(z.T.astype(float)))[::-1]
    # embeddings are float32: what is smaller is rounding and would set the slope
    values = values[values > values[0] * 1e-7] if values[0] > _TINY else values[:0]
    if len(values) < 3:
        return float("nan")
    # three values at least: a line goes through any two
    return float(-np.polyfit(np.log(np.arange(1, len(values) + 1)), np.log(values), 1)[0])


def lidar(views: np.ndarray, ridge: float = 1e-4) -> float:
    """Effective rank of the differences between epochs, q views (q, n, d) of each being its noise.

    Thilak et al. 2023: entropy of the eigenvalues of the between covariance whitened by the within.
    """
    means = views.mean(axis=0)
    between = np.cov(means.T.astype(float))
    noise = (views - means).reshape(-1, views.shape[2]).astype(float)
    # ridge, as published: without it a direction in which views do not differ cannot be inverted
    within = noise.T @ noise / len(noise) + ridge * np.eye(views.shape[2])
    values, vectors = np.linalg.eigh(within)
    white = vectors / np.sqrt(values) @ vectors.T  # within ** -1/2
    return _effective(np.maximum(np.linalg.eigvalsh(white @ between @ white), 0))


def _effective(values: np.ndarray) -> float:
    if values.sum() <= _TINY:
        return float("nan")  # of zeros alone
    share = values / values.sum()
    return float(np.exp(-(share * np.log(np.where(share > 0, share, 1.0))).sum()))


def two_nn(z: np.ndarray) -> float:
    """Intrinsic dimension by the ratio of the two nearest distances (Facco et al. 2017)."""
    ratios = []
    squares = np.square(z).sum(axis=1)
    for start in range(0, len(z), _CHUNK):
        part = slice(start, start + _CHUNK)
        distances = squares[part, None] + squares - 2 * z[part] @ z.T
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        two = np.sqrt(np.maximum(np.partition(distances, 1, axis=1)[:, :2], 0))
        # copies of an epoch have no ratio
        ratios.append(two[two[:, 0] > _TINY])
    two = np.concatenate(ratios)
    logs = np.log(two[:, 1] / two[:, 0])
    # maximum likelihood; the paper fits a line to the ratios' distribution
    return float(len(logs) / logs.sum()) if len(logs) and logs.sum() > 0 else float("nan")


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """Similarity of two encoders' embeddings (n, d), (n, e) of the same epochs (Kornblith 2019)."""
    one, other = (part.astype(float) - part.mean(axis=0) for part in (one, other))
    # by (d, e) products of features, which equals the (n, n) kernels of epochs
    cross = np.square(one.T @ other).sum()
    own = np.linalg.norm(one.T @ one) * np.linalg.norm(other.T @ other)
    return float(cross / own) if own > _TINY else float("nan")


def continuity_of_nights(
    z: np.ndarray | Rows, y: np.ndarray, recording: np.ndarray, epoch: np.ndarray
) -> tuple[float, float]:
    """Mean cosine distance of neighbours in time that share a stage, and of those that do not."""
    # rows of two nights, or on both sides of an epoch left out, are no neighbours in time
    next_to = (recording[1:] == recording[:-1]) & (epoch[1:] == epoch[:-1] + 1)
    next_to &= (y[1:] >= 0) & (y[:-1] >= 0)
    same = y[1:] == y[:-1]
    kinds = next_to & same, next_to & ~same
    sums = np.zeros(2)
    for start in range(0, len(next_to), AT_ONCE):
        unit = normalised(z[start : start + AT_ONCE + 1])  # each part begins with the last of one
        distance = 1 - (unit[1:] * unit[:-1]).sum(axis=1)
        part = slice(start, start + AT_ONCE)
        sums += [distance[kind[part]].sum(dtype=float) for kind in kinds]
    return tuple(
        float(total / kind.sum()) if kind.any() else float("nan")
        for total, kind in zip(sums, kinds, strict=True)
    )


def stratified(
    y: np.ndarray, subject: np.ndarray, most: int = MOST, *, seed: int = 0
) -> np.ndarray:
    """Sample scored epochs, equally many per stage and subject as long as there are enough.

    Returns sorted row numbers, at most ``most``.
    """
    rng = np.random.default_rng(seed)
    # shuffled first: which epochs of a group are taken is then left to chance
    order = rng.permutation(np.flatnonzero(y >= 0))
    names, person = np.unique(subject[order], return_inverse=True)
    group = y[order].astype(int) * len(names) + person
    # the k-th epoch of every group before the k + 1st of any
    by_group = np.argsort(group, kind="stable")
    # place: how many epochs of its own group precede an epoch
    _, first, size = np.unique(group[by_group], return_index=True, return_counts=True)
    place = np.empty(len(order), int)
    place[by_group] = np.arange(len(order)) - np.repeat(first, size)
    return np.sort(order[np.argsort(place, kind="stable")][:most])
