"""Rates other than 100 Hz: bins are the same Hz at each, and every family trains at any."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import models
import ssl_training
import staging_evaluate
import staging_training
from datasets.store.filters import resample_epochs
from datasets.store.store import Store
from datasets.store.views import View
from evaluation.stage import load_model, open_view, stage
from tests.conftest import prepare
from tests.small_store import EPOCHS, write_small_store
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError

RATES = (64.0, 100.0, 125.0, 128.0, 200.0, 256.0, 512.0)


def tone(seconds: np.ndarray) -> np.ndarray:
    """7 Hz of deviation 20, as the small store has it."""
    return 20 * np.sqrt(2) * np.sin(2 * np.pi * 7 * seconds)


def bursts(seconds: np.ndarray) -> np.ndarray:
    """10 Hz in the second half of every second alone, so windows cut short hold little of it."""
    return 30 * np.sin(2 * np.pi * 10 * seconds) * (seconds % 1 >= 0.5)


@pytest.mark.parametrize("fs", RATES)
@pytest.mark.parametrize("budget_gb", [1.0, 0.0], ids=["resident", "streamed"])
def test_signals_are_brought_to_a_rate_when_they_are_read(tmp_path, fs, budget_gb):
    store = Store(write_small_store(tmp_path, fs, tone))
    view = View(store, ["a"], fs=100.0, standardise="none", budget_gb=budget_gb)
    assert (view.fs, view.stored_fs, view.n_samples) == (100.0, fs, 3000)
    (batch,) = view.sequences(2, batch_size=9)
    got = batch.signals[:, :, 0].reshape(-1).numpy()
    known = tone(np.arange(EPOCHS * 3000) / 100)
    # but for the ends of the night, beyond which there is nothing; windows leave no trace
    assert np.abs(got - known)[100:-100].max() < 0.1
    scaled = View(store, ["a"], fs=100.0, budget_gb=budget_gb)
    assert next(scaled.whole_nights())[1][:-1].std().item() == pytest.approx(1.0, abs=1e-3)


def test_a_rate_without_a_simple_ratio_keeps_epochs_whole():
    epochs = np.sin(2 * np.pi * 3 * np.arange(2 * 3001) / (3001 / 30)).reshape(2, 1, 3001)
    resampled = resample_epochs(epochs, 3001 / 30, 100.0)
    known = np.sin(2 * np.pi * 3 * np.arange(6000) / 100)
    assert resampled.shape == (2, 1, 3000)
    assert np.abs(resampled.reshape(-1) - known)[50:-50].max() < 0.02


@pytest.mark.parametrize("name", ["seqsleepnet", "sleeptransformer", "resnet18"])
def test_bins_of_spectrograms_mean_the_same_at_every_rate(tmp_path, name):
    net = models.build(name, fs=models.rate_of(name), n_samples=3000)
    means = []
    for fs in RATES:
        store = Store(write_small_store(tmp_path / f"{fs:g}", fs, bursts))
        view = View(store, ["a"], channels=["EEG"], fs=models.rate_of(name), standardise="none")
        decibels = net.spectrogram.decibels(next(view.whole_nights())[1][1:-1])
        means.append(decibels.mean(dim=(0, 1, 2)))
    _, hertz = net.spectrogram.grid()
    about = torch.from_numpy(np.abs(hertz - 10) < 1.5)
    for mean in means:
        assert hertz[int(mean.argmax())] == pytest.approx(10, abs=0.5)
        assert (mean - means[1])[about].abs().max() < 1.0


@pytest.fixture(scope="module")
def store200(raw, tmp_path_factory) -> Store:
    path = tmp_path_factory.mktemp("store200")
    prepare(raw, path, "--channels", "EEG", "--resample", "200")
    return Store(path)


HERE = ["--logger", "csv", "--accelerator", "cpu", "--n_epochs", "1", "--batch_size", "64"]


def test_a_spectrogram_model_trains_and_evaluates_at_100_hz(store200, tmp_path, capsys):
    paths = ["--data_path", str(store200.path), "--project_path", str(tmp_path)]
    words = ["-e", "seqsleepnet", "--num_seq", "5", "--train_stride", "5", *HERE]
    staging_training.main([*paths, *words, "--train_data_list", "0,1"])
    line = "signals of 200 Hz are brought to the 100 Hz of seqsleepnet"
    assert capsys.readouterr().out.count(line) == 1
    (run,) = tmp_path.glob("seqsleepnet_*")
    checkpoint = load_checkpoint(run / "checkpoints" / "best.pt")
    assert checkpoint.fs == 100.0 and checkpoint.settings["n_samples"] == 3000
    staging_evaluate.main([*paths, "-e", "seqsleepnet", "--device", "cpu", "--pictures", "0"])
    line = "signals of 200 Hz are brought to the 100 Hz of the checkpoint"
    assert capsys.readouterr().out.count(line) == 1


def test_weights_trained_at_another_rate_are_read_at_it(store200, tmp_path, capsys):
    settings = {"fs": 200.0, "n_samples": 6000, "num_seq": 5}
    net = models.build("seqsleepnet", **settings).eval()
    content = {
        "model": "seqsleepnet", "settings": settings, "channels": [["EEG Fpz-Cz", "EEG"]],
        "fs": 200.0, "standardise": "none", "state": net.state_dict(),
    }  # fmt: skip
    save_checkpoint(tmp_path / "before.pt", content)
    checkpoint = load_checkpoint(tmp_path / "before.pt")
    view = open_view(checkpoint, store200, list(store200.recordings)[:1], torch.device("cpu"))
    assert view.fs == view.stored_fs == 200.0 and "brought" not in capsys.readouterr().out
    ((night, _),) = stage(load_model(checkpoint), view)
    (_, signals, _), *_ = view.whole_nights()
    assert np.array_equal(night.probabilities, net.stage_night(signals).numpy())


def test_a_rate_that_fits_no_epoch_of_the_weights_is_one_line(store200, tmp_path):
    net = models.build("chambon2018")
    content = {
        "model": "chambon2018", "settings": {"n_samples": 3000}, "fs": 150.0,
        "channels": [["EEG", "EEG"]], "standardise": "recording", "state": net.state_dict(),
    }  # fmt: skip
    save_checkpoint(tmp_path / "odd.pt", content)
    checkpoint = load_checkpoint(tmp_path / "odd.pt")
    with pytest.raises(UserError, match="150 Hz and its epochs of 3000 samples do not fit"):
        open_view(checkpoint, store200, list(store200.recordings)[:1], torch.device("cpu"))


@pytest.mark.parametrize(("objective", "n_epochs"), [("hybrid", "0"), ("contrastive", "1")])
def test_pretraining_takes_any_rate(tmp_path_factory, raw, tmp_path, capsys, objective, n_epochs):
    store = tmp_path_factory.mktemp("store125")
    prepare(raw, store, "--channels", "EEG", "--resample", "125")
    paths = ["--data_path", str(store), "--project_path", str(tmp_path)]
    words = ["--objective", objective, "--encoder", "chambon2018", *HERE, "--n_epochs", n_epochs]
    ssl_training.main([*paths, *words, "--train_data_list", "0,1", "--val_data_list", "2"])
    assert "signals of 125 Hz are brought to the 100 Hz of pretraining" in capsys.readouterr().out
    if n_epochs == "1":
        (best,) = tmp_path.glob("ssl_*/checkpoints/best.pt")
        assert load_checkpoint(best).fs == 100.0


@pytest.mark.parametrize("name", [*models.names(), "resnet18"])
@pytest.mark.parametrize("fs", RATES)
def test_every_family_is_built_for_every_rate(name, fs):
    rate = models.rate_of(name) or fs
    settings = {"n_samples": math.ceil(rate * 30)}
    settings |= {"n_modalities": 1} if name.endswith("_cmt") else {"n_channels": 1, "fs": rate}
    net = models.build(name, **settings).eval()
    with torch.no_grad():
        probabilities = net.stage_night(torch.randn(2, 1, settings["n_samples"]))
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(2), atol=1e-4)
