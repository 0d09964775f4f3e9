"""Second readings of explanations: windows, baselines, layers, detected events."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import models
from datasets.synthetic.night import draw_night
from datasets.synthetic.subject import Difficulty, draw_subject
from interpret import explanation_figures
from interpret.baselines import baselines_of
from interpret.detected import _in_recording, detect
from interpret.evidence import event_mask
from interpret.explained_night import ExplainedNight
from interpret.random_weights import layers_from_head, with_random_weights
from interpret.registry import explain
from interpret.target import EpochTarget, WindowTarget
from models.base import StagingModel
from tests.test_attribution import CLASSES, FIRST, Linear, night_of
from utils import figures
from utils.errors import UserError
from utils.staged_night import StagedNight


class Neighbourly(StagingModel):
    """The logit of an epoch is a weighted sum over the three epochs of its window."""

    def __init__(self) -> None:
        super().__init__()
        self.num_seq = 3
        self.weights = nn.Linear(2 * 60, 5, bias=False)
        self.register_buffer("mixture", torch.tensor([0.25, 1.0, 0.5]))

    def encode_epochs(self, x):
        return self.weights(x.flatten(1))

    def classify(self, z):
        return (z * self.mixture[:, None]).sum(dim=1, keepdim=True).expand(-1, 3, -1)


@pytest.mark.parametrize("method", ["ixg", "ig", "occlusion", "ablation"])
def test_a_whole_window_is_attributed_exactly(method):
    torch.manual_seed(0)
    night, middle = night_of(), torch.tensor([3, 7])
    target = WindowTarget(Neighbourly(), night)
    explanation = explain(target, middle, CLASSES[:2], method=method)
    assert explanation.window.shape == (2, 3, 2, 60)
    weights = target.model.weights.weight[CLASSES[:2]].view(2, 1, 2, 60).detach()
    expected = weights * night[target.members(middle)] * target.model.mixture.view(1, 3, 1, 1)
    if method in ("ixg", "ig"):
        assert torch.allclose(explanation.window, expected, atol=1e-5)
    if method == "ablation":  # one value a modality of an epoch
        assert torch.allclose(explanation.window[..., 0], expected.sum(dim=3), atol=1e-4)
    assert torch.equal(explanation.attributions, explanation.window[:, 1])


def test_the_window_and_the_epoch_agree_where_context_is_ignored():
    torch.manual_seed(0)
    night = night_of(300)
    model = models.build("epoch_cmt", n_samples=300, d_model=16, dim_feedforward=16).eval()
    one = explain(EpochTarget(model, night), FIRST, CLASSES, method="ig")
    whole = explain(WindowTarget(model, night), FIRST, CLASSES, method="ig")
    assert torch.allclose(one.attributions, whole.attributions, atol=1e-5)


def test_a_window_of_the_cmt_is_complete_for_any_batch():
    torch.manual_seed(0)
    night = night_of(300)
    model = models.build(
        "sequence_cmt", n_samples=300, d_model=16, dim_feedforward=16, num_seq=5
    ).eval()
    target = WindowTarget(model, night)
    explanation = explain(target, FIRST, CLASSES, method="ig")
    assert (explanation.error <= 0.01).all() and explanation.window.shape == (4, 5, 2, 300)
    target.at_once = 1
    again = explain(target, FIRST, CLASSES, method="ig")
    assert torch.allclose(explanation.window, again.window, atol=1e-5)


def test_baselines_of_known_signals():
    t = torch.arange(8 * 3000, dtype=torch.float64) / 100
    slow, sigma = torch.sin(2 * torch.pi * t), torch.sin(2 * torch.pi * 13 * t)
    slow, sigma = slow.float(), sigma.float()
    night = (slow + sigma).view(8, 1, 3000)
    epochs = torch.tensor([1, 6])
    parts = {"lowpass": slow, "without_sigma": slow, "without_delta": sigma}
    for kind, expected in parts.items():
        baselines = baselines_of(night, epochs, kind)
        assert torch.allclose(baselines, expected.view(8, 1, 3000)[epochs], atol=1e-4), kind
    sure = torch.eye(5)[[1, 1, 0, 1, 1, 1, 1, 1]]
    assert torch.equal(baselines_of(night, epochs, "wake", staged=lambda: sure), night[[2, 2]])
    with pytest.raises(UserError, match="unknown baseline 'black'"):
        baselines_of(night, epochs, "black")


def test_the_wake_baseline_is_the_surest_wake_epoch():
    target = EpochTarget(Linear(), night_of())
    surest = int(target.model.stage_night(target.night)[:, 0].argmax())
    baseline = target.baseline(FIRST, "wake")
    assert torch.equal(baseline, target.night[surest].expand_as(baseline))


def test_layers_lose_their_weights_from_the_head():
    model = models.build("sequence_cmt", n_samples=300, d_model=16, dim_feedforward=16, num_seq=3)
    parts = layers_from_head(model)
    assert parts[:3] == ["heads.0", "feed_forward", "inter"]
    assert parts[3:] == [f"encoders.0.{name}" for name in ("cross", "intra", "embeddings")]
    torch.manual_seed(0)
    changed = with_random_weights(model, 1, parts[:2])
    for name, before in model.state_dict().items():
        same = torch.equal(before, changed.state_dict()[name])
        touched = name.startswith(("heads.0", "feed_forward"))
        assert same or touched, name
    assert not torch.equal(model.heads[0].weight, changed.heads[0].weight)


@pytest.fixture(scope="module")
def rendered() -> ExplainedNight:
    """A synthetic night with its planted events."""
    night = draw_night(draw_subject(0, 0, Difficulty(0)), 1, hours=2.0)
    signals = np.stack([night.render(name, 100.0) for name in ("EEG Fpz-Cz", "EOG horizontal")])
    n_epochs = len(night.timeline.labels)
    epochs = signals.reshape(2, n_epochs, 3000).transpose(1, 0, 2)
    planted = {
        kind: np.column_stack((night.events[kind].onset, night.events[kind].duration))
        for kind in ("spindle", "slow_wave", "rem")
    }
    stages = np.asarray(night.timeline.stages)
    staged = StagedNight("n", "s", np.eye(5)[stages], night.timeline.labels, 0, None)
    return ExplainedNight(
        staged,
        torch.from_numpy(epochs.copy()),
        np.zeros(2),
        np.ones(2),
        ("EEG Fpz-Cz", "EOG horizontal"),
        ("EEG", "EOG"),
        "µV",
        planted,
    )


def overlapping(detected: np.ndarray, planted: np.ndarray) -> float:
    """Share of detected events that touch a planted one."""
    ends = detected.sum(axis=1)
    touch = (detected[:, :1] < planted.sum(axis=1)) & (ends[:, None] > planted[:, 0])
    return float(touch.any(axis=1).mean())


def test_yasa_finds_what_was_planted(rendered):
    events = detect(rendered)
    assert set(events) == {"spindle", "slow_wave", "rem"}
    for kind, share in (("spindle", 0.6), ("slow_wave", 0.7), ("rem", 0.7)):
        assert len(events[kind]) >= 10
        assert overlapping(events[kind], rendered.events[kind]) > share, kind


def test_yasa_places_events_where_epochs_lie(rendered):
    """On a clock that drifts by 0.1 s per epoch, 24 s in two hours."""
    counted, n = detect(rendered), len(rendered.signals)
    onsets = 3.0 + 30.1 * np.arange(n)
    drifting = detect(replace(rendered, staged=replace(rendered.staged, own_onsets=onsets)))
    for kind, events in counted.items():
        expected = events[:, 0] + 3.0 + 0.1 * (events[:, 0] // 30)
        np.testing.assert_allclose(drifting[kind][:, 0], expected, atol=1e-9)
        assert drifting[kind][:, 1].tolist() == events[:, 1].tolist()
        # so that each marks the samples in which it was detected
        assert (
            event_mask(drifting[kind], onsets, fs=100)[2:, 100:-100]
            == event_mask(events, rendered.staged.onsets, fs=100)[2:, 100:-100]
        ).all()


def test_what_epochs_with_context_share_is_one_event():
    times = np.array([[5.0, 1.0], [25.0, 1.0], [35.0, 1.0]])  # the last two are one
    assert _in_recording(times, np.array([0.0, 20.0])).tolist() == [[5.0, 1.0], [25.0, 1.0]]


def test_without_a_unit_only_spindles_are_detected(rendered):
    bare = ExplainedNight(**{**vars(rendered), "unit": "no unit"})
    assert set(detect(bare)) == {"spindle"}


def test_what_is_searched_in_vain_has_no_events(rendered):
    # a flat line: yasa returns None, which is not "not searched"
    flat = ExplainedNight(**{**vars(rendered), "signals": 0 * rendered.signals})
    assert {kind: events.shape for kind, events in detect(flat).items()} == {
        "spindle": (0, 2), "slow_wave": (0, 2), "rem": (0, 2),
    }  # fmt: skip


@pytest.mark.slow
def test_a_thousand_figures_leave_memory_flat(tmp_path):
    rng = np.random.default_rng(0)
    row = explanation_figures.SampleRow(
        "t", rng.normal(size=(1, 300)), rng.normal(size=(1, 300)), None, np.ones(1), 0
    )
    sizes = []
    for k in range(1000):
        picture = explanation_figures.draw_sample(
            [row], title="t", channels=["EEG"], unit="µV", colour=("viridis", 0, 1, "x")
        )
        figures.save(picture, tmp_path / f"{k % 3}.png")
        if k in (99, 999):
            status = Path("/proc/self/status").read_text()
            sizes.append(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024)
    assert sizes[1] - sizes[0] < 30, sizes
