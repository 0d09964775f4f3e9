"""Figures of one explained epoch: its attributions, and the attention of its window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpret import explanation_figures
from interpret.attention_maps import NAMES as ATTENTION
from interpret.attention_maps import NightAttention
from interpret.attribution import Explanation
from interpret.explained_night import ExplainedNight
from interpret.target import EpochTarget
from utils import figures
from utils.stages import STAGES

_TIMES_UNIFORM = 3.0  # top of the attention colours: three times the uniform weight
_LIMIT = 99  # percentile of |attribution| at the ends of the diverging colours


def draw_epoch(
    folder: Path,
    night: ExplainedNight,
    target: EpochTarget,
    epoch: int,
    found: Mapping[str, Explanation],
    row: int,
    attention: NightAttention | None,
) -> None:
    """A figure of the epoch for every attribution, and the attention of its window."""
    members = target.members(torch.tensor([epoch]))[0].tolist()
    for method, explanation in found.items():
        if method in (*ATTENTION, "random"):
            continue
        maps = explanation.attributions[row].cpu().numpy()
        context = explanation.context[row]
        if explanation.bands is not None:
            picture = explanation_figures.draw_spectral(
                explanation.bands[row].cpu().numpy(), night.physical(epoch), explanation.edges,
                title=f"{night.staged.recording}, {caption(night, epoch)}: {method} by band",
                channels=night.channels, unit=night.unit,
            )  # fmt: skip
            save_both(picture, folder / method)
            continue
        if explanation.image is not None:
            draw_image(folder / method, night, target, epoch, explanation.image[row])
            continue
        if explanation.window is not None:
            rows = window_rows(
                night, epoch, explanation.window[row].cpu().numpy(), context, members
            )
        else:
            rows = [attributed_row(night, epoch, maps, context, members)]
        limit = max(1e-12, max(float(np.percentile(np.abs(r.colours), _LIMIT)) for r in rows))
        colour = ("coolwarm", -limit, limit, f"{method}: against | for the stage")
        save_sample(folder / method, night, epoch, rows, colour)
    if attention is not None:
        rows = attended_rows(night, epoch, attention, members)
        colour = ("viridis", 0.0, _TIMES_UNIFORM, "attention, times uniform")
        save_sample(folder / "attention", night, epoch, rows, colour)


def draw_image(
    stem: Path, night: ExplainedNight, target: EpochTarget, epoch: int, image: Tensor
) -> None:
    """A map (frames, bins) over the spectrogram it was made on."""
    spectrogram = target.model.spectrogram
    with torch.no_grad():
        decibels = spectrogram.decibels(night.signals[[epoch]])[0]
    picture = explanation_figures.draw_image(
        image.cpu().numpy(), decibels.cpu().numpy(), night.physical(epoch),
        spectrogram.grid(),
        title=f"{night.staged.recording}, {caption(night, epoch)}: {stem.name}",
        channels=night.channels, unit=night.unit,
    )  # fmt: skip
    save_both(picture, stem)


def window_rows(
    night: ExplainedNight, epoch: int, maps: np.ndarray, context: Tensor, members: Sequence[int]
) -> list[explanation_figures.SampleRow]:
    """Every epoch of the window with its part of the attributions (l, m, t)."""
    effects = context.abs().cpu().numpy() / max(float(context.abs().sum()), 1e-12)
    shares = np.abs(maps).sum(axis=2) / max(float(np.abs(maps).sum()), 1e-12)
    return [
        explanation_figures.SampleRow(
            caption(night, member), night.physical(member), maps[k],
            effects if member == epoch else None, shares[k], members.index(member), member == epoch,
        )
        for k, member in enumerate(members)
    ]  # fmt: skip


def attributed_row(
    night: ExplainedNight, epoch: int, maps: np.ndarray, context: Tensor, members: Sequence[int]
) -> explanation_figures.SampleRow:
    """The epoch alone; bars are shares of absolute context effects and attributions."""
    effects, size = context.abs().cpu().numpy(), np.abs(maps).sum(axis=1)
    return explanation_figures.SampleRow(
        caption(night, epoch), night.physical(epoch), maps,
        effects / max(effects.sum(), 1e-12) if len(members) > 1 else None,
        size / max(size.sum(), 1e-12), members.index(epoch),
    )  # fmt: skip


def attended_rows(
    night: ExplainedNight, epoch: int, attention: NightAttention, members: Sequence[int]
) -> list[explanation_figures.SampleRow]:
    """Every epoch of the window with its own attention, as means over the night's windows."""
    windows, modalities = attention.shares()
    times = windows * windows.shape[-1]
    times = times.repeat_interleave(night.signals.shape[-1] // windows.shape[-1], dim=-1)
    return [
        explanation_figures.SampleRow(
            caption(night, member), night.physical(member), times[member].numpy(),
            inter_of(attention, member, members), modalities[member].numpy(),
            members.index(member), member == epoch,
        )
        for member in members
    ]  # fmt: skip


def inter_of(attention: NightAttention, epoch: int, members: Sequence[int]) -> np.ndarray | None:
    """Weights of an epoch on those of the window, from the night's means by offset."""
    if attention.inter is None:
        return None
    middle = attention.inter.shape[1] // 2
    weights = attention.inter[epoch, [middle + member - epoch for member in members]]
    return weights.nan_to_num(0.0).numpy()


def caption(night: ExplainedNight, epoch: int) -> str:
    """``epoch 12   expert N2   model N2 0.93  ✓``."""
    staged = night.staged
    true, model = int(staged.expert[epoch]), int(staged.stages[epoch])
    mark = "" if true < 0 else ("  ✓" if true == model else "  ✗")
    said = STAGES[true] if true >= 0 else "unscored"
    return (
        f"epoch {epoch}   expert {said}   model {STAGES[model]} "
        f"{staged.probabilities[epoch, model]:.2f}{mark}"
    )


def save_sample(
    stem: Path,
    night: ExplainedNight,
    epoch: int,
    rows: Sequence[explanation_figures.SampleRow],
    colour: tuple[str, float, float, str],
) -> None:
    """One sample's figure as PNG and SVG."""
    picture = explanation_figures.draw_sample(
        rows, title=f"{night.staged.recording}, epoch {epoch}: {stem.name}",
        channels=night.channels, unit=night.unit, colour=colour,
    )  # fmt: skip
    save_both(picture, stem)


def save_both(picture: Any, stem: Path) -> None:
    """PNG and SVG."""
    for suffix in (".png", ".svg"):
        figures.save(picture, stem.with_suffix(suffix))
