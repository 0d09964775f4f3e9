"""Image networks as epoch encoders, and Grad-CAM on what decides their output."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import get_model

import models
from interpret.explain_nights import explain_all
from interpret.grad_cam import grad_cam, over_samples
from interpret.question import Plan, Question
from interpret.target import EpochTarget
from models.backbone import Backbone
from models.base import StagingModel
from models.spectrogram import Spectrogram
from tests.test_staging_scripts import evaluate, train
from utils.errors import UserError

SOME = ("resnet18", "efficientnet_b0", "mobilenet_v3_small", "shufflenet_v2_x0_5")


@pytest.fixture(scope="module")
def night() -> torch.Tensor:
    torch.manual_seed(1)
    return 20 * torch.randn(9, 1, 3000)


@pytest.mark.parametrize("name", SOME)
def test_counts_are_torchvisions_and_ours(name):
    model = models.build(name, n_channels=2, num_seq=5)
    network = get_model(name, num_classes=128)
    own = 3 * 2 + 3  # two channels into three planes
    own += 2 * 3 * (64 * 128 + 64 * 64 + 2 * 64)  # GRU of 64 each way
    own += 5 * 128 + 5
    expected = sum(p.numel() for p in network.parameters()) + own
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("encoder", ["recurrent", "transformer"])
def test_nights_and_windows(encoder, night):
    torch.manual_seed(0)
    model = models.build("mobilenet_v3_small", num_seq=5, sequence_encoder=encoder).eval()
    for n_epochs in (1, 4, 9):
        probabilities = model.stage_night(night[:n_epochs], batch_size=4)
        assert probabilities.shape == (n_epochs, 5)
        assert torch.allclose(probabilities.sum(dim=1), torch.ones(n_epochs), atol=1e-5)
        assert torch.allclose(probabilities, model.stage_night(night[:n_epochs]), atol=1e-5)
    with torch.no_grad():
        together = model(night[None])
        apart = torch.cat([model(night[None, k : k + 5]) for k in range(5)])
    assert torch.allclose(together, apart, atol=1e-5)
    # the order of epochs matters
    assert not torch.allclose(model(night[None, :5]).flip(1), model(night[None, :5].flip(1)))


def test_the_spectrogram_is_half_a_second_apart():
    assert models.build("resnet18").spectrogram.frames == 57
    assert models.build("resnet18", hop_seconds=1.0).spectrogram.frames == 29


@pytest.mark.slow
@pytest.mark.parametrize("name", models.backbone_names())
def test_every_image_network_takes_an_epoch(name):
    if name.startswith("regnet"):
        pytest.skip("its initialisation needs memory; regnet_x_400mf runs below")
    with torch.device("meta"):
        model = Backbone(name=name, n_channels=2, num_seq=3).eval()
        assert model(torch.empty(1, 3, 2, 3000)).shape == (1, 3, 5)
        assert isinstance(model.cam_layer(), nn.Module)


def test_a_regnet_takes_an_epoch(night):
    model = models.build("regnet_x_400mf", num_seq=3).eval()
    assert model.stage_night(night[:4]).shape == (4, 5)


def test_what_cannot_be_built_is_said():
    with pytest.raises(ValueError, match="no image network 'resnet19'"):
        Backbone(name="resnet19")
    with pytest.raises(ValueError, match="recurrent or transformer"):
        models.build("resnet18", sequence_encoder="cnn")


class Looking(StagingModel):
    """N2 by the power of a band, seen by a convolution that keeps the image."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(1, 100.0, 3000, hop_seconds=0.5)
        self.image = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.image.weight)
        weights = torch.zeros(129)
        weights[low:high] = 1.0
        self.register_buffer("band", weights)

    def encode_epochs(self, x):
        # powers, not decibels: silence has none
        return self.image(10 ** (self.spectrogram(x) / 20) * self.band).mean(dim=(1, 2, 3))[:, None]

    def classify(self, z):
        return torch.cat([torch.zeros_like(z).expand(-1, -1, 2), z, z * 0, z * 0], dim=-1)

    def cam_layer(self):
        return self.image


def test_grad_cam_finds_the_burst_that_decided():
    time = torch.arange(3000) / 100
    night = 0.5 * torch.randn(3, 1, 3000)
    burst = (time >= 12) & (time < 14)
    night[1, 0] += 40 * burst * torch.sin(2 * torch.pi * 13 * time)
    target = EpochTarget(Looking(28, 40), night)
    explanation = grad_cam(target, torch.tensor([1]), torch.tensor([2]))
    assert explanation.image.shape == (1, 57, 129) and explanation.attributions.shape == (
        1,
        1,
        3000,
    )
    frame, bin_ = divmod(int(explanation.image[0].argmax()), 129)
    seconds, hertz = target.model.spectrogram.grid()
    assert abs(seconds[frame] - 13) <= 1 and abs(hertz[bin_] - 13) <= 1
    inside = explanation.attributions[0, 0][burst].mean()
    assert inside > 20 * explanation.attributions[0, 0][~burst].abs().mean()
    assert torch.isnan(explanation.error).all()


def test_frames_stand_at_the_middle_of_their_windows():
    for hop in (0.5, 1.0):
        spectrogram = Spectrogram(1, 100.0, 3000, hop_seconds=hop)
        seconds, hertz = spectrogram.grid()
        course = over_samples(torch.from_numpy(seconds)[None], 3000, spectrogram)[0].numpy()
        time = (np.arange(3000) + 0.5) / 100
        inner = (time > 1) & (time < 29)
        assert abs(course - time)[inner].max() < 1e-6
        assert (course[time < 1] >= 1).all() and len(course) == 3000
        assert hertz[0] == 0 and hertz[-1] == 50


def test_models_without_images_are_left_out_and_vision_transformers_say_why(night):
    plan = Plan(("gradcam", "ixg"))
    model = models.build("chambon2018", num_seq=3).eval()
    some = torch.tensor([1, 2])
    explanations = explain_all(Question(EpochTarget(model, night), some, some, plan))
    assert set(explanations) == {"ixg", "random"}

    class Imageless(Looking):
        def cam_layer(self):
            raise ValueError("it keeps no image for Grad-CAM")

    with pytest.raises(UserError, match="keeps no image for Grad-CAM; use ig"):
        grad_cam(EpochTarget(Imageless(1, 2), night), some, some)


@pytest.mark.slow
def test_trained_evaluated_and_explained(store, raw, tmp_path):
    run = train(store, tmp_path, "mobilenet_v3_small")
    words = [
        "--is_interpret",
        "--ig_most_steps",
        "100",
        "--interpret_select",
        "3",
        "--interpret_bands",
        "False",
    ]
    cheap = ["--interpret_methods", "gradcam", "--n_random", "2", "--n_untrained", "1"]
    evaluate(store, tmp_path, *words, *cheap, "--truth_path", str(raw))
    folder = run / "interpretations"
    entry = json.loads((folder / "index.json").read_text())["explanations"][0]
    arrays = np.load(folder / entry["methods"]["gradcam"]["file"])
    assert arrays["image"].shape == (57, 129) and arrays["signed"].shape == (1, 3000)
    assert (folder / entry["folder"] / "gradcam.png").stat().st_size > 10_000
    rows = (folder / "summary.csv").read_text()
    assert "gradcam" in rows and "likeness_to_random_weights" in rows
