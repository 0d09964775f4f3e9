"""Metrics of latent spaces against hand-worked cases, brute force and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from probing import latent_metrics as lat


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_purity_is_one_for_a_finer_split_and_matching_is_not():
    y = np.repeat(np.arange(5), 20)
    clusters = np.arange(100) // 10  # ten pure clusters of five stages
    assert lat.purity(clusters, y) == 1.0
    assert lat.matching_accuracy(clusters, y) == 0.5
    assert lat.cluster_entropy(clusters, y) == 0.0
    mixed = np.tile([0, 1], 50)
    assert lat.purity(mixed, y) == 0.2
    assert lat.cluster_entropy(mixed, y) == pytest.approx(np.log2(5))
    assert lat.matching_accuracy((y + 2) % 5, y) == 1.0


def test_compactness_is_half_the_mean_squared_pair_distance(rng):
    z, y = rng.normal(size=(50, 6)), rng.integers(0, 3, 50)
    within, between = lat.compactness(z, y)
    brute = []
    for k in range(3):
        part = z[y == k]
        distances = np.square(part[:, None] - part[None]).sum(axis=2)
        brute.append(distances.mean() / 2)
    assert within == pytest.approx(np.mean(brute))
    centres = np.stack([z[y == k].mean(axis=0) for k in range(3)])
    assert between == pytest.approx(pdist(centres, "sqeuclidean").mean())


def test_alignment_of_identical_views_is_nothing(rng):
    z = rng.normal(size=(40, 8))
    assert lat.alignment(z, 3 * z) == pytest.approx(0, abs=1e-12)
    assert lat.alignment(z, z[rng.permutation(40)]) > 1
    assert lat.alignment(np.array([[1.0, 0]]), np.array([[0, 5.0]])) == pytest.approx(2)


def test_uniformity_of_the_sphere_and_of_a_point(rng):
    z = rng.normal(size=(3000, 128))
    assert lat.uniformity(z) == pytest.approx(-3.94, abs=0.02)
    assert lat.uniformity(100 * z) == pytest.approx(lat.uniformity(z))
    assert lat.uniformity(np.ones((50, 4))) == pytest.approx(0, abs=1e-9)
    small = rng.normal(size=(30, 3))
    unit = small / np.linalg.norm(small, axis=1, keepdims=True)
    assert lat.uniformity(small) == pytest.approx(
        np.log(np.exp(-2 * np.square(pdist(unit))).mean())
    )


def test_ranks(rng):
    z = rng.normal(size=(5000, 128))
    assert lat.rank_me(z) == pytest.approx(127.6, abs=0.3)
    assert lat.rank_me(rng.normal(size=(500, 3)) @ rng.normal(size=(3, 40))) < 3.01
    assert np.isnan(lat.rank_me(np.zeros((10, 4))))
    # singular values 3 and 1: shares .75 and .25
    assert lat.rank_me(np.diag([3.0, 1.0])) == pytest.approx(0.75**-0.75 * 0.25**-0.25)
    scales = np.arange(1, 21) ** -1.0  # eigenvalues fall with the square of the rank
    assert lat.alpha_req(rng.normal(size=(100_000, 20)) * scales) == pytest.approx(2, abs=0.1)


def test_the_decay_of_eigenvalues_weighs_ranks_as_published():
    """Was: all ranks alike, so that a hundred small eigenvalues set the slope."""
    # eigenvalues 4, 1 and 1 of the covariance of six points
    z = np.kron(np.diag([2.0, 1.0, 1.0]), [[1], [-1]]) * np.sqrt(2.5)
    assert np.linalg.eigvalsh(np.cov(z.T)) == pytest.approx([1, 1, 4])
    x, y, w = np.log([1, 2, 3]), np.log([4, 1, 1]), np.array([1, 1 / 2, 1 / 3])
    x, y = x - (w @ x) / w.sum(), y - (w @ y) / w.sum()
    assert lat.alpha_req(z) == pytest.approx(-(w * x) @ y / ((w * x) @ x))


def test_lidar_counts_what_tells_epochs_apart(rng):
    means = np.zeros((400, 16))
    means[:, :4] = rng.normal(size=(400, 4))
    views = means + 0.05 * rng.normal(size=(10, 400, 16))
    assert lat.lidar(views) == pytest.approx(4, abs=0.5)
    assert lat.lidar(rng.normal(size=(10, 400, 16))) > 12  # nothing but noise, in all directions
    assert np.isnan(lat.lidar(np.repeat(means[None], 10, axis=0)))  # views without any noise


def test_lidar_by_hand():
    # two axes; epochs differ by variances 9 and 1, their views by 1 and 1: shares .9 and .1
    means = np.array([[3, 1], [3, -1], [-3, 1], [-3, -1]]) * np.sqrt(3 / 4)
    noise = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    views = (means[None] + noise[:, None]).astype(np.float32)
    assert lat.lidar(views) == pytest.approx(0.9**-0.9 * 0.1**-0.1)


def test_the_ridge_of_lidar_follows_the_scale(rng):
    """Was: 1e-4 whatever the scale, which is most of the noise of small embeddings."""
    means = rng.normal(size=(300, 8)) * np.arange(1, 9)
    views = means + rng.normal(size=(10, 300, 8)) * np.arange(8, 0, -1)
    assert lat.lidar(1e-3 * views) == pytest.approx(lat.lidar(views), rel=1e-9)


def test_intrinsic_dimension(rng):
    flat = rng.uniform(size=(3000, 2)) @ rng.normal(size=(2, 20))
    assert lat.two_nn(flat) == pytest.approx(2, abs=0.15)
    assert lat.two_nn(rng.uniform(size=(3000, 5))) == pytest.approx(5, abs=0.6)
    assert np.isnan(lat.two_nn(np.ones((20, 3))))
    # nearest 1 and 3, 1 and 2, 2 and 3 away: dimension 3 / log(3 / 1 * 2 / 1 * 3 / 2)
    assert lat.two_nn(np.array([[0.0], [1], [3]])) == pytest.approx(3 / np.log(9))


def test_neighbours_are_near_wherever_the_space_lies(rng):
    """Was: by differences of large squares in float32, so that an offset changed the dimension."""
    z = rng.uniform(size=(1000, 3)).astype(np.float32)
    moved = z + np.float32(100)  # whose own rounding is a thousandth of the nearest distance
    assert lat.two_nn(moved) == pytest.approx(lat.two_nn(z), rel=0.01)
    y = rng.integers(0, 3, 1000)
    assert lat.compactness(moved, y) == pytest.approx(lat.compactness(z, y), rel=1e-3)


def test_cka_ignores_rotation_and_scale(rng):
    z = rng.normal(size=(300, 10))
    rotation = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    assert lat.linear_cka(z, 3 * z @ rotation + 1) == pytest.approx(1)
    assert abs(lat.linear_cka(z, rng.normal(size=(300, 10)))) < 0.02


def test_cka_is_debiased(rng):
    """Was: .5 of unrelated spaces that have as many dimensions as there are epochs."""
    one, other = rng.normal(size=(2, 60, 64))
    assert abs(lat.linear_cka(one, other)) < 0.1
    # as by kernels without their diagonals (Song et al. 2012)
    a, b = (z @ z.T for z in (one, other + one))
    n, ones = 60, np.ones(60)

    def hsic(k, m):
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        sums = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return (np.trace(k @ m) + sums - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3))

    expected = hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b))
    assert lat.linear_cka(one, other + one) == pytest.approx(expected)


def test_neighbours_within_and_between_stages():
    z = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 0]], float)
    y = np.array([0, 0, 2, 2, -1])
    recording, epoch = np.array(["a"] * 5), np.arange(5)
    assert lat.continuity_of_nights(z, y, recording, epoch) == (0.0, 1.0)
    other = np.array(["a", "a", "b", "b", "b"])
    same, apart = lat.continuity_of_nights(z, y, other, epoch)
    assert same == 0 and np.isnan(apart)


def test_epochs_without_a_direction_are_left_out():
    """Was: a zero counted as an epoch at half the distance of all others."""
    z = np.array([[1.0, 0], [0, 0], [1, 0], [0, 2]])
    assert lat.uniformity(z) == pytest.approx(np.log((1 + 2 * np.exp(-4)) / 3))
    assert lat.alignment(z, z[[0, 0, 3, 3]]) == pytest.approx(2 / 3)
    same, apart = lat.continuity_of_nights(z, np.array([0, 0, 0, 1]), np.zeros(4), np.arange(4))
    assert np.isnan(same) and apart == 1
    assert np.isnan(lat.uniformity(np.zeros((9, 2)))) and np.isnan(lat.alignment(z * 0, z))


def test_samples_are_balanced_over_stages_and_subjects():
    y = np.array([0] * 900 + [1] * 50 + [-1] * 50)
    subject = np.array((["a"] * 450 + ["b"] * 450) + ["a"] * 50 + ["c"] * 50)
    rows = lat.stratified(y, subject, 120)
    assert len(rows) == 120 and (np.diff(rows) > 0).all()
    groups = [
        ((y[rows] == s) & (subject[rows] == w)).sum() for s, w in ((0, "a"), (0, "b"), (1, "a"))
    ]
    assert groups == [40, 40, 40] and "c" not in subject[rows]
    assert len(lat.stratified(y, subject, 5000)) == 950


def test_a_collapsed_space_is_reported_and_not_a_crash():
    z, y = np.ones((60, 8)), np.repeat(np.arange(3), 20)
    assert lat.compactness(z, y) == (pytest.approx(0), pytest.approx(0))
    assert lat.uniformity(z) == pytest.approx(0, abs=1e-9)
    assert np.isnan(lat.two_nn(z)) and np.isnan(lat.linear_cka(z, z))
    assert lat.rank_me(z) == pytest.approx(1)
    assert np.isnan(lat.alpha_req(z))
    assert lat.is_collapsed(np.float32(0.1) * z.astype(np.float32))
    assert not lat.is_collapsed(1 + 1e-4 * np.random.default_rng(0).normal(size=(60, 8)))
