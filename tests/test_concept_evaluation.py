"""Concepts of a run: whose nights teach and test them, stores without events, what is written."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cmt_evaluate
import generate_demo_data
import models
from datasets.store.store import Store
from evaluation.concept_evaluation import (
    check,
    check_without,
    signals_in,
    some_of,
    split_subjects,
)
from interpret.concept_table import TRAINED
from interpret.concepts import CONCEPTS, PAIRS, amounts_of
from tests import listing
from tests.conftest import prepare
from tests.test_concepts import SMALL, night_of
from tests.test_training import train
from utils.checkpoint import Checkpoint, Training
from utils.errors import UserError


def test_signals_without_events_keep_the_scale_of_the_night():
    class OneNight:
        """As much of a view as is read: the night without its slow waves, scaled by itself."""

        def __init__(self) -> None:
            signals = night_of(0, "slow_wave").signals.numpy()
            self.mean, self.sd = (f(signals, axis=(0, 2)) for f in (np.mean, np.std))
            self.signals = (signals - self.mean[:, None]) / self.sd[:, None]

        def whole_nights(self):
            yield "n0", torch.from_numpy(self.signals), None

        def moments(self, recording):
            return self.mean, self.sd

    night = night_of(0)
    same = signals_in(OneNight(), night)
    changed = (same - night.signals).abs().amax(dim=2) > 1e-3
    covered = amounts_of(night, night.events, "planted")["slow_wave"].values > 0
    assert (changed[:, 0].numpy() == covered).all() and not changed[:, 1:].any()


class OneStore:
    """As much of a store as the choice of subjects reads."""

    path, cohort = "store", "x"

    def __init__(self, *subjects: str) -> None:
        self.subjects = subjects


def checkpoint_of(cohort: str, *subjects: str) -> Checkpoint:
    facts = {"cohort": cohort, "subjects": {"train": list(subjects), "validation": []}}
    return Checkpoint(
        None, "cnn", {}, (("EEG", "EEG"),), 100.0, "recording", {}, training=Training(facts)
    )


def flags_of(concept_recordings: int = 0) -> SimpleNamespace:
    return SimpleNamespace(concept_recordings=concept_recordings, without_path=None)


def test_directions_are_learned_from_subjects_that_are_not_tested():
    trained = checkpoint_of("x", "a", "b")
    assert split_subjects(trained, OneStore("a", "b", "c"), ["c"]) == (["a", "b"], ["c"])
    # ids alike in another cohort, and none of the training in the store: the tested ones are shared
    elsewhere = checkpoint_of("y", "a", "b")
    halves = (["c", "e"], ["d"])
    assert split_subjects(elsewhere, OneStore("a", "c", "d", "e"), ["c", "d", "e"]) == halves
    with pytest.raises(UserError, match="tested on others, and it has one"):
        split_subjects(elsewhere, OneStore("c"), ["c"])
    assert some_of(list("abcdefgh"), flags_of(3)) == ["a", "e", "h"]
    assert some_of("ab", flags_of(3)) == ["a", "b"]
    assert some_of("abc", flags_of(0)) == ["a", "b", "c"]


def test_encoders_of_a_position_are_refused():
    model = models.build("sequence_cmt", **SMALL["sequence_cmt"], encoder="per_position")
    with pytest.raises(UserError, match="positions share an encoder"):
        check(flags_of(), checkpoint_of("x", "a"), OneStore("a", "c"), ["c"], model)


@pytest.fixture(scope="module")
def without_store(raw, store, tmp_path_factory) -> Path:
    """Stores of the nights of ``raw``: one without spindles."""
    folder = tmp_path_factory.mktemp("without")
    words = ["--subjects", "3", "--nights", "2", "--hours", "0.7", "--jobs", "1"]
    generate_demo_data.main(["--output", str(folder / "raw"), *words, "--omit", "spindle"])
    channels = ["--channels", "EEG", "EEG2", "EOG", "EMG"]
    prepare(folder / "raw", folder / "stores" / "spindle", *channels)
    return folder / "stores"


def test_the_script_writes_table_figure_and_what_was_left_out(
    raw, store, without_store, tmp_path, capsys
):
    run = train(store, tmp_path, "--n_epochs", "1")
    words = ["--data_path", str(store.path), "--project_path", str(tmp_path), "--device", "cpu"]
    words += ["--truth_path", str(raw), "--pictures", "0", "--concepts", "True"]
    words += ["--n_untrained", "1", "--without_path", str(without_store)]
    cmt_evaluate.main(words)
    folder = run / "concepts"
    written = {"concepts.csv", "concepts.json", "concepts.png", "concepts.pdf", "rules.csv"}
    assert set(listing.names(folder)) == written
    report = json.loads((folder / "concepts.json").read_text())
    about, rows = report["about"], report["rows"]
    assert not set(about["subjects_learned"]) & set(about["subjects_tested"])
    with (folder / "concepts.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows) > 0
    assert {row["model"] for row in rows} == {TRAINED, "random weights 1"}
    assert {row["layer"] for row in rows} == {"encoder", "sequence"}
    named = {row["concept"] for row in (*rows, *report["left_out"])}
    assert named == {concept.name for concept in CONCEPTS}
    assert all(row["epochs"] and row["subjects"] and row["pairs_learned"] for row in rows)
    kinds = {(row["concept"] == "spindle", row["pairs"] == PAIRS[2]) for row in rows}
    assert kinds == {(True, True), (False, False)}
    with (folder / "rules.csv").open() as file:
        small = list(csv.DictReader(file))
    assert {(r["concept"], r["stage"], r["rule"], r["layer"]) for r in small} == {
        (r["concept"], r["stage"], r["rule"], r["layer"])
        for r in rows
        if r["rule"] and r["model"] == TRAINED
    }
    printed = capsys.readouterr().out
    assert "concepts: directions learned from" in printed and str(folder) in printed
    assert PAIRS[2] in printed


def test_stores_of_other_nights_are_refused(raw, store, without_store, tmp_path):
    recordings = list(store.recordings)

    def refused(path, truth_path=raw) -> str:
        flags = SimpleNamespace(without_path=path, truth_path=truth_path)
        with pytest.raises(UserError) as caught:
            check_without(flags, store, recordings)
        return str(caught.value)

    assert "no store of nights without a kind of events" in refused(tmp_path)
    assert "is not there; name its folder with --truth_path" in refused(without_store, tmp_path)
    (tmp_path / "same").mkdir()
    (tmp_path / "same" / "spindle").symlink_to(store.path)
    assert "its nights have the events; make it by the commands of" in refused(tmp_path / "same")
    # another night of the same name
    copy = tmp_path / "other" / "spindle"
    shutil.copytree(without_store / "spindle", copy)
    stages = np.load(copy / "nights" / recordings[0] / "stages.npy")
    np.save(copy / "nights" / recordings[0] / "stages.npy", np.roll(stages, 1))
    assert f"{recordings[0]} is another night" in refused(tmp_path / "other")
    about = json.loads((copy / "dataset.json").read_text())
    about["settings"]["fs"] = 128
    (copy / "dataset.json").write_text(json.dumps(about))
    assert "prepared otherwise" in refused(tmp_path / "other")
    # a scale that is taken from all of a night
    store = Store(store.path)
    store.settings = store.settings | {"preset": "equalised"}
    about["settings"] = store.settings
    (copy / "dataset.json").write_text(json.dumps(about))
    assert "scales a night by the whole of it" in refused(tmp_path / "other")
