"""What the band powers of an epoch add to its stage: integrated gradients on its own decibels.

The rest of the night comes first: what it makes of an epoch that lies at the middle of the night's
range. From there a path leads to the epoch as it was, in the night as it was. A path on which the
whole night changed at once would bend too often for any number of steps: a recurrent network then
passes from one succession of stages to the next.

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
STEPS = 8  # of Gauss and Legendre's rule
# epochs on either side that the network reads again at every step: two hours, beyond which a
# recurrent network remembers little; the completeness error contains what that misses
_REACH = 240
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
    the mean of the networks is explained. The five bands are those of the epoch itself; what other
    epochs add to one at the middle of the night's range is one contribution, ``REST``.
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
    features = net.relative(db).detach()
    groups = zip(
        epochs.split(_AT_ONCE), stages.split(_AT_ONCE), against.split(_AT_ONCE), strict=True
    )
    # cuDNN refuses to differentiate a recurrent layer in evaluation mode
    with torch.backends.cudnn.flags(enabled=False):
        each = [
            (_integrated(net, features, *group), _at_middle(net, features, *group))
            for group in groups
        ]
    own, without = (torch.cat(some) for some in zip(*each, strict=True))
    parts = torch.cat([own, (without - expected)[:, None]], dim=1)
    return parts, expected, margin, at_ends[0].softmax(dim=-1)


@torch.no_grad()
def _at_middle(
    net: Any, features: Tensor, epochs: Tensor, stages: Tensor, against: Tensor
) -> Tensor:
    """Margins (b,) where each epoch itself lies at the middle of the night (n, 11)."""
    rows = torch.arange(len(epochs))
    nights = features.repeat(len(epochs), 1, 1)
    nights[rows, epochs, :-1] = 0.0
    logits = net(nights)[rows, epochs]
    return logits[rows, stages] - logits[rows, against]


def _integrated(
    net: Any, features: Tensor, epochs: Tensor, stages: Tensor, against: Tensor
) -> Tensor:
    """Integrated gradients of the margins by the bands of each epoch (b, 5), others as they are."""
    points, weights = np.polynomial.legendre.leggauss(STEPS)
    shares = torch.from_numpy((points + 1) / 2).to(features)[None, :, None]
    weights = torch.from_numpy(weights / 2).to(features)[None, :, None]
    length = min(2 * _REACH + 1, len(features))
    starts = (epochs - _REACH).clamp(0, len(features) - length)
    members = starts[:, None] + torch.arange(length)
    rows, places = torch.arange(len(epochs)), epochs - starts
    # decibels about the night's middle, which is 0: the path is straight in them, and what they
    # are relative to stays that of the night itself
    about = features[epochs, :-1]
    # every epoch's margin has gradients of its own: (b, steps, 10)
    x = (shares * about[:, None]).requires_grad_()
    read = features[members][:, None].repeat(1, STEPS, 1, 1)  # (b, steps, w, 11)
    read[rows, :, places, :-1] = x
    logits = net(read.flatten(0, 1)).unflatten(0, x.shape[:2])
    own = logits[rows, :, places]  # (b, steps, 5)
    margins = own[rows, :, stages] - own[rows, :, against]
    (gradients,) = torch.autograd.grad(margins.sum(), x)
    parts = (gradients * weights).sum(dim=1) * about
    return parts.unflatten(1, (2, -1)).sum(dim=1)  # two features of each band
