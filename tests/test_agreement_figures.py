"""Transitions between stages and kappa of subjects: counted by hand, drawn with their numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evaluation import agreement_figures
from evaluation.agreement_report import agreement_report, paired_statistics, scored_subjects
from evaluation.score import score
from evaluation.transitions import transition_counts, transition_rows, transition_shares
from tests.test_agreement_report import simulated, staged
from tests.test_words import in_prose
from utils.stages import STAGES


def texts(figure) -> str:
    """All that is written on a figure."""
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_transitions_counted_by_hand():
    #                 W  W  N2 ?  N2 N2 REM
    night = staged([0, 0, 2, -1, 2, 2, 4], [0, 2, 2, 2, 2, 4, 4])
    expert, model = transition_counts([night, staged([0, 0], [0, 1], "b")])
    assert expert[0].tolist() == [2, 0, 1, 0, 0]  # W to W twice, and to N2; none across ?
    assert expert[2].tolist() == [0, 0, 1, 0, 1]
    assert model[0].tolist() == [0, 1, 1, 0, 0] and model[2].tolist() == [0, 0, 1, 0, 1]
    assert model[4].tolist() == [0, 0, 0, 0, 1]
    assert expert.sum() == model.sum() == 5
    shares = transition_shares(expert)
    assert shares[0].tolist() == pytest.approx([2 / 3, 0, 1 / 3, 0, 0])
    assert np.isnan(shares[1]).all()  # N1 is never followed by anything


def test_rows_of_transitions_sum_to_one():
    nights = [simulated(k, f"s{k}") for k in range(3)]
    shares = transition_shares(transition_counts(nights))
    np.testing.assert_allclose(shares.sum(axis=-1), 1)
    rows = transition_rows(nights)
    assert [(row["from"], row["to"]) for row in rows[:2]] == [("W", "W"), ("W", "N1")]
    for who in ("expert", "model"):
        of_n2 = [row[f"{who}_share"] for row in rows if row["from"] == "N2"]
        assert sum(of_n2) == pytest.approx(1)
    silent = transition_rows([staged([-1] * 4, [0] * 4)])
    assert {row["expert_share"] for row in silent} == {None}
    json.dumps(silent, allow_nan=False)


def test_expert_and_model_share_one_scale_that_is_named():
    nights = [simulated(k, f"s{k}") for k in range(3)]
    counts = transition_counts(nights)
    figure = agreement_figures.draw_transitions(counts, title="headline")
    left, right = (axes.images[0] for axes in figure.axes[:2])
    assert left.get_clim() == right.get_clim() == (0, 1)
    w, rem = STAGES.index("W"), STAGES.index("REM")  # the second of the drawn order
    assert left.get_array()[0, 1] == pytest.approx(counts[0][w, rem] / counts[0][w].sum())
    words = texts(figure)
    assert "square root" in words and "expert, n = 696 transitions" in words
    agreement_figures.draw_transitions(np.zeros((2, 5, 5), int), title="nobody scored")


@pytest.mark.parametrize(("n", "kind"), [(4, "(t)"), (9, "(BCa, 9 subjects)"), (1, "kappa")])
def test_kappa_of_subjects_over_the_interval_that_is_named(n, kind):
    result = score([simulated(k, f"s{k}") for k in range(n)])
    rows, pooled = result["per_subject"], result["pooled"]["kappa"]
    figure = agreement_figures.draw_subjects(rows, pooled, title="headline")
    axes = figure.axes[0]
    drawn = axes.lines[-1].get_ydata()
    assert drawn == pytest.approx(sorted(row["kappa"] for row in rows))
    first = min(rows, key=lambda row: row["kappa"])["subject"]
    assert axes.get_xticklabels()[0].get_text() == first
    assert kind in figure.get_suptitle() and f"n = {n} subjects" in figure.get_suptitle()
    bands = [patch.get_y() for patch in axes.patches]
    assert bands == ([] if n == 1 else [pytest.approx(pooled["low"])])
    if n > 1:  # below eight the interval is that of the mean
        name = "value" if n == 9 else "mean_of_subjects"
        assert axes.lines[0].get_ydata()[0] == pytest.approx(pooled[name])


def test_subjects_without_kappa_are_counted():
    result = score([staged([2] * 9, [2] * 9, "a", "a"), simulated(1, "b"), simulated(2, "c")])
    rows, pooled = result["per_subject"], result["pooled"]["kappa"]
    words = texts(agreement_figures.draw_subjects(rows, pooled, title="t"))
    assert "n = 2 subjects, undefined in 1" in words
    none = score([staged([-1] * 9, [2] * 9)])
    agreement_figures.draw_subjects(none["per_subject"], none["pooled"]["kappa"], title="t")


def test_nights_of_a_subject_are_joined():
    nights = [simulated(k, f"s{k // 2}") for k in range(4)]
    report, pairs = agreement_report(nights), paired_statistics(nights)
    assert scored_subjects(nights) == ["s0", "s0", "s1", "s1"]
    figure = agreement_figures.draw_bland_altman(
        report["bland_altman"], pairs, scored_subjects(nights), title="t"
    )
    row = next(k for k, one in enumerate(report["bland_altman"]) if one["statistic"] == "TST")
    joined = figure.axes[row].lines[5:]
    assert [len(line.get_xdata()) for line in joined] == [2, 2]
    assert joined[0].get_xdata() == pytest.approx(pairs["TST"][0][:2])
    words = texts(figure)
    assert "n = 4 nights of 2 subjects" in words
    assert list(in_prose(words, 1)) == []
