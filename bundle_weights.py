"""Put a run's best checkpoint into results/weights, with a card that reports how good it is.

python bundle_weights.py --run data/weights/seqsleepnet_fold9
python bundle_weights.py --run data/weights/seqsleepnet_fold9 --real $SLEEP_REAL_DATA

``make weights`` does all of it from nothing.
"""

from __future__ import annotations

import argparse
import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import models
from datasets.readers.any_file import opened
from evaluation.prediction_files import agreement
from evaluation.stagers.network_stager import Member, NetworkStager
from evaluation.stagers.stager import Asked
from utils.arguments import ScriptParser, add_flag
from utils.checkpoint import Checkpoint, load_checkpoint, load_tensors
from utils.errors import UserError, run_script
from utils.files import check_file, read_json, write_table, write_text, written_whole
from utils.stages import STAGES

HERE = Path(__file__).parent
# the whole night that models are measured on, and five minutes of Wake
NIGHT = Path("ucddb") / "ucddb018.edf"
REAL = (NIGHT, Path("sleep_edf") / "SC4001E0-PSG.edf")
LOG_COLUMNS = ("date", "weights", "night", "epochs", "accuracy", "kappa", "what")
FIGURES = ("accuracy", "macro_f1", "kappa")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Bundle a model of one EEG, trained on synthetic nights, and write its card.",
        "--real measures it on one real night and five real minutes and logs each evaluation, once "
        "for the same weights: choose nothing by them.",
    )
    parser.add_argument("--run", type=Path, help="a run that was trained and evaluated")
    parser.add_argument(
        "--real", type=Path, help=f"folder with {' and '.join(map(str, REAL))} and their stages"
    )
    parser.add_argument(
        "--output", type=Path, default=HERE / "results" / "weights", help="folder of the bundle"
    )
    add_flag(parser, "--overwrite", help="replace files in --output that this script did not write")
    args = parser.parse(argv)
    if args.run is None:
        raise UserError("--run names the folder of a run; make weights trains one")
    return args


def main(argv: list[str] | None = None) -> None:
    """Write the bundled checkpoint, the log of evaluations on real recordings, and the card."""
    args = parse_args(argv)
    checkpoint = load_checkpoint(args.run / "checkpoints" / "best.pt")
    if not checkpoint.training.cohort.startswith("synthetic-"):
        raise UserError(
            f"{args.run}: trained on real subjects, whose data sets decide who may share"
        )
    measured = read_json(args.run / "evaluation" / "metrics.json")
    weights, log = args.output / "one_eeg.pt", args.output / "evaluation_log.csv"
    # all three before the first is written: a refusal leaves the bundle as it was
    for path in (weights, log, weights.with_suffix(".md")):
        check_file(path, overwrite=args.overwrite)
    # an open file: given a path, torch would write its name into the bytes
    with (
        written_whole(weights, overwrite=args.overwrite) as temporary,
        temporary.open("wb") as file,
    ):
        torch.save(load_tensors(checkpoint.path), file)
    evaluations = read_evaluation_log(log)
    known = checkpoint.fingerprint()
    # weights meet a real recording once: figures that can be had again are figures to choose by
    seen = {(row["weights"], row["night"]) for row in evaluations}
    for night in REAL if args.real else ():
        if (known, night.stem) not in seen:
            evaluations.append(evaluate(args.real / night, weights, checkpoint, known))
            # at once: this evaluation is logged even if the next one fails
            write_table(log, evaluations, overwrite=args.overwrite)
    card = card_of(checkpoint, known, measured, evaluations)
    write_text(weights.with_suffix(".md"), card, overwrite=args.overwrite)
    print(card)
    print(f"written: {weights}, its card one_eeg.md and the log evaluation_log.csv beside it")


def read_evaluation_log(path: Path) -> list[dict[str, Any]]:
    """Rows of the log, one per time that a model was measured on a real recording."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def evaluate(night: Path, weights: Path, checkpoint: Checkpoint, known: str) -> dict[str, Any]:
    """Stage a real recording and compare with its expert; the row of the log."""
    if not night.exists():
        raise UserError(
            f"{night}: not there; --real names the folder with {' and '.join(map(str, REAL))}"
        )
    stager = NetworkStager(known, [Member(known, checkpoint)], torch.device("cpu"))
    staged = stager.stage(opened(night), Asked())
    if staged.expert_path is None:
        raise UserError(f"{night}: no expert's stages beside it; {'; '.join(staged.notes)}")
    values = agreement(staged)
    # kappa is undefined where expert and model have one stage alone, as in five minutes of Wake
    shown = {n: "" if values[n] is None else f"{values[n]:.4f}" for n in FIGURES}
    # strings throughout, like the rows that are read back from the log
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "weights": known,
        "night": night.stem,
        "epochs": str(values["scored"]),
        **shown,
        "confusion": " / ".join(" ".join(map(str, row)) for row in values["confusion"]),
        "what": "first evaluation of this model",
    }


def card_of(
    checkpoint: Checkpoint, known: str, measured: dict[str, Any], evaluations: list[dict[str, Any]]
) -> str:
    """Markdown of the card: what the model is, how it was made, how good it is, what it is not."""
    trained = checkpoint.training
    n_subjects = {name: len(ids) for name, ids in trained.subjects.items()}
    n = sum(p.numel() for p in models.build_from(checkpoint).parameters())
    pooled = measured["pooled"]
    lines = [
        "# one_eeg.pt: the model that `predict.py` uses by default",
        "",
        f"`{checkpoint.model}` on one EEG channel ({checkpoint.fs:g} Hz after resampling, "
        f"any derivation), {n:,} parameters, weights `{known}`.",
        "",
        "**Trained on synthetic nights only**, and its pass chosen on such: "
        f"{n_subjects['train']} simulated subjects trained it, {n_subjects['validation']} chose "
        f"the pass, {n_subjects['held_out']} were held out. Each had a recorder, derivation, "
        "sampling rate, filter, noise, arousals and artefacts of its own "
        "(`generate_demo_data.py --varied`), and the spectrum of every recording is equalised "
        "first (`--preset equalised`), so that the unit and the amplifier matter little.",
        "",
        "Made again, bit for bit on one processor thread, by `make weights`:",
        "",
        f"    {trained.command}",
        "",
        "## On held-out simulated subjects",
        "",
        f"{measured['epochs']:,} epochs of {measured['subjects']} subjects; 95 % by subject. "
        "These figures say nothing of real nights.",
        "",
        "| figure | value |",
        "|---|---|",
        *(
            f"| {name.replace('_', '-')} | {pooled[name]['value']:.3f} [{pooled[name]['low']:.3f}, "
            f"{pooled[name]['high']:.3f}] |"
            for name in FIGURES
        ),
        *(
            f"| F1 of {stage} | {row['f1']['value']:.3f} |"
            for stage, row in measured["per_stage"].items()
        ),
        "",
        *real_part(evaluations, known),
        "## What it is not",
        "",
        *limits(evaluations, known),
        "Not a medical device, not validated on any cohort, and no substitute for a model trained "
        "on data like yours. It was never shown an electrode of a real patient. Recordings "
        "shorter than half an hour say little of their own spectrum and are staged less reliably.",
        "",
    ]
    return "\n".join(lines)


def limits(evaluations: list[dict[str, Any]], known: str) -> list[str]:
    """Stages of the real night of which the model recognises less than half, in words."""
    evaluation = evaluation_of(evaluations, known)
    if evaluation is None:
        return []
    rows = [list(map(int, row.split())) for row in evaluation["confusion"].split(" / ")]
    missed = []
    for k, (stage, row) in enumerate(zip(STAGES, rows, strict=True)):
        if sum(row) and 2 * row[k] < sum(row):
            instead = STAGES[max((j for j in range(len(row)) if j != k), key=row.__getitem__)]
            missed.append(
                f"of {sum(row)} {stage} epochs it recognises {row[k]} (mostly {instead} instead)"
            )
    words = f"On the real night, {'; '.join(missed)}. Why was not investigated."
    return [words, ""] if missed else []


def evaluation_of(evaluations: list[dict[str, Any]], known: str) -> dict[str, Any] | None:
    """The row of these weights on the real night; ``None`` where they were not measured on it."""
    return next((k for k in evaluations if (k["weights"], k["night"]) == (known, NIGHT.stem)), None)


def real_part(evaluations: list[dict[str, Any]], known: str) -> list[str]:
    """The card's lines on the real night, and on every evaluation that was logged."""
    evaluation = evaluation_of(evaluations, known)
    if evaluation is None:
        return ["## On a real night", "", "Not measured (`--real`).", ""]
    rows = [row.split() for row in evaluation["confusion"].split(" / ")]
    table = [
        f"| **{stage}** | " + " | ".join(row) + " |"
        for stage, row in zip(STAGES, rows, strict=True)
    ]
    return [
        "## On one real night",
        "",
        f"`{evaluation['night']}` (St. Vincent's / UCD, an apnea patient, one EEG channel of "
        f"unknown gain, R&K), {evaluation['epochs']} epochs, one subject, so no interval: kappa "
        f"**{float(evaluation['kappa']):.3f}**, accuracy {float(evaluation['accuracy']):.3f}, "
        f"macro-F1 {float(evaluation['macro_f1']):.3f}. Rows: expert, columns: model.",
        "",
        "| | " + " | ".join(STAGES) + " |",
        "|---" * (1 + len(STAGES)) + "|",
        *table,
        "",
        "Every evaluation on a real recording (`evaluation_log.csv`):",
        "",
        "| date | weights | recording | epochs | accuracy | kappa | what |",
        "|---" * 7 + "|",
        *("| " + " | ".join(one[key] or "–" for key in LOG_COLUMNS) + " |" for one in evaluations),
        "",
    ]


if __name__ == "__main__":
    raise SystemExit(run_script(main))
