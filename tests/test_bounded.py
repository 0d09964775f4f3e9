"""Embeddings in files: probed and measured part by part, with the results that arrays give."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from probing import embeddings, latent_metrics, probes, row_files
from probing.latent_report import Space, measure
from probing.probes import Labelled
from probing.row_files import Rows, moments, open_rows, write_rows
from training.fine_tuning import context_probe
from utils.errors import UserError
from utils.files import write_arrays

WIDTH = 32


@pytest.fixture
def short(monkeypatch):
    """Parts so short that small data have many of them."""
    for module in (row_files, latent_metrics):
        monkeypatch.setattr(module, "AT_ONCE", 37)


def clouds(n: int, prefix: str = "a", seed: int = 0) -> Labelled:
    """Stages as overlapping clouds, some epochs unscored, of four subjects one after the other."""
    rng = np.random.default_rng(seed)
    stages = np.repeat(rng.choice(5, n // 5, p=(0.2, 0.05, 0.45, 0.1, 0.2)), 5).astype(np.int8)
    z = 3 * np.eye(5, WIDTH)[stages] + rng.normal(size=(n, WIDTH)) + 2
    stages[rng.random(n) < 0.1] = -1
    subjects = np.repeat([prefix + str(k) for k in range(4)], n // 4)
    return Labelled(z.astype(np.float32), stages, subjects)


def on_disk(path: Path, labelled: Labelled) -> Labelled:
    z = labelled.z
    return replace(labelled, z=write_rows(path, np.array_split(z, 7), len(z)))


@pytest.fixture
def both(tmp_path) -> tuple[list[Labelled], list[Labelled]]:
    """Training, validation and test epochs in memory, and the same in files."""
    inside = [clouds(400, "a", 0), clouds(200, "b", 1), clouds(240, "c", 2)]
    return inside, [on_disk(tmp_path / f"{k}.npy", some) for k, some in enumerate(inside)]


# files ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
def test_rows_of_a_file_are_those_of_the_array(tmp_path):
    z = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    rows = write_rows(tmp_path / "z.npy", np.array_split(z, 4), 200)
    assert rows.shape == z.shape and np.array_equal(np.load(tmp_path / "z.npy"), z)
    for some in (slice(0, 5), slice(30, 90), slice(190, 999), slice(None)):
        assert np.array_equal(rows[some], z[some])
    mixed = np.random.default_rng(1).permutation(200)[:90]
    assert isinstance(rows[mixed], Rows)
    assert np.array_equal(rows[mixed], z[mixed])
    assert np.array_equal(rows[mixed][np.arange(5, 60)][10:50], z[mixed][5:60][10:50])
    assert np.array_equal(np.concatenate(list(row_files.parts_of(rows))), z)
    mean, sd = moments(rows)
    assert np.allclose(mean, z.mean(axis=0), atol=1e-6) and np.allclose(sd, z.std(axis=0))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"nothing", np.zeros((5, 2), np.float32), np.zeros((6, 2)), np.zeros(6, np.float32),
        np.zeros((6, 2, 1), np.float32), np.array([[None]] * 6), ...,
    ],
    ids=["empty", "text", "fewer", "doubles", "flat", "deep", "pickled", "cut"],
)  # fmt: skip
def test_files_of_anything_else_are_refused(tmp_path, content):
    path = tmp_path / "z.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, np.zeros((6, 2), np.float32) if content is ... else content)
    if content is ...:
        path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"z\.npy: no embeddings .*run ssl_evaluate\.py"):
        open_rows(path, 6)


def written(folder: Path) -> Path:
    """Embeddings of three splits of one night, and controls."""
    views = {split: view_of(split) for split in embeddings.SPLITS}
    embeddings.write_embeddings(folder, views, embed_ones, CHECKPOINT, NET)
    for name in embeddings.CONTROLS:
        embed_ones(None, folder / "embeddings" / f"{name}.npy")
    arrays = {"z_view": np.zeros((2, 3, 2), np.float32), "view_rows": np.arange(3)}
    arrays |= {f"{name}_train": np.zeros((4, 2), np.float32) for name in TRAIN}
    write_arrays(folder / "embeddings" / "controls.npz", arrays)
    return folder / "embeddings"


def embed_ones(view: object, path: Path) -> Rows:
    return write_rows(path, [np.ones((3, 2), np.float32)], 3)


TRAIN = ("pretrained", *embeddings.CONTROLS)
NET = SimpleNamespace(encoder=torch.nn.Linear(1, 1))
CHECKPOINT = SimpleNamespace(stamp=dict, training=SimpleNamespace(command="c"))


def view_of(subject: str) -> SimpleNamespace:
    night = SimpleNamespace(subject=subject, night=1, first_epoch=4)
    stages = np.zeros(3, np.int8)
    return SimpleNamespace(nights=[night], recordings=["r"], lengths=np.array([3]), stages=stages)


@pytest.mark.parametrize(
    "change",
    [
        {"stage": np.array([0, 9, 0], np.int8)}, {"subject": np.arange(3)},
        {"epoch": np.arange(4)}, {"recording": np.array("r")}, {"stage": np.zeros(2, np.int8)},
    ],
    ids=lambda change: "_".join(f"{k}{np.shape(v)}" for k, v in change.items()),
)  # fmt: skip
def test_arrays_of_another_kind_are_refused(tmp_path, change):
    folder = written(tmp_path)
    with np.load(folder / "held_out.npz") as file:
        arrays = dict(file)
    np.savez(folder / "held_out.npz", **arrays | change)
    with pytest.raises(UserError, match=r"held_out\.npz: no embeddings of ours"):
        embeddings.load(folder, of=("held_out",))


def test_damaged_archives_and_files_of_before_are_refused(tmp_path):
    """Was: a traceback where an archive was damaged."""
    folder = written(tmp_path)
    whole = {path: path.read_bytes() for path in folder.glob("*.np?")}
    load = {
        "held_out.npz": lambda: embeddings.load(folder, of=("held_out",)),
        "controls.npz": lambda: embeddings.load_controls(folder, 3),
    }
    rng = np.random.default_rng(0)
    for name, read in load.items():
        path = folder / name
        for _ in range(12):
            damaged = bytearray(whole[path])
            damaged[rng.integers(len(damaged))] ^= 255
            path.write_bytes(damaged)
            try:
                read()
            except UserError as error:
                assert name in str(error)
        path.write_bytes(whole[path][:-9])
        with pytest.raises(UserError, match="run ssl_evaluate"):
            read()
        path.write_bytes(whole[path])
        read()
    # before, z was in the .npz
    for name, of in (("held_out", "held_out.npz"), ("band_powers", "controls.npz")):
        (folder / f"{name}.npy").unlink()
        with pytest.raises(UserError, match=rf"{name}\.npy: no embeddings"):
            load[of]()


def test_an_evaluation_cut_short_leaves_no_file_of_two_encoders(tmp_path):
    folder = written(tmp_path)
    loaded = embeddings.load(folder)["held_out"]
    assert loaded["t_sec"].tolist() == [120, 150, 180] and loaded["z"].shape == (3, 2)
    views = {split: view_of(split) for split in embeddings.SPLITS}

    def embed(view, path):
        if view is views["validation"]:
            raise UserError("no space left")
        return embed_ones(view, path)

    with pytest.raises(UserError, match="no space left"):
        embeddings.write_embeddings(tmp_path, views, embed, CHECKPOINT, NET)
    for read in (embeddings.load, lambda folder: embeddings.load_controls(folder, 3)):
        with pytest.raises(UserError, match="no embeddings"):
            read(folder)


# probes -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
def test_probes_of_files_are_those_of_arrays(both):
    for one, other in zip(
        *[
            [
                probes.linear_probe(train, validation, test),
                probes.linear_probe(train, validation, test, balanced=True),
                probes.nearest_neighbours(train, test),
                probes.majority(train, test),
            ]
            for train, validation, test in both
        ],
        strict=True,
    ):
        assert one.chosen == other.chosen and "training epochs" not in one.chosen
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-9)


def test_probes_of_small_data_are_what_they_were(both, monkeypatch):
    """Fitted and asked at once, as before embeddings were in files."""
    _, (train, validation, test) = both
    z, stages = train.z[:][train.stages >= 0], train.stages[train.stages >= 0]
    neighbours = KNeighborsClassifier(probes.NEIGHBOURS, weights="distance", metric="cosine")
    expected = neighbours.fit(z, stages).predict_proba(test.z[:])
    probed = probes.nearest_neighbours(train, test)
    np.testing.assert_allclose(probed.probabilities, expected, atol=1e-9)
    mean, sd = z.mean(axis=0), z.std(axis=0)
    monkeypatch.setattr(probes, "STRENGTHS", (0.1,))  # a second one begins where the first ended
    model = LogisticRegression(C=0.1, max_iter=1000).fit((z - mean) / sd, stages)
    probed = probes.linear_probe(train, validation, test)
    assert probed.chosen == "C 0.1"
    expected = model.predict_proba((test.z[:] - mean) / sd)
    np.testing.assert_allclose(probed.probabilities, expected, atol=1e-5)


def test_of_many_training_epochs_a_sample_is_taken_and_named(both, monkeypatch):
    train, validation, test = both[1]
    n_scored = int((train.stages >= 0).sum())
    monkeypatch.setattr(probes, "MOST", 100)
    some, note = probes.in_memory(train)
    assert note == f", {len(some.stages)} of {n_scored} training epochs"
    assert abs(len(some.stages) - 100) <= 3 and some.z.shape == (len(some.stages), WIDTH)
    shares = [
        np.bincount(s[s >= 0], minlength=5) / (s >= 0).sum() for s in (some.stages, train.stages)
    ]
    assert np.abs(shares[0] - shares[1]).max() < 0.01
    for probed in (
        probes.linear_probe(train, validation, test), probes.nearest_neighbours(train, test)
    ):  # fmt: skip
        assert probed.chosen.endswith(note)
        scored = test.stages >= 0
        assert (probed.stages == test.stages)[scored].mean() > 0.8


@pytest.mark.usefixtures("short")
def test_whole_nights_are_probed_as_they_are_read(both):
    results = []
    for splits in both:
        named = dict(zip(embeddings.SPLITS, splits, strict=True))
        offsets = {name: np.linspace(0, len(s.z), 5).astype(int) for name, s in named.items()}
        results.append(context_probe(named, offsets, seed=0, passes=1))
    assert results[0].chosen == results[1].chosen
    np.testing.assert_allclose(results[0].probabilities, results[1].probabilities, atol=1e-6)


# latent metrics ---------------------------------------------------------------------------------


def space_of(labelled: Labelled) -> Space:
    who = labelled.subjects
    return Space("a", labelled.z, labelled.stages, who, who, np.arange(len(who)))


@pytest.mark.usefixtures("short")
def test_metrics_of_files_are_those_of_arrays(both):
    one, other = (measure(space_of(splits[0]), parts=2, most=150) for splits in both)
    assert [row["metric"] for row in one] == [row["metric"] for row in other]
    for ours, theirs in zip(one, other, strict=True):
        for key in ("value", "low", "high", "null"):
            assert (ours[key] is None) == (theirs[key] is None), ours["metric"]
            assert ours[key] is None or ours[key] == pytest.approx(theirs[key], rel=1e-9)


@pytest.mark.parametrize("n", [36, 37, 38, 39, 75, 76])
def test_neighbours_across_parts_count_once(monkeypatch, n):
    z = np.random.default_rng(n).normal(size=(n, 4))
    y, night = np.arange(n) // 3 % 5, np.arange(n) // 50
    whole = latent_metrics.continuity_of_nights(z, y, night, np.arange(n))
    monkeypatch.setattr(latent_metrics, "AT_ONCE", 37)
    assert latent_metrics.continuity_of_nights(z, y, night, np.arange(n)) == pytest.approx(whole)
    monkeypatch.setattr(latent_metrics, "AT_ONCE", 1)
    assert latent_metrics.continuity_of_nights(z, y, night, np.arange(n)) == pytest.approx(whole)


# memory -----------------------------------------------------------------------------------------


def peak_mb(work: Callable[[], object]) -> float:
    """Memory that Python and numpy take at most, maps of files not counted."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_a_part_and_a_sample(tmp_path, monkeypatch):
    """Was: all embeddings, then copies of the scored ones, standardised or drawn."""
    monkeypatch.setattr(row_files, "AT_ONCE", 1000)
    monkeypatch.setattr(latent_metrics, "AT_ONCE", 1000)
    monkeypatch.setattr(probes, "MOST", 300)
    n, width = 40_000, 256
    rng = np.random.default_rng(0)
    parts = (rng.normal(size=(1000, width)).astype(np.float32) for _ in range(n // 1000))
    z = write_rows(tmp_path / "z.npy", parts, n)
    size = 4e-6 * n * width
    assert size > 40
    subjects = np.repeat(np.arange(20), n // 20)
    train = Labelled(z, rng.integers(-1, 5, n).astype(np.int8), subjects)
    assert peak_mb(lambda: np.asarray(z)) > size  # what is measured
    assert peak_mb(lambda: probes.linear_probe(train, train, train)) < size / 3
    latents = space_of(train)
    assert peak_mb(lambda: measure(latents, parts=2, most=200)) < size / 3
