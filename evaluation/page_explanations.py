"""Explanations on a night's page: maps, shares, bars, prototypes; one scale for all epochs."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interpret import counterfactual_report, feature_contributions, prototypes, registry
from interpret.explanation import in_words
from utils.signals import slowed
from utils.stages import EPOCH_SECONDS

MAPPED_HZ = 40  # up to where maps on spectrograms are shown, by 1 Hz
LIMIT = 99  # percentile of a page's maps: at the maximum, one sharp peak would leave the rest grey
_ROOM = 1.2  # of a row, about the median epoch's largest sample


def explained_data(folder: Path, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All explained epochs of a night for the page's script, and the scales that they share."""
    known = prototypes_data(folder, entries)
    raw = {str(one["epoch"]): epoch_data(folder, one, list(known)) for one in entries}
    maps = limits(one["maps"] for one in raw.values())
    pieces = {k: v.shape[1] for one in raw.values() for k, v in one["maps"].items()}
    cells = limits(one["cells"] for one in raw.values())
    for one in raw.values():
        one["maps"] = {k: _encoded(v, maps[k]) for k, v in one["maps"].items()}
        one["cells"] = {
            k: about | {"maps": _encoded(about["maps"], cells[k])}
            for k, about in one["cells"].items()
        }
    sizes = np.array([one["scale"] for one in raw.values()])
    return {
        "explained": raw,
        "prototypes": list(known.values()),
        # of a flat channel any scale will do
        "input_scale": [float(f"{s or 1:.2g}") for s in _ROOM * np.median(sizes, axis=0)]
        if len(raw)
        else [],
        "map_scale": {k: float(f"{v:.2g}") for k, v in maps.items()},
        "cell_scale": {k: float(f"{v:.2g}") for k, v in cells.items()},
        "piece_s": {k: EPOCH_SECONDS / n for k, n in pieces.items()},
        "unsigned": [method.name for method in registry.METHODS if not method.signed],
        "mapped": MAPPED_HZ,
        "limit": LIMIT,
        "bar_scale": bar_scale(one["reasons"] for one in raw.values()),
    }


def limits(epochs: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The size at which colours are strongest, by method: one for all epochs of a page."""
    sizes: dict[str, list[np.ndarray]] = {}
    for maps in epochs:
        for method, values in maps.items():
            values = values["maps"] if isinstance(values, Mapping) else values
            sizes.setdefault(method, []).append(np.abs(values).ravel())
    return {
        method: max(float(np.percentile(np.concatenate(some), LIMIT)), 1e-12)
        for method, some in sizes.items()
    }


def bar_scale(epochs: Iterable[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """The longest bar of each kind of reasons by features on a page, by title."""
    longest: dict[str, float] = {}
    for reasons in epochs:
        for one in reasons:
            size = max((abs(sum(row)) for row in one["contributions"]), default=0.0)
            longest[one["title"]] = max(longest.get(one["title"], 1e-9), size)
    return {title: round(size, 3) for title, size in longest.items()}


def epoch_data(
    folder: Path, entry: Mapping[str, Any], origins: Sequence[str] = ()
) -> dict[str, Any]:
    """Traces, maps and shares of channels of one explained epoch; maps are arrays as yet.

    ``origins``: of the page's prototypes, which are named by their numbers.
    """
    place = folder / entry["folder"]
    with np.load(place / "input.npz") as given:
        signals = slowed(given["signals"])
    scale = np.abs(signals).max(axis=1)
    maps, cells, shares, reasons, alike = {}, {}, {}, [], []
    for method in entry["methods"]:
        if method in feature_contributions.METHODS:
            with np.load(place / f"{method}.npz") as arrays:
                reasons.append(feature_contributions.shown(dict(arrays), entry, method))
            continue
        if method == prototypes.METHOD:
            with np.load(place / f"{method}.npz") as arrays:
                nearest = prototypes.shown(arrays)
            alike = [[origins.index(one["origin"]), one["distance"]] for one in nearest]
            continue
        if method == counterfactual_report.METHOD:
            continue  # in words
        registered = registry.method_named(method)
        if registered.control:
            continue  # random maps are for the metrics alone
        with np.load(place / f"{method}.npz") as explanation:
            signed = explanation["signed"]
            if "spectrogram" in explanation.files:
                first, second = explanation["frames_s"][:2]
                cells[method] = {
                    "maps": by_hertz(explanation["spectrogram"], explanation["bins_hz"]),
                    "first": float(first),
                    "hop": float(second - first),
                }
        maps[method] = thinned(signed, round(EPOCH_SECONDS / registered.piece_seconds))
        size = np.abs(signed).sum(axis=1)
        shares[method] = [round(float(share), 2) for share in size / max(size.sum(), 1e-12)]
    return {
        # a flat channel is not divided by zero
        "signals": [_bytes(s / (top or 1)) for s, top in zip(signals, scale, strict=True)],
        "scale": [float(f"{top:.2g}") for top in scale],
        "maps": maps,
        "cells": cells,
        "shares": shares,
        "reasons": reasons,
        "prototypes": alike,
        "counterfactual": counterfactual_report.shown(entry),
        "explained": entry["explained"],
        "why": entry["why"] or "",
        "comparison": {name: in_words(entry["methods"][name], entry["explained"]) for name in maps},
        "incomplete": [name for name in maps if entry["methods"][name]["incomplete"]],
    }


def prototypes_data(folder: Path, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Prototypes of all explained epochs, each once by its origin: stage, traces, their scale."""
    files = [entry["methods"].get(prototypes.METHOD, {}).get("file") for entry in entries]
    known: dict[str, Any] = {}
    for file in filter(None, files):
        with np.load(folder / file) as arrays:
            shown = prototypes.shown(arrays)
        for one in shown:
            if one["origin"] not in known:
                scale = np.abs(one["traces"]).max(axis=1).clip(1e-6)
                traces = [_bytes(t / top) for t, top in zip(one["traces"], scale, strict=True)]
                about = {
                    "origin": one["origin"],
                    "stage": one["stage"],
                    "scale": scale.round(2).tolist(),
                }
                known[one["origin"]] = about | {"traces": traces}
    return known


def thinned(maps: np.ndarray, pieces: int) -> np.ndarray:
    """Sums over pieces of maps (m, t): (m, pieces), of the unit of F."""
    # rates at which a piece is no whole number of samples: seconds always are
    pieces = pieces if maps.shape[1] % pieces == 0 else EPOCH_SECONDS
    return maps.reshape(len(maps), pieces, -1).sum(axis=2)


def by_hertz(cells: np.ndarray, hertz: np.ndarray) -> np.ndarray:
    """Sums over bins of 1 Hz of maps (m, frames, bins): (m, 40, frames), of the unit of F."""
    inside = np.floor(hertz) == np.arange(MAPPED_HZ)[:, None]
    return np.einsum("mfb,hb->mhf", cells, inside)


def _encoded(maps: np.ndarray, limit: float) -> list[str]:
    return [_bytes((channel / limit).clip(-1, 1)) for channel in maps]


def _bytes(values: np.ndarray) -> str:
    """-1 to 1 as signed bytes, base64."""
    return base64.b64encode(np.round(127 * values).astype(np.int8).tobytes()).decode()
