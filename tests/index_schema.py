"""The schema of ``index.json``, version 2, for tests of every script that explains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from utils.stages import STAGES

NONE, NUMBER = type(None), (float, int, type(None))
ENTRY = {
    "recording": str, "subject": str, "epoch": (int, NONE), "expert": (str, NONE),
    "model": (str, NONE), "probabilities": (list, NONE), "explained": (str, NONE),
    "decided_by": (str, NONE), "evidence": str, "why": (str, NONE), "folder": str, "methods": dict,
}  # fmt: skip
OF_METHOD = {
    "file": str, "value": NUMBER, "baseline_value": NUMBER, "completeness_error": NUMBER,
    "baseline_probabilities": (list, NONE), "baseline_distance": NUMBER,
    "deviates_from": (str, NONE), "incomplete": (bool, NONE), "settings": dict,
}  # fmt: skip
# what a night that is explained as a whole has none of
OF_EPOCHS = ("epoch", "model", "probabilities", "explained")


def check_index(folder: Path) -> list[dict[str, Any]]:
    """``index.json`` keeps the schema and lists every file of arrays; returns its entries."""
    index = json.loads((folder / "index.json").read_text())
    assert set(index) == {"version", "about", "explanations"}
    assert index["version"] == 2
    assert isinstance(index["about"]["headline"], str)
    listed = set()
    for entry in index["explanations"]:
        check_entry(entry)
        listed |= {about["file"] for about in entry["methods"].values()}
        if entry["epoch"] is not None:
            listed.add(f"{entry['folder']}/input.npz")
    for name in listed:
        assert (folder / name).is_file(), name
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*_e*/*.npz")} <= listed
    return index["explanations"]


def check_entry(entry: dict[str, Any]) -> None:
    """Fields and their kinds, of an epoch or of a whole night."""
    has_kinds(entry, ENTRY)
    assert entry["methods"]
    for about in entry["methods"].values():
        has_kinds(about, OF_METHOD)
    if entry["epoch"] is None:
        assert all(entry[name] is None for name in (*OF_EPOCHS, "expert", "why", "decided_by"))
        return
    assert all(entry[name] is not None for name in OF_EPOCHS)
    assert {entry["explained"], entry["model"]} <= set(STAGES)
    assert entry["expert"] is None or entry["expert"] in STAGES
    assert len(entry["probabilities"]) == 5


def has_kinds(value: dict[str, Any], kinds: dict[str, Any]) -> None:
    """Exactly these fields, of these kinds."""
    assert set(value) == set(kinds)
    for name, kind in kinds.items():
        assert isinstance(value[name], kind), (name, value[name])
