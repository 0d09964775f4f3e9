"""What the explanations of a stage have in common: context, modalities, course within the epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from interpret import explanation_figures
from interpret.attention_maps import NightAttention
from interpret.attribution import Explanation
from interpret.explained_night import ExplainedNight
from interpret.scoreboard import Score, summarise
from interpret.target import EpochTarget
from utils import figures
from utils.files import write_arrays, write_table
from utils.stages import EPOCH_SECONDS, STAGES

_PIECES = 2 * EPOCH_SECONDS


class StageMeans:
    """Sums over the explained epochs of all nights; attention counts every epoch of a night."""

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = channels
        self.scores: list[Score] = []
        self._courses: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)

    def add(
        self,
        night: ExplainedNight,
        target: EpochTarget,
        epochs: np.ndarray,
        classes: np.ndarray,
        found: Mapping[str, Explanation],
    ) -> None:
        """Take the explanations of a night's ``epochs`` (b,) for ``classes`` (b,)."""
        for method, explanation in found.items():
            maps = explanation.attributions.abs().cpu().numpy()
            context = None if method == "random" else explanation.context.abs().cpu().numpy()
            for row, (epoch, code) in enumerate(zip(epochs, classes, strict=True)):
                shares = None
                if context is not None and np.isfinite(context[row]).all():
                    shares = context[row] / max(context[row].sum(), 1e-12)
                offsets = np.arange(target.length) - int(target.positions[epoch])
                self._take(night, method, int(code), maps[row], offsets, shares)

    def add_attention(self, night: ExplainedNight, attention: NightAttention) -> None:
        """Take the attention of every epoch of a night, for the stage the model gives it."""
        windows, modalities = (part.numpy() for part in attention.shares())
        maps = modalities[:, :, None] * windows
        for epoch, code in enumerate(night.staged.stages):
            offsets, weights = np.zeros(0, int), None
            if attention.inter is not None:
                weights = attention.inter[epoch].numpy()
                offsets = np.flatnonzero(np.isfinite(weights))
                weights, offsets = weights[offsets], offsets - len(weights) // 2
            self._take(night, "attention", int(code), maps[epoch], offsets, weights)

    def _take(
        self,
        night: ExplainedNight,
        method: str,
        code: int,
        size: np.ndarray,
        offsets: np.ndarray,
        context: np.ndarray | None,
    ) -> None:
        stage, subject = STAGES[code], night.staged.subject
        total = max(float(size.sum()), 1e-12)
        for channel, part in zip(self.channels, size, strict=True):
            measure = f"modality {channel}"
            self.scores.append(Score(method, measure, stage, subject, float(part.sum()) / total))
        for offset, share in zip(offsets, [] if context is None else context, strict=False):
            measure = f"epoch {offset:+d}"
            self.scores.append(Score(method, measure, stage, subject, float(share)))
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
        means = {key: value for key, value in means.items() if key[0] != "random"}
        picture = explanation_figures.draw_stage_means(means, self.channels)
        figures.save(picture, folder / "stage_means.png")

    def _shown(
        self, rows: Sequence[Mapping[str, Any]], key: tuple[str, str], course: np.ndarray
    ) -> dict[str, Any]:
        own = {r["share_of"]: r["mean"] for r in rows if (r["method"], r["stage"]) == key}
        offsets = sorted(int(n.split()[1]) for n in own if n.startswith("epoch "))
        context = (offsets, [own[f"epoch {k:+d}"] for k in offsets]) if len(offsets) > 1 else None
        modalities = [own[f"modality {channel}"] for channel in self.channels]
        return {"context": context, "modalities": modalities, "course": course}


def _course(size: np.ndarray) -> np.ndarray:
    """Means over half seconds, or over what divides the samples evenly: (m, t) -> (m, 60)."""
    pieces = gcd(size.shape[1], _PIECES)
    means = size.reshape(len(size), pieces, -1).mean(axis=2)
    return means.repeat(_PIECES // pieces, axis=1)
