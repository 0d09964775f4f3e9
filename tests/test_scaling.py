"""One scale in training and for new files: that of the part of a night that training keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.store.moments import channel_moments
from datasets.store.protocols import MARGIN, around_most_sleep
from evaluation.stagers.scaling import scaled_and_staged
from utils.checkpoint import Checkpoint, Training
from utils.checkpoint_fields import FILE, KEPT
from utils.staged_night import Vote

ASLEEP = slice(200, 400)  # of a tape of 600 epochs


@pytest.fixture
def tape() -> np.ndarray:
    """A night between two days, whose signals are ten times as large."""
    rng = np.random.default_rng(0)
    signals = rng.normal(0, 100, (600, 2, 100)).astype(np.float32)
    signals[ASLEEP] /= 10
    return signals


def of_protocol(protocol: str, scaled_over: str) -> Checkpoint:
    training = Training({"preparation": {"protocol": protocol}})
    return Checkpoint(
        Path("a.pt"), "m", {}, (), 1.0, "recording", {}, training, scaled_over=scaled_over
    )


def votes_of(scaled: np.ndarray) -> list[Vote]:
    """Sleep wherever a signal is less than half as large as most."""
    spread = scaled.std(axis=(1, 2))
    stage = np.where(spread < np.median(spread) / 2, 2, 0)
    return [Vote("a", np.eye(5, dtype=np.float32)[stage], 1.0)]


def test_files_are_scaled_over_what_training_keeps(tape):
    """Was: over the whole tape, whose days made the night's signals too small for the model."""
    kept = slice(ASLEEP.start - MARGIN, ASLEEP.stop + MARGIN)
    of_training = channel_moments(tape[kept], np.zeros(kept.stop - kept.start, np.int8))
    (scaled, *moments), votes = scaled_and_staged(tape, of_protocol("tinysleepnet", KEPT), votes_of)
    np.testing.assert_array_equal(moments, of_training)
    np.testing.assert_allclose(scaled[kept].std(), 1, atol=1e-3)
    assert len(scaled) == len(votes[0].probabilities) == len(tape)  # every epoch is staged


@pytest.mark.parametrize(
    "checkpoint", [of_protocol("keep_all", KEPT), of_protocol("tinysleepnet", FILE)]
)
def test_files_are_scaled_whole_by_models_of_whole_files_and_former_ones(tape, checkpoint):
    (scaled, *moments), _ = scaled_and_staged(tape, checkpoint, votes_of)
    np.testing.assert_array_equal(moments, channel_moments(tape, np.zeros(600, np.int8)))
    np.testing.assert_allclose(scaled.std(), 1, atol=1e-3)


def test_false_sleep_of_the_day_is_no_part_of_the_night():
    stages = np.zeros(1000, int)
    stages[:400:4], stages[400:700], stages[500:520], stages[-1] = 1, 2, 0, 3
    first, end = around_most_sleep(stages)
    assert (first, end) == (400 - MARGIN, 700 + MARGIN)
    assert around_most_sleep(np.zeros(100, int)) == (0, 100)  # nobody slept: all of it
    assert around_most_sleep(np.full(100, 2)) == (0, 100)


def test_nothing_is_scaled_for_models_that_read_signals_as_they_are(tape):
    as_recorded = replace(of_protocol("tinysleepnet", KEPT), standardise="none")
    (scaled, *_), _ = scaled_and_staged(tape, as_recorded, votes_of)
    assert scaled is tape
