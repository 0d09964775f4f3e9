"""Limits of agreement of sleep statistics, and agreement epoch by epoch."""

from __future__ import annotations

import csv
import json
import logging

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from evaluation.agreement_figures import draw_bland_altman, draw_epoch_agreement
from evaluation.agreement_report import (
    agreement_report,
    epoch_agreement,
    limits_of_agreement,
    paired_statistics,
)
from evaluation.evaluation_files import write_evaluation
from evaluation.sleep_statistics import STATISTICS
from utils.staged_night import StagedNight
from utils.stages import STAGES

LINES = ("bias", "lower_limit", "upper_limit")


def staged(expert, model, recording="a", subject="s") -> StagedNight:
    probabilities = np.eye(5, dtype=np.float32)[np.asarray(model)]
    return StagedNight(recording, subject, probabilities, np.asarray(expert, dtype=np.int8))


def simulated(number: int, subject: str, n: int = 240) -> StagedNight:
    rng = np.random.default_rng(number)
    expert = np.repeat(rng.permutation(np.arange(n // 10) % 5), 10)
    model = np.where(rng.random(n) < 0.7, expert, rng.integers(0, 5, n))
    expert[:7] = -1
    return staged(expert, model, f"night{number}", subject)


def values_of(row, which="value"):
    return [row[line][which] for line in LINES]


def statistic(report, name):
    return next(row for row in report["bland_altman"] if row["statistic"] == name)


def test_limits_of_a_hand_worked_case():
    """Bland & Altman 1999: mean ± 1.96 SD, standard errors SD / sqrt(n) and sqrt(3) times that."""
    differences = np.array([1.0, 2.0, 3.0, 6.0])  # mean 3, sum of squares around it 14
    expert = np.array([300.0, 420.0, 380.0, 350.0])
    row = limits_of_agreement(expert, expert + differences, list("abcd"))
    sd, t = np.sqrt(14 / 3), 3.182446  # the 0.975 quantile of t with 3 degrees of freedom
    lines = np.array([3, 3 - 1.96 * sd, 3 + 1.96 * sd])
    errors = t * sd / 2 * np.array([1, np.sqrt(3), np.sqrt(3)])
    assert values_of(row) == pytest.approx(lines)
    assert values_of(row, "low") == pytest.approx(lines - errors, rel=1e-6)
    assert values_of(row, "high") == pytest.approx(lines + errors, rel=1e-6)
    assert (row["nights"], row["subjects"], row["undefined"], row["note"]) == (4, 4, 0, "")


def test_two_nights_of_a_subject_are_not_independent():
    """Bland & Altman 2007: variance between subjects plus variance within them."""
    differences = np.array([0.0, 2.0, 5.0, 7.0, 10.0, 12.0])  # subjects' means 1, 6, 11
    expert = np.array([300.0, 420.0, 380.0, 350.0, 333.0, 401.0])
    row = limits_of_agreement(expert, expert + differences, list("aabbcc"))
    within, between = 6 / 3, 2 * 50 / 2  # mean squares: 6 squares of 1; 2 nights x (25 + 0 + 25)
    sd = np.sqrt((between - within) / 2 + within)
    assert values_of(row) == pytest.approx([6, 6 - 1.96 * sd, 6 + 1.96 * sd])
    t = 4.302653  # two degrees of freedom: three subjects
    error = t * np.sqrt((between - within) / 2 / 3 + within / 6)
    assert (row["bias"]["low"], row["bias"]["high"]) == pytest.approx((6 - error, 6 + error))
    assert (row["nights"], row["subjects"]) == (6, 3)
    independent = limits_of_agreement(expert, expert + differences, list("abcdef"))
    assert independent["bias"]["low"] > row["bias"]["low"]
    assert independent["upper_limit"]["value"] < row["upper_limit"]["value"]


@pytest.mark.parametrize("subjects", [[], ["a"], ["a", "a", "a"]])
def test_one_subject_has_no_limits(subjects):
    expert = 300 + 10.0 * np.arange(len(subjects))
    row = limits_of_agreement(expert, expert + expert % 7, subjects)
    assert row["note"] == "fewer than 2 subjects"
    assert row["nights"] == len(subjects)
    assert values_of(row) == values_of(row, "low") == values_of(row, "high") == [None] * 3


def test_two_subjects_have_limits_and_wide_intervals_but_no_checks():
    row = limits_of_agreement(np.array([300.0, 400.0]), np.array([304.0, 402.0]), ["a", "b"])
    assert values_of(row) == pytest.approx([3, 3 - 1.96 * np.sqrt(2), 3 + 1.96 * np.sqrt(2)])
    assert row["bias"]["high"] - 3 == pytest.approx(12.706205)  # t of one degree of freedom x 1
    assert row["normal"] is row["constant_bias"] is row["constant_spread"] is None


def test_undefined_nights_are_left_out_and_counted():
    expert = np.array([60.0, np.nan, 80.0, 75.0, 90.0])
    model = np.array([63.0, 70.0, np.nan, 80.0, 91.0])
    row = limits_of_agreement(expert, model, list("abcde"))
    assert (row["nights"], row["undefined"], row["subjects"]) == (3, 2, 3)
    kept = limits_of_agreement(expert[[0, 3, 4]], model[[0, 3, 4]], list("ade"))
    assert kept == row | {"undefined": 0}
    assert row["bias"]["value"] == pytest.approx(3)


def test_assumptions_are_checked():
    expert = np.arange(20.0, 116.0, 8.0)
    row = limits_of_agreement(expert, expert * 1.5, [str(k) for k in range(12)])
    assert row["normal"] is True and row["constant_bias"] is False
    shifted = limits_of_agreement(expert, expert + 5, [str(k) for k in range(12)])
    assert values_of(shifted) == pytest.approx([5, 5, 5])  # no spread, and no warning


def test_no_difference_is_noted():
    row = limits_of_agreement(np.array([300.0, 400.0]), np.array([300.0, 400.0]), ["a", "b"])
    assert row["note"] == "the same in every night"
    assert values_of(row) == [0, 0, 0] and values_of(row, "low") == [None] * 3


def test_subjects_who_do_not_differ_print_nothing(caplog):
    """YASA then has no use for its mixed model, which concerns the checks alone."""
    expert = np.array([377.0, 395.0, 326.0, 320.0, 379.0, 382.0, 351.0, 314.0])
    model = expert + np.array([6, 0, -7, -7, -2, 4, -2, 6])
    with caplog.at_level(logging.WARNING, logger="yasa"):
        row = limits_of_agreement(expert, model, list("aabbccdd"))
    assert row["bias"]["value"] == -0.25 and row["constant_bias"] is not None
    assert caplog.text == "" and not logging.getLogger("yasa").filters


def test_statistics_of_nights_keep_our_definitions():
    nights = [simulated(k, f"s{k // 2}") for k in range(8)]
    report = agreement_report(nights)
    assert [row["statistic"] for row in report["bland_altman"]] == list(STATISTICS)
    pairs = paired_statistics(nights)
    for row in report["bland_altman"]:
        expert, model = pairs[row["statistic"]]
        assert row["bias"]["value"] == pytest.approx(np.nanmean(model - expert))
        assert (row["nights"] + row["undefined"], row["subjects"]) == (8, 4)
    assert statistic(report, "TIB")["note"] == "the same in every night"
    json.dumps(report, allow_nan=False)


def test_a_night_without_rem_counts_for_all_but_the_latency_of_rem():
    without = staged(np.repeat([0, 2, 3], 20), np.repeat([0, 2, 4], 20), "no_rem", "s9")
    report = agreement_report([simulated(k, f"s{k}") for k in range(3)] + [without])
    assert (statistic(report, "REM_latency")["nights"], statistic(report, "REM")["nights"]) == (
        3,
        4,
    )
    assert statistic(report, "REM_latency")["undefined"] == 1


def test_epochs_agree_as_scikit_learn_counts_them():
    night = simulated(5, "s")
    row, stages = epoch_agreement(night)
    scored = night.expert >= 0
    expert, model = night.expert[scored], night.stages[scored]
    assert row["scored"] == scored.sum() == 233
    assert row["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(expert, model))
    assert row["kappa"] == pytest.approx(sklearn_metrics.cohen_kappa_score(expert, model))
    assert row["mcc"] == pytest.approx(sklearn_metrics.matthews_corrcoef(expert, model))
    expected = sklearn_metrics.balanced_accuracy_score(expert, model)
    assert row["balanced_accuracy"] == pytest.approx(expected)
    expected = sklearn_metrics.f1_score(expert, model, average="weighted")
    assert row["weighted_f1"] == pytest.approx(expected)
    columns = sklearn_metrics.precision_recall_fscore_support(expert, model)
    for name, expected in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        assert [stage[name] for stage in stages] == pytest.approx(list(expected))
    is_rem = sklearn_metrics.recall_score(expert != 4, model != 4)
    assert stages[4]["specificity"] == pytest.approx(is_rem)
    assert [stage["stage"] for stage in stages] == list(STAGES)


def test_a_night_that_is_one_stage():
    row, stages = epoch_agreement(staged([2] * 20, [2] * 20))
    assert row["accuracy"] == 1 and row["kappa"] is None and row["mcc"] is None
    assert (stages[2]["f1"], stages[2]["support"], stages[2]["specificity"]) == (1, 20, None)
    assert (stages[0]["f1"], stages[0]["support"]) == (None, 0)


def test_a_model_that_gives_one_wrong_stage():
    row, stages = epoch_agreement(staged([2] * 20, [0] * 20))
    assert row["accuracy"] == 0 and row["mcc"] is None
    assert (stages[0]["f1"], stages[0]["precision"], stages[0]["recall"]) == (0, 0, None)
    assert (stages[2]["f1"], stages[2]["recall"], stages[1]["f1"]) == (0, 0, None)


def test_nights_nobody_scored_are_listed_and_count_for_nothing():
    silent = staged([-1] * 30, [0, 2, 4] * 10, "silent", "s8")
    nights = [simulated(k, f"s{k}") for k in range(3)]
    report, without = agreement_report([*nights, silent]), agreement_report(nights)
    assert report["bland_altman"] == without["bland_altman"]
    assert report["epochs"][:3] == without["epochs"]
    assert (report["epochs"][3]["scored"], report["epochs"][3]["kappa"]) == (0, None)
    assert [row["f1"] for row in report["epochs_by_stage"][15:]] == [None] * 5
    alone = agreement_report([silent])
    assert {row["note"] for row in alone["bland_altman"]} == {"fewer than 2 subjects"}
    draw_bland_altman(alone["bland_altman"], paired_statistics([silent]), [], title="t")
    figure = draw_epoch_agreement(alone["epochs"], alone["epochs_by_stage"], title="t")
    assert "undefined" in figure.axes[0].get_xticklabels()[0].get_text()


def test_unscored_epochs_are_left_out():
    night = simulated(1, "s")
    kept = night.expert >= 0
    assert (
        epoch_agreement(night)[1]
        == epoch_agreement(staged(night.expert[kept], night.stages[kept], "night1"))[1]
    )


def test_panels_show_nights_and_lines():
    nights = [simulated(k, f"s{k}") for k in range(6)]
    report, pairs = agreement_report(nights), paired_statistics(nights)
    figure = draw_bland_altman(
        report["bland_altman"], pairs, [night.subject for night in nights], title="headline"
    )
    panel = figure.axes[list(STATISTICS).index("TST")]
    shown = [line.get_ydata() for line in panel.lines]
    assert [line[0] for line in shown[1:4]] == pytest.approx(values_of(statistic(report, "TST")))
    assert shown[4] == pytest.approx(pairs["TST"][1] - pairs["TST"][0])
    assert len(panel.patches) == 3  # intervals
    assert panel.get_xlabel() == "expert, min" and figure.axes[2].get_xlabel() == "expert, %"
    assert figure.get_suptitle().startswith("headline")


def test_an_evaluation_holds_tables_pictures_and_plain_values(tmp_path):
    nights = [simulated(k, f"s{k // 2}") for k in range(4)]
    write_evaluation(tmp_path / "evaluation", nights, {"headline": "h"}, pictures=0)
    tables = {}
    names = ("bland_altman", "epoch_agreement", "transitions", "epoch_agreement_stages")
    for name in names:
        with (tmp_path / "evaluation" / f"{name}.csv").open() as file:
            tables[name] = list(csv.DictReader(file))
    assert [len(rows) for rows in tables.values()] == [len(STATISTICS), 4, 25, 20]
    for name in (*names[:3], "subject_kappa", "confusion_matrix"):
        for kind in ("png", "pdf"):
            assert (tmp_path / "evaluation" / f"{name}.{kind}").exists()
    result = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["agreement"]
    row = tables["bland_altman"][1]
    assert row["statistic"] == "TST" and row["unit"] == "min"
    expected = result["bland_altman"][1]["lower_limit"]
    assert float(row["lower_limit"]) == expected["value"]
    assert float(row["lower_limit_low"]) == expected["low"] < expected["high"]
    assert float(tables["epoch_agreement"][0]["kappa"]) == result["epochs"][0]["kappa"]
    assert result["transitions"][0]["expert"] == int(tables["transitions"][0]["expert"])
    assert tables["bland_altman"][0]["bias_low"] == ""  # of TIB, which never differs
