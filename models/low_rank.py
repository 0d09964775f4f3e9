"""Low-rank updates of frozen linear layers: LoRA, Hu et al. 2022, https://arxiv.org/abs/2106.09685.

A weight W (o, i) is W + (alpha / rank) up down with down (rank, i), up (o, rank). ``up`` begins as
zeros, so the network begins as the one it updates; W, biases and norms stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_ALPHA = 16.0  # fixed, so that another rank needs no other learning rate (section 4.1)
_KEPT = ".parametrizations.weight.original"  # where torch keeps the weight that is updated


class LowRank(nn.Module):
    """The updated weight (o, i) of a frozen one: ``down`` (rank, i) is drawn, ``up`` is 0."""

    def __init__(self, rank: int, weight: Tensor) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        bound = 1 / math.sqrt(n_in)
        self.scale = _ALPHA / rank
        self.down = nn.Parameter(weight.new_empty(rank, n_in).uniform_(-bound, bound))
        self.up = nn.Parameter(weight.new_zeros(n_out, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its update."""
        return torch.addmm(weight, self.up, self.down, alpha=self.scale)


def add(net: nn.Module, parts: Iterable[nn.Module], rank: int) -> None:
    """Freeze ``net`` and give every linear layer of its ``parts`` a low-rank update to train.

    Raises:
        ValueError: a rank that some layer's weight has not.
    """
    layers = [layer for part in parts for layer in linear_layers(part)]
    most = min(min(layer.weight.shape) for layer in layers)
    if rank > most:
        raise ValueError(f"--lora_rank {rank} is above the {most} of the smallest layer")
    net.requires_grad_(False)
    for layer in layers:
        # unsafe: by default the weight is computed once more to compare shapes
        parametrize.register_parametrization(
            layer, "weight", LowRank(rank, layer.weight.detach()), unsafe=True
        )


def linear_layers(part: nn.Module) -> Iterator[nn.Linear]:
    """The linear layers inside a module."""
    return (layer for layer in part.modules() if isinstance(layer, nn.Linear))


def merge(net: nn.Module) -> nn.Module:
    """Compute every updated weight once for all: the same outputs, the layers plain again."""
    for layer in linear_layers(net):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return net


def load_updated(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the weights of a network without updates; ``net``'s updates, if any, stay."""
    own = net.state_dict()
    names = {
        name: name.removesuffix(".weight") + _KEPT if name not in own else name for name in state
    }
    updates = {name: value for name, value in own.items() if name.endswith((".up", ".down"))}
    net.load_state_dict({names[name]: value for name, value in state.items()} | updates)
