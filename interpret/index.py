"""``index.json``: what was explained and where its files lie, in one schema for every script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interpret.explained_night import ExplainedNight
from interpret.explanation import NOTHING, Answer, Explanation, answer_of
from interpret.question import Question
from utils.files import write_json
from utils.staged_night import StagedNight
from utils.stages import STAGES

VERSION = 2  # of the schema
INDEX = "index.json"
Entry = dict[str, Any]


def write_index(folder: Path, about: Mapping[str, Any], entries: Sequence[Entry]) -> None:
    """Write the index: ``version``, ``about`` the run, ``explanations`` with relative paths."""
    index = {"version": VERSION, "about": dict(about), "explanations": list(entries)}
    write_json(folder / INDEX, index)


def epoch_entry(
    night: ExplainedNight,
    question: Question,
    explanations: Mapping[str, Explanation],
    row: int,
    folder: str,
    why: str | None = None,
) -> Entry:
    """Entry of one explained epoch; ``why`` it is of interest, if it was chosen for that."""
    methods = {
        method: method_entry(
            f"{folder}/{method}.npz", explanation.settings, explanation.answer(row)
        )
        for method, explanation in explanations.items()
    }
    explained = int(question.classes[row])
    return _of_epoch(night, int(question.epochs[row]), explained, methods, folder, why)


def feature_entry(
    night: ExplainedNight,
    epoch: int,
    folder: str,
    method: str,
    answer: Answer,
    settings: Mapping[str, Any],
    why: str | None = None,
) -> Entry:
    """Entry of an epoch whose stage is explained by named features instead of its signals."""
    methods = {method: method_entry(f"{folder}/{method}.npz", settings, answer)}
    return _of_epoch(night, epoch, int(night.staged.stages[epoch]), methods, folder, why)


def add_answer(
    entry: Entry,
    method: str,
    settings: Mapping[str, Any],
    *,
    value: float | None,
    baseline_value: float | None,
) -> None:
    """Add a method's answer to the entry of an epoch, whose folder holds its file of arrays."""
    answer = answer_of(value, baseline_value, None)
    file = f"{entry['folder']}/{method}.npz"
    entry["methods"][method] = method_entry(file, settings, answer)


def _of_epoch(
    night: ExplainedNight,
    epoch: int,
    explained: int,
    methods: Mapping[str, Any],
    folder: str,
    why: str | None,
) -> Entry:
    staged = night.staged
    return {
        "recording": staged.recording,
        "subject": staged.subject,
        "epoch": epoch,
        "expert": STAGES[staged.expert[epoch]] if staged.expert[epoch] >= 0 else None,
        "model": STAGES[staged.stages[epoch]],
        "probabilities": [round(float(p), 6) for p in staged.probabilities[epoch]],
        "decided_by": staged.votes[staged.decided_by[epoch]].name if staged.votes else None,
        "explained": STAGES[explained],
        "evidence": night.evidence,
        "why": why,
        "folder": folder,
        "methods": dict(methods),
    }


def night_entry(staged: StagedNight, answers: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Entry:
    """Entry of a night explained as a whole; ``answers``: method -> its file and its settings.

    Fields that only an epoch has are ``None``; the files lie beside the index.
    """
    return {
        "recording": staged.recording,
        "subject": staged.subject,
        **dict.fromkeys(("epoch", "expert", "model", "probabilities", "decided_by", "explained")),
        "evidence": "none",
        "why": None,
        "folder": ".",  # relative to the index, like that of an epoch
        "methods": {method: method_entry(file, about) for method, (file, about) in answers.items()},
    }


def method_entry(
    file: str, settings: Mapping[str, Any], answer: Answer = NOTHING
) -> dict[str, Any]:
    """What an entry has of a method: its ``file``, relative to the index, answer and settings."""
    return {"file": file, **answer, "settings": dict(settings)}
