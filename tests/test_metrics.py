"""Metrics against scikit-learn and by hand; what is undefined is NaN."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from utils import metrics as m


def case(seed: int, n: int = 500, missing: int | None = None):
    rng = np.random.default_rng(seed)
    true = rng.choice(5, n, p=[0.3, 0.1, 0.35, 0.1, 0.15])
    predicted = np.where(rng.random(n) < 0.7, true, rng.integers(0, 5, n))
    if missing is not None:
        true, predicted = true[true != missing], predicted[true != missing]
    return true, predicted


@pytest.mark.parametrize("seed", range(20))
def test_figures_equal_scikit_learn(seed):
    true, predicted = case(seed)
    counts = m.confusion(true, predicted)
    np.testing.assert_array_equal(counts, sk.confusion_matrix(true, predicted, labels=range(5)))
    expected = {
        "accuracy": sk.accuracy_score(true, predicted),
        "macro_f1": sk.f1_score(true, predicted, average="macro"),
        "kappa": sk.cohen_kappa_score(true, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(true, predicted),
        "mcc": sk.matthews_corrcoef(true, predicted),
        "g_mean": np.prod(sk.recall_score(true, predicted, average=None)) ** (1 / 5),
    }
    assert {name: float(figure(counts)) for name, figure in m.SUMMARIES.items()} == pytest.approx(
        expected, abs=1e-12
    )
    each = sk.precision_recall_fscore_support(true, predicted)
    for name, values in zip(("precision", "recall", "f1", "support"), each, strict=True):
        np.testing.assert_allclose(m.PER_STAGE[name](counts), values, atol=1e-12)
    for stage in range(5):
        expected = sk.recall_score(true != stage, predicted != stage)
        assert m.specificity(counts)[stage] == pytest.approx(expected)


def test_unscored_epochs_are_left_out():
    true, predicted = np.array([0, -1, 2, -1]), np.array([0, 1, 2, 3])
    assert m.confusion(true, predicted).sum() == 2
    assert m.accuracy(m.confusion(true, predicted)) == 1


def test_a_class_nobody_gives_is_nan_and_not_counted():
    true, predicted = np.array([0, 0, 2, 2]), np.array([0, 2, 2, 2])
    counts = m.confusion(true, predicted)
    assert m.support(counts).tolist() == [2, 0, 2, 0, 0]
    for figure in (m.precision, m.recall, m.f1):
        assert np.isnan(figure(counts)[[1, 3, 4]]).all()
    # W: precision 1, recall 1/2, F1 2/3; N2: precision 2/3, recall 1, F1 4/5
    assert m.macro_f1(counts) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert m.balanced_accuracy(counts) == pytest.approx(0.75)
    assert m.g_mean(counts) == pytest.approx(np.sqrt(0.5))


def test_a_class_the_expert_gives_and_the_model_never_finds():
    counts = m.confusion(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0]))
    assert m.recall(counts)[1] == 0
    assert m.f1(counts)[1] == 0
    assert np.isnan(m.precision(counts)[1])
    assert m.g_mean(counts) == 0


def test_nothing_scored_is_nan_everywhere():
    counts = m.confusion(np.array([-1, -1]), np.array([0, 1]))
    for figure in m.SUMMARIES.values():
        assert np.isnan(figure(counts))


def test_perfect_agreement_on_one_class_has_no_kappa():
    counts = m.confusion(np.zeros(9, int), np.zeros(9, int))
    assert m.accuracy(counts) == 1
    assert np.isnan(m.kappa(counts))


def test_leading_axes_are_kept():
    counts = np.stack([m.confusion(*case(seed)) for seed in range(6)]).reshape(2, 3, 5, 5)
    for figure in (*m.SUMMARIES.values(), *m.PER_STAGE.values()):
        alone = [figure(counts[i, j]) for i in range(2) for j in range(3)]
        np.testing.assert_allclose(
            figure(counts), np.reshape(alone, (2, 3, *np.shape(alone[0]))), atol=1e-12
        )


def test_calibration_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.5, 0.5]])
    true = np.array([0, 1, 0, 1, -1])
    error, bins = m.calibration(probabilities, true, n_bins=10)
    # 0.9: half right; 0.6 and 0.7: right
    assert error == pytest.approx((2 * 0.4 + 0.4 + 0.3) / 4)
    assert bins[9].tolist() == pytest.approx([2, 0.9, 0.5])
    assert bins[0, 0] == 0
    assert np.isnan(bins[0, 1:]).all()


def test_a_calibrated_model_has_no_error():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(5), 60_000)
    true = (p.cumsum(axis=1) > rng.random((60_000, 1))).argmax(axis=1)
    assert m.calibration(p, true)[0] < 0.01


def test_confidence_is_one_minus_the_entropy():
    rows = np.array([[1, 0, 0, 0, 0], [0.2] * 5, [0.5, 0.5, 0, 0, 0]])
    expected = [1, 0, 1 - np.log(2) / np.log(5)]
    assert m.confidence(rows) == pytest.approx(expected)


def test_risk_and_coverage_by_hand():
    sure, less, least = [0.96, 0.01, 0.01, 0.01, 0.01], [0.8, 0.2, 0, 0, 0], [0.4, 0.3, 0.3, 0, 0]
    probabilities = np.array([least, sure, less, sure, sure])
    true = np.array([1, 0, 2, 0, -1])  # the surest two right, then two wrong, one unscored
    area, points = m.risk_coverage(probabilities, true, n_points=4)
    assert area == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert points[:, 0].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert points[:, 1] == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert (np.diff(points[:, 2]) <= 0).all()
    area, points = m.risk_coverage(probabilities, np.full(5, -1))
    assert np.isnan(area) and points.shape == (0, 3)
