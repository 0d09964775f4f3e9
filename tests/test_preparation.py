"""Preparation: channels, units, filters over the whole night, rates, moments."""

from __future__ import annotations

from dataclasses import replace

import mne
import numpy as np
import pytest

from datasets.readers.channels import choose, role_of
from datasets.readers.profiles import profile
from datasets.readers.profiles.declared_night import read
from datasets.readers.recording import Signal
from datasets.store.filters import bandpass_taps, filter_zero_phase, resample
from datasets.store.moments import channel_moments
from datasets.store.preparation import Settings, prepare
from tests.edf_files import read_sleepedf, sleepedf_in, write_pair
from utils.errors import UserError

BOUTS = [("W", 65), ("1", 2), ("2", 6), ("R", 3), ("W", 64), ("?", 9)]
N_EPOCHS = 140
ROLES = profile.load("sleepedf").roles


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    truth = write_pair(folder, BOUTS, N_EPOCHS)
    return sleepedf_in(folder)[0], truth


def settings(**changes) -> Settings:
    base = {"cohort": "test", "protocol": "tinysleepnet", "channels": ("EEG", "EOG")}
    return Settings(**base | changes)


def test_epochs_are_the_kept_samples_in_microvolt(night):
    pair, truth = night
    prepared = prepare(read(pair), settings(channels=("EOG", "EEG")), ROLES)
    assert prepared.first_epoch == 5
    assert prepared.stages.tolist() == [0] * 60 + [1] * 2 + [2] * 6 + [4] * 3 + [0] * 60
    assert [(c.label, c.role, c.unit) for c in prepared.channels] == [
        ("EOG horizontal", "EOG", "uV"),
        ("EEG Fpz-Cz", "EEG", "uV"),
    ]
    for column, label in enumerate(("EOG horizontal", "EEG Fpz-Cz")):
        expected = truth[label].reshape(-1, 3000)[5:136]
        np.testing.assert_allclose(prepared.signals[100.0][:, column], expected, atol=1e-4)


def test_channels_of_other_rates_stay_apart(night):
    pair, truth = night
    prepared = prepare(read(pair), settings(channels=("all",)), ROLES)
    assert {fs: a.shape for fs, a in prepared.signals.items()} == {
        100.0: (131, 2, 3000),
        1.0: (131, 1, 30),
    }
    expected = truth["EMG submental"].reshape(-1, 30)[5:136]
    np.testing.assert_allclose(prepared.signals[1.0][:, 0], expected, atol=1e-4)


@pytest.mark.parametrize("protocol", ["tinysleepnet", "keep_all"])
@pytest.mark.parametrize("fs", [None, 128.0, 64.0])
def test_filtering_the_kept_part_equals_filtering_the_whole_night(night, protocol, fs):
    pair, truth = night
    asked = settings(protocol=protocol, bandpass=(0.3, 35.0), fs=fs, channels=("EEG",))
    prepared = prepare(read(pair), asked, ROLES)
    whole = filter_zero_phase(truth["EEG Fpz-Cz"], bandpass_taps(0.3, 35, 100))
    whole = resample(whole, 100, fs or 100).reshape(N_EPOCHS, -1)
    first = prepared.first_epoch
    expected = whole[first : first + len(prepared.stages)]
    np.testing.assert_allclose(prepared.signals[fs or 100.0][:, 0], expected, atol=2e-4)


def test_the_cmt_filter_equals_mne_over_the_whole_night(night):
    pair, truth = night
    asked = settings(protocol="cmt", bandpass=(0.2, 40.0))
    prepared = prepare(read(pair), asked, ROLES)
    theirs = mne.filter.filter_data(truth["EEG Fpz-Cz"], 100.0, 0.2, 40.0, verbose=False)
    first = prepared.first_epoch
    expected = theirs.reshape(-1, 3000)[first : first + len(prepared.stages)]
    np.testing.assert_allclose(prepared.signals[100.0][:, 0], expected, atol=2e-4)
    assert prepared.channels[0].bandpass == (0.2, 40.0)


def test_slow_sensors_are_not_filtered(night):
    pair, truth = night
    asked = settings(channels=("EMG",), bandpass=(0.2, 40.0), protocol="keep_all")
    prepared = prepare(read(pair), asked, ROLES)
    assert prepared.channels[0].bandpass is None
    np.testing.assert_allclose(prepared.signals[1.0].ravel(), truth["EMG submental"], atol=1e-4)


def test_no_transient_at_epoch_borders(tmp_path):
    # a filter applied per epoch leaves one every 30 s; on a smooth signal ours leaves none
    pair_truth = write_pair(tmp_path, [("W", 3), ("2", 5), ("W", 3)], 11)
    del pair_truth
    recording = read_sleepedf(tmp_path)
    slow = 100 * np.sin(2 * np.pi * 1.013 * np.arange(33_000) / 100)
    smooth = Signal(100, "uV", 330, lambda a, b: slow[round(a * 100) : round(b * 100)])
    recording = replace(recording, signals={"EEG Fpz-Cz": smooth})
    prepared = prepare(recording, settings(bandpass=(0.3, 35.0), channels=("EEG",)), ROLES)
    joined = prepared.signals[100.0][:, 0].ravel()
    np.testing.assert_allclose(joined[3000:-3000], slow[3000:-3000], atol=1.0)


def test_millivolts_become_microvolts(tmp_path):
    truth = write_pair(tmp_path, [("W", 2), ("2", 2)], 4, unit="mV", limit=0.192)
    prepared = prepare(read_sleepedf(tmp_path), settings(channels=("EEG",)), ROLES)
    assert prepared.channels[0].unit == "uV"
    expected = 1000 * truth["EEG Fpz-Cz"]
    np.testing.assert_allclose(prepared.signals[100.0].ravel(), expected, rtol=1e-6)


def test_half_precision_halves_the_disk(night):
    prepared = prepare(read(night[0]), settings(dtype="float16"), ROLES)
    assert prepared.signals[100.0].dtype == np.float16


def test_impossible_rates_and_bands_are_refused(night):
    for asked in (settings(fs=0.05), settings(bandpass=(0.3, 60.0))):
        with pytest.raises(UserError):
            prepare(read(night[0]), asked, ROLES)


def test_channel_choice_by_label_role_and_spelling():
    present = ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "EMG submental"]
    present = {label: Signal(100, "uV", 30, np.empty) for label in present}
    chosen = choose(["eeg", "EEG Pz-Oz", "eog-HORIZONTAL"], present, ROLES, "x")
    assert list(chosen) == ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal"]
    assert [role_of(label, ROLES) for label in chosen] == ["EEG", "EEG2", "EOG"]
    assert list(choose(["all"], present, ROLES, "x")) == list(present)
    with pytest.raises(UserError, match="no channel 'ECG'; it has: EEG Fpz-Cz, EEG Pz-Oz"):
        choose(["ECG"], present, ROLES, "x")
    with pytest.raises(UserError, match="asked for twice"):
        choose(["EEG", "EEG Fpz-Cz"], present, ROLES, "x")


def test_moments_are_those_of_scored_epochs():
    rng = np.random.default_rng(0)
    epochs = rng.normal(3, 2, (10, 2, 300)).astype(np.float32)
    stages = np.array([0, 1, 2, -1, 3, 4, -1, 0, 0, 2], np.int8)
    mean, sd = channel_moments(epochs, stages)
    used = epochs[stages >= 0].astype(np.float64)
    np.testing.assert_allclose(mean, used.mean(axis=(0, 2)), rtol=1e-6)
    np.testing.assert_allclose(sd, used.std(axis=(0, 2)), rtol=1e-5)
    mean, _ = channel_moments(epochs, np.full(10, -1, np.int8))
    np.testing.assert_allclose(mean, epochs.mean(axis=(0, 2)), rtol=1e-5)
