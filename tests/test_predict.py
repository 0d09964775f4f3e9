"""predict.py: files in, stages out in every format, what cannot be staged reported by name."""

from __future__ import annotations

import csv
import json
from datetime import datetime

import edfio
import h5py
import mne
import numpy as np
import pandas
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

import foundation_training
import generate_demo_data
import predict
import staging_training
from datasets.quality import quality_flags
from datasets.readers.channels import match
from datasets.readers.edf import EdfFile
from datasets.readers.known_channels import known_names
from datasets.readers.recording import Signal
from evaluation.stagers.scaling import standardised
from tests.edf_files import write_discontinuous, write_psg
from tests.index_schema import check_index
from tests.listing import below, names
from utils.errors import UserError
from utils.stages import STAGES

NO_GAPS = np.zeros((0, 2))


@pytest.fixture(scope="module")
def checkpoint(store, tmp_path_factory):
    """A small model of two channels, trained for one pass."""
    project = tmp_path_factory.mktemp("predict")
    staging_training.main(
        [
            "--experiment",
            "chambon2018",
            "--data_path",
            str(store.path),
            "--project_path",
            str(project),
            "--n_epochs",
            "1",
            "--channels",
            "EEG",
            "EOG",
            "--logger",
            "csv",
            "--train_data_list",
            "0",
            "1",
            "--val_data_list",
            "2",
        ]
    )
    return next(project.glob("*/checkpoints/best.pt"))


def stage(edf, checkpoint, output, *more):
    predict.main(
        [
            "--edf",
            str(edf),
            "--checkpoint",
            str(checkpoint),
            "--is_interpret",
            "False",
            "-o",
            str(output),
            *more,
        ]
    )


def test_formats_agree_epoch_by_epoch(raw, checkpoint, tmp_path, capsys):
    """Each is read back by the programs that its users read it with: pandas, MNE, edfio, YASA."""
    file = sorted(raw.glob("*-PSG.edf"))[0]
    stage(file, checkpoint, tmp_path)
    out = capsys.readouterr().out
    assert "EEG Fpz-Cz <- EEG Fpz-Cz, EOG horizontal <- EOG horizontal" in out
    folder = tmp_path / file.stem
    table = pandas.read_csv(folder / f"{file.stem}.csv")
    stages = table["stage"].tolist()
    assert len(stages) == int(EdfFile(file).seconds // 30)
    assert table["onset_s"].tolist() == [30.0 * k for k in range(len(stages))]
    assert np.abs(table[[f"p_{s}" for s in STAGES]].sum(axis=1) - 1).max() < 1e-4
    assert read_bids(folder / f"{file.stem}_events.tsv") == stages
    hypnogram = folder / f"{file.stem}-Hypnogram.edf"
    entries = [(a.onset, a.duration, a.text) for a in edfio.read_edf(hypnogram).annotations]
    assert spread(entries) == stages
    theirs = mne.read_annotations(hypnogram)
    assert spread(zip(theirs.onset, theirs.duration, theirs.description, strict=True)) == stages
    assert edfio.read_edf(hypnogram).starttime == EdfFile(file).start.time()
    statistics = json.loads((folder / f"{file.stem}.json").read_text())
    assert statistics["TST"] == sum(stage != "W" for stage in stages) / 2
    assert (folder / f"{file.stem}.png").read_bytes()[:4] == b"\x89PNG"
    assert "agrees with" in out  # the hypnogram lies beside it
    expert = table["expert"].to_numpy()
    scored = table["expert"].notna().to_numpy()
    assert statistics["scored"] == scored.sum()
    kappa = cohen_kappa_score(expert[scored], np.array(stages)[scored])
    assert statistics["kappa"] == pytest.approx(kappa)
    differ = pandas.read_csv(folder / "second_look.csv")
    assert sorted(differ["epoch"]) == np.flatnonzero(scored & (expert != stages)).tolist()
    assert differ["expected_gain"].is_monotonic_decreasing
    assert (folder / "confusion.png").exists()


def spread(entries) -> list[str]:
    """A stage an epoch, of annotations that follow each other without a gap."""
    stages = []
    for onset, duration, text in entries:
        assert onset == 30 * len(stages)
        name = text.removeprefix("Sleep stage ")
        stages += ["REM" if name == "R" else name] * round(duration / 30)
    return stages


def read_bids(path) -> list[str]:
    """Stages of an ``events.tsv``, after the rules of BIDS 1.10 for such files."""
    table = pandas.read_csv(path, sep="\t", keep_default_na=False, na_values=["n/a"])
    assert table.columns[:2].tolist() == ["onset", "duration"]
    assert (table["duration"] == 30).all()
    assert table["onset"].is_monotonic_increasing
    about = json.loads(path.with_suffix(".json").read_text())
    assert set(table.columns) <= set(about)
    assert set(table["trial_type"]) <= set(about["trial_type"]["Levels"])
    assert not (table == "").any().any()  # what is missing is n/a
    return table["trial_type"].tolist()


def test_the_page_explains_epochs_of_interest(raw, checkpoint, tmp_path):
    file = sorted(raw.glob("*-PSG.edf"))[0]
    stage(file, checkpoint, tmp_path, "--is_interpret", "True", "--explain", "2")
    folder = tmp_path / file.stem
    index = check_index(folder / "interpretations")
    assert len(index) == 2
    page = (folder / f"{file.stem}.html").read_text()
    for entry in index:
        assert entry["why"] in page
        with np.load(folder / "interpretations" / entry["folder"] / "ig.npz") as arrays:
            assert arrays["signed"].shape == (2, 3000)
    assert "http" not in page.replace("http-equiv", "")


def test_formats_by_suffix(raw, checkpoint, tmp_path):
    files = sorted(raw.glob("*-PSG.edf"))[:2]
    target = tmp_path / "deep" / "a.tsv"
    stage(files[0], checkpoint, target, "--output", str(target), str(tmp_path / "b.csv"))
    assert below(tmp_path) == ["b.csv", "deep", "deep/a.json", "deep/a.tsv"]
    assert read_bids(target) == pandas.read_csv(tmp_path / "b.csv")["stage"].tolist()
    with pytest.raises(UserError, match=r"formats are \.csv, \.tsv"):
        stage(files[0], checkpoint, tmp_path / "a.xls")
    with pytest.raises(UserError, match="one file for"):
        stage(raw, checkpoint, tmp_path / "a.csv")
    several = tmp_path / "several"
    several.mkdir()
    for file in files:
        (several / file.name).write_bytes(file.read_bytes())
    stage(several, checkpoint, str(tmp_path / "out" / "{}.json"))
    assert names(tmp_path / "out") == [f"{file.stem}.json" for file in files]


@pytest.mark.parametrize("layout", ["bdf", "gaps", "odd records", "mixed rates", "utf-8"])
def test_other_layouts_are_staged(checkpoint, tmp_path, layout, capsys):
    rng = np.random.default_rng(0)
    rates = (
        {"EEG Fpz-Cz": 256, "EOG horizontal": 128}
        if layout == "mixed rates"
        else {
            "EEG Fpz-Cz": 100,
            "EOG horizontal": 100,
        }
    )
    path, seconds = tmp_path / f"a.{'bdf' if layout == 'bdf' else 'edf'}", 150.0
    kind, whole = (edfio.BdfSignal, edfio.Bdf) if layout == "bdf" else (edfio.EdfSignal, edfio.Edf)
    if layout == "odd records":
        seconds = 151.2
    signals = [
        kind(
            rng.normal(0, 20, round(seconds * fs)).clip(-180, 180),
            fs,
            label=label,
            physical_dimension="uV",
            physical_range=(-192, 192),
        )
        for label, fs in rates.items()
    ]
    notes = [edfio.EdfAnnotation(7, None, "Störung – Ω")] if layout == "utf-8" else []
    length = {"odd records": 2.7}.get(layout)
    file = whole(signals, annotations=notes, data_record_duration=length)
    file.write(path)
    if layout == "gaps":
        write_discontinuous(path, [*range(0, 60, 10), *range(95, 185, 10)], fs=100)
        stage(path, checkpoint, tmp_path / "out", "--channels", "EOG=EEG")
        flags = pandas.read_csv(tmp_path / "out" / "a" / "a.csv")["quality_flag"].fillna("")
        assert flags.str.contains("gap").tolist() == [False, False, True, True, False, False]
    else:
        stage(path, checkpoint, tmp_path / "out")
        assert f"a{path.suffix}: 5 epochs" in capsys.readouterr().out


def test_stages_inside_the_recording_are_an_experts(checkpoint, tmp_path, capsys):
    rng = np.random.default_rng(0)
    signals = [
        edfio.EdfSignal(
            rng.normal(0, 20, 9000).clip(-180, 180),
            100,
            label=label,
            physical_dimension="uV",
            physical_range=(-192, 192),
        )
        for label in ("EEG Fpz-Cz", "EOG horizontal")
    ]
    notes = [edfio.EdfAnnotation(0, 60, "Sleep stage N2")]
    edfio.Edf(signals, annotations=notes).write(tmp_path / "a.edf")
    stage(tmp_path / "a.edf", checkpoint, tmp_path / "out")
    assert "agrees with a.edf in" in capsys.readouterr().out
    table = pandas.read_csv(tmp_path / "out" / "a" / "a.csv")
    assert table["expert"].fillna("").tolist() == ["N2", "N2", ""]
    stage(tmp_path / "a.edf", checkpoint, tmp_path / "out", "--expert", "none")
    assert "agrees" not in capsys.readouterr().out


@pytest.mark.parametrize("wish", ["EOG1-EOG2", "EOG1 - EOG2"])
def test_dreem_records_are_staged_beside_their_own_hypnogram(checkpoint, tmp_path, capsys, wish):
    folder = tmp_path / "dodh"
    generate_demo_data.main(
        [
            "--format",
            "dreem",
            "--subjects",
            "1",
            "--hours",
            "0.5",
            "--output",
            str(folder),
        ]
    )
    stage(folder, checkpoint, tmp_path / "out", "--channels", f"EOG={wish}")
    out = capsys.readouterr().out
    assert "EEG Fpz-Cz <- C3_M2, EOG horizontal <- EOG1 - EOG2" in out
    record = next(folder.glob("*.h5"))
    table = pandas.read_csv(tmp_path / "out" / record.stem / f"{record.stem}.csv")
    with h5py.File(record) as file:
        codes = np.asarray(file["hypnogram"])[: len(table)]
    expert = [STAGES[code] if code >= 0 else "" for code in codes]
    assert table["expert"].fillna("").tolist() == expert


def test_a_folder_with_broken_files(raw, checkpoint, tmp_path, capsys):
    """Those that can be are staged, the others reported; the next run resumes."""
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
    other = torch.load(checkpoint, weights_only=True)
    next(iter(other["state"].values())).add_(0.1)
    torch.save(other, tmp_path / "other.pt")
    stage(nights, tmp_path / "other.pt", tmp_path / "out")  # other weights: never the old stages
    assert all(p.stat().st_mtime_ns > t for p, t in before.items())
    before = {p: p.stat().st_mtime_ns for p in before}
    stage(nights, tmp_path / "other.pt", tmp_path / "out", "--again")
    assert all(p.stat().st_mtime_ns > t for p, t in before.items())


def test_channels_by_role_alias_and_choice(tmp_path):
    labels = {"EEG F4-A1": 128, "EEG C4-M1": 128, "E1": 64, "E2": 64, "Chin": 256}
    write_psg(tmp_path / "a.edf", 2, labels)
    file = EdfFile(tmp_path / "a.edf")
    wanted = [("EEG Fpz-Cz", "EEG"), ("EOG horizontal", "EOG"), ("EMG submental", "EMG")]
    matches = match(file, wanted, {})
    assert matches["EOG horizontal"].derivation == "E1 - E2"
    assert matches["EMG submental"].derivation == "Chin"
    assert matches["EEG Fpz-Cz"].derivation == "EEG F4-A1"
    chosen = match(file, wanted, {"EEG": "EEG C4-M1", "EOG": "E1"})
    assert chosen["EEG Fpz-Cz"].derivation == "EEG C4-M1"
    assert chosen["EOG horizontal"].derivation == "E1"
    for wish in ("E2-E1", "E2 - E1"):
        assert match(file, wanted, {"EOG": wish})["EOG horizontal"].derivation == "E2 - E1"
    with pytest.raises(UserError, match="--channels E1-Chin: E1 has 64 Hz in uV, Chin 256 Hz"):
        match(file, wanted, {"EOG": "E1-Chin"})
    with pytest.raises(UserError, match="no channel 'C9' for EEG; it has: EEG F4-A1"):
        match(file, wanted, {"EEG": "C9"})
    write_psg(tmp_path / "b.edf", 2, {"Fp1": 100, "F4": 100, "LOC": 100, "Chin 1": 100})
    matches = match(EdfFile(tmp_path / "b.edf"), wanted, {})
    assert [one.derivation for one in matches.values()] == ["F4", "LOC", "Chin 1"]
    write_psg(tmp_path / "c.edf", 2, {"O2": 10, "O2-A1": 100, "C4M1": 100})
    assert match(EdfFile(tmp_path / "c.edf"), wanted, {})["EEG Fpz-Cz"].derivation == "C4M1"
    write_psg(tmp_path / "d.edf", 2, {"O2": 10, "O2-A1": 100})
    assert match(EdfFile(tmp_path / "d.edf"), wanted, {})["EEG Fpz-Cz"].derivation == "O2-A1"
    write_psg(tmp_path / "e.edf", 2, {"O2": 10, "F3 pressure": 10})
    assert match(EdfFile(tmp_path / "e.edf"), wanted, {}) == {}
    assert known_names(["EEG1", "EEG2", "EEG3", "EKG"])["EEG"][0] == "EEG3"  # a MESA
    assert known_names(["EEG(sec)", "EEG", "EOG(L)"])["EEG"][0] == "EEG"  # an SHHS
    assert {"EEG", "EOG", "EMG", "ECG", "SPO2"} <= set(known_names([]))


def test_absent_roles_as_the_checkpoint_allows(role_store, tmp_path, capsys):
    """The foundation model takes what is there; its own filters are used."""
    foundation_training.main(
        [
            "--stage",
            "finetune",
            "--pretrained",
            "none",
            "--data_path",
            str(role_store),
            "--project_path",
            str(tmp_path),
            "--n_epochs",
            "1",
            "--logger",
            "csv",
            "--d_model",
            "16",
            "--n_heads",
            "2",
            "--layers",
            "1",
            "--dim_feedforward",
            "16",
        ]
    )
    checkpoint = next(tmp_path.glob("*/checkpoints/best.pt"))
    edf = next(role_store.parent.glob("raw_mesa/polysomnography/edfs/*.edf"))
    stage(edf, checkpoint, tmp_path / "out", "--channels", "SPO2=SpO2")
    out = capsys.readouterr().out
    assert "EEG <- EEG3" in out
    write_psg(tmp_path / "b.edf", 3, {"EEG": 100})
    stage(tmp_path / "b.edf", checkpoint, tmp_path / "out")
    assert "absent: EOG, SPO2, ABDO" in capsys.readouterr().out
    write_psg(tmp_path / "c.edf", 3, {"EOG(L)": 100})
    stage(tmp_path / "c.edf", checkpoint, tmp_path / "out", "--is_interpret", "True")
    assert "EOG <- EOG(L); absent: EEG" in capsys.readouterr().out
    page = (tmp_path / "out" / "c" / "c.html").read_text()
    assert "Models of whole nights are explained by foundation_evaluate.py" in page
    assert "EOG(L)" in page and "NaN" not in page.partition('id="data">')[2].partition("<")[0]


def held(samples: np.ndarray, unit: str = "uV") -> Signal:
    """Samples (n,) at 100 Hz as a recorded signal."""
    return Signal(100, unit, len(samples) / 100, lambda a, b: samples[int(a * 100) : int(b * 100)])


def test_flagged_epochs_are_named_as_recorded():
    """Flat for half an epoch, too large, cut off at the recorder's limit, in a gap."""
    rng = np.random.default_rng(0)
    eeg, eog = rng.normal(0, 20, (2, 6, 3000))
    eeg[1, 800:2600] = 3.0
    eog[2, 5] = 2000.0
    eeg[3, ::50] = eeg.max()  # two in a hundred
    signals = {"C4-M1": held(eeg.ravel()), "E1": held(eog.ravel() / 1e3, "mV")}
    expected = ["", "C4-M1 flat", "E1 artefact", "C4-M1 artefact", "", ""]
    assert quality_flags(signals, set(signals), NO_GAPS, 6) == expected
    assert quality_flags(signals, {"E1"}, NO_GAPS, 6) == expected  # by the night's own median
    tiny = {"C4-M1": held(eeg.ravel() * 1e-4, "")}
    assert quality_flags(tiny, set(), NO_GAPS, 6)[1] == "C4-M1 flat"
    gap = quality_flags(signals, set(signals), np.array([[29.0, 31.0]]), 3)
    assert gap[:2] == ["gap in the recording", "gap in the recording; C4-M1 flat"]
    dead = {"E1": held(np.zeros(6000))}
    assert (
        quality_flags(dead, set(), NO_GAPS, 2)
        == quality_flags(dead, {"E1"}, NO_GAPS, 2)
        == ["E1 flat"] * 2
    )


def test_filters_do_not_hide_a_dead_lead(raw, tmp_path):
    """The bundled model levels the night with eight seconds of filter on either side."""
    file = EdfFile(sorted(raw.glob("*-PSG.edf"))[0])
    samples = file.read("EEG Fpz-Cz", 0, file.seconds)
    samples[3000 * 20 : 3000 * 22] = 0.0
    signal = edfio.EdfSignal(
        samples, 100, label="EEG", physical_dimension="uV", physical_range=(-192, 192)
    )
    edfio.Edf([signal]).write(tmp_path / "a.edf")
    predict.main(["--edf", str(tmp_path / "a.edf"), "-o", str(tmp_path / "a.csv")])
    flags = pandas.read_csv(tmp_path / "a.csv")["quality_flag"].fillna("")
    assert [k for k in np.flatnonzero(flags == "EEG flat") if k in (20, 21)] == [20, 21]


def test_scaling_by_recording_and_back():
    signals = np.random.default_rng(0).normal(0, 20, (4, 2, 300)).astype(np.float32)
    scaled, mean, sd = standardised(signals, "recording")
    np.testing.assert_allclose(scaled * sd[:, None] + mean[:, None], signals, atol=1e-3)
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
    matches = match(EdfFile(tmp_path / "a.edf"), [("EEG Fpz-Cz", "EEG")], {})
    assert "names no unit, taken as uV" in matches["EEG Fpz-Cz"].note


def test_a_checkpoint_without_a_head_is_refused(role_store, raw, tmp_path):
    foundation_training.main(
        [
            "--data_path",
            str(role_store),
            "--project_path",
            str(tmp_path),
            "--n_epochs",
            "1",
            "--logger",
            "csv",
            "--d_model",
            "16",
            "--n_heads",
            "2",
            "--layers",
            "1",
        ]
    )
    checkpoint = next(tmp_path.glob("*/checkpoints/best.pt"))
    with pytest.raises(UserError, match="foundation_pretraining, which stages nothing"):
        stage(raw, checkpoint, tmp_path / "out")


def test_refusals(raw, checkpoint, tmp_path):
    with pytest.raises(UserError, match="--edf is missing"):
        predict.main([])
    with pytest.raises(UserError, match="no EDF, BDF or Dreem file there"):
        stage(tmp_path, checkpoint, tmp_path / "out")
    with pytest.raises(UserError, match="give ROLE=label"):
        stage(raw, checkpoint, tmp_path / "out", "--channels", "EEG")
    start = datetime(1989, 4, 24, 16, 13)
    write_psg(
        tmp_path / "short.edf",
        0.5,
        {"EEG Fpz-Cz": 100, "EOG horizontal": 100},
        record_seconds=1,
        start=(start.date(), start.time()),
    )
    with pytest.raises(UserError, match="lasts 15 s; staging needs 30 s"):
        stage(tmp_path / "short.edf", checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_page_reads_the_recording_once_and_writes_itself_alone(tmp_path, monkeypatch):
    """Was: samples were read for the signals' quality and again to be staged, arrays written."""
    edf = tmp_path / "night.edf"
    write_psg(edf, 8, {"EEG Fpz-Cz": 100})
    reads, original = [], np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda *a, **k: reads.append(a) or original(*a, **k))
    words = ["--edf", str(edf), "-o", str(tmp_path / "out" / "night.html"), "--explain", "1"]
    predict.main(words)
    assert sum(count for _, _, count in reads) == 8 * 30 * 100 * 2
    assert below(tmp_path / "out") == ["night.html"]
