"""Attention rollout: attention followed through the layers, from modalities to their windows.

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
    """Maps of modality share times window share, from the model's own attention."""

    name = "rollout"
    always_shown = False  # its base class is shown in any case

    def weights(self, attention: NightAttention) -> Tensor:
        """Weights of an epoch's windows (n, m, w), which sum to 1 over all modalities."""
        return attention.rollout()

    def draw(self, shown: ShownEpoch) -> None:
        """Draw nothing: the figure of attention shows both factors."""

    def add_to(
        self,
        means: StageMeans,
        night: ExplainedNight,
        question: Question,
        explanation: Explanation | None,
    ) -> None:
        """Add nothing: the means of :class:`Attention` are those of the product already."""
