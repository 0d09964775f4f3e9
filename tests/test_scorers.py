"""Staged nights beside five scorers, by the protocol of the Dreem Open Datasets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from datasets.readers import consensus
from evaluation.dod_agreement import record_agreement
from evaluation.human_scorers import beside, of_record, write_agreement
from tests.test_dreem import lists_of
from tests.test_staging_scripts import evaluate, train
from utils.errors import UserError
from utils.staged_night import StagedNight


def staged(codes: np.ndarray, expert: np.ndarray, name: str = "a") -> StagedNight:
    return StagedNight(name, name, np.eye(5)[codes], expert)


@pytest.fixture
def scored() -> np.ndarray:
    """Five scorers of 60 epochs; the first five unscored by one of them."""
    rng = np.random.default_rng(0)
    stages = np.repeat(rng.integers(0, 5, 12), 5)
    scored = np.stack([np.where(rng.random(60) < 0.1, rng.integers(0, 5, 60), stages)] * 5)
    for row in scored:
        changed = rng.random(60) < 0.1
        row[changed] = rng.integers(0, 5, changed.sum())
    scored[2, :5] = -1
    return scored.astype(np.int8)


def test_the_model_is_compared_with_the_best_four(scored):
    cut = scored[:, 5:]
    own_scoring, rng = consensus.all_of(cut)[0], np.random.default_rng(1)
    expert = np.concatenate([[-1] * 5, own_scoring]).astype(np.int8)
    model = rng.integers(0, 5, 60)
    rows = of_record(staged(model, expert), scored)
    assert [row["name"] for row in rows] == ["model", *(f"scorer_{k}" for k in range(1, 6))]
    expected = record_agreement(model[5:], *consensus.for_model(cut))
    assert rows[0]["offset"] == 5 and rows[0]["epochs"] == 55
    assert rows[0]["kappa"] == pytest.approx(expected["kappa"])
    expected = record_agreement(cut[3], *consensus.for_scorer(cut, 3))
    assert rows[4]["f1"] == pytest.approx(expected["f1"])


def test_a_cropped_record_finds_its_place(scored):
    cut = scored[:, 5:]
    agreed = consensus.all_of(cut)[0]
    model = np.random.default_rng(1).integers(0, 5, 30)
    rows = of_record(staged(model, agreed[10:40]), scored)
    # ranked and agreed upon where the signals are
    expected = record_agreement(model, *consensus.for_model(cut[:, 10:40]))
    assert rows[0]["offset"] == -10 and rows[0]["kappa"] == pytest.approx(expected["kappa"])
    assert of_record(staged(model, (agreed[10:40] + 1) % 5), scored) == []


def test_a_perfect_model_and_what_is_written(scored, tmp_path, capsys):
    folder = lists_of(tmp_path, "a", scored)
    lists_of(tmp_path, "b", scored)
    codes, _ = consensus.for_model(scored[:, 5:])
    agreed = consensus.all_of(scored[:, 5:])[0]
    stranger = staged((agreed + 2) % 5, (agreed + 2) % 5, "b")
    result = write_agreement(tmp_path, [staged(codes, agreed), stranger], folder, "synthetic-dodh")
    assert result["model"]["kappa"] == {"mean": pytest.approx(1), "sd": 0}
    assert result["records"] == 1 and result["refused"] == ["b"]
    assert "scorers that fit nowhere: b" in capsys.readouterr().out
    assert json.loads((tmp_path / "dod.json").read_text()) == result
    assert len((tmp_path / "dod.csv").read_text().splitlines()) == 7
    with pytest.raises(UserError, match="no record's scorers agree"):
        write_agreement(tmp_path, [stranger], folder, "synthetic-dodh")
    with pytest.raises(UserError, match="are the ids stale"):
        write_agreement(tmp_path, [staged(codes, agreed)], folder, "dodh")


def test_scorers_are_placed_on_epochs_of_the_night(scored, tmp_path):
    folder = lists_of(tmp_path, "a", scored)
    agreed = consensus.all_of(scored[:, 5:])[0]
    whole = staged(np.zeros(60, int), np.concatenate([[-1] * 5, agreed]).astype(np.int8))
    placed = beside([whole], folder)["a"]
    assert (placed[:, 5:] == scored[:, 5:]).all() and (placed[:, :5] == -1).all()
    cropped = staged(np.zeros(30, int), agreed[10:40])
    assert (beside([cropped], folder)["a"] == scored[:, 15:45]).all()
    assert beside([staged(np.zeros(30, int), (agreed[10:40] + 1) % 5)], folder) == {}


def test_from_the_command_line(dreem_cohort, tmp_path):
    raw, store = dreem_cohort
    train(store, tmp_path, "chambon2018", "--first_epochs", "0")
    evaluate(store, tmp_path, "--scorers", str(raw / "scorers"))
    run = next(tmp_path.glob("chambon2018_*"))
    result = json.loads((run / "evaluation" / "dod.json").read_text())
    assert result["records"] == 3 and 0.5 < result["scorer"]["kappa"]["mean"] < 0.95
    with pytest.raises(UserError, match="not a list of stages"):
        evaluate(store, tmp_path, "--scorers", str(Path(raw) / "nowhere"))
