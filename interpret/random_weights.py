"""Copies of a model that have learned nothing: controls of what a map owes to training."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

_MOST_EPOCHS = 512  # of training data that batch norms are measured on


def layers_from_head(model: nn.Module) -> list[str]:
    """Names of a model's parts in the order of losing their weights: head first, input last.

    A part is a child with weights, or an element of a list; the only element of a list is opened.
    """
    parts = {}
    for name, child in model.named_children():
        inner = {name: child}
        if isinstance(child, nn.ModuleList):
            inner = {f"{name}.{key}": part for key, part in child.named_children()}
            # an encoder that all positions share: its own layers are the parts
            if len(child) == 1 and any(True for _ in child[0].children()):
                inner = {f"{name}.0.{key}": part for key, part in child[0].named_children()}
        parts |= inner
    # models define their children from input to head
    return [name for name, part in parts.items() if any(True for _ in part.parameters())][::-1]


def with_random_weights(
    model: nn.Module,
    seed: int,
    parts: Sequence[str] | None = None,
    *,
    training: Tensor | None = None,
) -> Any:
    """A copy of the model with the weights of ``parts`` as before any training (default: all).

    Parameters that no layer can reset, such as CLS tokens, have their values shuffled. The batch
    norms of ``parts`` are measured on ``training`` (n, m, t): with no statistics, or those of other
    weights, signals would vanish or explode on their way. Adebayo et al., Sanity Checks for
    Saliency Maps, NeurIPS 2018.
    """
    copy = deepcopy(model)
    chosen = [copy] if parts is None else [copy.get_submodule(name) for name in parts]
    with torch.random.fork_rng(), torch.no_grad():  # the program's own generator is left alone
        torch.manual_seed(seed)
        modules = [module for part in chosen for module in part.modules()]
        for module in modules:
            # attention of torch has another name for it
            names = ("reset_parameters", "_reset_parameters")
            reset = next((getattr(module, n) for n in names if hasattr(module, n)), None)
            if reset is not None:
                reset()
                continue
            for parameter in module.parameters(recurse=False):
                values = parameter.flatten()
                parameter.copy_(values[torch.randperm(len(values))].view_as(parameter))
    copy.eval()
    if training is not None:
        norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        _measure(norms, copy, training)
    return copy


@torch.no_grad()
def _measure(norms: Sequence[nn.Module], model: Any, epochs: Tensor) -> None:
    """Set the statistics of ``norms`` to those of what reaches them at ``epochs`` (n, m, t)."""
    if not norms:
        return
    length = min(model.num_seq, len(epochs))
    windows = epochs[: min(len(epochs), _MOST_EPOCHS) // length * length]
    model.adapt_to_night(epochs)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0  # of this one batch alone
    model(windows.unflatten(0, (-1, length)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum
