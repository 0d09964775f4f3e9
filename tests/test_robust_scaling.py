"""Robust scaling: by median and quartiles, whatever the unit, and gaps stay gaps."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from datasets.readers.edf import EdfFile
from datasets.store.robust_scaling import BAND_HZ, FS, prepare_robustly, robust_scale
from datasets.store.store import Store
from evaluation.stage import check_preset, name_other_filter, stand_ins
from tests.conftest import prepare
from tests.edf_files import write_pair
from utils.checkpoint import Checkpoint, Training
from utils.errors import UserError


def test_median_and_quartiles():
    samples = np.arange(-10.0, 11.0)  # quartiles -5, 0, 5
    scaled = robust_scale(samples)
    np.testing.assert_allclose(scaled, samples / 10)
    np.testing.assert_allclose(np.percentile(robust_scale(samples**3), (25, 75)), (-0.5, 0.5))


def test_each_side_is_clipped_by_its_own_quartile():
    samples = np.concatenate([np.repeat([-1.0, 0.0, 0.0, 2.0], 100), [-1e6, 1e6]])
    low, middle, high = np.percentile(samples, (25, 50, 75))
    assert (low, middle, high) == (-0.75, 0.0, 1.5)
    scaled = robust_scale(samples)
    # 40 times 0.75 and 1.5, by the range of 2.25
    assert scaled.min() == pytest.approx(-30 / 2.25) and scaled.max() == pytest.approx(60 / 2.25)


def test_no_unit_is_needed_and_gaps_stay():
    samples = np.random.RandomState(0).standard_t(2, 5000)
    for factor in (1e-6, 250.0):
        np.testing.assert_allclose(robust_scale(factor * samples), robust_scale(samples))
    gaps = samples.copy()
    gaps[1000:1500] = np.nan
    kept = ~np.isnan(gaps)
    np.testing.assert_array_equal(np.isnan(robust_scale(gaps)), ~kept)
    np.testing.assert_allclose(robust_scale(gaps)[kept], robust_scale(samples[kept]))
    assert np.isnan(robust_scale(np.full(5, np.nan))).all()
    assert not robust_scale(np.zeros(5)).any()


@pytest.mark.parametrize("fs", [100.0, 256.0, 60.0, 50.0])
def test_whole_preparation(fs):
    assert (BAND_HZ, FS) == ((0.2, 30.0), 60.0)
    seconds = np.arange(round(120 * fs)) / fs
    wave = np.sin(2 * np.pi * 5.03 * seconds)  # no divisor of the rates: all phases occur
    drift = 40 + 30 * np.sin(2 * np.pi * 0.01 * seconds)
    prepared = prepare_robustly(wave + drift, fs)
    assert prepared.shape == (120 * 60,)
    middle = slice(20 * 60, 100 * 60)
    # a sine's quartiles lie at 1 / sqrt(2) of its amplitude
    expected = np.sin(2 * np.pi * 5.03 * np.arange(120 * 60) / 60) / np.sqrt(2)
    assert np.abs(prepared - expected)[middle].max() < 0.05


def test_a_store_and_a_prediction_prepare_alike(tmp_path):
    """``--preset robust`` and a converted checkpoint read the same signals of a file."""
    write_pair(tmp_path / "raw", [("W", 5), ("2", 5)], 10, name="SC4001E0")
    prepare(tmp_path / "raw", tmp_path / "store", "--preset", "robust", "--keep_all")
    store = Store(tmp_path / "store")
    assert {channel.fs for channel in store.channels} == {60.0}
    night = store.night("SC4001E0").signals()
    file = EdfFile(tmp_path / "raw" / "SC4001E0-PSG.edf")
    samples = file.read("EEG Fpz-Cz", 0, 300)
    expected = prepare_robustly(samples, 100.0).reshape(10, 1800)
    np.testing.assert_allclose(night[:, 0], expected, rtol=1e-5, atol=1e-6)
    # whatever the unit
    np.testing.assert_allclose(
        prepare_robustly(samples / 1e6, 100.0).reshape(10, 1800), expected, rtol=1e-5, atol=1e-6
    )
    with pytest.raises(UserError, match="has a filter and 60 Hz"):
        prepare(tmp_path / "raw", tmp_path / "s", "--preset", "robust", "--resample", "100")


def test_a_store_of_another_scale_is_refused(store):
    """Weights that read quartile ranges would stage microvolts wrongly, and the other way round."""
    facts = {"cohort": "x", "command": "", "subjects": {}, "preparation": {"preset": "robust"}}
    robust = Checkpoint(Path("r.pt"), "robustsleepnet", {}, (), 60.0, "none", {}, Training(facts))
    with pytest.raises(
        UserError, match="nights with robust; prepare the store with --preset robust"
    ):
        check_preset(robust, store)
    facts = facts | {"preparation": {"bandpass": [0.3, 40.0]}}
    check_preset(replace(robust, training=Training(facts)), store)  # a filter may differ


@pytest.mark.parametrize(
    ("trained", "has", "line"),
    [
        ({"bandpass": [0.3, 40.0]}, {"bandpass": None}, "s: unfiltered, the checkpoint's nights "
         "filtered 0.3–40 Hz: figures may suffer from that alone\n"),
        ({"bandpass": [0.3, 35]}, {"bandpass": [0.3, 35.0]}, ""),
        ({"preset": "dreem"}, {}, "s: unfiltered, the checkpoint's nights prepared by preset "
         "dreem: figures may suffer from that alone\n"),
        ({}, {"bandpass": [0.3, 35.0]}, ""),  # of old checkpoints nothing is known
    ],
)  # fmt: skip
def test_another_filter_is_named(trained, has, line, capsys):
    """Was: weights of one band evaluated on signals of another, in silence."""
    training = Training({"cohort": "x", "command": "", "subjects": {}, "preparation": trained})
    one = Checkpoint(Path("e.pt"), "seqsleepnet", {}, (), 100.0, "none", {}, training)
    name_other_filter(one, SimpleNamespace(path="s", settings=has))
    assert capsys.readouterr().out == line


def test_a_role_that_stands_for_a_label_is_named(capsys):
    """Was: published weights, which name roles alone, missed a channel called EEG."""
    store = SimpleNamespace(path="s", channels=[SimpleNamespace(label="EEG Fpz-Cz")])
    channels = (("EEG", "EEG"), ("EEG Fpz-Cz", "EEG"), ("EEG C3-A2", "EEG"))
    one = Checkpoint(Path("e.pt"), "seqsleepnet", {}, channels, 100.0, "none", {})
    assert stand_ins(store, one) == ["EEG", "EEG Fpz-Cz", "EEG"]
    assert capsys.readouterr().out == "s: no channel 'EEG C3-A2', taking its first EEG\n"


def test_an_earlier_equalisation_is_refused(store):
    """Both were called equalised: about the night's median, and about the middle of its range."""
    before, now = {"preset": "equalised"}, {"preset": "equalised", "equalised_about": "midrange"}
    facts = {"cohort": "x", "command": "", "subjects": {}}
    for made, has, fault in (
        (before, now, "an earlier version equalised about their median"),
        (now, before, "prepare it again in another folder"),
        (now, now, None),
        (before, before, None),
    ):
        training = Training(facts | {"preparation": made})
        one = Checkpoint(Path("e.pt"), "seqsleepnet", {}, (), 100.0, "none", {}, training)
        other = SimpleNamespace(path="s", settings=has)
        with pytest.raises(UserError, match=fault) if fault else nullcontext():
            check_preset(one, other)
