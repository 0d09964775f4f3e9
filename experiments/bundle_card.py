"""The card of the default stager: its parts, how it was chosen, how good it is, what it is not."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.card_metadata import front_matter
from utils.checkpoint import Checkpoint, load_checkpoint
from utils.errors import UserError
from utils.intervals import of_columns, with_interval
from utils.stages import STAGES

# as candidates are compared, and as what is bundled stages
NETWORK_SETTINGS = {"ignores_units": True, "bridges_gaps": True}
# deviations in uV, written down before anything was compared
YASA_SETTINGS = {"roles": ["EEG"], "deviations": [12, 18, 27], "bridges_gaps": True}
TRIAL = (
    "The kind of mean, its rule and YASA's three scales were suggested by an earlier trial that "
    "had seen this night: its figure is not held out."
)
_NONE = (
    "**No candidate kept to the limits of the rule** (F1 of W, recall of N3, both on the partial "
    "nights). Until one does, the mean that an earlier trial suggested is bundled."
)
_SLEEP_EDF = (
    "Sleep-EDF Expanded (Kemp et al. 2000, PhysioNet, ODC-By 1.0): band powers of 153 cassette "
    "nights, from signals filtered at 0.5 to 30 Hz and cleaned of eye movements, made by others "
    "under MIT. The table is not part of this project; "
)
_TRAINED_ON = {
    "spectra": "simulated nights",
    "bands-simulated": "simulated nights",
    "bands-moved": "simulated nights, moved to Sleep-EDF's stage means",
    "bands-table": "band powers of Sleep-EDF",
    "bands-both": "simulated nights and band powers of Sleep-EDF",
    "robust": "simulated nights",
    "yasa": "3,000 NSRR nights",
}


@dataclass(frozen=True)
class Declaration:
    """``parts`` as default.json lists them, and the ``files`` of weights: name to checkpoint."""

    parts: Sequence[Mapping[str, Any]]
    files: Mapping[str, Path]


def declaration_of(runs: Mapping[str, Mapping[int, Path]]) -> Declaration:
    """Declare parts by kind, from the checkpoints of their seeds.

    Raises:
        UserError: nothing of a kind was trained.
    """
    parts, files = [], {}
    for kind, seeds in runs.items():
        short = kind.split("-")[0]
        about = {"name": f"default-{short}", "reads": "1 EEG", "trained_on": _TRAINED_ON[kind]}
        if kind == "yasa":
            about |= {
                "package": "yasa",
                "settings": YASA_SETTINGS,
                "reads": "1 EEG; age and sex where they are given",
                "licence": "BSD-3-Clause",
            }
        else:
            own = {f"{short}_{seed}.pt": path for seed, path in seeds.items()}
            if not own:
                raise UserError(f"--parts {kind}: nothing is trained; `make {kind}` does it")
            files |= own
            about |= {"checkpoints": list(own), "settings": NETWORK_SETTINGS}
            about |= origin_of(load_checkpoint(next(iter(own.values()))), about["trained_on"])
        parts.append(about | {"night_relative": short == "bands"})
    return Declaration(parts, files)


def origin_of(checkpoint: Checkpoint, trained_on: str) -> dict[str, str]:
    """What weights were trained on, and their licence, which data of others are part of."""
    if not checkpoint.training.cohort.startswith("synthetic-") and "Sleep-EDF" not in trained_on:
        trained_on = "Sleep-EDF nights"
    shared = ", data of Sleep-EDF (ODC-By 1.0)" if "Sleep-EDF" in trained_on else ""
    return {"trained_on": trained_on, "licence": f"as this project{shared}"}


def read_log(path: Path) -> list[dict[str, str]]:
    """Rows of the log, one per time that weights were measured on a real recording."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def card_of(
    declared: Declaration,
    folder: Path,
    measured: Mapping[str, Any],
    log: Sequence[Mapping[str, str]],
    candidates: Path,
) -> str:
    """Markdown of the card, after lines of YAML for programs."""
    lines = [
        *front_matter(declared.parts, measured, real_night(measured, log)),
        "",
        "# The default: what `predict.py` stages with",
        "",
        f"The mean of {len(declared.parts)} unlike parts, one EEG of any derivation, unit and gain "
        f"(`default.json`; together `{measured['weights']}`). `--model` takes each by its name.",
        "",
        *_parts(declared, folder),
        *_real_night(measured, log),
        *_partial(measured),
        *_table(measured),
        *_simulated(measured),
        *_candidates(candidates),
        *_log(log),
        "## What it is not",
        "",
        "Not a medical device, not validated on any cohort, and no substitute for a model trained "
        "on data like yours. Of one whole real night nothing follows about others. Recordings "
        "under an hour are staged without the parts that compare an epoch with its night, and "
        "less reliably.",
        "",
    ]
    return "\n".join(lines)


def _parts(declared: Declaration, folder: Path) -> list[str]:
    lines = [
        "## Parts",
        "",
        "| part | weights | trained on | licence |",
        "|---|---|---|---|",
        *(
            f"| `{part['name']}` | {', '.join(part.get('checkpoints', ['package yasa']))} "
            f"| {part['trained_on']} | {part['licence']} |"
            for part in declared.parts
        ),
        "",
    ]
    if any("Sleep-EDF" in part["trained_on"] for part in declared.parts):
        lines += [
            f"Real nights: {_SLEEP_EDF}16 of its 78 subjects trained nothing, 12 chose the pass.",
            "",
        ]
    lines += [
        "Simulated nights: `generate_demo_data.py`, whose law was fitted to the same table without "
        "its 16 held-out subjects. Made on one processor thread by `make weights` as it was on 29 "
        "November 2026; training has since drawn windows and augmentations otherwise, so that they "
        "come out alike, not bit for bit:",
        "",
    ]
    for name in declared.files:
        checkpoint = load_checkpoint(folder / name)
        lines.append(f"    {name} {checkpoint.fingerprint()}: {checkpoint.training.command}")
    return [*lines, ""]


def real_night(
    measured: Mapping[str, Any], log: Sequence[Mapping[str, str]]
) -> Mapping[str, str] | None:
    """The log's row of the whole real night that these weights were measured on, if any."""
    wanted = measured["weights"], "ucddb018"
    return next((row for row in log if (row["weights"], row["night"]) == wanted), None)


def _real_night(measured: Mapping[str, Any], log: Sequence[Mapping[str, str]]) -> list[str]:
    row = real_night(measured, log)
    if row is None:
        return ["## On one real night", "", "Not measured (`--real`).", ""]
    counts = [list(map(int, line.split())) for line in row["confusion"].split(" / ")]
    expert, model = sum(counts[3]), sum(line[3] for line in counts)
    n3 = 2 * counts[3][3] / max(1, expert + model)
    return [
        "## On one real night",
        "",
        f"`ucddb018` (St. Vincent's / UCD, an apnea patient, one EEG of unknown gain, R&K), "
        f"{row['epochs']} epochs, one subject, so no interval: kappa "
        f"**{float(row['kappa']):.3f}** (W throughout: 0), accuracy {float(row['accuracy']):.3f}, "
        f"macro-F1 {float(row['macro_f1']):.3f}, F1 of N3 {n3:.2f}; N3 in {model} epochs, the "
        f"expert in {expert}. {TRIAL} Rows: expert, columns: default.",
        "",
        "| | " + " | ".join(STAGES) + " |",
        "|---" * 6 + "|",
        *(
            f"| **{stage}** | " + " | ".join(map(str, line)) + " |"
            for stage, line in zip(STAGES, counts, strict=True)
        ),
        "",
    ]


def _partial(measured: Mapping[str, Any]) -> list[str]:
    if "partial" not in measured:
        return []
    one = measured["partial"]
    parts = ", ".join(f"{name} {value:.2f}" for name, value in one["parts"].items())
    return [
        f"## On parts of {one['nights']} real nights",
        "",
        f"Wake and N3 alone ({one['epochs']:,} epochs; nights of odd composition on purpose, used "
        f"for building and choosing): recall of N3 {one['recall'][3]:.2f}, F1 of W "
        f"{one['f1'][0]:.2f} (W throughout: {one['w_throughout']['f1']:.2f}), "
        f"kappa {with_interval(of_columns('kappa', one), 2)}; each part's kappa: {parts}.",
        "",
    ]


def _table(measured: Mapping[str, Any]) -> list[str]:
    if "table" not in measured:
        return []
    return [
        "## Networks on band powers, on 16 held-out subjects of the table",
        "",
        "Split by subject with seed 20; the mean of all seeds, and each seed alone; 95 % over "
        "subjects. `bands-simulated` has seen no real epoch, only the simulator's law. ECE: "
        "expected calibration error. W throughout has kappa 0.",
        "",
        "| trained on | derivation | kappa | seeds | macro-F1 | N3, expert / model | ECE |",
        "|---" * 7 + "|",
        *(
            f"| {name.replace(' ', ' | ')} | {with_interval(of_columns('kappa', row))} "
            f"| {', '.join(f'{k:.3f}' for k in row['seeds'])} | {row['macro_f1']:.3f} "
            f"| {row['n3_share_expert']:.3f} / {row['n3_share']:.3f} "
            f"| {row['calibration_error']:.3f} |"
            for name, row in measured["table"].items()
        ),
        "",
    ]


def _simulated(measured: Mapping[str, Any]) -> list[str]:
    if "simulated" not in measured:
        return []
    one = measured["simulated"]
    parts = ", ".join(f"{name} {value:.3f}" for name, value in one["parts"].items())
    return [
        "## On simulated nights that trained nothing",
        "",
        f"{one['nights']} nights, {one['epochs']:,} epochs (`--varied --seed 905`), used for "
        f"choosing: kappa {with_interval(of_columns('kappa', one))}, accuracy "
        f"{one['accuracy']:.3f} (W throughout: "
        f"{one['w_throughout']['accuracy']:.3f}, kappa 0); each part's kappa: {parts}. "
        f"{one['false_n3']:.1%} of W, N1 and REM are called N3. These figures say nothing of real "
        "nights.",
        "",
        f"Calibration error {one['calibration_error']:.3f}. Of the tenth of each night that is "
        f"marked for review {one['errors_to_review']:.0%} are wrong, of the rest "
        f"{one['errors_elsewhere']:.0%}. Reliability of the default here, and of the networks "
        "above, by bin: `figures.json`.",
        "",
    ]


def _candidates(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        "## Candidates",
        "",
        "Compared by [the rule](rule.md), which was written before the first of them met a real "
        "recording; what was changed after it stands there. Every candidate and seed:",
        "",
        "| " + " | ".join(name.replace("_", " ") for name in rows[0]) + " |",
        "|---" * len(rows[0]) + "|",
        *("| " + " | ".join(row.values()) + " |" for row in rows),
        "",
        *([] if any(row["eligible"] for row in rows) else [_NONE, ""]),
    ]


def _log(log: Sequence[Mapping[str, str]]) -> list[str]:
    columns = ("date", "weights", "night", "epochs", "accuracy", "kappa", "what")
    return [
        "## Every evaluation on a whole real recording",
        "",
        "As in `evaluation_log.csv`. Besides, the partial nights and the table without its "
        "held-out subjects were used for building and choosing, as said above.",
        "",
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
        *("| " + " | ".join(row[key] or "–" for key in columns) + " |" for row in log),
        "",
    ]
