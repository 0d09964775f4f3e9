"""Integrated gradients: the mean gradient along the line from a baseline.

Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017. The line is integrated by
Gauss and Legendre's rule, and halved where that is not exact enough: each part of a line has a
completeness of its own, the change of F between its ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from interpret.attribution import Attribution
from interpret.explanation import Explanation
from interpret.explanation_metrics import Evaluated, likeness, of_evidence, signs_kept
from interpret.question import Plan
from interpret.scoreboard import Score
from interpret.target import EpochTarget

TOLERANCE, MOST_STEPS = 0.01, 800  # completeness error; gradients per epoch before giving up
_OF_PART = 8  # gradients of a part of the line
_SHARE = 1 / 16  # of the error allowed that even the shortest part may have
_LUCK = 5  # times the error allowed: more is not complete, even where errors of parts cancel out


class IntegratedGradients(Attribution):
    """Attributions that are complete to 1 %, also evaluated against other baselines."""

    name = "ig"
    times_input = True
    complete = True
    on_spectrogram = True
    # never halved: the many copies with random weights need maps to compare, not exact sums
    quick: ClassVar[dict[str, Any]] = {"steps": 20, "most": 0}

    def maps(self, target, x, compared, extra, **settings) -> Tensor:
        """Maps by :func:`integrated_gradients`."""
        return integrated_gradients(target, x, compared, extra, **settings)

    def settings_of(self, plan: Plan) -> dict[str, Any]:
        """The number of steps to begin with."""
        return {"steps": plan.steps}

    def evaluate(self, evaluated: Evaluated, explanation: Explanation) -> Iterator[Score]:
        """Score as all attributions, and by what another baseline would have changed."""
        yield from super().evaluate(evaluated, explanation)
        plan = evaluated.question.plan
        for baseline in plan.other_baselines:
            if baseline == explanation.settings["baseline"]:
                continue
            other = replace(evaluated.question, plan=replace(plan, baseline=baseline))
            second, name = self.compute(other), f"{self.name}, {baseline} baseline"
            yield from evaluated.scores(name, "completeness_error", second.error.cpu().numpy())
            yield from of_evidence(evaluated, name, second, times_input=self.times_input)
            alike = likeness(explanation, second)
            yield from evaluated.scores(name, "likeness_to_first_baseline", alike)
            kept = signs_kept(explanation, second)
            yield from evaluated.scores(name, "signs_of_first_baseline", kept)


def integrated_gradients(
    target: EpochTarget,
    x: Tensor,
    compared: Tensor,
    extra: tuple[Tensor, Tensor],
    *,
    steps: int = 20,
    allowed: Tensor | None = None,
    most: int = MOST_STEPS,
) -> Tensor:
    """Maps (b, …) of the way from ``compared`` to ``x`` (b, …), which sum to the change of F.

    Parts of the way are halved until the maps miss no more than ``allowed`` (b,), by default 1 % of
    the change, or until ``most`` gradients of an epoch.
    """
    with torch.no_grad():
        ends = target(compared, *extra), target(x, *extra)
    if allowed is None:
        allowed = TOLERANCE * (ends[1] - ends[0]).abs()
    maps, spent = torch.zeros_like(x), torch.full_like(allowed, steps)
    # what the parts that are done miss of each epoch's change, in sum and in size
    settled = torch.zeros(2, len(x)).to(allowed)
    rows = torch.arange(len(x), device=x.device)  # of which epoch each part of a line is
    edges = torch.zeros_like(allowed), torch.ones_like(allowed)
    while True:
        parts = _along(target, x, compared, extra, rows, edges, steps)
        missing = parts.flatten(1).sum(dim=1) - (ends[1] - ends[0])
        missing = torch.stack([missing, missing.abs()])
        total = settled.index_add(1, rows, missing)
        unfinished = (total[0].abs() > allowed) | (total[1] > _LUCK * allowed)
        # half of what is allowed: by length, but for kinks, around which parts are short
        length = (edges[1] - edges[0]).clamp_min(_SHARE)
        split = unfinished[rows] & (missing[1] > allowed[rows] / 2 * length)
        # what all parts of an epoch would cost that are to be halved
        costs = torch.zeros_like(spent).index_add_(0, rows, 2 * _OF_PART * split.to(spent))
        split &= (spent + costs)[rows] <= most
        maps.index_add_(0, rows[~split], parts[~split])
        settled.index_add_(1, rows[~split], missing[:, ~split])
        if not split.any():
            return maps
        rows, steps = rows[split], _OF_PART
        spent += costs * ((spent + costs) <= most)
        (low, high), (first, last) = (tuple(e[split] for e in pair) for pair in (edges, ends))
        middle = (low + high) / 2
        at_middle = _values(target, x, compared, extra, rows, middle)
        rows, edges = rows.repeat(2), (torch.cat([low, middle]), torch.cat([middle, high]))
        ends = torch.cat([first, at_middle]), torch.cat([at_middle, last])


def _along(target, x, compared, extra, rows, edges, steps) -> Tensor:
    """Maps (p, …) of parts of the lines of epochs ``rows`` (p,), between ``edges``, two (p,)."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    points = torch.from_numpy((points + 1) / 2).to(x)
    weights = torch.from_numpy(weights / 2).to(x)
    maps = []
    # all steps of all parts would be one batch of thousands
    for part in torch.arange(len(rows)).split(max(1, 4 * target.at_once // steps)):
        own, low, high = rows[part], edges[0][part], edges[1][part]
        at = low[:, None] + (high - low)[:, None] * points  # (p, steps)
        line = _between(x[own][:, None], compared[own][:, None], at).detach().requires_grad_()
        given = (argument[own].repeat_interleave(steps) for argument in extra)
        value = target(line.flatten(0, 1), *given)
        (gradients,) = torch.autograd.grad(value.sum(), line)
        mean = torch.einsum("ps...,s->p...", gradients, weights)
        maps.append(mean * (x[own] - compared[own]) * _like(high - low, mean))
    return torch.cat(maps)


def _values(target, x, compared, extra, rows, at) -> Tensor:
    """F (p,) at the places ``at`` (p,) of the lines of epochs ``rows`` (p,)."""
    values = []
    with torch.no_grad():
        for part in torch.arange(len(rows)).split(4 * target.at_once):
            own = rows[part]
            line = _between(x[own], compared[own], at[part])
            values.append(target(line, *(argument[own] for argument in extra)))
    return torch.cat(values)


def _between(x: Tensor, compared: Tensor, at: Tensor) -> Tensor:
    """Points of the lines from ``compared`` (0) to ``x`` (1)."""
    at = at.view(*at.shape, *[1] * (x.dim() - at.dim()))
    return compared + at * (x - compared)


def _like(values: Tensor, maps: Tensor) -> Tensor:
    """Values (p,) that multiply maps (p, …)."""
    return values.view(-1, *[1] * (maps.dim() - 1))
