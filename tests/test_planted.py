"""Slow: do explanations of a trained model point at the only evidence that the nights hold?

One reading of each method, and always beside the best map that knows no model.

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
    omitted = ["--one_background", "--distractors", "--omit", f"{OTHER[only]},{SHARED}"]
    generate_demo_data.main(["--output", str(folder / "raw"), *words, *omitted])
    prepare(folder / "raw", folder / "store")
    paths = ["--data_path", str(folder / "store"), "--project_path", str(folder / "results")]
    quick = ["--n_epochs", "16", "--logger", "csv", "--accelerator", "cpu"]
    cmt_training.main([*paths, "--model_type", "Seq", *quick])
    chosen = ["--interpret_recordings", "0", "--interpret_select", "per_stage:30"]
    methods = ["--interpret_methods", "ig,specgrad,attention", "--interpret_bands", "False"]
    none = ["--interpret_pictures", "0", "--pictures", "0", "--device", "cpu", "--n_random", "5"]
    # where a map points, not how exactly it sums up, is measured
    none += ["--ig_most_steps", "200", "--interpret_other_baselines", "zero"]
    truth = ["--truth_path", str(folder / "raw")]
    cmt_evaluate.main([*paths, "--is_interpret", *chosen, *methods, *none, *truth])
    path = folder / "results" / "cmt_seq_fold4" / "interpretations" / "faithfulness.json"
    rows = json.loads(path.read_text())["rows"]
    return {(row["method"], row["measure"], row["stage"]): row for row in rows}


@pytest.mark.parametrize("only", ["spindle", "k_complex"])
def test_explanations_find_the_only_evidence(only, tmp_path):
    rows = summary_of(tmp_path, only)
    for kind, stage in ((only, "N2"), ("slow_wave", "N3")):
        measure = f"auroc_{kind}"
        for method in ("ig", "specgrad"):
            own, untrained = (
                rows[name, measure, stage]["mean"] for name in (method, f"{method}, random weights")
            )
            assert own > untrained + 0.1, (method, kind, own, untrained)
        for method in ("attention", "band_energy", "total_energy", "middle_first"):
            assert (method, measure, stage) in rows
        # energy alone points at large waves as well: what is not measured beside it is no finding
        assert rows["band_energy", measure, stage]["mean"] > 0.8
        for what in ("shape", "band", "channel"):
            assert ("specgrad", f"from_wrong_{what}_{kind}", stage) in rows
    above, chance = (rows[m, "deletion_below_random", "all"] for m in ("specgrad", "random"))
    # two subjects: their interval is too wide to compare
    assert above["mean"] > 0.05 and abs(chance["mean"]) < 0.02
