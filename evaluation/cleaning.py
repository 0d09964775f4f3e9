"""Cleaning of corrupted nights by a pretrained model, beside the best linear autoencoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from datasets.store.views import View
from training.foundation_family import corrupted_nights, linear_autoencoders
from utils.intervals import columns, of_columns, over_subjects, with_interval
from utils.metrics import plain

_CLEANERS = ("model", "linear_autoencoder", "untouched")
_MORE = "model_less_linear"  # the difference of the first two


def cleaning(net: nn.Module, views: Mapping[str, View], seed: int = 0) -> list[dict[str, Any]]:
    """Error of cleaning corrupted nights, of the model and of the best linear autoencoder.

    The linear one is fitted to the training nights in closed form, role by role, with as many
    dimensions as the model's tokens have; both clean the same corrupted held-out patches. Their
    difference has its interval over subjects; the row ``all`` is of all samples together. A model
    that predicts no samples cleans none: it has no rows.
    """
    if net.head is None:
        return []
    roles = net.encoder.roles
    errors = squared_errors(net, views, seed)
    subjects = [night.subject for night in views["held_out"].nights]
    each = [*zip(roles, errors.swapaxes(0, 1), strict=True), ("all", errors.sum(axis=1))]
    return [row_of(role, sums, subjects) for role, sums in each]


@torch.no_grad()
def squared_errors(net: nn.Module, views: Mapping[str, View], seed: int) -> np.ndarray:
    """Summed squares (nights, roles, 4) of each cleaner's errors, and how many samples they are."""
    net.eval()
    errors = []
    with torch.random.fork_rng():  # the same corruption in every call
        torch.manual_seed(seed)
        linear = linear_autoencoders(net, views["train"])
        for clean, corrupted, valid, x in corrupted_nights(net, views["held_out"]):
            # the first argument is the truth, which is compared here and not by the model
            made = net(x[None], x[None]).samples[0]
            of_night = np.zeros((len(linear), 4))
            for k, one in enumerate(linear):
                true = clean[k, valid[k]].cpu().numpy()
                if not len(true):  # the role is absent
                    continue
                given = corrupted[k, valid[k]].cpu().numpy()
                guesses = made[k, valid[k]].float().cpu().numpy(), one(given), given
                of_night[k] = [*(float(((g - true) ** 2).sum()) for g in guesses), true.size]
            errors.append(of_night)
    return np.stack(errors)


def row_of(role: str, sums: np.ndarray, subjects: Sequence[str]) -> dict[str, Any]:
    """A row of ``cleaning.csv`` of the nights' sums (nights, 4): mean squared errors by cleaner."""
    recorded = sums[:, 3] > 0
    kept = [who for who, has in zip(subjects, recorded, strict=True) if has]
    total = sums.sum(axis=0)
    means = total[:3] / total[3] if len(kept) else np.full(3, np.nan)
    row: dict[str, Any] = {"role": role} | {
        name: plain(mean) for name, mean in zip(_CLEANERS, means, strict=True)
    }
    if not kept:
        return row
    figure = over_subjects(sums[recorded], kept, {_MORE: _difference})[_MORE]
    return row | columns(_MORE, figure.plain())


def _difference(sums: np.ndarray) -> np.ndarray:
    return (sums[..., 0] - sums[..., 1]) / sums[..., 3]


def verdict(row: Mapping[str, Any]) -> str:
    """Whether the linear autoencoder is beaten by more than the interval over subjects."""
    difference = of_columns(_MORE, row)
    shown = with_interval(difference, digits=5)
    if difference["low"] is None:
        return f"nothing is established by fewer than two subjects: model less linear {shown}"
    if difference["high"] < 0:
        return f"the linear autoencoder is beaten by more than the interval: {shown}"
    if difference["low"] > 0:
        return f"the linear autoencoder is ahead by more than the interval: {shown}"
    return f"the linear autoencoder is not beaten, the interval includes 0: {shown}"


def report(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the errors by role, and whether the linear autoencoder is beaten over all of them."""
    if not rows:
        print("no error of cleaning: the encoder predicted no samples (--target both would)")
        return
    print("error of cleaning corrupted held-out nights (1: the mean of every channel)")
    for row in rows:
        model, linear, untouched = (
            "–" if row[name] is None else f"{row[name]:.4f}" for name in _CLEANERS
        )
        print(
            f"  {row['role']:<6}model {model}   linear autoencoder {linear}   untouched {untouched}"
        )
    print(verdict(rows[-1]))
