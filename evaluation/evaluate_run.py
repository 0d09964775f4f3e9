"""What every evaluate script does: stage held-out nights, score them, explain them, report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets.store import splits
from datasets.store.store import Store
from datasets.store.views import View
from evaluation import concept_evaluation, human_scorers
from evaluation.evaluation_files import EVALUATION, write_evaluation
from evaluation.night_page import write_page
from evaluation.stage import load_staging_model, open_view, pick_device, stage
from evaluation.store_channels import page_writer
from interpret import concept_run, explained_run, prototypes
from interpret.explanation_flags import ExplanationFlags
from interpret.second_look_report import temperature_of
from utils import runs
from utils.arguments import DEMO_STORE, add_flag, add_list, count, positive
from utils.checkpoint import Checkpoint, refuse_seen
from utils.errors import UserError
from utils.files import check_folder, read_json
from utils.intervals import with_interval
from utils.metrics import text_of

_RECORDINGS = 8  # of training and of validation that explanations use: thousands of epochs


@dataclass(frozen=True)
class CheckpointFlags:
    """Which checkpoint, and which folds of which store; None stands for what training used."""

    project_path: Path
    data_path: Path
    model_path: Path | None
    is_best_kappa: bool
    folds: str | None
    val_data_list: list[int] | None


@dataclass(frozen=True)
class EvaluatedFlags(CheckpointFlags):
    """Folds it must have been trained on, channels it reads elsewhere, scorers to compare with."""

    train_data_list: list[int] | None
    channels: list[str] | None
    scorers: Path | None


@dataclass(frozen=True)
class StagingFlags:
    """How nights are staged, and how many pictures are drawn."""

    num_seq: int | None
    batch_size: int
    pictures: int
    device: str


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of every script that stages held-out nights; each adds flags of its own."""

    evaluated: EvaluatedFlags
    staging: StagingFlags
    explanations: ExplanationFlags


def add_what(group: Any) -> None:
    """Add the flags of checkpoint, store and folds."""
    group.add_argument(
        "--project_path", type=Path, default=Path("results"), help="where training wrote its runs"
    )
    group.add_argument("--data_path", type=Path, default=DEMO_STORE, help="folder of the store")
    group.add_argument("--model_path", type=Path, help="a checkpoint, instead of a run's best")
    add_flag(
        group,
        "--is_best_kappa",
        default=True,
        help="the checkpoint of best kappa on the validation subjects; False: of best accuracy",
    )
    group.add_argument("--folds", help="fold table (default: the one trained with)")
    add_list(
        group,
        "--val_data_list",
        "--test_data_list",
        item=int,
        help="folds to report (default: those training held out)",
    )
    add_list(
        group,
        "--train_data_list",
        item=int,
        help="refuse a checkpoint that was not trained on exactly these folds",
    )
    add_list(
        group,
        "--channels",
        help="labels or roles that stand in for the checkpoint's, in its order, for other stores",
    )
    group.add_argument(
        "--scorers",
        type=Path,
        help="folder with scorer_1 … scorer_5 of Dreem records: agreement by that protocol as well",
    )


def add_how(group: Any) -> None:
    """Add the flags that change speed and pictures, never the figures."""
    group.add_argument(
        "--num_seq", type=positive, help="refuse a checkpoint of another sequence length"
    )
    group.add_argument(
        "--batch_size", type=positive, default=256, help="epochs at a time; the result is the same"
    )
    group.add_argument("--pictures", type=count, default=20, help="recordings to draw")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")


def evaluate(settings: EvaluationSettings, checkpoint: Checkpoint) -> None:
    """Stage the held-out subjects, write everything beside the checkpoint, print the figures."""
    evaluated, staging = settings.evaluated, settings.staging
    model = load_staging_model(checkpoint)
    store = Store(evaluated.data_path)
    held_out, subjects = choose_subjects(evaluated, store, checkpoint)
    device = pick_device(staging.device)
    folder = folder_for(checkpoint, store)
    reasons, concepts = (
        folder.with_name(folder.name.replace("evaluation", name, 1))
        for name in ("interpretations", "concepts")
    )
    # before the nights are staged: what could not be written afterwards
    check_folder(folder, EVALUATION)
    if settings.explanations.is_interpret:
        check_folder(reasons, explained_run.EXPLANATIONS)
    pages = page_writer(store, settings.explanations.page_channels)
    if settings.explanations.concepts:
        check_folder(concepts, concept_run.CONCEPTS)
        concept_evaluation.check(settings.explanations, checkpoint, store, subjects, model)
    recordings = store.of_subjects(subjects)
    view = open_view(checkpoint, store, recordings, device, channels=evaluated.channels)
    about = describe(evaluated, checkpoint, store, held_out)
    print(f"{checkpoint.path} -> {splits.sizes(store, subjects)}; {about['headline']}")
    nights = [night for night, _ in stage(model, view, batch_size=staging.batch_size)]
    result = write_evaluation(folder, nights, about, pictures=staging.pictures)
    report(result, folder)
    if evaluated.scorers:
        human_scorers.report(
            human_scorers.write_agreement(folder, nights, evaluated.scorers, store.cohort)
        )
    if settings.explanations.is_interpret:
        added = replace(added_by_training(model, checkpoint, store, view), write_page=pages)
        if evaluated.scorers:
            added = replace(added, scorers=human_scorers.beside(nights, evaluated.scorers))
        explained_run.interpret(settings.explanations, model, view, nights, about, reasons, added)
    if settings.explanations.concepts:
        opened = (checkpoint, store, evaluated.channels, device)
        concept_evaluation.write_concepts(
            concepts, settings.explanations, model, opened, subjects, about
        )


def added_by_training(
    model: Any, checkpoint: Checkpoint, store: Store, like: View
) -> explained_run.Additions:
    """What nights of training add to explanations: a temperature, prototypes, usual epochs.

    Where the ``store`` is another one they add nothing. ``like`` is the view of the nights that are
    evaluated, whose device is taken.
    """
    if checkpoint.training.facts["store"] != splits.fingerprint(store):
        return explained_run.Additions(write_page)

    def nights_of(split: str) -> View | None:
        subjects = set(checkpoint.training.subjects[split]) & set(store.subjects)
        recordings = store.of_subjects(sorted(subjects))[:_RECORDINGS]
        return open_view(checkpoint, store, recordings, like.device) if recordings else None

    validation, training = nights_of("validation"), nights_of("train")
    temperature, known, epochs = 1.0, None, None
    if validation is not None:
        nights = [night for night, _ in stage(model, validation)]
        temperature = temperature_of(validation, nights)
    if training is not None:
        _, epochs, _ = next(training.whole_nights())
        if prototypes.allows(model):
            known = prototypes.thinned(prototypes.gathered(model, training))
    return explained_run.Additions(write_page, temperature, known, training_epochs=epochs)


def find_checkpoint(
    flags: CheckpointFlags, pattern: str, trainer: str, *, but_not: str = ""
) -> Path:
    """The checkpoint named, or the newest run's best; another of that run if there is no best."""
    if flags.model_path:
        return flags.model_path
    run = runs.newest_run(flags.project_path, pattern, but_not=but_not)
    wanted = ["best", "best_accuracy"] if flags.is_best_kappa else ["best_accuracy", "best"]
    for name in [*wanted, "last"]:
        path = run / "checkpoints" / f"{name}.pt"
        if path.exists():
            if name != wanted[0]:
                print(f"{run}: no {wanted[0]}.pt, taking {name}.pt")
            return path
    raise UserError(f"{run}: no checkpoint yet; let {trainer} finish a pass")


def check_trained_folds(settings: EvaluationSettings, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose training folds or sequence length differ from the flags."""
    # models of single epochs have no such setting
    length, path = checkpoint.settings.get("num_seq", 1), checkpoint.path
    asked, wanted = settings.staging.num_seq, settings.evaluated.train_data_list
    if asked not in (None, length):
        raise UserError(f"{path}: --num_seq {asked}, but it was trained with {length}")
    trained = checkpoint.training.facts["train_folds"]
    if wanted is not None and sorted(wanted) != sorted(trained):
        raise UserError(f"{path}: trained on folds {trained}, not on {wanted}")


def announce_origin(checkpoint: Checkpoint) -> None:
    """Print where weights come from that were not trained here, and what is not known of them.

    Raises:
        UserError: the checkpoint holds neither its subjects nor where it comes from, or was
            converted before the preparation and scaling of its nights were kept with it.
    """
    if checkpoint.training is None:
        raise UserError(f"{checkpoint.path}: not trained here, so nobody knows whom it has seen")
    if checkpoint.source is not None:
        if not checkpoint.training.preparation:
            raise UserError(
                f"{checkpoint.path}: converted by an earlier version, which kept neither the "
                "preparation nor the scaling of its nights; run convert_checkpoint.py again"
            )
        print(
            f"{checkpoint.path}: trained on {checkpoint.training.cohort}; if they are among the "
            "subjects staged, the figures are too high"
        )


def choose_subjects(
    flags: CheckpointFlags, store: Store, checkpoint: Checkpoint
) -> tuple[list[int], list[str]]:
    """Folds and subjects to report, none seen in training; all subjects of a store without folds.

    Raises:
        UserError: training, pretraining or selection has seen some of them.
    """
    trained = checkpoint.training.facts
    name = flags.folds or trained["folds"]
    chosen = flags.folds or flags.val_data_list is not None
    # a store of another cohort may lack the table trained with: then all of it is reported
    if chosen or (name and splits.has_table(store, name)):
        table = splits.find_table(store, name)
        wanted = trained["held_out_folds"] if flags.val_data_list is None else flags.val_data_list
        splits.check_folds(table, wanted, "held-out")
        subjects = sorted(s for k in wanted for s in table.folds[k].test)
    else:
        wanted, subjects = [], sorted(store.subjects)
    refuse_seen(
        checkpoint.training,
        store.cohort,
        subjects,
        where=f"{store.path}",
        remedy=f"report folds {trained['held_out_folds']}",
    )
    return list(wanted), subjects


def describe(
    flags: CheckpointFlags, checkpoint: Checkpoint, store: Store, held_out: list[int]
) -> dict[str, Any]:
    """Which model was measured on which subjects; the headline is printed on every picture."""
    trained = checkpoint.training.facts
    folds = flags.folds or trained["folds"]
    part = f"{folds} fold {', '.join(map(str, held_out))}" if held_out else "all subjects"
    headline = f"{store.cohort}, protocol {store.settings['protocol']}, {part}"
    if checkpoint.source is not None:
        headline += f", weights of {checkpoint.source['origin']}"
    # published recipes that choose the best pass by test accuracy give figures that are too high
    if checkpoint.training.selected_on_test:
        headline += ", SELECTED ON THE TEST FOLD"
    return {
        "headline": headline,
        "command": runs.command(),
        "checkpoint": checkpoint.path.name,
        **checkpoint.stamp(),
        "pass": checkpoint.passes,
        "model": checkpoint.model,
        "settings": checkpoint.settings,
        "channels": [list(pair) for pair in checkpoint.channels],
        "cohort": store.cohort,
        "protocol": store.settings["protocol"],
        "store": splits.fingerprint(store),
        "folds": folds,
        "held_out_folds": held_out,
        "select_on": trained["select_on"],
        "trained": {key: trained[key] for key in ("command", "cohort", "train_folds", "subjects")},
    }


def folder_for(checkpoint: Checkpoint, store: Store) -> Path:
    """The folder to write: ``evaluation`` beside the checkpoints.

    It is named after a store that is not the one trained on as well, and after the weights where
    several may lie in one folder.
    """
    own = splits.fingerprint(store)
    name = "evaluation"
    if own != checkpoint.training.facts["store"]:
        name += f"_{store.path.resolve().name}"
    if not checkpoint.is_in_run:  # other weights may lie beside it
        name += f"_{checkpoint.path.stem}_{checkpoint.fingerprint()[:8]}"
    former = checkpoint.run / name / "metrics.json"
    if former.is_file() and read_json(former).get("about", {}).get("store", own) != own:
        name += f"_{own[0][:8]}"  # another store of the same name
    return checkpoint.run / name


def report(result: dict[str, Any], folder: Path) -> None:
    """Print the figures with their intervals, those of every stage, and where the files are."""
    print(f"{result['epochs']:,} scored epochs of {result['subjects']} subjects; pooled, 95 %")
    if result["subjects"] < 2:
        print("  no intervals: fewer than two subjects say nothing about others")
    for name, figure in result["pooled"].items():
        print(f"  {name.replace('_', ' '):<18}{with_interval(figure)}")
    columns = ("precision", "recall", "specificity", "f1")
    print(f"  {'stage':<8}" + "".join(f"{name:>12}" for name in columns) + f"{'support':>10}")
    for stage_name, row in result["per_stage"].items():
        values = "".join(f"{text_of(row[name]['value']):>12}" for name in columns)
        print(f"  {stage_name:<8}{values}{row['support']:>10,}")
    error = result["calibration"]["expected_calibration_error"]
    print(f"  expected calibration error {text_of(error)}")
    if result["absent"]:
        print(f"  neither expert nor model gives {', '.join(result['absent'])}: left out of means")
    print(f"written: {folder}   pictures: {folder / 'nights'}")
