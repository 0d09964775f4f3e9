"""Expected gradients: integrated gradients from many real epochs of the same night, their mean.

Erion et al., Improving performance of deep learning models with axiomatic attribution priors and
expected gradients, Nature Machine Intelligence 2021; every path is integrated to its end here, so
that the mean is complete.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from interpret.attribution import Attribution
from interpret.integrated_gradients import integrated_gradients
from interpret.question import MOST_STEPS, Plan
from interpret.target import EpochTarget

_REFERENCES, _QUICK = 10, 3  # epochs that each one is compared with


class ExpectedGradients(Attribution):
    """No choice of a baseline: F(x') is the mean over epochs drawn from the night."""

    name = "eg"
    complete = True
    on_spectrogram = True
    by_layer = False  # too slow to repeat for every layer
    quick: ClassVar[dict[str, Any]] = {"steps": 8, "most": 0, "references": _QUICK}

    def allows(self, model: Any) -> bool:
        """Whether the model reads spectrograms: other paths have ten times the bends to follow."""
        return model.reads_spectrograms

    def settings_of(self, plan: Plan) -> dict[str, Any]:
        """The numbers of steps to begin with on each path, and at most on all of them."""
        return {"steps": max(4, plan.steps // 2), "most": plan.most_steps}

    def baseline_kind(self, target: EpochTarget, asked: str) -> str:
        """Other epochs of the night, whatever is asked for."""
        return "shuffled"

    def compared(self, target: EpochTarget, epochs: Tensor, kind: str, seed: int) -> Tensor:
        """Other epochs of the night, ten for each one: (10, b, …)."""
        return torch.stack([target.baseline(epochs, kind, seed + k) for k in range(_REFERENCES)])

    def at_baseline(self, target, compared, extra) -> tuple[Tensor, Tensor, Tensor]:
        """Means over the references of F, probabilities and distances."""
        of_one = super().at_baseline
        every = zip(*(of_one(target, one, extra) for one in compared), strict=True)
        return tuple(torch.stack(values).mean(dim=0) for values in every)

    def maps(
        self,
        target,
        x,
        compared,
        extra,
        *,
        steps: int = 10,
        references: int = _REFERENCES,
        most: int = MOST_STEPS,
    ) -> Tensor:
        """Means of integrated gradients over the first ``references`` epochs compared with."""
        compared = compared[:references]
        lines = x.expand_as(compared).flatten(0, 1), compared.flatten(0, 1)
        maps = integrated_gradients(target, *lines, extra, steps=steps, most=most)
        return maps.unflatten(0, (references, -1)).mean(dim=0)
