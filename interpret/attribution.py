"""Attributions: maps made from F, an input and a baseline, and how complete they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from interpret.baselines import AUTO
from interpret.explanation import Explanation, completeness_error
from interpret.explanation_method import ExplanationMethod
from interpret.explanation_metrics import Evaluated, under_changes
from interpret.frozen_model import frozen, seeded
from interpret.infidelity import Move, replaced_pieces
from interpret.question import SPECTROGRAM, Plan, Question
from interpret.scoreboard import Score
from interpret.target import EpochTarget
from utils.errors import UserError


class Attribution(ExplanationMethod):
    """A method that attributes F(x) - F(x') to the samples of x.

    ``complete``: the maps sum to F(x) - F(x'). ``on_spectrogram``: of a model that reads
    spectrograms it attributes to their cells, unless samples are asked for. ``quick``: settings
    that save work, for questions that ask for it.
    """

    complete: bool = False
    on_spectrogram: bool = False
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
        """The changes of the input ``x`` (b, …) by whose effect on F the maps are defined."""
        return replaced_pieces(x, compared, seed)

    def baseline_kind(self, target: EpochTarget, asked: str) -> str:
        """Name of the baseline that is taken where ``asked`` is asked for."""
        return target.baseline_kind(asked)

    def compared(self, target: EpochTarget, epochs: Tensor, kind: str, seed: int) -> Tensor:
        """Baselines (b, …) of ``epochs`` (b,)."""
        return target.baseline(epochs, kind, seed)

    def target_of(self, target: EpochTarget, space: str) -> EpochTarget:
        """The target that varies what is attributed to in ``space``: samples or a spectrogram."""
        reads = space == SPECTROGRAM and target.model.reads_spectrograms
        return target.on_spectrogram if self.on_spectrogram and reads else target

    def compute(self, question: Question) -> Explanation:
        """Explain with the plan's baseline and seed."""
        plan = question.plan
        settings = self.quick if question.quick else self.settings_of(plan)
        return self.explain(
            self.target_of(question.target, plan.space),
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
        baseline: str = AUTO,
        seed: int = 0,
        **settings: Any,
    ) -> Explanation:
        """Explain F at ``epochs`` (b,) for ``classes`` (b,); parameters are left as they were.

        A :class:`~interpret.target.WindowTarget` has its window attributed as well.

        Raises:
            UserError: the model does not allow it, or the baseline equals the input.
        """
        device, parts = target.night.device, []
        kind = self.baseline_kind(target, baseline)
        with frozen(target):
            for part in torch.arange(len(epochs)).split(target.at_once):
                extra = epochs[part].to(device), classes[part].to(device)
                x = target.inputs(extra[0])
                compared = self.compared(target, extra[0], kind, seed)
                # there would be no change of F to share out, nor to measure completeness by
                if self.complete and torch.equal(x.expand_as(compared), compared):
                    raise UserError("the baseline equals the epochs: nothing could be attributed")
                # a seed for every batch: with one for all, batches would repeat the same draws
                with seeded(seed + int(part[0])):
                    maps = self.maps(target, x, compared, extra, **settings).detach()
                with torch.no_grad():
                    at_baseline = self.at_baseline(target, compared, extra)
                    parts.append((maps, target(x, *extra), *at_baseline, target.context(*extra)))
        columns = [torch.cat(part) for part in zip(*parts, strict=True)]
        about = {"baseline": kind, "seed": seed, "output": target.output, **settings}
        return self._explanation(target, epochs.to(device), columns, about)

    def at_baseline(
        self, target: EpochTarget, compared: Tensor, extra: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """F (b,), probabilities (b, 5) and distance from the mean (b,) of ``compared`` (b, …)."""
        logits = target.logits(compared, extra[0])
        value = target.output_of(logits, extra[1])
        return value, logits.softmax(dim=-1), target.distance(compared, extra[0])

    def _explanation(
        self, target: EpochTarget, epochs: Tensor, columns: list[Tensor], about: dict[str, Any]
    ) -> Explanation:
        maps, value, at_baseline, probabilities, distance, context = columns
        error = torch.full_like(value, torch.nan)
        if self.complete:
            error = completeness_error(maps, value, at_baseline)
        own, grid = target.own(maps, epochs), target.grid
        return Explanation(
            self.name,
            target.over_time(own),
            value,
            at_baseline,
            error,
            context,
            about,
            window=target.over_time(maps) if target.spans_window else None,
            spectrogram=None if grid is None else own,
            grid=grid,
            baseline_probabilities=probabilities,
            baseline_distance=distance,
            deviates_from=target.deviates_from,
        )

    def evaluate(self, evaluated: Evaluated, explanation: Explanation) -> Iterator[Score]:
        """Agreement with events, infidelity and sensitivity."""
        yield from super().evaluate(evaluated, explanation)
        question = evaluated.question
        plan, extra = question.plan, (question.epochs, question.classes)
        target = self.target_of(question.target, plan.space)
        kind = self.baseline_kind(target, plan.baseline)
        compared = self.compared(target, question.epochs, kind, plan.seed)

        # against the baseline of the signal without noise, so that only x moves
        def again(x: Tensor) -> Tensor:
            return self.maps(target, x, compared, extra, **self.quick)

        moves = self.moves(target.inputs(question.epochs), compared, plan.seed)
        yield from under_changes(evaluated, explanation, again, target, moves)
