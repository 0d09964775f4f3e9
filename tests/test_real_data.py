"""The real files: SC4001E0 sample for sample, its whole hypnogram, the edge cases."""

from __future__ import annotations

import shutil

import edfio
import mne
import numpy as np
import pytest

from datasets.readers.edf import EdfFile
from datasets.store.protocols import PROTOCOLS
from datasets.store.store import Store
from tests.conftest import prepare
from tests.edf_files import beside_a_psg
from utils.errors import UserError
from utils.stages import stage_counts


@pytest.mark.parametrize("protocol", ["tinysleepnet", "deepsleepnet", "cmt"])
def test_sc4001_keeps_841_epochs(real_data, tmp_path, protocol):
    hypnogram = real_data / "sleep_edf" / "SC4001EC-Hypnogram.edf"
    night = beside_a_psg(hypnogram, tmp_path, 2650)  # as many as the whole recording has
    assert PROTOCOLS[protocol](night) == (961, 1802)
    counts = stage_counts(night.stages[961:1802])
    assert counts == {"W": 188, "N1": 58, "N2": 250, "N3": 220, "REM": 125, "unscored": 0}


@pytest.mark.filterwarnings("ignore:.*filter.*:RuntimeWarning")
def test_sc4001_sample_for_sample(real_data, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in (real_data / "sleep_edf").glob("SC4001E*"):
        shutil.copy(path, raw)
    prepare(raw, tmp_path / "store", "--channels", "all")
    store = Store(tmp_path / "store")
    night = store.night("SC4001E0")
    assert night.stages.tolist() == [0] * 10
    assert night.start == "1989-04-24T16:13:00"
    psg = raw / "SC4001E0-PSG.edf"
    theirs = edfio.read_edf(psg)
    assert [c.label for c in store.channels] == list(theirs.labels)
    for fs in (100.0, 1.0):
        labels = [c.label for c in store.channels if c.fs == fs]
        stored = night.signals(fs)
        loaded = mne.io.read_raw_edf(psg, include=labels, verbose=False)
        assert loaded.info["sfreq"] == fs
        for column, label in enumerate(labels):
            signal = theirs.get_signal(label)
            assert signal.sampling_frequency == fs
            ours = stored[:, column].ravel()
            np.testing.assert_allclose(ours, signal.data, rtol=1e-6, atol=2e-5)
            unit = next(c.unit for c in store.channels if c.label == label)
            volts = loaded.get_data(picks=[label])[0]
            np.testing.assert_allclose(
                ours, volts * (1e6 if unit == "uV" else 1), rtol=1e-6, atol=2e-5
            )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("edfPlusD-discontinuous.edf", "discontinuous"),
        ("invalid-date.edf", "holds no data"),
        ("zero-data-records.edf", "holds no data"),
        ("subsecond_starttime.edf", "not one night"),
        ("test_utf8_annotations.edf", "not one night"),
    ],
)
def test_edge_cases_end_in_one_line(real_data, tmp_path, name, message):
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.copy(real_data / "edf_edge_cases" / name, raw / "SC4001E0-PSG.edf")
    shutil.copy(real_data / "sleep_edf" / "SC4001EC-Hypnogram.edf", raw)
    with pytest.raises(UserError, match=message):
        prepare(raw, tmp_path / "store")
    assert not list((tmp_path / "store").rglob("*.npy"))


@pytest.mark.parametrize("name", ["subsecond_starttime.edf", "test_utf8_annotations.edf"])
def test_readable_edge_cases_equal_edfio(real_data, name):
    path = real_data / "edf_edge_cases" / name
    ours, theirs = EdfFile(path), edfio.read_edf(path)
    for channel in ours.channels:
        if [c.label for c in ours.channels].count(channel.label) == 1:
            np.testing.assert_allclose(
                ours.read(channel.label, 0, ours.seconds),
                theirs.get_signal(channel.label).data,
                rtol=1e-9,
                atol=1e-9,
            )
    annotations, expected = ours.annotations(), theirs.annotations
    assert [a.text for a in annotations] == [a.text for a in expected]
    # both count from the first sample, the file from the full second of its header
    onsets = [a.onset for a in annotations]
    assert onsets == pytest.approx([a.onset for a in expected], abs=1e-5)
    assert ours.start.microsecond == theirs.starttime.microsecond


def test_a_real_night_of_another_cohort_opens(real_data):
    file = EdfFile(real_data / "ucddb" / "ucddb018.edf")
    assert len(file.channels) >= 1
    channel = file.channels[0]
    assert (channel.fs, channel.unit) == (128, "")
    assert len(file.read(channel.label, 0, 30)) == 128 * 30
