"""Encodings of epochs at a model's layers, and the gradient of a stage's output there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpret.frozen_model import frozen
from interpret.target import EpochTarget
from utils.errors import UserError

ENCODER, SEQUENCE = "encoder", "sequence"
_BATCH = 256


@dataclass(frozen=True)
class AtLayer:
    """Encodings (e, d) of epochs at a layer, and gradients (e, d) of the output explained."""

    encodings: np.ndarray
    gradients: np.ndarray


def check_model(model: Any) -> None:
    """Refuse models whose epochs have no encoding of their own.

    Raises:
        UserError: naming what to use instead.
    """
    if not (model.stages_epochs and model.separable):
        raise UserError(
            "--concepts: this model's encoding of an epoch depends on its place in the window, so "
            "no direction can be learned from it; use one whose positions share an encoder"
        )


def read_layers(
    target: EpochTarget,
    epochs: np.ndarray,
    classes: np.ndarray,
    *,
    instead: Tensor | None = None,
) -> dict[str, AtLayer]:
    """Encodings of ``epochs`` (e,) and gradients of F for their ``classes`` (e,), by layer.

    ``encoder`` is what an epoch becomes on its own, ``sequence`` what the epochs around it have
    made of it (``sequence_layer`` of the model, where it has one). Every epoch is seen in its
    window; only its own encoding is varied. Signals ``instead`` (e, m, t) stand for those of the
    epochs, one at a time, their neighbours staying as they are.
    """
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
    device = target.night.device
    rows = torch.from_numpy(epochs.astype(np.int64)).to(device)
    wanted = torch.from_numpy(classes.astype(np.int64)).to(device)
    with frozen(target):
        for some in torch.arange(len(rows)).split(target.at_once):
            if instead is None:
                own = target.encoded[rows[some]]
            else:
                with torch.no_grad():
                    own = target.encode(instead[some].to(device))
            for name, pair in _read_some(target, own, rows[some], wanted[some]).items():
                parts.setdefault(name, []).append(pair)
    return {
        name: AtLayer(*(torch.cat(part).cpu().numpy() for part in zip(*rows, strict=True)))
        for name, rows in parts.items()
    }


def _read_some(
    target: EpochTarget, own: Tensor, epochs: Tensor, classes: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    model = target.model
    own = own.detach().requires_grad_()
    with torch.enable_grad(), _inputs_of(_sequence_layer(model)) as seen:
        windows = target.put(target.encoded, own, epochs)
        logits = model.classify(windows, **target.placed(epochs))
        output = target.output_of(target.own_logits(logits, epochs), classes)
        # rows have windows of their own: the gradient of the sum is that of each
        gradients = torch.autograd.grad(output.sum(), [own, *seen])
    layers = {ENCODER: (own.detach(), gradients[0])}
    if seen:
        rows = torch.arange(len(epochs), device=own.device)
        places = target.positions[epochs.cpu()].to(own.device)
        layers[SEQUENCE] = (seen[0].detach()[rows, places], gradients[1][rows, places])
    return layers


def _sequence_layer(model: Any) -> nn.Module | None:
    # single epochs have no sequence
    name = model.sequence_layer if model.num_seq > 1 else None
    return model.get_submodule(name) if name else None


@contextmanager
def _inputs_of(module: nn.Module | None) -> Iterator[list[Tensor]]:
    """A list that is filled with what ``module`` is given; empty for no module."""
    seen: list[Tensor] = []
    if module is None:
        yield seen
        return
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()
