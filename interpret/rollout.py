"""Attention rollout: attention followed through the layers, from epochs to their windows.

After Abnar & Zuidema, Quantifying Attention Flow in Transformers, ACL 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor

from interpret.attention_maps import Attention, NightAttention, night_attention, spread
from interpret.explained_night import ExplainedNight
from interpret.explanation import Explanation
from interpret.question import Question
from interpret.sample import ShownEpoch
from interpret.stage_means import StageMeans
from interpret.target import WindowTarget


class Rollout(Attention):
    """Maps of epoch share times modality share times window share, by the model's own attention."""

    name = "rollout"
    always_shown = False  # its base class is shown in any case

    def weights(self, attention: NightAttention) -> Tensor:
        """Weights of an epoch's windows (n, m, w), which sum to 1 over all modalities."""
        return attention.rollout()

    def compute(self, question: Question) -> Explanation:
        """Explain by R[t, i, m, w] = inter[t, i] R[i, m, w]: all of it sums to 1 over a window.

        The map of an epoch is its own part, R[t, t, m, w], and ``context`` what each epoch of the
        window has, the sums of R[t, i] over m and w. Models of single epochs have one share, 1.
        """
        attention, target = question.shared(night_attention), question.target
        epochs = question.epochs.cpu()
        members = target.members(epochs).cpu()
        shares = torch.ones(members.shape)
        if attention.inter is not None:
            offsets = members - epochs[:, None] + attention.inter.shape[1] // 2
            shares = attention.inter[epochs[:, None], offsets].nan_to_num(0.0)
            shares = shares / shares.sum(dim=1, keepdim=True)
        weights = self.weights(attention)[members] * shares[:, :, None, None]
        device, nothing = question.epochs.device, torch.full((len(epochs),), torch.nan)
        own = weights[torch.arange(len(epochs)), target.positions[epochs]]
        samples, window = target.night.shape[-1], None
        if isinstance(target, WindowTarget):
            window = spread(weights.flatten(0, 1), samples).unflatten(0, members.shape).to(device)
        maps = spread(own, samples).to(device)
        return Explanation(
            self.name, maps, nothing, nothing, nothing, shares.to(device), window=window
        )

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
