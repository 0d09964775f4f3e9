"""Integrated gradients: the mean gradient along the line from a baseline, by Captum.

Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from interpret.attribution import Attribution
from interpret.explanation import Explanation, completeness_error
from interpret.explanation_metrics import Evaluated, likeness, of_evidence
from interpret.question import Plan
from interpret.scoreboard import Score

TOLERANCE, MOST_STEPS = 0.01, 400  # completeness error; steps before giving up


class IntegratedGradients(Attribution):
    """Attributions that are complete to 1 %, also evaluated against a second baseline."""

    name = "ig"
    complete = True
    # never doubled: the many copies with random weights need maps to compare, not exact sums
    quick: ClassVar[dict[str, Any]] = {"steps": 20, "doubling": False}

    def maps(self, target, x, compared, extra, **settings) -> Tensor:
        """Maps by :func:`integrated_gradients`."""
        return integrated_gradients(target, x, compared, extra, **settings)

    def settings_of(self, plan: Plan) -> dict[str, Any]:
        """The number of steps to begin with."""
        return {"steps": plan.steps}

    def evaluate(self, evaluated: Evaluated, explanation: Explanation) -> Iterator[Score]:
        """Score as all attributions, and by what the choice of the first baseline changes."""
        yield from super().evaluate(evaluated, explanation)
        plan = evaluated.question.plan
        other = replace(plan, baseline=plan.other_baseline)
        second = self.compute(replace(evaluated.question, plan=other))
        name = f"{self.name}, {other.baseline} baseline"
        yield from evaluated.scores(name, "completeness_error", second.error.cpu().numpy())
        yield from of_evidence(evaluated, name, second, self.reading)
        for measure, values in likeness(explanation, second).items():
            yield from evaluated.scores(name, f"{measure}_to_first_baseline", values)


def integrated_gradients(target, x, compared, extra, *, steps: int = 50, doubling: bool = True):
    """Integrate in steps that double while a completeness error is above 1 %, 400 at most."""
    from captum.attr import IntegratedGradients as Captum

    method = Captum(target)
    attributions = torch.zeros_like(x)
    left = torch.arange(len(x), device=x.device)  # rows that are not complete yet
    with torch.no_grad():
        change = target(x, *extra) - target(compared, *extra)
    while len(left):
        part = tuple(argument[left] for argument in extra)
        # anew at every doubling: Captum's Gauss-Legendre points of n steps are none of those of 2 n
        attributions[left] = method.attribute(
            x[left],
            compared[left],
            n_steps=steps,
            # Captum would hold all steps of all epochs in one batch
            internal_batch_size=4 * target.at_once,
            additional_forward_args=part,
        )
        steps *= 2
        if not doubling or steps > MOST_STEPS:
            break
        error = completeness_error(attributions[left], change[left], torch.zeros_like(change[left]))
        left = left[error > TOLERANCE]
    return attributions
