"""Slow: do explanations of a trained model point at the only evidence that the nights hold?

On ordinary synthetic nights, as on real ones, the background tells stages apart, and a model may do
well without any event. Here the noise is the same in every stage and one kind of event marks N2, so
a model that stages such nights must have detected the events.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cmt_evaluate
import cmt_training
import generate_demo_data
from tests.conftest import prepare
from tests.test_cohort import all_cores  # noqa: F401

pytestmark = pytest.mark.slow
SHARED = "vertex_wave,sem,theta_run"  # what else would tell N1 from N2
OTHER = {"spindle": "k_complex", "k_complex": "spindle"}


def summary_of(folder: Path, only: str) -> dict[tuple[str, str, str], dict]:
    """Generate, prepare, train, explain; rows of the summary by method, measure and stage."""
    words = ["--subjects", "12", "--nights", "1", "--hours", "4", "--difficulty", "0"]
    omitted = ["--one_background", "--omit", f"{OTHER[only]},{SHARED}"]
    generate_demo_data.main(["--output", str(folder / "raw"), *words, *omitted])
    prepare(folder / "raw", folder / "store")
    paths = ["--data_path", str(folder / "store"), "--project_path", str(folder / "results")]
    quick = ["--n_epochs", "16", "--logger", "csv", "--accelerator", "cpu"]
    cmt_training.main([*paths, "--model_type", "Seq", *quick])
    chosen = ["--interpret_recordings", "0", "--interpret_select", "per_stage:30"]
    methods = ["--interpret_methods", "ig,specgrad,attention", "--interpret_bands", "False"]
    none = ["--interpret_pictures", "0", "--pictures", "0", "--device", "cpu", "--n_random", "5"]
    truth = ["--truth_path", str(folder / "raw")]
    cmt_evaluate.main([*paths, "--is_interpret", *chosen, *methods, *none, *truth])
    path = folder / "results" / "cmt_seq_fold4" / "interpretations" / "faithfulness.json"
    rows = json.loads(path.read_text())["rows"]
    return {(row["method"], row["measure"], row["stage"]): row for row in rows}


@pytest.mark.parametrize("only", ["spindle", "k_complex"])
def test_explanations_find_the_only_evidence(only, tmp_path):
    rows = summary_of(tmp_path, only)
    for kind, stage in ((only, "N2"), ("slow_wave", "N3")):
        readings = [f"auroc_{name}_{kind}" for name in ("net", "sign")]
        scores = {
            (method, reading): rows[method, reading, stage]["mean"]
            for method in ("ig", "specgrad")
            for reading in readings
        }
        method, reading = max(scores, key=scores.get)
        assert scores[method, reading] >= 0.85, scores
        # the same method and reading of models that have learned nothing
        untrained = rows[f"{method}, random weights", reading, stage]["mean"]
        assert untrained == pytest.approx(0.5, abs=0.15)
        assert ("attention", readings[0], stage) in rows
    above, chance = (rows[m, "deletion_below_random", "all"] for m in ("specgrad", "random"))
    assert above["low"] > chance["high"]
