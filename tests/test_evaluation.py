"""Scores, exports and pictures of staged nights."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import edfio
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from evaluation.evaluation_files import write_evaluation
from evaluation.exports.edf_export import write_edf
from evaluation.exports.night_tables import write_events, write_predictions
from evaluation.score import score
from evaluation.sleep_statistics import compare
from tests import listing
from utils import figures
from utils.staged_night import StagedNight
from utils.stages import STAGES


def night(name="SC4001E0", subject="SC400", n=120, seed=0, wrong=0.3, **settings) -> StagedNight:
    rng = np.random.default_rng(seed)
    expert = np.repeat(rng.integers(0, 5, n // 10), 10).astype(np.int8)
    logits = rng.standard_normal((n, 5))
    logits[np.arange(n), expert] += np.where(rng.random(n) < wrong, 0, 6)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expert[::17] = -1
    return StagedNight(name, subject, probabilities.astype(np.float32), expert, **settings)


NIGHTS = [
    night(f"SC40{s}{k}E0", f"SC40{s}", seed=10 * s + k, first_epoch=10, start="1989-04-24T16:13:00")
    for s in range(4)
    for k in (1, 2)
]
ABOUT = {"headline": "synthetic, protocol keep_all, kfold:4:0 fold 1"}


def test_pooled_figures_are_scikit_learns():
    result = score(NIGHTS)
    true = np.concatenate([n.expert for n in NIGHTS])
    predicted = np.concatenate([n.stages for n in NIGHTS])[true >= 0]
    true = true[true >= 0]
    pooled = {name: figure["value"] for name, figure in result["pooled"].items()}
    assert pooled["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(true, predicted))
    expected = sklearn_metrics.f1_score(true, predicted, average="macro")
    assert pooled["macro_f1"] == pytest.approx(expected)
    assert pooled["kappa"] == pytest.approx(sklearn_metrics.cohen_kappa_score(true, predicted))
    assert pooled["mcc"] == pytest.approx(sklearn_metrics.matthews_corrcoef(true, predicted))
    for figure in result["pooled"].values():
        assert figure["low"] < figure["mean_of_subjects"] < figure["high"]
        assert (figure["interval"], figure["subjects"]) == ("t, mean over subjects", 4)
    own = [row["kappa"] for row in result["per_subject"]]
    assert len(own) == 4
    assert result["pooled"]["kappa"]["mean_of_subjects"] == pytest.approx(np.mean(own))
    recall = sklearn_metrics.recall_score(true, predicted, average=None)
    for stage, expected in zip(STAGES, recall, strict=True):
        assert result["per_stage"][stage]["recall"]["value"] == pytest.approx(expected)
    assert result["epochs"] == len(true) == sum(r["scored"] for r in result["recordings"])
    assert (result["subjects"], result["absent"]) == (4, [])


def test_pooled_is_not_the_mean_over_recordings_or_batches():
    result = score(NIGHTS)
    mean = np.mean([row["kappa"] for row in result["recordings"]])
    assert result["pooled"]["kappa"]["value"] != pytest.approx(mean, abs=1e-6)


def test_a_stage_nobody_gives_is_named_and_left_out():
    expert = np.array([0, 0, 2, 2, 4, 4], np.int8)
    probabilities = np.eye(5, dtype=np.float32)[[0, 0, 2, 2, 4, 2]]
    result = score([StagedNight("a", "s", probabilities, expert)])
    assert result["absent"] == ["N1", "N3"]
    assert result["per_stage"]["N3"]["f1"]["value"] is None
    assert result["per_stage"]["N3"]["support"] == 0
    assert result["pooled"]["macro_f1"]["value"] == pytest.approx((1 + 0.8 + 2 / 3) / 3)
    assert result["pooled"]["kappa"]["low"] is None
    assert result["pooled"]["kappa"]["interval"] == "none: fewer than two subjects"
    json.dumps(result, allow_nan=False)


def test_nights_nobody_scored_are_staged_and_not_counted():
    silent = StagedNight("x", "s9", NIGHTS[0].probabilities, np.full(120, -1, np.int8))
    result, without = score([*NIGHTS, silent]), score(NIGHTS)
    assert result["pooled"] == without["pooled"]
    assert result["recordings"][-1]["kappa"] is None
    alone = score([silent])
    assert alone["epochs"] == 0 and alone["pooled"]["accuracy"]["value"] is None


def test_statistics_leave_out_what_the_expert_did_not_score():
    expert = np.array([0, 2, 2, -1, -1, 4], np.int8)
    model = np.array([0, 2, 2, 2, 2, 4], np.int8)
    for theirs, ours, difference in compare(expert, model).values():
        assert theirs == pytest.approx(ours, nan_ok=True)
        assert difference == 0 or np.isnan(difference)  # of REM that lasts for no 3 min
    assert compare(expert, model)["TST"][0] == 1.5


def test_predictions_table(tmp_path):
    with write_predictions(tmp_path / "a.csv", NIGHTS[0]).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120
    assert rows[0]["onset_s"] == "300" and rows[0]["expert"] == ""
    assert rows[1]["onset_s"] == "330" and rows[1]["expert"] in STAGES
    for k, row in enumerate(rows):
        p = [float(row[f"p_{stage}"]) for stage in STAGES]
        assert row["stage"] == STAGES[int(np.argmax(p))]
        assert sum(p) == pytest.approx(1, abs=1e-5)
        assert row["epoch"] == str(k)


def test_bids_events(tmp_path):
    path = write_events(tmp_path / "a_events.tsv", NIGHTS[0], "made by a test")
    with path.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert list(rows[0])[:3] == ["onset", "duration", "trial_type"]
    assert rows[0]["expert"] == "n/a" and {row["duration"] for row in rows} == {"30"}
    about = json.loads((tmp_path / "a_events.json").read_text())
    described = {name for name, text in about.items() if isinstance(text, dict)}
    assert described == set(rows[0])
    assert (about["RecordingStart"], about["GeneratedBy"]) == (NIGHTS[0].start, "made by a test")


def test_edf_annotations_are_on_the_clock_of_the_source(tmp_path):
    staged = NIGHTS[0]
    edf = edfio.read_edf(write_edf(tmp_path / "model.edf", staged))
    assert (edf.startdate.isoformat(), edf.starttime.isoformat()) == ("1989-04-24", "16:13:00")
    codes = {f"Sleep stage {name}": k for k, name in enumerate(("W", "N1", "N2", "N3", "R"))}
    codes["Sleep stage ?"] = -1
    back = np.full(130, -1)
    for annotation in edf.annotations:
        first, length = annotation.onset / 30, annotation.duration / 30
        back[int(first) : int(first + length)] = codes[annotation.text]
    assert (back[:10] == -1).all()
    assert (back[10:] == staged.stages).all()
    # one more for what lies before the first epoch
    assert len(edf.annotations) == 2 + np.count_nonzero(np.diff(staged.stages))


def test_a_night_without_a_clock_can_be_exported(tmp_path):
    assert write_edf(tmp_path / "a.edf", night()).stat().st_size


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "evaluation"
    write_evaluation(folder, NIGHTS, ABOUT, pictures=2)
    return folder


def test_everything_is_in_the_folder(evaluated):
    names = sorted(p.relative_to(evaluated).as_posix() for p in evaluated.rglob("*.*"))
    for name in (
        "metrics.json",
        "recordings.csv",
        "subjects.csv",
        "stages.csv",
        "confusion_matrix.csv",
        "calibration.csv",
        "confusion_matrix.png",
        "reliability.png",
        "sleep_statistics.csv",
        "sleep_statistics.json",
        "predictions/SC4001E0.csv",
        "events/SC4032E0_events.tsv",
        "edf/SC4032E0-Hypnogram.edf",
    ):
        assert name in names
    assert len(listing.names(evaluated / "nights")) == 2
    result = json.loads((evaluated / "metrics.json").read_text())
    assert result["about"] == ABOUT
    with (evaluated / "stages.csv").open() as file:
        row = next(csv.DictReader(file))
    assert float(row["f1"]) == pytest.approx(result["per_stage"]["W"]["f1"]["value"])
    assert float(row["f1_low"]) < float(row["f1_mean_of_subjects"]) < float(row["f1_high"])
    assert (row["f1_interval"], row["f1_subjects"]) == ("t, mean over subjects", "4")


def test_a_failed_evaluation_keeps_the_former_one(evaluated, monkeypatch):
    before = (evaluated / "metrics.json").read_bytes()
    monkeypatch.setattr(figures, "draw_reliability", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_evaluation(evaluated, NIGHTS[:2], ABOUT, pictures=0)
    assert (evaluated / "metrics.json").read_bytes() == before
    assert listing.names(evaluated.parent) == ["evaluation"]


def test_hypnodensity_is_stacked_to_one():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    figures.draw_hypnodensity(axes, NIGHTS[0].probabilities)
    tops = [patch.get_data().values for patch in axes.patches]
    assert np.allclose(tops[-1], 1, atol=1e-5)
    assert [patch.get_label() for patch in axes.patches] == ["N3", "N2", "N1", "REM", "W"]


def test_epochs_without_a_signal_have_no_hypnodensity():
    lost = np.arange(len(NIGHTS[0].expert)) % 3 == 1
    staged = replace(NIGHTS[0], lost=lost)
    figure = figures.draw_staged_night(
        staged.hypnodensity, staged.expert, title="t", model=staged.scored
    )
    tops = figure.axes[3].patches[4].get_data().values
    np.testing.assert_allclose(tops, np.where(lost, 0, 1), atol=1e-5)
    assert (staged.probabilities[lost].sum(axis=1) > 0.9).all()


def test_disagreement_is_marked_on_scored_epochs_only():
    staged = NIGHTS[0]
    figure = figures.draw_staged_night(staged.probabilities, staged.expert, title="t")
    marks = figure.axes[2].collections[0].get_segments()
    wrong = np.flatnonzero((staged.expert >= 0) & (staged.expert != staged.stages))
    assert np.allclose([segment[0][0] for segment in marks], wrong * 30 / 3600)
    assert [axes.get_ylabel() for axes in figure.axes[:2]] == ["expert", "model"]


def test_confusion_shows_row_per_cent_and_counts():
    counts = np.diag([8, 0, 4, 4, 4])
    counts[0, 1] = 2
    figure = figures.draw_confusion(counts, title="t")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:4] == ["80", "8", "20", "2"]
    assert texts[10:12] == ["–", "0"]  # no epoch of N1: no per cent
