"""Which method deserves trust: every explanation of a night scored, controls beside it.

Measured on up to ``per_stage`` epochs a night and stage, drawn by the seed; completeness on all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpret.attribution import METHODS, TIMES_INPUT, Explanation, explain, frozen, seeded
from interpret.bands import BANDS, components
from interpret.evidence import EVIDENCE, agreement
from interpret.explained_night import ExplainedNight
from interpret.faithfulness import (
    UNIT_SECONDS,
    Curves,
    curves,
    infidelity,
    layers_from_head,
    random_scores,
    rank_correlation,
    sensitivity,
    unit_scores,
    with_random_weights,
)
from interpret.grad_cam import NAME as GRAD_CAM
from interpret.grad_cam import grad_cam
from interpret.scoreboard import Score
from interpret.spectral_gradients import named_edges, spectral_gradients
from interpret.target import EpochTarget
from utils.stages import EPOCH_SECONDS, STAGES

UNTRAINED = "random weights"
_CHEAP = {"ig": {"steps": 20, "doubling": False}, "specgrad": {"steps": 10}}  # for noisy copies
_MODELLED = (
    *METHODS,
    "specgrad",
    GRAD_CAM,
)  # methods that ask the model, so that a copy can be asked too


@dataclass(frozen=True)
class Judged:
    """A night's epochs (b,) under judgement, the classes (b,) explained, and how.

    ``orders`` random orders are compared with, ``untrained`` copies stand for models that have
    learned nothing; integrated gradients get a second baseline, ``other_baseline``.
    """

    target: EpochTarget
    night: ExplainedNight
    epochs: Tensor
    classes: Tensor
    baseline: str
    other_baseline: str
    orders: int
    untrained: int
    seed: int

    def scores(self, method: str, measure: str, values: np.ndarray) -> Iterator[Score]:
        """One score an epoch."""
        for code, value in zip(self.classes.tolist(), values, strict=True):
            yield Score(method, measure, STAGES[code], self.night.staged.subject, float(value))

    def some(self, rows: Tensor) -> Judged:
        """The same, for some of the epochs."""
        return replace(self, epochs=self.epochs[rows], classes=self.classes[rows])


def judge(
    judged: Judged, found: Mapping[str, Explanation], per_stage: int
) -> tuple[list[Score], dict[str, Curves]]:
    """Scores of every method, and the curves of deletion and insertion behind them."""
    scores = []
    for method, explanation in found.items():
        errors = explanation.error.cpu().numpy()
        scores += judged.scores(method, "completeness_error", errors)
    rows = some_of_each(judged.classes, per_stage, judged.seed)
    few = judged.some(rows)
    found = {method: _rows_of(explanation, rows) for method, explanation in found.items()}
    drawn, measured = against_random_orders(few, found)
    scores += measured
    for method, explanation in found.items():
        scores += of_evidence(few, method, explanation)
        if method in METHODS and method != "random":
            scores += under_noise(few, explanation)
    if "ig" in found:
        scores += with_another_baseline(few, found["ig"])
    scores += while_weights_turn_random(few, found)
    return scores, drawn


def some_of_each(classes: Tensor, most: int, seed: int) -> Tensor:
    """Row numbers, up to ``most`` of every class, drawn by ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    shuffled, classes = torch.randperm(len(classes), generator=generator), classes.cpu()
    kept = [shuffled[classes[shuffled] == k][:most] for k in classes.unique()]
    return torch.cat(kept).sort().values


def _rows_of(explanation: Explanation, rows: Tensor) -> Explanation:
    bands = explanation.bands
    return replace(
        explanation,
        attributions=explanation.attributions[rows],
        bands=None if bands is None else bands[rows],
        window=None,
        image=None,
    )


def against_random_orders(
    judged: Judged, found: Mapping[str, Explanation]
) -> tuple[dict[str, Curves], Iterator[Score]]:
    """Deletion and insertion of the probability, and how far they beat random orders."""
    graded, units = copy(judged.target), round(EPOCH_SECONDS / UNIT_SECONDS)
    graded.output = "prob"

    def curves_of(order: Tensor) -> Curves:
        return curves(graded, judged.epochs, judged.classes, order, baseline=judged.baseline)

    orders = {name: unit_scores(e.attributions, units) for name, e in found.items()}
    seeds = range(judged.seed, judged.seed + judged.orders)
    chance = [curves_of(random_scores(orders["random"], seed)) for seed in seeds]
    drawn = {name: curves_of(order) for name, order in orders.items() if name != "random"}
    drawn["random"] = Curves(
        chance[0].share,
        np.mean([c.deletion for c in chance], axis=0),
        np.mean([c.insertion for c in chance], axis=0),
    )
    by_chance = drawn["random"].areas()
    one_order = curves_of(orders["random"])

    def scores() -> Iterator[Score]:
        for name, own in {**drawn, "random": one_order}.items():
            deletion, insertion = own.areas()
            yield from judged.scores(name, "deletion_below_random", by_chance[0] - deletion)
            yield from judged.scores(name, "insertion_above_random", insertion - by_chance[1])

    return drawn, scores()


def of_evidence(judged: Judged, method: str, explanation: Explanation) -> Iterator[Score]:
    """AUROC and pointing at events, at epochs rightly staged as the stage the event speaks for."""
    for measure, values in evidence_of(judged, explanation).items():
        yield from judged.scores(method, measure, values)


def evidence_of(judged: Judged, explanation: Explanation) -> dict[str, np.ndarray]:
    """``auroc_net_spindle`` …, one value an epoch.

    Maps by band are read in the event's band. Amplitudes are those of the signal in that band, for
    maps that hold the signal as a factor.
    """
    night, rows, result = judged.night, judged.epochs.cpu().numpy(), {}
    right = night.staged.expert[rows] == night.staged.stages[rows]
    if (night.staged.expert < 0).all():
        right = np.ones(len(rows), bool)
    for kind, events in night.events.items():
        stage, role, band = EVIDENCE[kind]
        fits = right & (judged.classes.cpu().numpy() == STAGES.index(stage))
        if role not in night.roles or not fits.any():
            continue
        channel = night.roles.index(role)
        maps = (
            explanation.attributions if explanation.bands is None else _of_band(explanation, band)
        )
        amplitude = None
        if explanation.method in (*TIMES_INPUT, "specgrad"):
            within = components(night.signals[:, [channel]], night.fs, [BANDS[band]])[0]
            amplitude = within[judged.epochs, 0].cpu().numpy()
        scored = agreement(
            maps[:, channel].cpu().numpy(), events, rows, fs=night.fs,
            first_epoch=night.staged.first_epoch, amplitude=amplitude,
        )  # fmt: skip
        for measure, values in scored.items():
            result[f"{measure}_{kind}"] = np.where(fits, values, np.nan)
    return result


def _of_band(explanation: Explanation, band: str) -> Tensor:
    """Maps (b, m, t) of the narrower bands whose middle lies in a named one."""
    low, high = BANDS[band]
    chosen = [low <= (a + b) / 2 < high for a, b in explanation.edges]
    return explanation.bands[:, chosen].sum(dim=1)


def under_noise(judged: Judged, explanation: Explanation) -> Iterator[Score]:
    """Infidelity and largest sensitivity of a method's maps."""
    method, target = explanation.method, judged.target
    epochs, classes, seed = judged.epochs, judged.classes, judged.seed
    compared = target.baseline(epochs, judged.baseline, seed)

    def explainer(x: Tensor) -> Tensor:
        with frozen(target), seeded(seed):
            settings = _CHEAP.get(method, {})
            return METHODS[method](target, x, compared, (epochs, classes), **settings).detach()

    maps, times_input = explanation.attributions, method in TIMES_INPUT
    missed = infidelity(target, epochs, classes, maps, times_input=times_input, seed=seed)
    yield from judged.scores(method, "infidelity", missed)
    moved = sensitivity(explainer, target.night[epochs], seed=seed)
    yield from judged.scores(method, "sensitivity_max", moved)


def with_another_baseline(judged: Judged, explanation: Explanation) -> Iterator[Score]:
    """Integrated gradients against a second baseline: what the choice of the first one changes."""
    other = replace(judged, baseline=judged.other_baseline)
    name = f"ig, {other.baseline} baseline"
    found = explain(
        judged.target, judged.epochs, judged.classes, method="ig", baseline=other.baseline,
        seed=judged.seed, steps=explanation.settings.get("steps", 20),
    )  # fmt: skip
    yield from judged.scores(name, "completeness_error", found.error.cpu().numpy())
    yield from of_evidence(judged, name, found)
    alike = rank_correlation(*(e.attributions.cpu().numpy() for e in (explanation, found)))
    yield from judged.scores(name, "likeness_to_first_baseline", alike)


def while_weights_turn_random(judged: Judged, found: Mapping[str, Explanation]) -> Iterator[Score]:
    """Likeness of maps while layers lose what they learned, head first; evidence when all have.

    A method whose map stays the same explains the signal, not the model. Evidence is the mean over
    ``untrained`` copies: a single one has one direction for all that is large.
    """
    methods = [m for m in found if m in _MODELLED and m != "random"]
    parts = layers_from_head(judged.target.model)
    for depth in range(1, len(parts)):
        copied = _asked(judged, judged.seed, parts[:depth])
        for method in methods:
            if method == "specgrad":  # ten times the work of the others
                continue
            alike = _likeness(found[method], _explained_again(copied, method))
            yield from judged.scores(method, f"likeness_{depth}_{parts[depth - 1]}", alike)
    copies = [_asked(judged, judged.seed + k, None) for k in range(judged.untrained)]
    for method in methods:
        maps = [_explained_again(copied, method) for copied in copies]
        alike = np.mean([_likeness(found[method], one) for one in maps], axis=0)
        yield from judged.scores(method, "likeness_to_random_weights", alike)
        evidence = [evidence_of(judged, one) for one in maps]
        for measure in evidence[0]:
            values = np.mean([one[measure] for one in evidence], axis=0)
            yield from judged.scores(f"{method}, {UNTRAINED}", measure, values)


def _asked(judged: Judged, seed: int, parts: list[str] | None) -> Judged:
    """The same question to a copy of the model with random weights in ``parts``."""
    model = with_random_weights(judged.target.model, seed, parts)
    target = EpochTarget(model, judged.target.night, judged.target.output)
    return replace(judged, target=target)


def _explained_again(judged: Judged, method: str) -> Explanation:
    what, settings = (judged.target, judged.epochs, judged.classes), _CHEAP.get(method, {})
    if method == "specgrad":
        return spectral_gradients(*what, edges=named_edges(judged.night.fs), **settings)
    if method == GRAD_CAM:
        return grad_cam(*what)
    about: dict[str, Any] = {"baseline": judged.baseline, "seed": judged.seed, **settings}
    return explain(*what, method=method, **about)


def _likeness(one: Explanation, other: Explanation) -> np.ndarray:
    return rank_correlation(one.attributions.cpu().numpy(), other.attributions.cpu().numpy())
