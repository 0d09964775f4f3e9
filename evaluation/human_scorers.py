"""Staged nights beside five human scorers: the protocol of the Dreem Open Datasets.

Per record, epochs weighted by how many scorers agree, then the mean over records: never comparable
with pooled figures, which lie some points lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.readers import consensus, dreem
from evaluation.dod_agreement import over_records, record_agreement
from utils.errors import UserError
from utils.files import write_json, write_table
from utils.metrics import plain
from utils.staged_night import StagedNight
from utils.stages import UNSCORED

PROTOCOL = (
    "dod: consensus of the best four of five scorers, epochs weighted by its share of votes, mean "
    "and population deviation over records; each scorer beside the other four"
)
_NOT_FIGURES = ("recording", "offset", "epochs", "who", "name")
_PRINTED = ("f1", "accuracy", "kappa")


def write_agreement(
    folder: Path, nights: Sequence[StagedNight], scorers: Path, cohort: str
) -> dict[str, Any]:
    """Compare the model and each scorer with the consensus: ``dod.json`` and ``dod.csv``.

    Raises:
        UserError: a scorer's list is missing or broken, or no record can be compared.
    """
    # the light times are lists of record ids: with other ids they would silently cut nothing
    if cohort == "dodh":
        ids = [path.stem for path in (scorers / "scorer_1").glob("[!.]*.json")]
        consensus.check_lights(ids, consensus.LIGHTS_OFF | consensus.LIGHTS_ON)
    rows, refused = [], []
    for night in nights:
        compared = of_record(night, read(night, scorers))
        rows += compared
        refused += [] if compared else [night.recording]
    if not rows:
        raise UserError(
            f"--scorers {scorers}: no record's scorers agree with its hypnogram on 95 % of epochs "
            "at one shift"
        )
    if refused:
        print(f"left out, scorers that fit nowhere: {', '.join(refused)}")
    whose = {who: [row for row in rows if row["who"] == who] for who in ("model", "scorer")}
    result = {
        "protocol": PROTOCOL,
        "records": len(whose["model"]),
        "refused": refused,
        **{who: summary(some) for who, some in whose.items()},
    }
    write_json(folder / "dod.json", result)
    write_table(folder / "dod.csv", rows)
    return result


def read(night: StagedNight, scorers: Path) -> np.ndarray:
    """Stages (5, n) that the scorers gave a record, -1 where unscored."""
    lists = tuple(
        scorers / f"scorer_{k}" / f"{night.recording}.json" for k in range(1, dreem.N_SCORERS + 1)
    )
    # the signals are not opened, so the record's file need not exist
    return dreem.read_scorers(dreem.Record(Path(f"{night.recording}.h5"), lists))


def of_record(night: StagedNight, scored: np.ndarray) -> list[dict[str, Any]]:
    """Figures of the model and of each scorer (5, n); no rows where they cannot be aligned."""
    placed = on_night(night, scored)
    if placed is None:
        return []
    scored, start, offset = placed
    own = night.stages[start : start + scored.shape[1]]
    rows = [{"who": "model", "name": "model"} | record_agreement(own, *consensus.for_model(scored))]
    for number in range(len(scored)):
        figures = record_agreement(scored[number], *consensus.for_scorer(scored, number))
        rows.append({"who": "scorer", "name": f"scorer_{number + 1}"} | figures)
    about = {"recording": night.recording, "offset": offset, "epochs": scored.shape[1]}
    return [about | {k: v if isinstance(v, str) else plain(v) for k, v in r.items()} for r in rows]


def on_night(night: StagedNight, scored: np.ndarray) -> tuple[np.ndarray, int, int] | None:
    """Stages (5, m) that all scorers gave epochs of a night, the first of them, and the shift.

    ``None`` where they agree with the night's hypnogram at no shift.
    """
    first, last = consensus.scored_window(scored, night.recording)
    scored = scored[:, first:last]
    # lists of scorers and the record's hypnogram need not begin at the same epoch
    offset = consensus.aligned(consensus.all_of(scored)[0], night.expert)
    if offset is None:
        return None
    # epochs of the night that both cover; a negative offset: the lists begin before the night
    start, stop = max(0, offset), min(len(night.expert), offset + scored.shape[1])
    return scored[:, start - offset : stop - offset], start, offset


def beside(nights: Sequence[StagedNight], scorers: Path) -> dict[str, np.ndarray]:
    """Stages (5, n) of the scorers on every epoch of each night that they can be aligned with.

    By recording; -1 where somebody scored nothing.
    """
    stages = {}
    for night in nights:
        placed = on_night(night, read(night, scorers))
        if placed is not None:
            scored, start, _ = placed
            after = len(night.expert) - start - scored.shape[1]
            stages[night.recording] = np.pad(
                scored, ((0, 0), (start, after)), constant_values=UNSCORED
            )
    return stages


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and population deviation of every figure over records."""
    names = [name for name in rows[0] if name not in _NOT_FIGURES]
    figures = [{n: np.nan if row[n] is None else row[n] for n in names} for row in rows]
    return {
        name: {"mean": plain(mean), "sd": plain(sd)}
        for name, (mean, sd) in over_records(figures).items()
    }


def report(result: dict[str, Any]) -> None:
    """Print the model's agreement above that of the scorers."""
    print(f"protocol dod over {result['records']} records (not comparable with pooled figures):")
    for who in ("model", "scorer"):
        shown = "   ".join(
            f"{name} {result[who][name]['mean']:.3f} ± {result[who][name]['sd']:.3f}"
            for name in _PRINTED
        )
        print(f"  {who:<8}{shown}")
