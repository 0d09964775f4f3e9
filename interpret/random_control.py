"""The control of all methods: random maps, which each of them has to surpass."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from interpret.attribution import Attribution
from interpret.explained_night import ExplainedNight
from interpret.explanation import Explanation
from interpret.explanation_method import ExplanationMethod
from interpret.explanation_metrics import Evaluated
from interpret.question import Question
from interpret.sample import ShownEpoch
from interpret.scoreboard import Score
from interpret.stage_means import StageMeans


class RandomControl(Attribution):
    """Normal noise that depends on no model; it is evaluated, not drawn."""

    name = "random"
    control = True
    asks_model = False

    def maps(self, target, x, compared, extra) -> Tensor:
        """Noise in the shape of ``x``."""
        return torch.randn(x.shape, device=x.device)

    def draw(self, shown: ShownEpoch) -> None:
        """Draw nothing."""

    def add_to(
        self,
        means: StageMeans,
        night: ExplainedNight,
        question: Question,
        explanation: Explanation,
    ) -> None:
        """Add the maps alone, to the table: the context is the model's, and no control."""
        means.add(night, question, self.name, explanation, context=False, drawn=False)

    def evaluate(self, evaluated: Evaluated, explanation: Explanation) -> Iterator[Score]:
        """Score the agreement with events by chance."""
        # not that of its base class: infidelity and sensitivity of noise mean nothing
        return ExplanationMethod.evaluate(self, evaluated, explanation)
