"""Maps of latent spaces are fitted to some epochs and evaluated on others."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import TSNE

from probing import latent_maps
from probing.latent_maps import map_quality, maps, shared_neighbours

TRAIN, OTHERS = 120, 80


def spaces(width: int = 24, far: float = 0.0, axes: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Training and other epochs: noise, with five clusters ``far`` apart or a plane in it."""
    rng = np.random.default_rng(0)
    n = TRAIN + OTHERS
    z = rng.normal(size=(n, width)) + far * np.eye(5, width)[np.arange(n) % 5]
    if axes:
        z = 10 * rng.normal(size=(n, axes)) @ np.linalg.qr(rng.normal(size=(width, axes)))[0].T
    return z[:TRAIN].astype(np.float32), z[TRAIN:].astype(np.float32)


@pytest.fixture
def quick(monkeypatch):
    """Without UMAP, which takes seconds to begin."""
    monkeypatch.setattr(latent_maps, "_umap", lambda train, others, seed: others[:, :2])


@pytest.mark.usefixtures("quick")
def test_noise_has_no_true_map():
    """Was: drawn and evaluated on the same epochs, t-SNE made neighbours of noise."""
    train, others = spaces(width=64)
    drawn = maps(train, others)
    assert all(points.shape == (OTHERS, 2) for points in drawn.values())
    quality = map_quality(others, drawn, drawn)
    assert all(one["trustworthiness"] < 0.62 for one in quality.values())
    # what a map was fitted to seems truer than what it is of
    own = TSNE(2, init="pca", random_state=0).fit_transform(train)
    fitted = map_quality(train, {"t-SNE": own}, {"t-SNE": own})["t-SNE"]
    assert fitted["trustworthiness"] > quality["t-SNE"]["trustworthiness"] + 0.05


@pytest.mark.slow
def test_umap_places_others_in_planted_clusters():
    train, others = spaces(far=15.0)
    first, second = (latent_maps._umap(train, others, seed) for seed in (0, 1))
    quality = map_quality(others, {"UMAP": first}, {"UMAP": second})["UMAP"]
    assert quality["trustworthiness"] > 0.8 and quality["stability"] > 0.3
    of_noise = latent_maps._umap(*spaces(width=64), 0)
    noise = map_quality(spaces(width=64)[1], {"UMAP": of_noise}, {"UMAP": of_noise})["UMAP"]
    assert noise["trustworthiness"] < 0.62


@pytest.mark.usefixtures("quick")
def test_planted_clusters_are_mapped_wherever_they_are():
    train, others = spaces(far=15.0)
    drawn = maps(train, others)
    again = drawn | {"t-SNE": latent_maps._t_sne(train, others, 1)}
    quality = map_quality(others, drawn, again)
    assert list(quality) == ["PCA", "t-SNE", "UMAP"]
    for name, one in quality.items():
        assert one["trustworthiness"] > (0.8 if name == "t-SNE" else 0.55), name
        assert one["epochs"] == OTHERS and one["neighbours"] == 15
    assert quality["PCA"]["stability"] == 1 > quality["t-SNE"]["stability"] > 0.3 > 15 / OTHERS
    cluster = np.arange(TRAIN, TRAIN + OTHERS) % 5
    places = np.stack([drawn["t-SNE"][cluster == k].mean(axis=0) for k in range(5)])
    spread = np.sqrt(drawn["t-SNE"].var(axis=0).sum())
    for k in range(5):
        assert np.linalg.norm(drawn["t-SNE"][cluster == k] - places[k], axis=1).mean() < spread / 2


@pytest.mark.usefixtures("quick")
def test_a_plane_is_mapped_truly():
    train, others = spaces(axes=2)
    # one scale for all dimensions, which scaling each by itself would bend
    flat = {"PCA": latent_maps.maps(train, others)["PCA"]}
    mean, sd = train.mean(axis=0), train.std(axis=0)
    quality = map_quality((others - mean) / sd, flat, flat)["PCA"]
    assert quality["trustworthiness"] == quality["continuity"] == pytest.approx(1, abs=1e-3)


@pytest.mark.usefixtures("quick")
def test_who_else_is_mapped_changes_no_place():
    train, others = spaces(far=8.0)
    all_of_them, some = maps(train, others), maps(train, others[:40])
    for name in ("PCA", "t-SNE"):
        assert np.allclose(all_of_them[name][:40], some[name], atol=1e-4)


def test_stability_knows_no_rotation_and_no_scale():
    rng = np.random.default_rng(0)
    one, turn = rng.normal(size=(300, 2)), np.linalg.qr(rng.normal(size=(2, 2)))[0]
    assert shared_neighbours(one, 7 * one @ turn + 3, 15) == 1
    assert shared_neighbours(one, rng.normal(size=(300, 2)), 15) == pytest.approx(
        15 / 299, abs=0.02
    )
    # by hand: of four places, each has another nearest one
    places = np.array([[0.0, 0], [1, 0], [10, 0], [11, 0]])
    assert shared_neighbours(places, places[[0, 2, 1, 3]], 1) == 0
    assert shared_neighbours(places, places[[1, 0, 2, 3]], 1) == 1


@pytest.mark.usefixtures("quick")
def test_few_epochs_and_constant_dimensions():
    train, others = spaces(width=6)
    train[:, 3] = others[:, 3] = 2.0
    drawn = maps(train[:20], others[:9])
    assert all(np.isfinite(points).all() for points in drawn.values())
    assert set(map_quality(others[:9], drawn, drawn)) == {"PCA", "t-SNE", "UMAP"}
