"""What every evaluate script does: stage held-out nights, score them, explain them, report."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import models
from datasets.store import splits
from datasets.store.store import Store
from datasets.store.views import View
from evaluation import explain, human_scorers
from evaluation.evaluation_files import EVALUATION, write_evaluation
from utils import runs
from utils.arguments import DEMO_STORE, add_flag, add_list, count, positive
from utils.checkpoint import fingerprint
from utils.errors import UserError
from utils.files import check_folder, read_json
from utils.staged_night import StagedNight, stage_nights


def add_what(group: argparse._ArgumentGroup) -> None:
    """Checkpoint, store and folds."""
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


def add_how(group: argparse._ArgumentGroup) -> None:
    """What changes speed and pictures, never the figures."""
    group.add_argument(
        "--num_seq", type=positive, help="refuse a checkpoint of another sequence length"
    )
    group.add_argument(
        "--batch_size", type=positive, default=256, help="epochs at a time; the result is the same"
    )
    group.add_argument("--pictures", type=count, default=20, help="recordings to draw")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")


def evaluate(args: argparse.Namespace, path: Path, checkpoint: dict[str, Any]) -> None:
    """Stage the held-out subjects, write everything beside the checkpoint, say what came."""
    model = load_model(path, checkpoint)
    store = Store(args.data_path)
    held_out, subjects = choose_subjects(args, store, checkpoint["trained"])
    device = pick_device(args.device)
    folder = folder_for(path, store, checkpoint)
    reasons = folder.with_name(folder.name.replace("evaluation", "interpretations", 1))
    check_folder(folder, EVALUATION)
    if args.is_interpret:
        check_folder(reasons, explain.EXPLANATIONS)
    view = open_view(args, store, checkpoint, subjects, device)
    about = describe(args, path, checkpoint, store, held_out)
    if "source" in checkpoint and needs_scaling(model):
        about["scaling"] = "the nights staged: the weights came without any"
        model.to(device).spectrogram.fit(x for _, x, _ in view.whole_nights())
        print(f"{path}: spectrograms are scaled by {about['scaling']}")
    print(f"{path} -> {splits.sizes(store, subjects)}; {about['headline']}")
    nights = list(stage(model.to(device), view, args.batch_size))
    result = write_evaluation(folder, nights, about, pictures=args.pictures)
    report(result, folder)
    if args.scorers:
        human_scorers.report(
            human_scorers.write_agreement(folder, nights, args.scorers, store.cohort)
        )
    if args.is_interpret:
        explain.interpret(args, model, view, nights, about, reasons)


def find_checkpoint(args: argparse.Namespace, pattern: str, trainer: str) -> Path:
    """The file named, or the best of the run trained last; another of its files if that is gone."""
    if args.model_path:
        return args.model_path
    run = runs.newest_run(args.project_path, pattern)
    wanted = ["best", "best_accuracy"] if args.is_best_kappa else ["best_accuracy", "best"]
    for name in [*wanted, "last"]:
        path = run / "checkpoints" / f"{name}.pt"
        if path.exists():
            if name != wanted[0]:
                print(f"{run}: no {wanted[0]}.pt, taking {name}.pt")
            return path
    raise UserError(f"{run}: no checkpoint yet; let {trainer} finish a pass")


def check_trained_folds(args: argparse.Namespace, path: Path, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint that was trained on other folds than the flags say."""
    length = checkpoint["settings"].get("num_seq", 1)
    if args.num_seq not in (None, length):
        raise UserError(f"{path}: --num_seq {args.num_seq}, but it was trained with {length}")
    trained = checkpoint["trained"]["train_folds"]
    if args.train_data_list is not None and sorted(args.train_data_list) != sorted(trained):
        raise UserError(f"{path}: trained on folds {trained}, not on {args.train_data_list}")


def trained_on(path: Path, checkpoint: dict[str, Any]) -> None:
    """What is known of a checkpoint's training; of converted weights it is nothing.

    Raises:
        UserError: it says neither whom it has seen nor where it comes from.
    """
    if "trained" in checkpoint:
        return
    if "source" not in checkpoint:
        raise UserError(f"{path}: not trained here, so nobody knows whom it has seen")
    origin = f"{checkpoint['source']['origin']}'s {checkpoint['source']['file']}"
    print(f"{path}: converted from {origin}; whom it was trained on is not known here")
    checkpoint["trained"] = {
        "command": checkpoint["source"]["command"], "cohort": f"unknown, {origin}",
        "store": None, "folds": None, "train_folds": [], "held_out_folds": [],
        "subjects": {"train": [], "validation": []}, "select_on": "unknown",
    }  # fmt: skip


def needs_scaling(model: torch.nn.Module) -> bool:
    """Whether spectrograms are read whose statistics nobody has set."""
    return model.spectrogram is not None and bool((model.spectrogram.sd == 1).all())


def load_model(path: Path, checkpoint: dict[str, Any]) -> torch.nn.Module:
    """The trained model."""
    try:
        return models.build_from(checkpoint)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def choose_subjects(
    args: argparse.Namespace, store: Store, trained: dict[str, Any]
) -> tuple[list[int], list[str]]:
    """Folds and subjects to report, none that training has seen; all of a store without folds.

    People are known by their ids, whatever part of the collection a store holds; only synthetic
    and real people share ids without being the same.
    """
    name = args.folds or trained["folds"]
    chosen = args.folds or args.val_data_list is not None
    if chosen or (name and splits.has_table(store, name)):
        table = splits.find_table(store, name)
        wanted = trained["held_out_folds"] if args.val_data_list is None else args.val_data_list
        splits.check_folds(table, wanted, "held-out")
        subjects = sorted(s for k in wanted for s in table.folds[k].test)
    else:
        wanted, subjects = [], sorted(store.subjects)
    seen = set(trained["subjects"]["train"]) | set(trained["subjects"]["validation"])
    invented = [name.startswith("synthetic-") for name in (store.cohort, trained["cohort"])]
    if invented[0] == invented[1] and (both := sorted(seen & set(subjects))):
        raise UserError(
            f"{store.path}: training has seen {', '.join(both[:5])}"
            f"{' …' if len(both) > 5 else ''}; report folds {trained['held_out_folds']}"
        )
    return list(wanted), subjects


def pick_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one."""
    try:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.empty(0, device=device if name == "auto" else name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from error


def open_view(
    args: argparse.Namespace,
    store: Store,
    checkpoint: dict[str, Any],
    subjects: list[str],
    device: torch.device,
) -> View:
    """The nights, in the channels and at the rate the checkpoint reads."""
    labels = [label for label, _ in checkpoint["channels"]]
    channels = args.channels or stand_ins(store, checkpoint["channels"])
    if len(channels) != len(labels):
        raise UserError(f"--channels: the checkpoint reads {len(labels)}: {', '.join(labels)}")
    view = View(
        store,
        store.of_subjects(subjects),
        channels=channels,
        standardise=checkpoint["standardise"],
        device=device,
        budget_gb=0,
    )
    if view.fs != checkpoint["fs"]:
        raise UserError(
            f"{store.path}: {view.fs:g} Hz, the checkpoint reads {checkpoint['fs']:g} Hz; prepare "
            f"the store with --resample {checkpoint['fs']:g}"
        )
    return view


def stand_ins(store: Store, channels: list[tuple[str, str]]) -> list[str]:
    """The checkpoint's labels, or its roles where a store of another cohort lacks the label."""
    present = {channel.label for channel in store.channels}
    chosen = []
    for label, role in channels:
        chosen.append(label if label in present else role)
        if label not in present:
            print(f"{store.path}: no channel {label!r}, taking its first {role}")
    return chosen


def describe(
    args: argparse.Namespace,
    path: Path,
    checkpoint: dict[str, Any],
    store: Store,
    held_out: list[int],
) -> dict[str, Any]:
    """What was measured on what; the headline goes onto every picture."""
    trained = checkpoint["trained"]
    folds = args.folds or trained["folds"]
    part = f"{folds} fold {', '.join(map(str, held_out))}" if held_out else "all subjects"
    headline = f"{store.cohort}, protocol {store.settings['protocol']}, {part}"
    if "source" in checkpoint:
        headline += f", weights of {checkpoint['source']['origin']}"
    if trained["select_on"] == "test":
        headline += ", SELECTED ON THE TEST FOLD"
    return {
        "headline": headline,
        "command": runs.command(),
        "checkpoint": path.name,
        "pass": checkpoint.get("pass"),
        "model": checkpoint["model"],
        "settings": checkpoint["settings"],
        "channels": checkpoint["channels"],
        "cohort": store.cohort,
        "protocol": store.settings["protocol"],
        "store": splits.fingerprint(store),
        "folds": folds,
        "held_out_folds": held_out,
        "select_on": trained["select_on"],
        "trained": {key: trained[key] for key in ("command", "cohort", "train_folds", "subjects")},
    }


def stage(model: torch.nn.Module, view: View, batch_size: int) -> Iterator[StagedNight]:
    """Each night whole, with what its exports need."""
    by_id = {night.id: night for night in view.nights}
    bar = tqdm(view.whole_nights(), desc="staging", total=len(by_id), unit="night", disable=None)
    for recording, probabilities, expert in stage_nights(model, bar, batch_size=batch_size):
        night = by_id[recording]
        yield StagedNight(
            recording,
            night.subject,
            probabilities.cpu().numpy(),
            expert.cpu().numpy(),
            night.first_epoch,
            night.start,
        )


def folder_for(path: Path, store: Store, checkpoint: dict[str, Any]) -> Path:
    """``evaluation`` beside the checkpoints; named after a store that is not the one trained on,
    and after the weights where several may lie in one folder."""
    in_run = path.parent.name == "checkpoints"
    run = path.parents[1] if in_run else path.parent
    own = splits.fingerprint(store)
    name = "evaluation"
    if own != checkpoint["trained"]["store"]:
        name += f"_{store.path.resolve().name}"
    if not in_run:
        name += f"_{path.stem}_{fingerprint(checkpoint)[:8]}"
    former = run / name / "metrics.json"
    if former.is_file() and read_json(former).get("about", {}).get("store", own) != own:
        name += f"_{own[0][:8]}"  # another store of the same name
    return run / name


def report(result: dict[str, Any], folder: Path) -> None:
    """Figures with their intervals, per stage, and where everything is."""
    print(f"{result['epochs']:,} scored epochs of {result['subjects']} subjects")
    for name, figure in result["pooled"].items():
        print(f"  {name.replace('_', ' '):<18}{shown(figure)}")
    columns = ("precision", "recall", "specificity", "f1")
    print(f"  {'stage':<8}" + "".join(f"{name:>12}" for name in columns) + f"{'support':>10}")
    for stage_name, row in result["per_stage"].items():
        values = "".join(f"{cell(row[name]['value']):>12}" for name in columns)
        print(f"  {stage_name:<8}{values}{row['support']:>10,}")
    error = result["calibration"]["expected_calibration_error"]
    print(f"  expected calibration error {cell(error)}")
    if result["absent"]:
        print(f"  neither expert nor model gives {', '.join(result['absent'])}: left out of means")
    print(f"written: {folder}   pictures: {folder / 'nights'}")


def shown(figure: dict[str, float | None]) -> str:
    """Value and interval."""
    if figure["low"] is None:
        return f"{cell(figure['value'])}  (no interval: fewer than two subjects)"
    return f"{cell(figure['value'])}  [{cell(figure['low'])}, {cell(figure['high'])}]"


def cell(value: float | None) -> str:
    """Three digits, or a dash where undefined."""
    return "–" if value is None else f"{value:.3f}"
