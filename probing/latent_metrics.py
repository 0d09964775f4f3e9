"""Metrics of a latent space: clusters against stages, alignment, uniformity, rank, dimension.

Embeddings are z (n, d), stages y (n,) with -1 where nobody scored. What compares neighbours in time
reads z part by part; the rest takes memory linear in n, and is meant for samples of 5,000 epochs.
Undefined is NaN, never a quiet 0. No metric but ``compactness`` depends on the scale of z, so
nothing is compared with a fixed small number.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import pdist

from probing.row_files import AT_ONCE, Rows

MOST = 5_000  # epochs for what compares all pairs
_CHUNK = 512  # rows of the distance matrix at a time
_ROUNDING = 1e-13  # of squares of float32: what varies by less does not vary


def is_collapsed(z: np.ndarray) -> bool:
    """Whether all embeddings (n, d) are one point, but for rounding."""
    z = np.asarray(z, float)
    return bool(z.var(axis=0).sum() <= _ROUNDING * np.square(z).sum(axis=1).mean())


def normalised(z: np.ndarray) -> np.ndarray:
    """Embeddings (n, d) scaled to length 1; NaN where one has no direction."""
    length = np.linalg.norm(z, axis=1, keepdims=True)
    length[length == 0] = np.nan
    return z / length


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
    """Mean squared distance to the stage's centre, and mean squared distance between centres.

    The first is half the mean squared distance of pairs within a stage, without forming the pairs.
    """
    z = np.asarray(z, float)
    codes = [k for k in np.unique(y) if k >= 0]
    centres = np.stack([z[y == k].mean(axis=0) for k in codes])
    within = [
        np.square(z[y == k] - centre).sum(axis=1).mean()
        for k, centre in zip(codes, centres, strict=True)
    ]
    between = pdist(centres, "sqeuclidean").mean() if len(codes) > 1 else np.nan
    return float(np.mean(within)), float(between)


def alignment(one: np.ndarray, other: np.ndarray) -> float:
    """Mean squared distance of two views (n, d) of an epoch on the sphere (Wang & Isola 2020)."""
    return mean_of_defined(np.square(normalised(one) - normalised(other)).sum(axis=1))


def mean_of_defined(values: np.ndarray) -> float:
    """Mean of those that are not NaN; NaN of none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def uniformity(z: np.ndarray) -> float:
    """Log of the mean Gaussian potential of pairs on the sphere (Wang & Isola); 0 is collapsed."""
    unit, total = normalised(z), 0.0
    unit = unit[~np.isnan(unit[:, 0])]
    if len(unit) < 2:
        return float("nan")
    for start in range(0, len(unit), _CHUNK):
        # squared distances of unit vectors; rounding takes some a little below 0
        distances = 2 - 2 * unit[start : start + _CHUNK] @ unit.T
        total += np.exp(-2 * np.maximum(distances, 0)).sum()
    n = len(unit)
    # without the n pairs of an epoch and itself, each of which added 1
    return float(np.log((total - n) / (n * (n - 1))))


def rank_me(z: np.ndarray) -> float:
    """Exponential entropy of the singular values (Garrido et al. 2023); at most d.

    Not centred, as published: of a space that is one point, but not 0, it is 1.
    """
    # by the eigenvalues of (d, d), which is far smaller than z
    return _effective(np.sqrt(np.maximum(np.linalg.eigvalsh(z.T.astype(float) @ z), 0)))


def alpha_req(z: np.ndarray) -> float:
    """Decay of the covariance's eigenvalues: minus the slope of log value by log rank.

    Ranks weigh 1 / rank, as Agrawal et al. 2022 fit it (after Stringer et al. 2019), so that the
    many small eigenvalues do not set the slope. They leave out the ends of spectra of thousands;
    of these, which are short, all above rounding are fitted.
    """
    if is_collapsed(z):
        return float("nan")
    values = np.linalg.eigvalsh(np.cov(z.T.astype(float)))[::-1]
    # embeddings are float32: what is smaller is rounding and would set the slope
    values = values[values > values[0] * 1e-7]
    if len(values) < 3:  # a line goes through any two
        return float("nan")
    rank = np.arange(1, len(values) + 1)
    # polyfit squares its weights
    return float(-np.polyfit(np.log(rank), np.log(values), 1, w=rank**-0.5)[0])


def lidar(views: np.ndarray, ridge: float = 1e-4) -> float:
    """Effective rank of the differences between epochs, q views (q, n, d) of each being its noise.

    Thilak et al. 2023: entropy of the eigenvalues of the between covariance whitened by the within.
    Their ridge of 1e-4 is here a share of the mean variance of views, so that scale plays no part.
    """
    views = views.astype(float)
    means = views.mean(axis=0)
    between = np.cov(means.T)
    noise = (views - means).reshape(-1, views.shape[2])
    within = noise.T @ noise / len(noise)
    mean_variance = np.trace(within) / len(within)
    if mean_variance <= _ROUNDING * np.square(views).mean():  # views are all alike
        return float("nan")
    # without a ridge a direction in which views do not differ cannot be inverted
    within += ridge * mean_variance * np.eye(len(within))
    values, vectors = np.linalg.eigh(within)
    white = vectors / np.sqrt(values) @ vectors.T  # within ** -1/2
    return _effective(np.maximum(np.linalg.eigvalsh(white @ between @ white), 0))


def _effective(values: np.ndarray) -> float:
    if not values.sum() > 0:
        return float("nan")  # of zeros alone
    share = values / values.sum()
    return float(np.exp(-(share * np.log(np.where(share > 0, share, 1.0))).sum()))


def two_nn(z: np.ndarray) -> float:
    """Intrinsic dimension by the ratio of the two nearest distances (Facco et al. 2017).

    By maximum likelihood, n over the sum of log ratios; the paper fits a line to their
    distribution, without the largest tenth.
    """
    if is_collapsed(z):
        return float("nan")
    # in doubles and centred: distances of neighbours are small differences of large squares
    z = np.asarray(z, float) - z.mean(axis=0, dtype=float)
    squares = np.square(z).sum(axis=1)
    ratios, least = [], 1e-6 * np.sqrt(squares.mean())
    for start in range(0, len(z), _CHUNK):
        part = slice(start, start + _CHUNK)
        distances = squares[part, None] + squares - 2 * z[part] @ z.T
        rows = np.arange(len(distances))
        distances[rows, start + rows] = np.inf
        two = np.sqrt(np.maximum(np.partition(distances, 1, axis=1)[:, :2], 0))
        # copies of an epoch have no ratio
        ratios.append(two[two[:, 0] > least])
    two = np.concatenate(ratios)
    logs = np.log(two[:, 1] / two[:, 0])
    return float(len(logs) / logs.sum()) if len(logs) and logs.sum() > 0 else float("nan")


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """Similarity of two encoders' embeddings (n, d), (n, e) of the same epochs (Kornblith 2019).

    Debiased, as in the authors' code: 0 on average for unrelated ones, however few the epochs.
    """
    if is_collapsed(one) or is_collapsed(other) or len(one) < 4:
        return float("nan")
    one, other = (part.astype(float) - part.mean(axis=0, dtype=float) for part in (one, other))
    # neither scale changes it, and without them no product is too small
    one, other = (part / np.linalg.norm(part) for part in (one, other))
    both, *own = (_alike(*pair) for pair in ((one, other), (one, one), (other, other)))
    return float(both / np.sqrt(own[0] * own[1])) if min(own) > 0 else float("nan")


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Debiased inner product of the kernels of centred embeddings, each of norm 1."""
    n = len(one)
    rows = np.square(one).sum(axis=1) @ np.square(other).sum(axis=1)
    # by (d, e) products of features, which equals the (n, n) kernels of epochs
    return np.square(one.T @ other).sum() - n / (n - 2) * rows + 1 / ((n - 1) * (n - 2))


def continuity_of_nights(
    z: np.ndarray | Rows, y: np.ndarray, recording: np.ndarray, epoch: np.ndarray
) -> tuple[float, float]:
    """Mean cosine distance of neighbours in time that share a stage, and of those that do not."""
    # rows of two nights, or on both sides of an epoch left out, are no neighbours in time
    next_to = (recording[1:] == recording[:-1]) & (epoch[1:] == epoch[:-1] + 1)
    next_to &= (y[1:] >= 0) & (y[:-1] >= 0)
    same = y[1:] == y[:-1]
    kinds = next_to & same, next_to & ~same
    sums, counts = np.zeros(2), np.zeros(2)
    for start in range(0, len(next_to), AT_ONCE):
        unit = normalised(z[start : start + AT_ONCE + 1])  # each part begins with the last of one
        distance = 1 - (unit[1:] * unit[:-1]).sum(axis=1)
        some = [distance[kind[start : start + AT_ONCE]] for kind in kinds]
        sums += [np.nansum(each) for each in some]
        counts += [np.count_nonzero(~np.isnan(each)) for each in some]
    return tuple(
        float(total / n) if n else float("nan") for total, n in zip(sums, counts, strict=True)
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
