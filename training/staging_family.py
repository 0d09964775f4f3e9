"""Training of the published staging models: settings, batches, objective, optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from datasets.store import sampling
from datasets.store.views import Batches, View
from models import backbone_names, is_stateful
from objectives.augmentation import Augmented, composed
from objectives.similarity import SimilarityStaging
from objectives.staging import Staging
from objectives.stateful import StatefulStaging
from training.flags import OptimiserFlags, TrainingSettings
from training.starting_weights import fit_scaling
from training.windows import WINDOWS_PER_RUN, layout
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.runs import Run

Passes = Callable[[View, int, int, int], Any]


@dataclass(frozen=True)
class ZooModelFlags:
    """The model, its window and its store."""

    experiment: str
    dataset: str | None
    version: str | None
    num_seq: int
    sequence_encoder: str
    all_folds: bool
    n_jobs: int


@dataclass(frozen=True)
class RecipeFlags:
    """Loss, training windows and augmentation; ``weights``: one per stage, or "balanced"."""

    loss: str
    similarity: bool
    weights: list[float] | str
    sampling: str
    train_stride: int
    augment: list[str]
    augment_p: float
    night_shift: float
    first_epochs: int
    encoder_lr: float | None
    val_check_interval: int


@dataclass(frozen=True)
class StagingSettings(TrainingSettings):
    """All settings of ``staging_training.py``."""

    optimiser: OptimiserFlags
    model: ZooModelFlags
    recipe: RecipeFlags


@dataclass(frozen=True)
class Encoder:
    """An epoch encoder that was trained first: ``parts`` of the best checkpoint of its run."""

    run: Run
    parts: tuple[str, ...]

    def weights(self) -> dict[str, torch.Tensor]:
        """Weights of the encoder alone, by their names in the whole model."""
        # a part is a module of the model, whose name begins the names of its weights
        state = load_checkpoint(self.run.checkpoint("best")).state
        return {name: value for name, value in state.items() if name.split(".")[0] in self.parts}

    def of(self, net: nn.Module) -> list[nn.Parameter]:
        """Parameters of the encoder in ``net``."""
        return [p for part in self.parts for p in net.get_submodule(part).parameters()]


def settings_of(model: ZooModelFlags, view: View) -> dict[str, Any]:
    """Settings of the model for ``models.build``."""
    settings = {"n_samples": view.n_samples}
    # cross-modal transformers take one modality per channel and know no sampling rate
    if model.experiment.endswith("_cmt"):
        settings["n_modalities"] = len(view.columns)
    else:
        settings |= {"n_channels": len(view.columns), "fs": view.fs}
    if model.experiment != "epoch_cmt":
        settings["num_seq"] = model.num_seq
    if model.experiment in backbone_names():
        settings["sequence_encoder"] = model.sequence_encoder
    return settings


def objective_of(settings: StagingSettings, view: View) -> Any:
    """Cross-entropy over windows or parallel nights, with the changes that the flags add."""
    recipe = settings.recipe
    weights = balanced(view) if recipe.weights == "balanced" else recipe.weights
    if is_stateful(settings.model.experiment):
        objective = StatefulStaging(weights, length=settings.model.num_seq)
    else:
        # a mean over the window, whose size does not depend on --num_seq
        objective = Staging(weights, over_positions="mean", stride=recipe.train_stride)
    if recipe.loss == "scl":
        objective = SimilarityStaging(objective)
    if not recipe.augment:
        return objective
    return Augmented(objective, composed(recipe.augment, recipe.augment_p))


def balanced(view: View) -> list[float]:
    """Weights inverse to each stage's share of the training epochs, with mean 1; absent ones 0."""
    counts = torch.from_numpy(view.class_counts()).double()
    weights = torch.where(counts > 0, counts.sum() / counts.clamp_min(1), 0.0)
    return (weights * len(weights) / weights.sum()).tolist()


def batches_of(settings: StagingSettings, view: View, processes: int) -> Passes:
    """Batches of a pass: parallel nights, class-balanced windows, or runs encoded once."""
    model, recipe, seed = settings.model, settings.recipe, settings.run.seed
    batch_size = settings.optimiser.batch_size
    # a state is carried from one batch to the next, so nights must be read in their order
    if is_stateful(settings.model.experiment):
        return parallel_nights(model.num_seq, batch_size, recipe.night_shift, seed)
    if recipe.sampling == "balanced":
        return balanced_windows(model.num_seq, batch_size, seed)
    shape = layout(
        view,
        length=model.num_seq,
        stride=recipe.train_stride,
        windows=WINDOWS_PER_RUN,
        batch_size=batch_size,
        processes=processes,
    )

    def batches(view: View, number: int, rank: int, processes: int) -> Batches:
        return shape.batches(view, [seed, number], rank, processes)

    return batches


def parallel_nights(num_seq: int, batch_size: int, night_shift: float, seed: int) -> Passes:
    """Batches of ``batch_size`` nights side by side, ``num_seq`` epochs per step."""

    def batches(view: View, number: int, rank: int, processes: int) -> Any:
        if night_shift:
            return sampling.moved_parallel_nights(
                view, num_seq, batch_size, share=night_shift, seed=[seed, number]
            )
        return sampling.parallel_nights(view, num_seq, batch_size, seed=[seed, number])

    return batches


def balanced_windows(num_seq: int, batch_size: int, seed: int) -> Passes:
    """Batches of windows whose middle epoch has each stage equally often."""

    def batches(view: View, number: int, rank: int, processes: int) -> Batches:
        listed = sampling.class_balanced_windows(
            view, num_seq, (num_seq - 1) // 2, batch_size=batch_size, seed=[seed, number]
        )
        return listed.for_process(rank, processes)

    return batches


def checked_every(steps: int, batches: Passes, view: View, processes: int) -> tuple[int, Passes]:
    """Validations per pass, about ``steps`` apart (0: one), and the batches between two of them."""
    whole = len(batches(view, 0, 0, processes))
    checks = max(1, round(whole / steps)) if steps else 1

    def part(view: View, number: int, rank: int, processes: int) -> Any:
        # ``number`` counts parts: all parts of one pass are cut from the same shuffled batches
        listed, k = batches(view, number // checks, rank, processes), number % checks
        return listed.until(len(listed) * (k + 1) // checks).after(len(listed) * k // checks)

    return checks, part


def initialise_from_training_data(encoder: Encoder | None, net: nn.Module, view: View) -> None:
    """Fit the scaling of spectrograms on the training nights; load the encoder trained first."""
    if net.spectrogram is not None:
        fit_scaling(net, view)
    if encoder is not None:
        # not strict: all other parts keep their random weights
        net.load_state_dict(encoder.weights(), strict=False)


def optimiser(
    objective: Any,
    device: torch.device,
    encoder: Encoder | None,
    recipe: RecipeFlags,
    steps: OptimiserFlags,
    net: nn.Module,
) -> tuple[Any, Any]:
    """Adam with L2 on the weights that the model's paper names, or on all.

    An encoder that was trained first has a learning rate of its own; at 0 it is frozen.
    """
    # by identity: parameters have no names here, and tensors compare element by element
    rates, kept = {id(p): steps.lr for p in net.parameters()}, set()
    if encoder is not None and recipe.encoder_lr is not None:
        rates |= {id(p): recipe.encoder_lr for p in encoder.of(net)}
        kept = {id(p) for p in encoder.of(net) if not recipe.encoder_lr}
    decayed = {id(p) for p in net.decayed_parameters()}
    # (learning rate, L2) -> its parameters
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in net.parameters():
        if id(parameter) in kept:
            parameter.requires_grad_(False)
            continue
        decay = steps.weight_decay if id(parameter) in decayed else 0.0
        groups.setdefault((rates[id(parameter)], decay), []).append(parameter)
    # the objective's projection trains with the model, without L2
    if recipe.loss == "scl":
        groups.setdefault((steps.lr, 0.0), []).extend(attached(objective, net, device))
    optimizer = torch.optim.Adam(
        [{"params": p, "lr": lr, "weight_decay": d} for (lr, d), p in groups.items()],
        lr=steps.lr,
        betas=(steps.beta_1, steps.beta_2),
        eps=steps.eps,
        fused=True,
    )
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, steps.step_size, steps.gamma)


def attached(objective: Any, net: nn.Module, device: torch.device) -> list[nn.Parameter]:
    """Attach the similarity loss's projection to the model's head; returns its weights."""
    try:
        return objective.attach(net, device)
    except ValueError as error:
        raise UserError(f"--loss scl: {error}; use --loss cel") from error
