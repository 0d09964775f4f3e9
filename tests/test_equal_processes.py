"""One, two and three processes train the same: six steps of every objective, to eight digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn

import models
from datasets.store.batches import Batch, Windows, listed_windows
from datasets.store.nights import NightBatches, in_batches
from models.foundation import Encoded
from models.pretraining import Predicted
from objectives.augmentation import AUGMENTATIONS, Augmented, clipping, composed
from objectives.contrast_views import views_of
from objectives.contrastive import Contrastive
from objectives.denoising import Denoising
from objectives.hybrid import Balance, Hybrid
from objectives.latent_prediction import LatentPrediction
from objectives.masked import MaskedPrediction
from objectives.masks import Masks
from objectives.night_staging import NightStaging
from objectives.staging import Staging
from objectives.vicreg import VicReg
from tests.together import join_group, run_together
from training.foundation_family import freeze_unused
from training.frozen_encoder import EncodedBatch
from training.loop import Plan, train_pass
from training.resume import Learner, Position
from training.validation import mean_figures

STEPS, PROCESSES = 6, (1, 2, 3)
NIGHTS = {"roles": ("EEG", "EOG"), "fs": 10.0, "d_model": 8, "n_heads": 2, "dim_feedforward": 8,
          "local_layers": 1, "layers": 1, "dropout": 0.0}  # fmt: skip


@dataclass(frozen=True)
class Nights:
    """A view of random nights (n epochs, c, t), some of whose epochs are unscored."""

    signals: Tensor
    stages: Tensor
    lengths: np.ndarray
    resident: bool = True

    def read(self, windows: list[Windows], length: int):
        offsets = np.concatenate(([0], np.cumsum(self.lengths)))
        for nights, first, keys in windows:
            index = torch.from_numpy((offsets[nights] + first)[:, None] + np.arange(length))
            yield Batch(self.signals[index], self.stages[index], nights, first, keys)


def nights_of(channels: int, n_samples: int, lengths: tuple[int, ...] = (40, 60)) -> Nights:
    generator = torch.Generator().manual_seed(1)
    signals = torch.randn(sum(lengths), channels, n_samples, generator=generator)
    stages = torch.randint(-1, 5, (sum(lengths),), generator=generator)
    return Nights(signals.double(), stages, np.array(lengths))


def windows_of(view: Nights, length: int, batch_size: int) -> Any:
    """Windows by chance, the last batch with two of them."""
    rng = np.random.default_rng(5)
    n = batch_size * (STEPS - 1) + 4
    nights = rng.integers(len(view.lengths), size=n)
    first = rng.integers(0, view.lengths[nights] - length + 1)
    return listed_windows(view, length, batch_size, Windows(nights, first), rng)


class Tiny(nn.Module):
    """An encoder of epochs with batch norm, a projection and a decoder, both optional."""

    def __init__(self, decoder: bool = True, projection: bool = True) -> None:
        super().__init__()
        from models.batch_norm import BatchNorm, ChannelBatchNorm

        self.encoder = nn.Sequential(nn.Conv1d(1, 6, 10, stride=10), ChannelBatchNorm(6), nn.ReLU())
        self.projection = None
        if projection:
            layers = nn.Linear(6, 8), BatchNorm(8), nn.ReLU(), nn.Linear(8, 8)
            self.projection = nn.Sequential(*layers)
        self.decoder = nn.ConvTranspose1d(6, 1, 10, stride=10) if decoder else None

    def forward(self, x: Tensor, hidden: Tensor | None = None):
        if hidden is None:
            return self.projection(self.encoder(x).mean(dim=-1)), None
        return None, Predicted(self.decoder(self.encoder(x.masked_fill(hidden[:, None], 0.0))))


@dataclass(frozen=True)
class Case:
    """What is trained: a model, an objective, and batches that are shared."""

    net: Callable[[], nn.Module]
    objective: Any
    batches: Callable[[], Any]
    freeze: Callable[[nn.Module], None] = lambda net: None


def staging(name: str, objective: Any, *, channels=1, n_samples=600, length=3, **settings) -> Case:
    """A staging model on windows or longer runs of a few epochs."""
    view = nights_of(channels, n_samples)
    return Case(
        partial(models.build, name, n_samples=n_samples, **settings),
        objective,
        partial(windows_of, view, length, 4),
    )


def ssl(objective: Any, **parts: bool) -> Case:
    """Pretraining of single epochs."""
    return Case(partial(Tiny, **parts), objective, partial(windows_of, nights_of(1, 300), 1, 7))


def whole_nights(name: str, objective: Any, **settings) -> Case:
    """Batches of two nights, the last of one: fewer than there are processes."""
    view = nights_of(2, 300, (7, 9, 8, 6, 5))
    view.signals[:9, 1, :150] = float("nan")

    def batches() -> NightBatches:
        listed = in_batches(view, 2, longest=6, seed=3)
        return replace(listed, pieces=(listed.pieces * STEPS)[:STEPS])

    freeze = partial(freeze_unused, objective) if isinstance(objective, Denoising) else None
    return Case(
        partial(models.build, name, **NIGHTS, **settings),
        objective,
        batches,
        freeze or (lambda net: None),
    )


def read_encoded(view: Nights, pieces: Any) -> EncodedBatch:
    """Tokens that stand for what a frozen encoder makes of pieces."""
    rows = []
    for piece in pieces:
        tokens = torch.zeros(2, 9, 8, dtype=torch.double)
        tokens[:, : piece.length] = view.signals[: piece.length, :, :8].transpose(0, 1)
        valid = torch.zeros(2, 9, dtype=torch.bool)
        valid[:, : piece.length] = True
        stages = torch.full((9,), -1)
        if not piece.stand_in:
            stages[: piece.length] = view.stages[piece.first : piece.first + piece.length]
        rows.append((tokens, valid, stages))
    tokens, valid, stages = map(torch.stack, zip(*rows, strict=True))
    keys = np.array([piece.key for piece in pieces])
    return EncodedBatch(Encoded(tokens, valid), stages, keys)


def probe() -> Case:
    """A head on encoded nights."""
    case = whole_nights("foundation", NightStaging(role_p=0.3, reads_encoded=True), head="linear")
    view = nights_of(2, 300, (7, 9, 8, 6, 5))

    def batches() -> NightBatches:
        return replace(case.batches(), read=partial(read_encoded, view))

    return replace(case, batches=batches, freeze=lambda net: net.encoder.requires_grad_(False))


def cases() -> dict[str, Case]:
    """Every objective, on the smallest model that it trains."""
    cmt = {"channels": 2, "n_samples": 300, "d_model": 8, "dim_feedforward": 8, "window_size": 150,
           "dropout": 0.0}  # fmt: skip
    small = MaskedPrediction(patch=50)
    contrast = Contrastive(views_of("benchmark"))
    return {
        "sum over positions": staging("sequence_cmt", Staging(), num_seq=3, length=5, **cmt),
        "single epochs": staging("epoch_cmt", Staging(over_positions="mean"), length=1, **cmt),
        "every augmentation": staging(
            "epoch_cmt",
            Augmented(Staging(), composed([*AUGMENTATIONS], 0.5)),
            **cmt | {"n_samples": 3000, "window_size": 1500},
        ),
        **{
            f"masked by {kind}": ssl(MaskedPrediction(masking=kind), projection=False)
            for kind in ("patch", "fixed_proportion_random", "probabilistic_random")
        },
        "masked visible": ssl(
            MaskedPrediction(loss_on="visible", norm_patches=True), projection=False
        ),
        "masked difference": ssl(
            MaskedPrediction(masking="probabilistic_random", target="difference"), projection=False
        ),
        "masked spectrum": ssl(MaskedPrediction(target="log_spectrum"), projection=False),
        "contrastive": ssl(Augmented(contrast, clipping(2.0)), decoder=False),
        "contrastive sleepyco": ssl(Contrastive(views_of("sleepyco")), decoder=False),
        "latent": Case(
            partial(
                models.build,
                "pretraining",
                encoder="transformer_small",
                n_samples=300,
                n_patches=10,
                predicts=["latent"],
                decoder_depth=1,
                projection=[],
            ),
            LatentPrediction(Masks("block", 0.5, 30), decay=0.8),
            partial(windows_of, nights_of(1, 300), 1, 7),
        ),
        "contrastive queue": ssl(Contrastive(views_of("benchmark"), queue=20), decoder=False),
        "vicreg": ssl(VicReg(views_of("benchmark")), decoder=False),
        "hybrid": ssl(Hybrid(small, contrast, alpha=0.5)),
        "hybrid balanced": ssl(Hybrid(small, contrast, balance=Balance(every=2))),
        **{
            f"denoising {kind}": whole_nights("foundation_pretraining", Denoising(kind))
            for kind in ("both", "masked", "denoise")
        },
        "denoising signals": whole_nights(
            "foundation_pretraining", Denoising(target="signal"), target="signal"
        ),
        "denoising spectra": whole_nights(
            "foundation_pretraining", Denoising(target="spectrum"), target="spectrum"
        ),
        "nights": whole_nights("foundation", NightStaging(role_p=0.3), head="linear"),
        "nights focal": whole_nights(
            "foundation",
            NightStaging(gamma=2.0, weights=[1, 2, 1, 2, 2], smoothing=0.1, trim=2),
            head="linear",
        ),
        "nights in pieces": whole_nights(
            "foundation", NightStaging(role_p=0.3, piece=3), head="linear"
        ),
        "encoded nights": probe(),
    }


def families() -> dict[str, Case]:
    """Every family with batch norm: one, two and three processes normalise by the same batch."""
    mean = partial(Staging, over_positions="mean")
    return {
        "chambon2018": staging(
            "chambon2018", mean(), num_seq=3, context_dropout=0.0, batch_norm=True
        ),
        "deepsleepnet": staging(
            "deepsleepnet", mean(), num_seq=3, fs=20.0, dropout=0.0, context=False
        ),
        "image network": staging(
            "shufflenet_v2_x0_5", mean(), num_seq=3, fs=20.0, dropout=0.0, width=8
        ),
        "cnn": staging("cnn", mean(), length=1, n_samples=500),
    }


def trained(case: Case, fabric: Any, steps: int) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of every step and of validation, and the weights at the end."""
    torch.manual_seed(0)
    net = case.net().double()
    case.freeze(net)
    case.objective.attach(net, fabric.device)
    chosen = [p for p in net.parameters() if p.requires_grad]
    # not Adam, which makes steps of one size of gradients that are 0 but for rounding
    model, optimizer = fabric.setup(net, torch.optim.SGD(chosen, lr=0.02, momentum=0.9))
    losses = []

    def objective(model: nn.Module, batch: Any):
        loss, logs = case.objective(model, batch)
        losses.append(loss.detach())
        return loss, logs

    learner = Learner(net, model, optimizer, None, objective)
    listed = case.batches().for_process(fabric.global_rank, fabric.world_size).until(steps)
    never = SimpleNamespace(wanted=False)
    assert train_pass(fabric, learner, listed, Position(), Plan(1, grad_clip=5.0), never)
    validated = mean_figures(case.objective, model, listed, fabric)
    losses = fabric.all_reduce(torch.stack(losses), reduce_op="mean").tolist()
    return [*losses, validated["loss"]], net.state_dict()


def work(rank: int, folder: Path) -> None:
    """Train all cases in groups of one, two and three processes, this being one of them."""
    from lightning_fabric import Fabric

    torch.set_default_dtype(torch.float64)
    for n in PROCESSES:
        if rank < n:
            if n > 1:
                join_group(rank, n, folder / f"meet{n}")
            fabric = Fabric(accelerator="cpu", strategy="ddp" if n > 1 else "auto", devices=n)
            fabric.launch()
            results = {name: trained(case, fabric, STEPS) for name, case in cases().items()}
            results |= {name: trained(case, fabric, 2) for name, case in families().items()}
            torch.save(results, folder / f"{n}_{rank}.pt")
            if n > 1:
                distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[tuple[int, int], Any]:
    """Losses and weights by number of processes and rank."""
    folder = tmp_path_factory.mktemp("together")
    run_together(max(PROCESSES), work, folder)
    return {
        (n, rank): torch.load(folder / f"{n}_{rank}.pt") for n in PROCESSES for rank in range(n)
    }


@pytest.mark.parametrize("name", [*cases(), *families()])
def test_one_two_and_three_processes_train_the_same(results, name):
    losses, state = results[1, 0][name]
    assert len(losses) > 2 and np.isfinite(losses).all()
    assert losses[0] != losses[1]
    for which in ((2, 0), (2, 1), (3, 0), (3, 2)):
        theirs, other = results[which][name]
        np.testing.assert_allclose(theirs, losses, rtol=1e-8, err_msg=f"{which}")
        for key, value in state.items():
            torch.testing.assert_close(
                other[key], value, rtol=1e-8, atol=1e-8, msg=f"{which} {key}"
            )
