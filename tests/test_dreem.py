"""Dreem records: the layout, its quirks, scorers brought to their place, and the whole way."""

from __future__ import annotations

import json
import os
from functools import reduce
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import signal

import generate_demo_data
import preprocess_dreem
from datasets.readers import dreem
from datasets.readers.consensus import all_of
from datasets.readers.dreem_file import DreemFile
from datasets.store import folds
from datasets.store.filters import dreem_sections
from datasets.store.store import Store
from datasets.synthetic.night import draw_night
from datasets.synthetic.scorers import draw_scorers
from datasets.synthetic.subject import Difficulty, draw_subject
from tests.test_staging_scripts import evaluate, train
from utils.errors import UserError
from utils.metrics import confusion, kappa

NIGHT = [-1, 0, 1, 2, 3, 4, 2, 2]


def write_record(path: Path, *, as_bytes: bool = False, start: bool = True, **changes) -> Path:
    """A record of eight epochs: a 10 Hz sine of 50 uV in C3_M2 at 250 Hz, EOG1 at 125 Hz."""
    stages = changes.get("stages", NIGHT)
    described = [
        {"fs": 250, "unit": "uV", "path": "signals/eeg/C3_M2", "name": "C3_M2", "domain": "eeg"},
        {"fs": 125, "unit": "uV", "path": "signals/eog/EOG1", "name": "EOG1", "domain": "eog"},
    ]
    with h5py.File(path, "w") as file:
        for entry in described:
            t = np.arange(round(240 * entry["fs"])) / entry["fs"]
            file[entry["path"]] = 50 * np.sin(2 * np.pi * 10 * t)
        if stages is not None:
            file["hypnogram"] = np.array(stages)
        text = changes.get("description", json.dumps(described))
        if text is not None:
            file.attrs["description"] = np.bytes_(text) if as_bytes else text
        if start:
            file.attrs["start_time"] = 1_500_000_000
    return path


def the_record(folder: Path, **about) -> dreem.Record:
    return dreem.find_records(folder, **about)[0]


@pytest.mark.parametrize("as_bytes", [True, False])
@pytest.mark.parametrize("start", [True, False])
def test_a_record_is_read_as_it_describes_itself(tmp_path, as_bytes, start):
    write_record(tmp_path / "a.h5", as_bytes=as_bytes, start=start)
    recording = dreem.read(the_record(tmp_path))
    assert recording.stages.tolist() == NIGHT
    assert {n: s.fs for n, s in recording.signals.items()} == {"C3_M2": 250, "EOG1": 125}
    assert (recording.start is not None) == start
    samples = recording.signals["C3_M2"].read(30, 60)
    assert len(samples) == 7500 and np.abs(samples).max() == pytest.approx(50, abs=0.5)


def test_amplitudes_survive_and_epoch_borders_leave_no_trace(tmp_path):
    write_record(tmp_path / "a.h5")
    words = ["--raw_path", str(tmp_path), "--save_path", str(tmp_path / "store"), "--jobs", "1"]
    preprocess_dreem.main([*words, "--bandpass", "0.3", "35"])
    epochs = Store(tmp_path / "store").night("a").signals()[:, 0]
    inside = epochs[2:6]  # away from the recording's ends
    assert inside.shape == (4, 3000)
    t = np.arange(3000) / 100
    assert np.allclose(inside, 50 * np.sin(2 * np.pi * 10 * t), atol=1.0)


def test_stages_of_another_length_stay_left_aligned_or_are_refused(tmp_path):
    write_record(tmp_path / "a.h5", stages=NIGHT[:-1])  # one epoch short: cut
    assert dreem.read(the_record(tmp_path)).stages.tolist() == [*NIGHT[:-1], -1]
    write_record(tmp_path / "a.h5", stages=NIGHT[:-2])
    with pytest.raises(UserError, match="6 stages for 8 epochs"):
        dreem.read(the_record(tmp_path))
    stages = dreem.read(the_record(tmp_path, allow_length_mismatch=True)).stages
    assert stages.tolist() == [*NIGHT[:-2], -1, -1]


@pytest.mark.parametrize("stages", [None, NIGHT[:-2], NIGHT * 2])
def test_staging_needs_no_hypnogram(tmp_path, stages):
    file = DreemFile(write_record(tmp_path / "a.h5", stages=stages))
    assert (file.stages == -1).all() and len(file.stages) == 8
    n = 0 if stages is None else len(stages)
    assert file.notes == [f"no agreement: {n} stages for 8 epochs of signal"] * bool(n)


def test_a_start_that_cannot_be_read_is_a_note_in_staging(tmp_path):
    path = write_record(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["start_time"] = "31.02.20"
    file = DreemFile(path)
    assert file.start is None and "start_time is unreadable" in file.notes[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": None}, "has no /hypnogram"),
        ({"stages": [0, 1, 5, 2, 2, 2, 2, 2]}, "not a list of codes"),
        ({"description": None}, "no 'description'"),
        ({"description": "[{]"}, "broken 'description'"),
        ({"description": "[]"}, "describes no signals"),
        (
            {"description": '[{"fs": 1, "unit": "", "path": "signals/x", "name": "x"}]'},
            "no signal /signals/x; the file holds hypnogram, signals",
        ),
    ],
)
def test_broken_records_are_one_line(tmp_path, changes, message):
    write_record(tmp_path / "a.h5", **changes)
    with pytest.raises(UserError, match=message):
        dreem.read(the_record(tmp_path))


def test_files_that_are_no_records(tmp_path):
    with pytest.raises(UserError, match=r"no \*.h5 records"):
        dreem.find_records(tmp_path)
    (tmp_path / "a.h5").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a readable HDF5 file"):
        dreem.read(the_record(tmp_path))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.h5").write_bytes(b"")
    with pytest.raises(UserError, match="a second record a"):
        dreem.find_records(tmp_path)


def lists_of(folder: Path, stem: str, scored: np.ndarray) -> Path:
    for number, codes in enumerate(scored, 1):
        path = folder / "scorers" / f"scorer_{number}" / f"{stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(np.asarray(codes).tolist()))
    return folder / "scorers"


def test_scorers_are_brought_to_their_place(tmp_path):
    # the file was cropped: its eight epochs are the scorers' epochs 5 to 12
    rng = np.random.default_rng(0)
    night = rng.integers(0, 5, 20)
    write_record(tmp_path / "a.h5", stages=night[5:13])
    scored = np.stack([night] * 5)
    scored[3, 7] = (scored[3, 7] + 1) % 5
    record = the_record(tmp_path, scorers=lists_of(tmp_path, "a", scored))
    assert dreem.read(record).stages.tolist() == night[5:13].tolist()
    other = lists_of(tmp_path, "a", np.stack([(night + 1) % 5] * 5))
    with pytest.raises(UserError, match="agree with /hypnogram nowhere"):
        dreem.read(the_record(tmp_path, scorers=other))


def test_scorers_that_do_not_fit_are_refused(tmp_path):
    write_record(tmp_path / "a.h5")
    with pytest.raises(UserError, match="no scorer's list"):
        the_record(tmp_path, scorers=tmp_path)
    folder = lists_of(tmp_path, "a", np.zeros((5, 9), int))
    (folder / "scorer_2" / "a.json").write_text("[0, 1]")
    with pytest.raises(UserError, match="lists of 9, 2, 9, 9, 9 epochs"):
        dreem.read(the_record(tmp_path, scorers=folder))
    (folder / "scorer_2" / "a.json").write_text("[0, 7]")
    with pytest.raises(UserError, match="codes from -1 to 4"):
        dreem.read(the_record(tmp_path, scorers=folder))


def test_a_person_has_one_record(tmp_path):
    with pytest.raises(UserError, match="one night per subject"):
        generate_demo_data.main(["--format", "dreem", "--nights", "2", "--output", str(tmp_path)])
    assert generate_demo_data.parse_args(["--format", "dreem"]).nights == 1


def test_folds_follow_the_rule():
    ids = [f"{k:02d}" for k in range(55)]
    tables = {t.name: t for t in preprocess_dreem.tables_of("dodo", ids[::-1])}
    assert set(tables) == {"dodo_10", "dodo_28", "kfold:5:0"}
    assert {len(f.test) for f in tables["dodo_10"].folds} == {5, 6}
    assert sorted(len(f.test) for f in tables["dodo_28"].folds) == [1, *[2] * 27]
    assert tables["dodo_28"].folds[0].test == ids[:2]
    loo = preprocess_dreem.tables_of("dodh", ids[:25])[0]
    assert loo.name == "dodh_loo" and [f.test for f in loo.folds] == [[i] for i in ids[:25]]
    for table in (*tables.values(), loo):
        everyone = set(ids[:25]) if table is loo else set(ids)
        assert sorted(s for f in table.folds for s in f.test) == sorted(everyone)
        for fold in table.folds:
            assert set(fold.train) | set(fold.val) | set(fold.test) == everyone
            assert len(fold.train) + len(fold.val) + len(fold.test) == len(everyone)
    assert preprocess_dreem.tables_of("dodo", ids) == preprocess_dreem.tables_of("dodo", ids[::-1])
    assert folds.in_order("x", ["b", "a", "c"], 3).folds[0].test == ["a"]


def test_synthetic_scorers_agree_like_human_ones():
    kappas = []
    for number in range(4):
        night = draw_night(draw_subject(0, number, Difficulty(1)), 1, hours=8)
        labels = night.timeline.labels
        scored = draw_scorers(np.random.default_rng(number), labels)
        assert ((scored < 0) == (labels < 0)).all()
        pairs = [(a, b) for k, a in enumerate(scored) for b in scored[k + 1 :]]
        seen = labels >= 0
        kappas += [kappa(confusion(a[seen], b[seen])) for a, b in pairs]
    assert 0.62 <= np.mean(kappas) <= 0.78


def test_the_generated_layout_is_dreems(dreem_raw):
    paths = sorted(dreem_raw.glob("*.h5"))
    assert len(paths) == 5
    starts = 0
    for path in paths:
        with h5py.File(path) as file:
            assert file["signals/eeg/C3_M2"].shape == (0.6 * 3600 * 250,)
            assert {e["name"] for e in json.loads(file.attrs["description"])} == {
                "C3_M2",
                "O1_M2",
                "EOG1",
                "EOG2",
                "EMG",
                "ECG",
            }
            own = np.array(file["hypnogram"])
            starts += "start_time" in file.attrs
            eyes = [np.array(file[f"signals/eog/EOG{k}"]) for k in (1, 2)]
            assert np.corrcoef(*eyes)[0, 1] < 0  # the eyes move against each other
        record = dreem.Record(
            path, tuple(dreem_raw / f"scorers/scorer_{k}/{path.stem}.json" for k in range(1, 6))
        )
        assert (all_of(dreem.read_scorers(record))[0] == own).all()
    assert starts == 4


@pytest.mark.slow
def test_from_the_layout_to_an_explanation_by_the_same_scripts(dreem_cohort, tmp_path):
    raw, store = dreem_cohort
    assert store.cohort == "synthetic-dodh"
    assert [channel.role for channel in store.channels] == ["EEG", "EOG"]
    train(store, tmp_path, "chambon2018", "--first_epochs", "0")
    words = [
        "--is_interpret",
        "--ig_most_steps",
        "100",
        "--interpret_select",
        "3",
        "--interpret_methods",
        "ig",
    ]
    quick = ["--n_random", "1", "--n_untrained", "1", "--interpret_bands", "False"]
    evaluate(store, tmp_path, *words, *quick, "--truth_path", str(raw))
    run = next(tmp_path.glob("chambon2018_*"))
    assert list((run / "interpretations").glob("*.html"))
    index = json.loads((run / "interpretations" / "index.json").read_text())
    assert index["explanations"][0]["evidence"] == "planted"


def test_the_reference_filter_in_sections():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(60 * 250).cumsum() / 50 + rng.standard_normal(60 * 250)
    parts = [
        signal.butter(2, [0.4, 18], "bandpass", fs=250),
        signal.butter(3, [58, 62], "bandstop", fs=250),
        signal.butter(3, [48, 52], "bandstop", fs=250),
        signal.bessel(1, [62, 63], "bandstop", fs=250),
    ]
    b, a = (reduce(np.polymul, [part[k] for part in parts]) for k in (0, 1))
    assert len(a) == 19
    expected = signal.lfilter(b, a, samples)
    filtered = signal.sosfilt(dreem_sections(250), samples)
    assert abs(filtered - expected).max() < 1e-6 * samples.std()
    with pytest.raises(ValueError, match="does not hold"):
        dreem_sections(100)


def test_the_preset_filters_from_rest_and_pads(tmp_path):
    write_record(tmp_path / "a.h5")
    words = ["--raw_path", str(tmp_path), "--save_path", str(tmp_path / "s"), "--jobs", "1"]
    with pytest.raises(UserError, match="leave out --bandpass"):
        preprocess_dreem.main([*words, "--preset", "dreem", "--bandpass", "1", "30"])
    preprocess_dreem.main([*words, "--preset", "dreem", "--channels", "C3_M2"])
    store = Store(tmp_path / "s")
    night = store.night("a")
    assert night.stages.tolist() == [-1] * 30 + NIGHT + [-1] * 30
    assert night.first_epoch == -30 and store.settings["preset"] == "dreem"
    signals = np.array(night.signals())[:, 0]
    assert not signals[:30].any() and not signals[-30:].any()
    t = np.arange(240 * 250) / 250
    filtered = signal.sosfilt(dreem_sections(250), 50 * np.sin(2 * np.pi * 10 * t))
    # 100 Hz takes two samples of 250 Hz as they are and two between their neighbours
    stored = signals[30:-30].ravel()
    assert np.allclose(stored[::2], filtered[::5], atol=1e-4)
    assert np.allclose(stored[1::2], (filtered[2::5] + filtered[3::5]) / 2, atol=1e-4)
    assert preprocess_dreem.parse_args([]).preset is None


@pytest.mark.parametrize("wish", ["EOG1-EOG2", "EOG1 - EOG2"])
def test_a_difference_of_two_channels(tmp_path, wish):
    with h5py.File(write_record(tmp_path / "a.h5"), "a") as file:
        described = json.loads(file.attrs["description"])
        described.append(described[1] | {"path": "signals/eog/EOG2", "name": "EOG2"})
        file["signals/eog/EOG2"] = -np.array(file["signals/eog/EOG1"])
        file.attrs["description"] = json.dumps(described)
    words = ["--raw_path", str(tmp_path), "--save_path", str(tmp_path / "s"), "--jobs", "1"]
    preprocess_dreem.main([*words, "--channels", wish, "EOG1"])
    store = Store(tmp_path / "s")
    assert [(c.label, c.role) for c in store.channels] == [("EOG1-EOG2", "EOG"), ("EOG1", "EOG")]
    both, one = np.moveaxis(np.array(store.night("a").signals()), 1, 0)
    # eyes that move against each other add up; their sum would be silence
    assert np.allclose(both, 2 * one, atol=1e-3) and np.abs(one).max() > 40
    with pytest.raises(UserError, match="C3_M2 has 250 Hz in uV, EOG1 125 Hz"):
        preprocess_dreem.main([*words[:3], str(tmp_path / "t"), "--channels", "C3_M2-EOG1"])


def test_a_cut_hypnogram_is_noted(tmp_path):
    write_record(tmp_path / "a.h5", stages=[*NIGHT, 3])
    preprocess_dreem.main(
        ["--raw_path", str(tmp_path), "--save_path", str(tmp_path / "s"), "--jobs", "1"]
    )
    facts = json.loads((tmp_path / "s" / "nights" / "a" / "night.json").read_text())
    assert facts["note"] == "9 stages for 8 epochs of signal" and facts["n_epochs"] == 8


def test_the_committed_folds_are_the_rule():
    table = folds.load(folds.TABLES / "dodh_loo.json")
    ids = sorted(s for fold in table.folds for s in fold.test)
    assert len(ids) == len(set(ids)) == 25
    assert table == folds.in_order("dodh_loo", ids, 25)
    if "SLEEP_REAL_DATA" in os.environ:
        scorers = Path(os.environ["SLEEP_REAL_DATA"]) / "dod_h_scorers" / "scorer_1"
        assert ids == sorted(path.stem for path in scorers.glob("[!.]*.json"))
