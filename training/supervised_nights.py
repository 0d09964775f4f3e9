"""A control of pretraining: the same encoder trained by all labels, in as many steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

import models
from datasets.store.views import View
from models.foundation import encoder_settings
from objectives.night_staging import NightStaging
from training import foundation_family
from training.flags import ScheduleFlags
from training.validation import BestWeights
from utils.checkpoint import Checkpoint
from utils.errors import UserError
from utils.files import read_json
from utils.staged_night import agreement

_CHECKS = 6  # validations per training


@dataclass(frozen=True)
class NightBudget:
    """What a pretraining was given up to its best pass: pieces of nights, steps, optimiser."""

    crop_hours: list[float]
    role_dropout: float
    steps: int
    optimiser: ScheduleFlags


def budget_of(checkpoint: Checkpoint, n_nights: int) -> NightBudget:
    """The budget of a run of ``foundation_training.py``, whose nights the control reads alike.

    ``n_nights`` of the training subjects, of which pretraining may have had some alone.

    Raises:
        UserError: the run's ``run.json`` is missing or lacks its flags.
    """
    path = checkpoint.run / "run.json"
    try:
        flags = read_json(path)["settings"]
        optimiser = ScheduleFlags(**{one.name: flags[one.name] for one in fields(ScheduleFlags)})
        crop, dropout = flags["crop_hours"], flags["role_dropout"]
        n_nights, last = flags.get("n_nights") or n_nights, flags.get("keep_steps")
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path}: has no settings of foundation_training.py; add --supervised False"
        ) from error
    hours = crop if isinstance(crop, list) else [crop]  # a number in runs of before
    steps = (checkpoint.passes or 1) * steps_per_pass(n_nights, optimiser)
    return NightBudget(hours, dropout, min(steps, last[-1]) if last else steps, optimiser)


def steps_per_pass(n_nights: int, optimiser: ScheduleFlags) -> int:
    """Optimiser steps of a sweep over nights, of each of which a batch has one piece."""
    n_batches = -(-n_nights // optimiser.batch_size)
    return -(-n_batches // optimiser.accumulate)


def supervised_encoder(
    checkpoint: Checkpoint,
    like: nn.Module,
    views: Mapping[str, View],
    budget: NightBudget,
    seed: int,
) -> nn.Module:
    """An encoder with the statistics of spectra of ``like``, trained with a linear head.

    It takes the steps of the budget, rounded to whole passes. The weights are the best of a few
    validations, by macro-F1 of the validation nights.
    """
    train, flags = views["train"], budget.optimiser
    # the caller's random state stays as it is, whatever is drawn in between
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = models.build("foundation", **encoder_settings(checkpoint.settings)).to(train.device)
        if like.spectrum is not None:
            net.encoder.spectrum.load_state_dict(like.spectrum.state_dict())
        batches = foundation_family.pieces_of(budget.crop_hours, flags.batch_size, seed)
        per_pass = steps_per_pass(len(train.nights), flags)
        passes = max(1, round(budget.steps / per_pass))
        optimizer, schedule = foundation_family.optimiser(
            passes * per_pass, lambda net: None, flags, net
        )
        objective = NightStaging(role_p=budget.role_dropout)
        every = max(1, passes // _CHECKS)
        best = BestWeights(net)
        for number in range(passes):
            train_pass(net, objective, batches(train, number, 0, 1), optimizer, schedule, flags)
            if (number + 1) % every and number + 1 < passes:
                continue
            net.eval()
            with torch.no_grad():
                best.validated(agreement(net, views["validation"].whole_nights()), number + 1)
        best.restore()
    return net.encoder.eval()


def train_pass(
    net: nn.Module,
    objective: NightStaging,
    batches: Any,
    optimizer: Any,
    schedule: Any,
    flags: ScheduleFlags,
) -> None:
    """One sweep over the nights: groups of batches, gradients averaged and limited."""
    net.train()
    n = len(batches)
    for step, batch in enumerate(batches):
        group = min(flags.accumulate, n - step // flags.accumulate * flags.accumulate)
        loss, _ = objective(net, batch)
        (loss / group).backward()
        if (step + 1) % flags.accumulate and step + 1 < n:
            continue
        if flags.grad_clip:
            nn.utils.clip_grad_norm_(net.parameters(), flags.grad_clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
