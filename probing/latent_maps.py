"""Maps of latent spaces in two dimensions: fitted to training subjects, evaluated on others."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from probing.row_files import scale_of

_NEIGHBOURS = 15  # that evaluations and UMAP look at
_PLACED_BY = 25  # training epochs, as openTSNE begins
_MAIN = 50  # components among which neighbours are searched: much faster than in all


def maps(train: np.ndarray, others: np.ndarray, *, seed: int = 0) -> dict[str, np.ndarray]:
    """PCA, t-SNE and UMAP of ``train`` (m, d), and where ``others`` (n, d) lie in each: (n, 2).

    t-SNE maps no epochs but its own: others are put at the median place of the 25 training epochs
    nearest to them, which is where openTSNE begins (Poličar et al. 2019).
    """
    from sklearn.decomposition import PCA

    mean, sd = scale_of(train)
    train, others = (train - mean) / sd, (others - mean) / sd
    main = PCA(min(_MAIN, *train.shape), random_state=seed).fit(train)
    train, others = main.transform(train), main.transform(others)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "PCA": others[:, :2],
            "t-SNE": _t_sne(train, others, seed),
            "UMAP": _umap(train, others, seed),
        }


def _t_sne(train: np.ndarray, others: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    # scikit-learn asks for a perplexity below the number of epochs
    perplexity = min(30, max(2, (len(train) - 1) // 3))
    flat = TSNE(
        2, perplexity=perplexity, init="pca", max_iter=1000, random_state=seed
    ).fit_transform(train)
    near = NearestNeighbors(n_neighbors=min(_PLACED_BY, len(train))).fit(train)
    return np.median(flat[near.kneighbors(others, return_distance=False)], axis=1)


def _umap(train: np.ndarray, others: np.ndarray, seed: int) -> np.ndarray:
    import umap

    # with a seed it runs on one core anyway, and warns if it was given more
    fitted = umap.UMAP(
        n_neighbors=min(_NEIGHBOURS, len(train) - 1), min_dist=0.1, random_state=seed, n_jobs=1
    ).fit(train)
    return fitted.transform(others)


def map_quality(
    space: np.ndarray, flat: Mapping[str, np.ndarray], again: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
    """How true each map (n, 2) is to the space (n, d), and how alike to that of another seed.

    ``trustworthiness``: neighbours in the map are neighbours in the space; ``continuity`` swaps
    the two. ``stability``: share of neighbours that the maps of two seeds have in common.
    """
    from sklearn.manifold import trustworthiness

    # scikit-learn wants fewer than half of the epochs
    k = min(_NEIGHBOURS, max(1, len(space) // 2 - 1))
    return {
        name: {
            "trustworthiness": float(trustworthiness(space, points, n_neighbors=k)),
            "continuity": float(trustworthiness(points, space, n_neighbors=k)),
            "stability": shared_neighbours(points, again[name], k),
            "epochs": len(space),
            "neighbours": k,
        }
        for name, points in flat.items()
    }


def shared_neighbours(one: np.ndarray, other: np.ndarray, k: int) -> float:
    """Mean share of the k nearest neighbours of a point (n, d) that it has in ``other``, too.

    1 of equal maps, however turned and scaled; k / (n - 1) of unrelated ones.
    """
    from sklearn.neighbors import NearestNeighbors

    near = [
        NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)
        for points in (one, other)
    ]
    shared = [len(np.intersect1d(*both)) for both in zip(*near, strict=True)]
    return float(np.mean(shared) / k)
