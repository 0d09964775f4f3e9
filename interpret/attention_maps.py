"""The model's own attention as an explanation: windows of an epoch, modalities, epochs.

Weights are the softmax weights of the trained layers, never rescaled by a maximum. Attention is a
candidate explanation: it is scored against planted evidence like every other map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from interpret.explained_night import ExplainedNight
from interpret.explanation import Explanation
from interpret.explanation_figures import SampleRow
from interpret.explanation_method import ExplanationMethod
from interpret.question import Question
from interpret.sample import ShownEpoch, caption, draw_rows
from interpret.stage_means import StageMeans
from utils.figure_style import SEQUENTIAL

if TYPE_CHECKING:
    from interpret.explanation_figures import Figure

_WINDOWS_AT_ONCE = 32  # bounds the memory that attention weights take
_TIMES_UNIFORM = 3.0  # top of the attention colours: three times the uniform weight


@dataclass(frozen=True)
class NightAttention:
    """Attention over a night of n epochs, means over heads and over the windows covering an epoch.

    ``intra`` (n, m, h, 1 + w) and ``cross`` (n, h, 1 + m) keep the heads; ``inter`` (n, 2 l - 1) is
    by offset from -l + 1 to l - 1, NaN where no window reaches, or ``None`` for single epochs.
    """

    intra: Tensor
    cross: Tensor
    inter: Tensor | None

    def shares(self) -> tuple[Tensor, Tensor]:
        """Mean over heads among windows (n, m, w) and modalities (n, m), summing to 1.

        The weights of the CLS tokens on themselves are left out; see :meth:`own`.
        """
        windows = self.intra.mean(dim=2)[..., 1:]
        modalities = self.cross.mean(dim=1)[..., 1:]
        return (
            windows / windows.sum(dim=-1, keepdim=True),
            modalities / modalities.sum(dim=-1, keepdim=True),
        )

    def own(self) -> tuple[Tensor, Tensor]:
        """Weights of the CLS tokens on themselves: (n, m) among windows, (n,) among modalities."""
        return self.intra.mean(dim=2)[..., 0], self.cross.mean(dim=1)[..., 0]

    def rollout(self) -> Tensor:
        """Modality share times window share (n, m, w), which sum to 1 over both."""
        windows, modalities = self.shares()
        return modalities[..., None] * windows


@torch.no_grad()
def night_attention(model: Any, night: Tensor) -> NightAttention:
    """Attention of all windows of a night (n, m, t), averaged by epoch and by offset."""
    length = min(model.num_seq, len(night))
    starts = torch.arange(len(night) - length + 1)
    intra = cross = inter = None
    covered = torch.zeros(len(night))  # how many windows hold each epoch
    model.eval()
    for part in starts.split(_WINDOWS_AT_ONCE):
        members = part[:, None] + torch.arange(length)
        maps = model.attention(night[members.to(night.device)])
        if intra is None:  # numbers of heads and tokens are known after the first windows
            intra = torch.zeros(len(night), *maps.intra.shape[2:])
            cross = torch.zeros(len(night), *maps.cross.shape[2:])
            # sums and counts by offset
            inter = torch.zeros(len(night), 2 * length - 1), torch.zeros(len(night), 2 * length - 1)
        # accumulating calls: an epoch occurs in many windows, which += would count once
        flat = members.flatten()
        covered.index_add_(0, flat, torch.ones(len(flat)))
        intra.index_add_(0, flat, maps.intra.flatten(0, 1).cpu())
        cross.index_add_(0, flat, maps.cross.flatten(0, 1).cpu())
        if maps.inter is None:
            continue
        weights = maps.inter.mean(dim=1).cpu()
        # (l, l) from attending to attended epoch, from 0 for -l + 1
        offsets = torch.arange(length)[None, :] - torch.arange(length)[:, None] + length - 1
        index = (members[:, :, None], offsets[None].expand_as(weights))
        inter[0].index_put_(index, weights, accumulate=True)
        inter[1].index_put_(index, torch.ones_like(weights), accumulate=True)
    return NightAttention(
        intra / covered.view(-1, 1, 1, 1),
        cross / covered.view(-1, 1, 1),
        # 0 / 0 is the NaN of offsets that no window reaches
        None if maps.inter is None else inter[0] / inter[1],
    )


class Attention(ExplanationMethod):
    """Attention to the windows of an epoch, as shares that are spread over its samples.

    There is no baseline and no change of F that the shares would sum to: they hold what a model
    attends to, whatever that is evidence for.
    """

    name = "attention"
    asks_model = False
    signed = False
    always_shown = True
    piece_seconds = 0.5  # it is constant over half a second

    def allows(self, model: Any) -> bool:
        """Whether the model shows its attention."""
        return model.shows_attention

    def weights(self, attention: NightAttention) -> Tensor:
        """Weights that are spread over the samples of every epoch: (n, m, w)."""
        return attention.shares()[0]

    def compute(self, question: Question) -> Explanation:
        """Explain the question's epochs by the attention of their night."""
        weights = self.weights(question.shared(night_attention))
        maps = spread(weights, question.target.night.shape[-1])
        maps = maps[question.epochs.cpu()].to(question.epochs.device)
        # F, its baseline, the completeness error and the context have no meaning here
        nothing = torch.full((len(question.epochs),), torch.nan)
        return Explanation(self.name, maps, nothing, nothing, nothing, nothing[:, None])

    def draw(self, shown: ShownEpoch) -> Figure | None:
        """Draw every epoch of the window in the colours of its own attention."""
        rows = attended_rows(shown, shown.question.shared(night_attention))
        colour = (
            SEQUENTIAL,
            0.0,
            _TIMES_UNIFORM,
            f"{self.name}, times uniform, clipped at {_TIMES_UNIFORM:g}",
        )
        return draw_rows(self.name, shown, rows, colour)

    def add_to(
        self,
        means: StageMeans,
        night: ExplainedNight,
        question: Question,
        explanation: Explanation | None,
    ) -> None:
        """Add the attention of every epoch of the night, under the stage the model gives it."""
        attention = question.shared(night_attention)
        # the product, because window shares alone sum to 1 in every modality
        maps = attention.rollout().numpy()
        for epoch, code in enumerate(night.staged.stages):
            offsets, weights = np.zeros(0, int), None
            if attention.inter is not None:
                weights = attention.inter[epoch].numpy()
                offsets = np.flatnonzero(np.isfinite(weights))  # some are not reached near the ends
                weights, offsets = weights[offsets], offsets - len(weights) // 2
            means.take(night, self.name, int(code), maps[epoch], offsets, weights)


def spread(weights: Tensor, n_samples: int) -> Tensor:
    """Spread weights of windows (n, m, w) over their samples: (n, m, t) of the same sums."""
    width = n_samples // weights.shape[-1]
    return weights.repeat_interleave(width, dim=-1) / width


def attended_rows(shown: ShownEpoch, attention: NightAttention) -> list[SampleRow]:
    """Rows of all epochs of the window with their attention, as means over the night's windows."""
    night, members = shown.night, shown.members
    windows, modalities = attention.shares()
    times = windows * windows.shape[-1]  # 1 is uniform attention
    times = times.repeat_interleave(night.signals.shape[-1] // windows.shape[-1], dim=-1)
    return [
        SampleRow(
            caption(night, member),
            night.physical(member),
            times[member].numpy(),
            inter_of(attention, member, members),
            modalities[member].numpy(),
            members.index(member),
            member == shown.epoch,
        )
        for member in members
    ]


def inter_of(attention: NightAttention, epoch: int, members: Sequence[int]) -> np.ndarray | None:
    """Weights of an epoch on those of the window, from the night's means by offset."""
    if attention.inter is None:
        return None
    middle = attention.inter.shape[1] // 2
    weights = attention.inter[epoch, [middle + member - epoch for member in members]]
    return weights.nan_to_num(0.0).numpy()
