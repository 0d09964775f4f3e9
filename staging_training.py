"""Train any staging model by its published recipe: Chambon2018, TinySleepNet, SeqSleepNet, …

python staging_training.py --experiment tinysleepnet                 # the demo store
python staging_training.py -e chambon2018 --dataset sleepedf --version 2018 --num_seq 21
python staging_training.py -e seqsleepnet --data_path data/dreem-dodh --channels C3_M2
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from datasets.views import Batches, View
from objectives.staging import Staging
from objectives.stateful import StatefulStaging
from utils import flags
from utils.arguments import ScriptParser, add_list, positive
from utils.errors import UserError, run_script
from workflow.recipes import RECIPES
from workflow.training import Family, train
from workflow.windows import WINDOWS_A_RUN, layout

# what the early library called its data -> versions it has
DATASETS = {"sleepedf": ("2013", "2018"), "dreem": ("dodh", "dodo")}
_EPOCHS_AT_ONCE = 256


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Train a staging model by its published recipe, every part of which is a flag.",
        "Ctrl-C keeps everything; the same command goes on where it stopped.",
    )
    add_model(parser.add_argument_group("model"))
    flags.add_data(parser.add_argument_group("data"))
    flags.add_optimiser(parser.add_argument_group("optimiser"))
    flags.add_run(parser.add_argument_group("run"))
    args, _ = parser.parse_known_args(argv)
    if args.experiment not in RECIPES:
        raise UserError(f"--experiment {args.experiment}: there are {', '.join(sorted(RECIPES))}")
    parser.set_defaults(**RECIPES[args.experiment].flags)
    args = parser.parse(argv)
    flags.check_shared(args)
    check_data(args)
    args.weights = check_weights(args.weights)
    return args


def add_model(group: argparse._ArgumentGroup) -> None:
    """Which model, on what, and what it sees and minimises."""
    group.add_argument(
        "-e",
        "--experiment",
        default="chambon2018",
        help=f"one of {', '.join(sorted(RECIPES))}; decides the other defaults",
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
    add_list(
        group,
        "--weights",
        default=["1"] * 5,
        help="of W N1 N2 N3 REM in the loss, or 'balanced': one over each stage's share",
    )
    group.add_argument(
        "--train_stride", type=positive, default=1, help="epochs between training windows"
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
    if args.data_path == flags.DEMO_STORE:
        args.data_path = Path("data") / f"{name}-{version}"


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
    """Describe the model and its windows, and train it."""
    args = parse_args(argv)
    recipe = RECIPES[args.experiment]
    if recipe.stateful and args.devices * args.num_nodes > 1:
        raise UserError(f"--experiment {args.experiment}: carries a state, so it takes one device")

    def family_of(view: View, held_out: list[int], processes: int) -> Family:
        weights = balanced(view) if args.weights == "balanced" else args.weights
        objective = Staging(weights, over_positions="mean", stride=args.train_stride)
        if recipe.stateful:
            objective = StatefulStaging(weights, length=args.num_seq)
        return Family(
            model=args.experiment,
            settings=settings_of(args, view),
            run=f"{args.experiment}_fold{'-'.join(map(str, held_out))}",
            objective=objective,
            batches=lanes_of(args) if recipe.stateful else windows_of(args, view, processes),
            next=f"python staging_evaluate.py --experiment {args.experiment}",
            standardise=recipe.standardise,
            ready=ready,
            optimiser=optimiser,
        )

    train(args, recipe.standardise, family_of)


def settings_of(args: argparse.Namespace, view: View) -> dict[str, object]:
    """What ``models.build`` is told."""
    settings = {"n_samples": view.n_samples}
    if args.experiment.endswith("_cmt"):
        settings["n_modalities"] = len(view.columns)
    else:
        settings |= {"n_channels": len(view.columns), "fs": view.fs}
    if args.experiment != "epoch_cmt":
        settings["num_seq"] = args.num_seq
    return settings


def balanced(view: View) -> list[float]:
    """One over each stage's share of the training epochs, 1 on average; 0 for an absent stage."""
    counts = torch.from_numpy(view.class_counts()).double()
    weights = torch.where(counts > 0, counts.sum() / counts.clamp_min(1), 0.0)
    return (weights * len(weights) / weights.sum()).tolist()


def windows_of(args: argparse.Namespace, view: View, processes: int):
    """Shuffled runs, encoded once for the windows they hold; --batch_size counts windows."""
    shape = layout(
        view, length=args.num_seq, stride=args.train_stride, windows=WINDOWS_A_RUN,
        batch_size=args.batch_size, processes=processes,
    )  # fmt: skip

    def batches(view: View, number: int, rank: int, processes: int) -> Batches:
        return shape.batches(view, [args.seed, number], rank, processes)

    return batches


def lanes_of(args: argparse.Namespace):
    """--batch_size nights side by side, --num_seq epochs a step."""

    def batches(view: View, number: int, rank: int, processes: int) -> Batches:
        return view.lanes(args.num_seq, args.batch_size, seed=[args.seed, number])

    return batches


def ready(net: nn.Module, view: View) -> None:
    """Statistics of spectrograms, from training nights alone."""
    if hasattr(net, "spectrogram"):
        net.to(view.device)
        net.spectrogram.fit(batch.signals[:, 0] for batch in view.epochs(_EPOCHS_AT_ONCE))


def optimiser(args: argparse.Namespace, net: nn.Module):
    """Adam with L2 on the weights that the model's paper names, or on all."""
    decayed = net.decayed() if hasattr(net, "decayed") else list(net.parameters())
    chosen = {id(weight) for weight in decayed}
    rest = [p for p in net.parameters() if id(p) not in chosen and p.requires_grad]
    groups = [
        {"params": decayed, "weight_decay": args.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.Adam(
        [group for group in groups if group["params"]],
        lr=args.lr, betas=(args.beta_1, args.beta_2), eps=args.eps, fused=True,
    )  # fmt: skip
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, args.step_size, args.gamma)


if __name__ == "__main__":
    raise SystemExit(run_script(main))
