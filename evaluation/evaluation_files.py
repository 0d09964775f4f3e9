"""The files of an evaluation, in one folder: tables, exports and pictures of staged nights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import agreement_figures
from evaluation.agreement_report import agreement_report, paired_statistics, scored_subjects
from evaluation.exports.edf_export import write_edf
from evaluation.exports.night_tables import write_events, write_predictions
from evaluation.score import score
from evaluation.sleep_statistics import STATISTICS, compare
from evaluation.transitions import transition_counts
from utils import figures
from utils.files import write_json, write_table, written_folder
from utils.intervals import columns
from utils.metrics import plain
from utils.staged_night import StagedNight
from utils.stages import STAGES

EVALUATION = "evaluation"  # what its folder is called where it may be replaced


def write_evaluation(
    folder: Path, nights: Sequence[StagedNight], about: Mapping[str, Any], *, pictures: int
) -> dict[str, Any]:
    """Write everything, whole or not at all, in place of what an earlier evaluation left there.

    ``about`` describes the model and the nights; its ``headline`` is repeated on every picture. The
    first ``pictures`` recordings are drawn, as PNG alone. Returns what ``metrics.json`` holds.
    """
    result = {"about": dict(about), **score(nights), "agreement": agreement_report(nights)}
    with written_folder(folder, EVALUATION) as temporary:
        write_json(temporary / "metrics.json", result)
        write_tables(temporary, nights, result)
        for night in nights:
            export(temporary, night, about["headline"])
        draw(temporary, nights[:pictures], result)
        draw_agreement(temporary, nights, result)
    return result


def write_tables(folder: Path, nights: Sequence[StagedNight], result: Mapping[str, Any]) -> None:
    """Write sleep statistics and those parts of ``metrics.json`` that fit into a spreadsheet."""
    write_table(folder / "recordings.csv", result["recordings"])
    if result["per_subject"]:  # none where nobody scored
        write_table(folder / "subjects.csv", result["per_subject"])
    write_table(
        folder / "stages.csv",
        [{"stage": stage} | _flat(row) for stage, row in result["per_stage"].items()],
    )
    write_table(
        folder / "confusion_matrix.csv",
        [
            {"expert": stage, **dict(zip(STAGES, row, strict=True))}
            for stage, row in zip(STAGES, result["confusion"], strict=True)
        ],
    )
    columns = ("epochs", "mean_probability", "accuracy")
    bins = result["calibration"]["bins"]
    write_table(folder / "calibration.csv", [dict(zip(columns, row, strict=True)) for row in bins])
    columns = ("coverage", "risk", "lowest_confidence")
    points = result["risk_coverage"]["points"]
    if points:  # none where nobody scored: a table needs a row for its columns
        rows = [dict(zip(columns, point, strict=True)) for point in points]
        write_table(folder / "risk_coverage.csv", rows)
    write_table(folder / "sleep_statistics.csv", statistics_rows(nights))
    agreement = result["agreement"]
    write_table(folder / "bland_altman.csv", [_flat(row) for row in agreement["bland_altman"]])
    write_table(folder / "epoch_agreement.csv", agreement["epochs"])
    write_table(folder / "epoch_agreement_stages.csv", agreement["epochs_by_stage"])
    write_table(folder / "transitions.csv", agreement["transitions"])
    definitions = {
        name: {"Units": unit, "Description": text} for name, (unit, text) in STATISTICS.items()
    }
    write_json(folder / "sleep_statistics.json", definitions)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """``{"f1": {"value": …, "low": …}}`` as ``f1, f1_low, f1_high``."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= columns(name, value)
        else:
            flat[name] = value
    return flat


def statistics_rows(nights: Sequence[StagedNight]) -> list[dict[str, Any]]:
    """Expert, model and difference for every recording and statistic."""
    return [
        {"recording": night.recording, "subject": night.subject}
        | {"statistic": name, "unit": STATISTICS[name][0]}
        | dict(zip(("expert", "model", "difference"), map(plain, values), strict=True))
        for night in nights
        for name, values in compare(night.expert, night.stages, night.spacing).items()
    ]


def export(folder: Path, night: StagedNight, headline: str) -> None:
    """Export one recording for other programs: csv, BIDS events and EDF+ annotations."""
    name = night.recording
    write_predictions(folder / "predictions" / f"{name}.csv", night)
    write_events(folder / "events" / f"{name}_events.tsv", night, headline)
    write_edf(folder / "edf" / f"{name}-Hypnogram.edf", night)


def draw(folder: Path, nights: Sequence[StagedNight], result: Mapping[str, Any]) -> None:
    """Draw confusion matrix, reliability, risk by coverage, and one picture per night."""
    headline, pooled = result["about"]["headline"], result["pooled"]
    counts = np.array(result["confusion"])
    title = f"{headline}\n{summary_line(pooled)}"
    figures.save(figures.draw_confusion(counts, title=title), folder / "confusion_matrix.png")
    # as floats: None of an empty bin becomes NaN
    bins = np.array(result["calibration"]["bins"], dtype=float)
    error = result["calibration"]["expected_calibration_error"]
    title = f"{headline}\nexpected calibration error {_shown(error)}"
    figures.save(figures.draw_reliability(bins, title=title), folder / "reliability.png")
    if points := result["risk_coverage"]["points"]:
        area = _shown(result["risk_coverage"]["area"])
        title = f"{headline}\nmean risk {area}, n = {result['epochs']:,} epochs"
        picture = figures.draw_risk_coverage(np.array(points), title=title)
        figures.save(picture, folder / "risk_coverage.png")
    rows = {row["recording"]: row for row in result["recordings"]}
    for night in nights:
        title = f"{night.recording}   kappa {_shown(rows[night.recording]['kappa'])}   {headline}"
        picture = figures.draw_staged_night(night.probabilities, night.expert, title=title)
        figures.save_as(picture, folder / "nights" / f"{night.recording}.png")


def draw_agreement(folder: Path, nights: Sequence[StagedNight], result: Mapping[str, Any]) -> None:
    """Draw limits of agreement of every statistic, epochs of all nights, subjects, transitions."""
    headline, agreement = result["about"]["headline"], result["agreement"]
    rows = agreement["bland_altman"]
    pairs, subjects = paired_statistics(nights), scored_subjects(nights)
    pictures = {
        "bland_altman": agreement_figures.draw_bland_altman(rows, pairs, subjects, title=headline),
        "epoch_agreement": agreement_figures.draw_epoch_agreement(
            agreement["epochs"], agreement["epochs_by_stage"], title=headline
        ),
        "subject_kappa": agreement_figures.draw_subjects(
            result["per_subject"], result["pooled"]["kappa"], title=headline
        ),
        "transitions": agreement_figures.draw_transitions(
            transition_counts(nights), title=headline
        ),
    }
    for name, picture in pictures.items():
        figures.save(picture, folder / f"{name}.png")


def summary_line(pooled: Mapping[str, Mapping[str, float | None]]) -> str:
    """Accuracy, macro-F1 and kappa as one line of text."""
    names = ("accuracy", "macro_f1", "kappa")
    return "   ".join(f"{n.replace('_', '-')} {_shown(pooled[n]['value'])}" for n in names)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
