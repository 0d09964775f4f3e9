"""Stage EDF files with a checkpoint: csv, BIDS events, EDF+ annotations, statistics, picture.

python predict.py --edf night.edf --checkpoint results/cmt_seq_fold4/checkpoints/best.pt
python predict.py --edf nights/ --checkpoint best.pt --output staged
python predict.py --edf night.edf --checkpoint best.pt --channels EEG=C4-M1 "EOG=E1 - E2"
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from interpret import figures
from utils.arguments import ScriptParser, add_flag, add_list
from utils.errors import UserError, run_script
from utils.exports import write_edf, write_events, write_predictions, write_table
from utils.files import write_json, written_whole
from utils.runs import load_checkpoint, newest_run, read_json
from utils.scoring import plain
from utils.sleep_statistics import STATISTICS, sleep_statistics
from workflow import evaluating
from workflow.predicting import Predicted, predict


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Stage EDF files, one folder of results each.",
        "Files staged before are skipped; files that cannot be staged are told and left out: then "
        "the exit code is 1.",
    )
    parser.add_argument("--edf", help="a file, a folder, or a pattern such as 'nights/*.edf'")
    parser.add_argument(
        "--checkpoint", type=Path, help="best.pt of a run (default: the newest run in results)"
    )
    parser.add_argument(
        "--output", "-o", type=Path, default=Path("results/predictions"), help="folder of results"
    )
    add_list(
        parser, "--channels", default=[],
        help="what to read for a label or role: EEG=C4-M1, or a difference EOG=E1 - E2",
    )  # fmt: skip
    add_flag(parser, "--again", help="stage files anew that were staged before")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    args = parser.parse(argv)
    if args.edf is None:
        raise UserError("--edf names what to stage: a file, a folder or a pattern")
    if wrong := [word for word in args.channels if "=" not in word]:
        raise UserError(f"--channels {wrong[0]}: give ROLE=label, such as EEG=C4-M1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Load the model once, stage every file, sum up."""
    args = parse_args(argv)
    files = files_of(args.edf)
    path = args.checkpoint or newest_run(Path("results"), "*") / "checkpoints" / "best.pt"
    checkpoint = load_checkpoint(path)
    if "trained" not in checkpoint:
        raise UserError(f"{path}: says nothing of how its nights were prepared; train with it here")
    model = evaluating.load_model(path, checkpoint)
    if not hasattr(model, "stage_night"):
        raise UserError(
            f"{path}: a {checkpoint['model']}, which stages nothing; train a head first"
        )
    device = evaluating.pick_device(args.device)
    chosen = dict(word.split("=", 1) for word in args.channels)
    headline = f"{checkpoint['model']}, trained on {checkpoint['trained']['cohort']}"
    print(f"{path}: {headline}")
    rows = []
    for file in tqdm(files, desc="staging", unit="night", disable=len(files) == 1 or None):
        rows.append(one(args, file, model, checkpoint, chosen, device, headline))
    print(f"summary: {write_table(args.output / 'summary.csv', rows)}")
    failed = [row for row in rows if row["error"]]
    for row in failed:
        print(f"  not staged: {row['error']}")
    if len(failed) == len(files) == 1:
        raise UserError(failed[0]["error"])
    if failed:
        print(f"{len(rows) - len(failed)} staged, {len(failed)} not")
        raise SystemExit(1)


def files_of(spec: str) -> list[Path]:
    """Files that ``--edf`` names, by name.

    Raises:
        UserError: there is none, or two of one name.
    """
    path = Path(spec)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() == ".edf")
    elif path.is_file():
        found = [path]
    else:
        found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
    found = [p for p in found if not p.stem.lower().endswith("hypnogram")]
    if not found:
        raise UserError(f"--edf {spec}: no EDF file there")
    stems = [p.stem for p in found]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise UserError(f"--edf {spec}: two files are called {twice[0]}; stage them apart")
    return found


def one(
    args: argparse.Namespace, file: Path, model: torch.nn.Module, checkpoint: dict[str, Any],
    chosen: dict[str, str], device: torch.device, headline: str,
) -> dict[str, Any]:  # fmt: skip
    """Stage one file into its folder; its row of the summary."""
    folder = args.output / file.stem
    row = {"file": file.name, "epochs": None, "seconds": None, "channels": "", "doubtful": None,
           **dict.fromkeys(STATISTICS), "error": ""}  # fmt: skip
    started = time.perf_counter()
    try:
        if args.again or not (folder / "statistics.json").exists():
            found = predict(file, model, checkpoint, chosen, device)
            write(folder, found, headline)
            told(file, found)
        known = read_json(folder / "statistics.json")
    except UserError as error:
        return row | {"error": str(error)}
    known["seconds"] = round(time.perf_counter() - started, 2)
    return row | {name: known[name] for name in row if name in known}


def write(folder: Path, found: Predicted, headline: str) -> None:
    """Everything of one night, whole or not at all."""
    night, name = found.night, found.night.recording
    statistics = {key: plain(value) for key, value in sleep_statistics(night.stages).items()}
    with written_whole(folder) as temporary:
        temporary.mkdir()
        write_predictions(temporary / f"{name}.csv", night)
        write_events(temporary / f"{name}_events.tsv", night, headline)
        write_edf(temporary / f"{name}-Hypnogram.edf", night)
        doubts = [{"epoch": k, "what": words} for k, words in enumerate(found.doubts) if words]
        if doubts:
            write_table(temporary / "doubtful_epochs.csv", doubts)
        title = f"{name}   {headline}"
        picture = figures.draw_prediction(night.probabilities, found.doubts, title=title)
        figures.save(picture, temporary / f"{name}.png")
        write_json(temporary / "statistics.json", {
            "epochs": len(night.stages), "model": headline,
            "channels": ", ".join(f"{k}: {v}" for k, v in found.channels.items()),
            "absent": found.absent, "note": found.note, "doubtful": len(doubts), **statistics,
            "definitions": {key: text for key, (_, _, text) in STATISTICS.items()},
        })  # fmt: skip


def told(file: Path, found: Predicted) -> None:
    """What was read for what, and how much of it is doubtful."""
    read = ", ".join(f"{label} <- {source}" for label, source in found.channels.items())
    absent = f"; absent: {', '.join(found.absent)}" if found.absent else ""
    n = sum(bool(words) for words in found.doubts)
    tqdm.write(f"{file.name}: {len(found.night.stages)} epochs; {read}{absent}; {n} doubtful")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
