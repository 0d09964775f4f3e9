"""Train any staging model by its published recipe: Chambon2018, TinySleepNet, SeqSleepNet, …

python staging_training.py --experiment tinysleepnet                 # the demo store
python staging_training.py -e chambon2018 --dataset sleepedf --version 2018 --num_seq 21
python staging_training.py -e seqsleepnet --data_path data/dreem-dodh --channels C3_M2
python staging_training.py -e resnet18 --sequence_encoder transformer --augment amplitude,mask
"""

from __future__ import annotations

import argparse
import sys
from copy import copy
from functools import partial
from pathlib import Path

import joblib

from datasets.store import splits
from datasets.store.store import Store
from datasets.store.views import View
from models import backbone_names
from objectives.augmentation import AUGMENTATIONS
from training import flags, staging_family
from training.recipes import RECIPES, recipe_of
from training.train import Family, train
from utils.arguments import (
    DEMO_STORE,
    ScriptParser,
    add_flag,
    add_list,
    count,
    not_negative,
    positive,
)
from utils.errors import UserError, run_script

# what the early library called its data -> versions it has
DATASETS = {"sleepedf": ("2013", "2018"), "dreem": ("dodh", "dodo")}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Train a staging model by its published recipe, every part of which is a flag.",
        "Ctrl-C keeps everything; the same command goes on where it stopped.",
    )
    add_model(parser.add_argument_group("model"))
    add_recipe(parser.add_argument_group("recipe"))
    flags.add_data(parser.add_argument_group("data"))
    flags.add_optimiser(parser.add_argument_group("optimiser"))
    flags.add_run(parser.add_argument_group("run"))
    parser.add_spellings(
        {
            "--n_epochs": ("-me", "--max_epoch"),
            "--batch_size": ("-bs",),
            "--model_path": ("-ckpt", "--checkpoint"),
        }
    )
    args, _ = parser.parse_known_args(argv)
    parser.set_defaults(**recipe_of(args.experiment).flags)
    args = parser.parse(argv)
    flags.check_shared(args)
    check_data(args)
    check_recipe(args)
    return args


def add_model(group: argparse._ArgumentGroup) -> None:
    """Which model, on what."""
    group.add_argument(
        "-e",
        "--experiment",
        default="chambon2018",
        help=f"one of {', '.join(sorted(RECIPES))}, or an image network of torchvision, such as "
        "resnet18; decides the other defaults",
    )
    group.add_argument(
        "-d",
        "--dataset",
        help=f"{' or '.join(DATASETS)}: the store data/<dataset>-<version>, instead of --data_path",
    )
    group.add_argument("-v", "--version", help="2013 or 2018 of sleepedf, dodh or dodo of dreem")
    group.add_argument(
        "-sl", "--num_seq", "--sequence_length", "--sequence_lenght", type=positive, default=15,
        help="consecutive epochs that the model sees together",
    )  # fmt: skip
    group.add_argument(
        "--sequence_encoder",
        choices=("recurrent", "transformer"),
        default="recurrent",
        help="over the epochs, of image networks",
    )
    add_flag(group, "--all_folds", help="train every fold of the table in turn, each held out once")
    group.add_argument(
        "-nj", "--n_jobs", type=positive, default=1, help="folds of --all_folds at once"
    )


def add_recipe(group: argparse._ArgumentGroup) -> None:
    """What is minimised, on which windows, changed how."""
    group.add_argument(
        "-l",
        "--loss",
        choices=("cel", "scl"),
        default="cel",
        help="cross-entropy, or with a triplet loss on similarities",
    )
    add_flag(group, "--similarity", "-s", help="the same as --loss scl")
    add_list(
        group,
        "--weights",
        default=["1"] * 5,
        help="of W N1 N2 N3 REM in the loss, or 'balanced': one over each stage's share",
    )
    group.add_argument(
        "--sampling",
        choices=("all", "balanced"),
        default="all",
        help="all windows once, or as many drawn so that each stage is equally often in the middle",
    )
    group.add_argument(
        "--train_stride", type=positive, default=1, help="epochs between training windows"
    )
    add_list(
        group,
        "--augment",
        default=[],
        help=f"random changes of signals: {', '.join(AUGMENTATIONS)}; [] for none",
    )
    group.add_argument(
        "--augment_p", type=not_negative, default=0.5, help="probability of each change"
    )
    group.add_argument(
        "--night_shift",
        type=not_negative,
        default=0.0,
        help="nights move by up to this share of an epoch, of models that carry a state",
    )
    group.add_argument(
        "--first_epochs",
        type=count,
        default=0,
        help="passes over single epochs that train the epoch encoder first, where a recipe has it",
    )
    group.add_argument(
        "--encoder_lr",
        type=not_negative,
        help="learning rate of an encoder trained first; 0 keeps it (default: --lr)",
    )
    group.add_argument(
        "-vci",
        "--val_check_interval",
        type=count,
        default=0,
        help="steps between validations, each of which counts as a pass from then on; 0: a pass",
    )


def check_data(args: argparse.Namespace) -> None:
    """--dataset and --version name a store together."""
    if args.dataset is None and args.version is None:
        return
    name = (args.dataset or "sleepedf").lower().replace("sleepphysionet", "sleepedf")
    if name not in DATASETS:
        raise UserError(f"--dataset {args.dataset}: there are {', '.join(DATASETS)}")
    version = args.version or DATASETS[name][-1]
    if version not in DATASETS[name]:
        raise UserError(f"--dataset {name} has the versions {', '.join(DATASETS[name])}")
    if args.data_path == DEMO_STORE:
        args.data_path = Path("data") / f"{name}-{version}"


def check_recipe(args: argparse.Namespace) -> None:
    """Refuse what does not go together, before any file is touched."""
    recipe = recipe_of(args.experiment)
    args.weights = check_weights(args.weights)
    if args.similarity:
        args.loss = "scl"
    if unknown := sorted(set(args.augment) - set(AUGMENTATIONS)):
        raise UserError(f"--augment: no {', '.join(unknown)}; there are {', '.join(AUGMENTATIONS)}")
    named = f"--experiment {args.experiment}"
    several, image = args.devices * args.num_nodes > 1, args.experiment in backbone_names()
    refused = {
        "--augment_p takes a probability from 0 to 1": args.augment_p > 1,
        "--night_shift takes a share of an epoch below 1": args.night_shift >= 1,
        f"--night_shift: {named} carries no state; use --augment shift": (
            args.night_shift and not recipe.stateful
        ),
        f"--sampling balanced: {named} reads nights in order": (
            args.sampling == "balanced" and recipe.stateful
        ),
        f"--loss scl: not for {named}, which carries a state": (
            args.loss == "scl" and recipe.stateful
        ),
        f"--first_epochs: {named} is trained in one stage": (
            args.first_epochs and recipe.first is None
        ),
        "--sequence_encoder transformer is for image networks, such as resnet18": (
            args.sequence_encoder != "recurrent" and not image
        ),
        f"{named} carries a state: it takes one device": several and recipe.stateful,
        "--loss scl reads inside the model, which --compile hides": (
            args.loss == "scl" and args.compile
        ),
        "--first_epochs and --loss scl take one device": (
            several and (args.first_epochs or args.loss == "scl")
        ),
    }
    for message, is_so in refused.items():
        if is_so:
            raise UserError(message)


def check_weights(weights: list[object] | str) -> list[float] | str:
    """Five numbers, or "balanced"."""
    if weights == "balanced" or list(weights) == ["balanced"]:
        return "balanced"
    try:
        numbers = [float(w) for w in weights]
    except ValueError:
        numbers = []
    if len(numbers) != 5 or min(numbers) < 0 or not max(numbers) > 0:
        raise UserError("--weights takes five numbers from 0, for W N1 N2 N3 REM, or balanced")
    return numbers


def main(argv: list[str] | None = None) -> None:
    """Train the model; its epoch encoder first, if it was published so."""
    args = parse_args(argv)
    if args.all_folds:
        train_all_folds(args, sys.argv[1:] if argv is None else argv)
        return
    recipe = recipe_of(args.experiment)
    encoder = None
    if args.first_epochs and args.model_path is None:
        first = first_stage_of(args)
        run = train(first, recipe.standardise, partial(family_of, first, None))
        encoder = staging_family.Encoder(run, recipe.first.parts)
    train(args, recipe.standardise, partial(family_of, args, encoder))


def train_all_folds(args: argparse.Namespace, argv: list[str]) -> None:
    """This command once for every fold, held out while all others train."""
    table = splits.find_table(Store(args.data_path), args.folds)
    numbers = range(len(table.folds))

    def words(k: int) -> list[str]:
        others = ",".join(str(n) for n in numbers if n != k)
        held_out = ["--train_data_list", others, "--val_data_list", str(k)]
        return [*argv, *held_out, "--all_folds", "False"]

    joblib.Parallel(n_jobs=args.n_jobs)(joblib.delayed(main)(words(k)) for k in numbers)


def first_stage_of(args: argparse.Namespace) -> argparse.Namespace:
    """The flags of training the epoch encoder on its own."""
    first, stage = copy(args), recipe_of(args.experiment).first
    first.n_epochs, first.batch_size, first.num_seq = args.first_epochs, stage.batch_size, 1
    first.sampling, first.train_stride, first.model_path = "balanced", 1, None
    return first


def family_of(
    args: argparse.Namespace,
    encoder: staging_family.Encoder | None,
    view: View,
    held_out: list[int],
    processes: int,
) -> Family:
    """What sets this training apart; the first stage of two has no ``encoder`` yet."""
    recipe = recipe_of(args.experiment)
    is_first = bool(args.first_epochs) and args.model_path is None and encoder is None
    name = f"{args.experiment}_epochs" if is_first else args.experiment
    checks, batches = staging_family.checked_every(
        args.val_check_interval,
        staging_family.batches_of(args, recipe, view, processes),
        view,
        processes,
    )
    objective = staging_family.objective_of(args, recipe, view)
    return Family(
        model=args.experiment,
        settings=staging_family.settings_of(args, view)
        | (recipe.first.settings if is_first else {}),
        run=f"{name}_fold{'-'.join(map(str, held_out))}",
        objective=objective,
        batches=batches,
        checks=checks,
        next="" if is_first else f"python staging_evaluate.py --experiment {args.experiment}",
        standardise=recipe.standardise,
        ready=partial(staging_family.ready, encoder),
        optimiser=partial(staging_family.optimiser, objective, view.device, encoder),
    )


if __name__ == "__main__":
    raise SystemExit(run_script(main))
