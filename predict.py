"""Stage EDF, BDF and Dreem files: tables, EDF+ and other programs' formats, picture, page.

python predict.py --edf night.edf                                  # the default: one EEG
python predict.py --edf night.edf -o night.csv night.html          # just these formats
python predict.py --edf nights/ --export bids nsrr                 # for other programs, too
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
from collections.abc import Mapping
from contextlib import nullcontext
from errno import ENOSPC, EROFS
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datasets.readers.any_file import SUFFIXES, opened
from datasets.readers.discovery import named_recordings
from datasets.readers.scorings.scoring import TABLE_HELP, VOCABULARY_HELP, Wishes
from evaluation import reuse
from evaluation.export_formats import Reasons, exports_named, help_of_exports, listed
from evaluation.night_lines import report
from evaluation.prediction_files import (
    SUMMARY,
    add_to_summary,
    all_of,
    check_shared,
    check_targets,
    check_writable,
    describe_shared,
    shared_files,
    targets_of,
    write_files,
    write_folder,
)
from evaluation.reuse import NOT_SETTINGS, Place, names_of
from evaluation.stage import pick_device
from evaluation.stagers import catalogue
from evaluation.stagers.bundled import DEFAULT
from evaluation.stagers.stager import Asked, Stager
from evaluation.stagers.vote import stage_file
from utils.arguments import ScriptParser, add_flag, add_list, count, pairs, positive
from utils.errors import UserError, describe, run_script
from utils.files import check_file, is_safe, locked, read_json, refuse_inputs, sweep
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
        help=f"a folder, or files, whose ending is the format: {listed()}; {{}} stands for the "
        "recording's name, which begins with its folder where several have one name",
    )
    add_list(parser, "--export", default=[], help=help_of_exports())
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
        "beside each recording, if there is one); docs/staging.md lists what is read",
    )
    parser.add_argument("--vocabulary", help=VOCABULARY_HELP)
    parser.add_argument("--expert_table", help=TABLE_HELP)
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
    parser.add_argument(
        "--counterfactuals",
        type=count,
        default=0,
        help="number of explained epochs for which the least edit in a scorer's words is sought "
        "that changes the stage, such as 18 %% more slow-wave time; seconds for each",
    )
    parser.add_argument(
        "--page_channels",
        nargs="+",
        default=[],
        help="labels or differences that the page shows beside the channels that the model reads",
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
    exports_named(args.export)
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
        stage_files(args, *named_recordings(args.edf, SUFFIXES))


def stage_files(args: argparse.Namespace, files: list[Path], faults: list[str]) -> None:
    """Stage every file by the stagers asked for, write the summary; report ``faults``, too."""
    # several outputs can only be files; a single one may be the folder for everything
    targets = args.output if len(args.output) > 1 or is_file_name(args.output[0]) else []
    check_targets(targets, args.export, len(files))
    if args.expert not in (None, "none") and len(files) > 1:
        raise UserError(f"--expert {args.expert}: one expert's file, {len(files)} recordings")
    check_outputs(args, files, targets)
    device = pick_device(args.device)
    stagers = [catalogue.load(name, device) for name in dict.fromkeys(args.model)]
    if args.age is not None and len(files) > 1:
        raise UserError(f"--age {args.age}: one age for {len(files)} recordings; stage them apart")
    for name, stager in zip(dict.fromkeys(args.model), stagers, strict=True):
        print(f"{name}: {stager.headline}")
    staging = Staging(args, stagers, targets, files)
    # None: a bar in terminals only
    bar = staging.bar = tqdm(files, desc="nights", unit="night", disable=None)
    rows = [staging.row(file) for file in bar]
    staging.sweep()
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
    # names that are not safe are refused, recording by recording, when it is staged
    namesakes = reuse.namesakes_of(files)
    names = [next(names_of(file, namesakes)) for file in files if is_safe(file.stem)]
    outputs = [path for name in names for path in all_of(targets_of(targets, name))]
    if not targets:
        folder, exports = Path(args.output[0]), exports_named(args.export)
        if folder.is_file():
            raise UserError(f"--output {folder}: is a file; name a folder, or its format")
        check_file(summary_of(args), overwrite=args.overwrite)
        check_shared(folder, exports)
        shared = [path for name in names for path in all_of(shared_files(folder, name, exports))]
        outputs = [summary_of(args), *(folder / name for name in names), *shared]
    refuse_inputs(outputs, inputs)


def summary_of(args: argparse.Namespace) -> Path:
    """Path of the table that has one row per night of the output folder."""
    return Path(args.output[0]) / "summary.csv"


def is_file_name(target: str) -> bool:
    """Whether ``--output`` ends in a format's suffix, all letters: ``runs/v1.2`` is a folder."""
    return Path(target).suffix[1:].isalpha()


class Staging:
    """Stages many files by some stagers, into a folder per recording or into ``targets``."""

    def __init__(
        self,
        args: argparse.Namespace,
        stagers: list[Stager],
        targets: list[str],
        files: list[Path],
    ) -> None:
        self.stagers, self.targets = stagers, targets
        self.namesakes = reuse.namesakes_of(files)
        self.bar: tqdm | None = None
        wanted = len(files) == 1 if args.is_interpret is None else args.is_interpret
        self.reasons = Reasons(args.explain if wanted else 0, args.counterfactuals)
        scoring = Wishes(args.vocabulary, args.expert_table)
        person = args.expert, args.age, args.sex
        self.asked = Asked(
            channels_of(args), *person, scoring, args.score_everything, args.page_channels
        )
        self.exports = {} if targets else exports_named(args.export)
        self.again, self.overwrite = args.again, args.overwrite
        self.folder, self.written_into = Path(args.output[0]), set[Path]()
        self.settings = {k: v for k, v in vars(args).items() if k not in NOT_SETTINGS}
        self.settings["explained"] = self.reasons.explained
        self.stagers_used = [
            {"weights": stager.fingerprint, "preparation": stager.preparation} for stager in stagers
        ]

    def row(self, file: Path) -> dict[str, Any]:
        """Stage one file unless it was staged before; returns its row of the summary."""
        started, name = time.perf_counter(), file.stem
        try:
            name = next(names_of(file, self.namesakes))
            name = self.stage_once(file)
            # targets need not contain the statistics, so only folders fill the row
            values = {} if self.targets else read_json(self.folder / name / f"{file.stem}.json")
        except UserError as error:
            values = {"error": str(error)}
        except OSError as error:
            if error.errno in (ENOSPC, EROFS):  # nothing more can be written
                raise
            values = {"error": describe(error)}
        values["file"] = name if name.endswith(file.suffix) else f"{name}{file.suffix}"
        values["seconds"] = round(time.perf_counter() - started, 2)
        return {column: values.get(column, empty) for column, empty in SUMMARY.items()}

    def stage_once(self, file: Path) -> str:
        """Stage a file unless its results are there and current; returns the name they have.

        Raises:
            UserError: it cannot be staged, or what is there may not be replaced.
        """
        made = reuse.made_with(file, self.asked.expert, self.stagers_used, self.settings)
        now, taken = reuse.origin_of(made), ""
        for name in names_of(file, self.namesakes):
            place = self.place(name)
            if not self.again and place.is_current(now):
                return name
            # another process may be staging this night: it is waited for, and then done
            with nullcontext() if place.holder(now) else locked(place.locked_by):
                if not (holder := place.holder(now)):
                    if self.again or not place.is_current(now):
                        self.stage(file, name, made, taken)
                    return name
            taken = taken or holder
        raise UserError(f"{file}: {taken}; choose another --output")

    def place(self, name: str) -> Place:
        """Where the results of that name go."""
        files = [*targets_of(self.targets, name)]
        shared = [*shared_files(self.folder, name, self.exports)]
        chosen = bool(files) and not any("{}" in target for target in self.targets)
        place = Place(self.folder, self.folder / name, files, chosen, shared)
        written = [*(files or [place.folder]), *shared]
        self.written_into |= {path.parent for path in written}
        return place

    def stage(self, file: Path, name: str, made: Mapping[str, Any], taken: str) -> None:
        """Stage one file, write the chosen formats under a name, print a report."""
        progress = partial(self.show, file)
        place = self.place(name)
        targets = targets_of(self.targets, name) or shared_files(self.folder, name, self.exports)
        check_writable(place, targets, file, overwrite=self.overwrite)
        staged = stage_file(opened(file), self.stagers, self.asked, progress)
        if reuse.checksum(file) != made["sha256"]:
            raise UserError(f"{file}: was changed while it was staged; run the same command again")
        about = staged, self.reasons, made, progress
        if not place.files:
            write_folder(place.folder, *about, exports=self.exports)
        if targets:
            write_files(targets, *about, overwrite=self.overwrite)
        describe_shared(self.folder, self.exports)
        written = [*targets] if place.files else [place.folder, *targets]
        for line in report(file.name, staged, written, taken):
            tqdm.write(shown(line))  # print() would cut through the progress bar

    def show(self, file: Path, step: str) -> None:
        """Show on the bar what is being done with a file."""
        text = shown(f"{file.name}: {step}")
        if self.bar is not None and self.bar.disable and step.startswith("explaining"):
            print(text, flush=True)  # the slowest step, where no bar tells of it
        elif self.bar is not None:
            self.bar.set_postfix_str(text)

    def sweep(self) -> None:
        """Clear away what killed processes left in the folders that results went to."""
        for folder in self.written_into:
            sweep(folder)


if __name__ == "__main__":
    raise SystemExit(run_script(main))
