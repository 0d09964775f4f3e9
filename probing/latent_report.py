"""Every metric of a latent space in one table, with intervals by subject and controls beside them.

Metrics that need labels are also given for every night's own stages moved along it (``null``): what
is as high there is not about sleep.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from probing import latent_metrics
from probing.row_files import Rows, scale_of
from utils.intervals import left_out, of_rank_correlation
from utils.metrics import plain
from utils.stages import STAGES

N_CLUSTERS = len(STAGES)
_FEWEST = {"subjects": 2, "epochs": 20}
_WORKING_MB = 128  # scikit-learn's distances at a time
_GROWS = ("calinski_harabasz",)  # with the number of epochs, so fewer give no interval
_LEAST_OF_STAGE = 10
_MOST_SUBJECTS, _EPOCHS_EACH = 20, 200
_NULLS = 3  # draws that the null is the mean of


@dataclass(frozen=True)
class Space:
    """Embeddings z (n, d) of epochs with their stages, subjects, recordings and numbers (n,).

    z may lie in a file. ``views`` (q, m, d) are q augmented views of some of the epochs, whose
    subjects are ``view_subject`` (m,). ``train`` (k, d) are epochs of the training subjects.
    """

    name: str
    z: np.ndarray | Rows
    y: np.ndarray
    subject: np.ndarray
    recording: np.ndarray
    epoch: np.ndarray
    views: np.ndarray | None = None
    view_subject: np.ndarray | None = None
    train: np.ndarray | None = None

    def some(self, rows: np.ndarray) -> Space:
        """The epochs of these rows; ``views`` are of epochs of their own and stay."""
        about = (self.z, self.y, self.subject, self.recording, self.epoch)
        z, y, subject, recording, epoch = (part[rows] for part in about)
        return replace(self, z=z, y=y, subject=subject, recording=recording, epoch=epoch)

    def read(self, rows: np.ndarray) -> Space:
        """The epochs of these rows, with z in memory."""
        some = self.some(rows)
        return replace(some, z=np.asarray(some.z))

    def without(self, subjects: np.ndarray) -> Space:
        """The epochs of all other subjects, and their views."""
        others = self.some(np.flatnonzero(~np.isin(self.subject, subjects)))
        if self.views is None:
            return others
        kept = ~np.isin(self.view_subject, subjects)
        return replace(others, views=self.views[:, kept], view_subject=self.view_subject[kept])

    def sample(self, most: int, seed: int) -> Space:
        """At most so many epochs, equally many per stage and subject, with z in memory."""
        return self.read(latent_metrics.stratified(self.y, self.subject, most, seed=seed))

    def rotated(self, seed: int) -> Space:
        """Every night's stages moved along it, by a quarter to three quarters of it, in a circle.

        So each night keeps its stages and their order, and each subject their number of each.
        """
        rng, y = np.random.default_rng(seed), self.y.copy()
        _, of = np.unique(self.recording, return_inverse=True)
        for rows in np.split(np.argsort(of, kind="stable"), np.cumsum(np.bincount(of))[:-1]):
            y[rows] = np.roll(y[rows], rng.integers(len(rows) // 4, len(rows) * 3 // 4 + 1))
        return replace(self, y=y)


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
    result = {"compactness": within, "separation": between, "compactness_ratio": float("nan")}
    if len(np.unique(space.y)) < 2 or latent_metrics.is_collapsed(space.z):
        return result | dict.fromkeys(names, float("nan"))
    if between > 0:
        result["compactness_ratio"] = within / between
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
    if space.views.shape[1] < 2:
        return {"alignment": float("nan"), "lidar": float("nan")}
    result = {"alignment": latent_metrics.alignment(space.views[0], space.views[1])}
    return result | {"lidar": latent_metrics.lidar(space.views)}


def along_nights(space: Space) -> dict[str, float]:
    """Cosine distance of neighbours in time, within a stage and across a transition."""
    same, apart = latent_metrics.continuity_of_nights(
        space.z, space.y, space.recording, space.epoch
    )
    return {"neighbours_same_stage": same, "neighbours_other_stage": apart}


def n1_against_rem(space: Space) -> dict[str, float]:
    """AUROC of telling N1 from REM in subjects left out: scorers and models confuse the two.

    Mean over groups of subjects, each staged by a model of the others.
    """
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
    mean, sd = scale_of(some.z[half])
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
    groups = np.searchsorted(names, some.subject) % min(5, len(names))
    each = []
    for group in np.unique(groups):
        train = groups != group
        if any(len(np.unique(label[part])) < 2 for part in (train, ~train)):
            continue  # one of the two stages is missing
        mean, sd = scale_of(some.z[train])
        model = LogisticRegression(max_iter=300).fit((some.z[train] - mean) / sd, label[train])
        score = model.decision_function((some.z[~train] - mean) / sd)
        # by group: the scores of different models have no common scale
        each.append(roc_auc_score(label[~train], score))
    return float(np.mean(each)) if each else float("nan")


LABEL_FREE: tuple[Metric, ...] = (shape, of_views)
OF_LABELS: tuple[Metric, ...] = (
    clusters_against_stages, stages_as_clusters, along_nights, n1_against_rem, subject_leakage,
)  # fmt: skip
# need nights whole, not a sample of their epochs: they read z themselves, a part at a time
_OF_NIGHTS = (along_nights, subject_leakage)
# of stages; telling subjects apart has a chance of 0 by its definition
_HAVE_NULL = tuple(metric for metric in OF_LABELS if metric is not subject_leakage)


def measure(
    space: Space, *, seed: int = 0, parts: int = 20, most: int = latent_metrics.MOST
) -> list[dict[str, Any]]:
    """Rows of metric, value, interval over subjects, and the value where stages are rotated.

    Subjects are divided into up to ``parts``, each left out in turn (0 or 1: no intervals): drawn
    twice, a subject's epochs would be each other's nearest neighbours.
    """
    scored = space.some(np.flatnonzero(space.y >= 0))
    names = np.unique(scored.subject)
    if len(scored.y) < _FEWEST["epochs"]:
        return [{"space": space.name, "metric": "all", "note": "too few scored epochs"}]
    sampled = scored.sample(most, seed)
    rotated = [scored.rotated(seed + k) for k in range(_NULLS)]
    nulls = [some.sample(most, seed) for some in rotated]
    # fewer epochs: metrics of pairs are computed once for every part
    fewer = sampled.sample(most // 2, seed)
    n_parts = min(parts, len(names))
    left = [names[k::n_parts] for k in range(n_parts)] if n_parts > 1 else []  # one is everybody
    rows = []
    for metric in (*LABEL_FREE, *OF_LABELS):
        of_nights = metric in _OF_NIGHTS
        value = _quiet(metric, scored if of_nights else sampled)
        by_chance = [
            _quiet(metric, some)
            for some in ((rotated if of_nights else nulls) if metric in _HAVE_NULL else [])
        ]
        of = scored if of_nights else fewer
        without = [_quiet(metric, of.without(part)) for part in left]
        for name, figure in value.items():
            each = [one[name] for one in without if name not in _GROWS]
            interval = left_out(figure, np.array(each), len(names)).plain()
            del interval["mean_of_subjects"]  # one subject's epochs alone have no such metrics
            null = np.mean([one[name] for one in by_chance]) if by_chance else np.nan
            rows.append(
                {
                    "space": space.name,
                    "metric": name,
                    **interval,
                    "null": plain(null),
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


def correlations(
    rows: Sequence[Mapping[str, Any]], probe: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Spearman's rank correlation of each label-free metric with the probe, over runs.

    With its interval over runs, which are few, and often of the same subjects.
    """
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
        if len(pairs) > 2 and all(len(set(side)) > 1 for side in zip(*pairs, strict=True)):
            value = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        known = of_rank_correlation(value, len(pairs))
        result.append(
            {
                "metric": name,
                "spearman": plain(value),
                "low": plain(known.low),
                "high": plain(known.high),
                "interval": known.kind,
                "runs": len(pairs),
            }
        )
    return result
