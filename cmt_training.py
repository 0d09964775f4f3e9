"""Train a cross-modal transformer on a store: epochs on their own, or sequences of them.

python cmt_training.py --model_type Seq                            # the demo store, fold 4 held out
python cmt_training.py --model_type Seq --train_data_list [0,1,2,3] --data_path data/sleepedf78
python cmt_training.py --preset paper_seq --data_path data/sleepedf78     # the published recipe
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch

import models
from datasets import splits
from datasets.splits import Split
from datasets.store import Store
from datasets.views import View
from objectives.staging import PUBLISHED_WEIGHTS, Staging
from utils import flags, metrics
from utils.arguments import ScriptParser, add_list, not_negative, positive
from utils.errors import UserError, run_script
from utils.files import written_whole
from utils.loggers import open_logger
from utils.progress import Learner, Outputs
from utils.runs import Run, command, load_checkpoint
from utils.staging import agreement
from utils.training import fit

PRESETS = {
    "paper_epoch": {"model_type": "Epoch", "dim_feedforward": 128, "patience": 0},
    "paper_seq": {"model_type": "Seq", "encoder": "per_position", "patience": 0},
}
REGISTRY = {"Epoch": "epoch_cmt", "Seq": "sequence_cmt"}
WINDOWS_A_RUN = 8  # of the shared encoder: 22 epochs encoded for 8 windows of 15
NOT_SETTINGS = {
    "config",
    "preset",
    "project_path",
    "resume",
    "is_neptune",
    "nep_project",
    "nep_api",
}
VALIDATED = ("kappa", "accuracy", "macro_f1")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Train a cross-modal transformer (Pradeepkumar et al. 2024).",
        "Ctrl-C keeps everything; the same command goes on where it stopped.",
    )
    flags.add_data(parser.add_argument_group("data"))
    add_model(parser.add_argument_group("model"))
    add_objective(parser.add_argument_group("windows and loss"))
    flags.add_optimiser(parser.add_argument_group("optimiser"))
    flags.add_run(parser.add_argument_group("run"))
    args, _ = parser.parse_known_args(argv)
    parser.set_defaults(**PRESETS.get(args.preset, {}))
    args = parser.parse(argv)
    flags.check_shared(args)
    if len(args.weights) != 5 or min(args.weights) < 0 or not max(args.weights) > 0:
        raise UserError("--weights takes five numbers from 0, for W N1 N2 N3 REM")
    return args


def add_model(group: argparse._ArgumentGroup) -> None:
    """The architecture."""
    group.add_argument(
        "--model_type",
        choices=tuple(REGISTRY),
        default="Epoch",
        help="Epoch: 30 s alone; Seq: --num_seq epochs together",
    )
    group.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="published sizes: paper_epoch has 0.32 M parameters, paper_seq 4.05 M",
    )
    group.add_argument(
        "--encoder",
        choices=("shared", "per_position"),
        default="shared",
        help="Seq: one epoch encoder for all positions, or one each as published (slower)",
    )
    group.add_argument(
        "--epoch_position",
        choices=("sinusoidal", "learned", "none"),
        default="sinusoidal",
        help="Seq, shared encoder: what tells the order of epochs",
    )
    group.add_argument("--num_seq", type=positive, default=15, help="Seq: epochs in a window")
    group.add_argument("--d_model", type=positive, default=128, help="width, a multiple of 8")
    group.add_argument(
        "--dim_feedforward",
        type=positive,
        default=512,
        help="hidden width of the feed-forward after the epoch encoder (which has none)",
    )
    group.add_argument(
        "--window_size",
        type=positive,
        default=50,
        help="samples a token: a multiple of 25 that divides the epoch",
    )
    group.add_argument("--dropout", type=not_negative, default=0.1, help="everywhere")


def add_objective(group: argparse._ArgumentGroup) -> None:
    """What a step looks at and minimises."""
    add_list(
        group,
        "--weights",
        "--weigths",
        item=float,
        default=list(PUBLISHED_WEIGHTS),
        help="of W N1 N2 N3 REM in the loss",
    )
    group.add_argument(
        "--seq_loss",
        choices=("sum", "mean"),
        default="sum",
        help="over the positions of a window; sum as published",
    )
    group.add_argument(
        "--train_stride", type=positive, default=1, help="epochs between training windows"
    )
    group.add_argument(
        "--chunk_epochs",
        type=positive,
        help="consecutive epochs encoded once for all their windows (default: room for 8 windows "
        "with the shared encoder, else one); more is faster, fewer mixes more nights into a step",
    )


def main(argv: list[str] | None = None) -> None:
    """Split by subject, build, train, draw the curve."""
    args = parse_args(argv)
    store = Store(args.data_path)
    table = splits.find_table(store, args.folds)
    held_out = splits.held_out_folds(table, args.train_data_list, args.val_data_list)
    split = splits.split(
        table, args.train_data_list, held_out, share=args.val_share, seed=args.seed
    )
    args.folds, args.val_data_list = table.name, held_out  # what was asked for, spelled out
    fabric = flags.start_fabric(args)
    train, validation = views_of(args, store, split, fabric.device)
    shape = shape_of(args, train, fabric.world_size)
    net = build(args, train)
    run = Run(args.project_path / run_name(args.model_type, held_out))
    facts = facts_of(args, store, split)
    outputs = Outputs(run, lambda figures, step: None, description_of(args, train, facts))
    if fabric.is_global_zero:
        settings = {k: plain(v) for k, v in vars(args).items() if k not in NOT_SETTINGS}
        run.begin(settings, facts, fresh=not args.resume)
        outputs.log = open_logger(args.logger, run.path, settings, args.nep_project)
        announce(args, store, split, net, run)
    fabric.barrier()
    learner = prepare(args, fabric, net)

    def batches(number: int):
        length, stride, runs = shape
        listed = train.sequences(
            length, stride=stride, batch_size=runs, seed=[args.seed, number], jitter=True
        )
        return listed.for_process(fabric.global_rank, fabric.world_size)

    def validate() -> dict[str, float]:
        nights = validation.whole_nights(fabric.global_rank, fabric.world_size)
        counts = torch.from_numpy(agreement(net, nights, fabric.autocast)).to(fabric.device)
        counts = fabric.all_reduce(counts, reduce_op="sum").cpu().numpy()
        return {name: float(metrics.SUMMARIES[name](counts)) for name in VALIDATED}

    position = fit(fabric, learner, batches, validate, flags.plan_of(args), outputs)
    if fabric.is_global_zero:
        finish(args, run, position.best_pass)


def views_of(
    args: argparse.Namespace, store: Store, split: Split, device: torch.device
) -> tuple[View, View]:
    """Training and selecting nights; --select_on test selects on the held-out ones."""
    selecting = split.held_out if args.select_on == "test" else split.validation
    return tuple(
        View(
            store,
            store.of_subjects(subjects),
            channels=args.channels,
            device=device,
            budget_gb=args.budget_gb,
        )
        for subjects in (split.train, selecting)
    )


def build(args: argparse.Namespace, train: View) -> torch.nn.Module:
    """The model, on the weights of --model_path if one is named."""
    torch.manual_seed(args.seed)
    settings = model_settings(args, train)
    try:
        net = models.build(REGISTRY[args.model_type], **settings)
    except ValueError as error:
        raise UserError(str(error)) from error
    if args.model_path is None:
        return net
    checkpoint = load_checkpoint(args.model_path)
    if checkpoint["model"] != REGISTRY[args.model_type] or checkpoint["settings"] != settings:
        raise UserError(
            f"{args.model_path}: a {checkpoint['model']} with {checkpoint['settings']}; these "
            f"flags ask for a {REGISTRY[args.model_type]} with {settings}"
        )
    net.load_state_dict(checkpoint["state"])
    return net


def model_settings(args: argparse.Namespace, train: View) -> dict[str, object]:
    """What ``models.build`` is told."""
    settings = {
        "n_modalities": len(train.columns),
        "n_samples": train.n_samples,
        "d_model": args.d_model,
        "dim_feedforward": args.dim_feedforward,
        "window_size": args.window_size,
        "dropout": args.dropout,
    }
    if args.model_type == "Seq":
        settings |= {
            "num_seq": args.num_seq,
            "encoder": args.encoder,
            "epoch_position": args.epoch_position,
        }
    return settings


def run_name(model_type: str, held_out: list[int]) -> str:
    """The run's folder below --project_path."""
    return f"cmt_{model_type.lower()}_fold{'-'.join(map(str, held_out))}"


def facts_of(args: argparse.Namespace, store: Store, split: Split) -> dict[str, object]:
    """What decides or explains the result beside the flags."""
    return {
        "command": command(),
        "cohort": store.cohort,
        "protocol": store.settings["protocol"],
        "store": splits.fingerprint(store),
        "folds": args.folds,
        "train_folds": args.train_data_list,
        "held_out_folds": args.val_data_list,
        "subjects": {
            "train": split.train, "validation": split.validation, "held_out": split.held_out
        },
        "select_on": args.select_on,
    }  # fmt: skip


def description_of(
    args: argparse.Namespace, train: View, facts: dict[str, object]
) -> dict[str, object]:
    """What a checkpoint says about its model, so that evaluation needs nothing else."""
    return {
        "model": REGISTRY[args.model_type],
        "settings": model_settings(args, train),
        "channels": [[channel.label, channel.role] for channel in train.channels],
        "fs": train.fs,
        "standardise": "recording",
        "trained": facts,
    }


def plain(value: object) -> object:
    """As JSON keeps it."""
    return str(value) if isinstance(value, Path) else value


def announce(
    args: argparse.Namespace, store: Store, split: Split, net: torch.nn.Module, run: Run
) -> None:
    """What is about to happen, in a few lines."""
    n_parameters = sum(p.numel() for p in net.parameters())
    print(f"{REGISTRY[args.model_type]}, {n_parameters:,} parameters -> {run.path}")
    for name, subjects in vars(split).items():
        print(f"  {name.replace('_', ' '):<11}{splits.sizes(store, subjects)}")
    if args.select_on == "test":
        print("  selecting on the held-out subjects: the figures will be too good")


def prepare(args: argparse.Namespace, fabric, net: torch.nn.Module) -> Learner:
    """Everything that changes while training, on its devices."""
    optimizer, schedule = flags.adam(args, net)
    compiled = torch.compile(net) if args.compile else net
    model, optimizer = fabric.setup(compiled, optimizer)
    objective = Staging(args.weights, over_positions=args.seq_loss, stride=args.train_stride)
    return Learner(net, model, optimizer, schedule, objective)


def shape_of(args: argparse.Namespace, train: View, processes: int) -> tuple[int, int, int]:
    """Epochs of a run, epochs between runs, and runs of a step (--batch_size windows in all)."""
    if args.batch_size < processes:
        raise UserError(f"--batch_size {args.batch_size} is too small for {processes} processes")
    length = args.num_seq if args.model_type == "Seq" else 1
    once = args.model_type == "Seq" and args.encoder == "shared"
    windows = WINDOWS_A_RUN if once else 1
    if args.chunk_epochs:
        windows = (args.chunk_epochs - length) // args.train_stride + 1
    if windows < 1:
        raise UserError(f"--chunk_epochs {args.chunk_epochs} holds no window of {length} epochs")
    if train.lengths.max() < length:
        raise UserError(f"no recording has {length} epochs; choose a smaller --num_seq")
    shortest = min(n for n in train.lengths if n >= length)
    most = min((shortest - length) // args.train_stride + 1, args.batch_size // processes)
    windows = min(windows, most)
    windows = max(w for w in range(1, windows + 1) if args.batch_size % w == 0)
    if short := train.too_short(length):
        print(f"left out, shorter than {length} epochs: {', '.join(short)}")
    run = length + (windows - 1) * args.train_stride
    return run, windows * args.train_stride, args.batch_size // windows


def finish(args: argparse.Namespace, run: Run, best_pass: int) -> None:
    """The curve as a table and a picture, and what to do next."""
    from interpret.figures import draw_curve, save

    rows = run.rows()
    if not rows:
        print("nothing trained: --n_epochs 0")
        return
    with written_whole(run.path / "metrics.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    picture = save(draw_curve(rows, title=run.path.name), run.path / "curve.png")
    best = next(row for row in rows if row["pass"] == best_pass)
    print(f"best pass {best_pass} of {len(rows)}: kappa {best['val_kappa']:.3f}")
    print(f"curve: {picture}")
    where = "" if args.project_path == Path("results") else f" --project_path {args.project_path}"
    data = "" if args.data_path == flags.DEMO_STORE else f" --data_path {args.data_path}"
    print(f"next: python cmt_evaluate.py --model_type {args.model_type}{where}{data}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
