"""Rollout: attention followed through the layers, from modalities to their windows.

After Abnar & Zuidema, Quantifying Attention Flow in Transformers, ACL 2020.
"""

from __future__ import annotations

from torch import Tensor

from interpret.attention_maps import Attention, NightAttention
from interpret.explained_night import ExplainedNight
from interpret.explanation import Explanation
from interpret.question import Question
from interpret.sample import ShownEpoch
from interpret.stage_means import StageMeans


class Rollout(Attention):
    """Modality share times window share: the maps of a model's own attention, in one."""

    name = "rollout"
    always_shown = False

    def weights(self, attention: NightAttention) -> Tensor:
        """(n, m, w); sums to 1 over both."""
        return attention.rollout()

    def draw(self, shown: ShownEpoch) -> None:
        """Nothing: the figure of attention shows both factors."""

    def add_to(
        self,
        means: StageMeans,
        night: ExplainedNight,
        question: Question,
        explanation: Explanation | None,
    ) -> None:
        """Nothing: attention's own means are those of the product."""
