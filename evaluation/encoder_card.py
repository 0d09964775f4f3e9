"""The card of a pretrained encoder: what trained it, what it reads, and the controls beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.embed import CLIP, encoder_of
from utils.checkpoint import Checkpoint, without_paths
from utils.intervals import of_columns, with_interval

_LINEAR = ("linear", "–")  # the probe of the table, and the majority's


def card_of(checkpoint: Checkpoint, name: str, probed: Mapping[str, Any], licence: str) -> str:
    """Markdown with a YAML head, as hubs read it; ``probed`` is what ``probes.json`` holds."""
    encoder = encoder_of(checkpoint).encoder
    size = sum(p.numel() for p in encoder.parameters())
    held_out = max(row["subjects"] for row in probed["rows"])
    parts = [
        "---",
        f"license: {licence}",
        "library_name: sleep-staging",
        "tags: [sleep, polysomnography, eeg, self-supervised]",
        "---",
        f"# {name}",
        "",
        f"An encoder of single epochs of 30 s: {encoder.width} numbers each, {size:,} parameters "
        f"({checkpoint.settings['encoder']}).",
        "",
        "```python",
        "from evaluation.stagers.portable_encoder import load_encoder",
        f'encoder = load_encoder("{name}")',
        f'z = encoder.encode("night.edf")  # (epochs, {encoder.width}); or an mne.io.Raw',
        "```",
        "",
        *_facts(checkpoint, licence),
        "",
        "## Controls beside it",
        "",
        f"Macro-F1 of the same linear probe in {held_out} held-out subjects, with 95 % intervals "
        "over subjects. An encoder that is not ahead of the controls is not known to have learned "
        "anything.",
        "",
        *controls_table(probed["rows"]),
        "",
    ]
    return "\n".join(parts)


def _facts(checkpoint: Checkpoint, licence: str) -> list[str]:
    """What trained the encoder, how its nights were prepared, and the licence of its weights."""
    training = checkpoint.training
    n_train, n_chosen = (len(training.subjects[part]) for part in ("train", "validation"))
    trained = (
        f"* **Trained on** {training.cohort}: {n_train} subject{'s' * (n_train != 1)}, without "
        f"labels; its pass was "
        f"chosen on {n_chosen} others. `{without_paths(dict(training.facts))['command']}`"
    )
    if training.pretraining is not None:
        trained += f". It began with weights trained on {training.pretraining.cohort}"
    if checkpoint.is_simulated:
        trained += ". **Simulated nights alone**: nothing is known of real ones"
    band = training.preparation.get("bandpass")
    filtered = f"filtered from {band[0]:g} to {band[1]:g} Hz" if band else "not filtered"
    scaled = "as they are stored"
    if checkpoint.standardise != "none":
        scaled = (
            f"scaled by {checkpoint.standardise} and channel over what the protocol "
            f"{training.preparation.get('protocol')} keeps of it, clipped at {CLIP:g} standard "
            "deviations. `encode` scales over the whole recording, or over the epochs "
            "`night=(first, end)`"
        )
    channels = ", ".join(f"{label} ({role})" for label, role in checkpoint.channels)
    return [
        f"{trained}.",
        f"* **Reads** {channels} at {checkpoint.fs:g} Hz, {filtered}, {scaled}.",
        f"* **Licence** of the weights: {licence}.",
    ]


def controls_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a table: frozen spaces probed alike, controls first; a column for each budget."""
    probed = [row for row in rows if row["probe"] in _LINEAR]
    budgets = list(dict.fromkeys((row["labels"], row["share"]) for row in probed))
    shown = {
        (row["space"], row["labels"], row["share"]): with_interval(of_columns("macro_f1", row))
        for row in probed
    }
    heads = ["all labels" if by == "all" else f"{share:.0%} by {by}" for by, share in budgets]
    lines = [f"| encoder | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for space in dict.fromkeys(row["space"] for row in probed):
        cells = [shown.get((space, *budget), "–") for budget in budgets]
        lines.append(f"| {space} | {' | '.join(cells)} |")
    return lines
