"""Counterfactuals: known answers of hand-made models, edits that stay in their band, players."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import models
from evaluation.stagers.band_reasons import BandReasons
from evaluation.stagers.mean_reasons import MeanReasons
from interpret.activities import ACTIVITIES, measured_in, waves
from interpret.counterfactual_report import add_counterfactuals, shown, write_counterfactuals
from interpret.counterfactual_words import RULES, row_of, sentence_of
from interpret.counterfactuals import confirmed, least, outcomes_of, search_of
from interpret.edits import donors_of, edits_of
from interpret.explained_night import ExplainedNight
from interpret.plausibility import distance_percentiles, night_powers, plausibility_of
from interpret.playing import MeanPlayer, NightPlayer, Unplayed, WindowPlayer, player_of
from interpret.question import Plan
from models.base import StagingModel
from utils.staged_night import StagedNight, Vote
from utils.stages import STAGES

FS, N, N2, N3 = 100, 40, STAGES.index("N2"), STAGES.index("N3")
BY_NAME = {activity.name: activity for activity in ACTIVITIES}


def signals_of(seed: int = 0) -> np.ndarray:
    """Noise like N2, with trains of slow waves, spindles or eye movements in some: (n, 2, t)."""
    rng = np.random.default_rng(seed)
    t = np.arange(30 * FS) / FS
    white = np.fft.rfft(rng.normal(size=(N, 2, 30 * FS)))
    hertz = np.fft.rfftfreq(30 * FS, 1 / FS)
    x = np.fft.irfft(white / np.maximum(hertz, 0.7) ** 0.8, n=30 * FS) * 14
    for k in range(0, N, 4):  # 5 to 50 % of the epoch
        long = t < 1.5 + 13.5 * k / N
        x[k, 0] += 75 * np.sin(2 * np.pi * 0.9 * t) * long
    for k in range(2, N, 4):
        for at in (6, 15, 24)[: 1 + k % 3]:
            x[k, 0] += 25 * np.exp(-(((t - at) / 0.5) ** 2)) * np.sin(2 * np.pi * 13.5 * t)
    for k in range(3, N, 8):
        for at in (5, 11, 21):  # eye movements
            x[k, 1] += 200 * np.exp(-(((t - at) / 0.3) ** 2))
    return x.astype(np.float32)


def night_of(x: np.ndarray, stages: np.ndarray | None = None) -> ExplainedNight:
    """The night in µV, staged by nobody but a model (all N2 unless given)."""
    codes = np.full(len(x), N2) if stages is None else stages
    staged = StagedNight("a", "S1", np.eye(5, dtype=np.float32)[codes], np.full(len(x), -1))
    return ExplainedNight(staged, torch.from_numpy(x), np.zeros(2), np.ones(2), ("Fpz", "EOG"),
                          ("EEG", "EOG"), "µV", {})  # fmt: skip


class ByMeasure(StagingModel):
    """N3 where a measure of the first channel reaches a limit, N2 below; neighbours are ignored."""

    def __init__(self, measure, limit: float) -> None:
        super().__init__()
        self.measure, self.limit = measure, limit

    def encode_epochs(self, x):
        values = torch.tensor([self.measure(line) for line in x[:, 0].double().numpy()])
        logits = torch.zeros(len(x), 5)
        logits[:, N3], logits[:, N2] = values - self.limit, self.limit - values
        return logits

    def classify(self, z):
        return z


def slow_wave_time(line: np.ndarray) -> float:
    """Share in % of an epoch in waves over 75 µV, by a filter of the test's own."""
    spectrum, hertz = np.fft.rfft(line), np.fft.rfftfreq(len(line), 1 / FS)
    slow = np.fft.irfft(spectrum * ((hertz >= 0.45) & (hertz < 2.1)), n=len(line))
    large = waves(slow, FS)
    large = large.some(large.size > 75)
    return 100 * (large.stop - large.start).sum() / len(line)


def sigma(line: np.ndarray) -> float:
    """Largest power of 13 to 15 Hz in any second, in dB."""
    seconds = np.fft.rfft(line.reshape(30, FS) * np.hanning(FS))
    return 10 * np.log10(np.square(np.abs(seconds[:, 13:16])).sum(axis=1).max())


@pytest.fixture(scope="module")
def night() -> ExplainedNight:
    return night_of(signals_of())


def search_with(night: ExplainedNight, measure, limit: float, **settings):
    return search_of(night, player_of(ByMeasure(measure, limit), night.signals), **settings)


def test_n3_at_20_percent_of_slow_waves(night):
    search = search_with(night, slow_wave_time, 20.0)
    for outcomes in outcomes_of(search, [1, 5, 9]):
        (more,) = [o for o in outcomes if o.edit.activity.name == "slow waves" and o.edit.sign > 0]
        row = row_of(more)
        assert row["new_stage"] == "N3" and row["before"] < 5
        assert 18 < row["after"] < 25 and abs(row["amount"] - (20 - row["before"])) < 5
        assert row["follows_rule"] is True
        text = sentence_of([row], row)
        assert "% more slow-wave time it would be N3" in text and "20 %" in text


def test_a_model_of_sigma_needs_the_spindle(night):
    quiet, loud = (sigma(night.signals[k, 0].double().numpy()) for k in (1, 2))
    search = search_with(night, sigma, (quiet + loud) / 2)
    (outcomes,) = outcomes_of(search, [1])
    smallest = least(outcomes)
    by_name = {(o.edit.activity.name, o.edit.sign): o for o in outcomes}
    assert smallest is by_name["spindles", 1], [
        (name, o.rung, round(o.deviations, 2)) for name, o in by_name.items() if o.changes
    ]
    assert by_name["spindles", 1].rung == 1  # one spindle does
    assert not any(by_name[name, 1].changes for name in ("slow waves", "delta power"))


def test_a_deaf_model_is_changed_by_nothing(night):
    search = search_with(night, lambda line: 0.0, 1.0)
    (outcomes,) = outcomes_of(search, [5])
    assert least(outcomes) is None and len(outcomes) >= 14
    text = sentence_of([row_of(outcome) for outcome in outcomes], None)
    assert text.startswith("N2; no edit changes it (up to ")
    assert "15 dB more or less power in any band" in text and "more slow-wave time" in text


def test_taking_slow_waves_away_leaves_n3(night):
    search = search_with(night, slow_wave_time, 20.0)
    (outcomes,) = outcomes_of(search, [36])  # half of it is slow waves
    (less,) = [o for o in outcomes if o.edit.activity.name == "slow waves" and o.edit.sign < 0]
    row = row_of(less)
    assert (row["stage"], row["new_stage"]) == ("N3", "N2")
    assert row["before"] > 35 and 14 < row["after"] < 20 and row["follows_rule"] is True


def test_a_stage_can_be_asked_for(night):
    search = search_with(night, slow_wave_time, 20.0, wanted=STAGES.index("REM"))
    (outcomes,) = outcomes_of(search, [5])
    assert least(outcomes) is None  # it becomes N3, never REM


@pytest.mark.parametrize("name", ["slow waves", "spindles", "alpha power", "eye movements"])
def test_edits_stay_in_their_band_channel_and_epoch(night, name):
    (measured,) = [one for one in measured_in(night) if one.activity.name == name]
    hertz = np.fft.rfftfreq(measured.length, 1 / FS)
    low, high = measured.activity.band
    for edit in edits_of(measured, 22, np.random.default_rng(0)):
        assert (np.diff(edit.amounts) > 0).all()
        for rung in (1, len(edit)):
            added = edit.added(rung)
            assert added.shape == (1, 3000) and np.abs(added).max() > 0
            power = np.square(np.abs(np.fft.rfft(added[0] * np.hanning(3000))))
            near = (hertz > 0.6 * low - 0.35) & (hertz < 1.4 * high + 2)
            assert power[near].sum() > 0.97 * power.sum(), (edit.sign, rung)
            # no step where the edit begins or ends
            assert np.abs(np.diff(added[0])).max() < 2 * np.abs(np.diff(measured.line)).max()
        assert (edit.added(0) == 0).all()


def test_measures_follow_the_edits(night):
    for measured in measured_in(night):
        for edit in edits_of(measured, 22, np.random.default_rng(0)):
            rung = (len(edit) + 1) // 2
            moved = measured.value_with(22, edit.added(rung)) - measured.values[22]
            wanted = edit.sign * edit.amounts[rung - 1]
            assert abs(moved - wanted) <= max(1.0, 0.35 * abs(wanted)), measured.activity.name


def test_nights_without_events_lend_their_largest_waves():
    x = signals_of()
    flat = night_of(x * np.float32(0.3))  # no wave of 75 µV
    search = search_with(flat, slow_wave_time, 20.0)
    (outcomes,) = outcomes_of(search, [1])
    row = row_of(next(o for o in outcomes if o.edit.activity.name == "slow waves"))
    assert row["before"] == 0 and row["new_stage"] == "N3" and 18 < row["after"] < 25


def test_what_is_planted_comes_from_stages_where_it_is_no_artefact(night):
    stages = np.full(N, STAGES.index("W"))
    stages[[16, 20]] = N2
    staged = replace(night.staged, probabilities=np.eye(5, dtype=np.float32)[stages])
    slow, few = (measured_in(one)[0] for one in (night, with_staged(night, staged)))
    line = few.part[[16, 20], 0].reshape(2, -1)
    for donor in donors_of(few, 1):
        windows = np.lib.stride_tricks.sliding_window_view(line, donor.shape[1], axis=1)
        assert (windows == donor[0]).all(axis=2).any()
    assert len(donors_of(slow, 1)) > len(donors_of(few, 1)) > 0


def with_staged(night: ExplainedNight, staged: StagedNight) -> ExplainedNight:
    return ExplainedNight(**vars(night) | {"staged": staged})


def test_without_microvolts_waves_are_relative_to_the_night(night):
    other = ExplainedNight(**vars(night) | {"unit": "no unit"})
    (one, two) = (measured_in(n)[0] for n in (night, other))
    assert one.floor == 75 and two.floor == pytest.approx(3.5 * two.typical)


SMALL = {
    "sequence_cmt": {"n_modalities": 2, "d_model": 16, "dim_feedforward": 16, "num_seq": 5},
    "chambon2018": {"n_channels": 2},
    "seqsleepnet": {"n_channels": 2, "num_seq": 6},
    "simplesleepnet": {"n_channels": 2, "num_seq": 5},
}


@pytest.mark.parametrize("name", ["sequence_cmt", "chambon2018", "seqsleepnet", "simplesleepnet"])
def test_players_answer_as_the_whole_night_does(name):
    torch.manual_seed(0)
    model = models.build(name, n_samples=3000, **SMALL[name]).eval()
    x = torch.randn(12, 2, 3000)
    player = player_of(model, x)
    assert isinstance(player, WindowPlayer)
    epochs = torch.tensor([0, 4, 11, 4])
    edited = torch.randn(4, 2, 3000)
    with torch.no_grad():
        answers = player(edited, epochs)
    for signals, epoch, answer in zip(edited, epochs.tolist(), answers, strict=True):
        night = x.clone()
        night[epoch] = signals
        model.adapt_to_night(x)
        expected = model.stage_night(night)[epoch]
        assert torch.allclose(player.staged(night, torch.tensor([epoch]))[0], expected, atol=1e-5)
        assert torch.allclose(answer, expected, atol=1e-4 if name != "seqsleepnet" else 0.02)


@pytest.mark.parametrize("name", ["robustsleepnet", "tinysleepnet"])
def test_models_whose_epochs_depend_on_others_are_played_by_staging_again(name):
    torch.manual_seed(0)
    fs = 60 if name == "robustsleepnet" else 100
    about = {"n_channels": 1, "fs": float(fs), "n_samples": 30 * fs, "num_seq": 3}
    model = models.build(name, **about).eval()
    x = torch.randn(16, 1, 30 * fs)
    player, epochs = player_of(model, x), torch.tensor([0, 9, 15])
    assert isinstance(player, NightPlayer)
    edited = torch.randn(3, 1, 30 * fs)
    for signals, epoch, answer in zip(edited, epochs, player(edited, epochs), strict=True):
        night = x.clone()
        night[epoch] = signals
        expected = model.stage_night(night)[epoch]
        assert torch.equal(player.staged(night, epoch[None])[0], expected)
        # a state is carried from the beginning of the night, which six epochs nearly tell
        assert torch.allclose(answer, expected, atol=1e-5 if name == "robustsleepnet" else 0.05)


def test_band_networks_are_played_from_the_signals():
    torch.manual_seed(0)
    model = models.build("night_bands", hidden=8).eval()
    x = torch.randn(30, 1, 3000)
    player = player_of(model, x)
    edited = 3 * torch.randn(2, 1, 3000)
    answers = player(edited, torch.tensor([3, 29]))
    for signals, epoch, answer in zip(edited, (3, 29), answers, strict=True):
        night = x.clone()
        night[epoch] = signals
        assert torch.allclose(answer, model.stage_night(night)[epoch], atol=1e-5)


def test_parts_of_a_mean_vote_and_those_not_played_keep_their_vote(night):
    yes = player_of(ByMeasure(slow_wave_time, 20.0), night.signals)
    no = player_of(ByMeasure(lambda line: 0.0, 1.0), night.signals)
    kept = Unplayed(torch.eye(5)[torch.full((N,), N2)])
    mean = MeanPlayer({"yes": (yes, 0.6), "no": (no, 0.2), "kept": (kept, 0.2)})
    search = search_of(night, mean)
    (outcomes,) = outcomes_of(search, [5])
    (smallest,) = confirmed(search, [least(outcomes)])
    assert smallest.confirmed and smallest.new_stage == N3
    support = plausibility_of(search, smallest, night_powers(night))
    assert support.votes == {"yes": (N2, N3), "no": (N2, N2)}
    assert support.random_change <= 0.1  # of the same energy, but no slow waves
    assert support.of_epochs == 0 and support.distance is None  # nobody staged any N3


def test_distances_to_real_epochs():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(100, 3))
    ends = np.stack([[5.0, 0, 0], real.mean(axis=0)])
    assert distance_percentiles(real, ends) == [100, 0]
    fresh = distance_percentiles(real, rng.normal(size=(200, 3)))
    assert 40 < np.mean(fresh) < 60  # uniform for epochs like the others
    assert distance_percentiles(real[:9], ends) == []


def test_scaling_by_the_night_is_part_of_what_is_confirmed(night):
    """A model of scaled signals, whose night is scaled anew with the edit in it."""
    mean = night.signals.mean(dim=(0, 2)).numpy()
    sd = night.signals.std(dim=(0, 2)).numpy()
    scaled = (night.signals - torch.from_numpy(mean)[:, None]) / torch.from_numpy(sd)[:, None]
    about = vars(night) | {"signals": scaled, "mean": mean, "sd": sd}
    search = search_with(ExplainedNight(**about), lambda x: slow_wave_time(x * sd[0]), 20.0)
    seen = []
    staged = search.player.staged
    search.player.staged = lambda signals, epochs: (seen.append(signals), staged(signals, epochs))[
        1
    ]
    (smallest,) = confirmed(search, [least(outcomes_of(search, [5])[0])])
    assert smallest.confirmed
    assert torch.allclose(seen[0].std(dim=(0, 2)), torch.ones(2), atol=1e-4)
    assert not torch.equal(seen[0][7], scaled[7])  # other epochs are scaled anew, too


def test_rules_are_those_of_the_manual():
    assert (RULES["slow waves"].stage, RULES["slow waves"].limit) == ("N3", 20.0)
    assert (RULES["alpha"].stage, RULES["alpha"].limit) == ("W", 50.0)
    assert set(RULES) <= set(BY_NAME)


def entry_of(night: ExplainedNight, epoch: int) -> dict:
    folder = f"a_e{epoch:04d}"
    return {"recording": "a", "epoch": epoch, "folder": folder, "methods": {}, "model": "N2"}


def test_files_of_a_night(night, tmp_path):
    """Arrays, sentences, one row for each edit, a figure."""
    entries = [entry_of(night, 5), entry_of(night, 9), entry_of(night, 13)]
    player = player_of(ByMeasure(slow_wave_time, 20.0), night.signals)
    plan = Plan((), counterfactuals=2)
    add_counterfactuals(tmp_path, night, entries, player, plan, pictures=1)
    write_counterfactuals(tmp_path, entries)
    answers = [entry["methods"].get("counterfactual") for entry in entries]
    assert answers[2] is None  # two were asked for
    about = answers[0]["settings"]
    assert about["sentence"].startswith("N2; with ") and "it would be N3" in about["sentence"]
    assert about["least"]["confirmed"] and "confirms it" in about["support"]
    assert "too few real N3 epochs" in about["support"]
    assert "over 75 µV" in about["criteria"]["slow waves"]
    with np.load(tmp_path / answers[0]["file"]) as arrays:
        edited = torch.from_numpy(arrays["edited"])[None]
        added = arrays["edited"] - night.physical(5)
        np.testing.assert_allclose(added, arrays["added"], atol=1e-4)
        assert not arrays["added"][1].any()  # the other channel is as it was
    assert int(player(edited, torch.tensor([5])).argmax()) == N3
    lines = (tmp_path / "counterfactuals.csv").read_text().splitlines()
    table = list(csv.DictReader(lines))
    assert [row["epoch"] for row in table if row["least"] == "True"] == ["5", "9"]
    assert len(table) == sum(len(a["settings"]["edits"]) for a in answers[:2])
    assert len(json.loads((tmp_path / "counterfactuals.json").read_text())["epochs"]) == 2
    drawn = sorted(path.parent.name for path in tmp_path.rglob("counterfactual.png"))
    assert drawn == ["a_e0005"]
    assert shown(entries[0])["sentence"] == about["sentence"] and shown(entries[2]) is None


def test_a_deaf_models_files(night, tmp_path):
    entries = [entry_of(night, 5)]
    player = player_of(ByMeasure(lambda line: 0.0, 1.0), night.signals)
    add_counterfactuals(tmp_path, night, entries, player, Plan((), counterfactuals=1), pictures=1)
    write_counterfactuals(tmp_path, entries)
    about = entries[0]["methods"]["counterfactual"]["settings"]
    assert about["least"] is None and about["support"] == ""
    assert "no edit changes it" in about["sentence"]
    assert not list(tmp_path.rglob("*.png"))
    write_counterfactuals(tmp_path / "none", [entry_of(night, 5)])  # nothing was sought
    assert not (tmp_path / "none").exists()


def test_parts_of_the_default_are_played_or_kept(night):
    """The mean of parts: one with maps, one that reads other signals, one that nothing plays."""

    class Part:
        explains, maps_signals = "part", True

        def __init__(self, player):
            self.play = player

        def player(self, night):
            return self.play

    yes = player_of(ByMeasure(slow_wave_time, 20.0), night.signals)
    kept = night.staged.probabilities
    votes = [Vote("one", kept, 0.7), Vote("two", kept, 0.3)]
    voted = ExplainedNight(**vars(night) | {"staged": replace(night.staged, votes=votes)})
    reasons = MeanReasons([Part(yes), Part(None)], ["one", "two"])
    player = reasons.player(voted)
    edited, epochs = torch.zeros(1, 2, 3000), torch.tensor([5])
    alone = yes(edited, epochs)
    assert torch.allclose(player(edited, epochs), 0.7 * alone + 0.3 * torch.eye(5)[[N2]])
    assert set(player.votes(edited, epochs)) == {"one"}
    # derivations that were staged each have other votes: the explained part stands alone
    assert set(reasons.player(night).parts) == {"one"}
    assert MeanReasons([Part(None)], ["one"]).player(night) is None


def test_network_of_other_signals_is_not_played(night):
    net = models.build("night_bands", hidden=8).eval()
    own = night.signals[:, :1]
    of_own = ExplainedNight(**vars(night) | {"signals": own})
    reasons = BandReasons([net, net], own, "bands")
    assert set(reasons.player(of_own).parts) == {"bands 0", "bands 1"}
    assert BandReasons([net], 2 * own, "bands").player(of_own) is None
