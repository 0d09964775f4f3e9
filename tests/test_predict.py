"""predict.py: files in, stages out in every format, what cannot be staged told by name."""

from __future__ import annotations

import csv
import json
from datetime import datetime

import edfio
import numpy as np
import pytest

import foundation_training
import predict
import staging_training
from datasets.any_edf import known_names, match
from datasets.edf import EdfFile
from tests.edf_files import write_psg
from utils.errors import UserError
from utils.stages import STAGES
from workflow.predicting import doubtful, standardised

NO_GAPS = np.zeros((0, 2))


@pytest.fixture(scope="module")
def checkpoint(store, tmp_path_factory):
    """A small model of two channels, trained for one pass."""
    project = tmp_path_factory.mktemp("predict")
    staging_training.main([
        "--experiment", "chambon2018", "--data_path", str(store.path), "--project_path",
        str(project), "--n_epochs", "1", "--channels", "EEG", "EOG", "--logger", "csv",
        "--train_data_list", "0", "1", "--val_data_list", "2",
    ])  # fmt: skip
    return next(project.glob("*/checkpoints/best.pt"))


def stage(edf, checkpoint, output, *more):
    predict.main(["--edf", str(edf), "--checkpoint", str(checkpoint), "-o", str(output), *more])


def test_formats_agree_epoch_by_epoch(raw, checkpoint, tmp_path, capsys):
    file = sorted(raw.glob("*-PSG.edf"))[0]
    stage(file, checkpoint, tmp_path)
    assert "EEG Fpz-Cz <- EEG Fpz-Cz, EOG horizontal <- EOG horizontal" in capsys.readouterr().out
    folder = tmp_path / file.stem
    rows = list(csv.DictReader((folder / f"{file.stem}.csv").read_text().splitlines()))
    events = list(csv.DictReader(
        (folder / f"{file.stem}_events.tsv").read_text().splitlines(), delimiter="\t"
    ))  # fmt: skip
    stages = [row["stage"] for row in rows]
    assert len(stages) == int(EdfFile(file).seconds // 30)
    assert [row["trial_type"] for row in events] == stages
    assert [float(row["onset"]) for row in events] == [30.0 * k for k in range(len(stages))]
    sums = np.array([[float(row[f"p_{s}"]) for s in STAGES] for row in rows]).sum(axis=1)
    assert np.abs(sums - 1).max() < 1e-4
    hypnogram = edfio.read_edf(folder / f"{file.stem}-Hypnogram.edf")
    spread = []
    for entry in hypnogram.annotations:
        name = entry.text.removeprefix("Sleep stage ")
        spread += ["REM" if name == "R" else name] * round(entry.duration / 30)
    assert spread == stages
    assert hypnogram.starttime == EdfFile(file).start.time()
    statistics = json.loads((folder / f"{file.stem}.json").read_text())
    asleep = sum(stage != "W" for stage in stages)
    assert statistics["TST"] == asleep / 2
    assert (folder / f"{file.stem}.png").read_bytes()[:4] == b"\x89PNG"


def test_a_folder_with_broken_files(raw, checkpoint, tmp_path, capsys):
    """Those that can be are staged, the others told; the next run goes on."""
    nights = tmp_path / "nights"
    nights.mkdir()
    for path in sorted(raw.glob("*-PSG.edf"))[:2]:
        (nights / path.name).write_bytes(path.read_bytes())
    (nights / "broken.edf").write_bytes(b"0       nothing")
    write_psg(nights / "other.edf", 3, {"Resp": 10})
    with pytest.raises(SystemExit) as end:
        stage(nights, checkpoint, tmp_path / "out")
    assert end.value.code == 1
    out = capsys.readouterr().out
    assert "2 staged, 2 not" in out
    assert "other.edf: no channel for EEG Fpz-Cz, EOG horizontal, which the model needs" in out
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines()))
    assert [bool(row["error"]) for row in rows] == [False, False, True, True]
    assert not (tmp_path / "out" / "broken").exists()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/*-PSG.json")}
    (nights / "broken.edf").unlink()
    (nights / "other.edf").unlink()
    stage(nights / "*.edf", checkpoint, tmp_path / "out")
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*/*-PSG.json")}
    stage(nights, checkpoint, tmp_path / "out", "--again")
    assert all(p.stat().st_mtime_ns > t for p, t in before.items())


def test_channels_by_role_alias_and_choice(tmp_path):
    labels = {"EEG F4-A1": 128, "EEG C4-M1": 128, "E1": 64, "E2": 64, "Chin": 256}
    write_psg(tmp_path / "a.edf", 2, labels)
    file = EdfFile(tmp_path / "a.edf")
    wanted = [("EEG Fpz-Cz", "EEG"), ("EOG horizontal", "EOG"), ("EMG submental", "EMG")]
    found = match(file, wanted, {})
    assert found["EOG horizontal"].derivation == "E1 - E2"
    assert found["EMG submental"].derivation == "Chin"
    assert found["EEG Fpz-Cz"].derivation == "EEG F4-A1"
    chosen = match(file, wanted, {"EEG": "EEG C4-M1", "EOG": "E1"})
    assert chosen["EEG Fpz-Cz"].derivation == "EEG C4-M1"
    assert chosen["EOG horizontal"].derivation == "E1"
    with pytest.raises(UserError, match="no channel 'C9' for EEG; it has: EEG F4-A1"):
        match(file, wanted, {"EEG": "C9"})
    assert known_names(["EEG1", "EEG2", "EEG3", "EKG"])["EEG"][0] == "EEG3"  # a MESA
    assert known_names(["EEG(sec)", "EEG", "EOG(L)"])["EEG"][0] == "EEG"  # an SHHS
    assert {"EEG", "EOG", "EMG", "ECG", "SPO2"} <= set(known_names([]))


def test_absent_roles_as_the_checkpoint_allows(role_store, tmp_path, capsys):
    """The foundation model takes what is there; its own filters are used."""
    foundation_training.main([
        "--stage", "finetune", "--pretrained", "none", "--data_path", str(role_store),
        "--project_path", str(tmp_path), "--n_epochs", "1", "--logger", "csv", "--d_model", "16",
        "--n_heads", "2", "--layers", "1", "--dim_feedforward", "16",
    ])  # fmt: skip
    checkpoint = next(tmp_path.glob("*/checkpoints/best.pt"))
    edf = next(role_store.parent.glob("raw_mesa/polysomnography/edfs/*.edf"))
    stage(edf, checkpoint, tmp_path / "out", "--channels", "SPO2=SpO2")
    out = capsys.readouterr().out
    assert "EEG <- EEG3" in out
    write_psg(tmp_path / "b.edf", 3, {"EEG": 100})
    stage(tmp_path / "b.edf", checkpoint, tmp_path / "out")
    assert "absent: EOG, SPO2, ABDO" in capsys.readouterr().out


def test_doubtful_epochs_are_named():
    signals = np.random.default_rng(0).normal(0, 20, (4, 2, 300)).astype(np.float32)
    signals[1, 0] = 3.0
    signals[2, 1, 5] = 2000.0
    found = doubtful(signals, [("C4-M1", "EEG"), ("E1", "EOG")], NO_GAPS)
    assert found == ["", "C4-M1 flat", "E1 artefact", ""]
    scaled, mean, sd = standardised(signals, "recording")
    np.testing.assert_allclose(scaled * sd[:, None] + mean[:, None], signals, atol=1e-3)
    gap = doubtful(signals[:2], [("C4-M1", "EEG"), ("E1", "EOG")], np.array([[29.0, 31.0]]))
    assert gap == ["gap in the recording", "gap in the recording; C4-M1 flat"]
    assert abs(scaled[:, 0].mean()) < 1e-3
    assert scaled[:, 0].std() == pytest.approx(1, abs=1e-3)
    signals[:, 1] = 7.0
    assert np.isnan(standardised(signals, "present")[0][:, 1]).all()
    assert (standardised(signals, "recording")[0][:, 1] == 0).all()


def test_values_without_a_unit_are_taken_as_they_are(tmp_path):
    """Nothing depends on the scale of a channel that is standardised; the store is stricter."""
    samples = np.random.default_rng(0).normal(0, 0.02, 6000).clip(-0.1, 0.1)
    signal = edfio.EdfSignal(samples, 100, label="EEG", physical_range=(-0.2, 0.2))
    edfio.Edf([signal]).write(tmp_path / "a.edf")
    found = match(EdfFile(tmp_path / "a.edf", undated=True), [("EEG Fpz-Cz", "EEG")], {})
    assert "names no unit, taken as uV" in found["EEG Fpz-Cz"].note
    silent = np.zeros((2, 1, 300), np.float32)
    assert doubtful(silent, [("EEG Fpz-Cz", "")], NO_GAPS) == [
        "",
        "",
    ]  # of no known size, so never doubted
    assert doubtful(silent, [("EEG Fpz-Cz", "EEG")], NO_GAPS) == ["EEG Fpz-Cz flat"] * 2


def test_a_checkpoint_without_a_head_is_refused(role_store, raw, tmp_path):
    foundation_training.main([
        "--data_path", str(role_store), "--project_path", str(tmp_path), "--n_epochs", "1",
        "--logger", "csv", "--d_model", "16", "--n_heads", "2", "--layers", "1",
    ])  # fmt: skip
    checkpoint = next(tmp_path.glob("*/checkpoints/best.pt"))
    with pytest.raises(UserError, match="foundation_pretraining, which stages nothing"):
        stage(raw, checkpoint, tmp_path / "out")


def test_refusals(raw, checkpoint, tmp_path):
    with pytest.raises(UserError, match="--edf names what to stage"):
        predict.main([])
    with pytest.raises(UserError, match="no EDF or BDF file there"):
        stage(tmp_path, checkpoint, tmp_path / "out")
    with pytest.raises(UserError, match="give ROLE=label"):
        stage(raw, checkpoint, tmp_path / "out", "--channels", "EEG")
    start = datetime(1989, 4, 24, 16, 13)
    write_psg(tmp_path / "short.edf", 0.5, {"EEG Fpz-Cz": 100, "EOG horizontal": 100},
              record_seconds=1, start=(start.date(), start.time()))  # fmt: skip
    with pytest.raises(UserError, match="lasts 15 s; staging needs 30 s"):
        stage(tmp_path / "short.edf", checkpoint, tmp_path / "out")
