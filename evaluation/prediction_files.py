"""Files of one staged night, in the formats asked for, each written whole or not at all."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.readers import expert_annotations
from datasets.readers.scorings.own_exports import STAGED
from evaluation import reuse
from evaluation.export_formats import Export, Reasons, format_of, listed
from evaluation.exports.night_tables import write_votes
from evaluation.night_summary import title_of
from evaluation.reuse import MADE_WITH, Place
from evaluation.sleep_statistics import STATISTICS
from evaluation.staged_file import StagedFile
from interpret.second_look import write_second_look
from utils import figures
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
from utils.text import shown, unmarked

REASONS, CONFUSION = "interpretations", "confusion.png"  # in a folder of results
# columns of the summary, and what is in them where nothing is known
SUMMARY = {
    "file": "", "epochs": None, "seconds": None, "channels": "", "flagged_epochs": None,
    "unscored_epochs": None, "scored": None, "accuracy": None, "kappa": None,
    **dict.fromkeys(STATISTICS), "error": "",
}  # fmt: skip


def write_folder(
    folder: Path,
    staged: StagedFile,
    reasons: Reasons,
    made_with: Mapping[str, Any],
    progress: Callable[[str], None] = lambda step: None,
    *,
    exports: Mapping[str, Export],
) -> None:
    """Write ``exports`` into a folder of the night's own, and what it was made with.

    ``made_with`` is that of :func:`evaluation.reuse.made_with`.
    ``reasons`` are those of the page; ``progress`` is called with each step before it begins.
    """
    with written_folder(folder, STAGED) as temporary:
        source = reuse.relative(made_with["source"], folder)
        write_json(temporary / MADE_WITH, {**made_with, "source": source})
        for export in exports.values():
            if not export.shared:
                path = temporary / export.file.format(staged.recording)
                progress(step_of(path, reasons))
                export.write(path, staged, reasons)
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
    targets: Mapping[Path, Export],
    staged: StagedFile,
    reasons: Reasons,
    made_with: Mapping[str, Any],
    progress: Callable[[str], None] = lambda step: None,
    *,
    overwrite: bool,
) -> None:
    """Write files of the formats given; events bring their json along.

    What they were made with is listed with each.
    """
    # all of them first: if one fails, no target has been replaced
    with scratch_beside(next(iter(targets))) as scratch:
        made = {path: scratch / str(k) / path.name for k, path in enumerate(targets)}
        for path, export in targets.items():
            progress(step_of(path, reasons))
            export.write(made[path], staged, reasons)
        for path, export in targets.items():
            pairs = [(made[path], path)]
            if export.described:
                pairs.append((made[path].with_suffix(".json"), sidecar_of(path, targets)))
            for source, place in pairs:
                origin = reuse.entry_of(place, reuse.origin_of(made_with))
                with written_whole(
                    place, what=STAGED, overwrite=overwrite, origin=origin
                ) as temporary:
                    shutil.copyfile(source, temporary)


def step_of(path: Path, reasons: Reasons) -> str:
    """What is done for a file, in words."""
    if path.suffix == ".html" and reasons.explained:
        return f"explaining {reasons.explained} epochs on the page"
    return f"writing {path.suffix}"


def all_of(targets: Mapping[Path, Export]) -> list[Path]:
    """The targets and the json beside each table of events."""
    events = [path for path, export in targets.items() if export.described]
    return [*targets, *(sidecar_of(path, targets) for path in events)]


def shared_files(folder: Path, name: str, exports: Mapping[str, Export]) -> dict[Path, Export]:
    """Files of a recording in data sets of all recordings below the output folder."""
    shared = [export for export in exports.values() if export.shared]
    return {export.shared.path_of(folder, name): export for export in shared}


def check_shared(folder: Path, exports: Mapping[str, Export]) -> None:
    """Refuse what lies in the place of a data set of all recordings.

    Raises:
        UserError: naming it.
    """
    for export in exports.values():
        if export.shared:
            export.shared.check(folder)


def describe_shared(folder: Path, exports: Mapping[str, Export]) -> None:
    """Write what a data set of all recordings has beside its recordings."""
    for export in exports.values():
        if export.shared:
            export.shared.describe(folder)


def add_to_summary(path: Path, rows: list[dict[str, Any]], *, overwrite: bool) -> Path:
    """Merge these files' rows into the summary, which holds those of earlier runs too."""
    # locked while it is read and written: other processes may be adding their rows
    with locked(path):
        former: list[dict[str, Any]] = []
        if is_ours(path):
            with path.open(newline="", encoding="utf-8") as file:
                table = csv.DictReader(file)
                former = [{k: unmarked(cell or "") for k, cell in row.items()} for row in table]
        # a file that was staged again replaces its former row
        whole = {shown(row["file"]): row for row in [*former, *rows]}
        columns = dict.fromkeys(key for row in (*rows, *former) for key in row)
        # sorted: whichever of several processes came first
        table = [{key: whole[file].get(key) for key in columns} for file in sorted(whole)]
        return write_table(path, table, overwrite=overwrite)


def sidecar_of(events: Path, targets: Collection[Path]) -> Path:
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
    place: Place, targets: Mapping[Path, Export], recording: Path, *, overwrite: bool
) -> None:
    """Refuse, before a night is staged, what could not be written afterwards.

    Raises:
        UserError: somebody else's file is there, or one is the expert's beside the recording.
    """
    if not place.files:
        check_folder(place.folder, STAGED)
    written = all_of(targets)
    outputs = written if place.files else [place.folder, *written]
    refuse_inputs(outputs, [recording, expert_annotations.find(recording)])
    for path in written:
        check_file(path, STAGED, overwrite=overwrite)


def targets_of(words: Sequence[str], name: str) -> dict[Path, Export]:
    """Files to write and their formats: ``words`` with the results' name in the place of ``{}``."""
    paths = {word: Path(word.replace("{}", name)) for word in words}
    # the word's own ending: a recording may be called a_yasa
    return {path: format_of(word) for word, path in paths.items()}


def check_targets(targets: Sequence[str], exports: Sequence[str], n_files: int) -> None:
    """Refuse formats that do not exist, one file for several nights, and ``exports`` beside files.

    Raises:
        UserError: naming the target.
    """
    if targets and exports:
        raise UserError(
            f"--export {exports[0]}: goes into a folder; name one after --output, or leave it out "
            "and name one more file"
        )
    for target in targets:
        if format_of(target) is None:
            raise UserError(
                f"--output {target}: its ending is of no format; formats are {listed()}; or name "
                "one folder"
            )
        if n_files > 1 and "{}" not in target:
            raise UserError(
                f"--output {target}: one file for {n_files} nights; write {{}} for their names, "
                f"such as staged/{{}}{Path(target).suffix.lower()}"
            )
    written = [*map(Path, targets)]
    sidecars = all_of(targets_of(targets, "{}"))[len(set(written)) :]
    # on many systems names that differ in case alone are one file
    names = [str(path).casefold() for path in (*written, *sidecars)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--output: {twice[0]} would be written twice; name it once")
