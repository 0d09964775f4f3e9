"""The interface of every explanation method: how it is computed, drawn and evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from interpret.evidence import SIGNED, Reading
from interpret.explained_night import ExplainedNight
from interpret.explanation import Explanation
from interpret.explanation_metrics import Evaluated, of_evidence
from interpret.question import Question
from interpret.sample import ShownEpoch, draw_maps
from interpret.scoreboard import Score
from interpret.stage_means import StageMeans

if TYPE_CHECKING:
    from interpret.explanation_figures import Figure


class ExplanationMethod(ABC):
    """A registered explanation method; ``name`` and :meth:`compute` are all that it must have.

    ``control``: the maps that every method has to surpass, always computed.
    ``asks_model``: computed from F, so that it is compared with copies that have random weights;
    ``by_layer``: also while layers lose their weights one after the other, unless that is slow.
    ``model_free``: maps of the signal alone, which all others have to surpass as well.
    ``reading``: the one way in which maps are read where they are compared with events.
    ``signed``: maps hold evidence for and against the stage, not only how much there is.
    ``always_shown``: drawn and averaged wherever the model allows it, even if not asked for.
    ``piece_seconds``: the shortest piece of a map that the page shows.
    """

    name: str
    control: bool = False
    asks_model: bool = True
    by_layer: bool = True
    model_free: bool = False
    reading: Reading = SIGNED
    signed: bool = True
    always_shown: bool = False
    piece_seconds: float = 0.1  # the pieces of a trace in the figures

    def allows(self, model: Any) -> bool:
        """Whether a model has what the method needs; with others the method is left out."""
        return True

    @abstractmethod
    def compute(self, question: Question) -> Explanation:
        """Explain F at the question's epochs (b,) for its classes (b,)."""

    def draw(self, shown: ShownEpoch) -> Figure | None:
        """Draw one epoch, by default its traces in the colours of the map; ``None``: no figure."""
        return draw_maps(self.name, shown)

    def add_to(
        self,
        means: StageMeans,
        night: ExplainedNight,
        question: Question,
        explanation: Explanation,
    ) -> None:
        """Add to the means by stage: by default the maps and the context of every epoch."""
        means.add(night, question, self.name, explanation)

    def evaluate(self, evaluated: Evaluated, explanation: Explanation) -> Iterator[Score]:
        """Scores by measures of the method's own: by default its agreement with events."""
        return of_evidence(evaluated, self.name, explanation, self.reading)
