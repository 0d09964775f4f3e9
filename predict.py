"""Stage EDF, BDF and Dreem files: csv, BIDS events, EDF+ annotations, statistics, picture, page.

python predict.py --edf night.edf                                  # the bundled model: one EEG
python predict.py --edf night.edf -o night.csv night.html          # just these formats
python predict.py --edf nights/ --checkpoint results/cmt_seq_fold4/checkpoints/best.pt -o staged
python predict.py --edf night.edf --channels EEG=C4-M1 "EOG=E1 - E2"
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from datasets.readers.any_file import SUFFIXES
from evaluation.prediction import Asked, StagedFile, predict
from evaluation.prediction_files import (
    MADE_WITH,
    STAGED,
    Explained,
    all_of,
    check_targets,
    check_writable,
    write_files,
    write_folder,
)
from evaluation.sleep_statistics import STATISTICS
from evaluation.stage import load_model, pick_device
from utils.arguments import ScriptParser, add_flag, add_list, count
from utils.checkpoint import Checkpoint, load_checkpoint
from utils.errors import UserError, run_script
from utils.files import (
    check_file,
    is_ours,
    is_safe,
    locked,
    read_json,
    refuse_inputs,
    safe_name,
    sweep,
    write_table,
)

BUNDLED = Path(__file__).parent / "results" / "weights" / "one_eeg.pt"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Stage EDF, BDF and Dreem files, and explain the stages.",
        "Files that were staged before in the same way are skipped. Files that cannot be staged "
        "are reported and left out; the exit code is then 1. Where an expert's stages lie beside "
        "a recording, the agreement with them is added.",
    )
    parser.add_argument(
        "--edf", help="recordings to stage: a file, a folder, or a pattern such as 'nights/*.edf'"
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=BUNDLED,
        help="model: best.pt of a run (default: the bundled model of one EEG, trained on synthetic "
        "nights only; its model card is results/weights/one_eeg.md)",
    )
    add_list(
        parser,
        "--output",
        "-o",
        default=["results/predictions"],
        help="a folder for all formats, or files, whose suffix is the format: .csv, .tsv (BIDS "
        "events), .edf (annotations), .json (statistics), .png, .html; {} stands for the "
        "recording's name",
    )
    add_list(
        parser,
        "--channels",
        default=[],
        help="channel of the file to read for a label or role of the model: EEG=C4-M1, or a "
        "difference of two: EOG=E1 - E2 (default: chosen by name)",
    )
    parser.add_argument(
        "--expert",
        help="file with an expert's stages, for a single recording, or 'none' (default: the file "
        "beside each recording, if there is one)",
    )
    add_flag(
        parser,
        "--is_interpret",
        help="explain epochs of interest on the page (default: for a single recording only)",
    )
    parser.add_argument(
        "--explain",
        type=count,
        default=12,
        help="number of epochs to explain: half transitions, half uncertain ones",
    )
    add_flag(parser, "--again", help="also stage files that were staged before in the same way")
    add_flag(
        parser,
        "--overwrite",
        help="also replace single files that this program did not write, or that were edited",
    )
    parser.add_argument("--device", default="auto", help="device: auto, cpu, cuda or cuda:1")
    parser.set_defaults(is_interpret=None)  # decided by the number of files
    args = parser.parse(argv)
    if args.edf is None:
        raise UserError("--edf is missing: it takes a file, a folder or a pattern")
    if wrong := [word for word in args.channels if "=" not in word]:
        raise UserError(f"--channels {wrong[0]}: give ROLE=label, such as EEG=C4-M1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Load the model once, stage every file, write the summary."""
    args = parse_args(argv)
    files = files_of(args.edf)
    # several outputs can only be files; a single one may be the folder for everything
    targets = args.output if len(args.output) > 1 or is_file_name(args.output[0]) else []
    check_targets(targets, len(files))
    if args.expert not in (None, "none") and len(files) > 1:
        raise UserError(f"--expert {args.expert}: one expert's file, {len(files)} recordings")
    check_outputs(args, files, targets)
    model, checkpoint = load(args.checkpoint)
    stager = Stager(args, model, checkpoint, targets, single=len(files) == 1)
    print(f"{args.checkpoint}: {stager.headline}")
    # None: a bar in terminals only
    bar = tqdm(files, desc="staging", unit="night", disable=len(files) == 1 or None)
    # left by processes that were killed; targets have their folders elsewhere
    if not targets:
        sweep(Path(args.output[0]))
    rows = [stager.row(file) for file in bar]
    failed = [row for row in rows if row["error"]]
    # a single file that fails is refused like any wrong input, with exit code 2
    if len(failed) == len(files) == 1:
        raise UserError(failed[0]["error"])
    if not targets:
        print(f"summary: {add_to_summary(summary_of(args), rows, overwrite=args.overwrite)}")
    for row in failed:
        print(f"  not staged: {row['error']}")
    if failed:
        print(f"{len(rows) - len(failed)} staged, {len(failed)} not")
        raise SystemExit(1)


def check_outputs(args: argparse.Namespace, files: list[Path], targets: list[str]) -> None:
    """Refuse to overwrite an input, or a summary that this program did not write.

    Raises:
        UserError: naming the file.
    """
    expert = [Path(args.expert)] if args.expert not in (None, "none") else []
    inputs = [*files, *expert, args.checkpoint, args.config]
    if not targets:
        check_file(summary_of(args), overwrite=args.overwrite)
        folders = [Path(args.output[0]) / file.stem for file in files if is_safe(file.stem)]
        refuse_inputs([summary_of(args), *folders], inputs)
    # names that are not safe are refused, recording by recording, when it is staged
    named = [[target_of(t, file) for t in targets] for file in files if is_safe(file.stem)]
    refuse_inputs([path for paths in named for path in all_of(paths)], inputs)


def summary_of(args: argparse.Namespace) -> Path:
    """Path of the table that has one row per night of the output folder."""
    return Path(args.output[0]) / "summary.csv"


def target_of(target: str, file: Path) -> Path:
    """Path of a file to write: ``target`` with the recording's name for ``{}``."""
    return Path(target.replace("{}", safe_name(file.stem, file)))


def add_to_summary(path: Path, rows: list[dict[str, Any]], *, overwrite: bool) -> Path:
    """Merge these files' rows into the summary, which holds those of earlier runs too."""
    # locked while it is read and written: other processes may be adding their rows
    with locked(path):
        former: list[dict[str, Any]] = []
        if is_ours(path):
            with path.open(newline="", encoding="utf-8") as file:
                former = list(csv.DictReader(file))
        # a file that was staged again replaces its former row
        whole = {row["file"]: row for row in [*former, *rows]}
        columns = dict.fromkeys(key for row in (*rows, *former) for key in row)
        table = [{key: row.get(key) for key in columns} for row in whole.values()]
        return write_table(path, table, overwrite=overwrite)


def is_file_name(target: str) -> bool:
    """Whether ``--output`` ends in a format's suffix, all letters: ``runs/v1.2`` is a folder."""
    return Path(target).suffix[1:].isalpha()


def files_of(spec: str) -> list[Path]:
    """List the recordings that ``--edf`` names, sorted, without hypnogram files.

    Raises:
        UserError: there is none, or two of them have one name.
    """
    path = Path(spec)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    elif path.is_file():
        files = [path]
    else:
        # glob() takes relative patterns only, so an absolute one starts at its root
        files = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
    files = [p for p in files if not p.stem.lower().endswith("hypnogram")]
    if not files:
        raise UserError(f"--edf {spec}: no EDF, BDF or Dreem file there")
    # results are named after the stem; some file systems ignore case
    stems = [p.stem.casefold() for p in files]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise UserError(f"--edf {spec}: two files are called {twice[0]}; stage them apart")
    return files


def load(path: Path) -> tuple[torch.nn.Module, Checkpoint]:
    """Load a model that stages, and its checkpoint.

    Raises:
        UserError: it stages nothing, or its checkpoint lacks the preparation of its nights.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.training is None or not checkpoint.training.preparation:
        raise UserError(
            f"{path}: how its nights were prepared is not known; convert the weights again, or "
            "train with them here"
        )
    model = load_model(checkpoint)
    if not model.stages_nights:
        raise UserError(f"{path}: a {checkpoint.model}, which stages nothing; train a head first")
    return model, checkpoint


class Stager:
    """Stages many files with one model, into a folder per recording or into ``targets``."""

    def __init__(
        self,
        args: argparse.Namespace,
        model: torch.nn.Module,
        checkpoint: Checkpoint,
        targets: list[str],
        *,
        single: bool,
    ) -> None:
        self.model, self.checkpoint, self.targets = model, checkpoint, targets
        self.headline = f"{checkpoint.model}, trained on {checkpoint.training.cohort}"
        wanted = single if args.is_interpret is None else args.is_interpret
        # 0 epochs: a page without explanations
        self.explained = Explained(args.explain if wanted else 0)
        self.asked = Asked(dict(word.split("=", 1) for word in args.channels), args.expert)
        self.device = pick_device(args.device)
        self.again, self.overwrite = args.again, args.overwrite
        self.folder = Path(args.output[0])
        # a file is skipped if its folder was made with these same values
        self.made_with = {
            "weights": checkpoint.fingerprint(),
            "channels": sorted(args.channels),
            "expert": args.expert,
            "explained": self.explained.epochs,
        }

    def row(self, file: Path) -> dict[str, Any]:
        """Stage one file unless it was staged before; returns its row of the summary."""
        # in the order of the summary's columns
        row = {
            "file": file.name,
            "epochs": None,
            "seconds": None,
            "channels": "",
            "flagged_epochs": None,
            "scored": None,
            "accuracy": None,
            "kappa": None,
            **dict.fromkeys(STATISTICS),
            "error": "",
        }
        started = time.perf_counter()
        try:
            folder = self.folder / safe_name(file.stem, file)
            files = [target_of(target, file) for target in self.targets]
            if not self.is_done(folder, files):
                check_writable(folder, files, file, overwrite=self.overwrite)
                # another process may be staging this night: it is waited for, and then done
                with locked(files[0] if files else folder):
                    if not self.is_done(folder, files):
                        self.stage(file, folder, files)
            # targets need not contain the statistics, so only folders fill the row
            values = {} if files else read_json(folder / f"{file.stem}.json")
        except UserError as error:
            return row | {"error": str(error)}
        values["seconds"] = round(time.perf_counter() - started, 2)
        return row | {name: values[name] for name in row if name in values}

    def stage(self, file: Path, folder: Path, files: list[Path]) -> None:
        """Stage one file, write the chosen formats, print a report."""
        staged = predict(file, self.model, self.checkpoint, self.asked, self.device)
        about = staged, self.model, self.headline, self.explained
        if files:
            write_files(files, *about, overwrite=self.overwrite)
        else:
            write_folder(folder, *about, self.made_with)
        report(file, staged, files or [folder])

    def is_done(self, folder: Path, files: list[Path]) -> bool:
        """Whether the file was staged before, by the same weights and in the same way.

        Targets without ``{}`` are always written anew: any recording could have made them.
        """
        if self.again or (files and not any("{}" in name for name in self.targets)):
            return False
        if files:
            return all(is_ours(path, STAGED) for path in files)
        path = folder / MADE_WITH
        return path.exists() and read_json(path) == self.made_with


def report(file: Path, staged: StagedFile, written: list[Path]) -> None:
    """Print the channels that were read, epochs with a quality flag, agreement, and paths."""
    night = staged.night
    read = ", ".join(f"{label} <- {source}" for label, source in staged.channels.items())
    absent = f"; absent: {', '.join(staged.absent)}" if staged.absent else ""
    n = sum(bool(words) for words in night.quality_flags)
    # print() would cut through the progress bar
    tqdm.write(f"{file.name}: {len(night.stages)} epochs; {read}{absent}; {n} with a quality flag")
    for note in staged.notes:
        tqdm.write(f"  note: {note}")
    if staged.expert is not None:
        scored = night.expert >= 0
        same = int((night.stages[scored] == night.expert[scored]).sum())
        tqdm.write(f"  agrees with {staged.expert.name} in {same} of {scored.sum()} scored epochs")
    tqdm.write(f"  written: {' '.join(map(str, written))}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
