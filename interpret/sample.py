"""Figures of one explained epoch: its traces, or those of its window, in the colours of a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from interpret import explanation_figures, spectrogram_figures
from interpret.explained_night import ExplainedNight
from interpret.explanation import Explanation, in_words
from interpret.question import Question
from utils.figure_style import DIVERGING
from utils.stages import STAGES

if TYPE_CHECKING:
    from interpret.explanation_figures import Figure

_LIMIT = 99  # percentile of |attribution| at the ends of the diverging colours


@dataclass(frozen=True)
class ShownEpoch:
    """One epoch of a night to draw: row ``row`` of a question and of a method's explanation.

    ``explanation`` is ``None`` for methods that are shown although nobody asked for them.
    """

    night: ExplainedNight
    question: Question
    row: int
    explanation: Explanation | None

    @property
    def epoch(self) -> int:
        """Number of the epoch in the night."""
        return int(self.question.epochs[self.row])

    @property
    def members(self) -> list[int]:
        """Numbers of the epochs in the window that the model sees around the epoch."""
        return self.question.target.members(torch.tensor([self.epoch]))[0].tolist()

    @property
    def comparison(self) -> str:
        """A second line of a title: F, the baseline, and whether the map is complete."""
        if self.explanation is None:
            return ""
        answer = self.explanation.answer(self.row) | {"settings": self.explanation.settings}
        words = in_words(answer, STAGES[int(self.question.classes[self.row])])
        return words and f"\n{words}"

    def title(self, method: str) -> str:
        """Title of a figure: ``SC4001E0, epoch 12   expert N2   model N2 0.93  ✓: gradcam``."""
        return f"{self.night.staged.recording}, {caption(self.night, self.epoch)}: {method}"


def draw_maps(method: str, shown: ShownEpoch) -> Figure:
    """Draw signed attributions: traces coloured by them, of the epoch or of its whole window.

    Maps of an epoch's spectrogram are drawn as such.
    """
    explanation, row, night = shown.explanation, shown.row, shown.night
    if explanation.spectrogram is not None and explanation.window is None:
        return spectrogram_figures.draw_cells(
            explanation.spectrogram[row].cpu().numpy(),
            night.physical(shown.epoch),
            explanation.grid,
            title=f"{shown.title(method)}{shown.comparison}",
            channels=night.channels,
            unit=night.unit,
        )
    if explanation.window is not None:
        rows = window_rows(shown, explanation.window[row].cpu().numpy(), explanation.context[row])
    else:
        maps = explanation.attributions[row].cpu().numpy()
        rows = [attributed_row(shown, maps, explanation.context[row])]
    # one limit for all rows and both signs: colours compare, and the middle one is 0
    limit = max(1e-12, max(float(np.percentile(np.abs(r.colours), _LIMIT)) for r in rows))
    return draw_rows(
        method,
        shown,
        rows,
        (
            DIVERGING,
            -limit,
            limit,
            f"{method}: against | for the stage\nclipped at percentile {_LIMIT}",
        ),
    )


def draw_rows(
    method: str,
    shown: ShownEpoch,
    rows: Sequence[explanation_figures.SampleRow],
    colour: tuple[str, float, float, str],
) -> Figure:
    """Draw rows of traces; ``colour`` as in :func:`interpret.explanation_figures.draw_sample`."""
    night = shown.night
    return explanation_figures.draw_sample(
        rows,
        title=f"{night.staged.recording}, epoch {shown.epoch}: {method}{shown.comparison}",
        channels=night.channels,
        unit=night.unit,
        colour=colour,
    )


def window_rows(
    shown: ShownEpoch, maps: np.ndarray, context: Tensor
) -> list[explanation_figures.SampleRow]:
    """Rows of all epochs of the window, each with its part of the attributions (l, m, t)."""
    night, epoch, members = shown.night, shown.epoch, shown.members
    effects = context.abs().cpu().numpy() / max(float(context.abs().sum()), 1e-12)
    shares = np.abs(maps).sum(axis=2) / max(float(np.abs(maps).sum()), 1e-12)
    return [
        explanation_figures.SampleRow(
            caption(night, member),
            night.physical(member),
            maps[k],
            effects if member == epoch else None,  # the context was measured for this one alone
            shares[k],
            members.index(member),  # the first place of an edge epoch that fills several
            member == epoch,
        )
        for k, member in enumerate(members)
    ]


def attributed_row(
    shown: ShownEpoch, maps: np.ndarray, context: Tensor
) -> explanation_figures.SampleRow:
    """Row of the epoch alone; bars are shares of absolute context effects and attributions."""
    night, epoch, members = shown.night, shown.epoch, shown.members
    effects, size = context.abs().cpu().numpy(), np.abs(maps).sum(axis=1)
    return explanation_figures.SampleRow(
        caption(night, epoch),
        night.physical(epoch),
        maps,
        # no bars for a model that sees single epochs
        effects / max(effects.sum(), 1e-12) if len(members) > 1 else None,
        size / max(size.sum(), 1e-12),
        members.index(epoch),
    )


def caption(night: ExplainedNight, epoch: int) -> str:
    """Caption of a trace: ``epoch 12   expert N2   model N2 0.93  ✓``."""
    staged = night.staged
    true, model = int(staged.expert[epoch]), int(staged.stages[epoch])
    mark = "" if true < 0 else ("  ✓" if true == model else "  ✗")
    expert = STAGES[true] if true >= 0 else "unscored"
    return (
        f"epoch {epoch}   expert {expert}   model {STAGES[model]} "
        f"{staged.probabilities[epoch, model]:.2f}{mark}"
    )
