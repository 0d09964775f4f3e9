"""Train any staging model by its published recipe: Chambon2018, TinySleepNet, SeqSleepNet, …

python staging_training.py --experiment tinysleepnet                 # the demo store
python staging_training.py -e chambon2018 --dataset sleepedf --version 2018 --num_seq 21
python staging_training.py -e seqsleepnet --data_path data/dreem-dodh --channels C3_M2
python staging_training.py -e resnet18 --sequence_encoder transformer --augment amplitude,mask
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import joblib

from datasets.store import splits
from datasets.store.store import Store
from datasets.store.views import View
from models import backbone_names, is_stateful, rate_of
from objectives.augmentation import AUGMENTATIONS
from training import flags, staging_family
from training.recipes import RECIPES, recipe_of
from training.staging_family import RecipeFlags, StagingSettings, ZooModelFlags
from training.train import TrainingSpec, train
from utils.arguments import (
    DEMO_STORE,
    ScriptParser,
    add_flag,
    add_list,
    changed,
    count,
    not_negative,
    positive,
    settings_from,
)
from utils.errors import UserError, run_script

# --dataset, as the early PhysioEx library has it -> its versions
DATASETS = {"sleepedf": ("2013", "2018"), "dreem": ("dodh", "dodo")}


def parse_args(argv: list[str] | None) -> StagingSettings:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Train a staging model by its published recipe, every part of which is a flag.",
        "Ctrl-C saves the training; the same command resumes it where it stopped.",
    )
    add_model(parser.add_argument_group("model"))
    add_recipe(parser.add_argument_group("recipe"))
    flags.add_data(parser.add_argument_group("data"))
    flags.add_optimiser(parser.add_argument_group("optimiser"))
    flags.add_run(parser.add_argument_group("run"))
    parser.add_spellings(  # the early library's
        {
            "--n_epochs": ("-me", "--max_epoch"),
            "--batch_size": ("-bs",),
            "--model_path": ("-ckpt", "--checkpoint"),
        }
    )
    # parsed twice: a recipe is a set of defaults, so flags beside it override it
    args, _ = parser.parse_known_args(argv)
    parser.set_defaults(**recipe_of(args.experiment).flags)
    settings = flags.resolve_shared(settings_from(parser.parse(argv), StagingSettings))
    settings = resolve_defaults(settings)
    check_recipe(settings)
    return settings


def add_model(group: argparse._ArgumentGroup) -> None:
    """Add the flags of the model, its window and its store."""
    group.add_argument(
        "-e",
        "--experiment",
        default="chambon2018",
        help=f"model to train, whose recipe sets the other defaults: {', '.join(sorted(RECIPES))}, "
        "or an image network of torchvision such as resnet18",
    )
    group.add_argument(
        "-d",
        "--dataset",
        help=f"{' or '.join(DATASETS)}: train on data/<dataset>-<version> instead of --data_path",
    )
    group.add_argument("-v", "--version", help="of --dataset: 2013 or 2018, or dodh or dodo")
    group.add_argument(
        "-sl",
        "--num_seq",
        "--sequence_length",
        "--sequence_lenght",
        type=positive,
        default=15,
        help="consecutive epochs per window that the model stages together",
    )
    group.add_argument(
        "--sequence_encoder",
        choices=("recurrent", "transformer"),
        default="recurrent",
        help="of image networks: layers over the epochs of a window",
    )
    add_flag(group, "--all_folds", help="hold out every fold of the table in turn")
    group.add_argument(
        "-nj", "--n_jobs", type=positive, default=1, help="trainings of --all_folds at once"
    )


def add_recipe(group: argparse._ArgumentGroup) -> None:
    """Add the flags of loss, training windows and augmentation."""
    group.add_argument(
        "-l",
        "--loss",
        choices=("cel", "scl"),
        default="cel",
        help="cel: cross-entropy; scl: with a triplet loss on similarities added",
    )
    add_flag(group, "--similarity", "-s", help="the same as --loss scl")
    add_list(
        group,
        "--weights",
        default=["1"] * 5,  # texts, so that 'balanced' may stand for them
        help="weights of W, N1, N2, N3, REM in the loss, or 'balanced': inverse to their shares",
    )
    group.add_argument(
        "--sampling",
        choices=("all", "balanced"),
        default="all",
        help="each window once, or as many with each stage equally often in the middle",
    )
    group.add_argument(
        "--train_stride", type=positive, default=1, help="epochs between starts of windows"
    )
    add_list(
        group,
        "--augment",
        default=[],
        help=f"random changes of the signals: {', '.join(AUGMENTATIONS)}; [] for none",
    )
    group.add_argument(
        "--augment_p", type=not_negative, default=0.5, help="probability of each change"
    )
    group.add_argument(
        "--night_shift",
        type=not_negative,
        default=0.0,
        help="of models that carry a state: shift nights by up to this share of an epoch",
    )
    group.add_argument(
        "--first_epochs",
        type=count,
        default=0,
        help="passes of a first stage, which trains the encoder on single epochs; 0: none",
    )
    group.add_argument(
        "--encoder_lr",
        type=not_negative,
        help="learning rate of an encoder that was trained first; 0 freezes it (default: --lr)",
    )
    group.add_argument(
        "-vci",
        "--val_check_interval",
        type=count,
        default=0,
        help="steps between validations, each of which then counts as a pass; 0: once per pass",
    )


def resolve_defaults(settings: StagingSettings) -> StagingSettings:
    """Resolve --dataset to a store, weights to numbers, and --similarity to its loss.

    Raises:
        UserError: an unknown store, or weights that are not five numbers.
    """
    data_path = store_of(settings.model, settings.data.data_path)
    weights = check_weights(settings.recipe.weights)
    loss = "scl" if settings.recipe.similarity else settings.recipe.loss
    return changed(settings, data_path=data_path, weights=weights, loss=loss)


def store_of(model: ZooModelFlags, data_path: Path) -> Path:
    """The store that --dataset and --version name together, or else --data_path."""
    if model.dataset is None and model.version is None:
        return data_path
    # PhysioEx once called Sleep-EDF SleepPhysionet
    name = (model.dataset or "sleepedf").lower().replace("sleepphysionet", "sleepedf")
    if name not in DATASETS:
        raise UserError(f"--dataset {model.dataset}: there are {', '.join(DATASETS)}")
    version = model.version or DATASETS[name][-1]
    if version not in DATASETS[name]:
        raise UserError(f"--dataset {name} has the versions {', '.join(DATASETS[name])}")
    # a --data_path that was given wins
    return Path("data") / f"{name}-{version}" if data_path == DEMO_STORE else data_path


def check_recipe(settings: StagingSettings) -> None:
    """Refuse flags that contradict each other, before any file is touched."""
    recipe, augment = settings.recipe, settings.recipe.augment
    if unknown := sorted(set(augment) - set(AUGMENTATIONS)):
        raise UserError(f"--augment: no {', '.join(unknown)}; there are {', '.join(AUGMENTATIONS)}")
    experiment = settings.model.experiment
    several = settings.run.devices * settings.run.num_nodes > 1
    refused = {  # message -> whether it applies
        "--augment_p takes a probability from 0 to 1": recipe.augment_p > 1,
        "--night_shift takes a share of an epoch below 1": recipe.night_shift >= 1,
        **without_effect(settings.model, recipe),
        f"--experiment {experiment} carries a state: it takes one device": (
            several and is_stateful(experiment)
        ),
        "--loss scl reads inside the model, which --compile hides": (
            recipe.loss == "scl" and settings.run.compile
        ),
        "--first_epochs and --loss scl take one device": (
            several and (recipe.first_epochs or recipe.loss == "scl")
        ),
    }
    for message, is_so in refused.items():
        if is_so:
            raise UserError(message)


def without_effect(model: ZooModelFlags, recipe: RecipeFlags) -> dict[str, bool]:
    """Flags that have no effect on this model: the message about each, and if it was given."""
    published, stateful = recipe_of(model.experiment), is_stateful(model.experiment)
    named = f"--experiment {model.experiment}"
    return {
        f"--night_shift: {named} carries no state; use --augment shift": (
            bool(recipe.night_shift) and not stateful
        ),
        f"--sampling balanced: {named} reads nights in order": (
            recipe.sampling == "balanced" and stateful
        ),
        f"--loss scl: not for {named}, which carries a state": (recipe.loss == "scl" and stateful),
        f"--first_epochs: {named} is trained in one stage": (
            bool(recipe.first_epochs) and published.first is None
        ),
        "--sequence_encoder transformer is for image networks, such as resnet18": (
            model.sequence_encoder != "recurrent" and model.experiment not in backbone_names()
        ),
    }


def check_weights(weights: list[object] | str) -> list[float] | str:
    """Weights of the stages as five numbers, or "balanced"."""
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
    """Train the model; its epoch encoder before it, if the recipe has two stages."""
    settings = parse_args(argv)
    if settings.model.all_folds:
        train_all_folds(settings, sys.argv[1:] if argv is None else argv)
        return
    published, fs = recipe_of(settings.model.experiment), rate_of(settings.model.experiment)
    encoder = None
    if has_first_stage(settings):
        first = first_stage_of(settings)
        run = train(first, published.standardise, partial(spec_of, first, None), fs)
        encoder = staging_family.Encoder(run, published.first.parts)
    train(settings, published.standardise, partial(spec_of, settings, encoder), fs)


def train_all_folds(settings: StagingSettings, argv: list[str]) -> None:
    """Run this command once per fold, which is held out while all others train."""
    table = splits.find_table(Store(settings.data.data_path), settings.data.folds)
    numbers = range(len(table.folds))

    def words(k: int) -> list[str]:
        others = ",".join(str(n) for n in numbers if n != k)
        held_out = ["--train_data_list", others, "--val_data_list", str(k)]
        return [*argv, *held_out, "--all_folds", "False"]  # of a flag given twice the last counts

    joblib.Parallel(n_jobs=settings.model.n_jobs)(joblib.delayed(main)(words(k)) for k in numbers)


def has_first_stage(settings: StagingSettings) -> bool:
    """Whether the epoch encoder is trained first, on its own."""
    # weights that are given make it needless
    return bool(settings.recipe.first_epochs) and settings.run.model_path is None


def first_stage_of(settings: StagingSettings) -> StagingSettings:
    """The settings for training the epoch encoder on its own."""
    stage = recipe_of(settings.model.experiment).first
    return changed(
        settings,
        n_epochs=settings.recipe.first_epochs,
        batch_size=stage.batch_size,
        num_seq=1,
        sampling="balanced",
        train_stride=1,
        model_path=None,
    )


def spec_of(
    settings: StagingSettings,
    encoder: staging_family.Encoder | None,
    view: View,
    held_out: list[int],
    processes: int,
) -> TrainingSpec:
    """Describe the training for :func:`training.train.train`; a first stage has no ``encoder``."""
    experiment, published = settings.model.experiment, recipe_of(settings.model.experiment)
    # the two stages are two runs, in folders of their own
    is_first = has_first_stage(settings) and encoder is None
    name = f"{experiment}_epochs" if is_first else experiment
    checks, batches = staging_family.checked_every(
        settings.recipe.val_check_interval,
        staging_family.batches_of(settings, view, processes),
        view,
        processes,
    )
    objective = staging_family.objective_of(settings, view)
    return TrainingSpec(
        model=experiment,
        settings=staging_family.settings_of(settings.model, view)
        | (published.first.settings if is_first else {}),
        run=f"{name}_fold{'-'.join(map(str, held_out))}",
        objective=objective,
        batches=batches,
        checks=checks,
        next="" if is_first else f"python staging_evaluate.py --experiment {experiment}",
        initialise_from_training_data=partial(
            staging_family.initialise_from_training_data, encoder
        ),
        optimiser=partial(
            staging_family.optimiser, objective, view.device, encoder, settings.recipe
        ),
    )


if __name__ == "__main__":
    raise SystemExit(run_script(main))
