"""Every metric of a latent space in one table, with intervals by subject and controls beside them.

Metrics that need labels are also given for shuffled ones: what is as high there is not about sleep.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from probing import latent_metrics
from probing.row_files import Rows
from utils.intervals import left_out
from utils.metrics import plain
from utils.stages import STAGES

N_CLUSTERS = len(STAGES)
_FEWEST = {"subjects": 2, "epochs": 20}
_NEIGHBOURS = 15
_WORKING_MB = 128  # scikit-learn's distances at a time
_GROWS = ("calinski_harabasz",)  # with the number of epochs, so fewer give no interval
_LEAST_OF_STAGE = 10
_MOST_SUBJECTS, _EPOCHS_EACH = 20, 200


@dataclass(frozen=True)
class Space:
    """Embeddings z (n, d) of epochs with their stages, subjects, recordings and numbers (n,).

    z may lie in a file. ``views`` (q, m, d) are q augmented views of some of the epochs.
    """

    name: str
    z: np.ndarray | Rows
    y: np.ndarray
    subject: np.ndarray
    recording: np.ndarray
    epoch: np.ndarray
    views: np.ndarray | None = None

    def some(self, rows: np.ndarray) -> Space:
        """The epochs of these rows; ``views`` are of epochs of their own and stay."""
        about = (self.z, self.y, self.subject, self.recording, self.epoch)
        z, y, subject, recording, epoch = (part[rows] for part in about)
        return replace(self, z=z, y=y, subject=subject, recording=recording, epoch=epoch)

    def read(self, rows: np.ndarray) -> Space:
        """The epochs of these rows, with z in memory."""
        some = self.some(rows)
        return replace(some, z=np.asarray(some.z))


Metric = Callable[[Space], Mapping[str, float]]


def clusters_against_stages(space: Space) -> dict[str, float]:
    """Agreement of k-means, with as many clusters as there are stages, with the stages."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import (
        adjusted_mutual_info_score,
        adjusted_rand_score,
        silhouette_score,
        v_measure_score,
    )

    # k-means needs as many distinct points as clusters; a collapsed space has fewer
    if len(np.unique(space.z[:1000], axis=0)) < N_CLUSTERS:
        return dict.fromkeys(
            (
                "purity",
                "matching_accuracy",
                "cluster_entropy",
                "ari",
                "ami",
                "v_measure",
                "silhouette_kmeans",
            ),
            float("nan"),
        )
    clusters = KMeans(N_CLUSTERS, n_init=5, random_state=0).fit_predict(space.z)
    return {
        "purity": latent_metrics.purity(clusters, space.y),
        "matching_accuracy": latent_metrics.matching_accuracy(clusters, space.y),
        "cluster_entropy": latent_metrics.cluster_entropy(clusters, space.y),
        "ari": adjusted_rand_score(space.y, clusters),
        "ami": adjusted_mutual_info_score(space.y, clusters),
        "v_measure": v_measure_score(space.y, clusters),
        "silhouette_kmeans": silhouette_score(space.z, clusters),
    }


def stages_as_clusters(space: Space) -> dict[str, float]:
    """Separation of the stages themselves, taken as clusters."""
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

    names = ("silhouette_stage", "silhouette_stage_cosine", "davies_bouldin", "calinski_harabasz")
    within, between = latent_metrics.compactness(space.z, space.y)
    ratio = within / between if between > 0 else float("nan")
    result = {"compactness": within, "separation": between, "compactness_ratio": ratio}
    if len(np.unique(space.y)) < 2 or np.ptp(space.z, axis=0).max() < 1e-9:
        return result | dict.fromkeys(names, float("nan"))
    z, y = space.z, space.y
    values = (
        silhouette_score(z, y),
        silhouette_score(z, y, metric="cosine"),
        davies_bouldin_score(z, y),
        calinski_harabasz_score(z, y),
    )
    return result | dict(zip(names, values, strict=True))


def shape(space: Space) -> dict[str, float]:
    """Metrics that need neither stages nor views: uniformity, rank, dimension, length."""
    return {
        "uniformity": latent_metrics.uniformity(space.z),
        "rank_me": latent_metrics.rank_me(space.z),
        "alpha_req": latent_metrics.alpha_req(space.z),
        "two_nn": latent_metrics.two_nn(space.z),
        "mean_norm": float(np.linalg.norm(space.z, axis=1).mean()),
    }


def of_views(space: Space) -> dict[str, float]:
    """Alignment of two views, and LiDAR, where views were embedded."""
    if space.views is None:
        return {}
    result = {"alignment": latent_metrics.alignment(space.views[0], space.views[1])}
    return result | {"lidar": latent_metrics.lidar(space.views)}


def along_nights(space: Space) -> dict[str, float]:
    """Cosine distance of neighbours in time, within a stage and across a transition."""
    same, apart = latent_metrics.continuity_of_nights(
        space.z, space.y, space.recording, space.epoch
    )
    return {"neighbours_same_stage": same, "neighbours_other_stage": apart}


def n1_against_rem(space: Space) -> dict[str, float]:
    """AUROC of telling N1 from REM in subjects left out: scorers and models confuse the two."""
    return {"auroc_n1_rem": _left_out_auroc(space, "N1", "REM")}


def subject_leakage(space: Space) -> dict[str, float]:
    """How well a linear layer tells subjects apart: balanced accuracy over chance, 0 is none.

    Fitted on the first half of every night, tested on the second, within N2 so that sleep's own
    course is no clue. Up to 20 subjects, 200 epochs of each.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    rows = np.flatnonzero(space.y == STAGES.index("N2"))
    subjects = np.unique(space.subject[rows])[:_MOST_SUBJECTS]
    by_person = [rows[space.subject[rows] == who] for who in subjects]
    # every k-th epoch rather than the first 200, so that both halves of the night stay
    kept = [some[:: -(-len(some) // _EPOCHS_EACH)] for some in by_person]
    some = space.read(np.sort(np.concatenate(kept)) if kept else rows)
    half = np.zeros(len(some.y), bool)
    for recording in np.unique(some.recording):
        rows = np.flatnonzero(some.recording == recording)
        half[rows[: len(rows) // 2]] = True
    names = np.unique(some.subject)
    both = np.intersect1d(some.subject[half], some.subject[~half])
    # who is in one half alone could not be recognised
    if len(names) < _FEWEST["subjects"] or len(both) < len(names):
        return {"subject_leakage": float("nan")}
    mean, sd = some.z[half].mean(axis=0), some.z[half].std(axis=0) + 1e-9
    model = LogisticRegression(max_iter=300).fit((some.z[half] - mean) / sd, some.subject[half])
    named = model.predict((some.z[~half] - mean) / sd)
    accuracy, chance = balanced_accuracy_score(some.subject[~half], named), 1 / len(names)
    return {"subject_leakage": float((accuracy - chance) / (1 - chance))}


def _left_out_auroc(space: Space, one: str, other: str) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    codes = STAGES.index(one), STAGES.index(other)
    some = space.some(np.flatnonzero(np.isin(space.y, codes)))
    label = some.y == codes[1]
    if min(label.sum(), (~label).sum()) < _LEAST_OF_STAGE:
        return float("nan")
    names = np.unique(some.subject)
    # five groups of subjects, each scored by a model of the others
    groups = np.searchsorted(names, some.subject) % min(5, len(names))
    score = np.full(len(label), np.nan)
    for group in np.unique(groups):
        train = groups != group
        if not train.any() or label[train].all() or not label[train].any():
            continue  # one of the two stages is missing from what is left
        mean, sd = some.z[train].mean(axis=0), some.z[train].std(axis=0) + 1e-9
        model = LogisticRegression(max_iter=300).fit((some.z[train] - mean) / sd, label[train])
        score[~train] = model.decision_function((some.z[~train] - mean) / sd)
    known = np.isfinite(score)
    if label[known].all() or not label[known].any():
        return float("nan")
    return float(roc_auc_score(label[known], score[known]))


LABEL_FREE: tuple[Metric, ...] = (shape, of_views)
OF_LABELS: tuple[Metric, ...] = (
    clusters_against_stages, stages_as_clusters, along_nights, n1_against_rem, subject_leakage,
)  # fmt: skip
# need nights whole, not a sample of their epochs: they read z themselves, a part at a time
_OF_NIGHTS = (along_nights, subject_leakage)


def measure(
    space: Space, *, seed: int = 0, parts: int = 20, most: int = latent_metrics.MOST
) -> list[dict[str, Any]]:
    """Rows of metric, value, interval over subjects, and the value with shuffled labels.

    Subjects are divided into up to ``parts``, each left out in turn (0 or 1: no intervals): drawn
    twice, a subject's epochs would be each other's nearest neighbours.
    """
    scored = space.some(np.flatnonzero(space.y >= 0))
    names = np.unique(scored.subject)
    if len(scored.y) < _FEWEST["epochs"]:
        return [{"space": space.name, "metric": "all", "note": "too few scored epochs"}]
    rng = np.random.default_rng(seed)
    sampled = scored.read(latent_metrics.stratified(scored.y, scored.subject, most, seed=seed))
    shuffled = replace(sampled, y=rng.permutation(sampled.y))
    # fewer epochs: metrics of pairs are computed once for every part
    fewer = sampled.some(
        latent_metrics.stratified(sampled.y, sampled.subject, most // 2, seed=seed)
    )
    n_parts = min(parts, len(names))
    left = [names[k::n_parts] for k in range(n_parts)] if n_parts > 1 else []  # one is everybody
    rows = []
    for metric in (*LABEL_FREE, *OF_LABELS):
        value = _quiet(metric, scored if metric in _OF_NIGHTS else sampled)
        by_chance = _quiet(metric, shuffled) if metric in OF_LABELS else {}
        of = replace(scored if metric in _OF_NIGHTS else fewer, views=None)
        without = [
            _quiet(metric, of.some(np.flatnonzero(~np.isin(of.subject, part))))
            for part in (left if metric is not of_views else [])
        ]
        for name, figure in value.items():
            each = [one[name] for one in without if name not in _GROWS]
            interval = left_out(figure, np.array(each), len(names)).plain()
            del interval["mean_of_subjects"]  # one subject's epochs alone have no such metrics
            rows.append(
                {
                    "space": space.name,
                    "metric": name,
                    **interval,
                    "shuffled": plain(by_chance.get(name, np.nan)),
                    "needs_labels": metric in OF_LABELS,
                    "note": "" if figure == figure else "undefined",
                }
            )
    return rows


def _quiet(metric: Metric, space: Space) -> Mapping[str, float]:
    from sklearn import config_context

    with warnings.catch_warnings(), config_context(working_memory=_WORKING_MB):
        warnings.simplefilter("ignore")  # unconverged probes of hopeless spaces
        return metric(space)


def maps(z: np.ndarray, *, seed: int = 0) -> dict[str, np.ndarray]:
    """PCA, t-SNE and UMAP of embeddings (n, d) in two dimensions: (n, 2) each."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    standard = (z - z.mean(axis=0)) / (z.std(axis=0) + 1e-9)
    n_parts = min(50, *standard.shape)
    # neighbours are searched among 50 main components: much faster in few dimensions
    reduced = PCA(n_parts, random_state=seed).fit_transform(standard)
    # scikit-learn asks for a perplexity below the number of epochs
    perplexity = min(30, max(2, (len(z) - 1) // 3))
    flat = {"PCA": reduced[:, :2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flat["t-SNE"] = TSNE(
            2, perplexity=perplexity, init="pca", max_iter=1000, random_state=seed
        ).fit_transform(reduced)
        import umap

        # with a seed it runs on one core anyway, and warns if it was given more
        flat["UMAP"] = umap.UMAP(
            n_neighbors=min(15, len(z) - 1), min_dist=0.1, random_state=seed, n_jobs=1
        ).fit_transform(reduced)
    return flat


def map_quality(z: np.ndarray, flat: Mapping[str, np.ndarray], k: int = _NEIGHBOURS) -> dict:
    """Trustworthiness of each map against the space, and continuity, which swaps the two."""
    from sklearn.manifold import trustworthiness

    k = min(k, max(1, len(z) // 2 - 1))  # scikit-learn wants fewer than half of the epochs
    return {
        name: {
            "trustworthiness": float(trustworthiness(z, points, n_neighbors=k)),
            "continuity": float(trustworthiness(points, z, n_neighbors=k)),
        }
        for name, points in flat.items()
    }


def correlations(
    rows: Sequence[Mapping[str, Any]], probe: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Spearman's rank correlation of each label-free metric with the probe, over runs."""
    from scipy.stats import spearmanr

    names = dict.fromkeys(r["metric"] for r in rows if r.get("needs_labels") is False)
    result = []
    for name in names:
        pairs = [
            (r["value"], probe[r["space"]])
            for r in rows
            if r["metric"] == name and r["space"] in probe and r["value"] is not None
        ]
        value = float("nan")
        # two runs always correlate perfectly, equal values not at all
        if len(pairs) > 2 and len({a for a, _ in pairs}) > 1:
            value = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        result.append({"metric": name, "spearman": plain(value), "runs": len(pairs)})
    return result
