"""``index.json``: what was explained, where its files lie, in one schema for every script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interpret.explained_night import ExplainedNight
from interpret.explanation import Explanation
from interpret.question import Question
from utils.files import write_json
from utils.metrics import plain
from utils.staged_night import StagedNight
from utils.stages import STAGES

VERSION = 1
Entry = dict[str, Any]


def write_index(folder: Path, about: Mapping[str, Any], entries: Sequence[Entry]) -> None:
    """``version``, ``about`` the run, and ``explanations``; paths are relative to ``folder``."""
    index = {"version": VERSION, "about": dict(about), "explanations": list(entries)}
    write_json(folder / "index.json", index)


def epoch_entry(
    night: ExplainedNight,
    question: Question,
    found: Mapping[str, Explanation],
    row: int,
    folder: str,
    why: str | None = None,
) -> Entry:
    """One explained epoch; ``why`` it is of interest, where that is why it was chosen."""
    staged, epoch = night.staged, int(question.epochs[row])
    return {
        "recording": staged.recording,
        "subject": staged.subject,
        "epoch": epoch,
        "expert": STAGES[staged.expert[epoch]] if staged.expert[epoch] >= 0 else None,
        "model": STAGES[staged.stages[epoch]],
        "probabilities": [round(float(p), 6) for p in staged.probabilities[epoch]],
        "explained": STAGES[int(question.classes[row])],
        "evidence": night.evidence,
        "why": why,
        "folder": folder,
        "methods": {
            method: _answer(
                f"{folder}/{method}.npz",
                explanation.settings,
                value=plain(explanation.value[row]),
                baseline_value=plain(explanation.baseline_value[row]),
                completeness_error=plain(explanation.error[row]),
            )
            for method, explanation in found.items()
        },
    }


def night_entry(staged: StagedNight, answers: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Entry:
    """A night explained as a whole; ``answers``: method -> its file and its settings.

    What only an epoch has is ``None``; the files lie beside the index.
    """
    return {
        "recording": staged.recording,
        "subject": staged.subject,
        **dict.fromkeys(("epoch", "expert", "model", "probabilities", "explained")),
        "evidence": "none",
        "why": None,
        "folder": ".",
        "methods": {method: _answer(file, about) for method, (file, about) in answers.items()},
    }


def _answer(
    file: str,
    settings: Mapping[str, Any],
    *,
    value: float | None = None,
    baseline_value: float | None = None,
    completeness_error: float | None = None,
) -> dict[str, Any]:
    return {
        "file": file,
        "value": value,
        "baseline_value": baseline_value,
        "completeness_error": completeness_error,
        "settings": dict(settings),
    }
