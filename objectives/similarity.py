"""Cross-entropy and a triplet loss on what the last layer reads: the "scl" loss of PhysioEx.

Triplets by multi-similarity mining (Wang et al., CVPR 2019) on cosine similarities of a projection
of 32 numbers. Its authors report no gain from it, so it is off by default.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from objectives.objective import Objective
from objectives.staging import Staging

WIDTH, MARGIN, EPSILON = 32, 0.05, 0.1
_MOST = 128  # epochs of a step that form triplets, of which there are up to their cube


class SimilarityStaging(Objective):
    """A staging objective plus the triplet loss; it owns the projection, which trains with it."""

    def __init__(self, staging: Staging) -> None:
        self.staging = staging
        self.projection: nn.Module | None = None

    def attach(self, net: nn.Module, device: torch.device) -> list[nn.Parameter]:
        """Make the projection of what the head reads; returns its weights.

        Raises:
            ValueError: the model has a head for every epoch of a window.
        """
        width = next(m for m in _head(net).modules() if isinstance(m, nn.Linear)).in_features
        self.projection = nn.Sequential(nn.Linear(width, WIDTH), nn.LayerNorm(WIDTH)).to(device)
        return list(self.projection.parameters())

    def __call__(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and logs of ``batch.signals`` (b, n, c, t) with ``batch.stages`` (b, n)."""
        # models return logits alone; a hook sees what their last layers read, encoded only once
        read: list[Tensor] = []
        hook = _head(model).register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
        try:
            logits = self.staging.logits(model, batch)
        finally:
            hook.remove()
        stages = self.staging.targets(model, batch.stages, logits)
        # what a mixed precision read has half of the projection's digits
        last = read[0].to(self.projection[0].weight)
        projected = self.projection(last.reshape(stages.numel(), -1))
        apart = triplet_loss(projected, stages.flatten())
        loss = self.staging.loss(logits, stages) + apart
        with torch.no_grad():
            right = (logits.argmax(dim=-1) == stages).sum()
        return loss, {"right": right, "scored": (stages >= 0).sum()}

    def state_dict(self) -> dict[str, Any]:
        """The projection's weights."""
        return self.projection.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from :meth:`state_dict`."""
        self.projection.load_state_dict(state)


def _head(net: nn.Module) -> nn.Module:
    """The one layer or block that makes logits."""
    layers = net.output_layers()
    if len(layers) > 1:
        raise ValueError("the similarity loss needs one head for all epochs of a window")
    return layers[0]


def triplet_loss(features: Tensor, stages: Tensor) -> Tensor:
    """Mean hinge over mined triplets of ``features`` (n, d) with ``stages`` (n,); 0 without any.

    A pair of one stage is mined if it is less alike than an anchor's most alike other stage (give
    or take epsilon), a pair of two stages if it is more alike than its least alike own stage.
    """
    scored = torch.nonzero(stages >= 0)[:, 0]
    if len(scored) < 3:
        return 0.0 * features.sum()  # gives the projection gradients of 0, not none
    chosen = scored[torch.randperm(len(scored), device=scored.device)[:_MOST]]
    normal = nn.functional.normalize(features[chosen].float(), dim=1)
    alike, stages = normal @ normal.T, stages[chosen]
    same = stages[:, None] == stages
    other, same = ~same, same & ~torch.eye(len(stages), dtype=torch.bool, device=same.device)
    nearest_other = alike.masked_fill(~other, -torch.inf).amax(dim=1, keepdim=True)
    furthest_same = alike.masked_fill(~same, torch.inf).amin(dim=1, keepdim=True)
    positive = same & (alike - EPSILON < nearest_other)
    negative = other & (alike + EPSILON > furthest_same)
    hinge = (MARGIN + alike[:, None, :] - alike[:, :, None]).relu()  # anchor, positive, negative
    hinge = hinge * (positive[:, :, None] & negative[:, None, :])
    return hinge.sum() / (hinge > 0).sum().clamp_min(1)
