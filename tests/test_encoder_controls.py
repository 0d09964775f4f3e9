"""What encoders are compared with: calibrated, scaled by night, given the same budget."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import models
from evaluation import embed, encoder_controls
from evaluation.encoder_controls import budget, embed_powers, untrained
from evaluation.stagers import catalogue
from probing.probes import N_HAND_MADE, Labelled, hand_made
from probing.row_files import scaled_by_night, write_rows
from training.fine_tuning import Tuning
from utils.errors import UserError


def checkpoint_of(**settings) -> SimpleNamespace:
    return SimpleNamespace(settings={"decoder": False, "projection": [], **settings}, passes=4)


def rhythms(n: int) -> torch.Tensor:
    """Epochs (n, 1, 3000) of noise with rhythms of 2 or 12 Hz, standardised."""
    torch.manual_seed(0)
    time, hertz = torch.arange(3000) / 100, torch.tensor([2.0, 12.0])[torch.arange(n) % 2]
    x = torch.sin(2 * torch.pi * hertz[:, None] * time)[:, None] + torch.randn(n, 1, 3000)
    return (x - x.mean()) / x.std()


def test_untrained_encoders_are_calibrated_on_unlabelled_epochs():
    """Was: batch norms with the statistics of no data, by which all epochs came out alike."""
    epochs = rhythms(12)
    trained = models.build("pretraining", encoder="cnn", decoder=False, projection=[]).encoder
    control = untrained(checkpoint_of(encoder="cnn"), trained, 0, epochs)
    first = control.encoder.stages[0].layers
    with torch.no_grad():
        reached = first[0](epochs)
        z = control.encoder.latent(epochs)
    assert torch.allclose(first[1].running_mean, reached.mean(dim=(0, 2)), atol=1e-4)
    assert torch.allclose(first[1].running_var, reached.var(dim=(0, 2)), rtol=1e-2)
    assert not control.training and first[1].momentum == trained.stages[0].layers[1].momentum
    torch.manual_seed(0)
    raw = models.build("pretraining", encoder="cnn", decoder=False, projection=[]).encoder.eval()
    # the same weights, the statistics of none
    assert torch.equal(raw.stages[0].layers[0].weight, first[0].weight)
    with torch.no_grad():
        before = raw.latent(epochs)

    def variation(z: torch.Tensor) -> float:
        """Variation among epochs, of their length."""
        return float(z.var(dim=0).sum().sqrt() / z.norm(dim=1).mean())

    assert variation(z) > 20 * variation(before)


def test_controls_differ_by_seed_alone_and_leave_the_generator():
    epochs, checkpoint = rhythms(8), checkpoint_of(encoder="transformer")
    encoder = models.build("pretraining", **checkpoint.settings).encoder
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (untrained(checkpoint, encoder, seed, epochs) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    weights = [control.encoder.embed.weight for control in (one, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    # as before any training: nothing of the trained network, its CLS token included
    assert not torch.equal(one.encoder.cls.sort().values, encoder.cls.sort().values)


def test_spectrograms_of_a_control_have_the_scale_of_the_training_nights():
    """Was: 0 and 1, whatever the encoder's."""
    epochs, checkpoint = rhythms(8), checkpoint_of(encoder="seqsleepnet")
    encoder = models.build("pretraining", **checkpoint.settings).encoder
    encoder.spectrogram.fit([epochs])
    control = untrained(checkpoint, encoder, 0, epochs)
    assert torch.equal(control.encoder.spectrogram.mean, encoder.spectrogram.mean)
    assert torch.equal(control.encoder.spectrogram.sd, encoder.spectrogram.sd)


class Nights:
    """Two nights, one a hundred times louder, as embeddings of a view are made of them."""

    fs, stages = 100.0, np.zeros(24, int)

    def __init__(self) -> None:
        quiet = rhythms(12)
        self.signals = [quiet, 10 * quiet]
        self.nights, self.n_epochs = [0, 1], 24

    def whole_nights(self):
        return ((k, signals, None) for k, signals in enumerate(self.signals))


def test_band_powers_are_centred_and_scaled_by_night(tmp_path):
    """Was: as they are, so that a louder recorder was another stage."""
    z = embed_powers(Nights(), tmp_path / "powers.npy")[:].reshape(2, 12, N_HAND_MADE)
    assert np.allclose(z.mean(axis=1), 0, atol=1e-5)
    assert np.allclose(z.std(axis=1), 1, atol=1e-4) and np.allclose(z[0], z[1], atol=0.02)
    features = hand_made(rhythms(12).numpy(), 100.0)
    expected = (features - features.mean(axis=0)) / features.std(axis=0)
    assert np.allclose(z[0], expected, atol=1e-3)


def test_rows_scaled_by_night_are_read_like_any(tmp_path):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(50, 3)).astype(np.float32)
    z[20:] = 7 * z[20:] + 4
    z[:20, 2] = 5.0  # constant in one night
    offsets = np.array([0, 20, 50])
    rows = write_rows(tmp_path / "z.npy", [z], 50)
    expected = (z[20:] - z[20:].mean(axis=0)) / z[20:].std(axis=0)
    for scaled in (scaled_by_night(z, offsets), scaled_by_night(rows, offsets)):
        assert scaled.shape == (50, 3) and len(scaled) == 50
        assert np.allclose(scaled[20:50], expected, atol=1e-4)
        assert np.array_equal(scaled[0:20][:, 2], np.zeros(20))
        some = np.array([45, 3, 21])
        assert np.allclose(np.asarray(scaled[some]), scaled[0:50][some])
        labelled = Labelled(scaled, np.arange(50) % 6 - 1, np.zeros(50)).scored
        assert np.allclose(labelled.z[0:9], np.asarray(scaled)[np.arange(50) % 6 > 0][:9])


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({}, 4 * 1000),
        ({"val_check_interval": 2}, 4 * 1000 / 4),
        ({"n_nights": 2}, 4 * 200),
        ({"n_steps": 3, "accumulate": 2}, 3 * 2 * 128),
        ({"n_steps": 500, "keep_steps": [1, 4]}, 4 * 128),
    ],
    ids=["by pass", "four validations per pass", "two of ten nights", "three steps", "kept steps"],
)
def test_a_supervised_encoder_sees_as_many_epochs_as_pretraining(tmp_path, given, seen):
    """Was: whole passes over all nights, however few steps and nights pretraining had."""
    flags = {"val_check_interval": 0, "batch_size": 128, "accumulate": 1, "n_steps": None}
    view = SimpleNamespace(n_epochs=1000, nights=[None] * 10)
    (tmp_path / "run.json").write_text(json.dumps({"settings": flags | given}))
    assert budget(tmp_path, checkpoint_of(), view) == round(seen / 64)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match=r"run\.json: has no settings of ssl_training\.py"):
        budget(tmp_path, checkpoint_of(), view)


class Loudness(nn.Module):
    """The least an encoder can be."""

    spectrogram = None

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def latent(self, x):
        return self.weight * torch.stack([x.mean(dim=(1, 2)), x.std(dim=(1, 2))], dim=1)


def test_the_supervised_encoder_is_trained_and_its_start_is_not():
    start = encoder_controls.SingleEpochs(Loudness())
    stages = torch.arange(40) % 2
    x = torch.randn(40, 1, 30) * (1 + 4 * stages)[:, None, None]
    data = Tuning(x, stages, np.array(["a"] * 40))
    splits = dict.fromkeys(("train", "validation", "held_out"), data)
    trained = encoder_controls.supervised(start, splits, 12, 0)
    assert torch.equal(start.encoder.weight, torch.ones(1))
    assert not torch.equal(trained.encoder.weight, torch.ones(1))
    assert not trained.training
    again = encoder_controls.supervised(start, splits, 12, 0)
    assert torch.equal(again.encoder.weight, trained.encoder.weight)


def test_published_encoders_are_named_as_published():
    for name in ("physioex-chambon", "robustsleepnet"):
        with pytest.raises(
            UserError, match=f"published encoder {name}: there are .*physioex-chambon-eeg"
        ):
            catalogue.published_checkpoint(name)


@pytest.mark.skipif(not os.environ.get("SLEEP_WEIGHTS"), reason="SLEEP_WEIGHTS is not set")
@pytest.mark.parametrize("name", ["physioex-chambon-eeg", "physioex-seqsleepnet-eeg"])
def test_published_encoders_embed_the_same_epochs(name, store, tmp_path):
    one = catalogue.published_checkpoint(name)
    subjects = {"train": sorted(store.subjects)[:1]}
    checkpoint = SimpleNamespace(training=SimpleNamespace(subjects=subjects))
    control = encoder_controls.published(one, checkpoint, store, torch.device("cpu"))
    z = control("train", tmp_path / "z.npy")
    view = embed.open_view(one, store, store.of_subjects(subjects["train"]), torch.device("cpu"))
    assert len(z) == view.n_epochs and np.isfinite(z[:]).all()
    _, signals, _ = next(view.whole_nights())
    model = models.build_from(one)
    with torch.no_grad():
        expected = model.encode_epochs(signals[:4]).flatten(1)
    assert np.allclose(z[0:4], expected, atol=1e-4) and z[:].std(axis=0).max() > 0
