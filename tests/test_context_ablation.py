"""Epochs staged from windows of their night, against answers that are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets.store.batches import Batch
from datasets.store.nights import in_batches
from evaluation import context_ablation
from evaluation.context_ablation import reaches, rows_of
from models.night_windows import NightWindows, staged
from objectives.night_staging import NightStaging
from tests.test_foundation import SHAPES, nights, small
from training.context_validation import validate_by_windows
from utils.errors import UserError


class SeesBack:
    """Stages epoch i by what a signal is ``by`` epochs before it; W where that is out of sight."""

    def __init__(self, stages: Tensor, by: int) -> None:
        self.stages, self.by = stages, by

    def __call__(self, starts: Tensor, stops: Tensor) -> Tensor:
        longest = int((stops - starts).max())
        logits = torch.zeros(len(starts), longest, 5)
        for row, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
            seen = self.stages[start:stop]
            answer = torch.cat([torch.zeros(self.by, dtype=torch.long), seen])[: len(seen)]
            logits[row, : len(seen)] = nn.functional.one_hot(answer, 5).float()
        return logits


@pytest.fixture
def random_stages() -> Tensor:
    return torch.randint(1, 5, (60,), generator=torch.Generator().manual_seed(1))


def test_five_epochs_back_are_in_ten_and_not_in_two(random_stages):
    windows = SeesBack(random_stages, by=5)
    by = {name: staged(windows, 60, reach) for name, reach in reaches(["2", "60", "whole"]).items()}
    expected = np.concatenate([np.zeros(5), random_stages[:-5]])
    assert (by["2"] == 0).all()
    for name in ("10", "60", "whole"):
        assert (by[name] == expected).all(), name


def test_who_sees_one_epoch_alone_has_one_answer_at_every_context(random_stages):
    windows = SeesBack(random_stages, by=0)
    for reach in (0, 1, 7, 10, 200):
        assert (staged(windows, 60, reach) == random_stages.numpy()).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_window_is_a_night_of_its_own(shape):
    """Also at the night's ends, where windows are shorter and stand beside longer ones."""
    model, x = small(shape, "gru"), nights(1, 9)[0]
    x[4, 2] = float("nan")  # a gap in one role
    windows = NightWindows(model, x, by_night=False)
    starts, stops = torch.tensor([0, 2, 6]), torch.tensor([3, 7, 9])
    logits = windows(starts, stops)
    assert logits.shape == (3, 5, 5)
    for row, start, stop in zip(logits, starts, stops, strict=True):
        alone = model(x[None, start:stop])[0]
        assert (row[: stop - start] - alone).abs().max() < 1e-5
    whole = NightWindows(model, x, by_night=True)(torch.tensor([0]), torch.tensor([9]))
    assert (whole[0] - model(x[None])[0]).abs().max() < 1e-5


@pytest.mark.parametrize("tokeniser", ["linear", "both"])
def test_a_model_that_mixes_no_epochs_has_one_answer_at_every_context(tokeniser):
    model, x = small("light" if tokeniser == "both" else "published"), nights(1, 9)[0]
    with torch.no_grad():
        if model.encoder.positions is not None:
            model.encoder.positions.zero_()
        else:
            model.encoder.position_scale.zero_()
        for layer in model.encoder.layers:
            layer.time.out.weight.zero_()
            layer.time.out.bias.zero_()
    # spectra by the night: centred by a window, they hold what the window's other epochs are
    windows = NightWindows(model, x, by_night=True)
    whole = model(x[None])[0].argmax(dim=-1)
    assert len(whole.unique()) > 1
    for reach in (0, 1, 3, 20):
        assert (staged(windows, 9, reach) == whole.numpy()).all()
    if tokeniser == "both":
        alone = NightWindows(model, x, by_night=False)
        assert not (staged(alone, 9, 0) == whole.numpy()).all()


def test_differences_are_paired_and_of_the_reference_zero():
    generator = np.random.default_rng(0)
    reference = generator.integers(5, 20, (9, 5, 5)) + 200 * np.eye(5, dtype=int)
    better = reference + 100 * np.eye(5, dtype=int)
    counts = {("night", "10"): reference, ("night", "whole"): better}
    subjects = [f"s{k}" for k in range(9)]
    own, more = rows_of(counts, subjects)
    assert own["kappa_more"] == own["f1_N1_more_low"] == 0
    assert more["context"] == "whole" and more["kappa_subjects"] == 9
    assert more["kappa_more"] == pytest.approx(more["kappa"] - own["kappa"])
    # each subject is better: subjects differ far more than their pairs do
    assert more["f1_REM_more_low"] > 0
    assert more["kappa_more_high"] - more["kappa_more_low"] < 0.05


def test_the_reference_may_be_another_model():
    reference = np.stack([30 * np.eye(5, dtype=int) + 5] * 8)
    better = reference + 100 * np.eye(5, dtype=int)
    counts = {("–", "10"): better, ("–", "whole"): better}
    # without spectra: compared with the other as it was trained, centred by the night
    for row in rows_of(counts, [f"s{k}" for k in range(8)], {"window": better, "night": reference}):
        assert row["kappa_more"] > 0.1
    counts = {("window", "10"): better, ("night", "10"): better}
    by = {"window": better, "night": reference}  # each with its like
    rows = rows_of(counts, [f"s{k}" for k in range(8)], by)
    assert rows[0]["kappa_more"] == 0 and rows[1]["kappa_more"] > 0.1
    rows = rows_of(counts, [f"s{k}" for k in range(8)], {"–": reference})
    assert all(row["kappa_more"] > 0.1 for row in rows)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_sees_pieces_as_the_ablation_does(shape):
    model, x = small(shape, "gru"), nights(2, 9)
    x[1, 7:] = float("nan")  # a shorter night in the batch
    with torch.no_grad():
        logits = model(x, None, (4, torch.tensor([0, 1])))
        whole = model(x, None, (9, torch.tensor([0, 0])))
        assert (whole - model(x)).abs().max() < 1e-5
    assert logits.shape == (2, 9, 5)
    # of the second night's first piece an epoch is before the night: its positions are others
    spans = {0: [(0, 4), (4, 8), (8, 9)], 1: [(3, 7)]}
    for night, own in spans.items():
        windows = NightWindows(model, x[night, : (9, 7)[night]], by_night=True)
        for start, stop in own:
            alone = windows(torch.tensor([start]), torch.tensor([stop]))[0]
            assert (logits[night, start:stop] - alone).abs().max() < 1e-5


def test_it_is_validated_by_as_much_as_it_sees():
    model, x = small("light"), nights(1, 9)[0]
    true = model(x[None])[0].argmax(dim=-1)
    view = SimpleNamespace(whole_nights=lambda rank, n: [("a", x, true)])
    fabric = SimpleNamespace(
        global_rank=0, world_size=1, device="cpu", all_reduce=lambda counts, reduce_op: counts
    )
    for reach in (20, 0):
        figures = validate_by_windows(reach, model, model, view, fabric)
        assert (figures["accuracy"] == 1) == (reach == 20)


def test_nights_are_cut_at_places_of_their_own():
    cuts = []

    def model(signals, encoded, pieces):
        cuts.append(pieces)
        return torch.zeros(*signals.shape[:2], 5, requires_grad=True)

    batch = Batch(nights(6, 3), torch.zeros(6, 3, dtype=torch.long), *[np.arange(6)] * 3)
    for _ in range(2):
        NightStaging(piece=21)(model, batch)
    (length, before), again = cuts
    assert length == 21 and len(before.unique()) > 2 and 0 <= before.min() <= before.max() < 21
    assert torch.equal(before, again[1])  # by the nights' keys


def test_a_night_nobody_scored_counts_for_no_context():
    counts = {("–", "10"): np.stack([10 * np.eye(5, dtype=int), np.zeros((5, 5), int)])}
    (row,) = rows_of(counts, ["a", "b"])
    assert row["nights"] == 1 and row["kappa_subjects"] == 1


def test_contexts_are_numbers_or_the_night_and_hold_the_reference():
    assert list(reaches(["whole", "0", "60"])) == ["0", "10", "60", "whole"]
    assert reaches(["02"]) == {"2": 2, "10": 10}
    for wrong in ("-1", "1.5", "night"):
        with pytest.raises(UserError, match="give epochs to either side, or whole"):
            reaches([wrong])


def test_spectra_alone_have_two_ways_to_be_centred():
    assert list(context_ablation.centrings(small("light"))) == ["window", "night"]
    assert list(context_ablation.centrings(small("published"))) == ["–"]


class OfLengths:
    """What pieces of nights need of a view."""

    resident = True

    def __init__(self, *lengths: int) -> None:
        self.lengths = np.array(lengths)


def test_pieces_have_lengths_between_two_each_octave_as_often():
    view = OfLengths(*[1000] * 4000, 12)
    listed = in_batches(view, 1, shortest=8, longest=128, seed=[0, 1])
    pieces = [piece for batch in listed.pieces for piece in batch]
    lengths = np.array([piece.length for piece in pieces if piece.night < 4000])
    assert lengths.min() >= 8 and lengths.max() <= 128
    octaves = np.histogram(np.log2(lengths + 0.01), bins=[3, 4, 5, 6, 7.1])[0]
    assert np.abs(octaves / 1000 - 1).max() < 0.2
    assert all(p.first + p.length <= view.lengths[p.night] for p in pieces)
    again = in_batches(view, 1, shortest=8, longest=128, seed=[0, 1])
    assert again.pieces == listed.pieces
    assert in_batches(view, 1, shortest=8, longest=128, seed=[0, 2]).pieces != listed.pieces
