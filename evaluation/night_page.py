"""One self-contained HTML page per night: hypnograms, hypnodensity, spectrogram, explanations."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interpret import counterfactual_report, feature_contributions, prototypes, registry
from interpret.explained_night import ExplainedNight
from interpret.explanation import in_words
from utils import figures
from utils.files import write_text
from utils.signals import slowed
from utils.staged_night import StagedNight
from utils.stages import COLOURS, EPOCH_SECONDS, PLOT_ORDER, STAGES

TEMPLATES = Path(__file__).parent / "templates"
MAPPED_HZ = 40  # up to where maps on spectrograms are shown, by 1 Hz
_LIMIT = 99  # percentile: at the maximum, one sharp peak would leave the rest grey
_LISTED, _NAMED = 40, 3  # epochs for a second look, and bands of each
# at the top of the table of metrics
_FIRST = ("deletion_below_random", "insertion_above_random", "completeness_error")


def write_page(
    path: Path,
    night: ExplainedNight,
    entries: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    headline: str,
    *,
    arrays: Path | None = None,
    second_look: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write the page of a night from its index entries and their folder of ``arrays``.

    The arrays lie beside ``path`` unless another folder is named.

    ``second_look``: rows of :func:`interpret.second_look.second_look`, of which the first are
    listed, with links.

    Everything is inside: no request leaves the page, and all text is escaped. Traces are brought
    to 40 Hz and 8 bits, maps to 0.1 s: a fully explained night stays under 5 MB.
    """
    from jinja2 import Environment, FileSystemLoader

    own = [entry for entry in entries if entry["recording"] == night.staged.recording]
    known = prototypes_data(arrays or path.parent, own)
    data = night_data(night) | {
        "prototypes": list(known.values()),
        "flags": {str(k): words for k, words in enumerate(night.staged.quality_flags) if words},
        "explained": {
            str(entry["epoch"]): epoch_data(arrays or path.parent, entry, list(known))
            for entry in own
        },
    }
    # labels of channels and names of files come from the user's recordings
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    picture, highest = figures.spectrogram_png(night.channel_epochs(0), fs=night.fs)
    page = environment.get_template("night.html").render(
        title=f"{night.staged.recording}: stages and reasons",
        headline=headline,
        order=PLOT_ORDER,
        colours=COLOURS,
        channels=night.channels,
        highest=f"{highest:.0f}",
        has_expert=bool((night.staged.expert >= 0).any()),
        n_votes=len(night.staged.votes),
        spectrogram=base64.b64encode(picture).decode(),
        rows=sorted(
            (row for row in rows if row["stage"] == "all"),
            key=lambda row: (row["measure"] not in _FIRST, row["measure"], -row["mean"]),
        ),
        listed=listed(second_look[:_LISTED]),
        n_listed=len(second_look),
        changes=f"{sum(row['expected_gain'] for row in second_look):.1f}",
        data=_for_script(data),
    )
    write_text(path, page)
    return path


def _for_script(data: Mapping[str, Any]) -> Any:
    """JSON that cannot end the script element of the page that holds it."""
    from markupsafe import Markup

    # NaN is no JSON: the page could not read any of its data
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def listed(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows for a second look as the page has them: neighbours and powers in words."""

    def stages(row: Mapping[str, Any], whom: str) -> str:
        return " ".join(row[f"{whom}{at}"] or "·" for at in ("_before", "", "_after"))

    def powers(row: Mapping[str, Any]) -> str:
        end = f"_from_{'expert' if row['expert'] else 'model'}_db"
        known = {key.removesuffix(end): row[key] for key in row if key.endswith(end)}
        sizes = {band: value for band, value in known.items() if value is not None}
        largest = sorted(sizes, key=lambda band: -abs(sizes[band]))[:_NAMED]
        return ", ".join(f"{band} {sizes[band]:+.1f}" for band in largest)

    return [
        row
        | {"by_expert": stages(row, "expert"), "by_model": stages(row, "model")}
        | {"powers": powers(row)}
        for row in rows
    ]


def night_data(night: ExplainedNight) -> dict[str, Any]:
    """Stages and probabilities of the whole night, for the page's script."""
    # (n, 5) as bytes, which keeps the page small
    probabilities = _codes(np.round(255 * night.staged.hypnodensity))
    return {
        "stages": STAGES,
        "order": PLOT_ORDER,
        "colours": COLOURS,
        "expert": night.staged.expert.tolist(),
        "model": night.staged.scored.tolist(),
        "probabilities": probabilities,
        "channels": night.channels,
        "unit": night.unit,
        "unsigned": [method.name for method in registry.METHODS if not method.signed],
        "mapped": MAPPED_HZ,
        "review": _codes(night.staged.to_review),
        "votes": _votes(night.staged),
    }


def _votes(staged: StagedNight) -> dict[str, Any] | None:
    """Each vote's own stages, how far they lie apart, and the one that decided each epoch."""
    if not staged.votes:
        return None
    own = np.stack([vote.probabilities.argmax(axis=1) for vote in staged.votes])
    return {
        "names": [vote.name for vote in staged.votes],
        "stages": _codes(own),
        "spread": _codes(np.round(255 * staged.spread)),
        "decided": _codes(staged.decided_by),
    }


def epoch_data(
    folder: Path, entry: Mapping[str, Any], origins: Sequence[str] = ()
) -> dict[str, Any]:
    """Traces, maps and shares of channels of one explained epoch, for the page's script.

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
                by_hertz = _by_hertz(explanation["spectrogram"], explanation["bins_hz"])
                first, second = explanation["frames_s"][:2]
                cells[method] = {
                    "maps": [_bytes(channel) for channel in by_hertz],
                    "first": float(first),
                    "hop": float(second - first),
                }
        pieces = round(EPOCH_SECONDS / registered.piece_seconds)
        maps[method] = [_bytes(channel) for channel in _thinned(signed, pieces)]
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


def _thinned(maps: np.ndarray, pieces: int) -> np.ndarray:
    """Means over pieces, from -1 to 1 at the 99th percentile of the epoch: (m, pieces)."""
    # rates at which a piece is no whole number of samples: seconds always are
    pieces = pieces if maps.shape[1] % pieces == 0 else EPOCH_SECONDS
    means = maps.reshape(len(maps), pieces, -1).mean(axis=2)
    limit = max(float(np.percentile(np.abs(means), _LIMIT)), 1e-12)
    return (means / limit).clip(-1, 1)


def _by_hertz(cells: np.ndarray, hertz: np.ndarray) -> np.ndarray:
    """Sums over bins of 1 Hz of maps (m, frames, bins), from -1 to 1: (m, 40, frames)."""
    inside = np.floor(hertz) == np.arange(MAPPED_HZ)[:, None]
    sums = np.einsum("mfb,hb->mhf", cells, inside)
    limit = max(float(np.percentile(np.abs(sums), _LIMIT)), 1e-12)
    return (sums / limit).clip(-1, 1)


def _codes(values: np.ndarray) -> str:
    """0 to 255 as bytes, base64."""
    return base64.b64encode(values.astype(np.uint8).tobytes()).decode()


def _bytes(values: np.ndarray) -> str:
    """-1 to 1 as signed bytes, base64."""
    return base64.b64encode(np.round(127 * values).astype(np.int8).tobytes()).decode()
