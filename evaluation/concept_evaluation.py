"""Concepts of a trained model: nights to learn directions on, and nights to test them on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.store.store import Store
from evaluation.stage import open_view, stage
from interpret import concept_run
from interpret.concept_layers import check_model
from interpret.explained_night import ExplainedNight
from interpret.explained_run import opened_nights
from interpret.explanation_flags import ExplanationFlags
from utils.checkpoint import Checkpoint
from utils.errors import UserError


def check(
    checkpoint: Checkpoint, store: Store, subjects: Sequence[str], model: torch.nn.Module
) -> None:
    """Refuse what concepts cannot be measured of, before any night is staged.

    Raises:
        UserError: a model without encodings of single epochs, or a single subject.
    """
    check_model(model)
    split_subjects(checkpoint, store, subjects)


def write_concepts(
    folder: Path,
    flags: ExplanationFlags,
    model: torch.nn.Module,
    opened: tuple[Checkpoint, Store, Sequence[str] | None, torch.device],
    subjects: Sequence[str],
    about: Mapping[str, Any],
) -> None:
    """Measure the use of concepts in nights of ``subjects``, whom training has not seen.

    ``opened``: checkpoint, store, the channels that stand in for its own, and device.
    """
    checkpoint, store, channels, device = opened
    parts = split_subjects(checkpoint, store, subjects)
    for part, what in zip(parts, ("learned from", "tested on"), strict=True):
        print(f"concepts: directions {what} {len(part)} subjects")

    def nights_of(part: Sequence[str]) -> Iterator[ExplainedNight]:
        recordings = some_of(store.of_subjects(part), flags.concept_recordings)
        view = open_view(checkpoint, store, recordings, device, channels=channels)
        staged = [night for night, _ in stage(model, view)]
        return opened_nights(view, staged, flags.truth_path)

    concept_run.write_concepts(
        folder, flags, model, (nights_of(parts[0]), nights_of(parts[1])), about
    )


def split_subjects(
    checkpoint: Checkpoint, store: Store, held_out: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Subjects to learn directions from, and others to test them on.

    The former are those of the training; where the store has none of them, every second one of
    ``held_out``.

    Raises:
        UserError: one subject alone.
    """
    facts = checkpoint.training.facts
    trained = set(facts["subjects"].get("train", ())) & set(store.subjects) - set(held_out)
    # ids of another cohort may be the same by chance
    if trained and facts["cohort"] == store.cohort:
        return sorted(trained), list(held_out)
    if len(held_out) < 2:
        raise UserError(
            f"{store.path}: concepts are learned from some subjects and tested on others, and it "
            "has one; add nights of a second"
        )
    return list(held_out[::2]), list(held_out[1::2])


def some_of(recordings: Sequence[str], n: int) -> list[str]:
    """At most ``n`` recordings (0: all), spread over the list, so over subjects."""
    if not n or len(recordings) <= n:
        return list(recordings)
    return [recordings[k] for k in np.linspace(0, len(recordings) - 1, n).round().astype(int)]
