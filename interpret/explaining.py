"""Explain chosen epochs of staged nights and leave arrays, figures, an index and the scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpret.attention import NAMES as ATTENTION
from interpret.attention import NightAttention, night_attention
from interpret.attribution import METHODS, TIMES_INPUT, Explanation, explain, frozen, seeded
from interpret.evidence import EVIDENCE, agreement
from interpret.faithfulness import (
    UNIT_SECONDS,
    curves,
    infidelity,
    random_scores,
    rank_correlation,
    sensitivity,
    unit_scores,
    with_random_weights,
)
from interpret.night import ExplainedNight
from interpret.sample import draw_epoch
from interpret.scoreboard import Score, summarise
from interpret.target import EpochTarget, baselines_of
from utils.exports import write_table
from utils.files import write_json
from utils.scoring import plain
from utils.stages import EPOCH_SECONDS, STAGES
from utils.staging import StagedNight

NAMES = (*METHODS, *ATTENTION)


@dataclass(frozen=True)
class Plan:
    """What is computed for every chosen epoch; ``target_class`` is predicted, true or a stage.

    ``steps`` of integrated gradients to begin with, random ``orders`` that deletion is compared
    with, on at most ``curves_per_stage`` epochs a night and stage; ``pictures`` are drawn a night.
    """

    methods: tuple[str, ...]
    baseline: str = "zero"
    output: str = "logit"
    target_class: str = "predicted"
    seed: int = 0
    steps: int = 20
    orders: int = 20
    curves_per_stage: int = 20
    pictures: int = 20


def explain_night(
    model: Any, night: ExplainedNight, chosen: np.ndarray, plan: Plan, folder: Path
) -> tuple[list[dict[str, Any]], list[Score]]:
    """Write a folder for every chosen epoch; returns the index entries and the scores."""
    target = EpochTarget(model, night.signals, plan.output)
    classes = classes_of(night.staged, chosen, plan.target_class)
    chosen, classes = chosen[classes >= 0], classes[classes >= 0]
    if not len(chosen):
        return [], []
    device = night.signals.device
    epochs = torch.from_numpy(chosen).to(device)
    wanted = torch.from_numpy(classes.astype(np.int64)).to(device)
    attention = night_attention(model, night.signals) if hasattr(model, "attention") else None
    found = {}
    for method in dict.fromkeys((*plan.methods, "random")):
        if method in METHODS:
            settings = {"steps": plan.steps} if method == "ig" else {}
            found[method] = explain(
                target, epochs, wanted, method=method, baseline=plan.baseline, seed=plan.seed,
                **settings,
            )  # fmt: skip
        elif attention is not None:
            found[method] = as_explanation(attention, method, epochs, night.signals.shape[-1])
    scores = list(score_all(target, night, epochs, wanted, found, plan))
    scores += compare_with_random_weights(model, night, epochs, wanted, found, plan)
    entries = []
    for row, epoch in enumerate(chosen.tolist()):
        place = folder / f"{night.staged.recording}_e{epoch:04d}"
        place.mkdir()
        write_arrays(place, night, epoch, found, row)
        if row < plan.pictures:
            draw_epoch(place, night, target, epoch, found, row, attention)
        entries.append(entry_of(night, epoch, int(classes[row]), found, row, place.name))
    return entries, scores


def classes_of(staged: StagedNight, chosen: np.ndarray, target_class: str) -> np.ndarray:
    """Class explained at each chosen epoch; -1 where ``true`` is asked for and nobody scored."""
    if target_class == "predicted":
        return staged.stages[chosen]
    if target_class == "true":
        return staged.expert[chosen]
    return np.full(len(chosen), STAGES.index(target_class), np.int8)


def as_explanation(
    attention: NightAttention, method: str, epochs: Tensor, n_samples: int
) -> Explanation:
    """Attention spread over samples: it has no baseline and sums to no change of F."""
    maps = attention.as_samples(method, n_samples)[epochs.cpu()].to(epochs.device)
    nothing = torch.full((len(epochs),), torch.nan)
    return Explanation(method, maps, nothing, nothing, nothing, nothing[:, None])


def score_all(
    target: EpochTarget,
    night: ExplainedNight,
    epochs: Tensor,
    classes: Tensor,
    found: Mapping[str, Explanation],
    plan: Plan,
) -> Iterator[Score]:
    """Completeness, deletion and insertion against random orders, agreement with evidence."""
    stages = [STAGES[code] for code in classes.tolist()]
    subject, units = night.staged.subject, round(EPOCH_SECONDS / UNIT_SECONDS)

    def scores(method: str, measure: str, values: np.ndarray) -> Iterator[Score]:
        for stage, value in zip(stages, values, strict=True):
            yield Score(method, measure, stage, subject, float(value))

    some = some_of_each(classes, plan.curves_per_stage, plan.seed)

    graded = copy(target)
    graded.output = "prob"

    def areas(order: Tensor) -> tuple[np.ndarray, np.ndarray]:
        return curves(graded, epochs[some], classes[some], order, baseline=plan.baseline).areas()

    controls = _units(found["random"], units)[some]
    by_chance = [areas(random_scores(controls, plan.seed + k)) for k in range(plan.orders)]
    deletion, insertion = (np.mean(part, axis=0) for part in zip(*by_chance, strict=True))
    for method, explanation in found.items():
        yield from scores(method, "completeness_error", explanation.error.cpu().numpy())
        own = areas(_units(explanation, units)[some])
        gains = np.full((2, len(epochs)), np.nan)
        gains[:, some.numpy()] = deletion - own[0], own[1] - insertion
        yield from scores(method, "deletion_below_random", gains[0])
        yield from scores(method, "insertion_above_random", gains[1])
        for kind, values in evidence_of(night, epochs, classes, explanation).items():
            yield from scores(method, kind, values)
        if method in METHODS and method != "random":
            noise = np.full((2, len(epochs)), np.nan)
            noise[:, some.numpy()] = under_noise(
                target, epochs[some], classes[some], explanation.attributions[some], method, plan
            )
            yield from scores(method, "infidelity", noise[0])
            yield from scores(method, "sensitivity_max", noise[1])


def under_noise(
    target: EpochTarget,
    epochs: Tensor,
    classes: Tensor,
    attributions: Tensor,
    method: str,
    plan: Plan,
) -> tuple[np.ndarray, np.ndarray]:
    """Infidelity and sensitivity of a method's maps, (b,) each."""
    settings = {"steps": plan.steps, "doubling": False} if method == "ig" else {}
    compared = baselines_of(target.night, epochs.tolist(), plan.baseline, plan.seed)

    def explainer(x: Tensor) -> Tensor:
        with frozen(target), seeded(plan.seed):
            return METHODS[method](target, x, compared, (epochs, classes), **settings).detach()

    times_input = method in TIMES_INPUT
    return (
        infidelity(target, epochs, classes, attributions, times_input=times_input, seed=plan.seed),
        sensitivity(explainer, target.night[epochs], seed=plan.seed),
    )


def compare_with_random_weights(
    model: Any,
    night: ExplainedNight,
    epochs: Tensor,
    classes: Tensor,
    found: Mapping[str, Explanation],
    plan: Plan,
) -> list[Score]:
    """The same methods on an untrained copy: their evidence, and how alike the maps are.

    A method whose map stays the same explains the signal, not what the model has learned.
    """
    target = EpochTarget(with_random_weights(model, plan.seed), night.signals, plan.output)
    stages = [STAGES[code] for code in classes.tolist()]
    scores = []
    for method in plan.methods:
        if method not in METHODS or method == "random":
            continue
        untrained = explain(
            target, epochs, classes, method=method, baseline=plan.baseline, seed=plan.seed,
            **({"steps": plan.steps, "doubling": False} if method == "ig" else {}),
        )  # fmt: skip
        maps = [e.attributions.cpu().numpy() for e in (found[method], untrained)]
        measured = {"likeness_to_random_weights": rank_correlation(*maps)}
        groups = [(method, measured)]
        evidence = evidence_of(night, epochs, classes, untrained)
        groups.append((f"{method}, random weights", evidence))
        for name, values in groups:
            for measure, column in values.items():
                pairs = zip(stages, column, strict=True)
                scores += [
                    Score(name, measure, stage, night.staged.subject, float(value))
                    for stage, value in pairs
                ]
    return scores


def some_of_each(classes: Tensor, most: int, seed: int) -> Tensor:
    """Row numbers, up to ``most`` of every class, drawn by ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    shuffled, classes = torch.randperm(len(classes), generator=generator), classes.cpu()
    kept = [shuffled[classes[shuffled] == k][:most] for k in classes.unique()]
    return torch.cat(kept).sort().values


def _units(explanation: Explanation, units: int) -> Tensor:
    return unit_scores(explanation.attributions, units)


def evidence_of(
    night: ExplainedNight, epochs: Tensor, classes: Tensor, explanation: Explanation
) -> dict[str, np.ndarray]:
    """``auroc_size_spindle`` …, at epochs rightly staged as the stage the event speaks for."""
    rows, result = epochs.cpu().numpy(), {}
    right = night.staged.expert[rows] == night.staged.stages[rows]
    for kind, events in night.events.items():
        stage, role = EVIDENCE[kind]
        fits = right & (classes.cpu().numpy() == STAGES.index(stage))
        if role not in night.roles or not fits.any():
            continue
        maps = explanation.attributions[:, night.roles.index(role)].cpu().numpy()
        found = agreement(maps, events, rows, fs=night.fs, first_epoch=night.staged.first_epoch)
        for measure, values in found.items():
            result[f"{measure}_{kind}"] = np.where(fits, values, np.nan)
    return result


def write_arrays(
    folder: Path, night: ExplainedNight, epoch: int, found: Mapping[str, Explanation], row: int
) -> None:
    """``input.npz`` and one file a method: signed and absolute maps under names of their own."""
    signals = night.physical(epoch).astype(np.float32)
    time = np.arange(signals.shape[1], dtype=np.float32) / night.fs
    np.savez_compressed(folder / "input.npz", signals=signals, time_s=time)
    for method, explanation in found.items():
        signed = explanation.attributions[row].cpu().numpy().astype(np.float32)
        np.savez_compressed(folder / f"{method}.npz", signed=signed, size=np.abs(signed))


def entry_of(
    night: ExplainedNight,
    epoch: int,
    code: int,
    found: Mapping[str, Explanation],
    row: int,
    place: str,
) -> dict[str, Any]:
    """One epoch's line of ``index.json``."""
    staged = night.staged
    return {
        "recording": staged.recording,
        "subject": staged.subject,
        "epoch": epoch,
        "expert": STAGES[staged.expert[epoch]] if staged.expert[epoch] >= 0 else None,
        "model": STAGES[staged.stages[epoch]],
        "probabilities": [round(float(p), 6) for p in staged.probabilities[epoch]],
        "explained": STAGES[code],
        "folder": place,
        "methods": {
            method: {
                "value": plain(explanation.value[row]),
                "baseline_value": plain(explanation.baseline_value[row]),
                "completeness_error": plain(explanation.error[row]),
            }
            for method, explanation in found.items()
        },
    }


def write_index(
    folder: Path, entries: Sequence[Mapping[str, Any]], scores: Sequence[Score], about: Any
) -> list[dict[str, Any]]:
    """``index.json``, ``summary.csv`` and ``faithfulness.json``; returns the summary's rows."""
    rows = summarise(scores)
    write_json(folder / "index.json", {"about": about, "explanations": list(entries)})
    write_json(folder / "faithfulness.json", {"about": about, "rows": rows})
    if rows:
        write_table(folder / "summary.csv", rows)
    return rows
