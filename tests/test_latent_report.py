"""Every metric on spaces whose answer is known; nulls, intervals and left-out subjects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import gammaln, iv
from scipy.stats import spearmanr

from probing.latent_report import (
    LABEL_FREE,
    OF_LABELS,
    Space,
    clusters_against_stages,
    correlations,
    measure,
    n1_against_rem,
    stages_as_clusters,
)
from utils.intervals import FISHER, of_rank_correlation

WIDTH, SUBJECTS, NIGHT = 16, 6, 100
N = SUBJECTS * NIGHT


def space_of(z: np.ndarray, y: np.ndarray | None = None, noise: float = 1.0) -> Space:
    """z (n, d) of six subjects of one night, stages in runs of five epochs, views with noise."""
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(N // 5) % 5, 5) if y is None else y
    who = np.repeat([f"s{k}" for k in range(SUBJECTS)], NIGHT)
    rows = np.arange(0, N, 3)
    views = z[rows] + noise * rng.normal(size=(10, len(rows), z.shape[1]))
    return Space("a", z, y, who, who, np.tile(np.arange(NIGHT), SUBJECTS), views, who[rows])


def gaussian() -> Space:
    return space_of(np.random.default_rng(0).normal(size=(N, WIDTH)))


def clusters(far: float = 12.0) -> Space:
    isotropic = gaussian()
    return space_of(isotropic.z + far * np.eye(5, WIDTH)[isotropic.y])


def line() -> Space:
    rng = np.random.default_rng(0)
    direction = rng.normal(size=WIDTH)
    return space_of(rng.normal(size=(N, 1)) * direction / np.linalg.norm(direction), noise=0.1)


def collapsed() -> Space:
    return space_of(np.full((N, WIDTH), 0.1, np.float32), noise=0.0)


def figures(space: Space) -> dict[str, float]:
    return {k: v for metric in (*LABEL_FREE, *OF_LABELS) for k, v in metric(space).items()}


def test_isotropic_noise():
    values = figures(gaussian())
    # p.d.f. of the angle between two directions, integrated in closed form: exp(-4 + 4 cos)
    order = WIDTH / 2 - 1
    expected = -4 + gammaln(WIDTH / 2) - order * np.log(2) + np.log(iv(order, 4))
    assert values["uniformity"] == pytest.approx(expected, abs=0.02)
    assert values["rank_me"] == pytest.approx(WIDTH, rel=0.01)
    assert values["alpha_req"] == pytest.approx(0, abs=0.25)
    assert values["mean_norm"] == pytest.approx(WIDTH**0.5, rel=0.03)
    assert values["compactness"] == pytest.approx(WIDTH, rel=0.05)
    # centres of 120 epochs each differ by chance alone
    assert values["separation"] == pytest.approx(2 * WIDTH / 120, rel=0.5)
    for name in ("ari", "ami", "silhouette_stage", "subject_leakage"):
        assert values[name] == pytest.approx(0, abs=0.1)
    assert values["auroc_n1_rem"] == pytest.approx(0.5, abs=0.12)
    assert values["purity"] < 0.35 and values["cluster_entropy"] > 2.1
    for name in ("neighbours_same_stage", "neighbours_other_stage"):
        assert values[name] == pytest.approx(1, abs=0.07)
    assert values["lidar"] == pytest.approx(WIDTH, rel=0.1)


def test_planted_clusters():
    values = figures(clusters())
    for name in ("purity", "matching_accuracy", "ari", "ami", "v_measure", "auroc_n1_rem"):
        assert values[name] == pytest.approx(1)
    assert values["cluster_entropy"] == 0
    # centres 12 along different axes: 12² + 12² apart, and each cluster as wide as the noise
    assert values["separation"] == pytest.approx(2 * 12**2, rel=0.03)
    assert values["compactness"] == pytest.approx(WIDTH, rel=0.05)
    assert values["compactness_ratio"] == pytest.approx(WIDTH / 288, rel=0.06)
    # distance within a cluster against that to the next
    expected = 1 - np.sqrt(2 * WIDTH) / np.sqrt(2 * WIDTH + 288)
    assert values["silhouette_stage"] == pytest.approx(expected, abs=0.02)
    assert values["davies_bouldin"] == pytest.approx(2 * 16**0.5 / 288**0.5, rel=0.05)
    assert values["neighbours_same_stage"] < 0.2 < 0.8 < values["neighbours_other_stage"]


def test_a_line():
    values = figures(line())
    assert values["rank_me"] == pytest.approx(1, abs=1e-3)
    assert values["two_nn"] == pytest.approx(1, abs=0.12)
    # half of all pairs point the same way, the others are 2 apart
    assert values["uniformity"] == pytest.approx(np.log((1 + np.exp(-8)) / 2), abs=0.01)
    assert np.isnan(values["alpha_req"])  # one eigenvalue has no decay
    # variance 1 over that of the noise, .01, on the line, and none but the means' share elsewhere
    share = np.array([1 / 0.01 + 0.1, *[0.1] * (WIDTH - 1)])
    share /= share.sum()
    assert values["lidar"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=0.03)


def test_a_collapsed_space():
    values = figures(collapsed())
    assert values["rank_me"] == pytest.approx(1)
    assert values["uniformity"] == pytest.approx(0, abs=1e-5)
    assert values["alignment"] == pytest.approx(0, abs=1e-9)
    assert values["compactness"] == values["separation"] == pytest.approx(0, abs=1e-9)
    undefined = (
        "purity", "ari", "silhouette_stage", "davies_bouldin", "compactness_ratio", "alpha_req",
        "two_nn", "lidar",
    )  # fmt: skip
    assert all(np.isnan(values[name]) for name in undefined)
    assert values["auroc_n1_rem"] == pytest.approx(0.5)
    assert values["subject_leakage"] == pytest.approx(0)


@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_no_scale_changes_a_metric_that_knows_none(scale):
    """Was: fixed floors, by which small embeddings were undefined, collapsed or all ridge."""
    some = clusters(3.0)
    one = figures(some)
    other = figures(replace(some, z=scale * some.z, views=scale * some.views))
    powers = {"compactness": 2, "separation": 2, "mean_norm": 1}
    for name, value in one.items():
        assert other[name] == pytest.approx(scale ** powers.get(name, 0) * value, rel=2e-3), name
    assert len(one) > 20 and not any(map(np.isnan, one.values()))


# nulls and intervals ------------------------------------------------------------------------------


def test_the_null_keeps_every_nights_stages_and_their_order():
    """Was: stages drawn over all epochs, which no night has in such an order or number."""
    rng = np.random.default_rng(0)
    space = space_of(gaussian().z, rng.integers(0, 5, N))
    moved = space.rotated(0)
    for who in np.unique(space.recording):
        of = space.recording == who
        turned = [np.roll(space.y[of], k) for k in range(NIGHT // 4, NIGHT * 3 // 4 + 1)]
        assert any(np.array_equal(moved.y[of], one) for one in turned)
    assert not np.array_equal(moved.y, space.y)
    assert not np.array_equal(space.rotated(1).y, moved.y)


def test_what_is_about_subjects_is_in_the_null_as_well():
    """Was: clusters that are subjects, who sleep differently, seemed to know stages."""
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(SUBJECTS), NIGHT)
    # half of the subjects mostly awake, the others mostly in N3, in no order
    y = np.where(rng.random(N) < 0.9, np.where(who % 2, 0, 3), rng.integers(0, 5, N))
    space = space_of(rng.normal(size=(N, WIDTH)) + 20 * np.eye(2, WIDTH)[who % 2], y)
    row = next(row for row in measure(space, parts=0) if row["metric"] == "purity")
    assert row["value"] > 0.3 and row["null"] == pytest.approx(row["value"], abs=0.06)


def test_stages_have_nulls_and_telling_subjects_apart_has_none():
    rows = {row["metric"]: row for row in measure(clusters(), parts=0)}
    assert rows["auroc_n1_rem"]["null"] < 0.75 < rows["auroc_n1_rem"]["value"]
    assert rows["neighbours_same_stage"]["null"] > 2 * rows["neighbours_same_stage"]["value"]
    assert rows["ari"]["null"] < 0.3
    for name in ("subject_leakage", "rank_me", "lidar"):
        assert rows[name]["null"] is None


def test_metrics_of_views_have_intervals_over_subjects():
    """Was: none, as which subjects the views were of was not kept."""
    some = gaussian()
    rows = {row["metric"]: row for row in measure(some, parts=6)}
    for name in ("alignment", "lidar"):
        row = rows[name]
        assert row["low"] < row["value"] < row["high"]
        assert row["interval"] == "jackknife over subjects" and row["subjects"] == SUBJECTS
    left = some.without(np.array(["s0", "s3"]))
    assert set(left.subject) == set(left.view_subject) == {"s1", "s2", "s4", "s5"}
    assert np.array_equal(left.views, some.views[:, ~np.isin(some.view_subject, ["s0", "s3"])])


def test_n1_and_rem_are_separated_within_groups_of_subjects():
    """Was: scores of five models in one order: noise was separated the wrong way round.

    Who is left out with much REM is staged by models that have seen little.
    """
    rng = np.random.default_rng(0)
    share = np.repeat([0.9, 0.1, 0.9, 0.1, 0.5, 0.5], NIGHT)
    space = space_of(rng.normal(size=(N, 2)), np.where(rng.random(N) < share, 4, 1))
    assert n1_against_rem(space)["auroc_n1_rem"] == pytest.approx(0.5, abs=0.08)


def test_metrics_of_labels_need_no_more_than_one_stage():
    space = replace(gaussian(), y=np.full(N, 2))
    assert np.isnan(stages_as_clusters(space)["silhouette_stage"])
    assert clusters_against_stages(space)["purity"] == 1


def test_correlations_have_intervals_and_numbers_of_runs():
    names, rng = [f"r{k}" for k in range(9)], np.random.default_rng(0)
    x, probe = np.arange(9.0), rng.normal(size=9) + np.arange(9) / 3
    rows = [
        {"space": name, "metric": "rank_me", "value": value, "needs_labels": False}
        for name, value in zip(names, x, strict=True)
    ]
    (row,) = correlations(rows, dict(zip(names, probe, strict=True)))
    value = spearmanr(x, probe).statistic
    reach = 1.959964 * np.sqrt((1 + value**2 / 2) / 6)
    assert row["spearman"] == pytest.approx(value) and row["runs"] == 9
    assert row["low"] == pytest.approx(np.tanh(np.arctanh(value) - reach), abs=1e-6)
    assert row["high"] == pytest.approx(np.tanh(np.arctanh(value) + reach), abs=1e-6)
    assert row["interval"] == FISHER
    (row,) = correlations(rows, dict.fromkeys(names, 0.5))
    assert row["spearman"] is row["low"] is None


def test_a_perfect_order_of_few_runs_proves_little():
    five, three = of_rank_correlation(1.0, 5), of_rank_correlation(1.0, 3)
    assert 0 < five.low < 0.3 < five.high < 1
    assert np.isnan(three.low) and three.kind == "none"
    wrong = of_rank_correlation(-1.0, 5)
    assert (wrong.low, wrong.high) == pytest.approx((-five.high, -five.low))


@pytest.mark.parametrize(("n", "rho"), [(6, 0.5), (9, 0.0), (9, 0.8), (100, 0.5)])
def test_intervals_of_correlations_cover_as_they_should(n, rho):
    rng = np.random.default_rng(n)
    x, noise = rng.normal(size=(2, 1000, n))
    y = rho * x + (1 - rho**2) ** 0.5 * noise
    # ranks correlated row by row
    ranks = [part.argsort(axis=1).argsort(axis=1) - (n - 1) / 2 for part in (x, y)]
    values = (ranks[0] * ranks[1]).sum(axis=1) / np.square(ranks[0]).sum(axis=1)
    true = 6 / np.pi * np.arcsin(rho / 2)
    intervals = [of_rank_correlation(value, n) for value in values]
    assert 0.925 <= np.mean([one.low <= true <= one.high for one in intervals]) < 0.995
