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
    assert between == pytest.approx(pdist(centres).mean())


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
    scales = np.arange(1, 21) ** -1.0  # eigenvalues fall with the square of the rank
    assert lat.alpha_req(rng.normal(size=(100_000, 20)) * scales) == pytest.approx(2, abs=0.1)


def test_lidar_counts_what_tells_epochs_apart(rng):
    means = np.zeros((400, 16))
    means[:, :4] = rng.normal(size=(400, 4))
    views = means + 0.05 * rng.normal(size=(10, 400, 16))
    assert lat.lidar(views) == pytest.approx(4, abs=0.5)
    assert lat.lidar(rng.normal(size=(10, 400, 16))) > 12  # nothing but noise, in all directions


def test_intrinsic_dimension(rng):
    flat = rng.uniform(size=(3000, 2)) @ rng.normal(size=(2, 20))
    assert lat.two_nn(flat) == pytest.approx(2, abs=0.15)
    assert lat.two_nn(rng.uniform(size=(3000, 5))) == pytest.approx(5, abs=0.6)
    assert np.isnan(lat.two_nn(np.ones((20, 3))))


def test_cka_ignores_rotation_and_scale(rng):
    z = rng.normal(size=(300, 10))
    rotation = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    assert lat.linear_cka(z, 3 * z @ rotation + 1) == pytest.approx(1)
    assert lat.linear_cka(z, rng.normal(size=(300, 10))) < 0.15


def test_neighbours_within_and_between_stages():
    z = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 0]], float)
    y = np.array([0, 0, 2, 2, -1])
    recording, epoch = np.array(["a"] * 5), np.arange(5)
    assert lat.continuity_of_nights(z, y, recording, epoch) == (0.0, 1.0)
    other = np.array(["a", "a", "b", "b", "b"])
    same, apart = lat.continuity_of_nights(z, y, other, epoch)
    assert same == 0 and np.isnan(apart)


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
