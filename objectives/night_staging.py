"""Staging of whole nights: cross-entropy or focal loss over scored epochs, with role dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from objectives.denoising import dropped_roles
from objectives.draws import Draws
from objectives.objective import Objective, in_full
from utils.collectives import whole_mean
from utils.stages import UNSCORED


def focal_loss(
    logits: Tensor,
    stages: Tensor,
    *,
    gamma: float = 2.0,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Mean over scored epochs of -a (1 - p)^gamma log p; logits (…, 5), stages (…).

    The epochs are those of all processes. Lin et al. 2017; p is the probability of the true stage
    alone. With ``gamma`` 0 it is the cross-entropy, by ``weights`` (5,) as torch weighs it.
    """
    scored = stages != UNSCORED
    logits, true = in_full(logits[scored]), stages[scored]
    each = F.cross_entropy(logits, true, reduction="none", label_smoothing=smoothing)
    if gamma:
        # not from ``each``, which smoothing has changed
        p = logits.log_softmax(dim=-1).gather(1, true[:, None])[:, 0].exp()
        each = each * (1 - p).clamp_min(0) ** gamma  # rounding can leave p just above 1
    chosen = torch.ones_like(each) if weights is None else weights.to(each)[true]
    return whole_mean((each * chosen).sum(), chosen.sum())


class NightStaging(Objective):
    """Loss of a ``models.foundation.Foundation`` on nights, or on what its encoder made of them.

    Args:
        gamma: of the focal loss; 0 is cross-entropy.
        weights: of the stages.
        smoothing: share of each label given to all stages.
        role_p: probability that a role is left out of a night; one always stays.
        reads_encoded: batches hold what a frozen encoder made of nights, not signals.
        trim: epochs of wake kept before and after sleep; -1 keeps all. Training only.
        piece: epochs that the model's layers see at a time, of nights cut at places drawn; 0: all.
    """

    def __init__(
        self,
        *,
        gamma: float = 0.0,
        weights: Sequence[float] | None = None,
        smoothing: float = 0.0,
        role_p: float = 0.0,
        trim: int = -1,
        reads_encoded: bool = False,
        piece: int = 0,
    ) -> None:
        self.reads_encoded, self.piece = reads_encoded, piece
        self.gamma, self.smoothing, self.role_p, self.trim = gamma, smoothing, role_p, trim
        self.weights = None if weights is None else torch.tensor(weights)

    def __call__(self, model: Any, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and how many epochs were scored and how many of them right."""
        stages = trimmed(batch.stages, self.trim) if self.trim >= 0 else batch.stages
        draws = Draws(batch.keys, "roles", stages.device)
        if self.reads_encoded:
            logits = model(None, without_roles(batch.encoded, self.role_p, draws))
        else:
            signals = drop_roles(batch.signals, self.role_p, draws)
            cut = (self.piece, draws.integers(0, self.piece)) if self.piece else None
            logits = model(signals) if cut is None else model(signals, None, cut)
        loss = focal_loss(
            logits, stages, gamma=self.gamma, weights=self.weights, smoothing=self.smoothing
        )
        scored = stages != UNSCORED
        right = (logits.argmax(dim=-1) == stages) & scored
        return loss, {"right": right.sum(), "scored": scored.sum()}


def drop_roles(signals: Tensor, p: float, draws: Draws) -> Tensor:
    """Nights (b, n, c, t) with some roles left out as absent (NaN)."""
    if not p:
        return signals
    present = ~signals.isnan().all(dim=-1).all(dim=1)
    dropped = dropped_roles(present, p, draws)
    return signals.masked_fill(dropped[:, None, :, None], float("nan"))


def without_roles(encoded: Any, p: float, draws: Draws) -> Any:
    """Encoded nights with some roles left out, as :func:`drop_roles` does with signals."""
    if not p:
        return encoded
    keep = ~dropped_roles(encoded.valid.any(dim=-1), p, draws)
    return type(encoded)(encoded.tokens, encoded.valid & keep[..., None])


def trimmed(stages: Tensor, margin: int) -> Tensor:
    """Stages (b, n) with the wake further than ``margin`` epochs from sleep unscored.

    Only scored wake before the first and after the last scored sleep counts: padding is no wake,
    and a night without sleep stays as it is.
    """
    asleep = stages > 0  # neither wake, 0, nor unscored, -1
    number = torch.arange(stages.shape[1], device=stages.device)
    none = ~asleep.any(dim=1, keepdim=True)
    first = torch.where(asleep, number, stages.shape[1]).amin(dim=1, keepdim=True)
    last = torch.where(asleep, number, -1).amax(dim=1, keepdim=True)
    inside = (number >= first - margin) & (number <= last + margin)
    return torch.where(inside | none | (stages != 0), stages, UNSCORED)
