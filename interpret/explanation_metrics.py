"""Metrics of one method's maps: agreement with events, behaviour under noise, likeness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from interpret.bands import BANDS, components
from interpret.evidence import EVIDENCE, agreement
from interpret.explained_night import ExplainedNight
from interpret.explanation import Explanation
from interpret.faithfulness import infidelity, rank_correlation, sensitivity
from interpret.frozen_model import frozen, seeded
from interpret.question import Question
from interpret.scoreboard import Score
from interpret.spectrogram_maps import spread_frames, within
from interpret.target import EpochTarget
from utils.stages import STAGES


@dataclass(frozen=True)
class Evaluated:
    """A night and the question whose answers are evaluated; its target varies the epoch alone."""

    night: ExplainedNight
    question: Question

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
    evaluated: Evaluated, method: str, explanation: Explanation, *, times_input: bool
) -> Iterator[Score]:
    """Scores of pointing at events, in epochs rightly staged as the stage they are typical of.

    See :func:`evidence_of`.
    """
    measures = evidence_of(evaluated, explanation, times_input=times_input)
    for measure, values in measures.items():
        yield from evaluated.scores(method, measure, values)


def evidence_of(
    evaluated: Evaluated, explanation: Explanation, *, times_input: bool
) -> dict[str, np.ndarray]:
    """Agreement with each kind of event: ``auroc_net_spindle`` …, one value per epoch.

    Maps by band are read in the event's band. Amplitudes are those of the signal in that band, for
    maps that hold the signal as a factor (``times_input``).
    """
    night, classes = evaluated.night, evaluated.question.classes.cpu().numpy()
    rows, result = evaluated.question.epochs.cpu().numpy(), {}
    right = night.staged.expert[rows] == night.staged.stages[rows]
    if (night.staged.expert < 0).all():  # nobody scored: the model's stages have to do
        right = np.ones(len(rows), bool)
    for kind, events in night.events.items():
        stage, role, band = EVIDENCE[kind]
        # an event is evidence for its own stage: in other epochs it is neither a hit nor a miss
        fits = right & (classes == STAGES.index(stage))
        if role not in night.roles or not fits.any():
            continue
        channel = night.roles.index(role)
        scored = agreement(
            _maps_in(explanation, band)[:, channel].cpu().numpy(),
            events,
            rows,
            fs=night.fs,
            first_epoch=night.staged.first_epoch,
            # cells of a spectrogram hold the logarithm of the signal, not the signal
            amplitude=_amplitude(evaluated, channel, band)
            if times_input and explanation.spectrogram is None
            else None,
        )
        for measure, values in scored.items():
            result[f"{measure}_{kind}"] = np.where(fits, values, np.nan)
    return result


def _maps_in(explanation: Explanation, band: str) -> Tensor:
    """Maps (b, m, t), of the bands whose middles lie in the named one if maps are split by band."""
    if explanation.spectrogram is not None:
        seconds, hertz = explanation.grid
        cells = within(explanation.spectrogram, hertz, BANDS[band])
        return spread_frames(cells, seconds, explanation.attributions.shape[-1])
    if explanation.bands is None:
        return explanation.attributions
    low, high = BANDS[band]
    chosen = [low <= (a + b) / 2 < high for a, b in explanation.edges]
    return explanation.bands[:, chosen].sum(dim=1)


def _amplitude(evaluated: Evaluated, channel: int, band: str) -> np.ndarray:
    """A channel's signal within a band at the epochs evaluated, (b, t)."""
    night = evaluated.night
    # filtered as a whole night, so that the edges of epochs leave no trace
    within = components(night.signals[:, [channel]], night.fs, [BANDS[band]])[0]
    return within[evaluated.question.epochs, 0].cpu().numpy()


def under_noise(
    evaluated: Evaluated,
    explanation: Explanation,
    again: Callable[[Tensor], Tensor],
    *,
    target: EpochTarget,
    times_input: bool,
) -> Iterator[Score]:
    """Infidelity and largest sensitivity of a method's maps of what ``target`` varies.

    ``again`` maps its inputs (b, …) at the same epochs to attributions (b, …).
    """
    question = evaluated.question
    seed, method = question.plan.seed, explanation.method

    def explainer(x: Tensor) -> Tensor:
        # the same draws every time, so that only the noise in x changes the map
        with frozen(target), seeded(seed):
            return again(x).detach()

    missed = infidelity(
        target,
        question.epochs,
        question.classes,
        explanation.finest,
        times_input=times_input,
        seed=seed,
    )
    yield from evaluated.scores(method, "infidelity", missed)
    moved = sensitivity(explainer, target.inputs(question.epochs), seed=seed)
    yield from evaluated.scores(method, "sensitivity_max", moved)


def likeness(one: Explanation, other: Explanation) -> np.ndarray:
    """Rank correlation of two methods' maps at the same epochs, (b,)."""
    return rank_correlation(one.finest.cpu().numpy(), other.finest.cpu().numpy())


def signs_kept(one: Explanation, other: Explanation) -> np.ndarray:
    """Share of each map's size that has the same sign in another map of the same epochs, (b,)."""
    first, second = (e.finest.flatten(1).cpu().numpy() for e in (one, other))
    size = np.abs(first)
    kept = (size * (np.sign(first) == np.sign(second))).sum(axis=1)
    return kept / np.maximum(size.sum(axis=1), 1e-12)
