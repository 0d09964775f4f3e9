"""Validation of a model whose layers see little of a night, by as much as they see."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from datasets.store.views import View
from models.night_windows import NightWindows, staged
from training.validation import agreement_figures
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
    return agreement_figures(counts, fabric)
