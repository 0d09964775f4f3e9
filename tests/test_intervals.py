"""Intervals over subjects: t by hand, BCa against scipy, coverage, and what has none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from benchmarks import coverage
from interpret.scoreboard import Score, by_subject, differences, summarise
from utils import intervals
from utils import metrics as m
from utils.intervals import BCA, FEW, JACKKNIFE, NONE, T, left_out, over_subjects, with_interval


def nights(right: list[int], epochs: int = 100) -> np.ndarray:
    """Confusion counts (n, 5, 5) of nights with so many epochs right, W alone by the expert."""
    counts = np.zeros((len(right), 5, 5))
    counts[:, 0, 0], counts[:, 0, 1] = right, epochs - np.array(right)
    return counts


def accuracy(counts: np.ndarray, subjects) -> intervals.Interval:
    return over_subjects(counts, list(subjects), {"accuracy": m.accuracy})["accuracy"]


def test_below_eight_subjects_it_is_students_t_of_their_own_values():
    right = [90, 80, 85, 40, 70, 75, 88]
    counts = nights(right)
    counts[3] *= 10  # the poor night is the longest: the pooled figure is not the mean
    one = accuracy(counts, "abcdefg")
    expected = stats.ttest_1samp(np.array(right) / 100, 0).confidence_interval(0.95)
    assert (one.low, one.high) == pytest.approx(tuple(expected))
    assert (one.kind, one.subjects) == (T, 7)
    assert one.mean == pytest.approx(np.mean(right) / 100)
    assert one.value == pytest.approx((sum(right) + 9 * 40) / 1600)
    assert with_interval(one.plain()).startswith("0.555; mean of 7 subjects 0.754 [")


def test_from_eight_subjects_on_it_is_bca_of_the_pooled_figure():
    right = [90, 80, 85, 40, 70, 75, 88, 91]
    one = accuracy(nights(right), "abcdefgh")
    # the same by the values themselves, which resampling indices of subjects has to equal
    level = 2 * stats.norm.cdf(np.sqrt(8 / 7) * stats.t.ppf(0.975, 7)) - 1
    expected = stats.bootstrap(
        (np.array(right) / 100,),
        np.mean,
        confidence_level=level,
        n_resamples=intervals.DRAWS,
        batch=200,
        rng=np.random.default_rng(0),
    ).confidence_interval
    # ties with the pooled figure are decided by rounding
    assert (one.low, one.high) == pytest.approx(tuple(expected), abs=0.003)
    assert (one.kind, one.subjects) == (BCA, 8)
    assert one.low < one.value < one.high
    assert with_interval(one.plain()).endswith("(BCa, 8 subjects)")
    # skewed values, skewed interval: a poor subject pulls the lower end
    assert one.value - one.low > one.high - one.value


def test_both_nights_of_a_subject_go_together():
    counts = nights([100, 0] * 8)
    # every subject is half right, whoever is drawn; nights alone would vary
    one = accuracy(counts, np.repeat(list("abcdefgh"), 2))
    assert one.low == one.high == 0.5 and one.kind == BCA
    two = accuracy(counts[:4], "aabb")
    assert two.low == two.high == 0.5 and (two.kind, two.subjects) == (T, 2)
    alone = accuracy(counts, "abcdefghijklmnop")
    assert alone.low < 0.5 < alone.high


def test_one_subject_has_no_interval_and_nobody_none():
    one = accuracy(nights([80, 90]), "aa")
    assert np.isnan([one.low, one.high]).all() and one.value == pytest.approx(0.85)
    assert (one.kind, one.subjects) == (FEW, 1)
    assert with_interval(one.plain()) == "0.850"
    nobody = accuracy(np.zeros((0, 5, 5)), [])
    assert np.isnan(nobody.value) and (nobody.kind, nobody.subjects) == (FEW, 0)
    json.dumps([one.plain(), nobody.plain()], allow_nan=False)


def test_subjects_without_the_stage_do_not_count():
    counts = np.zeros((9, 5, 5))
    counts[:, 0, 0] = 10
    counts[:2, 3, 3], counts[:2, 3, 2] = (8, 4), (2, 6)
    figures = {"N3": lambda c: m.recall(c)[..., 3], "REM": lambda c: m.recall(c)[..., 4]}
    figures["accuracy"] = m.accuracy
    made = over_subjects(counts, list("abcdefghi"), figures)
    assert (made["N3"].kind, made["N3"].subjects, made["N3"].mean) == (T, 2, pytest.approx(0.6))
    assert (made["REM"].kind, made["REM"].subjects) == (FEW, 0) and np.isnan(made["REM"].value)
    assert (made["accuracy"].kind, made["accuracy"].subjects) == (BCA, 9)


def test_draws_do_not_depend_on_the_other_figures_nor_on_the_order_of_rows():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 50, (12, 5, 5))
    subjects = [f"s{k}" for k in range(12)]
    alone = over_subjects(counts, subjects, {"kappa": m.kappa})["kappa"]
    order = rng.permutation(12)
    shuffled = [subjects[k] for k in order]
    together = over_subjects(counts[order], shuffled, {"f": m.macro_f1, "kappa": m.kappa})
    assert together["kappa"] == alone
    assert over_subjects(counts, subjects, {"kappa": m.kappa}, seed=1)["kappa"] != alone


def test_the_jackknife_of_a_mean_is_students_t():
    values = np.array([1.0, 2.0, 4.0, 8.0])
    without = (values.sum() - values) / 3
    one = left_out(values.mean(), without, 4)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (one.low, one.high) == pytest.approx(tuple(expected)) and one.kind == JACKKNIFE
    for value, others in ((1.0, [1.0]), (1.0, [1.0, np.nan]), (np.nan, [1.0, 2.0]), (1.0, [])):
        none = left_out(value, np.array(others), 4)
        assert np.isnan([none.low, none.high]).all() and none.kind == NONE


@pytest.mark.parametrize(("n", "least"), [(2, 0.9), (5, 0.85), (10, 0.88)])
def test_intervals_cover_as_they_should(n, least):
    """The percentile bootstrap of before held the mean of two subjects in half of the trials."""
    for kind in coverage.KINDS:
        held, left, _ = coverage.coverage(kind, n, 150)
        assert least <= held <= 1 and least <= left <= 1


def test_the_docs_have_a_row_for_every_number_of_subjects():
    table = coverage.DOCS.read_text().partition(coverage.HEADER)[2].strip().split("\n\n")[0]
    cells = [row.strip("| ").split(" | ") for row in table.splitlines()]
    assert [int(row[0]) for row in cells] == list(coverage.SUBJECTS)
    kinds = [T if n < intervals.FEWEST_TO_DRAW else BCA for n in coverage.SUBJECTS]
    assert [row[1] for row in cells] == kinds
    # where the note below the table does not confess to less
    for n, normal, skewed in ((int(row[0]), float(row[2]), float(row[5])) for row in cells):
        assert normal >= 0.92
        assert skewed >= 0.92 or n in (3, 5, 7)


@pytest.mark.slow
def test_the_table_of_coverage_is_what_the_docs_show():
    text = coverage.DOCS.read_text()
    assert coverage.row(5) in text and coverage.row(10) in text


def scores(method: str, values: dict[str, list[float]]) -> list[Score]:
    return [Score(method, "m", "N2", who, v) for who, each in values.items() for v in each]


def test_differences_are_paired_by_subject():
    base = {f"s{k}": [10.0 * k, 10.0 * k + 2] for k in range(4)}
    better = {who: [v + 1 for v in each] for who, each in base.items()}
    made = [*scores("random", base), *scores("ig", better), *scores("ig", {"alone": [500.0]})]
    rows = differences(made, "random")
    assert [(row["method"], row["minus"], row["stage"]) for row in rows] == [
        ("ig", "random", "N2"),
        ("ig", "random", "all"),
    ]
    # subjects differ by 10 and more, every one of them by 1 between the methods
    for row in rows:
        assert row["mean"] == row["mean_of_subjects"] == pytest.approx(1)
        assert (row["low"], row["high"]) == pytest.approx((1, 1))
        assert (row["interval"], row["subjects"]) == (T, 4)
    unpaired = {row["method"]: row for row in summarise(made) if row["stage"] == "N2"}
    assert unpaired["ig"]["low"] < unpaired["random"]["high"]


def test_the_values_of_every_subject_are_listed():
    rows = by_subject(scores("ig", {"a": [1.0, 3.0], "b": [5.0, float("nan")]}))
    of_stage = [row for row in rows if row["stage"] == "N2"]
    assert [(row["subject"], row["mean"], row["epochs"]) for row in of_stage] == [
        ("a", 2.0, 2),
        ("b", 5.0, 1),
    ]
