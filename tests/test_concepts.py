"""Concepts: a model that reads spindles uses them and nothing else; random labels show nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import models
from interpret import concept_directions, concept_layers
from interpret.concept_table import TRAINED, ConceptNights, table_of
from interpret.concepts import CONCEPTS, PAIRS, Amounts, amounts_of, matched_pairs, pairs_of
from interpret.explained_night import ExplainedNight
from interpret.random_weights import with_random_weights
from interpret.target import EpochTarget
from models.base import StagingModel
from models.batch_norm import BatchNorm
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
    """Logits are a weighted sum of log energies: five bands of EEG and EOG, one of EMG.

    ``reads``: (stage, number of the energy, weight).
    """

    def __init__(self, *reads: tuple[str, int, float]) -> None:
        super().__init__()
        self.head = nn.Linear(2 * len(EDGES) + 1, 5)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            for stage, energy, weight in reads:
                self.head.weight[STAGES.index(stage), energy] = weight

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


DELTA, SIGMA = 0, 3
SPINDLES, SLOW_WAVES = ("N2", SIGMA, 1.0), ("N3", DELTA, 1.0)


def night_of(seed: int, omit: str = "") -> ExplainedNight:
    """Noise of varied size, stages by chance, and events planted independently of both.

    Without the kind ``omit`` all else is the same.
    """
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
                if kind != omit:
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


@pytest.fixture(scope="module")
def without() -> list[dict[str, torch.Tensor]]:
    """Signals of the nights without each kind of events."""
    return [{kind: night_of(seed, kind).signals for kind in PLANTED} for seed in range(6)]


def rows_of(model, nights, without=None) -> dict[tuple[str, str], dict]:
    parts = ConceptNights(), ConceptNights()
    for number, night in enumerate(nights):
        amounts = amounts_of(night, night.events, "planted")
        left_out = without[number].items() if without else ()
        pairs = pairs_of(night, amounts, left_out, seed=0)
        parts[number % 2].add(night, amounts, pairs, {TRAINED: model.eval()}, 0)
    rows, absent = table_of(*parts, seed=0)
    assert absent == []
    return {(row["concept"], row["stage"]): row for row in rows}


def test_a_spindle_detector_uses_spindles_and_nothing_else(nights):
    rows = rows_of(BandEnergies(SPINDLES), nights)
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


@pytest.mark.parametrize("reads", [SPINDLES, SLOW_WAVES], ids=["spindles", "slow waves"])
def test_epochs_without_their_events_show_what_is_read_and_nothing_else(nights, without, reads):
    rows = rows_of(BandEnergies(reads), nights, without)
    read = {SIGMA: ("spindle",), DELTA: ("slow_wave", "k_complex")}[reads[1]]  # delta is shared
    for concept in CONCEPTS:
        row = rows[concept.name, reads[0]]
        # nobody can plant muscle tone away
        assert row["pairs"] == PAIRS[2 if concept.kind else 1]
        assert row["probe_accuracy"] > 0.6 and row["probe_p"] < 0.05, concept.name
        if concept.name in read:
            assert row["tcav"] == 1 and row["q"] < 0.05 and row["alignment"] > 0.8
            assert row["by_subject"] == {"s1": 1, "s3": 1, "s5": 1}
        else:
            assert row["q"] > 0.05, concept.name
    first = rows[read[0], reads[0]]
    assert first["verdict"] == "as the rule" and first["rank"] == 1
    assert first["amount_more"] > 0 and first["amount_less"] == 0
    # what the events alone add: none of it is another epoch's
    assert 0 < first["amplitude_gap_db"] < 5 and first["added_sd"] > 0.5


def test_what_reads_nothing_uses_nothing(nights, without):
    for left_out in (None, without):
        rows = rows_of(BandEnergies(), nights, left_out)
        assert {row["q"] for row in rows.values()} == {1}
        assert {row["verdict"] for row in rows.values()} == {"", "not shown"}
        assert {(row["tcav"], row["alignment"]) for row in rows.values()} == {(0, 0)}


def test_a_trace_of_a_concept_in_what_is_read_is_no_use(nights, without):
    # every slow wave leaves the same thousandth of an SD in sigma: certain, and of no size
    class Leaking(BandEnergies):
        def encode_epochs(self, x):
            z = super().encode_epochs(x)
            return torch.cat([z[:, :SIGMA], z[:, [SIGMA]] + 1e-3 * z[:, [0]], z[:, SIGMA + 1 :]], 1)

    row = rows_of(Leaking(SPINDLES), nights, without)["slow_wave", "N2"]
    assert row["pairs"] == PAIRS[2] and row["q"] > 0.05


def test_spindles_against_n2_contradict_the_rule(nights):
    row = rows_of(BandEnergies(("N2", SIGMA, -1.0)), nights)["spindle", "N2"]
    assert row["tcav"] == 0 and row["q"] < 0.05 and row["verdict"] == "against the rule"
    # a larger output is no better aligned
    louder = rows_of(BandEnergies(("N2", SIGMA, -9.0)), nights)["spindle", "N2"]
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

    rows = rows_of(Deaf(SPINDLES), nights)
    assert rows["muscle_tone", "REM"]["rule"] == "against"
    assert rows["muscle_tone", "REM"]["verdict"] == "no direction"


def test_random_labels_are_significant_in_one_of_twenty():
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(6, 6))  # dimensions that vary together, and gradients of one sign
    small, n = 0, 800
    for seed in range(n):
        more, less = (rng.normal(size=(40, 6)) @ mixing for _ in range(2))
        directions = concept_directions.learn(more, less, less, seed=seed, n_random=99)
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
    directions = concept_directions.learn(more, less, less, seed=0, n_random=99)
    pattern, probe = directions.patterns[0], directions.probe
    assert pattern[0] > 0 and np.abs(pattern[1:]).max() < 0.2 * pattern[0]
    assert probe[1] < -0.3 * probe[0]
    assert pattern @ probe == pytest.approx(1, rel=1e-3)
    share, p = concept_directions.accuracy(directions, more, less)
    assert share > 0.9 and p < 1e-9
    assert concept_directions.accuracy(directions, less, less) == (
        0.5,
        pytest.approx(0.52, abs=0.01),
    )


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
    pairs = matched_pairs("spindle", amounts, stages, seed=0)
    assert (stages[pairs.more] == stages[pairs.less]).all() and (stages[pairs.more] >= 0).all()
    assert len(set(pairs.more) | set(pairs.less)) == 2 * len(pairs.more)
    assert (spindles[pairs.more] > spindles[pairs.less]).all()
    alike = pairs.kind == PAIRS.index("two epochs of night, stage, amplitude")
    gap = pairs.gap
    assert (gap == amplitude[pairs.more] - amplitude[pairs.less]).all()
    assert alike.sum() > 60 and np.abs(gap[alike]).max() < 0.25
    before = amplitude[spindles > 0.8].mean() - amplitude[spindles == 0].mean()
    assert 0 <= gap[alike].mean() < 0.1 * before
    assert gap[~alike].mean() > 0.3  # what is left of size where no partner is alike
    # absent channels and concepts that never vary
    empty = {"spindle": Amounts(np.full(n, np.nan), "s", "planted", amplitude)}
    assert len(matched_pairs("spindle", empty, stages, seed=0).more) == 0
    never = {"spindle": Amounts(np.zeros(n), "s", "planted", amplitude)}
    assert len(matched_pairs("spindle", never, stages, seed=0).more) == 0


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
        own = target.own_logits(logits, where)
        return target.output_of(own, classes_).detach().numpy()

    change = (value(1) - value(-1)) / 2
    assert np.allclose((read.gradients * step).sum(axis=1), change, rtol=1e-3, atol=1e-9)
    if "sequence" in layers:  # the whole output depends on it
        assert layers["sequence"].encodings.shape[0] == 3
        assert np.abs(layers["sequence"].gradients).sum(axis=1).min() > 0


def test_another_epoch_is_read_between_the_same_neighbours():
    torch.manual_seed(0)
    model = models.build("sequence_cmt", **SMALL["sequence_cmt"]).eval().double()
    night, instead = (torch.randn(n, 2, 300, dtype=torch.float64) for n in (7, 2))
    epochs, classes = np.array([2, 3]), np.array([1, 4])
    read = concept_layers.read_layers(EpochTarget(model, night), epochs, classes, instead=instead)
    for row, epoch in enumerate(epochs):  # one at a time, though they are neighbours
        other = night.clone()
        other[epoch] = instead[row]
        alone = concept_layers.read_layers(EpochTarget(model, other), epochs[[row]], classes[[row]])
        for layer in ("encoder", "sequence"):
            assert np.allclose(read[layer].encodings[row], alone[layer].encodings[0])
            assert np.allclose(read[layer].gradients[row], alone[layer].gradients[0])


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
