"""Slow: do explanations of a trained model point at the only evidence that the nights hold?

One reading of each method, and always beside the best map that knows no model.

On ordinary synthetic nights, as on real ones, the background tells stages apart, and a model may do
well without any event. Here the noise is the same in every stage and one kind of event marks N2, so
a model that stages such nights must have detected the events.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import cmt_evaluate
import cmt_training
import generate_demo_data
from tests.conftest import prepare
from tests.test_cohort import all_cores  # noqa: F401
from utils.stages import STAGES

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
    # where a map points, not how exactly it sums up, is measured
    none += ["--ig_most_steps", "200", "--interpret_other_baselines", "zero", "--n_untrained", "1"]
    truth = ["--truth_path", str(folder / "raw")]
    cmt_evaluate.main([*paths, "--is_interpret", *chosen, *methods, *none, *truth])
    run = folder / "results" / "cmt_seq_fold4"
    with (run / "evaluation" / "confusion_matrix.csv").open() as file:
        counts = {row["expert"]: {k: int(row[k]) for k in STAGES} for row in csv.DictReader(file)}
    # without this nothing could be said: the events tell N2 from N1, which has none of its own
    recall = {stage: counts[stage][stage] / sum(counts[stage].values()) for stage in ("N1", "N2")}
    assert min(recall.values()) > 0.4, f"the model did not learn its evidence: {recall}"
    rows = json.loads((run / "interpretations" / "faithfulness.json").read_text())["rows"]
    return {(row["method"], row["measure"], row["stage"]): row for row in rows}


@pytest.fixture(scope="module", params=["spindle", "k_complex"])
def explained(request, tmp_path_factory) -> tuple[str, dict[tuple[str, str, str], dict]]:
    """The only kind of event that tells N2 from N1, and the summary."""
    return request.param, summary_of(tmp_path_factory.mktemp(request.param), request.param)


def test_slow_waves_are_pointed_at_and_what_is_deleted_matters(explained):
    _, rows = explained
    for method in ("ig", "specgrad"):
        own, untrained = (
            rows[name, "auroc_slow_wave", "N3"]["mean"]
            for name in (method, f"{method}, random weights")
        )
        assert own > untrained + 0.1, (method, own, untrained)
    for method in ("attention", "band_energy", "total_energy", "middle_first"):
        assert (method, "auroc_slow_wave", "N3") in rows
    # energy alone points at large waves as well: what is not measured beside it is no finding
    assert rows["band_energy", "auroc_slow_wave", "N3"]["mean"] > 0.8
    above, chance = (rows[m, "deletion_below_random", "all"] for m in ("specgrad", "random"))
    # two subjects: their interval is too wide to compare
    assert above["mean"] > 0.05 and abs(chance["mean"]) < 0.02


def test_the_only_evidence_is_pointed_at(explained, request):
    """K-complexes are; spindles not since the simulator was refitted: .40, .44, untrained .43."""
    only, rows = explained
    if only == "spindle":
        why = "maps of N2's logit do not point at spindles"
        request.applymarker(pytest.mark.xfail(strict=True, reason=why))
    for method in ("ig", "specgrad"):
        own, untrained = (
            rows[name, f"auroc_{only}", "N2"]["mean"]
            for name in (method, f"{method}, random weights")
        )
        assert own > untrained + 0.1, (method, own, untrained)
