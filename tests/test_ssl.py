"""Pretraining: exact sizes, objectives that do what they say, and no published fault."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import models
import ssl_training
from models.pretraining import Predicted
from objectives.contrast_views import views_of
from objectives.contrastive import Contrastive, nt_xent
from objectives.draws import Draws
from objectives.hybrid import Hybrid
from objectives.masked import MaskedPrediction
from training import ssl_family, ssl_flags
from training.validation import mean_figures
from utils.checkpoint import load_checkpoint
from utils.errors import UserError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.json"))
PUBLISHED = sorted((Path(__file__).parents[1] / "configs" / "as_published").glob("*.json"))


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def draws(n: int) -> Draws:
    return Draws(np.arange(n), "masks", torch.device("cpu"))


def batch_of(n: int = 6, channels: int = 1, seed: int = 0) -> SimpleNamespace:
    torch.manual_seed(seed)
    signals = torch.randn(n, 1, channels, 3000)
    none = torch.zeros(n, channels, 51)
    return SimpleNamespace(signals=signals, keys=np.arange(n) + 9 * seed, night_power=none)


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [("cnn", 1_142_973), ("cnn_attention", 1_472_957), ("transformer", 1_196_544)],
)
def test_encoders_have_the_published_sizes(encoder, expected):
    net = models.build("pretraining", encoder=encoder)
    assert size(net.encoder) == expected
    assert net.encoder.latent(torch.randn(3, 1, 3000)).shape == (3, 128)
    staging = models.build(encoder, n_channels=2)
    assert staging(torch.randn(2, 4, 2, 3000)).shape == (8, 1, 5)
    assert size(staging.head) == 129 * 5


def test_the_transformers_sizes_and_the_published_single_token():
    net = models.build("pretraining", encoder="transformer")
    assert size(net.decoder) == 1_609_522
    one = models.build("pretraining", encoder="transformer", n_patches=1, use_cls=False)
    assert size(one.encoder) == 384_128 + 1_189_632 + 256
    with pytest.raises(ValueError, match="do not divide"):
        models.build("pretraining", encoder="transformer", n_patches=7)


def test_features_of_the_cnn():
    net = models.build("pretraining", encoder="cnn").encoder
    steps = [net.stages[0](torch.randn(2, 1, 3000)).shape[1:]]
    x = net.stages[0](torch.randn(2, 1, 3000))
    for pool, stage in zip(net.pools, net.stages[1:], strict=True):
        x = stage(pool(x))
        steps.append(x.shape[1:])
    assert [tuple(s) for s in steps] == [(64, 3000), (128, 600), (192, 120), (256, 24), (128, 6)]


@pytest.mark.parametrize("encoder", [*models.ENCODERS, "seqsleepnet", "tinysleepnet"])
@pytest.mark.parametrize("objective", ssl_flags.OBJECTIVES)
def test_every_weight_gets_a_gradient_in_its_own_mode(encoder, objective):
    if objective == "latent" and encoder not in ssl_flags.TRANSFORMERS:
        pytest.skip("predicts tokens")
    settings = ssl_training.parse_args(["--objective", objective, "--encoder", encoder])
    view = SimpleNamespace(columns=[0], fs=100.0, n_samples=3000)
    torch.manual_seed(0)
    net = models.build("pretraining", **ssl_family.settings_of(settings, view))
    made = ssl_family._objective(settings)
    made.attach(net, torch.device("cpu"))
    loss, _ = made(net, batch_of(4))
    loss.backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None]
    assert torch.isfinite(loss) and not idle


# masked prediction ------------------------------------------------------------------------------


class Exact(nn.Module):
    """Predicts hidden samples exactly and garbage elsewhere, or the reverse."""

    def __init__(self, garbage_on: str) -> None:
        super().__init__()
        self.garbage_on = garbage_on

    def forward(self, x, hidden=None):
        where = hidden if self.garbage_on == "hidden" else ~hidden
        return None, Predicted(torch.where(where[:, None], 1e3, x))


@pytest.mark.parametrize("masking", ["patch", "fixed_proportion_random", "probabilistic_random"])
def test_the_loss_is_on_what_is_hidden(masking):
    objective = MaskedPrediction(masking=masking, ratio=0.5)
    assert objective(Exact("visible"), batch_of())[0] == 0
    assert objective(Exact("hidden"), batch_of())[0] > 1e5
    published = MaskedPrediction(masking=masking, ratio=0.5, loss_on="visible")
    assert published(Exact("hidden"), batch_of())[0] == 0


def test_garbage_that_the_encoder_cannot_see_changes_nothing():
    # what is hidden from the encoder has no part in the prediction of the rest
    torch.manual_seed(0)
    net = models.build("pretraining", encoder="transformer").eval()
    x, hidden = batch_of(3).signals[:, 0], MaskedPrediction().masks.draw(3000, draws(3))
    with torch.no_grad():
        predicted = net(x, hidden=hidden)[1].signal
        other = net(torch.where(hidden[:, None], 99.0, x), hidden=hidden)[1].signal
        seen = net(torch.where(hidden[:, None], x, x + 1), hidden=hidden)[1].signal
    assert torch.allclose(predicted, other, atol=1e-5)
    assert not torch.allclose(predicted, seen, atol=1e-2)


def test_masks_have_their_share_and_shape():
    hidden = MaskedPrediction(ratio=0.25, patch=50).masks.draw(3000, draws(40))
    assert (hidden.sum(dim=1) == 750).all()
    patches = hidden.unflatten(1, (60, 50))
    assert (patches.all(dim=2) == patches.any(dim=2)).all()
    assert len({tuple(row.tolist()) for row in hidden}) == 40
    points = MaskedPrediction(masking="fixed_proportion_random", ratio=0.25)
    assert (points.masks.draw(3000, draws(10)).sum(dim=1) == 750).all()
    random = MaskedPrediction(masking="probabilistic_random", ratio=0.25)
    random = random.masks.draw(3000, draws(10))
    assert 0.2 < random.float().mean() < 0.3 and len(set(random.sum(dim=1).tolist())) > 1


def test_other_targets():
    x = batch_of(2).signals[:, 0]
    hidden = torch.zeros(2, 3000, dtype=torch.bool)
    hidden[:, 1000:1050] = True
    constant = MaskedPrediction(target="difference")
    assert constant.loss(x, x + 7, hidden) < 1e-9  # an offset has no difference
    spectrum = MaskedPrediction(target="log_spectrum")
    assert spectrum.loss(x, -x, hidden) < 1e-9  # a sign has no spectrum
    louder = spectrum.loss(x, 10 * x, hidden)
    assert louder == pytest.approx(math.log(100) ** 2, rel=0.2)
    by_patch = MaskedPrediction(norm_patches=True)
    spread, mean = torch.std_mean(x[..., 1000:1050], dim=-1, keepdim=True)
    normalised = x.clone()
    normalised[..., 1000:1050] = (x[..., 1000:1050] - mean) / spread
    assert by_patch.loss(x, normalised, hidden) < 1e-8
    with pytest.raises(ValueError, match="whole patches"):
        MaskedPrediction(target="log_spectrum", masking="probabilistic_random")
    with pytest.raises(ValueError, match="between 0 and 1"):
        MaskedPrediction(ratio=1.0)


def test_the_transformer_sees_many_tokens_in_their_order():
    torch.manual_seed(0)
    net = models.build("pretraining", encoder="transformer").eval()
    x = batch_of(1).signals[:, 0]
    swapped = x.clone()
    swapped[..., :50], swapped[..., 50:100] = x[..., 50:100], x[..., :50]
    with torch.no_grad():
        assert net.encoder(x).shape == (1, 61, 128)
        assert not torch.allclose(net.encoder.latent(x), net.encoder.latent(swapped), atol=1e-5)


# contrast ---------------------------------------------------------------------------------------


def test_nt_xent_written_out():
    torch.manual_seed(0)
    one, other = torch.randn(2, 5, 7, dtype=torch.float64)
    both = torch.cat([one, other])
    unit = both / both.norm(dim=1, keepdim=True)
    for temperature in (0.1, 0.5):
        losses = []
        for i in range(10):
            j = (i + 5) % 10
            exponents = [
                math.exp(float(unit[i] @ unit[k]) / temperature) for k in range(10) if k != i
            ]
            losses.append(
                -math.log(math.exp(float(unit[i] @ unit[j]) / temperature) / sum(exponents))
            )
        assert nt_xent(one, other, temperature).item() == pytest.approx(np.mean(losses), rel=1e-12)


def test_temperature_acts_and_identical_vectors_give_the_log_of_their_number():
    same = torch.ones(128, 16)
    for temperature in (0.1, 0.5):
        assert nt_xent(same, same, temperature).item() == pytest.approx(math.log(255), abs=1e-4)
    torch.manual_seed(0)
    one, other = torch.randn(2, 8, 16)
    assert nt_xent(one, other, 0.1) != nt_xent(one, other, 0.5)
    assert nt_xent(one, one + 0.01 * other, 0.1) < nt_xent(one, other, 0.1)
    with pytest.raises(ValueError, match="above 0"):
        Contrastive(nn.Identity(), temperature=0.0)


class Latent(nn.Module):
    """The mean of an epoch, twice, and a record of what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = []
        self.weight = nn.Parameter(torch.ones(3000, 4) / 3000)

    def forward(self, x, hidden=None):
        self.seen.append(x.detach().clone())
        return x[:, 0] @ self.weight, None


def noisy(size: float):
    """Views that add noise."""
    return lambda x, draws: (x + size * draws.normal(*x.shape[1:]), draws)


def validated(objective, model, batch) -> float:
    """The loss of validation nights that are one batch."""
    fabric = SimpleNamespace(
        global_rank=0, world_size=1, device=torch.device("cpu"), all_reduce=lambda x, reduce_op: x
    )

    class Shares(list):
        sizes = (len(batch.signals),)

    return mean_figures(objective, model, Shares([batch]), fabric)["loss"]


def test_two_views_are_drawn_in_training_and_validation_alike():
    model = Latent()
    objective = Contrastive(views_of("benchmark"))
    objective(model, batch_of())
    one, other = model.seen[0].chunk(2)
    assert not torch.equal(one, other)
    # validation: its own two views, the same ones every time
    values = [validated(objective, model, batch_of()) for _ in range(2)]
    assert values[0] == values[1]
    assert not torch.equal(*model.seen[-1].chunk(2))
    batch = batch_of()
    before = torch.get_rng_state()
    validated(objective, model, batch)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_validation_loss_falls_when_positives_come_closer():
    near, far = (Contrastive(noisy(size)) for size in (0.01, 3.0))
    losses = [validated(objective, Latent(), batch_of()) for objective in (near, far)]
    assert losses[0] < losses[1]


def test_masks_of_validation_are_the_same_every_time():
    torch.manual_seed(0)
    net = models.build("pretraining", encoder="transformer")
    values = [validated(MaskedPrediction(), net, batch_of(2)) for _ in range(2)]
    assert values[0] == values[1]


def test_many_negatives_in_little_memory_are_the_same_loss_and_gradient():
    batch = batch_of(8)
    results = []
    for chunk in (0, 4):
        torch.manual_seed(3)
        model = Latent().double()
        batch.signals = batch.signals.double()
        loss, _ = Contrastive(noisy(1.0), chunk=chunk)(model, batch)
        loss.backward()
        results.append((loss.item(), model.weight.grad))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-12)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-12)


def test_what_is_computed_again_enters_batch_norm_once():
    torch.manual_seed(0)
    net = models.build("pretraining", encoder="cnn", n_samples=500, decoder=False)
    batch = SimpleNamespace(signals=torch.randn(4, 1, 1, 500), keys=np.arange(4))
    once = deepcopy(net)
    for part in torch.cat([batch.signals[:, 0]] * 2).split(4):
        once(part)
    loss, _ = Contrastive(lambda x, draws: (x, None), chunk=4)(net, batch)
    loss.backward()
    for (name, got), expected in zip(net.named_buffers(), once.buffers(), strict=True):
        assert torch.equal(got, expected), name


def test_what_is_evaluated_lies_before_the_head():
    net = models.build("pretraining", encoder="cnn", decoder=False).eval()
    x = torch.randn(2, 1, 3000)
    with torch.no_grad():
        latent = net.encoder.latent(x)
        assert torch.allclose(net(x)[0], net.projection(latent), atol=1e-5)
    assert not torch.allclose(latent.norm(dim=1), torch.ones(2), atol=1e-2)


def test_the_hybrid_adds_and_logs_both():
    masked, contrast = MaskedPrediction(), Contrastive(views_of("sleepyco"))
    net = models.build("pretraining", encoder="transformer")
    for alpha in (1.0, 35.0):
        loss, logs = Hybrid(masked, contrast, alpha=alpha)(net, batch_of(4))
        expected = logs["masked"] + alpha * logs["contrastive"]
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


# configurations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*CONFIGS, *PUBLISHED], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_configuration_is_read(path):
    settings = ssl_training.parse_args(["--config", str(path)])
    _, _, objective, *encoder = path.stem.split("_")
    names = {"MP": "masked", "CRL": "contrastive", "Hybrid": "hybrid"}
    assert settings.learning.objective == names[objective]
    assert settings.learning.encoder == "_".join(encoder[:-1]).lower()
    # what the files say nothing of is as it was before there was a choice
    steps, masked = settings.optimiser, settings.masked
    assert (steps.schedule, steps.gamma, steps.grad_clip, steps.n_steps) == ("step", 1.0, 0.0, None)
    assert (settings.contrast.neighbours or 0, settings.contrast.queue or 0) == (0, 0)
    assert masked.target == (None if objective == "CRL" else "signal")
    is_transformer, published = encoder[0] == "Transformer", path.parent.name == "as_published"
    pool = "cls" if is_transformer and settings.learning.use_cls else "mean"
    assert settings.learning.pool == pool and not settings.contrast.balance
    assert masked.decoder_blocks == (8 if is_transformer and objective != "CRL" else None)
    assert settings.learning.normalization == ("none" if published else "recording")
    if objective != "MP":
        assert settings.contrast.temperature == (0.5 if published else 0.1)
        assert settings.contrast.projection_hidden == ([] if published else [512, 128])
    if objective != "CRL":
        assert settings.masked.loss_on == ("visible" if published else "masked")


def test_the_nine_differ_from_the_published_in_named_keys():
    assert len(CONFIGS) == len(PUBLISHED) == 9
    may_differ = {
        "dataset.normalization",
        "dataset.masking_type",
        "dataset.masking_ratio",
        "dataset.loss_on",
        "dataset.patch_samples",
        "backbone.num_patches",
        "backbone.use_cls",
        "backbone.projection_hidden",
        "training_params.alpha_crl",
        "training_params.temperature",
        "training_params.val_period",
        "training_params.early_stopping.patience",
    }
    for ours, theirs in zip(CONFIGS, PUBLISHED, strict=True):
        assert ours.name == theirs.name
        a, b = (dict(ssl_flags._flat(json.loads(p.read_text()))) for p in (ours, theirs))
        assert {k for k in a.keys() | b.keys() if a.get(k) != b.get(k)} <= may_differ


def test_keys_that_nobody_reads_are_named(tmp_path):
    good = json.loads(CONFIGS[0].read_text())
    path = tmp_path / "c.json"

    def refused(section: str, key: str, value: object) -> str:
        changed = json.loads(json.dumps(good))
        changed[section][key] = value
        path.write_text(json.dumps(changed))
        with pytest.raises(UserError) as error:
            ssl_training.parse_args(["--config", str(path)])
        return str(error.value)

    assert "nothing reads dataset.mask_ratio" in refused("dataset", "mask_ratio", 0.5)
    assert "dataset.seq_len is 3; built here: 1" in refused("dataset", "seq_len", 3)
    name = CONFIGS[0].stem
    assert "CRL_CNN" in name
    assert "--masking_ratio has no effect" in refused("dataset", "masking_ratio", 0.5)
    assert "--num_patches has no effect" in refused("backbone", "num_patches", 60)
    for text in ("{", "[1]"):
        path.write_text(text)
        with pytest.raises(UserError, match="cannot read this --config file"):
            ssl_training.parse_args(["--config", str(path)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--objective", "masked", "--temperature", "0.1"], "--temperature has no effect"),
        (["--objective", "contrastive", "--loss_on", "masked"], "--loss_on has no effect"),
        (["--encoder", "resnet"], "--encoder resnet: there are cnn"),
        (["--objective", "masked", "--masking_ratio", "1"], "between 0 and 1"),
        (["--temperature", "0"], "a number above 0"),
    ],
)
def test_settings_without_effect_are_refused(words, message):
    with pytest.raises(UserError, match=message):
        ssl_training.parse_args(words)


# training ---------------------------------------------------------------------------------------


def pretrain(store, project: Path, *words: str) -> Path:
    paths = ["--data_path", str(store.path), "--project_path", str(project)]
    quick = ["--n_epochs", "1", "--logger", "csv", "--accelerator", "cpu", "--batch_size", "32"]
    ssl_training.main([*paths, *quick, *words])
    return sorted(project.glob("ssl_*"))[-1]


def test_pretraining_reads_training_and_validation_subjects_only(store, tmp_path, monkeypatch):
    opened = []
    original = type(store).night

    def night(self, recording):
        opened.append(recording)
        return original(self, recording)

    monkeypatch.setattr(type(store), "night", night)
    run = pretrain(store, tmp_path, "--encoder", "transformer", "--objective", "masked")
    checkpoint = load_checkpoint(run / "checkpoints" / "best.pt")
    subjects = checkpoint.training.subjects
    held_out = set(store.of_subjects(subjects["held_out"]))
    assert held_out and not held_out & set(opened)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["val_loss"] > 0 and "val_kappa" not in rows[0]
    assert (run / "curve.png").exists()


def test_a_pretraining_resumes_bit_for_bit(store, tmp_path):
    from tests.test_training import same_state

    words = ["--encoder", "transformer_small", "--objective", "hybrid", "--balance", "False"]
    words += ["--schedule", "step"]  # which has no length of its own
    whole = pretrain(store, tmp_path / "a", *words, "--n_epochs", "2")
    pretrain(store, tmp_path / "b", *words)
    again = pretrain(store, tmp_path / "b", *words, "--n_epochs", "2")
    assert same_state(whole, again)
    row = json.loads((whole / "metrics.jsonl").read_text().splitlines()[0])
    assert row["train_loss"] == pytest.approx(
        row["train_masked"] + row["train_contrastive"], rel=1e-4
    )


def test_all_folds_and_wrong_ones(store, tmp_path):
    pretrain(store, tmp_path, "--encoder", "tinysleepnet", "--fold", "all")
    assert len(list(tmp_path.glob("ssl_contrastive_tinysleepnet_fold*"))) == 3
    for fold in ("3", "-1", "-3", "1.0", "first", "", "²"):
        with pytest.raises(UserError, match="--fold takes 0 to 2 or 'all'"):
            pretrain(store, tmp_path, f"--fold={fold}")


@pytest.mark.parametrize("width", ["-1", "0", "512,0", "512,-128", "a"])
def test_widths_of_a_projection_are_above_0(store, tmp_path, width):
    with pytest.raises(UserError, match=r"--projection_hidden: .* whole numbers from 1 on"):
        pretrain(store, tmp_path, f"--projection_hidden={width}")


@pytest.mark.parametrize("n", [7, 11, 64, 2999, 3001, 10**9])
def test_patches_fill_an_epoch(store, tmp_path, n):
    words = ["--objective", "masked", "--encoder", "cnn", "--patch_samples", str(n)]
    with pytest.raises(UserError, match=f"--patch_samples {n}: epochs of 3000 samples"):
        pretrain(store, tmp_path, *words)
    assert not list(tmp_path.rglob("*.pt"))
