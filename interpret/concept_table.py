"""Encodings of many nights' epochs at a model's layers, and the table of concepts made of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from interpret.concept_directions import (
    FEWEST,
    Directions,
    accuracy,
    learn,
    sensitivity,
    verdict,
    with_false_discovery_rate,
)
from interpret.concept_layers import AtLayer, read_layers
from interpret.concepts import CONCEPTS, PAIRS, Amounts, Pairs, stages_of
from interpret.explained_night import ExplainedNight
from interpret.target import EpochTarget
from utils.stages import STAGES

TRAINED = "trained"  # the model that the others are copies of, with random weights
# logits have no zero: what raises those of all stages alike changes no stage
OUTPUT = "logodds"
_PER_STAGE = 100  # epochs per night whose gradients are taken
_MOST = 4000  # pairs, or epochs of a stage: two thousand random directions meet each of them


class PairRows(NamedTuple):
    """Encodings (k, d) of ``Pairs``, their kinds (k,), amounts and subjects (k,)."""

    more: np.ndarray
    less: np.ndarray
    other: np.ndarray
    kind: np.ndarray
    gap: np.ndarray
    amount_more: np.ndarray
    amount_less: np.ndarray
    subject: np.ndarray

    def some(self, chosen: np.ndarray) -> PairRows:
        """The pairs of these numbers."""
        return PairRows(*(part[chosen] for part in self))


@dataclass
class ConceptNights:
    """What was read of some subjects' nights through one model or several.

    ``pairs``: (model, layer, concept) -> their encodings, night by night; ``gradients``: (model,
    layer, stage) -> (e, d) and subjects (e,); ``known``: concept -> where its amounts are from.
    """

    pairs: dict[tuple[str, str, str], list[PairRows]] = field(
        default_factory=lambda: defaultdict(list)
    )
    gradients: dict[tuple[str, str, str], list[tuple[np.ndarray, np.ndarray]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    known: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    subjects: set[str] = field(default_factory=set)

    def add(
        self,
        night: ExplainedNight,
        amounts: Mapping[str, Amounts],
        pairs: Mapping[str, Pairs],
        models: Mapping[str, Any],
        seed: int,
    ) -> None:
        """Read the epochs of a night's pairs, and some of every stage, through the models."""
        stages = stages_of(night)
        for name in amounts:
            self.known[name].add((amounts[name].source, amounts[name].unit))
        chosen = _some_of_every_stage(stages, seed)
        of_pairs = [part for p in pairs.values() for part in (p.more, p.less, p.other)]
        epochs = np.unique(np.concatenate([chosen, *of_pairs]))
        self.subjects.add(night.staged.subject)
        if not len(epochs):  # nobody and nothing staged any
            return
        for model_name, model in models.items():
            target = EpochTarget(model, night.signals, OUTPUT)
            layers = read_layers(target, epochs, stages[epochs])
            for name, pair in pairs.items():
                ends = _encodings(target, layers, epochs, stages, pair)
                self._add_pairs(model_name, name, ends, pair, amounts[name], night)
            for layer, read in layers.items():
                key = (model_name, layer)
                self._add_gradients(key, read, np.isin(epochs, chosen), stages[epochs], night)

    def _add_pairs(
        self,
        model: str,
        name: str,
        encodings: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
        pairs: Pairs,
        amounts: Amounts,
        night: ExplainedNight,
    ) -> None:
        left = amounts.values[pairs.less] if pairs.without is None else np.zeros(len(pairs.more))
        for layer, ends in encodings.items():
            rows = PairRows(
                *ends,
                kind=pairs.kind,
                gap=pairs.gap,
                amount_more=amounts.values[pairs.more],
                amount_less=left,
                subject=np.full(len(pairs.more), night.staged.subject),
            )
            self.pairs[model, layer, name].append(rows)

    def _add_gradients(
        self,
        key: tuple[str, str],
        read: AtLayer,
        chosen: np.ndarray,
        stages: np.ndarray,
        night: ExplainedNight,
    ) -> None:
        for code, stage in enumerate(STAGES):
            rows = read.gradients[chosen & (stages == code)]
            if len(rows):
                subjects = np.full(len(rows), night.staged.subject)
                self.gradients[(*key, stage)].append((rows, subjects))

    def pairs_at(self, key: tuple[str, str, str]) -> PairRows | None:
        """All pairs of a concept at a model's layer; ``None`` where no night has any."""
        parts = self.pairs.get(key)
        return PairRows(*(np.concatenate(p) for p in zip(*parts, strict=True))) if parts else None


def _encodings(
    target: EpochTarget,
    layers: Mapping[str, AtLayer],
    epochs: np.ndarray,
    stages: np.ndarray,
    pairs: Pairs,
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """By layer, encodings (k, d) of the pairs' epochs with more, less and another by chance.

    ``layers`` have been read at ``epochs`` (e,).
    """
    without = layers
    if pairs.without is not None and len(pairs.less):
        own = stages[pairs.less]
        without = read_layers(target, pairs.less, own, instead=pairs.without)
    ends = {}
    for layer, read in layers.items():
        more, less, other = (
            read.encodings[np.searchsorted(epochs, rows)]
            for rows in (pairs.more, pairs.less, pairs.other)
        )
        ends[layer] = (more, less if without is layers else without[layer].encodings, other)
    return ends


def _some_of_every_stage(stages: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(stages == code) for code in range(len(STAGES))]
    return np.concatenate([rng.choice(r, min(len(r), _PER_STAGE), replace=False) for r in rows])


def table_of(
    fitted: ConceptNights, tested: ConceptNights, *, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Rows by model, layer, concept and stage, and the concepts that no row is about, with why.

    Directions are learned from the nights ``fitted``; accuracy and sensitivity are of ``tested``.
    The false discovery rate is over all rows of a model.
    """
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    absent = []
    for model, layer in dict.fromkeys(key[:2] for key in tested.gradients):
        for concept in CONCEPTS:
            key = (model, layer, concept.name)
            learned, kept = fitted.pairs_at(key), tested.pairs_at(key)
            kind = _best_kind(learned, kept)
            if kind is None:
                absent.append(_absent(model, layer, concept.name, fitted, tested))
                continue
            learned, kept = (_some_pairs(part, kind, seed) for part in (learned, kept))
            directions = learn(learned.more, learned.less, learned.other, seed=seed)
            share, probe_p = accuracy(directions, kept.more, kept.less)
            about = _about(key, fitted.known[concept.name], PAIRS[kind], learned, kept)
            about |= {"added_sd": directions.added, "probe_accuracy": share, "probe_p": probe_p}
            for stage in STAGES:
                if parts := tested.gradients.get((model, layer, stage)):
                    row = _of_stage(directions, parts, seed)
                    rows[model].append(about | {"stage": stage, "rule": concept.rule(stage)} | row)
    return _tested(rows), absent


def _best_kind(learned: PairRows | None, kept: PairRows | None) -> int | None:
    """Number in ``PAIRS`` of the best kind of which there are enough pairs to learn and to test."""
    if learned is None or kept is None:
        return None
    kinds = reversed(range(len(PAIRS)))
    enough = (k for k in kinds if min((p.kind >= k).sum() for p in (learned, kept)) >= FEWEST)
    return next(enough, None)


def _some_pairs(pairs: PairRows, kind: int, seed: int) -> PairRows:
    rows = np.flatnonzero(pairs.kind >= kind)
    return pairs.some(rows[_at_most(len(rows), seed)])


def _at_most(n: int, seed: int) -> np.ndarray:
    """Numbers below ``n``, all or a few thousand of them by chance."""
    return np.random.default_rng(seed).permutation(n)[:_MOST]


def _absent(
    model: str, layer: str, concept: str, fitted: ConceptNights, tested: ConceptNights
) -> dict[str, str]:
    why = f"fewer than {FEWEST} pairs of epochs that differ in it"
    if concept not in fitted.known or concept not in tested.known:
        why = "no truth file, detector or channel for it"
    return {"model": model, "layer": layer, "concept": concept, "why": why}


def _about(
    key: tuple[str, str, str],
    known: set[tuple[str, str]],
    kind: str,
    learned: PairRows,
    kept: PairRows,
) -> dict[str, Any]:
    sources, units = (sorted(set(part)) for part in zip(*known, strict=True))
    return {
        **dict(zip(("model", "layer", "concept"), key, strict=True)),
        "source": " and ".join(sources),
        "pairs": kind,
        "amplitude_gap_db": float(learned.gap.mean()),
        "unit": " and ".join(units),
        "amount_more": float(learned.amount_more.mean()),
        "amount_less": float(learned.amount_less.mean()),
        "pairs_learned": len(learned.more),
        "subjects_learned": len(set(learned.subject)),
        "pairs_tested": len(kept.more),
        "subjects_tested": len(set(kept.subject)),
    }


def _of_stage(
    directions: Directions, parts: list[tuple[np.ndarray, np.ndarray]], seed: int
) -> dict[str, Any]:
    gradients, subjects = (np.concatenate(part) for part in zip(*parts, strict=True))
    some = _at_most(len(gradients), seed)
    gradients, subjects = gradients[some], subjects[some]
    result = sensitivity(directions, gradients)
    rises = gradients @ directions.patterns[0] > 0
    return {
        "tcav": result.tcav,
        "random_low": result.low,
        "random_high": result.high,
        "derivative": result.derivative,
        "alignment": result.alignment,
        "p": result.p,
        "epochs": len(gradients),
        "subjects": len(set(subjects)),
        "by_subject": {str(s): float(rises[subjects == s].mean()) for s in np.unique(subjects)},
    }


def _tested(rows: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All rows with their false discovery rate and verdict, ranked among stages by alignment."""
    table = [row for own in rows.values() for row in with_false_discovery_rate(own)]
    by_cell: dict[tuple[str, ...], dict[str, dict[str, Any]]] = defaultdict(dict)
    by_concept: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for row in table:
        by_cell[row["layer"], row["concept"], row["stage"]][row["model"]] = row
        by_concept[row["model"], row["layer"], row["concept"]].append(row["alignment"])
    for row in table:
        stages = by_concept[row["model"], row["layer"], row["concept"]]
        row["rank"] = 1 + sum(alignment > row["alignment"] for alignment in stages)
        cell = by_cell[row["layer"], row["concept"], row["stage"]]
        copies = [other["alignment"] for name, other in cell.items() if name != TRAINED]
        row["verdict"] = verdict(row, copies) if row["model"] == TRAINED else ""
    return table
