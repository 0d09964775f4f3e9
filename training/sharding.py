"""Weights, gradients and the optimiser's states divided among processes (FSDP2).

For models that no single device holds. A process keeps its part of every tensor and gathers a
layer's weights while it uses them. Checkpoints hold whole tensors, so that they do not depend on
the number of processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning_fabric.strategies import ModelParallelStrategy
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


class Sharded(ModelParallelStrategy):
    """Fabric's strategy of divided weights, all processes reading different nights."""

    def __init__(self, processes: int) -> None:
        super().__init__(divide, data_parallel_size=processes, tensor_parallel_size=1)


def clip_norm(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Limit the norm of all gradients together, divided or not; what it was."""
    parameters = list(parameters)
    grads = [p.grad for p in parameters if p.grad is not None]
    parts = [grad.to_local() for grad in grads if isinstance(grad, DTensor)]
    if not parts:
        return nn.utils.clip_grad_norm_(parameters, largest)
    # torch's own function refuses parameters of which some are divided and some are not
    alike = [grad for grad in grads if not isinstance(grad, DTensor)]
    squares = torch.stack([part.double().square().sum() for part in parts]).sum()
    distributed.all_reduce(squares)
    norm = (squares + sum(grad.double().square().sum() for grad in alike)).sqrt()
    scale = (largest / (norm + 1e-6)).clamp(max=1.0)
    for grad in (*parts, *alike):
        grad.mul_(scale)
    return norm


def divide(net: nn.Module, mesh: Any) -> nn.Module:
    """Divide the weights of ``net`` in place, its ``divided_parts()`` one by one."""
    mesh = mesh["data_parallel"]
    # torch divides no scalars: every process has them, and their gradients are averaged here
    scalars = {p for p in net.parameters() if p.dim() == 0}

    def average(parameter: nn.Parameter) -> None:
        distributed.all_reduce(parameter.grad)
        parameter.grad.div_(mesh.size())

    for parameter in scalars:
        parameter.register_post_accumulate_grad_hook(average)
    # of outputs that are views, which nothing here changes in place
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    for part in net.divided_parts():
        fully_shard(part, mesh=mesh, ignored_params=scalars)
    return fully_shard(net, mesh=mesh, ignored_params=scalars)


def weights_of(net: nn.Module) -> Mapping[str, Tensor]:
    """Whole weights of a model, divided or not; all processes have to ask."""
    state = net.state_dict()
    return {k: _whole(v) for k, v in state.items()} if _is_divided(net) else state


def optimiser_state_of(net: nn.Module, optimizer: Any) -> dict[str, Any]:
    """Whole state of the optimiser of a model; all processes have to ask."""
    state = optimizer.state_dict()
    if not _is_divided(net):
        return state
    parts = state["state"].items()
    return {**state, "state": {k: {n: _whole(v) for n, v in of.items()} for k, of in parts}}


def load_whole(net: nn.Module, optimizer: Any, weights: Mapping, of_optimizer: Mapping) -> None:
    """Load whole tensors into a model and its optimiser, each process its parts."""
    if _is_divided(net):
        own = net.state_dict()
        weights = {name: _like(own[name], value) for name, value in weights.items()}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        parts = {
            k: {name: _like(parameters[k], value) for name, value in of_parameter.items()}
            for k, of_parameter in of_optimizer["state"].items()
        }
        of_optimizer = {**of_optimizer, "state": parts}
    net.load_state_dict(weights)
    optimizer.load_state_dict(of_optimizer)


def _is_divided(net: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in net.parameters())


def _whole(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _like(own: Tensor, value: Any) -> Any:
    """``value`` divided as ``own`` is, if that is, and of one shape with it."""
    if not isinstance(own, DTensor) or value.shape != own.shape:  # counts of steps have none
        return value
    # every process has read all of it, so nothing is sent
    return distribute_tensor(
        value.to(own.device), own.device_mesh, own.placements, src_data_rank=None
    )
