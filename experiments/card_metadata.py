"""What a card tells programs: the lines of YAML before it, as model hubs read them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_LICENCE = "MIT"  # of this project
_TAGS = ("sleep-staging", "polysomnography", "eeg", "not-a-medical-device")
_METRICS = {"cohen_kappa": "kappa", "accuracy": "accuracy", "f1_macro": "macro_f1"}
# what the figures were measured on, which no figure is to be read without
_MEASURED_ON = {
    "partial": "parts of {nights} real nights, Wake and N3 alone, used for building and choosing",
    "simulated": "{nights} simulated nights, used for choosing",
}


def front_matter(
    parts: Sequence[Mapping[str, Any]],
    measured: Mapping[str, Any],
    real: Mapping[str, str] | None,
) -> list[str]:
    """Lines of YAML: licences of the parts, tags, figures.

    ``measured`` as in figures.json; ``real`` is the log's row of the one whole real night, if any.
    """
    licences = dict.fromkeys(p["licence"].replace("as this project", _LICENCE) for p in parts)
    figures = {
        name.format_map(measured[key]): measured[key]
        for key, name in _MEASURED_ON.items()
        if key in measured
    }
    if real is not None:
        figures[f"{real['night']}, one real night, not held out"] = real
    about = {
        "license": "other",
        "license_name": "; ".join(licences),
        "license_link": "LICENSE",
        "library_name": "sleep-staging",
        "tags": list(_TAGS),
        "metrics": list(_METRICS),
        "model-index": [{"name": "default", "results": [*map(_result, figures.items())]}],
    }
    return ["---", *_yaml(about), "---"]


def _result(figures: tuple[str, Mapping[str, Any]]) -> dict[str, Any]:
    name, values = figures
    kind = name.partition(",")[0].replace(" ", "-").lower()
    # a mean over five stages tells nothing where only two occur
    metrics = {k: v for k, v in _METRICS.items() if k != "f1_macro" or "alone" not in name}
    return {
        "task": {"type": "sleep-staging", "name": "sleep stages of 30 s epochs"},
        "dataset": {"type": kind, "name": name},
        "metrics": [
            {"type": metric, "value": round(float(values[key]), 4)}
            for metric, key in metrics.items()
        ],
    }


def _yaml(value: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Lines of a mapping of texts, numbers, lists and mappings; JSON's quotes are YAML's, too."""
    for key, one in value.items():
        if not isinstance(one, list | dict):
            yield f"{indent}{key}: {json.dumps(one, ensure_ascii=False)}"
            continue
        yield f"{indent}{key}:"
        if isinstance(one, dict):
            yield from _yaml(one, f"{indent}  ")
            continue
        for item in one:
            lines = _yaml(item, f"{indent}    ") if isinstance(item, dict) else [json.dumps(item)]
            first, *others = lines
            yield f"{indent}  - {first.strip()}"
            yield from others
