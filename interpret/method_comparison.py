"""Comparison of a night's explanation methods by their metrics, with controls beside them.

Measured on a few epochs of every stage of a night, drawn by the seed; completeness on all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from interpret import registry
from interpret.explanation import Explanation
from interpret.explanation_method import ExplanationMethod
from interpret.explanation_metrics import Evaluated, evidence_of, likeness
from interpret.faithfulness import UNIT_SECONDS, Curves, curves, random_scores, unit_scores
from interpret.random_weights import layers_from_head, with_random_weights
from interpret.scoreboard import Score
from interpret.target import EpochTarget
from utils.stages import EPOCH_SECONDS

UNTRAINED = "random weights"


def evaluate_methods(
    evaluated: Evaluated, explanations: Mapping[str, Explanation]
) -> tuple[list[Score], dict[str, Curves]]:
    """Scores of every method, and the curves of deletion and insertion behind them."""
    scores = []
    # completeness costs nothing more, so it is given for all epochs
    for method, explanation in explanations.items():
        errors = explanation.error.cpu().numpy()
        scores += evaluated.scores(method, "completeness_error", errors)
    question = evaluated.question
    rows = some_of_each(question.classes, question.plan.evaluated_per_stage, question.plan.seed)
    few = evaluated.some(rows)
    explanations = {method: _rows_of(one, rows) for method, one in explanations.items()}
    # after the others, whose explanations somebody asked for
    explanations |= {method.name: method.compute(few.question) for method in registry.model_free()}
    drawn, measured = against_random_orders(few, explanations, question.plan.baseline)
    scores += measured
    for kind in question.plan.replacements:
        scores += against_random_orders(few, explanations, kind, f"_{kind}")[1]
    for method, explanation in explanations.items():
        scores += registry.method_named(method).evaluate(few, explanation)
    scores += while_weights_turn_random(few, explanations)
    return scores, drawn


def some_of_each(classes: Tensor, most: int, seed: int) -> Tensor:
    """Rows (k,) of ``classes`` (b,), up to ``most`` of every class, drawn by ``seed``."""
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
        spectrogram=None if explanation.spectrogram is None else explanation.spectrogram[rows],
        window=None,  # metrics read the epoch's own maps
        image=None,
    )


def against_random_orders(
    evaluated: Evaluated, explanations: Mapping[str, Explanation], baseline: str, ending: str = ""
) -> tuple[dict[str, Curves], Iterator[Score]]:
    """Deletion and insertion of the probability, and how far they beat random orders.

    What is removed is replaced by ``baseline``; ``ending`` of the measures' names. The curve of the
    control is the mean of all random orders.
    """
    question, control = evaluated.question, registry.control().name
    plan, units = question.plan, round(EPOCH_SECONDS / UNIT_SECONDS)
    # a shallow copy shares the night's encodings, which are costly; only the output differs
    graded = copy(question.target)
    graded.output = "prob"
    compared = graded.baseline(question.epochs, baseline, plan.seed)

    def curves_of(order: Tensor, mirrored: bool = False) -> Curves:
        asked = (graded, question.epochs, question.classes, order)
        return curves(*asked, compared=compared, mirrored=mirrored)

    orders = {name: unit_scores(e.attributions, units) for name, e in explanations.items()}
    seeds = range(plan.seed, plan.seed + plan.orders)
    chance = [curves_of(random_scores(orders[control], seed), mirrored=True) for seed in seeds]
    drawn = {name: curves_of(order) for name, order in orders.items() if name != control}
    drawn[control] = Curves(
        chance[0].share,
        np.mean([c.deletion for c in chance], axis=0),
        np.mean([c.insertion for c in chance], axis=0),
    )
    # the control's score is that of its own maps, one order among many: 0 up to chance
    measured = {**drawn, control: curves_of(orders[control])}
    return drawn, _beyond(evaluated, measured, drawn[control], ending)


def _beyond(
    evaluated: Evaluated, measured: Mapping[str, Curves], chance: Curves, ending: str
) -> Iterator[Score]:
    """Score every method by the differences between its areas and those of chance."""
    # signs such that higher is better for both
    by_chance = chance.areas()
    for name, own in measured.items():
        deletion, insertion = own.areas()
        gained = {
            "deletion_below": by_chance[0] - deletion,
            "insertion_above": insertion - by_chance[1],
        }
        for measure, values in gained.items():
            yield from evaluated.scores(name, f"{measure}_random{ending}", values)


def while_weights_turn_random(
    evaluated: Evaluated, explanations: Mapping[str, Explanation]
) -> Iterator[Score]:
    """Likeness of maps while layers lose what they learned, head first; evidence when all have.

    A method whose map stays the same explains the signal, not the model. Evidence is the mean over
    ``untrained`` copies: a single one has one direction for all that is large.
    """
    methods = [m for m in map(registry.method_named, explanations) if m.asks_model]
    plan = evaluated.question.plan
    parts = layers_from_head(evaluated.question.model)
    # all parts at once are the copies below
    for depth in range(1, len(parts)):
        copied = _asked(evaluated, plan.seed, parts[:depth])
        for method in (m for m in methods if m.by_layer):
            alike = likeness(explanations[method.name], method.compute(copied.question))
            for measure, values in alike.items():
                name = f"{measure}_{depth}_{parts[depth - 1]}"
                yield from evaluated.scores(method.name, name, values)
    copies = [_asked(evaluated, plan.seed + k, None) for k in range(plan.untrained)]
    for method in methods:
        maps = [method.compute(copied.question) for copied in copies]
        yield from _of_untrained(evaluated, method, explanations[method.name], maps)


def _of_untrained(
    evaluated: Evaluated, method: ExplanationMethod, own: Explanation, maps: list[Explanation]
) -> Iterator[Score]:
    """Score a method's maps of untrained copies, beside those of the trained model."""
    alike = [likeness(own, one) for one in maps]
    for measure in alike[0]:
        values = np.mean([one[measure] for one in alike], axis=0)
        yield from evaluated.scores(method.name, f"{measure}_to_random_weights", values)
    evidence = [evidence_of(evaluated, one, method.reading) for one in maps]
    subject = evaluated.night.staged.subject
    for measure, (stage, _) in evidence[0].items():
        for value in np.mean([one[measure][1] for one in evidence], axis=0):
            yield Score(f"{method.name}, {UNTRAINED}", measure, stage, subject, float(value))


def _asked(evaluated: Evaluated, seed: int, parts: list[str] | None) -> Evaluated:
    """The same question, quick, about a copy of the model with random weights in ``parts``."""
    question, training = evaluated.question, evaluated.training
    night = question.target.night
    if training is None:  # of whom the model was trained on, nothing is at hand
        training = night
    model = with_random_weights(question.model, seed, parts, training=training)
    # a new target: encodings of the night depend on the weights
    target = EpochTarget(model, night, question.target.output)
    return replace(evaluated, question=replace(question, target=target, quick=True))
