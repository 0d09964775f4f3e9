"""Attributions: maps made from F, an input and a baseline, and how complete they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from interpret.explanation import Explanation, completeness_error
from interpret.explanation_method import ExplanationMethod
from interpret.explanation_metrics import Evaluated, under_changes
from interpret.frozen_model import frozen, seeded
from interpret.infidelity import Move, replaced_pieces
from interpret.question import Plan, Question
from interpret.scoreboard import Score
from interpret.target import EpochTarget
from utils.errors import UserError


class Attribution(ExplanationMethod):
    """A method that attributes F(x) - F(x') to the samples of x.

    ``complete``: the maps sum to F(x) - F(x'). ``quick``: settings that save work, for questions
    that ask for it.
    """

    complete: bool = False
    quick: ClassVar[dict[str, Any]] = {}

    @abstractmethod
    def maps(
        self,
        target: EpochTarget,
        x: Tensor,
        compared: Tensor,
        extra: tuple[Tensor, Tensor],
        **settings: Any,
    ) -> Tensor:
        """Maps in the shape of the input ``x`` (b, …), with ``compared`` as the baseline.

        ``extra``: epochs (b,) and classes (b,), which ``target`` is called with after ``x``.
        """

    def settings_of(self, plan: Plan) -> dict[str, Any]:
        """The settings of the plan that concern this method alone."""
        return {}

    def moves(self, x: Tensor, compared: Tensor, seed: int) -> Iterator[Move]:
        """The changes of ``x`` (b, m, t) by whose effect on F the maps are defined."""
        return replaced_pieces(x, compared, seed)

    def compute(self, question: Question) -> Explanation:
        """Explain with the plan's baseline and seed."""
        plan = question.plan
        settings = self.quick if question.quick else self.settings_of(plan)
        return self.explain(
            question.target,
            question.epochs,
            question.classes,
            baseline=plan.baseline,
            seed=plan.seed,
            **settings,
        )

    def explain(
        self,
        target: EpochTarget,
        epochs: Tensor,
        classes: Tensor,
        *,
        baseline: str = "zero",
        seed: int = 0,
        **settings: Any,
    ) -> Explanation:
        """Explain F at ``epochs`` (b,) for ``classes`` (b,); parameters are left as they were.

        A :class:`~interpret.target.WindowTarget` has its window attributed as well.

        Raises:
            UserError: the model does not allow it, or the baseline equals the input.
        """
        device, parts = target.night.device, []
        with frozen(target):
            for part in torch.arange(len(epochs)).split(target.at_once):
                these, wanted = epochs[part].to(device), classes[part].to(device)
                x = target.inputs(these)
                compared = target.baseline(these, baseline, seed)
                # there would be no change of F to share out, nor to measure completeness by
                if self.complete and torch.equal(x, compared):
                    raise UserError("the baseline equals the epochs: nothing could be attributed")
                # a seed for every batch: with one for all, batches would repeat the same draws
                with seeded(seed + int(part[0])):
                    batch_maps = self.maps(target, x, compared, (these, wanted), **settings)
                with torch.no_grad():
                    values = target(x, these, wanted), target(compared, these, wanted)
                    parts.append((batch_maps.detach(), *values, target.context(these, wanted)))
        maps, value, at_baseline, context = (torch.cat(part) for part in zip(*parts, strict=True))
        error = torch.full_like(value, torch.nan)
        if self.complete:
            error = completeness_error(maps, value, at_baseline)
        about = {"baseline": baseline, "seed": seed, "output": target.output, **settings}
        return Explanation(
            self.name,
            target.own(maps, epochs.to(device)),
            value,
            at_baseline,
            error,
            context,
            about,
            window=maps if maps.dim() == 4 else None,  # (b, l, m, t) of a window target
        )

    def evaluate(self, evaluated: Evaluated, explanation: Explanation) -> Iterator[Score]:
        """Agreement with events, infidelity and sensitivity."""
        yield from super().evaluate(evaluated, explanation)
        question = evaluated.question
        target, extra = question.target, (question.epochs, question.classes)
        compared = target.baseline(question.epochs, question.plan.baseline, question.plan.seed)

        # against the baseline of the signal without noise, so that only x moves
        def again(x: Tensor) -> Tensor:
            return self.maps(target, x, compared, extra, **self.quick)

        moves = self.moves(target.night[question.epochs], compared, question.plan.seed)
        yield from under_changes(evaluated, explanation, again, moves)
