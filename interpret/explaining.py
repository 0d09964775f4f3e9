"""Explain chosen epochs of staged nights and leave arrays, figures, an index and the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpret.attention_maps import NAMES as ATTENTION
from interpret.attention_maps import NightAttention, night_attention
from interpret.attribution import METHODS, Explanation, explain
from interpret.explained_night import ExplainedNight
from interpret.faithfulness import Curves
from interpret.grad_cam import NAME as GRAD_CAM
from interpret.grad_cam import allows, grad_cam
from interpret.sample import draw_epoch
from interpret.scoreboard import Score
from interpret.spectral_gradients import linear_edges, named_edges, spectral_gradients
from interpret.stage_means import StageMeans
from interpret.target import EpochTarget, WindowTarget
from interpret.trust import Judged, judge
from utils import files
from utils.metrics import plain
from utils.staged_night import StagedNight
from utils.stages import EPOCH_SECONDS, STAGES

NAMES = (*METHODS, "specgrad", GRAD_CAM, *ATTENTION)
CONTROL = "random"


@dataclass(frozen=True)
class Plan:
    """What is computed for every chosen epoch; ``target_class`` is predicted, true or a stage.

    ``span`` is the epoch alone or its whole window. ``steps`` of integrated gradients to begin
    with; ``band_hz`` wide bands of spectral gradients, 0 for the named ones; random ``orders`` and
    ``untrained`` copies to compare with, on at most ``judged_per_stage`` epochs a night and stage;
    ``pictures`` are drawn a night.
    """

    methods: tuple[str, ...]
    baseline: str = "zero"
    other_baseline: str = "shuffled"
    output: str = "logit"
    target_class: str = "predicted"
    span: str = "epoch"
    seed: int = 0
    steps: int = 20
    band_hz: float = 0.0
    orders: int = 20
    untrained: int = 3
    judged_per_stage: int = 20
    pictures: int = 20


@dataclass
class Found:
    """What explaining a run's nights has gathered so far."""

    means: StageMeans
    entries: list[dict[str, Any]] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    curves: list[dict[str, Curves]] = field(default_factory=list)


def explain_night(
    model: Any, night: ExplainedNight, chosen: np.ndarray, plan: Plan, folder: Path, found: Found
) -> None:
    """Write a folder for every chosen epoch, and add index entries and scores to ``found``."""
    kind = WindowTarget if plan.span == "window" else EpochTarget
    target = kind(model, night.signals, plan.output)
    classes = classes_of(night.staged, chosen, plan.target_class)
    chosen, classes = chosen[classes >= 0], classes[classes >= 0]
    if not len(chosen):
        return
    epochs = torch.from_numpy(chosen).to(night.signals.device)
    wanted = torch.from_numpy(classes.astype(np.int64)).to(epochs.device)
    attention = night_attention(model, night.signals) if model.shows_attention else None
    maps = explain_all(target, epochs, wanted, attention, plan)
    alone = target if plan.span == "epoch" else EpochTarget(model, night.signals, plan.output)
    judged = Judged(
        alone, night, epochs, wanted, plan.baseline, plan.other_baseline, plan.orders,
        plan.untrained, plan.seed,
    )  # fmt: skip
    scores, curves = judge(judged, maps, plan.judged_per_stage)
    found.scores += scores
    found.curves.append(curves)
    modelled = {m: e for m, e in maps.items() if m not in ATTENTION}
    found.means.add(night, target, chosen, classes, modelled)
    if attention is not None:
        found.means.add_attention(night, attention)
    for row, epoch in enumerate(chosen.tolist()):
        place = folder / f"{night.staged.recording}_e{epoch:04d}"
        write_arrays(place, night, epoch, maps, row)
        if row < plan.pictures:
            draw_epoch(place, night, target, epoch, maps, row, attention)
        found.entries.append(entry_of(night, epoch, int(classes[row]), maps, row, place.name))


def explain_all(
    target: EpochTarget,
    epochs: Tensor,
    classes: Tensor,
    attention: NightAttention | None,
    plan: Plan,
) -> dict[str, Explanation]:
    """Every method of the plan that the model allows, and the random control."""
    found = {}
    for method in dict.fromkeys((*plan.methods, CONTROL)):
        if method in METHODS:
            settings = {"steps": plan.steps} if method == "ig" else {}
            found[method] = explain(
                target, epochs, classes, method=method, baseline=plan.baseline, seed=plan.seed,
                **settings,
            )  # fmt: skip
        elif method == "specgrad":
            alone = target
            if type(target) is not EpochTarget:
                alone = EpochTarget(target.model, target.night, target.output)
            fs = target.night.shape[-1] / EPOCH_SECONDS
            wide = linear_edges(width=plan.band_hz) if plan.band_hz else named_edges(fs)
            found[method] = spectral_gradients(alone, epochs, classes, edges=wide)
        elif method == GRAD_CAM:
            if allows(target.model):
                found[method] = grad_cam(target, epochs, classes)
        elif attention is not None:
            found[method] = as_explanation(attention, method, epochs, target.night.shape[-1])
    return found


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


def write_arrays(
    folder: Path, night: ExplainedNight, epoch: int, found: Mapping[str, Explanation], row: int
) -> None:
    """``input.npz`` and one file a method: signed and absolute maps under names of their own.

    ``window`` (l, m, t), ``bands`` (f, m, t) with their ``edges_hz`` and ``image`` (frames, bins)
    where a method has them.
    """
    signals = night.physical(epoch).astype(np.float32)
    time = np.arange(signals.shape[1], dtype=np.float32) / night.fs
    files.write_arrays(folder / "input.npz", {"signals": signals, "time_s": time})
    for method, explanation in found.items():
        signed = explanation.attributions[row].cpu().numpy().astype(np.float32)
        arrays = {"signed": signed, "size": np.abs(signed), "context": explanation.context[row]}
        if explanation.window is not None:
            arrays["window"] = explanation.window[row]
        if explanation.bands is not None:
            arrays |= {"bands": explanation.bands[row], "edges_hz": np.array(explanation.edges)}
        if explanation.image is not None:
            arrays["image"] = explanation.image[row]
        arrays = {k: v.cpu().numpy() if isinstance(v, Tensor) else v for k, v in arrays.items()}
        files.write_arrays(folder / f"{method}.npz", arrays)


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
        "evidence": night.evidence,
        "folder": place,
        "methods": {
            method: {
                "file": f"{place}/{method}.npz",
                "value": plain(explanation.value[row]),
                "baseline_value": plain(explanation.baseline_value[row]),
                "completeness_error": plain(explanation.error[row]),
                "settings": explanation.settings,
            }
            for method, explanation in found.items()
        },
    }


def mean_curves(parts: Sequence[Mapping[str, Curves]]) -> dict[str, Curves]:
    """Curves of all nights together, epochs one after the other."""
    return {
        name: Curves(
            parts[0][name].share,
            np.concatenate([part[name].deletion for part in parts]),
            np.concatenate([part[name].insertion for part in parts]),
        )
        for name in (parts[0] if parts else ())
    }
