"""CinC 2018: prepared to the exact stages, and what public readers of it get wrong."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.readers.wfdb_file import WfdbFile
from tests.cohort_files import cinc2018
from tests.cohort_files.written import assert_stages, prepared
from utils.errors import UserError


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw"


def test_stages_and_signals(raw, tmp_path, capsys):
    """What lies before the first note is unscored: subtracting its onset would move every epoch."""
    expected = cinc2018.write(raw)
    store = prepared("cinc2018", raw, tmp_path / "store")
    assert list(store.recordings) == ["tr03-0005", "tr05-0028"]
    for recording, stages in expected.items():
        assert_stages(store, recording, stages)
    # 390 s are 13 epochs, and no single window
    assert store.night("tr05-0028").stages[:14].tolist() == [-1] * 13 + [0]
    printed = capsys.readouterr().out
    assert "left out: te03-0001: no file of stages" in printed
    assert "2 of 994 recordings" in printed


def test_masks_of_samples_have_the_stages_of_the_notes(raw, tmp_path):
    expected = cinc2018.write(raw)
    for path in raw.rglob("*.arousal"):
        path.unlink()
    store = prepared("cinc2018", raw, tmp_path / "store")
    for recording, stages in expected.items():
        assert_stages(store, recording, stages)


def test_units_and_other_roles(raw, tmp_path):
    cinc2018.write(raw)
    file = WfdbFile(raw / "training" / "tr03-0005" / "tr03-0005.hea")
    assert [c.unit for c in file.channels].count("uV") == 12
    saturation = file.read("SaO2", 100, 130)
    assert len(saturation) == 6000
    assert abs(saturation.mean() - 95) < 0.1
    store = prepared("cinc2018", raw, tmp_path / "store", "--roles", "EEG", "SPO2", "ECG")
    stored = np.asarray(store.night("tr03-0005").signals())
    assert abs(stored[5, 1].mean() - 95) < 0.5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tr03-0005.mat 16+24", "../x.mat 16+24", "no readable WFDB file"),
        ("tr03-0005.mat 16+24", "tr03-0009.mat 16+24", "no readable WFDB file"),
        (" 200 ", " nonsense ", "WFDB"),
        (" 200 ", " 0 ", "no WFDB record"),
    ],
)
def test_broken_headers_are_refused(raw, tmp_path, old, new, message):
    cinc2018.write(raw)
    path = raw / "training" / "tr03-0005" / "tr03-0005.hea"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        prepared("cinc2018", raw, tmp_path / "store")
