"""Truth files beside a synthetic recording: what was planted where, and how certain a label is.

``<stem>_truth.tsv``   one row per planted event, BIDS column order
``<stem>_epochs.tsv``  one row per epoch: label, latent stage, mixture, artefact seconds
``<stem>_truth.json``  seed, settings, subject, gains, versions, column descriptions

Training code never reads them; explanations are scored against them.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np

from datasets.synthetic.artefacts import ALL, DERIVATIONS, Artefacts
from datasets.synthetic.events import Events, samples_within
from datasets.synthetic.graphoelements import ALL_KINDS
from datasets.synthetic.night import Night
from utils.files import write_json, write_text
from utils.stages import EPOCH_SECONDS, STAGES

EVENT_COLUMNS = {
    "onset": "seconds from the start of the recording",
    "duration": "seconds",
    "trial_type": "kind of event or artefact",
    "channel": "file labels where its amplitude exceeds 20 % of its largest, joined by |",
    "amplitude_uv": "peak to peak in the channel where it is largest",
    "frequency_hz": "n/a where a kind has no rhythm",
    "epoch": "30 s epoch of the onset, counted from 0",
    "supports": "stages it is evidence for",
}
EPOCH_COLUMNS = {
    "epoch": "counted from 0",
    "onset": "seconds from the start of the recording",
    "label": "what the scorer wrote; n/a = unscored",
    "latent_stage": "stage the signal follows for most of the epoch",
    "mix_stage": "second stage in the signal; n/a = none",
    "mix_weight": "weight of mix_stage",
    "atypical": "1 if the epoch belongs to a run that resembles another stage",
    "artefact_seconds": "seconds covered by movement, pops, lost leads or sweat",
}
_SEEN_ABOVE = 0.2  # share of the largest gain


def write_truth(folder: Path, stem: str, night: Night, settings: dict) -> None:
    """Write the three truth files of one night."""
    write_text(folder / f"{stem}_truth.tsv", _event_table(night))
    write_text(folder / f"{stem}_epochs.tsv", _epoch_table(night))
    write_json(folder / f"{stem}_truth.json", _facts(night, settings))


def latent_stages(night: Night) -> np.ndarray:
    """Stage with the largest mean weight in each epoch (n_epochs,): the best possible reading."""
    return _mean_weights(night).argmax(axis=1)


def _mean_weights(night: Night) -> np.ndarray:
    return night.timeline.stage_weights().reshape(night.timeline.n_epochs, -1, 5).mean(axis=1)


def _event_table(night: Night) -> str:
    rows: list[tuple[float, str]] = []
    for kind, events in night.events.items():
        if kind not in night.omit:
            spec = ALL_KINDS[kind]
            where = ["|".join(_seen_by(spec.gains))] * len(events)
            # spindles take their frequency from the subject, not from the table
            rhythmic = spec.hz[1] > 0 or kind.startswith("spindle")
            hz = [f"{value:.2f}" if rhythmic else "n/a" for value in events.hz]
            rows += _event_rows(events, where, hz, spec.supports)
    for kind, artefacts in night.artefacts.items():
        if kind not in night.omit:
            rows += _artefact_rows(artefacts, night.seconds)
    rows.sort()
    lines = [f"{onset:.3f}\t{rest}" for onset, rest in rows]
    return "\n".join(["\t".join(EVENT_COLUMNS), *lines]) + "\n"


def _artefact_rows(artefacts: Artefacts, seconds: int) -> list[tuple[float, str]]:
    """Rows of one kind of artefact; all heartbeats of a night are one row."""
    if artefacts.kind == "ecg_leak" and len(artefacts):
        size = artefacts.amplitude[:1]
        artefacts = Artefacts("ecg_leak", np.zeros(1), np.array([seconds]), size, np.array([ALL]))
    where = ["|".join(DERIVATIONS) if c == ALL else DERIVATIONS[int(c)] for c in artefacts.channel]
    return _event_rows(artefacts, where, ["n/a"] * len(artefacts), "n/a")


def _event_rows(
    events: Events | Artefacts, where: list[str], hz: list[str], supports: str
) -> list[tuple[float, str]]:
    """(onset, the other columns) of every event."""
    # pops have a sign
    sizes = np.abs(events.amplitude).tolist()
    columns = (events.onset.tolist(), events.duration.tolist(), sizes, where, hz)
    return [
        (
            onset,
            f"{duration:.3f}\t{events.kind}\t{channel}\t{size:.1f}\t{frequency}"
            f"\t{int(onset // EPOCH_SECONDS)}\t{supports}",
        )
        for onset, duration, size, channel, frequency in zip(*columns, strict=True)
    ]


def _seen_by(gains: dict[str, float]) -> list[str]:
    largest = max(gains.values())
    return [name for name, gain in gains.items() if gain > _SEEN_ABOVE * largest]


def _epoch_table(night: Night) -> str:
    weights = _mean_weights(night)
    order = np.argsort(-weights, axis=1, kind="stable")
    timeline = night.timeline
    artefact_seconds = _artefact_seconds(night)
    rows = ["\t".join(EPOCH_COLUMNS)]
    for epoch in range(timeline.n_epochs):
        first, second = order[epoch, :2]
        mixed = weights[epoch, second] > 1e-6
        label = timeline.labels[epoch]
        rows.append(
            f"{epoch}\t{epoch * EPOCH_SECONDS}\t{STAGES[label] if label >= 0 else 'n/a'}"
            f"\t{STAGES[first]}\t{STAGES[second] if mixed else 'n/a'}"
            f"\t{weights[epoch, second]:.3f}\t{int(timeline.atypical[epoch])}"
            f"\t{artefact_seconds[epoch]:.1f}"
        )
    return "\n".join(rows) + "\n"


def _artefact_seconds(night: Night) -> np.ndarray:
    """Seconds of each epoch under any artefact but heartbeats (n_epochs,), to a tenth."""
    covered = np.zeros(night.seconds * 10, dtype=bool)
    for kind, artefacts in night.artefacts.items():
        if kind in night.omit or kind == "ecg_leak":
            continue
        for index, _, _ in samples_within(artefacts.onset, artefacts.duration, 10, len(covered)):
            covered[index] = True
    return covered.reshape(-1, EPOCH_SECONDS * 10).sum(axis=1) / 10


def _facts(night: Night, settings: dict) -> dict:
    subject = night.subject
    return {
        "seed": subject.seed,
        "subject": subject.number,
        "night": night.number,
        "settings": settings,
        "omitted": sorted(night.omit),
        "subject_parameters": {
            "alpha_hz": subject.alpha_hz,
            "spindle_hz": list(subject.spindle_hz),
            "rate": subject.rate,
            "amplitude": subject.amplitude,
            "ecg_leak_uv": subject.ecg_leak_uv,
        },
        "gains": {kind: ALL_KINDS[kind].gains for kind in night.events},
        # neither promises the same numbers from one version to the next
        "versions": {name: version(name) for name in ("numpy", "scipy")},
        "event_columns": EVENT_COLUMNS,
        "epoch_columns": EPOCH_COLUMNS,
    }
