"""What the pretraining study makes: selection, one reading of all encoders, draws of labels."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import ssl_training
from datasets.store import splits
from experiments import study_spaces
from experiments.pretraining_study import GRID as GRID_SHIPPED
from experiments.pretraining_study import about
from experiments.study_grid import read_grid
from experiments.study_plan import (
    Study,
    check_same_reading,
    check_selection,
    curve_cells,
    selected,
    table_cells,
)
from experiments.study_rows import ALL, POWERS, RANDOM, TABLE, Probed, Rows
from probing.probes import Labelled
from probing.probes import Probed as Staged
from tests.study_tables import GRID, counts_of
from training import ssl_family
from utils.checkpoint import Checkpoint
from utils.errors import UserError
from utils.files import write_json


@pytest.fixture
def planned(dreem_cohort, tmp_path) -> Study:
    """Two settings, two seeds, nothing made yet."""
    settings = {"plain": "--objective contrastive", "warm": "--objective contrastive --lr 1e-3"}
    path = tmp_path / "grid.json"
    path.write_text(json.dumps(GRID | {"objectives": {"contrastive": settings}}))
    store = dreem_cohort[1]
    table = splits.find_table(store, None)
    cpu = torch.device("cpu")
    return Study(read_grid(path), store, table, (3, 4), (0, 1), tmp_path, (), cpu)


def rated(study: Study, rights: dict[tuple[str, int, int], list[int]]) -> Rows:
    """Curves of which every training has so many of ten right, seed after seed; others have 5."""
    rows = Rows(study.root / "pretraining.csv")
    for seed in study.seeds:
        for cell in curve_cells(study, seed):
            right = rights.get((cell.setting, cell.steps, cell.nights), [5, 5])[seed]
            rows.add(cell, Probed(("a",), counts_of(right, 10 - right)[None], 1, 1.0, 1))
    return rows


def test_validation_subjects_select_by_the_mean_of_trainings_on_all_nights(planned):
    assert planned.n_nights(0) == planned.n_nights(1) == 2
    # the best of one seed, and of fewer nights, are not the best of the mean over seeds
    rights = {("plain", 1, 2): [9, 5], ("warm", 1, 2): [8, 7], ("plain", 2, 1): [10, 10]}
    rows = rated(planned, rights)
    dropped = rows.cells(setting="plain", steps=1, nights=2)[0]
    best = Probed(("a",), counts_of(10, 0)[None], 1, 1.0, 1)
    rows.add(replace(dropped, setting="of an earlier grid"), best)
    rows.add(replace(dropped, part=TABLE), best)  # held-out subjects have no say
    chosen = selected(planned, rows)
    assert chosen == {("contrastive", "chambon2018"): ("warm", 1)}
    cells = table_cells(planned, 0, chosen)
    assert {cell.part for cell in cells} == {TABLE}
    assert {(c.objective, c.setting, c.steps, c.nights) for c in cells} == {
        ("contrastive", "warm", 1, 2), (RANDOM, "", 0, 0), (POWERS, "", 0, 0),
        ("supervised", "", 0, 0),
    }  # fmt: skip
    assert {c.budget for c in cells} == {"1", ALL}


def test_the_page_reports_that_the_folds_validate(planned):
    """Was in silence: 8 validation subjects of the folds, where the grid has a share of 30."""
    words = "the folds name who validates, the same for every seed"
    assert words not in about(planned)
    one = replace(planned, held_out=(4,))
    assert one.split(0).validation == one.split(1).validation and words in about(one)


def test_held_out_subjects_are_read_for_one_selection(planned):
    rows = rated(planned, {("warm", 2, 2): [8, 8]})
    chosen = selected(planned, rows)
    check_selection(planned, rows, chosen)
    for cell in table_cells(planned, 0, chosen):
        rows.add(cell, Probed(("b",), counts_of(5, 5)[None], 1, 1.0, 1))
    check_selection(planned, rows, chosen)
    for other in (("warm", 1), ("plain", 2)):
        with pytest.raises(UserError, match="were read for contrastive, warm, 2 steps; a second"):
            check_selection(planned, rows, {("contrastive", "chambon2018"): other})


def test_encoders_beside_one_control_are_read_alike(planned):
    write_json(planned.decided, {})
    settings = {"encoder": "transformer", "pool": "cls", "decoder": False}
    channels = (("EEG", "EEG"),)

    def of(**changed) -> Checkpoint:
        one = Checkpoint(Path("run"), "pretraining", settings, channels, 100.0, "night", {})
        return replace(one, **changed)

    check_same_reading(planned, "transformer", of())
    # what pretraining discards may differ, and so may another encoder
    check_same_reading(planned, "transformer", of(settings=settings | {"decoder": True}))
    check_same_reading(planned, "cnn", of(settings=settings | {"pool": "mean"}))
    for name, changed in (
        ("pool", {"settings": settings | {"pool": "mean"}}),
        ("channels", {"channels": (("EOG", "EOG"),)}),
        ("normalization", {"standardise": "none"}),
        ("use_cls", {"settings": settings | {"use_cls": True}}),
    ):
        with pytest.raises(UserError, match=f"another {name} than other encoders transformer"):
            check_same_reading(planned, "transformer", of(**changed))


def test_the_settings_shipped_are_flags_and_read_alike(planned):
    write_json(planned.decided, {})
    grid, view = read_grid(GRID_SHIPPED), SimpleNamespace(columns=[0], fs=100.0, n_samples=3000)
    for encoder, one in product(grid.encoders, grid.objectives):
        settings = ssl_training.parse_args([*one.words, "--encoder", encoder])
        assert settings.learning.objective == one.objective
        built = ssl_family.settings_of(settings, view)
        channels, scaling = (("EEG", "EEG"),), settings.learning.normalization
        made = Checkpoint(Path(one.name), "pretraining", built, channels, 100.0, scaling, {})
        check_same_reading(planned, encoder, made)


def test_one_network_and_several_learn_from_the_same_labels(monkeypatch):
    """Draw after draw; of all labels every network has one probe."""
    names = np.repeat([f"s{k}" for k in range(8)], 3)
    learned = []

    def linear_probe(train, validation, test):
        learned.append((float(train.z[0, 0]), sorted(set(train.subjects))))
        return Staged(test.stages, np.zeros((len(test.stages), 5)), "")

    def space(number: float) -> study_spaces.Splits:
        one = Labelled(np.full((24, 1), number), np.tile([0, 2, 4], 8), names)
        return {"train": one, "validation": one}

    monkeypatch.setattr(study_spaces.probes, "linear_probe", linear_probe)
    labels, drawn = study_spaces.Labels(8, "validation", 3), []
    for spaces in ([space(1.0)], [space(k) for k in range(4)]):
        learned.clear()
        made = study_spaces.probe(spaces, labels, "2", 4)
        assert made["draws"] == 4 and made["counts"].sum() == 4 * 24
        drawn.append([subjects for _, subjects in learned])
        assert [which for which, _ in learned] == ([1.0] * 4 if len(spaces) == 1 else [0, 1, 2, 3])
        learned.clear()
        assert study_spaces.probe(spaces, labels, ALL, 4)["draws"] == len(spaces)
        assert all(len(subjects) == 8 for _, subjects in learned)
    assert drawn[0] == drawn[1] and all(len(subjects) == 2 for subjects in drawn[0])
    assert len({tuple(subjects) for subjects in drawn[0]}) > 1
