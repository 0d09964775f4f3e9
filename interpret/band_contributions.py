"""What the band powers of an epoch add to its stage: integrated gradients on a night's decibels.

The path leads from a night that stays at the middle of its range to the night as it was.

Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpret.feature_contributions import FeatureContributions

METHOD = "bands"
REST = "rest of the night"
STEPS = 16  # of Gauss and Legendre's rule
# epochs on either side that the network reads again at every step: half an hour, beyond which a
# recurrent network remembers little; the completeness error contains what it does
_REACH = 60
_AT_ONCE = 8  # epochs explained together, which bounds the memory


def band_contributions(
    nets: Sequence[Any],
    db: Tensor,
    epochs: np.ndarray,
    stages: np.ndarray,
    against: np.ndarray,
    bands: Sequence[str],
) -> FeatureContributions:
    """Contributions of ``bands`` to the margin of ``stages`` over ``against`` at ``epochs``, (b,).

    ``nets`` are networks as ``models.night_bands``, ``db`` (n, 5) decibels of a night, NaN in gaps;
    the mean of the networks is explained. The five bands are those of the epoch itself; all that
    other epochs add is one contribution, ``REST``.
    """
    middle = nets[0].middle(db)  # the same for all networks of a kind
    baseline = torch.where(db.isnan(), db, middle)
    codes = tuple(torch.from_numpy(k.astype(np.int64)) for k in (epochs, stages, against))
    of_nets = [_of_net(net, db, baseline, *codes) for net in nets]
    # each (b, 6), (b,), (b,), (b, 5)
    parts, expected, margin, probabilities = (
        np.mean([one.cpu().numpy().astype(float) for one in column], axis=0)
        for column in zip(*of_nets, strict=True)
    )
    rest = np.full((len(epochs), 1), np.nan)  # no one value stands for other epochs
    names = [*bands, REST]
    recorded = db[~db.isnan().any(dim=1)]
    apart = (middle - recorded.mean(dim=0)) / recorded.std(dim=0, correction=0)
    distance = float(torch.where(apart.isfinite(), apart, 0.0).square().mean().sqrt())
    return FeatureContributions(
        names=names,
        values=np.concatenate([(db - middle)[codes[0]].cpu().numpy(), rest], axis=1),
        contributions=parts,
        expected=expected,
        margin=margin,
        probabilities=probabilities,
        distance=np.full(len(epochs), distance),
        deviates_from="the night",
        groups=names,
        spans={"": "this night"},
        place=lambda name: (name, ""),
    )


def _of_net(
    net: Any, db: Tensor, baseline: Tensor, epochs: Tensor, stages: Tensor, against: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a net has: contributions (b, 6), margin at the baseline (b,) and at the night (b,).

    Last the probabilities (b, 5) at the baseline.
    """
    net.eval()
    with torch.no_grad():
        at_ends = [net.logits_of(night)[epochs] for night in (baseline, db)]
    rows = torch.arange(len(epochs))
    expected, margin = (logits[rows, stages] - logits[rows, against] for logits in at_ends)
    groups = zip(
        epochs.split(_AT_ONCE), stages.split(_AT_ONCE), against.split(_AT_ONCE), strict=True
    )
    # cuDNN refuses to differentiate a recurrent layer in evaluation mode
    with torch.backends.cudnn.flags(enabled=False):
        parts = [_integrated(net, db, *group) for group in groups]
    return torch.cat(parts), expected, margin, at_ends[0].softmax(dim=-1)


def _integrated(net: Any, db: Tensor, epochs: Tensor, stages: Tensor, against: Tensor) -> Tensor:
    """Integrated gradients of the margins, those of all other epochs in one: (b, 6)."""
    points, weights = np.polynomial.legendre.leggauss(STEPS)
    shares = torch.from_numpy((points + 1) / 2).to(db)[None, :, None, None]
    weights = torch.from_numpy(weights / 2).to(db)[None, :, None, None]
    length = min(2 * _REACH + 1, len(db))
    starts = (epochs - _REACH).clamp(0, len(db) - length)
    members = starts[:, None] + torch.arange(length)
    # decibels about the night's middle, which is 0: the path is straight in them, and what they
    # are relative to stays that of the night itself
    features = net.relative(db).detach()[members][:, None]  # (b, 1, w, 11)
    about, gaps = features[..., :-1], features[..., -1:]
    # (b, steps, w, 10): every epoch's margin has gradients of its own
    x = (shares * about).requires_grad_()
    read = torch.cat([x, gaps.expand(-1, STEPS, -1, -1)], dim=-1)
    logits = net(read.flatten(0, 1)).unflatten(0, x.shape[:2])
    rows = torch.arange(len(epochs))
    own = logits[rows, :, epochs - starts]  # (b, steps, 5)
    margins = own[rows, :, stages] - own[rows, :, against]
    (gradients,) = torch.autograd.grad(margins.sum(), x)
    parts = (gradients * weights).sum(dim=1) * about[:, 0]
    parts = parts.unflatten(2, (2, -1)).sum(dim=2)  # two features of each band: (b, w, 5)
    here = parts[rows, epochs - starts]
    return torch.cat([here, (parts.sum(dim=(1, 2)) - here.sum(dim=1))[:, None]], dim=1)
