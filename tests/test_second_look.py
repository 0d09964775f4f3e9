"""Epochs for a second look: gains with known answers, rows of a known night, planted errors."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from evaluation.night_page import listed
from interpret import label_errors
from interpret.label_errors import MODEL, MODEL_FREE, Evidence, confused, evaluated, moved_borders
from interpret.scoreboard import summarise
from interpret.second_look import (
    SCORERS_AGREE,
    expected_gain,
    fitted_temperature,
    reasons_of,
    second_look,
    shares_of_alike,
    tempered,
    with_alike,
    write_second_look,
)
from interpret.second_look_report import write_planted
from interpret.selection import select
from utils.staged_night import StagedNight, Vote

FS = 100


def drawn(probabilities, rng):
    """A class (n,) by each row's probabilities (n, k)."""
    return (probabilities.cumsum(axis=1) < rng.random((len(probabilities), 1))).sum(axis=1)


def test_a_temperature_that_was_applied_is_fitted():
    rng = np.random.default_rng(0)
    honest = rng.dirichlet(np.full(5, 0.5), 20_000)
    stages = drawn(honest, rng)
    assert fitted_temperature(honest, stages) == pytest.approx(1, abs=0.03)
    # twice as sure as it should be
    assert fitted_temperature(tempered(honest, 0.5), stages) == pytest.approx(2, rel=0.03)
    assert fitted_temperature(honest, np.full(len(stages), -1)) == 1
    assert np.allclose(tempered(tempered(honest, 0.5), 2), honest, atol=1e-3)


def test_gains_are_the_share_of_labels_that_are_wrong():
    """Truths drawn by the probabilities, labels by scorers: Bayes' rule is the frequency."""
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.full(5, 0.4), 60_000)
    truth = drawn(p, rng)
    others = (truth + rng.integers(1, 5, len(truth))) % 5
    labels = np.where(rng.random(len(truth)) < SCORERS_AGREE, truth, others)
    gain = expected_gain(p, labels)
    for low in (0, 0.05, 0.2, 0.5, 0.8):
        inside = (gain >= low) & (gain < low + 0.2)
        assert (labels != truth)[inside].mean() == pytest.approx(gain[inside].mean(), abs=0.025)


def test_gains_follow_the_probability_of_the_label():
    p = np.array([[0.9, 0.1, 0, 0, 0], [0.9, 0.1, 0, 0, 0], [0.9, 0.1, 0, 0, 0], [1, 0, 0, 0, 0]])
    gain = expected_gain(p, np.array([0, 1, 2, 0]))
    assert gain[3] == 0 < gain[0] < gain[1] < gain[2] == 1
    assert gain[1] == pytest.approx(0.9 * 0.0435 / (0.9 * 0.0435 + 0.1 * 0.826))
    # where nobody scored the model's own stage is in use
    assert expected_gain(p, np.full(4, -1)) == pytest.approx([0.1, 0.1, 0.1, 0])


def test_alike_epochs_vote_with_their_stages():
    """Two clusters of powers; the expert's stage of one epoch is that of the other cluster."""
    labels = np.repeat([2, 3, -1], 30)
    decibels = 20.0 * (labels == 3)[:, None] + np.random.default_rng(0).standard_normal((90, 2))
    labels[5], decibels[7] = 3, np.nan
    shares = shares_of_alike(decibels, labels)
    assert np.allclose(shares.sum(axis=1), 1)
    assert shares[5, 2] == pytest.approx(21 / 25)  # its own label has no vote
    assert shares[0, 2] >= 19 / 25 and shares[40, 3] == pytest.approx(21 / 25)
    assert (shares[[7, 80]] == 0.2).all() and (
        shares_of_alike(decibels[:9], labels[:9]) == 0.2
    ).all()
    p = np.full((90, 5), 0.2)
    gain = expected_gain(with_alike(p, shares), labels)
    assert gain[5] > 3 * gain[:5].max()
    assert np.allclose(with_alike(p, p), p)


def probabilities_of(stages, sure):
    p = np.repeat((1 - np.asarray(sure, float))[:, None] / 4, 5, axis=1)
    p[np.arange(len(stages)), stages] = sure
    return p


def sines(stages, rng, sizes=(1, 1, 1, 1, 1)):
    """Epochs whose frequency is that of their stage, with a little noise."""
    hertz, time = np.array([10, 6, 13, 2, 20])[stages], np.arange(30 * FS) / FS
    waves = np.array(sizes)[stages, None] * np.sin(2 * np.pi * hertz[:, None] * time)
    return waves + 0.1 * rng.standard_normal(waves.shape)


@pytest.fixture
def night():
    """A night of 40 epochs whose epochs 7 (N2) and 30 (REM) the expert stages otherwise."""
    truth = np.repeat([0, 2, 3, 4], 10)
    truth[7] = 2
    expert = truth.astype(np.int8)
    expert[7], expert[30], expert[39] = 0, 2, -1
    sure = np.full(40, 0.9)
    sure[30] = 0.6
    p = probabilities_of(truth, sure)
    votes = [Vote("one", p, 0.75), Vote("other", probabilities_of(expert.clip(0), sure), 0.25)]
    staged = StagedNight("r", "s", p, expert, first_epoch=3, votes=votes)
    return staged, sines(truth, np.random.default_rng(2))


def test_rows_describe_epochs_that_differ(night):
    staged, epochs = night
    onset = 30 * (3 + 7)
    events = {"spindle": np.array([[onset + 1, 1], [onset + 29.9, 1], [onset + 30, 1], [0, 1]])}
    rows = second_look(staged, epochs, FS, events=events, reasons={7: "because"})
    assert [(row["rank"], row["epoch"]) for row in rows] == [(1, 7), (2, 30)]
    first, second = rows
    assert first["onset_s"] == onset and first["confused"] == "W/N2"
    assert (first["expert"], first["model"]) == ("W", "N2")
    assert (first["expert_before"], first["model_after"]) == ("W", "W")
    assert first["p_expert"] == pytest.approx(0.025) and first["p_model"] == pytest.approx(0.9)
    assert first["expected_gain"] > second["expected_gain"] > 0
    assert (first["n_spindle"], second["n_spindle"]) == (2, 0)
    assert (first["reasons"], second["reasons"]) == ("because", "")
    assert first["votes_with_expert"] == 0.25 and first["spread"] > 0
    # an N2 epoch has its sigma, which Wake has not, and lacks the alpha of Wake
    assert first["powers_like"] == "N2" and second["powers_like"] == "REM"
    assert first["sigma_from_expert_db"] > 10 > abs(first["sigma_from_model_db"])
    assert first["alpha_from_expert_db"] < -10


def test_without_an_expert_the_least_certain_are_listed(night):
    staged, epochs = night
    p = staged.probabilities
    bare = StagedNight("r", "s", p, np.full(40, -1, np.int8), lost=np.arange(40) == 1)
    rows = second_look(bare, epochs, FS)
    # a tenth, the first of those that are equally certain, without the one that is lost
    assert [row["epoch"] for row in rows] == [30, 0, 2]
    assert rows[0]["expected_gain"] == pytest.approx(0.4)
    assert rows[0]["expert"] is None and rows[0]["p_expert"] is None


def test_scorers_stand_beside_the_expert(night):
    scorers = np.full((5, 40), -1)
    scorers[:, 7] = [0, 0, 0, 2, -1]
    first, second = second_look(*night, FS, scorers=scorers)
    assert (first["scorers_with_expert"], first["scorers_with_model"]) == (0.75, 0.25)
    assert second["scorers_with_expert"] is None


def test_flat_epochs_and_rare_stages_have_no_powers(night):
    staged, epochs = night
    epochs[7] = 0
    row = second_look(staged, epochs, FS)[0]
    assert row["powers_like"] is None and row["delta_from_expert_db"] is None
    rare = second_look(staged, epochs[:, :1500], 50)[0]  # half the rate: no gamma
    assert "gamma_from_model_db" not in rare


def test_files_and_page_have_the_rows(night, tmp_path):
    rows = second_look(*night, FS)
    write_second_look(tmp_path, rows, 1.5)
    written = json.loads((tmp_path / "second_look.json").read_text())
    assert written["epochs"] == rows and written["about"]["temperature"] == 1.5
    assert "Bayes" in written["about"]["definition"]
    with (tmp_path / "second_look.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["7", "30"]
    assert listed(rows)[0]["by_expert"] == "W W W" and listed(rows)[0]["by_model"] == "W N2 W"
    assert "sigma +" in listed(rows)[0]["powers"]
    (tmp_path / "none").mkdir()
    write_second_look(tmp_path / "none", [])
    assert not (tmp_path / "none" / "second_look.csv").exists()


def test_reasons_are_the_largest_parts(tmp_path):
    bands = np.zeros((3, 1, 10))
    bands[0], bands[1], bands[2] = 0.1, -0.2, 0.01
    edges = np.array([[0.5, 4], [4, 8], [8, 11.5]])
    np.savez(tmp_path / "specgrad.npz", bands=bands, edges_hz=edges)
    np.savez(tmp_path / "ig.npz", signed=bands[0])
    trees = {"groups": np.array(["eyes", "spindles"]), "contributions": np.array([[1, 1], [0, -3]])}
    np.savez(tmp_path / "treeshap.npz", **trees)
    methods = {name: {"file": f"{name}.npz"} for name in ("ig", "specgrad", "treeshap")}
    assert reasons_of(tmp_path, {"methods": methods, "explained": "N2"}) == (
        "specgrad: 4–8 Hz -2.00, 0.5–4 Hz +1.00, 8–11.5 Hz +0.10; "
        "treeshap: spindles -3.00, eyes +2.00, for N2"
    )
    assert reasons_of(tmp_path, {"methods": {"ig": methods["ig"]}, "explained": "W"}) == ""


def test_selection_takes_the_least_probable_of_the_experts_stages(night):
    staged, _ = night
    assert select("second_look:1", staged.probabilities, staged.expert).tolist() == [7]
    assert select("second_look:9", staged.probabilities, staged.expert).tolist() == [7, 30]


HYPNOGRAM = np.repeat([0, 1, 2, 3, 2, 4, 0, -1], 50).astype(np.int8)


def test_planted_errors_are_those_that_scorers_make():
    rng = np.random.default_rng(3)
    changed = confused(HYPNOGRAM, 20, rng)
    where = np.flatnonzero(changed != HYPNOGRAM)
    assert len(where) == 20 and (HYPNOGRAM[where] >= 0).all()
    assert (changed[where[HYPNOGRAM[where] == 3]] == 2).all()  # N3 is taken for N2 alone
    moved = moved_borders(HYPNOGRAM, 8, rng)
    where = np.flatnonzero(moved != HYPNOGRAM)
    assert 4 <= len(where) <= 8
    # at most three epochs from a border between scored stages, and in the stage beyond it
    assert (np.minimum(where % 50, 49 - where % 50) < 3).all() and where.max() < 350
    assert (moved[350:] == HYPNOGRAM[350:]).all() and (moved[340:350] == HYPNOGRAM[340:350]).all()


def evidence(knows: float, rng, powers=None) -> Evidence:
    """A night whose model puts ``knows`` on the true stage, and powers that tell nothing."""
    p = probabilities_of(HYPNOGRAM.clip(0), np.full(len(HYPNOGRAM), knows))
    decibels = rng.standard_normal((len(p), 5)) if powers is None else powers
    return Evidence("s", p, decibels, HYPNOGRAM)


def means(nights) -> dict[tuple[str, str, str], float]:
    rows = summarise(evaluated(nights, draws=3))
    return {(row["method"], row["measure"], row["stage"]): row["mean"] for row in rows}


def test_what_a_model_knows_comes_first():
    table = means([evidence(0.9, np.random.default_rng(4))])
    for kind in label_errors.ERRORS:
        assert table[MODEL, "precision", kind] == 1 == table[MODEL, "recovered", kind]
        assert table["any order", "precision", kind] < 0.25
        assert table["entropy alone", "precision", kind] < 0.25  # equally sure everywhere
        assert table[MODEL_FREE[0], "ahead", kind] > 0.7
    # single epochs stick out of their neighbours in time, moved borders do not
    isolated = table[MODEL_FREE[1], "precision", "confused stages"]
    assert isolated > 0.8 > 0.6 > table[MODEL_FREE[1], "precision", "moved borders"]


def test_a_model_that_knows_nothing_is_at_chance_alone_and_carried_by_powers_that_tell():
    rng = np.random.default_rng(5)
    powers = 10 * HYPNOGRAM[:, None] + rng.standard_normal((len(HYPNOGRAM), 5))
    table = means([evidence(0.2, rng, powers)])
    assert table["model alone", "precision", "all"] < 0.25
    assert table[MODEL_FREE[0], "precision", "all"] > 0.9 < table[MODEL, "precision", "all"]
    assert abs(table[MODEL_FREE[0], "ahead", "all"]) < 0.1


def test_unscored_epochs_are_neither_planted_nor_ranked(tmp_path):
    unscored = np.full(len(HYPNOGRAM), -1, np.int8)
    night = evidence(0.9, np.random.default_rng(6))
    assert evaluated([Evidence("s", night.probabilities, night.decibels, unscored)]) == []
    assert write_planted(tmp_path, []) == [] and not list(tmp_path.iterdir())
    rows = write_planted(tmp_path, [night])
    with (tmp_path / "planted_label_errors.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows) and {"ranking", "errors", "draws"} <= set(table[0])
