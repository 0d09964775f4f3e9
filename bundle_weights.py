"""Put a run's best checkpoint into results/weights, with the card that says what it is worth.

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
from evaluation.prediction import Asked, predict
from evaluation.prediction_files import agreement
from evaluation.stage import load_model
from utils.arguments import ScriptParser, add_flag
from utils.checkpoint import Checkpoint, load_checkpoint, load_tensors
from utils.errors import UserError, run_script
from utils.files import check_file, read_json, write_table, write_text, written_whole
from utils.stages import STAGES

HERE = Path(__file__).parent
# the whole night that models are measured on, and five minutes of Wake
NIGHT = Path("ucddb") / "ucddb018.edf"
REAL = (NIGHT, Path("sleep_edf") / "SC4001E0-PSG.edf")
LOOK = ("date", "weights", "night", "epochs", "accuracy", "kappa", "what")
FIGURES = ("accuracy", "macro_f1", "kappa")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Bundle a model of one EEG, trained on synthetic nights, and write its card.",
        "--real measures it on one real night and five real minutes and logs each look, once for "
        "the same weights: choose nothing by them.",
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
    """Checkpoint, looks, card."""
    args = parse_args(argv)
    checkpoint = load_checkpoint(args.run / "checkpoints" / "best.pt")
    if not checkpoint.training.cohort.startswith("synthetic-"):
        raise UserError(f"{args.run}: trained on real people, whose data sets decide who may share")
    measured = read_json(args.run / "evaluation" / "metrics.json")
    weights, log = args.output / "one_eeg.pt", args.output / "looks.csv"
    for path in (weights, log, weights.with_suffix(".md")):
        check_file(path, overwrite=args.overwrite)
    # an open file: given a path, torch would write its name into the bytes
    with (
        written_whole(weights, overwrite=args.overwrite) as temporary,
        temporary.open("wb") as file,
    ):
        torch.save(load_tensors(checkpoint.path), file)
    looks = read_looks(log)
    known = checkpoint.fingerprint()
    seen = {(look["weights"], look["night"]) for look in looks}
    for night in REAL if args.real else ():
        if (known, night.stem) not in seen:
            looks.append(look_at(args.real / night, weights, checkpoint, known))
            write_table(log, looks, overwrite=args.overwrite)
    card = card_of(checkpoint, known, measured, looks)
    write_text(weights.with_suffix(".md"), card, overwrite=args.overwrite)
    print(card)
    print(f"written: {weights}, its card one_eeg.md and the log looks.csv beside it")


def read_looks(path: Path) -> list[dict[str, Any]]:
    """Every time that a model was measured on a real recording."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def look_at(night: Path, weights: Path, checkpoint: Checkpoint, known: str) -> dict[str, Any]:
    """Stage a real recording once; the row of the log."""
    if not night.exists():
        raise UserError(
            f"{night}: not there; --real names the folder with {' and '.join(map(str, REAL))}"
        )
    model = load_model(checkpoint)
    found = predict(night, model, checkpoint, Asked({}), torch.device("cpu"))
    if found.expert is None:
        raise UserError(f"{night}: no expert's stages beside it; {'; '.join(found.notes)}")
    values = agreement(found)
    shown = {n: "" if values[n] is None else f"{values[n]:.4f}" for n in FIGURES}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "weights": known,
        "night": night.stem,
        "epochs": str(values["scored"]),
        **shown,
        "confusion": " / ".join(" ".join(map(str, row)) for row in values["confusion"]),
        "what": "first look of this model",
    }


def card_of(
    checkpoint: Checkpoint, known: str, measured: dict[str, Any], looks: list[dict[str, Any]]
) -> str:
    """Markdown: what it is, how it was made, what it is worth, what it is not."""
    trained = checkpoint.training
    people = {name: len(ids) for name, ids in trained.subjects.items()}
    n = sum(p.numel() for p in models.build_from(checkpoint).parameters())
    pooled = measured["pooled"]
    lines = [
        "# one_eeg.pt: the model that `predict.py` uses by default",
        "",
        f"`{checkpoint.model}` on one EEG channel ({checkpoint.fs:g} Hz after resampling, "
        f"any derivation), {n:,} parameters, weights `{known}`.",
        "",
        "**Trained on synthetic nights only**, and its pass chosen on such: "
        f"{people['train']} invented people trained it, {people['validation']} chose "
        f"the pass, {people['held_out']} were held out. Each had a recorder, derivation, sampling "
        "rate, filter, noise, arousals and artefacts of their own "
        "(`generate_demo_data.py --varied`), and every recording is brought to one average "
        "spectrum first (`--preset equalised`), so that the unit and the amplifier matter little.",
        "",
        "Made again, bit for bit on one processor thread, by `make weights`:",
        "",
        f"    {trained.command}",
        "",
        "## On held-out synthetic people",
        "",
        f"{measured['epochs']:,} epochs of {measured['subjects']} people; 95 % by subject. "
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
        *real_part(looks, known),
        "## What it is not",
        "",
        *limits(looks, known),
        "Not a medical device, not validated on any cohort, and no substitute for a model trained "
        "on data like yours. It was never shown an electrode of a real patient. Recordings "
        "shorter than half an hour say little of their own spectrum and are staged less reliably.",
        "",
    ]
    return "\n".join(lines)


def limits(looks: list[dict[str, Any]], known: str) -> list[str]:
    """Stages of the real night that the model finds less than half of, in words."""
    look = look_of(looks, known)
    if look is None:
        return []
    rows = [list(map(int, row.split())) for row in look["confusion"].split(" / ")]
    said = []
    for k, (stage, row) in enumerate(zip(STAGES, rows, strict=True)):
        if sum(row) and 2 * row[k] < sum(row):
            instead = STAGES[max((j for j in range(len(row)) if j != k), key=row.__getitem__)]
            said.append(
                f"of {sum(row)} {stage} epochs it finds {row[k]} (mostly {instead} instead)"
            )
    words = f"On the real night, {'; '.join(said)}. Why was not looked into."
    return [words, ""] if said else []


def look_of(looks: list[dict[str, Any]], known: str) -> dict[str, Any] | None:
    """The look at the real night of these weights."""
    return next((k for k in looks if (k["weights"], k["night"]) == (known, NIGHT.stem)), None)


def real_part(looks: list[dict[str, Any]], known: str) -> list[str]:
    """The look at the real night of these weights, and every look of any."""
    look = look_of(looks, known)
    if look is None:
        return ["## On a real night", "", "Not measured (`--real`).", ""]
    rows = [row.split() for row in look["confusion"].split(" / ")]
    table = [
        f"| **{stage}** | " + " | ".join(row) + " |"
        for stage, row in zip(STAGES, rows, strict=True)
    ]
    return [
        "## On one real night",
        "",
        f"`{look['night']}` (St. Vincent's / UCD, an apnea patient, one EEG channel of unknown "
        f"gain, R&K), {look['epochs']} epochs, one person, so no interval: kappa "
        f"**{float(look['kappa']):.3f}**, accuracy {float(look['accuracy']):.3f}, macro-F1 "
        f"{float(look['macro_f1']):.3f}. Rows: expert, columns: model.",
        "",
        "| | " + " | ".join(STAGES) + " |",
        "|---" * (1 + len(STAGES)) + "|",
        *table,
        "",
        "Every look at a real recording (`looks.csv`):",
        "",
        "| date | weights | recording | epochs | accuracy | kappa | what |",
        "|---" * 7 + "|",
        *("| " + " | ".join(one[key] or "–" for key in LOOK) + " |" for one in looks),
        "",
    ]


if __name__ == "__main__":
    raise SystemExit(run_script(main))
