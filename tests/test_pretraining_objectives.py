"""What pretraining predicts, compares and balances, on cases whose answer is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import models
import ssl_training
from datasets.store.batches import Batch
from datasets.store.views import View
from models.epoch_encoders import PatchEncoder, pooled
from models.pretraining import Predicted
from objectives.contrastive import Contrastive
from objectives.draws import Draws
from objectives.hybrid import Balance, Hybrid, gradient_norm
from objectives.latent_prediction import LatentPrediction
from objectives.masked import MaskedPrediction, log_power
from objectives.masks import Masks
from objectives.vicreg import WEIGHTS, VicReg, terms
from tests.test_training import same_state
from training.pretraining_nights import Reading, limited, neighbours, night_power
from utils.checkpoint import load_checkpoint
from utils.errors import UserError


def draws(n: int) -> Draws:
    return Draws(np.arange(n), "masks", torch.device("cpu"))


def batch_of(n: int = 4, width: int = 1) -> Batch:
    """Noise, whose log powers are those of its nights but for chance."""
    torch.manual_seed(0)
    none, zero = torch.zeros(n, 1), np.zeros(n, int)
    signals = torch.randn(n, width, 1, 3000)
    return Batch(signals, none, zero, zero, np.arange(n), night_power=torch.zeros(n, 1, 51))


def small(predicts=("signal", "power"), **settings) -> nn.Module:
    torch.manual_seed(0)
    return models.build(
        "pretraining",
        encoder="transformer_small",
        decoder=bool(predicts),
        predicts=predicts,
        decoder_depth=2,
        projection=[],
        **settings,
    )


# masks ------------------------------------------------------------------------------------------


def runs_in(row: torch.Tensor) -> list[int]:
    """Lengths of the runs of True in a row, in its unit."""
    edges = torch.diff(row.int(), prepend=torch.zeros(1), append=torch.zeros(1))
    return (torch.nonzero(edges < 0) - torch.nonzero(edges > 0)).flatten().int().tolist()


@pytest.mark.parametrize("ratio", [0.5, 0.6, 0.75])
@pytest.mark.parametrize("patch", [50, 100])
def test_blocks_have_their_share_and_last_one_to_three_seconds(ratio, patch):
    hidden = Masks("block", ratio, patch).draw(3000, draws(200))
    assert (hidden.sum(dim=1) == round(ratio * 3000 / patch) * patch).all()
    seconds = [length / 100 for row in hidden for length in runs_in(row)]
    assert min(seconds) == 1.0 and max(seconds) == 3.0
    assert len({tuple(row.tolist()) for row in hidden}) > 100  # a second has few places
    if patch == 100 and ratio == 0.75:
        return  # nearly all that is visible keeps blocks apart, which leaves few places for them
    # every patch is hidden as often as the others, but for the first and the last few of an epoch
    often = hidden.float().mean(dim=0)[600:-600]
    assert (often - ratio).abs().max() < 0.15
    both_ends = hidden[:, 0].any() and hidden[:, -1].any()
    assert both_ends and not hidden[:, 0].all() and not hidden[:, -1].all()


@pytest.mark.parametrize(("ratio", "patch"), [(0.95, 50), (0.01, 50), (0.5, 500), (0.5, 3000)])
def test_blocks_that_cannot_be_are_refused(ratio, patch):
    with pytest.raises(ValueError, match="blocks of 1 to 3 s"):
        Masks("block", ratio, patch).draw(3000, draws(2))


def test_the_transformer_is_not_given_hidden_blocks():
    net, batch = small().eval(), batch_of()
    hidden = Masks("block", 0.6, 50).draw(3000, draws(4))
    read = []
    net.encoder.norm.register_forward_pre_hook(lambda module, x: read.append(x[0].shape))
    with torch.no_grad():
        one = net(batch.signals[:, 0], hidden=hidden)[1]
        other = net(torch.where(hidden[:, None], 99.0, batch.signals[:, 0]), hidden=hidden)[1]
    assert read == [(4, 1 + 24, 64)] * 2
    assert torch.equal(one.signal, other.signal) and torch.equal(one.power, other.power)


# masked prediction ------------------------------------------------------------------------------


def test_log_power_of_a_sine_and_of_noise():
    seconds = torch.arange(3000, dtype=torch.float64) / 100
    sine = torch.cos(2 * math.pi * 10 * seconds)[None, None]
    power = log_power(sine, 50)
    assert power.shape == (1, 1, 60, 51)
    # of a Hann window of 1 s: all at 10 Hz and, with half the amplitude, 1 Hz beside it
    height = 100 / 6  # A**2 N / 6
    inside = power[0, 0, 1:-1]  # frames at the ends are mirrored
    known = torch.full((51,), math.log(1e-3), dtype=torch.float64)
    known[9:12] = torch.log(torch.tensor([height / 4, height, height / 4]) + 1e-3)
    assert torch.allclose(inside, known.expand_as(inside), atol=1e-6)
    torch.manual_seed(0)
    noise = log_power(torch.randn(40, 1, 3000), 50).exp()
    assert noise[..., 2:-2].mean() == pytest.approx(1.0, rel=0.02)
    assert noise.shape[-1] == 51 and torch.allclose(log_power(-sine, 50), power)


class Given(nn.Module):
    """Predicts what it is given, garbage in some places."""

    def __init__(self, power: torch.Tensor, signal: torch.Tensor, garbage_on: str) -> None:
        super().__init__()
        self.power, self.signal, self.garbage_on = power, signal, garbage_on

    def forward(self, x, hidden=None):
        where = hidden if self.garbage_on == "hidden" else ~hidden
        patches = where.unflatten(1, (-1, 50))[:, None, :, :1]
        power = torch.where(patches, 1e3, self.power)
        return None, Predicted(torch.where(where[:, None], 1e3, self.signal), power)


def test_only_hidden_patches_and_samples_count():
    batch = replace(batch_of(), night_power=torch.randn(4, 1, 51))
    x = batch.signals[:, 0]
    wanted = log_power(x, 50) - batch.night_power[:, :, None]
    objective = MaskedPrediction(masking="block", ratio=0.6, target="both")
    loss, parts = objective(Given(wanted, x, "visible"), batch)
    assert loss == 0 and parts == {"power": 0, "signal": 0}
    _, parts = objective(Given(wanted, x, "hidden"), batch)
    assert parts["power"] > 1e5 and parts["signal"] > 1e5
    # off by 2 in the log, by 3 in the sample: squares, and their sum
    loss, parts = objective(Given(wanted + 2, x - 3, "visible"), batch)
    assert (float(parts["power"]), float(parts["signal"])) == pytest.approx((4, 9), rel=1e-5)
    assert float(loss) == pytest.approx(13, rel=1e-5)
    power = MaskedPrediction(masking="block", ratio=0.6, target="log_power")
    loss, parts = power(Given(wanted + 2, x - 3, "visible"), batch)
    assert float(loss) == pytest.approx(4, rel=1e-5) and parts == {}
    with pytest.raises(ValueError, match="whole patches"):
        MaskedPrediction(target="both", masking="fixed_proportion_random")
    with pytest.raises(ValueError, match="norm_patches has no effect"):
        MaskedPrediction(target="log_power", norm_patches=True)


@pytest.mark.parametrize("encoder", ["cnn", "tinysleepnet"])
def test_other_encoders_predict_powers_too(encoder):
    built = {"encoder": encoder, "predicts": ["power"], "patch": 100, "projection": []}
    net = models.build("pretraining", n_channels=2, **built)
    hidden = Masks("block", 0.5, 100).draw(3000, draws(2))
    predicted = net(torch.randn(2, 2, 3000), hidden=hidden)[1]
    assert predicted.power.shape == (2, 2, 30, 101) and predicted.signal is None


def test_a_nights_mean_log_power_and_its_neighbours_come_with_a_batch(store):
    view = View(store, list(store.recordings), channels=["EEG"])
    listed = Reading(32, reach=2, patch=50, clip=20.0).epochs(view, [0, 1]).until(2)
    plain = list(view.epochs(32, seed=[0, 1]).until(2))
    means = night_power(view, 50, 20.0)
    signals = {name: x for name, x, _ in view.whole_nights()}
    name = view.recordings[0]
    by_hand = log_power(signals[name].clamp(-20, 20), 50).mean(dim=(0, 2))
    assert torch.allclose(means[0], by_hand, atol=1e-4)
    for batch, before in zip(listed, plain, strict=True):
        assert torch.equal(batch.signals[:, :1], before.signals)
        assert torch.equal(batch.stages, before.stages)
        assert torch.equal(batch.night_power, means[torch.from_numpy(batch.nights)])
        for night, first, (_, other) in zip(batch.nights, batch.first, batch.signals, strict=True):
            night_signals = signals[view.recordings[night]]
            (epoch,) = torch.nonzero((night_signals == other).all(dim=(1, 2)))[:, 0].tolist()
            assert abs(epoch - first) <= 2


def test_neighbours_lie_within_reach_and_within_the_night():
    first, lengths = np.tile([0, 1, 5, 9], 500), np.full(2000, 10)
    other = neighbours(first, lengths, 2, np.arange(2000))
    reached = [sorted(set(other[first == k].tolist())) for k in (0, 1, 5, 9)]
    assert reached == [[0, 1, 2], [0, 1, 2, 3], [3, 4, 5, 6, 7], [7, 8, 9]]
    assert (neighbours(np.zeros(50, int), np.ones(50, int), 2, np.arange(50)) == 0).all()


# latents ----------------------------------------------------------------------------------------


def test_latents_are_read_as_asked():
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 2.0]]])
    assert torch.allclose(pooled(tokens, "mean_sd"), torch.tensor([[2.0, 2.0, 1.0, 1e-3]]))
    assert torch.allclose(pooled(tokens, "mean"), torch.tensor([[2.0, 2.0]]))
    x = torch.randn(2, 1, 3000)
    for pool, width in (("cls", 64), ("mean", 64), ("mean_sd", 128)):
        net = small(pool=pool).encoder.eval()
        every = net(x)
        known = every[:, 0] if pool == "cls" else pooled(every[:, 1:], pool)
        assert net.width == width and torch.equal(net.latent(x), known)
    assert PatchEncoder().pool == "cls" and PatchEncoder(use_cls=False).pool == "mean"
    cnn = models.build("pretraining", encoder="cnn", pool="mean_sd", decoder=False).encoder
    assert cnn.latent(x).shape == (2, cnn.width) == (2, 256)
    with pytest.raises(ValueError, match="cls needs use_cls"):
        PatchEncoder(use_cls=False, pool="cls")


def test_the_teacher_follows_by_its_decay_in_training_alone():
    net, objective = small(("latent",)), LatentPrediction(Masks("block"), decay=0.75)
    assert objective.attach(net, torch.device("cpu")) == []
    first = [p.detach().clone() for p in objective.teacher.parameters()]
    with torch.no_grad():
        for p in net.encoder.parameters():
            p.add_(1.0)
    loss, _ = objective(net.eval(), batch_of())
    assert all(map(torch.equal, first, objective.teacher.parameters()))
    for weight in (0.25, 0.25 + 0.75 * 0.25):  # 1 - 0.75, then of what is left
        objective(net.train(), batch_of())
        for own, before in zip(objective.teacher.parameters(), first, strict=True):
            assert torch.allclose(own, before + weight, atol=1e-5)
    loss.backward()
    assert not any(p.requires_grad for p in objective.teacher.parameters())
    with pytest.raises(ValueError, match="below 1"):
        LatentPrediction(Masks("block"), decay=1.0)
    with pytest.raises(ValueError, match="whole patches"):
        LatentPrediction(Masks("fixed_proportion_random"))


def test_latent_targets_are_normalised_means_of_the_last_blocks_of_whole_epochs():
    net, objective = small(("latent",)), LatentPrediction(Masks("block", 0.6), layers=2)
    objective.attach(net, torch.device("cpu"))
    batch, outputs = batch_of(), []
    for block in objective.teacher.blocks:
        block.register_forward_hook(lambda module, x, out: outputs.append(out[:, 1:]))
    targets = objective.targets(batch.signals[:, 0])
    normalised = [
        (b - b.mean(dim=2, keepdim=True)) / (b.var(dim=2, correction=0, keepdim=True) + 1e-5).sqrt()
        for b in outputs[-2:]
    ]
    assert len(outputs) == 3 and torch.allclose(targets, sum(normalised) / 2, atol=1e-5)
    hidden = objective.masks.draw(3000, draws(4)).unflatten(1, (60, 50))[..., 0]

    class Exact(nn.Module):
        def forward(self, x, hidden=None):
            return None, Predicted(latent=torch.where(self.wrong[..., None], 1e3, targets))

    exact = Exact().eval()
    exact.wrong = ~hidden
    assert objective(exact, batch)[0] == 0
    exact.wrong = hidden
    assert objective(exact, batch)[0] > 1e5


# two views --------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Projects epochs by one matrix; views that change nothing make their cosines known."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Linear(3000, width, bias=False)

    def forward(self, x, hidden=None):
        return self.encoder(x[:, 0]), None


def same(x, draws):
    return x, draws


def test_a_queue_adds_its_negatives_to_info_nce():
    torch.manual_seed(0)
    model, objective = Linear(), Contrastive(same, temperature=0.5, queue=6)
    batches = [replace(batch_of(3, 2), signals=torch.randn(3, 2, 1, 3000)) for _ in range(3)]
    queued: list[torch.Tensor] = []
    for batch in batches:
        with torch.no_grad():
            z = model(batch.signals.transpose(0, 1).flatten(0, 1))[0]
        unit = z / z.norm(dim=1, keepdim=True)
        losses = []
        for i in range(6):
            j = (i + 3) % 6
            others = [unit[k] for k in range(6) if k != i] + queued
            exponents = [math.exp(float(unit[i] @ other) / 0.5) for other in others]
            losses.append(-math.log(math.exp(float(unit[i] @ unit[j]) / 0.5) / sum(exponents)))
        loss, _ = objective(model, batch)
        assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
        queued = [*queued, *unit][-6:]  # the oldest batch leaves it
        assert torch.allclose(torch.cat(objective.queued), torch.stack(queued), atol=1e-6)
    model.eval()
    without, _ = Contrastive(same, temperature=0.5)(model, batches[0])
    assert objective(model, batches[0])[0] == without  # validation compares from pass to pass
    assert torch.allclose(torch.cat(objective.queued), torch.stack(queued), atol=1e-6)
    more = Contrastive(same, queue=7)  # whole batches of six
    kept = []
    for batch in batches:
        more(model.train(), batch)
        kept.append(sum(map(len, more.queued)))
    assert kept == [6, 12, 12]


def test_positives_are_neighbours_where_a_batch_has_them():
    model, objective = Linear(), Contrastive(same)
    pair = batch_of(5, 2)
    itself = replace(pair, signals=pair.signals[:, :1])
    alike = replace(pair, signals=pair.signals[:, [0, 0]])
    assert objective(model, alike)[0] == objective(model, itself)[0]
    assert objective(model, pair)[0] > objective(model, itself)[0]


def test_vicreg_by_hand():
    one = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    other = torch.tensor([[2.0, 2.0], [-2.0, -2.0], [0.0, 0.0]])
    parts = terms(one, other)
    # squared differences 1, 4, 1, 4, 0, 0
    assert parts["invariance"].item() == pytest.approx(10 / 6)
    # deviations: 1 and 0 (0.01 by its epsilon), 2 and 2; distances below 1: 0, 0.99, none, none
    assert parts["variance"].item() == pytest.approx((0 + 0.99) / 2 / 2, abs=1e-4)
    # covariances 0 and 4: twice 16, over two dimensions
    assert parts["covariance"].item() == pytest.approx(2 * 16 / 2)
    model, batch = Linear(2), batch_of(6, 2)
    loss, parts = VicReg(same)(model, batch)
    assert loss.item() == pytest.approx(sum(WEIGHTS[k] * v.item() for k, v in parts.items()))
    assert WEIGHTS == {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}


# hybrid -----------------------------------------------------------------------------------------


class Scaled:
    """A loss on a model's weight whose gradient has a known norm."""

    def __init__(self, direction: list[float]) -> None:
        self.direction = torch.tensor(direction)

    def __call__(self, model, batch):
        return (model.encoder.weight * self.direction).sum(), {}

    def state_dict(self):
        return {}


def test_balanced_gradients_have_one_norm():
    model = SimpleNamespace(encoder=nn.Linear(2, 1, bias=False), training=True)
    first, second = Scaled([3.0, 4.0]), Scaled([0.0, 0.02])
    for alpha in (1.0, 0.5):
        hybrid = Hybrid(first, second, alpha=alpha, balance=Balance())
        hybrid.attach(model, torch.device("cpu"))
        _, logs = hybrid(model, None)
        weight = float(logs["contrastive_weight"])
        assert weight == pytest.approx(alpha * 5 / 0.02)
        norms = [
            float(gradient_norm(scale * loss(model, None)[0], [model.encoder.weight]))
            for loss, scale in ((first, 1.0), (second, weight))
        ]
        assert norms == pytest.approx([5.0, 5.0 * alpha])
    model.training = False  # in validation the plain sum, and nothing is measured
    total, logs = hybrid(model, None)
    plain = first(model, None)[0] + 0.5 * second(model, None)[0]
    assert total == plain and "contrastive_weight" not in logs and hybrid.balance.calls == 1


def test_norms_are_smoothed_measured_now_and_then_and_never_undefined():
    weight, balance = nn.Parameter(torch.ones(1)), Balance(every=2)

    def of(a: float, b: float) -> float:
        return float(balance.weight(((a * weight).sum(), (b * weight).sum()), [weight]))

    assert of(2.0, 1.0) == 2.0
    assert of(50.0, 1.0) == 2.0  # not measured
    assert of(12.0, 1.0) == pytest.approx(0.9 * 2 + 0.1 * 12)
    of(0.0, 0.0)
    assert of(0.0, float("nan")) == pytest.approx(3.0)  # kept
    resumed = Balance(every=2)
    resumed.load_state_dict(balance.state_dict())
    assert resumed.calls == balance.calls == 5 and torch.equal(resumed.norms, balance.norms)


# trainings --------------------------------------------------------------------------------------


def pretrain(store, project, *words: str):
    where = ["--data_path", str(store.path), "--project_path", str(project)]
    quick = ["--logger", "csv", "--accelerator", "cpu", "--batch_size", "16"]
    ssl_training.main([*where, *quick, "--encoder", "transformer_small", *words])
    return sorted(project.glob("ssl_*"))[-1]


@pytest.mark.parametrize(
    ("objective", "words", "kept"),
    [
        ("latent", [], {"teacher"}),
        ("hybrid", ["--queue", "50", "--precision", "bf16-mixed"], {"balance", "contrastive"}),
    ],
)
def test_what_objectives_keep_resumes_bit_for_bit(
    store, tmp_path, monkeypatch, objective, words, kept
):
    monkeypatch.setattr("training.train.report", lambda *args: None)  # no curve is drawn
    # the schedule is that of the whole training, interrupted after its first part
    words = ["--objective", objective, "--n_steps", "4", "--val_check_interval", "2", *words]
    whole = pretrain(store, tmp_path / "a", *words)
    pretrain(store, tmp_path / "b", *words, "--max_minutes", "1e-6")
    again = pretrain(store, tmp_path / "b", *words, "--max_minutes", "0")
    assert same_state(whole, again)
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) > 1 and all(1 <= row["val_rank_me"] <= 128 for row in rows)
    last = load_checkpoint(whole / "checkpoints" / "last.pt").progress
    assert last["schedule"]["last_epoch"] == 4
    assert set(last["objective"]) == kept
    if objective == "hybrid":
        assert rows[0]["train_contrastive_weight"] > 0
        assert last["objective"]["contrastive"]["queued"][0].shape == (32, 128)
    else:  # whose low loss may be a collapse: the last one is the best
        assert load_checkpoint(whole / "checkpoints" / "best.pt").passes == len(rows)


def test_a_training_ends_with_its_last_step():
    def batches(view, number, rank, processes):
        return range(7) if number % 2 == 0 else range(8)  # parts of a pass of 15

    class Listed(list):
        def until(self, n):
            return self[:n]

    def of(n_steps, n_epochs=None, accumulate=1):
        flags = SimpleNamespace(n_steps=n_steps, n_epochs=n_epochs, accumulate=accumulate)
        length, cut = limited(lambda *args: Listed(batches(*args)), 2, flags, None, 1)
        return (*length, [len(cut(None, k, 0, 1)) for k in range(length.passes)])

    assert of(7) == (1, 7, [7])
    assert of(8) == (2, 8, [7, 1])
    assert of(20) == (3, 20, [7, 8, 5])
    assert of(30) == (4, 30, [7, 8, 7, 8])
    assert of(100, n_epochs=1) == (2, 15, [7, 8])
    assert of(None, n_epochs=2) == (4, 30, [7, 8, 7, 8])
    assert of(5, accumulate=2) == (2, 5, [7, 2])  # four steps, the last of one batch; one more


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--objective", "latent"], "predicts tokens, which --encoder cnn has none of"),
        (["--objective", "masked", "--teacher_decay", "0.9"], "--teacher_decay has no effect"),
        (["--objective", "vicreg", "--queue", "4"], "--queue has no effect"),
        (["--objective", "masked", "--neighbours", "1"], "--neighbours has no effect"),
        (["--encoder", "tinysleepnet", "--pool", "mean"], "--pool has no effect"),
        (["--objective", "masked", "--decoder_blocks", "2"], "--decoder_blocks has no effect"),
        (["--schedule", "cosine", "--gamma", "0.5"], "--gamma has no effect"),
        (["--schedule", "step", "--warmup", "0.5"], "--warmup has no effect"),
        (["--objective", "hybrid", "--compile"], "add --balance False"),
        (["--keep_steps", "30,10"], "--keep_steps takes numbers in ascending order"),
        (["--keep_steps", "10,10"], "--keep_steps takes numbers in ascending order"),
        (["--objective", "masked", "--masking_type", "patch", "--target", "log_power",
          "--norm_patches"], "norm_patches has no effect"),
    ],
)  # fmt: skip
def test_what_would_have_no_effect_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        ssl_training.parse_args(words)


def test_tokens_are_the_patches_that_are_predicted(store, tmp_path):
    words = ["--objective", "masked", "--n_steps", "1"]
    with pytest.raises(UserError, match="60 tokens have 50 samples each"):
        pretrain(store, tmp_path, *words, "--patch_samples", "100")
    with pytest.raises(UserError, match=r"cannot hide 0\.97 of an epoch"):
        pretrain(store, tmp_path, *words, "--masking_ratio", "0.97")
    settings = ssl_training.parse_args([*words, "--encoder", "transformer", "--num_patches", "30"])
    assert settings.masked.patch_samples == 100


def test_the_rate_falls_in_steps_for_those_who_name_them():
    assert ssl_training.parse_args([]).optimiser.schedule == "cosine"
    old = ssl_training.parse_args(["--gamma", "0.5"]).optimiser
    assert (old.schedule, old.step_size, old.patience, old.warmup) == ("step", 30, 10, None)
    assert ssl_training.parse_args([]).optimiser.n_steps == 10_000
    assert ssl_training.parse_args(["--n_epochs", "3"]).optimiser.n_steps is None
