"""A staged night in numbers and as a picture: sleep statistics, agreement with an expert."""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluation.sleep_statistics import STATISTICS, sleep_statistics
from evaluation.staged_file import StagedFile
from utils import figures, metrics
from utils.metrics import plain
from utils.stages import STAGES, UNSCORED
from utils.text import shown


def summary(staged: StagedFile) -> dict[str, Any]:
    """Summary of a staged night: sleep statistics, channels, agreement with an expert if any."""
    measured = sleep_statistics(staged.scored, staged.spacing)
    values = {key: plain(value) for key, value in measured.items()}
    about = {
        "epochs": len(staged.stages),
        "model": staged.headline,
        "channels": ", ".join(f"{k}: {v}" for k, v in staged.reads.items()),
        "absent": list(staged.absent),
        "notes": list(staged.notes),
        "flagged_epochs": sum(bool(words) for words in staged.quality_flags),
        "unscored_epochs": int((~staged.believed).sum()),
        "mean_uncertainty": round(float(staged.uncertainty.mean()), 6),
        "to_review": np.flatnonzero(staged.to_review).tolist(),
        **values,
    }
    if staged.votes:
        decided = np.bincount(staged.decided_by, minlength=len(staged.votes)).tolist()
        about["decided_by"] = {v.name: n for v, n in zip(staged.votes, decided, strict=True)}
        about["votes"] = {vote.name: round(vote.weight, 6) for vote in staged.votes}
        about["mean_spread"] = round(float(staged.spread.mean()), 6)
    if staged.expert_path is not None:
        about |= agreement(staged)
    return about | {"definitions": {key: text for key, (_, text) in STATISTICS.items()}}


def agreement(staged: StagedFile) -> dict[str, Any]:
    """Agreement with the expert over all scored epochs; stages neither gives count in no mean.

    Nothing gets better by leaving out what is hard: ``believed`` has the same of epochs that have
    a signal, and ``coverage``, their share of those that the expert scored.
    """
    counts, expert = staged.counts, staged.expert
    believed = metrics.confusion(np.where(staged.believed, expert, UNSCORED), staged.stages)
    values = {name: plain(figure(counts)) for name, figure in metrics.SUMMARIES.items()}
    return {
        "expert": staged.expert_path.name,
        "scored": int((expert != UNSCORED).sum()),
        **values,
        "coverage": plain(believed.sum() / counts.sum()),
        "believed": {
            "scored": int(believed.sum()),
            **{name: plain(figure(believed)) for name, figure in metrics.SUMMARIES.items()},
        },
        "f1": dict(zip(STAGES, map(plain, metrics.f1(counts)), strict=True)),
        "confusion": counts.tolist(),
        "expert_statistics": {
            k: plain(v) for k, v in sleep_statistics(expert, staged.spacing).items()
        },
    }


def picture(staged: StagedFile) -> Any:
    """Picture of a night: beside the expert's stages, or alone with the quality flags."""
    title = title_of(staged)
    if staged.expert_path is not None:
        return figures.draw_staged_night(
            staged.hypnodensity, staged.expert, title=title, model=staged.scored
        )
    return figures.draw_prediction(
        staged.hypnodensity, staged.quality_flags, title=title, stages=staged.scored
    )


def title_of(staged: StagedFile) -> str:
    """Recording and model as the title of a picture."""
    return f"{shown(staged.recording)}   {staged.headline}"
