"""Masked prediction and contrastive learning together, both terms logged.

Their gradients differ in size by orders of magnitude and differently in every phase of training, so
the contrastive one is weighted to have a norm as large as the other's on the weights that both
train (after Chen et al., ICML 2018, whose norms are balanced by a loss of their own).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from objectives.contrastive import TwoViews
from objectives.masked import MaskedPrediction
from objectives.objective import Objective
from utils.collectives import n_processes, summed

_SMOOTHING = 0.9  # share of the former norms that stays at each measurement


class Balance:
    """The weight by which a second loss has a gradient as large as the first one's.

    Norms are measured on every ``every``-th call, which costs a further backward pass of each loss,
    and smoothed, so that the weight does not follow single batches.
    """

    def __init__(self, every: int = 10) -> None:
        self.every, self.calls = every, 0
        self.norms: Tensor | None = None  # (2,), of the first and of the second

    def weight(self, losses: Sequence[Tensor], shared: Sequence[nn.Parameter]) -> Tensor:
        """Weight of the second of two ``losses`` on the parameters that both train."""
        if self.calls % self.every == 0:
            new = torch.stack([gradient_norm(loss, shared) for loss in losses])
            # gradients of half precision may be too small or too large for it
            if bool((torch.isfinite(new) & (new > 0)).all()):
                first = self.norms is None
                old = new if first else self.norms.to(new)
                self.norms = _SMOOTHING * old + (1 - _SMOOTHING) * new
        self.calls += 1
        return losses[0].new_ones(()) if self.norms is None else self.norms[0] / self.norms[1]

    def state_dict(self) -> dict[str, Any]:
        """Norms and calls so far."""
        return {"calls": self.calls, "norms": self.norms}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from :meth:`state_dict`."""
        self.calls, self.norms = state["calls"], state["norms"]


def gradient_norm(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Norm of a loss's gradient on ``parameters``, that of the batch of all processes."""
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    flat = torch.cat([g.flatten() for g in gradients if g is not None])
    return (summed(flat) / n_processes()).norm()


class Hybrid(Objective):
    """Masked prediction plus contrast.

    Args:
        masked, contrastive: the two objectives.
        alpha: weight of contrast; with ``balance``, of its gradient norm over the other's.
        balance: of the gradient norms on the encoder's weights; without it the losses are weighted.
    """

    def __init__(
        self,
        masked: MaskedPrediction,
        contrastive: TwoViews,
        *,
        alpha: float = 1.0,
        balance: Balance | None = None,
    ) -> None:
        self.masked, self.contrastive, self.alpha = masked, contrastive, alpha
        self.balance = balance
        self._shared: list[nn.Parameter] = []

    def attach(self, net: nn.Module, device: torch.device) -> list[nn.Parameter]:
        """Take note of the encoder's weights; there are none for the optimiser."""
        self._shared = list(net.encoder.parameters())
        return []

    def __call__(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of both losses on ``batch.signals`` (b, l, c, t), and each of them.

        In validation gradients are not balanced: sums of one weight compare from pass to pass.
        """
        predicted, _ = self.masked(model, batch)
        contrast, _ = self.contrastive(model, batch)
        logs = {"masked": predicted.detach(), "contrastive": contrast.detach()}
        weight = self.alpha
        if self.balance is not None and model.training:
            weight = self.alpha * self.balance.weight((predicted, contrast), self._shared)
            logs["contrastive_weight"] = weight
        return predicted + weight * contrast, logs

    def state_dict(self) -> dict[str, Any]:
        """State of contrast and of the balance, where they have any."""
        state = {"contrastive": self.contrastive.state_dict()}
        state |= {"balance": self.balance.state_dict()} if self.balance else {}
        return {name: part for name, part in state.items() if part}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from :meth:`state_dict`."""
        if "contrastive" in state:
            self.contrastive.load_state_dict(state["contrastive"])
        if self.balance and "balance" in state:
            self.balance.load_state_dict(state["balance"])
