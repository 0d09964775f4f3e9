"""Agreement with the expert by YASA: limits of agreement of sleep statistics, and epoch by epoch.

After Menghini et al. 2021, https://doi.org/10.1093/sleep/zsaa170; several nights of one subject
after Bland & Altman 2007, https://doi.org/10.1080/10543400701329422.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from evaluation.sleep_statistics import STATISTICS, compare, hypnogram
from evaluation.transitions import transition_rows
from utils.metrics import plain
from utils.staged_night import StagedNight
from utils.stages import STAGES, UNSCORED, YASA_STAGES

MINIMUM_SUBJECTS = 2  # the spread between subjects and YASA's intervals need two
_NIGHTS_TO_CHECK = 3  # fewer cannot contradict an assumption
_LINES = {"bias": "bias_mean", "lower_limit": "loa_lower", "upper_limit": "loa_upper"}
_ASSUMPTIONS = {
    "normal": "normal",
    "constant_bias": "constant_bias",
    "constant_spread": "homoscedastic",
}
# our name: YASA's name, and what its figure is divided by to be a share
_PER_NIGHT = {
    "accuracy": ("accuracy", 100),
    "balanced_accuracy": ("balanced_acc", 100),
    "kappa": ("kappa", 1),
    "mcc": ("mcc", 1),
    "weighted_precision": ("precision", 100),
    "weighted_f1": ("f1", 100),
}
_PER_STAGE = {
    "precision": "precision",
    "recall": "recall",
    "f1": "fbeta",
    "specificity": "specificity",
    "negative_predictive_value": "npv",
}
# of nights with a single stage, and of differences that are all the same
_EXPECTED_WARNINGS = (
    "A single label was ",
    "y_pred contains classes not in y_true",
    "`y1`, `y2` and `labels` have only one label in common",
    "scipy.stats.shapiro: Input data has range zero",
)


def agreement_report(nights: Sequence[StagedNight]) -> dict[str, list[dict[str, Any]]]:
    """Rows of ``bland_altman``, ``epochs`` (per night), ``epochs_by_stage``, ``transitions``.

    All values are plain, ``None`` where undefined. Nights that nobody scored have empty rows and
    count for no limits of agreement.
    """
    pairs, subjects = paired_statistics(nights), scored_subjects(nights)
    limits = [
        {"statistic": name, "unit": STATISTICS[name][0]} | limits_of_agreement(*values, subjects)
        for name, values in pairs.items()
    ]
    epochs = [epoch_agreement(night) for night in nights]
    return {
        "bland_altman": limits,
        "epochs": [row for row, _ in epochs],
        "epochs_by_stage": [row for _, rows in epochs for row in rows],
        "transitions": transition_rows(nights),
    }


def scored_subjects(nights: Sequence[StagedNight]) -> list[str]:
    """Subjects of the scored nights, one for each, as :func:`paired_statistics` has them."""
    return [night.subject for night in nights if _is_scored(night)]


def paired_statistics(nights: Sequence[StagedNight]) -> dict[str, np.ndarray]:
    """Each sleep statistic by expert and model (2, scored nights), in its unit; NaN if undefined.

    Both sides leave out the epochs that the expert did not score.
    """
    compared = [
        compare(night.expert, night.stages, night.spacing) for night in nights if _is_scored(night)
    ]
    return {
        name: np.array([night[name][:2] for night in compared]).reshape(-1, 2).T
        for name in STATISTICS
    }


def limits_of_agreement(
    expert: np.ndarray, model: np.ndarray, subjects: Sequence[str]
) -> dict[str, Any]:
    """Mean of model - expert over nights (n,) and the limits that 95 % of nights should lie in.

    The limits are bias ± 1.96 standard deviations of a new night of a new subject; all three have
    95 % intervals. Nights where either side is NaN are left out and counted as ``undefined``.
    ``note`` explains empty values: too few subjects, or no difference to describe.
    """
    defined = ~np.isnan(model - expert)
    expert, model, subjects = expert[defined], model[defined], np.array(subjects)[defined]
    row: dict[str, Any] = {
        "nights": len(expert),
        "undefined": int((~defined).sum()),
        "subjects": len(set(subjects)),
        "note": "",
    }
    values, checks = dict.fromkeys(_LINES, _interval()), dict.fromkeys(_ASSUMPTIONS)
    if row["subjects"] < MINIMUM_SUBJECTS:
        row["note"] = f"fewer than {MINIMUM_SUBJECTS} subjects"
    elif (expert == model).all():  # YASA leaves such a statistic out
        row["note"] = "the same in every night"
        values = dict.fromkeys(_LINES, _interval(0.0))
    else:
        values, checks = _by_yasa(expert, model, subjects)
    return row | values | checks


def _by_yasa(
    expert: np.ndarray, model: np.ndarray, subjects: np.ndarray
) -> tuple[dict[str, Any], dict[str, bool | None]]:
    """Bias and limits with parametric intervals, and which of their assumptions hold."""
    import pandas as pd
    import yasa

    has_repeats = len(set(subjects)) < len(subjects)
    with _without_expected_warnings():
        agreement = yasa.SleepStatsAgreement(
            pd.DataFrame({"statistic": expert}),
            pd.DataFrame({"statistic": model}),
            subjects=subjects if has_repeats else None,
        )
    summary = agreement.summary(ci_method="param").loc["statistic"]
    passed = agreement.assumptions.xs("passed", level="metric", axis=1).loc["statistic"]
    is_checked = len(expert) >= _NIGHTS_TO_CHECK
    return (
        {name: _interval(*summary[theirs]) for name, theirs in _LINES.items()},
        {k: bool(passed[v]) if is_checked else None for k, v in _ASSUMPTIONS.items()},
    )


def _interval(
    value: float = np.nan, low: float = np.nan, high: float = np.nan
) -> dict[str, float | None]:
    return {"value": plain(value), "low": plain(low), "high": plain(high)}


def epoch_agreement(night: StagedNight) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Agreement over the scored epochs of a night, and of each stage against all others.

    Shares from 0 to 1, kappa and MCC from -1 to 1; ``None`` where undefined.
    """
    scored = night.expert != UNSCORED
    whole, by_stage = _epochs_by_yasa(night.expert[scored], night.stages[scored])
    whose = {"recording": night.recording, "subject": night.subject}
    row = whose | {"scored": int(scored.sum())}
    for name, (theirs, scale) in _PER_NIGHT.items():
        row[name] = plain(whole.get(theirs, np.nan) / scale)
    stages = [
        whose
        | {"stage": stage, "support": int(by_stage[stage].get("support", 0))}
        | {k: plain(by_stage[stage].get(v, np.nan) / 100) for k, v in _PER_STAGE.items()}
        for stage in STAGES
    ]
    return row, stages


def _epochs_by_yasa(
    expert: np.ndarray, model: np.ndarray
) -> tuple[Mapping[str, float], dict[str, Mapping[str, float]]]:
    """YASA's figures of a night and per stage of ours, without those that it leaves out."""
    if not len(expert):
        return {}, {stage: {} for stage in STAGES}
    import yasa

    with _without_expected_warnings():
        compared = yasa.EpochByEpochAgreement(
            [hypnogram(expert, scorer="expert")], [hypnogram(model, scorer="model")]
        )
        whole, rows = compared.get_agreement(), compared.get_agreement_bystage().T
    if min(len(np.unique(side)) for side in (expert, model)) < 2:
        whole["mcc"] = np.nan  # undefined, where scikit-learn gives 0
    # a stage without any hit or correct rejection is left out like one that nobody gives
    never_right = {"precision": 0.0, "fbeta": 0.0, "specificity": 0.0}
    left_out = [never_right if (model == code).any() else {} for code in range(len(STAGES))]
    named = zip(STAGES, YASA_STAGES, left_out, strict=False)  # YASA's last stage is unscored
    return whole, {stage: rows.get(theirs, other) for stage, theirs, other in named}


def _is_scored(night: StagedNight) -> bool:
    return bool((night.expert != UNSCORED).any())


@contextmanager
def _without_expected_warnings() -> Iterator[None]:
    """Leave out what YASA, scikit-learn and SciPy print about nights as they may well be."""

    def is_unexpected(record: logging.LogRecord) -> bool:
        # it then takes ordinary least squares, for the assumptions alone
        return not record.getMessage().startswith("Mixed model at the boundary")

    logger = logging.getLogger("yasa")
    logger.addFilter(is_unexpected)
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        logger.removeFilter(is_unexpected)
