"""One self-contained HTML page per night: traces, hypnograms, explanations, and a scorer's changes.

What the page draws and does is in ``templates/``: scripts and styles are written into it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.page_channels import PageChannel, channels_of, traces
from evaluation.page_explanations import explained_data
from evaluation.sleep_statistics import STATISTICS
from interpret.explained_night import ExplainedNight
from utils import figures
from utils.files import write_text
from utils.staged_night import StagedNight
from utils.stages import COLOURS, EPOCH_SECONDS, PLOT_ORDER, STAGES

TEMPLATES = Path(__file__).parent / "templates"
# in this order: later ones use what earlier ones define
SCRIPTS = (
    "data", "drawing", "overview", "traces", "reasons", "scoring", "edf", "saving", "statistics",
    "keys",
)  # fmt: skip
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

    The arrays lie beside ``path`` unless another folder is named. Traces are those of the channels
    ``recorded`` of the night, else what the model received. ``second_look``: rows of
    :func:`interpret.second_look.second_look`, of which the first are listed, with links.

    Everything is inside: no request leaves the page, and all text is escaped. A channel of ten
    hours takes 3.3 MB.
    """
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    own = [entry for entry in entries if entry["recording"] == night.staged.recording]
    channels = list(night.recorded) or channels_of(night)
    data = night_data(night) | explained_data(arrays or path.parent, own)
    data |= spectrogram_data(channels, len(night.signals))
    # labels of channels and names of files come from the user's recordings
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    page = environment.get_template("night.html").render(
        title=f"{night.staged.recording}: stages and reasons",
        headline=headline,
        has_expert=bool((night.staged.expert >= 0).any()),
        n_votes=len(night.staged.votes),
        has_flags=any(night.staged.quality_flags),
        rows=sorted(
            (row for row in rows if row["stage"] == "all"),
            key=lambda row: (row["measure"] not in _FIRST, row["measure"], -row["mean"]),
        ),
        listed=listed(second_look[:_LISTED]),
        n_listed=len(second_look),
        changes=f"{sum(row['expected_gain'] for row in second_look):.1f}",
        styles=Markup(_template("night.css")),
        scripts=Markup("\n".join(_template(f"{name}.js") for name in SCRIPTS)),
        data=_for_script(data),
        traces=_for_script([traces(one, len(night.signals)) for one in channels]),
    )
    write_text(path, page)
    return path


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _for_script(data: Any) -> Any:
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
    """Stages, probabilities, flags and events of the whole night, for the page's script."""
    staged, n = night.staged, len(night.signals)
    return {
        "recording": staged.recording,
        "key": _key(staged),
        "start": staged.start,
        "clock": _clock(staged),
        "first_epoch": staged.first_epoch,
        "onsets": np.round(staged.own_onsets, 6).tolist(),
        "spacing": staged.spacing,
        "stages": STAGES,
        "order": PLOT_ORDER,
        "colours": COLOURS,
        "expert": staged.expert.tolist(),
        "model": staged.scored.tolist(),
        # (n, 5) as bytes, which keeps the page small
        "probabilities": _codes(np.round(255 * staged.hypnodensity)),
        "channels": night.channels,
        "unit": night.unit,
        "review": _codes(staged.to_review),
        "flags": {str(k): words for k, words in enumerate(staged.quality_flags) if words},
        "votes": _votes(staged),
        "events": {
            kind: [
                [round(float(place), 2), round(float(seconds), 2)]
                for place, seconds in zip(_places(times[:, 0], staged), times[:, 1], strict=True)
                if -EPOCH_SECONDS < place < n * EPOCH_SECONDS
            ]
            for kind, times in night.events.items()
        },
        "evidence": night.evidence,
        "definitions": {name: list(about) for name, about in STATISTICS.items()},
    }


def _places(seconds: np.ndarray, staged: StagedNight) -> np.ndarray:
    """Where instants (k,) of the recording lie on the page, epoch after epoch, in s."""
    onsets = staged.onsets
    epoch = (np.searchsorted(onsets, seconds, side="right") - 1).clip(0)
    return EPOCH_SECONDS * epoch + (seconds - onsets[epoch])


def spectrogram_data(channels: Sequence[PageChannel], n: int) -> dict[str, Any]:
    """Picture of the first EEG's spectrogram (the first channel's without an EEG), and its axes."""
    shown = next((one for one in channels if one.kind == "EEG"), channels[0])
    drawn = figures.spectrogram_png(shown.epochs(n), fs=shown.signal.fs)
    low, high = drawn.decibel
    return {
        "spectrogram": {
            "png": base64.b64encode(drawn.png).decode(),
            "channel": shown.label,
            "highest": round(drawn.highest, 1),
            "decibel": [round(float(low), 1), round(float(high), 1)],
            "colours": list(drawn.colours),
            "unit": f"{shown.unit or 'no unit'}²/Hz",
        }
    }


def _key(staged: StagedNight) -> str:
    """Name under which a browser keeps what was changed: the recording's, not the model's."""
    about = [staged.recording, staged.start, staged.first_epoch, len(staged.expert)]
    return "scoring " + hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def _clock(staged: StagedNight) -> float | None:
    """Second of the day at which the page's first epoch begins, ``None`` if it is unknown."""
    if staged.start is None:
        return None
    begins = datetime.fromisoformat(staged.start)
    begins += timedelta(seconds=float(staged.onsets[0]))
    return begins.hour * 3600 + begins.minute * 60 + begins.second + begins.microsecond / 1e6


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


def _codes(values: np.ndarray) -> str:
    """0 to 255 as bytes, base64."""
    return base64.b64encode(values.astype(np.uint8).tobytes()).decode()
