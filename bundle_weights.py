"""Bundle the parts of the default stager into results/weights, with a card of how good it is.

python bundle_weights.py --parts spectra,bands-moved,yasa
python bundle_weights.py --parts spectra,bands-moved,yasa --partial $SLEEP_REAL_DATA/ucddb_partial

``make weights`` trains the parts and calls this.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from datasets.band_tables import read_table
from datasets.readers.any_file import opened
from evaluation.night_summary import agreement
from evaluation.stagers import bundled
from evaluation.stagers.stager import Asked, Stager
from experiments import default_figures
from experiments.bundle_card import card_of, declaration_of, read_log
from experiments.candidates import BANDS, PARTS, runs_of
from utils.arguments import ScriptParser, add_flag, add_list
from utils.checkpoint import load_checkpoint, load_tensors, save_tensors, without_paths
from utils.errors import UserError, run_script
from utils.files import (
    check_file,
    read_json,
    refuse_inputs,
    write_json,
    write_table,
    write_text,
    written_whole,
)

HERE = Path(__file__).parent
# the whole night that releases are measured on, once each
NIGHT = Path("ucddb") / "ucddb018.edf"
SPLIT = {"n_test": 16, "n_val": 12, "seed": 20}  # of the table, as make weights trains
DERIVATIONS = ("Fpz-Cz", "Pz-Oz")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Bundle the default stager and write its card.",
        "What --table and --real measure are held-out subjects and a night: they come last, and "
        "nothing is chosen by them.",
    )
    add_list(
        parser, "--parts", default=[], help=f"kinds of parts, of {', '.join(PARTS)}; each is a vote"
    )
    parser.add_argument(
        "--weights", type=Path, default=Path("data/weights"), help="folder of make weights"
    )
    parser.add_argument(
        "--simulated",
        type=Path,
        default=Path("data/weights/raw_compared"),
        help="folder of simulated recordings that trained nothing, to measure the default on",
    )
    parser.add_argument(
        "--partial", type=Path, help="folder of partly recorded real nights, .npz files"
    )
    parser.add_argument(
        "--table",
        type=Path,
        help="table of band powers, whose held-out subjects are staged by every network on them",
    )
    parser.add_argument(
        "--real",
        type=Path,
        help=f"folder with {NIGHT} and its stages, evaluated once for the same weights and logged",
    )
    parser.add_argument(
        "--output", type=Path, default=HERE / "results" / "weights", help="folder of the bundle"
    )
    add_flag(parser, "--overwrite", help="replace files in --output that this script did not write")
    args = parser.parse(argv)
    if not args.parts:
        raise UserError("--parts names the kinds of parts to bundle; make weights trains them")
    if unknown := [kind for kind in args.parts if kind not in PARTS]:
        raise UserError(f"--parts {unknown[0]}: no such kind; there are {', '.join(PARTS)}")
    return args


def main(argv: list[str] | None = None) -> None:
    """Copy the weights, declare the parts, measure the default, write log and card."""
    args = parse_args(argv)
    declared = declaration_of({kind: runs_of(args.weights, kind) for kind in args.parts})
    bundle, card = args.output / "default.json", args.output / "default.md"
    log, figures = args.output / "evaluation_log.csv", args.output / "figures.json"
    outputs = [bundle, card, log, figures, *(args.output / name for name in declared.files)]
    refuse_inputs(outputs, declared.files.values())
    # all before the first is written: a refusal leaves the bundle as it was
    for path in outputs:
        check_file(path, overwrite=args.overwrite)
    for name, source in declared.files.items():
        copy_weights(source, args.output / name, overwrite=args.overwrite)
    parts = bundled.with_checksums(declared.parts, args.output)
    write_json(bundle, {"parts": parts}, overwrite=args.overwrite)
    stager = bundled.load(bundled.DEFAULT, torch.device("cpu"), bundle)
    known = sha256(stager.fingerprint.encode()).hexdigest()[:12]
    measured = read_json(figures) if figures.exists() else {}
    if measured.get("weights") != known:
        measured = {"weights": known}
    measured |= measure(stager, args)
    write_json(figures, measured, overwrite=args.overwrite)
    rows = logged(log, measured, stager, args)
    if rows:
        write_table(log, rows, overwrite=args.overwrite)
    chosen = HERE / "results" / "weights" / "candidates.csv"
    text = card_of(declared, args.output, measured, rows, chosen)
    write_text(card, text, overwrite=args.overwrite)
    print(text)
    print(
        f"written: {bundle}, its weights, and beside them {card.name}, {figures.name}, {log.name}"
    )


def copy_weights(source: Path, target: Path, *, overwrite: bool) -> None:
    """Copy a checkpoint without paths of this machine; the same weights give the same bytes."""
    content = without_paths(load_tensors(source))
    with written_whole(target, overwrite=overwrite) as temporary, temporary.open("wb") as file:
        save_tensors(content, file)


def measure(stager: Stager, args: argparse.Namespace) -> dict[str, Any]:
    """Figures on simulated nights, partial nights and the table, of those that are here."""
    measured: dict[str, Any] = {}
    if simulated := sorted(args.simulated.glob("*-PSG.edf")):
        nights = default_figures.of_files(stager, simulated)
        parts = default_figures.by_part(nights)
        measured["simulated"] = default_figures.summary(nights) | {"parts": parts}
    if args.partial is not None:
        partial = sorted(args.partial.glob("*.npz"))
        if not partial:
            raise UserError(f"--partial {args.partial}: no .npz files there")
        nights = default_figures.of_partial(stager, partial)
        parts = default_figures.by_part(nights)
        measured["partial"] = default_figures.summary(nights) | {"parts": parts}
    if args.table is not None:
        measured["table"] = on_table(args)
    return measured


def on_table(args: argparse.Namespace) -> dict[str, Any]:
    """Figures of every kind of network on band powers, on held-out subjects of the table."""
    table = read_table(args.table)
    rows: dict[str, Any] = {}
    for kind in BANDS:
        checkpoints = [load_checkpoint(path) for path in runs_of(args.weights, kind).values()]
        if not checkpoints:
            continue
        for name in DERIVATIONS:
            nights = default_figures.of_table(checkpoints, table, name, SPLIT)
            each = [default_figures.of_table([one], table, name, SPLIT) for one in checkpoints]
            seeds = [default_figures.summary(staged)["kappa"] for staged in each]
            rows[f"{kind} {name}"] = default_figures.summary(nights) | {"seeds": seeds}
    return rows


def logged(
    log: Path, measured: dict[str, Any], stager: Stager, args: argparse.Namespace
) -> list[dict[str, str]]:
    """The log with this bundle's evaluations on real recordings, each once for the same weights."""
    rows = read_log(log)
    seen = {(row["weights"], row["night"]) for row in rows}
    known = measured["weights"]
    if args.real is None or (known, NIGHT.stem) in seen:
        return rows
    # weights meet this night once: figures that can be had again are figures to choose by
    path = args.real / NIGHT
    if not path.exists():
        raise UserError(f"{path}: not there; --real names the folder of the real data")
    staged = stager.stage(opened(path), Asked())
    if staged.expert_path is None:
        raise UserError(f"{path}: no expert's stages beside it; {'; '.join(staged.notes)}")
    values = agreement(staged)
    shown = {name: f"{values[name]:.4f}" for name in ("accuracy", "macro_f1", "kappa")}
    row = {
        "date": datetime.now(UTC).date().isoformat(),
        "weights": known,
        "night": NIGHT.stem,
        "epochs": str(values["scored"]),
        **shown,
        "confusion": " / ".join(" ".join(map(str, row)) for row in values["confusion"]),
        "what": f"the default, {' + '.join(args.parts)}: first evaluation of this release",
    }
    return [*rows, row]


if __name__ == "__main__":
    raise SystemExit(run_script(main))
