"""Validation of a model whose layers see little of a night, by as much as they see."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from datasets.store.views import View
from models.night_windows import NightWindows, staged
from training.train import VALIDATED
from utils import metrics


def validate_by_windows(
    reach: int, net: nn.Module, model: Any, view: View, fabric: Any
) -> dict[str, float]:
    """Agreement with the expert, each epoch staged by ``reach`` epochs to either side."""
    net.eval()
    counts = np.zeros((5, 5), np.int64)
    for _, signals, expert in view.whole_nights(fabric.global_rank, fabric.world_size):
        stages = staged(NightWindows(net, signals, by_night=True), len(expert), reach)
        counts += metrics.confusion(expert.cpu().numpy(), stages)
    total = fabric.all_reduce(torch.from_numpy(counts).to(fabric.device), reduce_op="sum")
    return {name: float(metrics.SUMMARIES[name](total.cpu().numpy())) for name in VALIDATED}
