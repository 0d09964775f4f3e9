"""Candidates for the default: their means, their figures by hand, and the rule that chooses."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import compare_candidates
from datasets.readers import partial_night
from experiments.candidates import (
    Candidate,
    ExpertNight,
    choose,
    combinations,
    figures,
    measured,
)
from utils.errors import UserError

SIMULATED = ExpertNight("s", np.array([0, 1, 2, 3, 4]), is_real=False)
PARTIAL = ExpertNight("p", np.array([0, 0, 3, 3, -1]), is_real=True)


def certain(stages):
    return np.eye(5)[stages]


def test_figures_by_hand():
    made = {"s": certain([0, 3, 2, 3, 4]), "p": certain([0, 2, 3, 2, 3])}
    row = figures(made, [SIMULATED, PARTIAL])
    assert row["false_n3"] == pytest.approx(1 / 3)  # one of W, N1 and REM
    assert row["n3_recall"] == 0.5  # the unscored epoch counts for nothing
    assert row["w_f1"] == pytest.approx(2 / 3)
    assert row["kappa_simulated"] == pytest.approx(0.75)


def test_every_mean_has_one_kind_of_bands():
    made = list(combinations(["spectra", "bands-table", "bands-both", "yasa"]))
    assert made[:4] == [("spectra",), ("bands-table",), ("bands-both",), ("yasa",)]
    assert ("spectra", "bands-both", "yasa") in made and ("spectra", "yasa") in made
    assert all(sum("bands" in part for part in parts) <= 1 for parts in made)
    assert not any("robust" in parts for parts in made)


def test_seeds_of_a_mean_are_those_of_its_parts():
    nights = [SIMULATED, PARTIAL]
    good = {"s": certain([0, 1, 2, 3, 4]), "p": certain([0, 0, 3, 3, 0])}
    poor = {"s": certain([0, 0, 0, 0, 0]), "p": certain([0, 0, 0, 0, 0])}
    staged = {"spectra": {0: good, 1: poor}, "yasa": {0: good}}
    by_parts = {one.parts: one for one in measured(staged, nights)}
    assert [row["seed"] for row in by_parts["spectra", "yasa"].rows] == [0, 1]
    assert by_parts["spectra",].score == 0.0 and by_parts["spectra",].spread == 1.0
    assert by_parts["yasa",].score == 1.0


def row(simulated=0.8, partial=0.8, false=0.01, recall=0.6, w_f1=0.95):
    return {
        "seed": 0,
        "kappa_simulated": simulated,
        "kappa_partial": partial,
        "false_n3": false,
        "n3_recall": recall,
        "w_f1": w_f1,
    }


def test_the_rule():
    alone = Candidate(("spectra",), [row(0.99, 0.99)])
    best = Candidate(("spectra", "yasa"), [row(0.90, 0.80)])
    near = Candidate(("spectra", "bands-both", "yasa"), [row(0.89, 0.80)])
    swings = Candidate(("bands-both", "yasa"), [row(0.95, 0.95), row(0.5, 0.5)])
    false = Candidate(("spectra", "bands-both"), [row(0.95, 0.95, false=0.031)])
    chosen, eligible = choose([alone, best, near, swings, false])
    assert chosen is near, "within .01 of the best, the one of most parts"
    assert alone not in eligible and false not in eligible and swings in eligible
    # where none finds half of N3: those within .05 of the best recall
    shy = Candidate(("spectra", "yasa"), [row(0.7, 0.7, recall=0.45)])
    shier = Candidate(("spectra", "bands-both", "yasa"), [row(0.99, 0.99, recall=0.39)])
    assert choose([alone, shy, shier]) == (shy, [shy])


def test_candidates_are_compared_by_yasa_alone_where_nothing_was_trained(raw, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "partial").mkdir()
    np.savez(
        tmp_path / "partial" / "night.npz",
        x=rng.normal(0, 1000, (12, 3840)).astype(np.int16),
        scale=0.02,
        epoch=np.r_[0:6, 10:16],
        n_epochs=20,
        stage=np.repeat([0, 3], 10).astype(np.int8),
        fs=128,
    )
    file, expert = partial_night.read(tmp_path / "partial" / "night.npz")
    assert (expert[6:10] == -1).all() and (expert[16:] == -1).all()
    assert (expert >= 0).sum() == 12
    samples = file.read("EEG C4-A1", 0, 600).reshape(20, -1)
    assert (samples[expert < 0] == 0).all() and samples[expert >= 0].std() > 1
    (tmp_path / "simulated").mkdir()
    for path in sorted(raw.glob("SC4001*")):
        (tmp_path / "simulated" / path.name).write_bytes(path.read_bytes())
    words = [
        f"--{name}={tmp_path / folder}"
        for name, folder in (("weights", "w"), ("simulated", "simulated"), ("partial", "partial"))
    ]
    with pytest.raises(UserError, match="no mean of two parts"):
        compare_candidates.main([*words, "--output", str(tmp_path / "table.csv")])
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [line["candidate"] for line in rows] == ["no model, W throughout", "yasa"]
    assert rows[0]["kappa_partial"] == "0.000" and rows[0]["w_f1"] == "0.667"  # 6 of 12 are W
    assert len(list((tmp_path / "w" / "stagings").glob("*.npz"))) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "no partly recorded night, or damaged"),
        ({"scale": None}, "holds no scale"),
        ({"n_epochs": 5}, "do not belong together"),
        ({"n_epochs": 10**12}, "do not belong together"),
        ({"n_epochs": float("nan")}, "do not belong together"),
        ({"n_epochs": [10]}, "do not belong together"),
        ({"n_epochs": "10"}, "do not belong together"),
        ({"scale": float("inf")}, "do not belong together"),
        ({"fs": 100}, "do not belong together"),
        ({"fs": float("nan")}, "do not belong together"),
        ({"epoch": [0, 0]}, "do not belong together"),
        ({"epoch": [0, -1]}, "do not belong together"),
        ({"epoch": [0.0, 9.0]}, "do not belong together"),
        ({"epoch": [0]}, "do not belong together"),
        ({"stage": [0] * 9 + [7]}, "do not belong together"),
        ({"stage": ["W"] * 10}, "do not belong together"),
        ({"x": np.full((2, 30), np.nan)}, "do not belong together"),
        ({"x": np.ones(60)}, "do not belong together"),
        ({"x": np.zeros((17_000, 3000), np.int8)}, "or damaged"),
    ],
)
def test_a_broken_partial_night_is_one_line(tmp_path, change, message):
    path = tmp_path / "night.npz"
    path.write_bytes(b"PK\x03\x04 cut")
    if change is not None:
        x = np.ones((2, 30), np.int16)
        arrays = {"x": x, "scale": 1.0, "epoch": [0, 9], "n_epochs": 10, "stage": [0] * 10, "fs": 1}
        np.savez_compressed(path, **{k: v for k, v in (arrays | change).items() if v is not None})
    with pytest.raises(UserError, match=message) as error:
        partial_night.read(path)
    assert "\n" not in str(error.value)


def test_the_partial_nights_must_be_named():
    with pytest.raises(UserError, match="--partial names the folder"):
        compare_candidates.main([])
