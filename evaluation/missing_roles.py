"""Nights staged with roles left out: the sets of roles, their figures, and the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.score import score
from interpret import role_figures
from utils.figures import save
from utils.files import write_json, write_table
from utils.intervals import columns
from utils.staged_night import StagedNight
from utils.stages import STAGES

FIGURES = ("kappa", "accuracy", "macro_f1")


def patterns(roles: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Sets of roles to stage with, by name: all, each left out, the few that home devices have."""
    sets = {"all": tuple(roles)}
    sets |= {f"without {role}": tuple(r for r in roles if r != role) for role in roles}
    for few in (("EEG",), ("EEG", "EOG"), ("EEG", "EOG", "EMG"), ("ECG", "THOR", "ABDO")):
        if set(few) <= set(roles):
            sets["+".join(few)] = few
    # two names may mean the same roles: the first stays, so that no night is staged twice
    kept: dict[tuple[str, ...], str] = {}
    for name, some in sets.items():
        if some:  # leaving out the only role leaves none
            kept.setdefault(some, name)
    return {name: some for some, name in kept.items()}


def row_of(
    name: str, roles: Sequence[str], nights: Sequence[StagedNight], seconds: float
) -> dict[str, Any]:
    """A row of ``missing_roles.csv``: agreement by one set of roles, with intervals by subject."""
    result = score(nights)
    row: dict[str, Any] = {
        "pattern": name,
        "roles": " ".join(roles),
        "nights": len(nights),
        "subjects": result["subjects"],
        "epochs": result["epochs"],
    }
    for figure in FIGURES:
        row |= columns(figure, result["pooled"][figure])
    row |= {f"f1_{stage}": result["per_stage"][stage]["f1"]["value"] for stage in STAGES}
    error = result["calibration"]["expected_calibration_error"]
    return row | {"calibration_error": error, "seconds_per_night": round(seconds, 3)}


def write_missing(folder: Path, rows: Sequence[Mapping[str, Any]], headline: str) -> Path:
    """Write ``missing_roles.csv``, ``.json`` and their picture."""
    write_json(folder / "missing_roles.json", {"headline": headline, "rows": list(rows)})
    save(role_figures.draw_missing(rows, title=headline), folder / "missing_roles.png")
    return write_table(folder / "missing_roles.csv", list(rows))
