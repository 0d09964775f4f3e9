"""Integrated gradients: the mean gradient along the line from a baseline.

Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017. The line is integrated by
Gauss and Legendre's rule, and halved where that is not exact enough: each part of a line has a
completeness of its own, the change of F between its ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from interpret.attribution import Attribution
from interpret.explanation import Explanation
from interpret.explanation_metrics import Evaluated, likeness, of_evidence, signs_kept
from interpret.question import MOST_STEPS, Plan
from interpret.scoreboard import Score
from interpret.target import EpochTarget

TOLERANCE = 0.01  # completeness error
_OF_COMPARISON = 800  # as many of a map that is only compared with another one
_OF_PART = 8  # gradients of a part of the line
_SHARE = 1 / 16  # of the error allowed that even the shortest part may have
_LUCK = 5  # times the error allowed: more is not complete, even where errors of parts cancel out


class IntegratedGradients(Attribution):
    """Attributions that are complete to 1 %, also evaluated against other baselines."""

    name = "ig"
    complete = True
    on_spectrogram = True
    # never halved: the many copies with random weights need maps to compare, not exact sums
    quick: ClassVar[dict[str, Any]] = {"steps": 20, "most": 0}

    def maps(self, target, x, compared, extra, **settings) -> Tensor:
        """Maps by :func:`integrated_gradients`."""
        return integrated_gradients(target, x, compared, extra, **settings)

    def settings_of(self, plan: Plan) -> dict[str, Any]:
        """The numbers of steps to begin with and at most."""
        return {"steps": plan.steps, "most": plan.most_steps}

    def evaluate(self, evaluated: Evaluated, explanation: Explanation) -> Iterator[Score]:
        """Score as all attributions, and by what another baseline would have changed."""
        yield from super().evaluate(evaluated, explanation)
        question, plan = evaluated.question, evaluated.question.plan
        target = self.target_of(question.target, plan.space)
        settings = {"steps": plan.steps, "seed": plan.seed}
        settings["most"] = min(_OF_COMPARISON, plan.most_steps)
        for baseline in plan.other_baselines:
            if baseline == explanation.settings["baseline"]:
                continue
            name = f"{self.name}, {baseline} baseline"
            asked = (target, question.epochs, question.classes)
            second = self.explain(*asked, baseline=baseline, **settings)
            yield from evaluated.scores(name, "completeness_error", second.error.cpu().numpy())
            yield from of_evidence(evaluated, name, second, self.reading)
            for measure, values in likeness(explanation, second).items():
                yield from evaluated.scores(name, f"{measure}_to_first_baseline", values)
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
    the change, or until ``most`` gradients of an epoch. There may be k ways to each of b epochs,
    (k b, …) and then (b,) in ``extra``: what all of them miss together is compared.
    """
    lines = _Lines(target, x, compared, extra)
    rows = torch.arange(len(x), device=x.device)  # of which line each part is
    low, high = torch.zeros(len(x)).to(x), torch.ones(len(x)).to(x)
    ends = lines.values(rows, low), lines.values(rows, high)
    per_epoch = len(x) // len(extra[0])
    if allowed is None:
        change = (ends[1] - ends[0]).unflatten(0, (per_epoch, -1))
        allowed = TOLERANCE * change.sum(dim=0).abs()
    maps, spent = torch.zeros_like(x), torch.full_like(allowed, per_epoch * steps)
    # what the parts that are done miss of each epoch's change, in sum and in size
    kept = torch.zeros(2, len(allowed)).to(allowed)
    while True:
        epochs, parts = rows % len(allowed), lines.along(rows, low, high, steps)
        missing = parts.flatten(1).sum(dim=1) - (ends[1] - ends[0])
        missing = torch.stack([missing, missing.abs()])
        total = kept.index_add(1, epochs, missing)
        unfinished = (total[0].abs() > allowed) | (total[1] > _LUCK * per_epoch * allowed)
        # half of what is allowed: by length, but for kinks, around which parts are short
        limit = (allowed / 2 / per_epoch**0.5)[epochs] * (high - low).clamp_min(_SHARE)
        split = unfinished[epochs] & (missing[1] > limit)
        # what it would cost to halve all of these parts
        costs = torch.zeros_like(spent).index_add_(0, epochs, 2 * _OF_PART * split.to(spent))
        split &= (spent + costs)[epochs] <= most
        maps.index_add_(0, rows[~split], parts[~split])
        kept.index_add_(1, epochs[~split], missing[:, ~split])
        if not split.any():
            return maps
        spent += costs * ((spent + costs) <= most)
        rows, low, high, first, last = (one[split] for one in (rows, low, high, *ends))
        middle, steps = (low + high) / 2, _OF_PART
        at_middle = lines.values(rows, middle)
        rows, low, high = rows.repeat(2), torch.cat([low, middle]), torch.cat([middle, high])
        ends = torch.cat([first, at_middle]), torch.cat([at_middle, last])


@dataclass(frozen=True)
class _Lines:
    """Lines from ``compared`` (0) to ``x`` (1), (l, …) each, and F along them.

    ``extra`` (b,): epochs and classes of the first b lines, of the next b, and so on.
    """

    target: EpochTarget
    x: Tensor
    compared: Tensor
    extra: tuple[Tensor, Tensor]

    def along(self, rows: Tensor, low: Tensor, high: Tensor, steps: int) -> Tensor:
        """Maps (p, …) of parts of the lines ``rows`` (p,), from ``low`` (p,) to ``high`` (p,)."""
        points, weights = np.polynomial.legendre.leggauss(steps)
        points = torch.from_numpy((points + 1) / 2).to(self.x)
        weights = torch.from_numpy(weights / 2).to(self.x)
        maps = []
        # all steps of all parts would be one batch of thousands
        for part in torch.arange(len(rows)).split(max(1, 4 * self.target.at_once // steps)):
            own, length = rows[part], (high - low)[part]
            at = low[part][:, None] + length[:, None] * points  # (p, steps)
            line = self._points(own.repeat_interleave(steps), at.flatten()).requires_grad_()
            value = self.target(line, *self._given(own.repeat_interleave(steps)))
            (gradients,) = torch.autograd.grad(value.sum(), line)
            mean = torch.einsum("ps...,s->p...", gradients.unflatten(0, at.shape), weights)
            maps.append(mean * (self.x[own] - self.compared[own]) * _like(length, mean))
        return torch.cat(maps)

    def values(self, rows: Tensor, at: Tensor) -> Tensor:
        """F (p,) at the places ``at`` (p,) of the lines ``rows`` (p,)."""
        parts = torch.arange(len(rows)).split(4 * self.target.at_once)
        with torch.no_grad():
            return torch.cat(
                [self.target(self._points(rows[k], at[k]), *self._given(rows[k])) for k in parts]
            )

    def _given(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Epochs and classes of lines."""
        return tuple(argument[rows % len(argument)] for argument in self.extra)

    def _points(self, rows: Tensor, at: Tensor) -> Tensor:
        x, compared = self.x[rows], self.compared[rows]
        return (compared + _like(at, x) * (x - compared)).detach()


def _like(values: Tensor, maps: Tensor) -> Tensor:
    """Values (p,) that multiply maps (p, …)."""
    return values.view(-1, *[1] * (maps.dim() - 1))
