"""What each role of a night adds to its stages, and what a model of whole nights attends to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interpret import role_figures
from interpret.index import Entry, night_entry
from interpret.selection import select
from utils.figures import save
from utils.files import write_arrays, write_table
from utils.staged_night import StagedNight
from utils.stages import STAGES


def importance(whole: StagedNight, without: Mapping[str, StagedNight]) -> np.ndarray:
    """Probability that each role adds to the stage the model gives: (n, roles).

    ``without``: role -> the same night staged without it.
    """
    rows = np.arange(len(whole.stages))
    # without a role the model may prefer another stage: that of the whole night is followed
    given = whole.probabilities[rows, whole.stages]
    return np.stack(
        [given - one.probabilities[rows, whole.stages] for one in without.values()], axis=1
    )


def explain_night(
    folder: Path,
    encoder: Any,
    signals: torch.Tensor,
    whole: StagedNight,
    without: Mapping[str, StagedNight],
    *,
    choose: str = "per_stage:1",
) -> tuple[dict[str, float], Entry]:
    """Write one night's tables and figures: importance of roles over time, attention of epochs.

    ``signals`` (n, c, t) as the model receives them. Returns the mean importance by role, and the
    night's entry of the index.
    """
    name, roles = whole.recording, list(without)
    epochs = np.array(select(choose, whole.probabilities, whole.expert, seed=0))
    means = _write_importance(folder, whole, without)
    _write_attention(folder, encoder, signals, whole, epochs)
    return means, night_entry(
        whole,
        {
            "role_importance": (f"{name}_roles.csv", {"roles": roles}),
            "role_attention": (f"{name}_attention.npz", {"epochs": epochs.tolist()}),
        },
    )


def _write_importance(
    folder: Path, whole: StagedNight, without: Mapping[str, StagedNight]
) -> dict[str, float]:
    """Write the importance of every role at every epoch, and draw it; returns the means by role."""
    added, roles, name = importance(whole, without), list(without), whole.recording
    rows = [
        {"epoch": k, "stage": STAGES[stage], **dict(zip(roles, map(float, row), strict=True))}
        for k, (stage, row) in enumerate(zip(whole.stages, added, strict=True))
    ]
    write_table(folder / f"{name}_roles.csv", rows)
    picture = role_figures.draw_importance(added, roles, whole, title=name)
    save(picture, folder / f"{name}_roles.png")
    return dict(zip(roles, map(float, added.mean(axis=0)), strict=True))


def _write_attention(
    folder: Path, encoder: Any, signals: torch.Tensor, whole: StagedNight, epochs: np.ndarray
) -> None:
    """Write what the last layer attends to at ``epochs`` (k,), and draw it."""
    flat = signals.permute(1, 0, 2).flatten(1)  # (c, n * t): the encoder reads a continuous night
    attention = encoder.attention(flat, torch.from_numpy(epochs).to(flat.device))
    time, across = (one.cpu().numpy() for one in attention)
    name, roles = whole.recording, encoder.roles
    arrays = {"epochs": epochs, "time": time, "across": across, "roles": np.array(roles)}
    write_arrays(folder / f"{name}_attention.npz", arrays)
    picture = role_figures.draw_attention(time, across, epochs, roles, whole, title=name)
    save(picture, folder / f"{name}_attention.png")
