"""Sums over the processes of a training, through which gradients flow; nothing on one process."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.nn import functional


class _Sum(torch.autograd.Function):
    """All-reduce forward and backward: what every process did with the sum counts."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone()  # all_reduce writes in place, and autograd may still need its input
        distributed.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        distributed.all_reduce(gradient)
        return gradient


def n_processes() -> int:
    """Processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def summed(x: Tensor) -> Tensor:
    """The sum of ``x`` over all processes."""
    return x if n_processes() == 1 else _Sum.apply(x)


def most(n: int, device: torch.device) -> int:
    """The largest ``n`` of all processes."""
    if n_processes() == 1:
        return n
    largest = torch.tensor(n, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)


def whole_mean(total: Tensor, count: Tensor) -> Tensor:
    """``total / count`` of the batch of all processes, 0 where nothing counts.

    A process returns its part, times the number of processes: the mean over processes, which is
    what DDP makes of gradients and the log of losses, is then the mean of one large batch.
    """
    whole = summed(count.detach())
    return n_processes() * total / torch.where(whole > 0, whole, 1)


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """Rows (m, d) of all processes, and where those of this one, ``rows`` (n, d), begin."""
    if n_processes() == 1:
        return rows, 0
    rank = distributed.get_rank()
    counts = torch.zeros(n_processes(), dtype=torch.long, device=rows.device)
    counts[rank] = len(rows)
    before = summed(counts).cumsum(dim=0).tolist()
    first = before[rank] - len(rows)
    # zeros where others have their rows: unlike all_gather, a sum takes shares of any size
    return summed(functional.pad(rows, (0, 0, first, before[-1] - before[rank]))), first
