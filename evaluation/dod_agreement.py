"""Agreement as the Dreem Open Datasets report it: per record, epochs weighted by consensus.

Never comparable with pooled figures: a model's weighted F1 per record lies some points higher.
"""

from __future__ import annotations

import numpy as np

from utils import metrics
from utils.stages import STAGES

_CODES = len(STAGES) + 1  # unscored, then the stages


def record_agreement(
    own: np.ndarray, consensus: np.ndarray, probability: np.ndarray
) -> dict[str, float]:
    """Agreement of one record with the consensus of its scorers, weighted by their share of votes.

    Codes (n,), consensus (n,) and its share of votes (n,). ``f1`` averaged over stages by weighted
    support, ``accuracy``, ``kappa``, and ``f1_W`` … with 0 for a stage that is absent, as the
    reference has it. An epoch the scorer left out (-1) is a sixth class in kappa.
    """
    scored = consensus >= 0
    # counts [consensus, own] with -1 as the first of six codes
    pairs = (consensus[scored].astype(int) + 1) * _CODES + own[scored] + 1
    counts = np.bincount(pairs, probability[scored], _CODES**2).reshape(_CODES, _CODES)
    support = counts.sum(axis=1)[1:]
    # the reference scores an absent stage 0; elsewhere in this project it is undefined
    by_stage = np.nan_to_num(metrics.f1(counts)[1:])
    return {
        "f1": float((by_stage * support).sum() / support.sum()),
        "accuracy": float(metrics.accuracy(counts)),
        "kappa": float(metrics.kappa(counts)),
        **{f"f1_{stage}": float(v) for stage, v in zip(STAGES, by_stage, strict=True)},
    }


def over_records(rows: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and population deviation of every figure over records, undefined values skipped."""
    names = rows[0]
    return {
        name: (
            float(np.nanmean([row[name] for row in rows])),
            float(np.nanstd([row[name] for row in rows])),
        )
        for name in names
    }
