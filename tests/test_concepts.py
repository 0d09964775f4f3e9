"""Concepts: a model that reads spindles uses them and nothing else; random labels show nothing."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

import cmt_evaluate
import models
from evaluation.concept_evaluation import check, some_of, split_subjects
from interpret import concept_directions, concept_layers, concepts
from interpret.concept_table import TRAINED, ConceptNights, table_of
from interpret.concepts import CONCEPTS, Amounts, amounts_of, pairs_of
from interpret.explained_night import ExplainedNight
from interpret.random_weights import with_random_weights
from interpret.target import EpochTarget
from models.base import StagingModel
from models.batch_norm import BatchNorm
from tests import listing
from tests.test_training import train
from utils.checkpoint import Checkpoint, Training
from utils.errors import UserError
from utils.staged_night import StagedNight
from utils.stages import STAGES

FS, EPOCHS = 50, 120
ROLES = ("EEG", "EOG", "EMG")
# Hz and seconds of what is planted, whatever the stage, and the channel it is planted in
PLANTED = {
    "spindle": (13.5, 1.0, 0), "k_complex": (1.2, 0.8, 0), "slow_wave": (0.8, 2.5, 0),
    "alpha": (10.0, 3.0, 0), "theta_run": (6.0, 3.0, 0), "rem": (1.0, 1.0, 1),
    "blink": (2.5, 0.4, 1),
}  # fmt: skip
EDGES = ((0.5, 4), (4, 8), (8, 12), (12, 15), (15, 24))


class BandEnergies(StagingModel):
    """Logits are a weighted sum of log energies: five bands of EEG and EOG, one of EMG."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.head = nn.Linear(2 * len(EDGES) + 1, 5)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            self.head.weight[STAGES.index("N2"), 3] = sigma

    def encode_epochs(self, x):
        power = torch.fft.rfft(x * torch.hann_window(x.shape[-1])).abs().square()
        hz = torch.fft.rfftfreq(x.shape[-1], 1 / FS)
        bands = [power[:, :2, (hz >= low) & (hz < high)].sum(-1) for low, high in EDGES]
        return (
            torch.cat([*bands, power[:, 2].sum(-1, keepdim=True)], dim=1)
            .add(1e-6)
            .log()[:, [0, 2, 4, 6, 8, 1, 3, 5, 7, 9, 10]]
        )

    def classify(self, z):
        return self.head(z)


def night_of(seed: int) -> ExplainedNight:
    """Noise of varied size, stages by chance, and events planted independently of both."""
    rng = np.random.default_rng(seed)
    size = np.exp(0.3 * rng.standard_normal((EPOCHS, 3, 1)))
    signals = size * rng.standard_normal((EPOCHS, 3, 30 * FS))
    signals[:, 2] *= np.exp(rng.standard_normal((EPOCHS, 1)))  # tone
    events = {kind: [] for kind in PLANTED}
    for epoch in range(EPOCHS):
        for kind, (hz, seconds, channel) in PLANTED.items():
            if rng.random() < 0.5:
                onset, time = rng.uniform(1, 25), np.arange(round(seconds * FS)) / FS
                start = round(onset * FS)
                wave = 6 * np.hanning(len(time)) * np.sin(2 * np.pi * hz * time)
                signals[epoch, channel, start : start + len(time)] += wave
                events[kind].append((30 * epoch + onset, seconds))
    expert = rng.integers(0, 5, EPOCHS).astype(np.int8)
    staged = StagedNight(f"n{seed}", f"s{seed}", np.eye(5, dtype=np.float32)[expert], expert)
    return ExplainedNight(
        staged=staged, signals=torch.from_numpy(signals.astype(np.float32)), mean=np.zeros(3),
        sd=np.ones(3), channels=ROLES, roles=ROLES, unit="µV",
        events={kind: np.array(rows).reshape(-1, 2) for kind, rows in events.items()},
        evidence="planted",
    )  # fmt: skip


@pytest.fixture(scope="module")
def nights() -> list[ExplainedNight]:
    return [night_of(seed) for seed in range(6)]


def rows_of(model, nights) -> dict[tuple[str, str], dict]:
    parts = ConceptNights(), ConceptNights()
    for number, night in enumerate(nights):
        amounts = amounts_of(night, night.events, "planted")
        parts[number % 2].add(night, amounts, {TRAINED: model.eval()}, 0)
    rows, absent = table_of(*parts, seed=0)
    assert absent == []
    return {(row["concept"], row["stage"]): row for row in rows}


def test_a_spindle_detector_uses_spindles_and_nothing_else(nights):
    rows = rows_of(BandEnergies(1.0), nights)
    assert len(rows) == len(CONCEPTS) * len(STAGES)
    spindle = rows["spindle", "N2"]
    assert spindle["tcav"] == 1 and spindle["derivative"] > 0 and spindle["q"] < 0.05
    assert spindle["verdict"] == "as the rule" and spindle["rank"] == 1
    assert spindle["alignment"] > 0.8
    assert spindle["subjects"] == spindle["subjects_tested"] == 3
    assert spindle["by_subject"] == {"s1": 1, "s3": 1, "s5": 1}
    assert spindle["amount_more"] == pytest.approx(1, abs=0.1) and spindle["amount_less"] == 0
    others = [row for row in rows.values() if row["concept"] != "spindle"]
    assert min(row["q"] for row in others) > 0.05
    # what is evidence for N2 is evidence against the rest: log odds, not logits
    against = [row for row in rows.values() if row["concept"] == "spindle" and row["stage"] != "N2"]
    assert all(row["tcav"] == 0 and row["q"] < 0.05 for row in against)
    # each of them is encoded all the same, in subjects that its probe was not learned from
    for concept in CONCEPTS:
        row = rows[concept.name, "N2"]
        # K-complexes and slow waves of one total amplitude share a band
        assert row["probe_accuracy"] > 0.6 and row["probe_p"] < 0.05, concept.name
    assert rows["k_complex", "N2"]["verdict"] == "not shown"
    for row in rows.values():
        assert row["epochs"] > 0 and row["subjects"] == 3 and row["pairs_learned"] >= 20


def test_spindles_against_n2_contradict_the_rule(nights):
    row = rows_of(BandEnergies(-1.0), nights)["spindle", "N2"]
    assert row["tcav"] == 0 and row["q"] < 0.05 and row["verdict"] == "against the rule"
    # a larger output is no better aligned
    louder = rows_of(BandEnergies(-9.0), nights)["spindle", "N2"]
    assert louder["alignment"] == pytest.approx(row["alignment"], abs=1e-4)
    assert row["alignment"] < -0.8
    assert louder["derivative"] == pytest.approx(9 * row["derivative"], rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "untrained", "expected"),
    [
        ({}, [0.2], "as the rule"),
        ({"alignment": -0.5, "tcav": 0.1}, [0.2], "against the rule"),
        ({"alignment": -0.5}, [0.2], "mixed"),
        ({"rule": "against"}, [], "against the rule"),
        ({"rule": "against", "alignment": -0.5, "tcav": 0.1}, [], "as the rule"),
        ({}, [0.2, -0.6], "no more than untrained"),
        ({"q": 0.06}, [0.2], "not shown"),
        ({"q": 0.06, "probe_p": 0.3}, [0.2], "no direction"),
        ({"rule": ""}, [0.2], ""),
    ],
)
def test_verdicts(changes, untrained, expected):
    row = {"rule": "for", "probe_p": 0.01, "q": 0.01, "tcav": 0.9, "alignment": 0.5}
    assert concept_directions.verdict(row | changes, untrained) == expected


def test_a_concept_without_a_direction_has_no_verdict_of_use(nights):
    class Deaf(BandEnergies):
        def encode_epochs(self, x):
            return super().encode_epochs(x) * torch.tensor([1.0] * 10 + [0.0])

    rows = rows_of(Deaf(1.0), nights)
    assert rows["muscle_tone", "REM"]["rule"] == "against"
    assert rows["muscle_tone", "REM"]["verdict"] == "no direction"


def test_random_labels_are_significant_in_one_of_twenty():
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(6, 6))  # dimensions that vary together, and gradients of one sign
    small, n = 0, 800
    for seed in range(n):
        more, less = (rng.normal(size=(40, 6)) @ mixing for _ in range(2))
        directions = concept_directions.learn(more, less, seed=seed, n_random=99)
        gradients = rng.normal(size=6) + 0.1 * rng.normal(size=(50, 6))
        small += concept_directions.sensitivity(directions, gradients).p <= 0.05
    # exactly one of twenty in the long run; at most three standard errors more in so many
    assert small / n <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)
    assert small > 0


def test_directions_are_what_a_concept_adds():
    rng = np.random.default_rng(2)
    added = np.array([3.0, 0.0, 0.0])
    less = rng.normal(size=(500, 3)) * [1, 1, 5]
    more = rng.normal(size=(500, 3)) * [1, 1, 5] + added
    noise = rng.normal(size=(500, 1))
    # noise that the second dimension shares: a classifier leans on it, the concept adds none of it
    more[:, :2] += 3 * noise
    less[:, :2] += 3 * noise[::-1]
    directions = concept_directions.learn(more, less, seed=0, n_random=99)
    pattern, probe = directions.patterns[0], directions.probes[0]
    assert pattern[0] > 0 and np.abs(pattern[1:]).max() < 0.2 * pattern[0]
    assert probe[1] < -0.3 * probe[0]
    assert pattern @ probe == pytest.approx(1, rel=1e-3)
    share, p = concept_directions.accuracy(directions, more, less)
    assert share > 0.9 and p == 0.01


def test_pairs_share_stage_and_amplitude():
    rng = np.random.default_rng(0)
    n = 900
    stages = rng.integers(-1, 5, n)
    amplitude = rng.normal(size=n)
    # amounts that grow with size and differ by stage: any two epochs would differ in all three
    spindles = np.clip(amplitude + (stages == 2) + rng.normal(size=n), 0, None)
    amounts = {
        "spindle": Amounts(spindles, "s", "planted", amplitude),
        "alpha": Amounts(spindles + rng.normal(size=n), "s", "planted", amplitude),
    }
    pairs = pairs_of("spindle", amounts, stages, seed=0)
    assert (stages[pairs.more] == stages[pairs.less]).all() and (stages[pairs.more] >= 0).all()
    assert len(set(pairs.more) | set(pairs.less)) == 2 * len(pairs.more)
    assert (spindles[pairs.more] > spindles[pairs.less]).all()
    alike = pairs.alike
    gap = pairs.gap
    assert (gap == amplitude[pairs.more] - amplitude[pairs.less]).all()
    assert alike.sum() > 60 and np.abs(gap[alike]).max() < 0.25
    before = amplitude[spindles > 0.8].mean() - amplitude[spindles == 0].mean()
    assert 0 <= gap[alike].mean() < 0.1 * before
    assert gap[~alike].mean() > 0.3  # what is left of size where no partner is alike
    # absent channels and concepts that never vary
    empty = {"spindle": Amounts(np.full(n, np.nan), "s", "planted", amplitude)}
    assert len(pairs_of("spindle", empty, stages, seed=0).more) == 0
    never = {"spindle": Amounts(np.zeros(n), "s", "planted", amplitude)}
    assert len(pairs_of("spindle", never, stages, seed=0).more) == 0


def test_amounts_are_seconds_of_events_or_decibels(nights):
    night = nights[0]
    amounts = amounts_of(night, night.events, "planted")
    assert set(amounts) == {concept.name for concept in CONCEPTS}
    covered = amounts["spindle"].values.sum()
    assert covered == pytest.approx(len(night.events["spindle"]), rel=0.05)
    tone = 10 * np.log10(night.signals[:, 2].numpy().var(axis=1))
    assert np.corrcoef(amounts["muscle_tone"].values, tone)[0, 1] > 0.99
    detected = amounts_of(night, {"rem": night.events["rem"]}, "detected by yasa")
    assert {name: a.source for name, a in detected.items()} == {
        "alpha": "measured", "theta": "measured", "rem": "detected by yasa",
        "muscle_tone": "measured",
    }  # fmt: skip


SMALL = {
    "sequence_cmt": {"n_samples": 300, "d_model": 16, "dim_feedforward": 16, "num_seq": 5},
    "seqsleepnet": {"num_seq": 3},
    "simplesleepnet": {"num_seq": 3},
    "tinysleepnet": {"num_seq": 3},
    "epoch_cmt": {"n_samples": 300, "d_model": 16, "dim_feedforward": 16},
}


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_those_of_the_epoch_alone(name):
    torch.manual_seed(0)
    model = models.build(name, **SMALL[name]).eval().double()
    channels = 2 if name.endswith("cmt") else 1
    samples = SMALL[name].get("n_samples", 3000)
    target = EpochTarget(model, torch.randn(7, channels, samples, dtype=torch.float64))
    epochs, classes = np.array([0, 3, 6]), np.array([2, 2, 4])
    layers = concept_layers.read_layers(target, epochs, classes)
    assert set(layers) == {"encoder"} | ({"sequence"} if model.num_seq > 1 else set())
    read = layers["encoder"]
    assert np.allclose(read.encodings, target.encoded[epochs].numpy())
    step = 1e-4 * np.random.default_rng(0).normal(size=read.encodings.shape)

    def value(sign: int) -> np.ndarray:
        moved = target.encoded[epochs] + sign * torch.from_numpy(step)
        where, classes_ = torch.from_numpy(epochs), torch.from_numpy(classes)
        windows = target.put(target.encoded, moved, where)
        logits = model.classify(windows, **target.placed(where))
        return target.read(logits, where, classes_).detach().numpy()

    change = (value(1) - value(-1)) / 2
    assert np.allclose((read.gradients * step).sum(axis=1), change, rtol=1e-3, atol=1e-9)
    if "sequence" in layers:  # the whole output depends on it
        assert layers["sequence"].encodings.shape[0] == 3
        assert np.abs(layers["sequence"].gradients).sum(axis=1).min() > 0


def test_every_declared_sequence_layer_exists():
    declared = {}
    for name in models.names():
        model = models.build(name)
        if model.sequence_layer:
            model.get_submodule(model.sequence_layer)
            declared[name] = model.sequence_layer
    assert declared["sequence_cmt"] == "feed_forward"
    assert {"seqsleepnet", "simplesleepnet", "tinysleepnet", "deepsleepnet"} <= set(declared)


class Normed(StagingModel):
    """Batch norm of the mean of each channel, dropout, five logits."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dropout, self.head = BatchNorm(2), nn.Dropout(0.5), nn.Linear(2, 5)

    def encode_epochs(self, x):
        return self.dropout(self.norm(x.mean(dim=2)))

    def classify(self, z):
        return self.head(z)


def test_the_control_is_calibrated_and_the_model_untouched():
    torch.manual_seed(0)
    model = Normed().eval()
    night = torch.randn(500, 2, 10) * 3 + torch.tensor([7.0, -2.0])[None, :, None]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = with_random_weights(model, 0, training=night)
    encoded = copy.encode_epochs(night)
    assert not copy.norm.training and copy.norm.momentum == model.norm.momentum
    shifted = (encoded - copy.norm.bias) / copy.norm.weight
    assert torch.allclose(shifted.mean(dim=0), torch.zeros(2), atol=1e-2)
    assert torch.allclose(shifted.std(dim=0), torch.ones(2), atol=5e-2)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


class OneStore:
    """As much of a store as the choice of subjects reads."""

    path, cohort = "store", "x"

    def __init__(self, *subjects: str) -> None:
        self.subjects = subjects


def checkpoint_of(cohort: str, *subjects: str) -> Checkpoint:
    facts = {"cohort": cohort, "subjects": {"train": list(subjects), "validation": []}}
    return Checkpoint(
        None, "cnn", {}, (("EEG", "EEG"),), 100.0, "recording", {}, training=Training(facts)
    )


def test_directions_are_learned_from_subjects_that_are_not_tested():
    trained = checkpoint_of("x", "a", "b")
    assert split_subjects(trained, OneStore("a", "b", "c"), ["c"]) == (["a", "b"], ["c"])
    # ids alike in another cohort, and none of the training in the store: the tested ones are shared
    elsewhere = checkpoint_of("y", "a", "b")
    halves = (["c", "e"], ["d"])
    assert split_subjects(elsewhere, OneStore("a", "c", "d", "e"), ["c", "d", "e"]) == halves
    with pytest.raises(UserError, match="tested on others, and it has one"):
        split_subjects(elsewhere, OneStore("c"), ["c"])
    assert some_of(list("abcdefgh"), 3) == ["a", "e", "h"] and some_of("ab", 3) == ["a", "b"]
    assert some_of("abc", 0) == ["a", "b", "c"]


def test_encoders_of_a_position_are_refused():
    model = models.build("sequence_cmt", **SMALL["sequence_cmt"], encoder="per_position")
    with pytest.raises(UserError, match="positions share an encoder"):
        check(checkpoint_of("x", "a"), OneStore("a", "c"), ["c"], model)


def test_the_script_writes_table_figure_and_what_was_left_out(raw, store, tmp_path, capsys):
    run = train(store, tmp_path, "--n_epochs", "1")
    words = ["--data_path", str(store.path), "--project_path", str(tmp_path), "--device", "cpu"]
    words += ["--truth_path", str(raw), "--pictures", "0", "--concepts", "True"]
    cmt_evaluate.main([*words, "--n_untrained", "1"])
    folder = run / "concepts"
    assert set(listing.names(folder)) == {
        f"concepts.{kind}" for kind in ("csv", "json", "png", "pdf")
    }
    report = json.loads((folder / "concepts.json").read_text())
    about, rows = report["about"], report["rows"]
    assert not set(about["subjects_learned"]) & set(about["subjects_tested"])
    with (folder / "concepts.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows) > 0
    assert {row["model"] for row in rows} == {TRAINED, "random weights 1"}
    assert {row["layer"] for row in rows} == {"encoder", "sequence"}
    named = {row["concept"] for row in (*rows, *report["left_out"])}
    assert named == {concept.name for concept in concepts.CONCEPTS}
    assert all(row["epochs"] and row["subjects"] and row["pairs_learned"] for row in rows)
    printed = capsys.readouterr().out
    assert "concepts: directions learned from" in printed and str(folder) in printed
