"""Stage EDF, BDF and Dreem files: csv, BIDS events, EDF+ annotations, statistics, picture, page.

python predict.py --edf night.edf                                  # the default: one EEG
python predict.py --edf night.edf -o night.csv night.html          # just these formats
python predict.py --list_models                                    # stagers by name
python predict.py --edf night.edf --model yasa                     # one of them
python predict.py --download physioex-seqsleepnet-eeg robustsleepnet   # published weights
python predict.py --edf nights/ --model results/cmt_seq_fold4/checkpoints/best.pt -o staged
python predict.py --edf night.edf --channels EEG=C4-M1 "EOG=E1 - E2"
python predict.py --edf night.edf --model yasa robustsleepnet --channels EEG=all   # their mean
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from errno import ENOSPC, EROFS
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datasets.readers.any_file import SUFFIXES, opened
from datasets.readers.discovery import named_recordings
from evaluation.night_lines import report
from evaluation.prediction_files import (
    MADE_WITH,
    STAGED,
    add_to_summary,
    all_of,
    check_targets,
    check_writable,
    write_files,
    write_folder,
)
from evaluation.sleep_statistics import STATISTICS
from evaluation.stage import pick_device
from evaluation.stagers import catalogue
from evaluation.stagers.bundled import DEFAULT
from evaluation.stagers.stager import Asked, Stager
from evaluation.stagers.vote import stage_file
from utils.arguments import ScriptParser, add_flag, add_list, count, pairs, positive
from utils.errors import UserError, describe, run_script
from utils.files import (
    check_file,
    is_ours,
    is_safe,
    locked,
    read_json,
    refuse_inputs,
    safe_name,
    sweep,
)
from utils.text import shown


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
    add_list(
        parser,
        "--model",
        "--checkpoint",
        default=[DEFAULT],
        help="stager: a name of --list_models, or best.pt of a run; several are averaged (default: "
        "the mean of unlike stagers of one EEG, whose parts --list_models lists and "
        "docs/staging.md describes)",
    )
    add_flag(parser, "--list_models", help="print all stagers by name, and where they come from")
    add_list(
        parser,
        "--download",
        default=[],
        help="fetch the published weights of these stagers first, into SLEEP_WEIGHTS or the user's "
        "cache; without --edf nothing is staged",
    )
    parser.add_argument(
        "--output",
        "-o",
        nargs="+",
        default=["results/predictions"],
        help="a folder for all formats, or files, whose suffix is the format: .csv, .tsv (BIDS "
        "events), .edf (annotations), .json (statistics), .png, .html; {} stands for the "
        "recording's name",
    )
    parser.add_argument(
        "--channels",
        nargs="+",
        default=[],
        help="channel of the file to read for a label or role of the model: EEG=C4-M1, or a "
        "difference of two: EOG=E1 - E2 (default: chosen by name); several of a role, or EEG=all, "
        "are staged each and averaged",
    )
    parser.add_argument(
        "--expert",
        help="file with an expert's stages, for a single recording, or 'none' (default: the file "
        "beside each recording, if there is one)",
    )
    parser.add_argument("--age", type=positive, help="years, for stagers that use it (yasa)")
    parser.add_argument("--sex", choices=("female", "male"), help="as --age; give both")
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
    add_flag(
        parser,
        "--score_everything",
        help="give epochs without a signal the most probable stage, too, in place of '?'",
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
    if args.edf is None and not (args.download or args.list_models):
        raise UserError("--edf is missing: it takes a file, a folder or a pattern")
    channels_of(args)
    return args


def channels_of(args: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """Channels that are asked for, by label or role of the model."""
    return pairs(args.channels, "--channels", "ROLE=label, such as EEG=C4-M1")


def main(argv: list[str] | None = None) -> None:
    """List or fetch stagers, or load them once, stage every file, write the summary."""
    args = parse_args(argv)
    catalogue.download(args.download)
    if args.list_models:
        print(*catalogue.listed(), sep="\n")
    if args.edf is not None:
        stage_files(args, *files_of(args.edf))


def stage_files(args: argparse.Namespace, files: list[Path], faults: list[str]) -> None:
    """Stage every file by the stagers asked for, write the summary; report ``faults``, too."""
    # several outputs can only be files; a single one may be the folder for everything
    targets = args.output if len(args.output) > 1 or is_file_name(args.output[0]) else []
    check_targets(targets, len(files))
    if args.expert not in (None, "none") and len(files) > 1:
        raise UserError(f"--expert {args.expert}: one expert's file, {len(files)} recordings")
    check_outputs(args, files, targets)
    device = pick_device(args.device)
    stagers = [catalogue.load(name, device) for name in dict.fromkeys(args.model)]
    if args.age is not None and len(files) > 1:
        raise UserError(f"--age {args.age}: one age for {len(files)} recordings; stage them apart")
    for name, stager in zip(dict.fromkeys(args.model), stagers, strict=True):
        print(f"{name}: {stager.headline}")
    staging = Staging(args, stagers, targets, single=len(files) == 1)
    # None: a bar in terminals only
    bar = staging.bar = tqdm(files, desc="nights", unit="night", disable=None)
    # left by processes that were killed; targets have their folders elsewhere
    if not targets:
        sweep(Path(args.output[0]))
    rows = [staging.row(file) for file in bar]
    failed = [row["error"] for row in rows if row["error"]]
    # a single file that fails is refused like any wrong input, with exit code 2
    if len(failed) == len(files) == 1 and not faults:
        raise UserError(failed[0])
    if not targets:
        print(f"summary: {add_to_summary(summary_of(args), rows, overwrite=args.overwrite)}")
    for fault in [*failed, *faults]:
        print(f"  not staged: {shown(fault)}")
    if failed or faults:
        print(f"{len(rows) - len(failed)} staged, {len(failed) + len(faults)} not")
        raise SystemExit(1)


def check_outputs(args: argparse.Namespace, files: list[Path], targets: list[str]) -> None:
    """Refuse to overwrite an input, or a summary that this program did not write.

    Raises:
        UserError: naming the file.
    """
    expert = [Path(args.expert)] if args.expert not in (None, "none") else []
    models = [Path(name) for name in args.model if Path(name).is_file()]
    inputs = [*files, *expert, *models, args.config]
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


def is_file_name(target: str) -> bool:
    """Whether ``--output`` ends in a format's suffix, all letters: ``runs/v1.2`` is a folder."""
    return Path(target).suffix[1:].isalpha()


def files_of(spec: str) -> tuple[list[Path], list[str]]:
    """Recordings that ``--edf`` names, sorted, and folders that cannot be read.

    Raises:
        UserError: there is none, or two of them have one name.
    """
    files, faults = named_recordings(spec, SUFFIXES)
    # results are named after the stem; some file systems ignore case
    stems = Counter(path.stem.casefold() for path in files)
    if twice := sorted(stem for stem, n in stems.items() if n > 1):
        raise UserError(f"--edf {spec}: two files are called {twice[0]}; stage them apart")
    return files, faults


class Staging:
    """Stages many files by some stagers, into a folder per recording or into ``targets``."""

    def __init__(
        self, args: argparse.Namespace, stagers: list[Stager], targets: list[str], *, single: bool
    ) -> None:
        self.stagers, self.targets = stagers, targets
        self.bar: tqdm | None = None
        wanted = single if args.is_interpret is None else args.is_interpret
        # 0 epochs: a page without explanations
        self.explained = args.explain if wanted else 0
        channels = channels_of(args)
        self.asked = Asked(channels, args.expert, args.age, args.sex, args.score_everything)
        self.again, self.overwrite = args.again, args.overwrite
        self.folder = Path(args.output[0])
        # a file is skipped if its folder was made with these same values
        self.made_with = {
            "weights": [stager.fingerprint for stager in stagers],
            "channels": sorted(args.channels),
            "expert": args.expert,
            "explained": self.explained,
            "demographics": [args.age, args.sex],
            "score_everything": args.score_everything,
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
            "unscored_epochs": None,
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
        except OSError as error:
            if error.errno in (ENOSPC, EROFS):  # nothing more can be written
                raise
            return row | {"error": describe(error)}
        values["seconds"] = round(time.perf_counter() - started, 2)
        return row | {name: values[name] for name in row if name in values}

    def stage(self, file: Path, folder: Path, files: list[Path]) -> None:
        """Stage one file, write the chosen formats, print a report."""
        progress = partial(self.show, file)
        staged = stage_file(opened(file), self.stagers, self.asked, progress)
        if files:
            write_files(files, staged, self.explained, progress, overwrite=self.overwrite)
        else:
            write_folder(folder, staged, self.explained, self.made_with, progress)
        for line in report(file.name, staged, files or [folder]):
            tqdm.write(shown(line))  # print() would cut through the progress bar

    def show(self, file: Path, step: str) -> None:
        """Show on the bar what is being done with a file."""
        text = shown(f"{file.name}: {step}")
        if self.bar is not None and self.bar.disable and step.startswith("explaining"):
            print(text, flush=True)  # the slowest step, where no bar tells of it
        elif self.bar is not None:
            self.bar.set_postfix_str(text)

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


if __name__ == "__main__":
    raise SystemExit(run_script(main))
