"""Prototypes: planted clusters, medoids, files, the control, entries and the page."""

from __future__ import annotations

import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import bundle_prototypes
from datasets.readers import npz_file
from interpret import prototypes
from interpret.neighbours import nearest
from interpret.prototype_report import LATENT, POWERS, add_prototypes, compared, write_control
from interpret.prototypes import Prototypes, gathered, medoids, read_from, save, thinned
from interpret.scoreboard import summarise
from tests.small_store import write_small_store
from utils.errors import UserError
from utils.signals import slowed

FS, CENTRES = 100, np.array([[0, 0], [10, 0], [0, 10], [10, 10], [5, 20]], float)


def planted(n=12, seed=0, powers_tell=False) -> Prototypes:
    """Clusters of z around one centre for each stage, ``n`` epochs each."""
    rng = np.random.default_rng(seed)
    stages = np.repeat(np.arange(5), n)
    decibels = rng.standard_normal((len(stages), 3))
    return Prototypes(
        z=(CENTRES[stages] + rng.normal(0, 0.5, (len(stages), 2))).astype(np.float32),
        stages=stages.astype(np.int8),
        decibels=decibels + 10 * powers_tell * stages[:, None],
        traces=rng.normal(0, 20, (len(stages), 1, 1200)).astype(np.float32),
        recordings=np.full(len(stages), "SC4001E0"),
        epochs=np.arange(len(stages)),
        unit="µV",
        weights="abc",
    )


def test_the_nearest_have_the_planted_stage():
    known = planted()
    distances, rows = known.nearest(CENTRES, 3)
    assert rows.shape == (5, 3) and (known.stages[rows] == np.arange(5)[:, None]).all()
    assert (np.diff(distances, axis=1) >= 0).all() and distances.max() < 1
    # a dimension counts by its SD, not by its unit
    stretched = replace(known, z=known.z * np.array([1, 1000], np.float32))
    assert (stretched.nearest(CENTRES * [1, 1000], 3)[1] == rows).all()
    assert 0 < known.typical < 0.5
    assert nearest(known.z[:2], known.z, 5)[1].shape == (60, 2)


def test_medoids_are_the_middles_of_clusters():
    rng = np.random.default_rng(1)
    z = np.concatenate([rng.normal(0, 1, (40, 2)) + centre for centre in CENTRES[:3] * 3])
    z[[7, 50, 100]] = CENTRES[:3] * 3  # the middles themselves
    chosen = medoids(z, 3)
    assert np.abs(z[chosen] - CENTRES[:3] * 3).max() < 0.5
    assert (medoids(z, 3) == chosen).all()
    assert medoids(z[:2], 3).tolist() == [0, 1]
    assert len(set(map(tuple, z[medoids(np.repeat(z[:2], 5, axis=0), 2)]))) <= 2  # copies


def test_thinned_prototypes_keep_every_stage():
    known = planted()
    few = thinned(known, 2)
    assert np.bincount(few.stages).tolist() == [2] * 5
    assert (few.z == known.z[few.epochs]).all() and few.weights == "abc"
    without_rem = known.some(np.flatnonzero(known.stages != 4))
    assert np.bincount(thinned(without_rem, 2).stages, minlength=5).tolist() == [2, 2, 2, 2, 0]


def load(path) -> Prototypes:
    return read_from(npz_file.read(path, "file of prototypes"), path)


def test_files_bring_prototypes_back(tmp_path):
    known = planted()
    save(tmp_path / "p.npz", known)
    again = load(tmp_path / "p.npz")
    assert np.abs(again.z - known.z).max() < 0.01 and again.weights == "abc"
    assert np.abs(again.traces - known.traces).max() < np.abs(known.traces).max() / 200
    assert again.recordings.tolist() == known.recordings.tolist() and again.unit == "µV"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", "array", "short", "flat", "stage"])
def test_damaged_files_are_refused_in_one_line(content, tmp_path):
    path = tmp_path / "p.npz"
    save(path, planted())
    with np.load(path) as arrays:
        kept = dict(arrays)
    if content == "short":
        np.savez(path, **kept | {"stages": kept["stages"][:3]})
    elif content == "flat":
        np.savez(path, **kept | {"z": kept["stages"]})
    elif content == "stage":
        np.savez(path, **kept | {"stages": kept["stages"] + np.int8(1)})
    elif content == "array":
        np.savez(path, z=kept["z"])
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"p\.npz: "):
        load(path)


def share(rows, space, stage="all"):
    return next(r["mean"] for r in rows if r["method"] == space and r["stage"] == stage)


def test_the_control_tells_spaces_apart():
    """A latent space that separates stages against powers that do not, and the other way."""
    known, expert = planted(), np.repeat(np.arange(5), 6).astype(np.int8)
    expert[0] = -1
    rng = np.random.default_rng(2)
    powers = rng.standard_normal((30, 3))
    powers[1] = np.nan
    rows = summarise(list(compared(known, CENTRES[expert], powers, expert, "s")))
    assert share(rows, LATENT) == 1 and share(rows, POWERS) < 0.6
    assert share(rows, f"{LATENT}, less {POWERS}") == pytest.approx(1 - share(rows, POWERS))
    assert share(rows, "drawn at random") == pytest.approx(0.2)
    assert {row["epochs"] for row in rows if row["stage"] == "W"} == {
        4
    }  # of 6: one each is left out
    telling = planted(powers_tell=True)
    noise = rng.standard_normal((30, 2))
    rows = summarise(
        list(compared(telling, noise, 10.0 * expert[:, None] + powers * 0, expert, "s"))
    )
    assert share(rows, POWERS) == 1 > 0.6 > share(rows, LATENT)
    assert list(compared(known, noise, powers, np.full(30, -1), "s")) == []


class Encoder(nn.Module):
    """Encodes an epoch by the mean and the SD of its first channel."""

    stages_epochs = separable = True

    def adapt_to_night(self, x, batch_size=256):
        self.adapted = len(x)

    def encode_epochs(self, x):
        return torch.stack([x[:, 0].mean(dim=-1), x[:, 0].std(dim=-1)], dim=1)


class View:
    """Two nights of one EEG whose epochs are louder the deeper the stage."""

    fs = FS
    channels = (SimpleNamespace(role="EEG", label="EEG", unit="uV"),)

    def __init__(self):
        rng = np.random.default_rng(3)
        self.expert = np.tile([0, 1, 2, 3, 4, -1], 4)
        self.signals = {
            name: torch.from_numpy(
                rng.normal(0, 1 + self.expert.clip(0)[:, None, None], (24, 1, 3000))
            ).float()
            for name in ("a", "b")
        }
        self.recordings = list(self.signals)
        self.nights = [SimpleNamespace(id=name, subject=f"s{name}") for name in self.signals]

    def whole_nights(self):
        for name, signals in self.signals.items():
            yield name, signals, torch.from_numpy(self.expert)

    def moments(self, recording):
        return np.array([5.0]), np.array([2.0])


def test_training_epochs_are_gathered_by_stage_in_their_own_unit():
    view, model = View(), Encoder()
    known = gathered(model, view, per_stage=6)
    assert np.bincount(known.stages).tolist() == [6] * 5 and model.adapted == 24
    assert sorted(set(known.recordings)) == ["a", "b"] and known.unit == "µV"
    row = 7
    signals = view.signals[known.recordings[row]][known.epochs[row]]
    assert known.z[row].tolist() == pytest.approx([float(signals.mean()), float(signals.std())])
    assert np.allclose(known.traces[row], slowed(signals.numpy() * 2 + 5), atol=1e-3)
    assert known.stages[row] == view.expert[known.epochs[row]]
    assert (gathered(model, view, per_stage=6).epochs == known.epochs).all()


def test_tables_and_entries_are_written(tmp_path):
    view, model = View(), Encoder()
    known = gathered(model, view)
    rows = write_control(tmp_path, view, model, known)
    with (tmp_path / "prototypes.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert (tmp_path / "prototypes.png").read_bytes()[:4] == b"\x89PNG"
    # its own epochs are among the prototypes, so each is its own nearest
    assert {row["mean"] for row in rows if row["space"] in (LATENT, POWERS)} == {1.0}
    night = SimpleNamespace(
        signals=view.signals["a"],
        staged=SimpleNamespace(recording="a"),
        physical=lambda k: view.signals["a"][k].numpy() * 2 + 5,
        channels=("EEG",),
        unit="µV",
    )
    entries = [{"epoch": k, "folder": f"a_e{k:04d}", "model": "N2", "methods": {}} for k in (3, 8)]
    add_prototypes(tmp_path, night, model, known, entries, pictures=1)
    about = entries[0]["methods"]["prototypes"]
    assert about["settings"]["stages"][0] == "N3" and about["settings"]["distances"][0] == 0
    with np.load(tmp_path / about["file"]) as arrays:
        one, other = prototypes.shown(arrays)
    assert (one["stage"], one["origin"], one["distance"]) == ("N3", "training night a, epoch 3", 0)
    assert other["distance"] > 0 and one["traces"].shape == (1, 1200)
    assert (tmp_path / "a_e0003" / "prototypes.png").exists()
    assert not (tmp_path / "a_e0008" / "prototypes.png").exists()
    add_prototypes(tmp_path, night, model, known, [])


def test_bundling_refuses_other_stores(tmp_path):
    store = write_small_store(tmp_path / "store")
    words = ["--data_path", str(store), "--output", str(tmp_path / "p.npz")]
    with pytest.raises(UserError, match="none of its subjects trained"):
        bundle_prototypes.main(words)
