"""Mean explanations of a stage: context, modalities, course within the epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from interpret import report_figures
from interpret.explained_night import ExplainedNight
from interpret.explanation import Explanation
from interpret.question import Question
from interpret.scoreboard import Score, summarise
from utils import figures
from utils.files import write_arrays, write_table
from utils.stages import EPOCH_SECONDS, STAGES

_PIECES = 2 * EPOCH_SECONDS  # half seconds, as long as the windows of attention by default


class StageMeans:
    """Shares of the explained epochs of all nights; a method may add epochs of its own choice."""

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = channels
        self.scores: list[Score] = []
        self._undrawn: set[str] = set()
        self._courses: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)

    def add(
        self,
        night: ExplainedNight,
        question: Question,
        method: str,
        explanation: Explanation,
        *,
        context: bool = True,
        drawn: bool = True,
    ) -> None:
        """Take a method's explanation of the question's epochs.

        ``context``: with what the epochs around them add; ``drawn``: into the figure, too.
        """
        if not drawn:
            self._undrawn.add(method)
        # sizes: signed parts would cancel in a mean over epochs
        maps = explanation.attributions.abs().cpu().numpy()
        effects = explanation.context.abs().cpu().numpy() if context else None
        numbered = zip(question.epochs.tolist(), question.classes.tolist(), strict=True)
        for row, (epoch, code) in enumerate(numbered):
            shares = None
            # a method that measures no context leaves it NaN
            if effects is not None and np.isfinite(effects[row]).all():
                # all effects of a constant model are 0
                shares = effects[row] / max(effects[row].sum(), 1e-12)
            target = question.target
            offsets = np.arange(target.length) - int(target.positions[epoch])
            self.take(night, method, code, maps[row], offsets, shares)

    def take(
        self,
        night: ExplainedNight,
        method: str,
        code: int,
        size: np.ndarray,
        offsets: np.ndarray,
        context: np.ndarray | None,
    ) -> None:
        """Take one epoch of stage ``code``: its sizes |A| (m, t) become shares of their sum.

        ``context`` (k,): shares of the epochs ``offsets`` (k,) away, if they are known.
        """
        # shares of the epoch's own sum, so that every epoch counts alike however large its logit is
        stage, subject = STAGES[code], night.staged.subject
        total = max(float(size.sum()), 1e-12)
        for channel, part in zip(self.channels, size, strict=True):
            measure = f"modality {channel}"
            self.scores.append(Score(method, measure, stage, subject, float(part.sum()) / total))
        # not strict: offsets are given even where their shares are not known
        for offset, share in zip(offsets, [] if context is None else context, strict=False):
            measure = f"epoch {offset:+d}"
            self.scores.append(Score(method, measure, stage, subject, float(share)))
        # times the number of values: 1 is what a uniform map would have everywhere
        self._courses[method, stage].append(_course(size) / total * size.size)

    def write(self, folder: Path) -> None:
        """``stage_means.csv``, ``stage_means.npz`` (courses, (m, 60) each) and ``.png``."""
        rows = summarise(self.scores)
        for row in rows:
            row["share_of"] = row.pop("measure")
        write_table(folder / "stage_means.csv", rows)
        courses = {key: np.mean(parts, axis=0) for key, parts in self._courses.items()}
        names = {f"{method}_{stage}": course for (method, stage), course in courses.items()}
        write_arrays(folder / "stage_means.npz", names)
        means = {key: self._shown(rows, key, course) for key, course in courses.items()}
        means = {key: value for key, value in means.items() if key[0] not in self._undrawn}
        picture = report_figures.draw_stage_means(means, self.channels)
        figures.save(picture, folder / "stage_means.png")

    def _shown(
        self, rows: Sequence[Mapping[str, Any]], key: tuple[str, str], course: np.ndarray
    ) -> dict[str, Any]:
        own = {r["share_of"]: r["mean"] for r in rows if (r["method"], r["stage"]) == key}
        offsets = sorted(int(n.split()[1]) for n in own if n.startswith("epoch "))
        # a single offset is the epoch itself, of a model without context
        context = (offsets, [own[f"epoch {k:+d}"] for k in offsets]) if len(offsets) > 1 else None
        modalities = [own[f"modality {channel}"] for channel in self.channels]
        n_epochs = len(self._courses[key])
        return {"context": context, "modalities": modalities, "course": course, "epochs": n_epochs}


def _course(size: np.ndarray) -> np.ndarray:
    """Means over half seconds, or over the next longer pieces of equal size: (m, t) -> (m, 60)."""
    pieces = gcd(size.shape[1], _PIECES)
    means = size.reshape(len(size), pieces, -1).mean(axis=2)
    return means.repeat(_PIECES // pieces, axis=1)
