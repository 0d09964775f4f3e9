"""Evaluate foundation models on whole, untrimmed nights: agreement, missing roles, other cohorts.

python foundation_evaluate.py --data_path data/shhs                     # the newest run
python foundation_evaluate.py --data_path data/shhs --is_interpret True
python foundation_evaluate.py --data_path data/shhs --other_stores data/mesa data/mros
python foundation_evaluate.py --data_path data/shhs --contexts 0,2,10,60,whole

A pretrained model gives embeddings for latent_space_evaluator.py, probes of them and of controls,
also on other cohorts, and the error of cleaning corrupted signals; a model that stages gives kappa
with every role left out in turn, and by how much of the night around an epoch it sees.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datasets.store import splits
from datasets.store.store import Store
from evaluation import context_ablation, evaluate_run
from evaluation import foundation_evaluation as foundation
from evaluation.context_ablation import Reference
from evaluation.embed import embedded_spaces, split_views
from evaluation.evaluate_run import CheckpointFlags
from evaluation.evaluation_files import EVALUATION
from evaluation.foundation_evaluation import ReportFlags
from evaluation.probe_pretrained import check_draws
from evaluation.stage import load_model, open_view, pick_device
from models import low_rank
from utils.arguments import (
    DEMO_STORE,
    ScriptParser,
    add_flag,
    add_list,
    count,
    next_command,
    settings_from,
)
from utils.checkpoint import Checkpoint, load_checkpoint, refuse_seen
from utils.errors import UserError, run_script
from utils.files import check_file, check_folder, write_table
from utils.intervals import of_columns, with_interval


@dataclass(frozen=True)
class CohortFlags(CheckpointFlags):
    """Checkpoint and store, the stores of other cohorts, and the device."""

    other_stores: list[str]
    context_reference: Path | None
    device: str


@dataclass(frozen=True)
class FoundationEvaluation:
    """Settings of this evaluation, by group of flags."""

    evaluated: CohortFlags
    reported: ReportFlags


def parse_args(argv: list[str] | None) -> FoundationEvaluation:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Evaluate a foundation model on subjects whom it has never seen.",
        "Nights are never trimmed here; every figure has a confidence interval by subject.",
    )
    add_which(parser.add_argument_group("model and subjects"))
    add_how(parser.add_argument_group("results"))
    settings = settings_from(parser.parse(argv), FoundationEvaluation)
    check_draws(settings.reported.seeds, settings.reported.fractions)
    contexts = settings.reported.contexts
    context_ablation.reaches(contexts)  # refused before the long work
    if settings.evaluated.context_reference is not None and not contexts:
        raise UserError("--context_reference has no effect without --contexts; take it out")
    return settings


def add_which(group: argparse._ArgumentGroup) -> None:
    """Add the flags of checkpoint, stores and folds."""
    group.add_argument(
        "--project_path",
        type=Path,
        default=Path("results"),
        help="folder with the runs of training",
    )
    group.add_argument(
        "--data_path",
        type=Path,
        default=DEMO_STORE,
        help="store to evaluate on: the one trained on, or another",
    )
    add_list(
        group,
        "--other_stores",
        default=[],
        help="further stores, of other cohorts, to evaluate on: all their subjects; of a "
        "pretrained model the same probes and controls are tested there",
    )
    group.add_argument(
        "--model_path", type=Path, help="checkpoint (default: the best one of the newest run)"
    )
    add_flag(
        group,
        "--is_best_kappa",
        default=True,
        help="checkpoint of best kappa on the validation subjects; False: of best accuracy",
    )
    group.add_argument(
        "--context_reference",
        type=Path,
        help="checkpoint trained at ±10 epochs (--context 10), which stages what --contexts are "
        "compared with (default: the model itself)",
    )
    group.add_argument("--folds", help="fold table (default: the one of training)")
    add_list(
        group,
        "--val_data_list",
        "--test_data_list",
        item=int,
        help="folds to evaluate on (default: those that training held out)",
    )
    group.add_argument("--device", default="auto", help="device: auto, cpu, cuda or cuda:1")


def add_how(group: argparse._ArgumentGroup) -> None:
    """Add the flags of missing roles, explanations, embeddings and their probes."""
    add_flag(group, "--missing", default=True, help="also stage with every role left out in turn")
    add_list(
        group,
        "--contexts",
        default=[],
        help="also stage every epoch by windows of so many epochs to either side, 'whole' for the "
        "night: 0,2,10,60,whole, compared with 10. Between models that were each trained at such a "
        "length (--context of foundation_training.py), or one trained at all of them "
        "(--crop_hours), that is fair; a model of whole nights alone is weak at short windows "
        "because it never saw any",
    )
    group.add_argument("--pictures", type=count, default=20, help="number of recordings to draw")
    add_flag(
        group, "--is_interpret", help="explain nights: importance of every role, and attention"
    )
    group.add_argument(
        "--interpret_recordings", type=count, default=1, help="number of recordings to explain"
    )
    add_flag(group, "--embed", help="also write and probe the embeddings of a model that stages")
    group.add_argument(
        "--pool",
        choices=("concat", "mean"),
        default="concat",
        help="embedding of an epoch: the tokens of its roles side by side, or their mean",
    )
    add_flag(
        group,
        "--supervised",
        default=True,
        help="also train the same encoder with all labels, in as many steps as it was pretrained, "
        "as a control of its probes; that takes as long",
    )
    add_list(
        group,
        "--seeds",
        item=int,
        default=[0, 1, 2, 3, 4],
        help="seeds of random encoders and of labels",
    )
    add_list(
        group,
        "--fractions",
        item=float,
        default=[0.1, 1.0],
        help="shares of the training labels that probes learn from",
    )


def main(argv: list[str] | None = None) -> None:
    """Choose the checkpoint, evaluate it on its own cohort and on others."""
    settings = parse_args(argv)
    evaluated, reported = settings.evaluated, settings.reported
    path = evaluate_run.find_checkpoint(evaluated, "foundation_*", "foundation_training.py")
    checkpoint = load_checkpoint(path)
    device, run = pick_device(evaluated.device), checkpoint.run
    # pretrained on one store: its training subjects' labels teach the probes
    if checkpoint.model == "foundation_pretraining":
        if reported.contexts:
            raise UserError(f"{path}: stages nothing; --contexts needs --stage probe or finetune")
        store, others = own_store(evaluated, checkpoint), {}
        for other in map(Store, evaluated.other_stores):
            subjects = unseen_subjects(checkpoint, other)
            view = open_view(checkpoint, other, other.of_subjects(subjects), device)
            others[name_of(other, others)] = view
        foundation.benchmark_run(reported, run, checkpoint, store, device, others)
        where = ["--runs", run.name, "--project_path", run.parent]
        print(next_command("python", "latent_space_evaluator.py", *where))
        return
    if checkpoint.model != "foundation":
        raise UserError(f"{path}: a {checkpoint.model}, not of foundation_training.py")
    model = low_rank.merge(load_model(checkpoint))
    check_file(run / "cohorts.csv")  # before the long work, not after it
    table: list[dict[str, Any]] = []
    for number, store_path in enumerate([evaluated.data_path, *map(Path, evaluated.other_stores)]):
        table += report(settings, Store(store_path), checkpoint, model, device, other=number > 0)
    print(f"all cohorts: {write_table(run / 'cohorts.csv', table)}")
    if reported.embed:
        views = split_views(checkpoint, own_store(evaluated, checkpoint), device)
        encoders = foundation.encoders_of(checkpoint, model.encoder, reported.pool)
        with embedded_spaces(run, checkpoint, views, encoders, reported.seeds):
            pass  # they are written, and not probed
        print(f"embeddings: {run / 'embeddings'}")


def report(
    settings: FoundationEvaluation,
    store: Store,
    checkpoint: Checkpoint,
    model: torch.nn.Module,
    device: torch.device,
    *,
    other: bool,
) -> list[dict[str, Any]]:
    """Evaluate on one store, into a folder beside the checkpoints; rows for the common table."""
    # of another cohort nobody was held out, so all are reported, if none was trained on
    if other:
        held_out, subjects = [], unseen_subjects(checkpoint, store)
    else:
        held_out, subjects = evaluate_run.choose_subjects(settings.evaluated, store, checkpoint)
    view = open_view(checkpoint, store, store.of_subjects(subjects), device)
    about = evaluate_run.describe(settings.evaluated, checkpoint, store, held_out)
    trained_on = checkpoint.training.cohort
    about["headline"] += f", trained on {trained_on}, untrimmed nights"
    folder = evaluate_run.folder_for(checkpoint, store)
    check_folder(folder, EVALUATION)
    print(f"{checkpoint.path} -> {splits.sizes(store, subjects)}; {about['headline']}")
    reference = reference_of(settings.evaluated, store, subjects, device)
    rows = foundation.evaluate(settings.reported, model, view, folder, about, reference)
    for row in rows:
        print(f"  {row['pattern']:<14}kappa {with_interval(of_columns('kappa', row))}")
    print(f"written: {folder}")
    where = {"trained_on": trained_on, "cohort": store.cohort, "crop": "none, untrimmed"}
    return [where | row for row in rows]


def reference_of(
    evaluated: CohortFlags, store: Store, subjects: list[str], device: torch.device
) -> Reference | None:
    """The model of --context_reference and the nights as it reads them.

    Raises:
        UserError: it is no foundation model that stages, or has seen some of the subjects.
    """
    path = evaluated.context_reference
    if path is None:
        return None
    checkpoint = load_checkpoint(path)
    if checkpoint.model != "foundation":
        raise UserError(f"{path}: a {checkpoint.model}; --context_reference is a model that stages")
    refuse_seen(
        checkpoint.training,
        store.cohort,
        subjects,
        where=f"{path}",
        remedy="train it on the folds that the model was trained on",
    )
    view = open_view(checkpoint, store, store.of_subjects(subjects), device)
    return Reference(checkpoint.run.name, low_rank.merge(load_model(checkpoint)), view)


def unseen_subjects(checkpoint: Checkpoint, store: Store) -> list[str]:
    """All subjects of another cohort's store.

    Raises:
        UserError: training has seen some of them.
    """
    subjects = sorted(store.subjects)
    refuse_seen(
        checkpoint.training,
        store.cohort,
        subjects,
        where=f"{store.path}",
        remedy="leave it out of --other_stores",
    )
    return subjects


def name_of(store: Store, known: Collection[str]) -> str:
    """The cohort of a store, or its path where another store of that cohort is known."""
    return store.cohort if store.cohort not in known else str(store.path.resolve())


def own_store(evaluated: CohortFlags, checkpoint: Checkpoint) -> Store:
    """Open the store that the model was trained on, whose split the embeddings follow.

    Raises:
        UserError: --data_path is another store.
    """
    store = Store(evaluated.data_path)
    if splits.fingerprint(store) != checkpoint.training.facts["store"]:
        raise UserError(
            f"{checkpoint.path}: trained on another store than {evaluated.data_path}; its subjects "
            "are known there only, so name that --data_path"
        )
    return store


if __name__ == "__main__":
    raise SystemExit(run_script(main))
