"""Explanations beside maps that know no model, and events beside distractors of their energy."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import generate_demo_data
import models
from datasets.synthetic.graphoelements import DISTRACTORS as PLANTED
from datasets.synthetic.night import draw_night
from datasets.synthetic.subject import Difficulty, draw_subject
from interpret import grad_cam, registry
from interpret.attention_maps import night_attention
from interpret.bands import components, exchanged_with
from interpret.baselines import another_of_stage
from interpret.evidence import DISTRACTORS, Reading, read_events, share_above, values_at
from interpret.explained_night import ExplainedNight
from interpret.explanation_metrics import Evaluated, evidence_of
from interpret.faithfulness import curves
from interpret.infidelity import infidelity, replaced_pieces, small_noise
from interpret.method_comparison import evaluate_methods
from interpret.question import Plan, Question
from interpret.random_weights import with_random_weights
from interpret.registry import explain, method_named
from interpret.scoreboard import Score, by_subject, compare
from interpret.target import EpochTarget, WindowTarget
from models.base import StagingModel
from models.spectrogram import Spectrogram
from tests.test_attribution import CLASSES, FIRST, Linear, night_of
from tests.test_bands import SigmaDetector
from utils.staged_night import StagedNight

FS, N2 = 100, 2
TIME = np.arange(100) / FS  # of a wave of 1 s
SPINDLE = np.sin(np.pi * TIME) ** 2 * np.sin(2 * np.pi * 13 * TIME)
WANING = np.cos(np.pi * TIME) ** 2 * np.sin(2 * np.pi * 13 * TIME)
FAST = np.sin(np.pi * TIME) ** 2 * np.sin(2 * np.pi * 22 * TIME)
WAVES = {"spindle": SPINDLE, "shape": WANING, "band": FAST, "channel": SPINDLE}


def sigma_energy(wave: np.ndarray) -> float:
    """Energy of a wave between 11.5 and 15.5 Hz, which is all that a detector of it sees."""
    hertz = np.fft.rfftfreq(3000, 1 / FS)
    spectrum = np.abs(np.fft.rfft(wave, 3000)) ** 2
    return float(spectrum[(hertz >= 11.5) & (hertz <= 15.5)].sum())


class EnergyDetector(SigmaDetector):
    """Logit of N2 is the energy of sigma."""

    low, high = 11.5, 15.5


class ShapeDetector(SigmaDetector):
    """Logit of N2 grows where sigma swells for a second and is small before and after, summed."""

    def encode_epochs(self, x):
        t = (torch.arange(25) - 12) / FS
        window = torch.hann_window(25, periodic=False)
        waves = torch.stack([torch.cos(2 * torch.pi * 13 * t), torch.sin(2 * torch.pi * 13 * t)])
        parts = nn.functional.conv1d(x[:, :1], (window * waves)[:, None], padding=12)
        envelope = (parts.square().sum(dim=1, keepdim=True) + 1e-6).sqrt()
        swell = torch.cos(torch.pi * (torch.arange(201) - 100) / 100)
        swells = nn.functional.conv1d(envelope, swell[None, None] / 100, padding=100)
        return nn.functional.pad(20 * (swells - 1.5).relu().square().mean(dim=2), (2, 2))


class OneBin(SigmaDetector):
    """Logit of N2 is the power at 13 Hz alone."""

    def encode_epochs(self, x):
        power = torch.fft.rfft(x[:, 0])[:, 13 * 30].abs().square() / x.shape[-1] ** 2
        return nn.functional.pad(20 * power[:, None], (2, 2))


def planted_night(n=24) -> ExplainedNight:
    """Epochs of N2, each with a spindle and one of each distractor, of the same energy.

    That in the wrong shape has the same energy in the band of spindles.
    """
    rng = np.random.default_rng(0)
    signals = 0.3 * rng.standard_normal((n, 2, 3000))
    places: dict[str, list] = {name: [] for name in WAVES}
    for epoch in range(n):
        starts = 200 + 700 * rng.permutation(4) + rng.integers(0, 300, 4)
        for (name, wave), start in zip(WAVES.items(), starts, strict=True):
            size = np.linalg.norm if name == "band" else lambda w: sigma_energy(w) ** 0.5
            scaled = rng.uniform(2, 4) * wave * size(SPINDLE) / size(wave)
            signals[epoch, int(name == "channel"), start : start + 100] += scaled
            places[name].append((30 * epoch + start / FS, 1.0))
    events = {name: np.array(rows) for name, rows in places.items()}
    stages = np.full(n, N2)
    return ExplainedNight(
        StagedNight("n", "s", np.eye(5)[stages], stages.astype(np.int8), 0, None),
        torch.from_numpy(signals).float(),
        np.zeros(2),
        np.ones(2),
        ("EEG", "EOG"),
        ("EEG", "EOG"),
        "µV",
        {"spindle": events["spindle"]},
        distractors={f"spindle_wrong_{what}": events[what] for what in WAVES if what != "spindle"},
    )


@pytest.fixture(scope="module")
def planted() -> ExplainedNight:
    return planted_night()


def evaluated(model, night: ExplainedNight, **plan) -> Evaluated:
    epochs = torch.arange(len(night.signals))
    target = EpochTarget(model, night.signals)
    return Evaluated(night, Question(target, epochs, torch.full_like(epochs, N2), Plan((), **plan)))


def readings(model, night: ExplainedNight, method: str) -> dict[str, float]:
    asked = evaluated(model, night)
    explanation = method_named(method).compute(replace(asked.question, quick=True))
    measures = evidence_of(asked, explanation, method_named(method).reading)
    return {name: float(np.mean(values)) for name, (_, values) in measures.items()}


def test_only_a_model_of_shapes_rejects_the_wrong_shape(planted):
    energy, shape = (readings(model(), planted, "ig") for model in (EnergyDetector, ShapeDetector))
    for read in (energy, shape):
        assert read["auroc_spindle"] > 0.9
        assert read["from_wrong_band_spindle"] > 0.95
        assert read["from_wrong_channel_spindle"] > 0.95
    assert energy["from_wrong_shape_spindle"] == pytest.approx(0.5, abs=0.2)
    assert shape["from_wrong_shape_spindle"] > 0.95


def test_energy_finds_events_without_a_model_and_tells_no_distractor_apart(planted):
    band, energy = (readings(SigmaDetector(), planted, m) for m in ("band_energy", "total_energy"))
    assert band["auroc_spindle"] > 0.9 and energy["auroc_spindle"] > 0.9
    assert band["from_wrong_band_spindle"] > 0.95  # it knows the band
    for what in ("shape", "channel"):
        assert band[f"from_wrong_{what}_spindle"] == pytest.approx(0.5, abs=0.2), what
    for what in ("band", "channel"):
        assert energy[f"from_wrong_{what}_spindle"] == pytest.approx(0.5, abs=0.2), what


@pytest.mark.parametrize("method", ["middle_first", "ends_first"])
def test_the_place_in_the_epoch_is_at_chance(planted, method):
    assert readings(SigmaDetector(), planted, method)["auroc_spindle"] == pytest.approx(
        0.5, abs=0.2
    )


def test_a_model_of_one_bin_is_read_in_one_band(planted):
    asked = evaluated(OneBin(), planted)
    bands = method_named("specgrad").compute(asked.question).bands.sum(dim=(0, 2, 3)).abs()
    assert bands[3] / bands.sum() > 0.99  # sigma


def test_maps_of_model_free_methods_are_those_of_the_signal(planted):
    question = evaluated(Linear(3000), planted).question
    x = planted.signals
    maps = {method.name: method.compute(question) for method in registry.model_free()}
    assert set(maps) == {
        "band_energy",
        "total_energy",
        "sample_amplitude",
        "middle_first",
        "ends_first",
    }
    assert torch.equal(maps["total_energy"].attributions, x.square())
    assert torch.equal(maps["sample_amplitude"].attributions, x.abs())
    middle = maps["middle_first"].attributions
    assert middle[0, 0].argmax() in (1499, 1500) and middle[0, 0, 0] == 0
    assert torch.equal(maps["ends_first"].attributions, -middle)
    sigma = components(x, FS, [(11.5, 15.5)])[0].square()
    assert torch.allclose(maps["band_energy"].attributions, sigma, atol=1e-4)  # of N2


def test_every_table_has_the_model_free_rows(planted):
    scores, drawn = evaluate_methods(evaluated(SigmaDetector(), planted, orders=2), {
        "random": method_named("random").compute(evaluated(SigmaDetector(), planted).question)
    })  # fmt: skip
    names = {method.name for method in registry.model_free()}
    for measure in (
        "deletion_below_random",
        "insertion_above_random",
        "deletion_below_random_same_stage",
        "auroc_spindle",
        "from_wrong_shape_spindle",
    ):
        assert {s.method for s in scores if s.measure == measure} == names | {"random"}, measure
    assert set(drawn) == names | {"random"}
    rows = compare(scores, names)
    assert {row["method"] for row in rows} == {"random"}
    # one subject has no interval, so nothing is ahead
    assert not any(row["ahead"] for row in rows)


def test_random_orders_are_followed_one_way_and_read_both_ways():
    torch.manual_seed(0)
    target, scores = EpochTarget(Linear(), night_of()), torch.randn(4, 60)
    whole = curves(target, FIRST, CLASSES, -scores, compared=torch.zeros(4, 2, 60))
    half = curves(target, FIRST, CLASSES, scores, compared=torch.zeros(4, 2, 60), mirrored=True)
    assert np.allclose(half.insertion, whole.insertion, atol=1e-6)
    assert np.ptp(half.share + half.share[::-1]) == 0  # steps are as far apart from either end


def test_ahead_only_where_the_paired_difference_excludes_zero():
    rng = np.random.default_rng(0)
    scores = []
    for k in range(12):
        level = rng.normal(0.7, 0.1)  # subjects differ more than methods do
        about = ("auroc_spindle", "N2", f"s{k}")
        scores += [Score("energy", *about, level), Score("edge", *about, 0.5)]
        scores += [Score("better", *about, level + 0.02 + 0.005 * rng.standard_normal())]
        scores += [Score("equal", *about, level + 0.05 * rng.standard_normal())]
        scores += [Score("likeness", "likeness_1", "N2", f"s{k}", 1.0)]
    rows = {(r["method"], r["stage"]): r for r in compare(scores, {"energy", "edge"})}
    assert set(rows) == {(m, stage) for m in ("better", "equal") for stage in ("N2", "all")}
    assert all(row["against"] == "energy" and row["subjects"] == 12 for row in rows.values())
    assert rows["better", "N2"]["ahead"] and not rows["equal", "N2"]["ahead"]
    assert rows["better", "N2"]["difference"] == pytest.approx(0.02, abs=0.005)


def test_means_by_subject():
    scores = [Score("ig", "m", "N2", f"s{k % 2}", float(k)) for k in range(4)]
    rows = [r for r in by_subject(scores) if r["stage"] == "N2"]
    assert [(r["subject"], r["mean"], r["epochs"]) for r in rows] == [("s0", 1, 2), ("s1", 2, 2)]


def test_values_of_events_and_pairs_by_hand():
    maps = np.tile(np.arange(3000.0), (2, 1))
    events = np.array([(63.25, 1.5), (89.75, 0.25), (300.0, 1.0), (59.5, 1.5)])
    about = {"fs": 100, "onsets": np.array([60, 90])}
    values = values_at(maps, events, np.array([0, 1]), **about)
    # from 3 to 5 s; its end alone; none of a third epoch; begun before the first
    assert values.tolist() == [399.5, (2950 + 2999) / 2, (0 + 124) / 2]
    assert len(values_at(maps[:1], events, np.array([5]), **about)) == 0
    assert share_above(np.array([1.0, 2.0]), np.array([0.0, 2.0])) == pytest.approx(2.5 / 4)
    assert np.isnan(share_above(np.zeros(0), np.ones(2)))


def test_distractors_have_the_energy_of_their_events_and_mark_no_stage():
    assert set(PLANTED) <= set(DISTRACTORS)
    night = draw_night(draw_subject(0, 0, Difficulty(0)), 1, hours=4.0, distractors=True)
    plain = draw_night(draw_subject(0, 0, Difficulty(0)), 1, hours=4.0)
    assert set(night.events) - set(plain.events) == set(PLANTED)
    for kind, events in plain.events.items():  # and nothing else has changed
        np.testing.assert_array_equal(events.onset, night.events[kind].onset)
    stages, counts = night.timeline.stages, np.zeros(5)
    for name in PLANTED:
        kind, what = name.split("_wrong_")
        events, own = night.events[name], night.events[kind]
        assert len(events) > 40, name
        signal = np.zeros(night.seconds * FS, np.float32)
        places = ["EEG Fpz-Cz", "EOG horizontal"]
        home = places[kind == "rem"]
        where = places[(kind == "rem") != (what == "channel")]
        gain = {"EOG horizontal": night.subject.eog_gain}
        events.add_to(signal, FS, where, gain.get(where, 1.0))
        # the same onset as an event of the right kind, which has this energy
        energy = np.square(signal).sum() / len(events)
        twin = np.zeros_like(signal)
        own.add_to(twin, FS, home, gain.get(home, 1.0))
        assert energy == pytest.approx(np.square(twin).sum() / len(own), rel=0.5), name
        if kind != "slow_wave":  # those of N3 leave no room there
            counts += np.bincount(stages[(events.onset // 30).astype(int)], minlength=5)
    rates = counts / np.bincount(stages, minlength=5)
    assert rates.max() < 1.5 * rates.min(), rates


def test_a_night_with_distractors_lists_them_and_others_keep_their_bytes(tmp_path):
    words = ["--subjects", "1", "--nights", "1", "--hours", "0.4", "--jobs", "1"]
    for name, more in (("plain", []), ("with", ["--distractors"])):
        generate_demo_data.main(["--output", str(tmp_path / name), *words, *more])
    texts = {
        name: (tmp_path / name / "SC4001E0_truth.tsv").read_text() for name in ("plain", "with")
    }
    assert "wrong" not in texts["plain"] + (tmp_path / "plain" / "manifest.json").read_text()
    assert "distractors" not in (tmp_path / "plain" / "SC4001E0_truth.json").read_text()
    others = [line for line in texts["with"].splitlines() if "_wrong_" not in line]
    assert others == texts["plain"].splitlines()
    listed = read_events(tmp_path / "with" / "SC4001E0_truth.tsv", DISTRACTORS)
    assert sum(len(rows) > 0 for rows in listed.values()) >= 10


@pytest.mark.parametrize("baseline", ["zero", "mean", "same_stage"])
@pytest.mark.parametrize("method", ["saliency", "ixg", "ig", "deeplift", "ablation"])
def test_a_linear_model_is_foretold_by_the_changes_of_each_method(method, baseline):
    torch.manual_seed(0)
    target = EpochTarget(Linear(), night_of())
    maps = explain(target, FIRST, CLASSES, method=method, baseline=baseline).attributions
    x, compared = target.night[FIRST], target.baseline(FIRST, baseline)

    def missed(attributions):
        moves = method_named(method).moves(x, compared, 0)
        return infidelity(target, x, (FIRST, CLASSES), attributions, moves)

    assert (missed(maps) < 1e-5).all()
    assert missed(torch.zeros_like(maps)) == pytest.approx(np.ones(4))
    assert missed(-maps) == pytest.approx(4 * np.ones(4), rel=1e-3)


def test_noise_would_misjudge_maps_against_another_epoch():
    torch.manual_seed(0)
    target = EpochTarget(Linear(), night_of())
    maps = explain(target, FIRST, CLASSES, method="ig", baseline="same_stage").attributions
    x = target.night[FIRST]
    by_noise = infidelity(target, x, (FIRST, CLASSES), maps, small_noise(x, x, 0))
    own = replaced_pieces(x, target.baseline(FIRST, "same_stage"), 0)
    assert (infidelity(target, x, (FIRST, CLASSES), maps, own) < 1e-5).all()
    assert (by_noise > 0.1).all()


def test_occlusion_is_evaluated_by_its_own_windows():
    torch.manual_seed(0)
    target = EpochTarget(Linear(300), night_of(300))
    x = target.night[FIRST]
    method = method_named("occlusion")
    maps = explain(target, FIRST, CLASSES, method="occlusion").attributions
    moves = list(method.moves(x, torch.zeros_like(x), 0))
    assert {int((weights[0] > 0).sum()) for _, weights in moves} == {10}  # 1 s, one channel
    good, bad = (infidelity(target, x, (FIRST, CLASSES), m, moves) for m in (maps, -maps))
    assert (good < 1).all() and (bad > 1.5).all()


class Normed(StagingModel):
    """A network that batch norms keep at unit size, whose input is a thousand times too large."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(120, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 8)
        )
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.recurrent = nn.LSTM(8, 8, batch_first=True)
        self.token = nn.Parameter(0.02 * torch.randn(8))
        self.head = nn.Linear(8, 5)

    def encode_epochs(self, x):
        return self.layers(1000 * x) + self.token

    def classify(self, z):
        return self.head(self.recurrent(self.attend(z, z, z)[0])[0])


def test_copies_with_random_weights_are_calibrated_on_training_data():
    torch.manual_seed(0)
    model, training = Normed().eval(), night_of(n=40)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = with_random_weights(model, 1, training=training)
    norm = copy.layers[2]
    reached = copy.layers[:2](1000 * training)
    assert torch.allclose(norm.running_mean, reached.mean(0), rtol=1e-3, atol=1e-2)
    assert torch.allclose(norm.running_var, reached.var(0), rtol=1e-2)
    assert norm.momentum == model.layers[2].momentum and not copy.training
    raw = with_random_weights(model, 1)  # the same weights with the statistics of none
    assert copy.layers[:3](1000 * training).std() < 1.5 < raw.layers[:3](1000 * training).std()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_attention_recurrent_layers_and_tokens_lose_their_weights():
    torch.manual_seed(0)
    model = Normed()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(7.0)  # as nothing untrained is
    copy = with_random_weights(model, 0)
    for name, parameter in copy.named_parameters():
        if name != "token":  # has no law of its own to be drawn from
            assert parameter.abs().max() < 3, name
    assert not torch.equal(copy.token, model.token)
    assert torch.equal(copy.token.sort().values, model.token.sort().values)
    parts = with_random_weights(model, 0, ["head"])
    assert torch.equal(parts.attend.in_proj_weight, model.attend.in_proj_weight)


def test_another_epoch_of_the_stage():
    stages = torch.tensor([0, 2, 2, 2, 0, 4])
    epochs = torch.arange(6)
    other = another_of_stage(stages, epochs, 0)
    assert (other[:5] != epochs[:5]).all() and torch.equal(stages[other[:5]], stages[:5])
    # whatever else is asked for, the answer of an epoch is the same
    assert torch.equal(another_of_stage(stages, epochs[2:4].view(1, 2), 0)[0], other[2:4])
    target = EpochTarget(Linear(), night_of())
    staged = target.model.stage_night(target.night).argmax(1)
    given = target.baseline(FIRST, "same_stage", 3)
    expected = another_of_stage(staged, FIRST, 3)
    assert torch.equal(given, target.night[expected])


def test_no_band_rings_on():
    """A single sample, which every band holds a share of, leaves nothing three seconds away."""
    night = torch.zeros(4, 1, 3000)
    night[1, 0, 1500] = 1.0
    for band in ((0.5, 4.0), (4.0, 8.0), (11.5, 15.5)):
        part = components(night, FS, [band])[0].flatten().square()
        near = part[4500 - 300 : 4500 + 300].sum()
        assert 1 - near / part.sum() < 1e-4, band


def test_a_band_of_another_epoch_goes_over_into_its_neighbours():
    own, other = torch.ones(2, 3000), torch.zeros(2, 3000)
    given = exchanged_with(own, other, FS)
    assert (given[:, 50:2950] == 0).all()
    assert given[0, 0] > 0.99 and given[0, -1] > 0.99
    assert given.diff(dim=1).abs().max() < 0.04


def test_rollout_reaches_the_epochs_of_the_window():
    torch.manual_seed(0)
    settings = {"n_samples": 300, "d_model": 16, "dim_feedforward": 16, "num_seq": 5}
    model = models.build("sequence_cmt", **settings).eval()
    night, epochs = torch.randn(12, 2, 300), torch.tensor([0, 5, 11])
    rollout = method_named("rollout")
    whole = rollout.compute(Question(WindowTarget(model, night), epochs, epochs % 5, Plan(())))
    alone = rollout.compute(Question(EpochTarget(model, night), epochs, epochs % 5, Plan(())))
    assert whole.window.shape == (3, 5, 2, 300) and alone.window is None
    assert torch.allclose(whole.window.sum((1, 2, 3)), torch.ones(3), atol=1e-5)
    assert torch.allclose(whole.window.sum((2, 3)), whole.context, atol=1e-5)
    attention = night_attention(model, night)
    inter = attention.inter[5, 4 + torch.arange(-2, 3)]
    expected = (inter / inter.sum())[:, None, None] * attention.rollout()[3:8]
    assert torch.allclose(whole.window[1].unflatten(2, (6, 50)).sum(-1), expected, atol=1e-5)
    positions = torch.tensor([0, 2, 4])
    assert torch.allclose(whole.window[torch.arange(3), positions], alone.attributions)
    single = models.build("epoch_cmt", n_samples=300, d_model=16, dim_feedforward=16).eval()
    maps = rollout.compute(Question(EpochTarget(single, night), epochs, epochs % 5, Plan(())))
    assert torch.allclose(maps.attributions.sum((1, 2)), torch.ones(3), atol=1e-5)


def test_one_reading_a_method():
    assert method_named("saliency").reading == Reading(size=True)
    assert method_named("band_energy").reading == Reading(in_event_band=True)
    others = {m.name for m in registry.METHODS} - {"saliency", "band_energy"}
    assert all(method_named(name).reading == Reading() for name in others)


def test_the_figure_of_grad_cam_is_in_decibels(monkeypatch):
    """A tenfold amplitude is 20 dB more, though the networks' inputs count them twice."""
    shown = {}
    monkeypatch.setattr(
        grad_cam.spectrogram_figures,
        "draw_image",
        lambda image, decibels, *rest, **about: shown.setdefault("decibels", decibels),
    )
    x = torch.randn(1, 1, 3000)
    for kind in ("psd", "phan"):
        drawn = []
        for size in (1, 10):
            night = SimpleNamespace(
                signals=size * x, physical=lambda epoch: None, channels=("EEG",), unit="µV"
            )
            model = SimpleNamespace(spectrogram=Spectrogram(1, 100.0, 3000, kind=kind))
            method_named("gradcam").draw(
                SimpleNamespace(
                    night=night,
                    epoch=0,
                    row=0,
                    question=SimpleNamespace(model=model),
                    explanation=SimpleNamespace(image=torch.zeros(1, 29, 129)),
                    title=str,
                )
            )
            drawn.append(shown.pop("decibels"))
        assert np.allclose(drawn[1] - drawn[0], 20.0, atol=1e-2), kind
