"""What each channel of a night is worth: stages with it left out, and what the model attends to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interpret import role_figures
from interpret.figures import save
from interpret.selection import select
from utils.exports import write_table
from utils.files import write_arrays, write_json
from utils.scoring import score
from utils.stages import STAGES
from utils.staging import StagedNight

FIGURES = ("kappa", "accuracy", "macro_f1")


def patterns(roles: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Sets of roles to stage with: all, each left out, and the few that home devices have."""
    found = {"all": tuple(roles)}
    found |= {f"without {role}": tuple(r for r in roles if r != role) for role in roles}
    for few in (("EEG",), ("EEG", "EOG"), ("EEG", "EOG", "EMG"), ("ECG", "THOR", "ABDO")):
        if set(few) <= set(roles):
            found["+".join(few)] = few
    kept: dict[tuple[str, ...], str] = {}
    for name, some in found.items():
        if some:
            kept.setdefault(some, name)
    return {name: some for some, name in kept.items()}


def row_of(
    name: str, roles: Sequence[str], nights: Sequence[StagedNight], seconds: float
) -> dict[str, Any]:
    """Agreement under one pattern, with intervals by subject."""
    result = score(nights)
    row: dict[str, Any] = {"pattern": name, "roles": " ".join(roles), "nights": len(nights),
                           "subjects": result["subjects"], "epochs": result["epochs"]}  # fmt: skip
    for figure in FIGURES:
        found = result["pooled"][figure]
        row |= {figure: found["value"], f"{figure}_low": found["low"],
                f"{figure}_high": found["high"]}  # fmt: skip
    row |= {f"f1_{stage}": result["per_stage"][stage]["f1"]["value"] for stage in STAGES}
    error = result["calibration"]["expected_calibration_error"]
    return row | {"calibration_error": error, "seconds_a_night": round(seconds, 3)}


def write_missing(folder: Path, rows: Sequence[Mapping[str, Any]], headline: str) -> Path:
    """``missing_roles.csv``, ``.json`` and picture."""
    write_json(folder / "missing_roles.json", {"headline": headline, "rows": list(rows)})
    save(role_figures.draw_missing(rows, title=headline), folder / "missing_roles.png")
    return write_table(folder / "missing_roles.csv", list(rows))


def worth(whole: StagedNight, without: Mapping[str, StagedNight]) -> np.ndarray:
    """What each role adds to the probability of the stage given: (n, roles)."""
    rows = np.arange(len(whole.stages))
    given = whole.probabilities[rows, whole.stages]
    return np.stack(
        [given - one.probabilities[rows, whole.stages] for one in without.values()], axis=1
    )


def explain_night(
    folder: Path, encoder: Any, signals: torch.Tensor, whole: StagedNight,
    without: Mapping[str, StagedNight], *, choose: str = "per_stage:1",
) -> dict[str, float]:  # fmt: skip
    """One night's tables and pictures: worth of roles over time, attention of some epochs.

    ``signals`` (n, c, t) as the model receives them. Returns the mean worth by role.
    """
    added = worth(whole, without)
    name, roles = whole.recording, list(without)
    write_table(folder / f"{name}_roles.csv", [
        {"epoch": k, "stage": STAGES[whole.stages[k]], **dict(zip(roles, map(float, row),
                                                                  strict=True))}
        for k, row in enumerate(added)
    ])  # fmt: skip
    save(role_figures.draw_worth(added, roles, whole, title=name), folder / f"{name}_roles.png")
    epochs = np.array(select(choose, whole.probabilities, whole.expert, seed=0))
    flat = signals.permute(1, 0, 2).flatten(1)
    time, across = encoder.attention(flat, torch.from_numpy(epochs).to(flat.device))
    write_arrays(folder / f"{name}_attention.npz", {
        "epochs": epochs, "time": time.cpu().numpy(), "across": across.cpu().numpy(),
        "roles": np.array(encoder.roles),
    })  # fmt: skip
    picture = role_figures.draw_attention(
        time.cpu().numpy(), across.cpu().numpy(), epochs, encoder.roles, whole, title=name
    )
    save(picture, folder / f"{name}_attention.png")
    return dict(zip(roles, map(float, added.mean(axis=0)), strict=True))
