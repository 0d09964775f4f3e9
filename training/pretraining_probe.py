"""A linear probe after every pass of a pretraining, on its own training and validation nights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from datasets.store.views import View
from probing import probes
from probing.probes import Labelled
from utils import metrics

_MOST = 5000  # training epochs that the probe is fitted to, the same ones in every pass


def validate_and_probe(
    validate: Callable[..., dict[str, float]],
    training: View,
    net: nn.Module,
    model: Any,
    view: View,
    fabric: Any,
) -> dict[str, float]:
    """What ``validate`` gives, and how a linear probe stages the validation nights.

    The probe's penalty is chosen on these nights, too: the figures compare settings with each
    other, they are no result.
    """
    figures = validate(net, model, view, fabric)
    learned, tested = embedded(net, training), embedded(net, view)
    if len(learned.scored.stages) > _MOST:
        share = _MOST / len(learned.scored.stages)
        learned = learned.some(probes.draw_epochs(learned, share, seed=0))
    probed = probes.linear_probe(learned, tested, tested)
    counts = metrics.confusion(tested.stages, probed.stages)
    return figures | {
        f"probe_{name}": float(metrics.SUMMARIES[name](counts)) for name in ("macro_f1", "kappa")
    }


@torch.no_grad()
def embedded(net: nn.Module, view: View) -> Labelled:
    """Embeddings of all epochs of a view, in memory."""
    net.eval()
    z = [net.encoder.embed(x).float().cpu().numpy() for _, x, _ in view.whole_nights()]
    subjects = np.repeat([night.subject for night in view.nights], view.lengths)
    return Labelled(np.concatenate(z), view.stages.astype(np.int64), subjects)
