"""Files of one staged night: one format per suffix, each written whole or not at all."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.readers import expert_annotations
from evaluation import reuse
from evaluation.exports import write_edf, write_events, write_predictions, write_votes
from evaluation.reuse import MADE_WITH
from evaluation.sleep_statistics import STATISTICS, sleep_statistics
from evaluation.staged_file import StagedFile
from interpret.second_look import write_second_look
from utils import figures, metrics
from utils.errors import UserError
from utils.files import (
    check_file,
    check_folder,
    is_ours,
    locked,
    read_json,
    refuse_inputs,
    scratch_beside,
    write_json,
    write_table,
    written_folder,
    written_whole,
)
from utils.metrics import plain
from utils.stages import STAGES, UNSCORED
from utils.text import harmless, shown

STAGED = "staged night"  # what files and folders are called where they may be replaced
REASONS, CONFUSION = "interpretations", "confusion.png"
# columns of the summary, and what is in them where nothing is known
SUMMARY = {
    "file": "", "epochs": None, "seconds": None, "channels": "", "flagged_epochs": None,
    "unscored_epochs": None, "scored": None, "accuracy": None, "kappa": None,
    **dict.fromkeys(STATISTICS), "error": "",
}  # fmt: skip
# suffix -> the file's name in a folder of everything
FORMATS = {
    ".csv": "{}.csv", ".tsv": "{}_events.tsv", ".edf": "{}-Hypnogram.edf", ".json": "{}.json",
    ".png": "{}.png", ".html": "{}.html",
}  # fmt: skip


def write_folder(
    folder: Path,
    staged: StagedFile,
    explained: int,
    made_with: Mapping[str, Any],
    progress: Callable[[str], None] = lambda step: None,
    *,
    counterfactuals: int = 0,
) -> None:
    """Write every format into a folder of the night's own, and what it was made with.

    ``made_with`` is that of :func:`evaluation.reuse.made_with`.
    ``explained`` is the number of epochs that the page explains, for some of which it seeks
    ``counterfactuals``; ``progress`` is called with each step before it begins.
    """
    with written_folder(folder, STAGED) as temporary:
        source = reuse.relative(made_with["source"], folder)
        write_json(temporary / MADE_WITH, {**made_with, "source": source})
        for suffix in FORMATS:
            progress(step_of(suffix, explained))
            write(temporary, suffix, staged, explained, counterfactuals)
        if staged.votes:
            write_votes(temporary / "votes.csv", staged)
        write_second_look(temporary, staged.second_look(temporary / REASONS))
        flags = [
            {"epoch": k, "flag": words} for k, words in enumerate(staged.quality_flags) if words
        ]
        if flags:
            write_table(temporary / "quality_flags.csv", flags)
        if staged.expert_path is not None:
            title = title_of(staged)
            figures.save(figures.draw_confusion(staged.counts, title=title), temporary / CONFUSION)


def write_files(
    targets: Sequence[Path],
    staged: StagedFile,
    explained: int,
    made_with: Mapping[str, Any],
    progress: Callable[[str], None] = lambda step: None,
    *,
    overwrite: bool,
    counterfactuals: int = 0,
) -> None:
    """Write the formats that the targets' suffixes name; events bring their json along.

    What they were made with is listed with each.
    """
    # all of them first: if one fails, no target has been replaced
    with scratch_beside(targets[0]) as scratch:
        for target in targets:
            progress(step_of(target.suffix.lower(), explained))
            write(scratch, target.suffix.lower(), staged, explained, counterfactuals)
        for target in targets:
            name = FORMATS[target.suffix.lower()].format(staged.recording)
            pairs = [(scratch / name, target)]
            if target.suffix.lower() == ".tsv":
                pairs.append(((scratch / name).with_suffix(".json"), sidecar_of(target, targets)))
            for made, place in pairs:
                origin = reuse.entry_of(place, reuse.origin_of(made_with))
                with written_whole(
                    place, what=STAGED, overwrite=overwrite, origin=origin
                ) as temporary:
                    shutil.copyfile(made, temporary)


def step_of(suffix: str, explained: int) -> str:
    """What is done for a format, in words."""
    if suffix == ".html" and explained:
        return f"explaining {explained} epochs on the page"
    return f"writing {suffix}"


def all_of(targets: Sequence[Path]) -> list[Path]:
    """The targets and the json beside each table of events."""
    events = [target for target in targets if target.suffix.lower() == ".tsv"]
    return [*targets, *(sidecar_of(target, targets) for target in events)]


def add_to_summary(path: Path, rows: list[dict[str, Any]], *, overwrite: bool) -> Path:
    """Merge these files' rows into the summary, which holds those of earlier runs too."""
    # locked while it is read and written: other processes may be adding their rows
    with locked(path):
        former: list[dict[str, Any]] = []
        if is_ours(path):
            with path.open(newline="", encoding="utf-8") as file:
                former = list(csv.DictReader(file))
        # a file that was staged again replaces its former row
        whole = {harmless(shown(row["file"])): row for row in [*former, *rows]}
        columns = dict.fromkeys(key for row in (*rows, *former) for key in row)
        # sorted: whichever of several processes came first
        table = [{key: whole[file].get(key) for key in columns} for file in sorted(whole)]
        return write_table(path, table, overwrite=overwrite)


def sidecar_of(events: Path, targets: Sequence[Path]) -> Path:
    """Path of the json that describes the columns of events.

    It has the events' own name, as BIDS has it, unless statistics are written there, or another
    json lies there already.
    """
    usual = events.with_suffix(".json")
    if usual in targets or (usual.exists() and not _describes_columns(usual)):
        return events.with_name(f"{events.stem}_columns.json")
    return usual


def _describes_columns(path: Path) -> bool:
    try:
        return "trial_type" in read_json(path)
    except UserError:
        return False  # no json, so not one of these


def check_writable(
    folder: Path, files: Sequence[Path], recording: Path, *, overwrite: bool
) -> None:
    """Refuse, before a night is staged, what could not be written afterwards.

    Raises:
        UserError: somebody else's file is there, or one is the expert's beside the recording.
    """
    if not files:
        check_folder(folder, STAGED)
    written = all_of(files)
    refuse_inputs(written or [folder], [recording, expert_annotations.find(recording)])
    for path in written:
        check_file(path, STAGED, overwrite=overwrite)


def write(
    folder: Path, suffix: str, staged: StagedFile, explained: int, counterfactuals: int = 0
) -> None:
    """Write one format into a folder, under its usual name."""
    path = folder / FORMATS[suffix].format(staged.recording)
    # as functions, so that only the one asked for is run
    writers: Mapping[str, Callable[[], Any]] = {
        ".csv": lambda: write_predictions(path, staged, staged.quality_flags),
        ".tsv": lambda: write_events(path, staged, staged.headline),
        ".edf": lambda: write_edf(path, staged),
        ".json": lambda: write_json(path, summary(staged)),
        ".png": lambda: figures.save_as(picture(staged), path),
        ".html": lambda: staged.write_page(path, folder / REASONS, explained, counterfactuals),
    }
    writers[suffix]()


def summary(staged: StagedFile) -> dict[str, Any]:
    """Summary of a staged night: sleep statistics, channels, agreement with an expert if any."""
    values = {key: plain(value) for key, value in sleep_statistics(staged.scored).items()}
    about = {
        "epochs": len(staged.stages),
        "model": staged.headline,
        "channels": ", ".join(f"{k}: {v}" for k, v in staged.reads.items()),
        "absent": list(staged.absent),
        "notes": list(staged.notes),
        "flagged_epochs": sum(bool(words) for words in staged.quality_flags),
        "unscored_epochs": int((~staged.believed).sum()),
        "mean_uncertainty": round(float(staged.uncertainty.mean()), 6),
        "to_review": np.flatnonzero(staged.to_review).tolist(),
        **values,
    }
    if staged.votes:
        decided = np.bincount(staged.decided_by, minlength=len(staged.votes)).tolist()
        about["decided_by"] = {v.name: n for v, n in zip(staged.votes, decided, strict=True)}
        about["votes"] = {vote.name: round(vote.weight, 6) for vote in staged.votes}
        about["mean_spread"] = round(float(staged.spread.mean()), 6)
    if staged.expert_path is not None:
        about |= agreement(staged)
    return about | {"definitions": {key: text for key, (_, text) in STATISTICS.items()}}


def agreement(staged: StagedFile) -> dict[str, Any]:
    """Agreement with the expert over all scored epochs; stages neither gives count in no mean.

    Nothing gets better by leaving out what is hard: ``believed`` has the same of epochs that have
    a signal, and ``coverage``, their share of those that the expert scored.
    """
    counts, expert = staged.counts, staged.expert
    believed = metrics.confusion(np.where(staged.believed, expert, UNSCORED), staged.stages)
    values = {name: plain(figure(counts)) for name, figure in metrics.SUMMARIES.items()}
    return {
        "expert": staged.expert_path.name,
        "scored": int((expert != UNSCORED).sum()),
        **values,
        "coverage": plain(believed.sum() / counts.sum()),
        "believed": {
            "scored": int(believed.sum()),
            **{name: plain(figure(believed)) for name, figure in metrics.SUMMARIES.items()},
        },
        "f1": dict(zip(STAGES, map(plain, metrics.f1(counts)), strict=True)),
        "confusion": counts.tolist(),
        "expert_statistics": {k: plain(v) for k, v in sleep_statistics(expert).items()},
    }


def picture(staged: StagedFile) -> Any:
    """Picture of a night: beside the expert's stages, or alone with the quality flags."""
    title = title_of(staged)
    if staged.expert_path is not None:
        return figures.draw_staged_night(
            staged.hypnodensity, staged.expert, title=title, model=staged.scored
        )
    return figures.draw_prediction(
        staged.hypnodensity, staged.quality_flags, title=title, stages=staged.scored
    )


def title_of(staged: StagedFile) -> str:
    """Recording and model as the title of a picture."""
    return f"{shown(staged.recording)}   {staged.headline}"


def check_targets(targets: Sequence[str], n_files: int) -> None:
    """Refuse formats that do not exist, and one file for several nights.

    Raises:
        UserError: naming the target.
    """
    written = all_of([Path(target) for target in targets])
    # on many systems names that differ in case alone are one file
    names = [str(path).casefold() for path in written]
    if twice := [path for path in written if names.count(str(path).casefold()) > 1]:
        raise UserError(f"--output: {twice[0]} would be written twice; name it once")
    for target in targets:
        suffix = Path(target).suffix.lower()
        if suffix not in FORMATS:
            raise UserError(
                f"--output {target}: writes {', '.join(FORMATS)}; or name one folder for everything"
            )
        if n_files > 1 and "{}" not in target:
            raise UserError(
                f"--output {target}: one file for {n_files} nights; write {{}} for their names, "
                f"such as staged/{{}}{suffix}"
            )
