"""Files of one staged night: one format per suffix, each written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.readers import expert_annotations
from evaluation.exports import write_edf, write_events, write_predictions
from evaluation.night_page import write_page
from evaluation.prediction import StagedFile
from evaluation.sleep_statistics import STATISTICS, sleep_statistics
from interpret.epochs_of_interest import choose_epochs
from interpret.explain_nights import explain_epochs, explain_nights
from interpret.explained_night import ExplainedNight
from interpret.index import Entry
from interpret.question import Plan
from utils import figures, metrics
from utils.errors import UserError
from utils.files import (
    check_file,
    check_folder,
    read_json,
    refuse_inputs,
    write_json,
    write_table,
    written_folder,
    written_whole,
)
from utils.metrics import plain
from utils.stages import EPOCH_SECONDS, STAGES, UNSCORED

MADE_WITH = "made_with.json"
STAGED = "staged night"  # what files and folders are called where they may be replaced
_AT_ONCE = 12  # epochs explained together, which bounds the memory
# suffix -> the file's name in a folder of everything
FORMATS = {
    ".csv": "{}.csv", ".tsv": "{}_events.tsv", ".edf": "{}-Hypnogram.edf", ".json": "{}.json",
    ".png": "{}.png", ".html": "{}.html",
}  # fmt: skip


@dataclass(frozen=True)
class Explained:
    """How many epochs are explained, and by which methods; with 0 the page has no explanations."""

    epochs: int
    methods: tuple[str, ...] = ("ig", "specgrad", "gradcam", "attention")


def write_folder(
    folder: Path,
    staged: StagedFile,
    model: Any,
    headline: str,
    explained: Explained,
    made_with: Mapping[str, Any],
) -> None:
    """Write every format into a folder of the night's own, and what it was made with."""
    with written_folder(folder, STAGED) as temporary:
        write_json(temporary / MADE_WITH, dict(made_with))
        for suffix in FORMATS:
            write(temporary, suffix, staged, model, headline, explained)
        flags = [
            {"epoch": k, "flag": words}
            for k, words in enumerate(staged.night.quality_flags)
            if words
        ]
        if flags:
            write_table(temporary / "quality_flags.csv", flags)
        if staged.expert is not None:
            write_disagreement(temporary, staged, headline)


def write_files(
    targets: Sequence[Path],
    staged: StagedFile,
    model: Any,
    headline: str,
    explained: Explained,
    *,
    overwrite: bool,
) -> None:
    """Write the formats that the targets' suffixes name; events bring their json along."""
    # all of them first: if one fails, no target has been replaced
    with tempfile.TemporaryDirectory() as scratch:
        for target in targets:
            write(Path(scratch), target.suffix.lower(), staged, model, headline, explained)
        for target in targets:
            name = FORMATS[target.suffix.lower()].format(staged.night.recording)
            source = Path(scratch) / name
            pairs = [(source, target)]
            if target.suffix.lower() == ".tsv":
                pairs.append((source.with_suffix(".json"), sidecar_of(target, targets)))
            for made, place in pairs:
                with written_whole(place, what=STAGED, overwrite=overwrite) as temporary:
                    shutil.copyfile(made, temporary)


def all_of(targets: Sequence[Path]) -> list[Path]:
    """The targets and the json beside each table of events."""
    events = [target for target in targets if target.suffix.lower() == ".tsv"]
    return [*targets, *(sidecar_of(target, targets) for target in events)]


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
    refuse_inputs(written, [recording, expert_annotations.find(recording)])
    for path in written:
        check_file(path, STAGED, overwrite=overwrite)


def write(
    folder: Path, suffix: str, staged: StagedFile, model: Any, headline: str, explained: Explained
) -> None:
    """Write one format into a folder, under its usual name."""
    night = staged.night
    path = folder / FORMATS[suffix].format(night.recording)
    # as functions, so that only the one asked for is run
    writers: Mapping[str, Callable[[], Any]] = {
        ".csv": lambda: write_predictions(path, night, staged.night.quality_flags),
        ".tsv": lambda: write_events(path, night, headline),
        ".edf": lambda: write_edf(path, night),
        ".json": lambda: write_json(path, summary(staged, headline)),
        ".png": lambda: figures.save(picture(staged, headline), path),
        ".html": lambda: write_night_page(path, staged, model, headline, explained),
    }
    writers[suffix]()


def summary(staged: StagedFile, headline: str) -> dict[str, Any]:
    """Summary of a staged night: sleep statistics, channels, agreement with an expert if any."""
    night = staged.night
    values = {key: plain(value) for key, value in sleep_statistics(night.stages).items()}
    about = {
        "epochs": len(night.stages),
        "model": headline,
        "channels": ", ".join(f"{k}: {v}" for k, v in staged.channels.items()),
        "absent": staged.absent,
        "notes": staged.notes,
        "flagged_epochs": sum(bool(words) for words in staged.night.quality_flags),
        **values,
    }
    if staged.expert is not None:
        about |= agreement(staged)
    return about | {"definitions": {key: text for key, (_, _, text) in STATISTICS.items()}}


def agreement(staged: StagedFile) -> dict[str, Any]:
    """Agreement with the expert over all scored epochs; stages neither gives count in no mean."""
    counts, expert = staged.night.counts, staged.night.expert
    values = {name: plain(figure(counts)) for name, figure in metrics.SUMMARIES.items()}
    return {
        "expert": staged.expert.name,
        "scored": int((expert != UNSCORED).sum()),
        **values,
        "f1": dict(zip(STAGES, map(plain, metrics.f1(counts)), strict=True)),
        "confusion": counts.tolist(),
        "expert_statistics": {k: plain(v) for k, v in sleep_statistics(expert).items()},
    }


def picture(staged: StagedFile, headline: str) -> Any:
    """Picture of a night: beside the expert's stages, or alone with the quality flags."""
    night = staged.night
    title = f"{night.recording}   {headline}"
    if staged.expert is not None:
        return figures.draw_staged_night(night.probabilities, night.expert, title=title)
    return figures.draw_prediction(night.probabilities, staged.night.quality_flags, title=title)


def write_disagreement(folder: Path, staged: StagedFile, headline: str) -> None:
    """Write the confusion matrix, and the epochs that expert and model stage differently."""
    night = staged.night
    title = f"{night.recording}   {headline}"
    figures.save(figures.draw_confusion(night.counts, title=title), folder / "confusion.png")
    differ = np.flatnonzero((night.expert != UNSCORED) & (night.expert != night.stages))
    rows = [
        {
            "epoch": k,
            "onset_s": k * EPOCH_SECONDS,
            "expert": STAGES[night.expert[k]],
            "model": STAGES[night.stages[k]],
            "p_model": f"{night.probabilities[k].max():.4f}",
            "p_expert": f"{night.probabilities[k, night.expert[k]]:.4f}",
            "quality_flag": staged.night.quality_flags[k],
        }
        for k in differ.tolist()
    ]
    if rows:  # a table needs a row for its columns
        write_table(folder / "disagreements.csv", rows)


def write_night_page(
    path: Path, staged: StagedFile, model: Any, headline: str, explained: Explained
) -> None:
    """Write the interactive page, and beside it ``interpretations``, arrays of explained epochs."""
    if explained.epochs and not can_be_explained(model, staged):
        explained = Explained(0)  # the page is written all the same
        headline += ". Models of whole nights are explained by foundation_evaluate.py"
    night = ExplainedNight(
        staged=staged.night,
        signals=staged.signals,
        mean=staged.mean,
        sd=staged.sd,
        channels=tuple(staged.channels.values()),
        roles=(),
        unit=staged.unit,
        events={},
    )
    about = {"headline": headline}
    arrays = path.parent / "interpretations"
    entries = explain(arrays, night, model, staged.night.quality_flags, explained, about)
    write_page(path, night, entries, [], headline, staged.night.quality_flags, arrays=arrays)


def can_be_explained(model: Any, staged: StagedFile) -> bool:
    """Whether epochs can be attributed: not for models that read whole nights of roles."""
    return model.stages_epochs and not staged.absent


def explain(
    folder: Path,
    night: ExplainedNight,
    model: Any,
    flags: Sequence[str],
    how: Explained,
    about: Mapping[str, Any],
) -> list[Entry]:
    """Explain the night's epochs of interest into ``folder``; returns their index entries."""
    why = dict(choose_epochs(night.staged.probabilities, flags, how.epochs))
    if not why:
        return []
    plan = Plan(methods=how.methods, steps=20)

    def explain_one(into: Path, one: ExplainedNight) -> list[Entry]:
        chosen = np.array(list(why))
        explained = explain_epochs(model, one, chosen, plan, into, why=why, at_once=_AT_ONCE)
        return explained.entries if explained else []

    return explain_nights(folder, [night], explain_one, {**about, "interpretation": asdict(plan)})


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
