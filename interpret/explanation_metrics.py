"""Metrics of one method's maps: agreement with events, behaviour under changes, likeness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from interpret.bands import BANDS
from interpret.evidence import (
    EVIDENCE,
    WRONG,
    Reading,
    agreement,
    share_above,
    values_at,
)
from interpret.explained_night import ExplainedNight
from interpret.explanation import Explanation
from interpret.faithfulness import rank_correlation, sensitivity
from interpret.frozen_model import frozen, seeded
from interpret.infidelity import Move, infidelity
from interpret.question import Question
from interpret.scoreboard import Score
from interpret.target import EpochTarget
from utils.stages import STAGES

Measures = dict[str, tuple[str, np.ndarray]]  # by name: the stage of its epochs, their values


@dataclass(frozen=True)
class Evaluated:
    """A night and the question whose answers are evaluated; its target varies the epoch alone.

    ``training`` (n, m, t): epochs of training subjects, on which copies with random weights have
    their batch norms measured; ``None``: on the night itself.
    """

    night: ExplainedNight
    question: Question
    training: Tensor | None = None

    def scores(self, method: str, measure: str, values: np.ndarray) -> Iterator[Score]:
        """Yield one score per epoch, from ``values`` (b,)."""
        for code, value in zip(self.question.classes.tolist(), values, strict=True):
            yield Score(method, measure, STAGES[code], self.night.staged.subject, float(value))

    def some(self, rows: Tensor) -> Evaluated:
        """The same night and question, for the epochs in the rows ``rows`` alone."""
        question = self.question
        epochs, classes = question.epochs[rows], question.classes[rows]
        return replace(self, question=replace(question, epochs=epochs, classes=classes))


def of_evidence(
    evaluated: Evaluated, method: str, explanation: Explanation, reading: Reading
) -> Iterator[Score]:
    """Scores of pointing at events, in epochs rightly staged as the stage they are typical of.

    See :func:`evidence_of`.
    """
    for measure, (stage, values) in evidence_of(evaluated, explanation, reading).items():
        for value in values:
            yield Score(method, measure, stage, evaluated.night.staged.subject, float(value))


def evidence_of(evaluated: Evaluated, explanation: Explanation, reading: Reading) -> Measures:
    """Agreement with each kind of event: ``auroc_spindle`` … of every epoch that has to hold it.

    ``from_wrong_shape_spindle`` … is one value per night: how often an event gets more than a
    distractor, summed over all channels.
    """
    night, result = evaluated.night, {}
    for kind, events in night.events.items():
        stage, role, band = EVIDENCE[kind]
        rows = _rightly_staged(evaluated, stage)
        if role not in night.roles or not len(rows):
            continue
        maps = _maps_in(explanation, band if reading.in_event_band else None).cpu().numpy()
        maps = (np.abs(maps) if reading.size else maps)[rows]
        epochs = evaluated.question.epochs.cpu().numpy()[rows]
        about = {"fs": night.fs, "onsets": night.staged.onsets}
        scored = agreement(maps[:, night.roles.index(role)], events, epochs, **about)
        result |= {f"{name}_{kind}": (stage, values) for name, values in scored.items()}
        whole = maps.sum(axis=1)
        right = values_at(whole, events, epochs, **about)
        for what in WRONG:
            wrong = night.distractors.get(f"{kind}_wrong_{what}")
            if wrong is not None and len(wrong):
                apart = share_above(right, values_at(whole, wrong, epochs, **about))
                result[f"from_wrong_{what}_{kind}"] = (stage, np.array([apart]))
    return result


def _rightly_staged(evaluated: Evaluated, stage: str) -> np.ndarray:
    """Rows of the epochs explained as ``stage``, and staged as the expert does if there is one.

    An event is evidence for its own stage: in other epochs it is neither a hit nor a miss.
    """
    staged, question = evaluated.night.staged, evaluated.question
    epochs = question.epochs.cpu().numpy()
    right = staged.expert[epochs] == staged.stages[epochs]
    if (staged.expert < 0).all():  # nobody scored: the model's stages have to do
        right = np.ones(len(epochs), bool)
    return np.flatnonzero(right & (question.classes.cpu().numpy() == STAGES.index(stage)))


def _maps_in(explanation: Explanation, band: str | None) -> Tensor:
    """Maps (b, m, t), of the bands whose middles lie in the named one if one is named."""
    if explanation.bands is None or band is None:
        return explanation.attributions
    low, high = BANDS[band]
    chosen = [low <= (a + b) / 2 < high for a, b in explanation.edges]
    return explanation.bands[:, chosen].sum(dim=1)


def under_changes(
    evaluated: Evaluated,
    explanation: Explanation,
    again: Callable[[Tensor], Tensor],
    target: EpochTarget,
    moves: Iterator[Move],
) -> Iterator[Score]:
    """Infidelity and largest sensitivity of a method's maps of what ``target`` varies.

    ``again`` maps its inputs (b, …) at the same epochs to attributions (b, …); ``moves`` are the
    changes of them by whose effect the method defines its maps.
    """
    question = evaluated.question
    seed, method = question.plan.seed, explanation.method

    def explainer(x: Tensor) -> Tensor:
        # the same draws every time, so that only the noise in x changes the map
        with frozen(target), seeded(seed):
            return again(x).detach()

    x, extra = target.inputs(question.epochs), (question.epochs, question.classes)
    missed = infidelity(target, x, extra, explanation.finest, moves)
    yield from evaluated.scores(method, "infidelity", missed)
    moved = sensitivity(explainer, x, seed=seed)
    yield from evaluated.scores(method, "sensitivity_max", moved)


def likeness(one: Explanation, other: Explanation) -> Mapping[str, np.ndarray]:
    """Rank correlation of two methods' maps at the same epochs: as they are, and of |A|, (b,)."""
    maps = [explanation.finest.cpu().numpy() for explanation in (one, other)]
    sizes = [np.abs(part) for part in maps]
    return {"likeness": rank_correlation(*maps), "likeness_of_size": rank_correlation(*sizes)}


def signs_kept(one: Explanation, other: Explanation) -> np.ndarray:
    """Share of each map's size that has the same sign in another map of the same epochs, (b,)."""
    first, second = (e.finest.flatten(1).cpu().numpy() for e in (one, other))
    size = np.abs(first)
    kept = (size * (np.sign(first) == np.sign(second))).sum(axis=1)
    return kept / np.maximum(size.sum(axis=1), 1e-12)
