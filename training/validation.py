"""Losses and agreement over the validation nights, and the weights that have the best."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from utils import metrics
from utils.devices import widest

VALIDATED = ("kappa", "accuracy", "macro_f1")


class BestWeights:
    """The weights that a network had where macro-F1 in validation was highest, the first of equals.

    ``at`` is the step or pass of that validation.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net, self._score, self.at = net, -np.inf, 0
        self._state: dict[str, Any] = {}

    def validated(self, counts: np.ndarray, at: int) -> None:
        """Keep the weights if these confusion counts (5, 5) are the best so far."""
        # an undefined macro-F1 is worse than any that is defined
        score = float(np.nan_to_num(metrics.macro_f1(counts), nan=-1.0))
        if score > self._score:
            self._score, self.at, self._state = score, at, deepcopy(self._net.state_dict())

    def restore(self) -> None:
        """Give the network the weights that were kept."""
        self._net.load_state_dict(self._state)


def agreement_figures(counts: np.ndarray, fabric: Any) -> dict[str, float]:
    """Agreement with the expert by the confusion counts (5, 5) of all processes together."""
    # counts add up, kappa would not
    total = fabric.all_reduce(torch.from_numpy(counts).to(fabric.device), reduce_op="sum")
    total = total.cpu().numpy()
    return {name: float(metrics.SUMMARIES[name](total)) for name in VALIDATED}


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
