"""Losses over the validation nights, shared among processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from utils.devices import widest


def mean_figures(
    objective: Callable[..., Any], model: nn.Module, listed: Any, fabric: Any
) -> dict[str, float]:
    """Means over all samples of the loss and of its parts; ``listed``: this process's shares.

    What is random in a batch is drawn by the keys of its samples: it is the same every time, and
    training's random states stay as they are.
    """
    model.eval()
    rows, names = [], []
    with torch.no_grad():
        for batch in listed:
            loss, parts = objective(model, batch)
            figures = {"loss": loss, **parts}
            names = list(figures)
            values = [value.detach() for value in figures.values()]
            rows.append(torch.stack([value.to(widest(value.device)) for value in values]))
    # the mean over processes is the loss of a whole batch, which counts by its samples
    figures = fabric.all_reduce(torch.stack(rows), reduce_op="mean")
    sizes = torch.tensor(listed.sizes, dtype=figures.dtype, device=figures.device)
    sizes = fabric.all_reduce(sizes, reduce_op="sum")
    means = (figures * sizes[:, None]).sum(dim=0) / sizes.sum()
    return dict(zip(names, means.tolist(), strict=True))
