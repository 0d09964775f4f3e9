"""Staged nights as tables of one row per epoch: csv, votes, and events with the columns of BIDS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from datasets.readers.scorings import own_exports
from datasets.readers.scorings.vocabulary import stage_of
from evaluation.exports.exported_stages import seconds_of
from utils.files import write_json, write_table
from utils.metrics import confidence
from utils.staged_night import StagedNight
from utils.stages import EDF_STAGES, STAGES, UNSCORED

# what BIDS asks for beside a table of events
_COLUMNS = {
    "onset": {
        "Description": "start of the epoch from the first second of the source recording",
        "Units": "s",
    },
    "duration": {"Description": "length of the epoch", "Units": "s"},
    "trial_type": {
        "Description": "stage the model gives the epoch",
        "Levels": {
            "W": "wake", "N1": "NREM 1", "N2": "NREM 2", "N3": "NREM 3", "REM": "REM sleep",
            "?": "no signal to stage",
        },
    },
    "probability": {"Description": "the model's probability of that stage, 0 to 1"},
    "uncertainty": {"Description": "1 minus that probability, 0 to 0.8"},
    "to_review": {
        "Description": "whether a scorer should look at the epoch",
        "Levels": {"0": "no", "1": "it is in the most uncertain tenth of the night"},
    },
    "spread": {
        "Description": "part of the probability that the votes, on average, give to other stages "
        "than their mean does, 0 to 1"
    },
    "decided_by": {
        "Description": "vote with the largest share of the margin: its weight times its own "
        "probability of the stage, less that of the second most probable stage"
    },
    "expert": {"Description": "stage the expert gave, n/a where unscored"},
    "stages_hash": {
        "Description": "hash of the stages as exported, and of the expert's: where somebody "
        "changed a stage it no longer fits, and the file is read as that person's scoring"
    },
}  # fmt: skip


def _epochs(night: StagedNight) -> Iterable[tuple[int, float, str, str | None]]:
    """Number, onset in seconds of the source, model's and expert's stage of every epoch."""
    rows = zip(night.begins.tolist(), night.scored, night.expert, strict=True)
    for k, (onset, stage, expert) in enumerate(rows):
        # an epoch without a signal has no stage, as in EDF+
        model = STAGES[stage] if stage >= 0 else EDF_STAGES[UNSCORED]
        yield k, onset, model, STAGES[expert] if expert >= 0 else None


def _marks(night: StagedNight, *, digits: int) -> list[dict[str, str | int]]:
    """What every format has of each epoch (n,): uncertainty, review, and of votes two columns."""
    rows = [
        {"uncertainty": f"{value:.{digits}f}", "to_review": int(marked)}
        for value, marked in zip(night.uncertainty, night.to_review, strict=True)
    ]
    if night.votes:
        for row, apart, vote in zip(rows, night.spread, night.decided_by, strict=True):
            row |= {"spread": f"{apart:.{digits}f}", "decided_by": night.votes[vote].name}
    return rows


def _hashed(rows: list[dict], column: str) -> list[dict]:
    """Rows with a hash of their stages, in ``column``, and of the expert's."""

    def codes(key: str) -> list[int]:
        stages = (stage_of(row[key] or "") for row in rows)
        return [UNSCORED if code is None else code for code in stages]

    value = "-".join(own_exports.stages_hash(codes(key)) for key in (column, "expert"))
    return [row | {own_exports.HASH_COLUMN: value} for row in rows]


def write_predictions(path: Path, night: StagedNight, flags: Sequence[str] | None = None) -> Path:
    """Write a csv of one row per epoch: ``epoch, onset_s, stage, expert, p_W … p_REM, confidence``.

    ``uncertainty, to_review`` follow, ``spread, decided_by`` where the night has votes, then
    ``flags``: what is wrong with each epoch's signal, and ``stages_hash``.
    """
    sure, marks = confidence(night.probabilities), _marks(night, digits=6)
    rows = [
        {"epoch": k, "onset_s": onset, "stage": stage, "expert": expert}
        | {f"p_{n}": f"{p:.6f}" for n, p in zip(STAGES, night.probabilities[k], strict=True)}
        | {"confidence": f"{sure[k]:.6f}"}
        | marks[k]
        | ({} if flags is None else {"quality_flag": flags[k]})
        for k, onset, stage, expert in _epochs(night)
    ]
    return write_table(path, _hashed(rows, "stage"))


def write_votes(path: Path, night: StagedNight) -> Path:
    """Write a csv of one row per epoch: the mean's stage, the spread, every vote's own stage."""
    stages = {vote.name: vote.probabilities.argmax(axis=1) for vote in night.votes}
    spread = night.spread
    rows = [
        {"epoch": k, "onset_s": onset, "stage": stage, "spread": f"{spread[k]:.6f}"}
        | {name: STAGES[own[k]] for name, own in stages.items()}
        for k, onset, stage, _ in _epochs(night)
    ]
    return write_table(path, rows)


def write_events(path: Path, night: StagedNight, source: str) -> Path:
    """Write BIDS ``events.tsv``, one row per epoch, and the json that describes its columns.

    ``source`` names the model.
    """
    marks = _marks(night, digits=4)
    rows = [
        {
            "onset": onset,
            "duration": night.length,
            "trial_type": stage,
            "probability": f"{night.probabilities[k].max():.4f}",
            **marks[k],
            "expert": expert or "n/a",  # BIDS allows no empty cell
        }
        for k, onset, stage, expert in _epochs(night)
    ]
    rows = _hashed(rows, "trial_type")
    columns = {k: text for k, text in _COLUMNS.items() if k in rows[0]}
    about = {
        "Description": f"Sleep stages that a program gave to {night.recording}",
        "GeneratedBy": source,
        "RecordingStart": night.start or "n/a",
        "RecordingDuration": seconds_of(night),
    }
    write_json(path.with_suffix(".json"), columns | about)
    return write_table(path, rows, delimiter="\t")
