"""Train a cross-modal transformer on a store: epochs on their own, or sequences of them.

python cmt_training.py --model_type Seq                            # the demo store, fold 4 held out
python cmt_training.py --model_type Seq --train_data_list [0,1,2,3] --data_path data/sleepedf78
python cmt_training.py --preset paper_seq --data_path data/sleepedf78     # the published recipe
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from datasets.store.views import Batches, View
from models import rate_of
from objectives.staging import PUBLISHED_WEIGHTS, Staging
from training import flags
from training.flags import OptimiserFlags, TrainingSettings
from training.train import TrainingSpec, train
from training.windows import WINDOWS_PER_RUN, Layout, layout
from utils.arguments import ScriptParser, add_list, not_negative, positive, settings_from
from utils.errors import UserError, run_script

# patience 0: the published training never stops early
PRESETS = {
    "paper_epoch": {"model_type": "Epoch", "dim_feedforward": 128, "patience": 0},
    "paper_seq": {"model_type": "Seq", "encoder": "per_position", "patience": 0},
}
# --model_type, as the published script spells it -> name of the model here
REGISTRY = {"Epoch": "epoch_cmt", "Seq": "sequence_cmt"}


@dataclass(frozen=True)
class CmtModelFlags:
    """Architecture of the model."""

    model_type: str
    encoder: str
    epoch_position: str
    num_seq: int
    d_model: int
    dim_feedforward: int
    window_size: int
    dropout: float


@dataclass(frozen=True)
class CmtObjectiveFlags:
    """Training windows and loss."""

    weights: list[float]
    seq_loss: str
    train_stride: int
    chunk_epochs: int | None


@dataclass(frozen=True)
class CmtSettings(TrainingSettings):
    """Settings of this training, one field per group of flags."""

    optimiser: OptimiserFlags
    model: CmtModelFlags
    objective: CmtObjectiveFlags


def parse_args(argv: list[str] | None) -> CmtSettings:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Train a cross-modal transformer (Pradeepkumar et al. 2024).",
        "Ctrl-C saves the training; the same command resumes it where it stopped.",
    )
    flags.add_data(parser.add_argument_group("data"))
    add_model(parser.add_argument_group("model"))
    add_objective(parser.add_argument_group("windows and loss"))
    flags.add_optimiser(parser.add_argument_group("optimiser"))
    flags.add_run(parser.add_argument_group("run"))
    # parsed twice: a preset is a set of defaults, so flags beside it override it
    args, _ = parser.parse_known_args(argv)
    parser.set_defaults(**PRESETS.get(args.preset, {}))
    settings = flags.resolve_shared(settings_from(parser.parse(argv), CmtSettings))
    weights = settings.objective.weights  # all 0 would leave nothing to learn
    if len(weights) != 5 or min(weights) < 0 or not max(weights) > 0:
        raise UserError("--weights takes five numbers from 0, for W N1 N2 N3 REM")
    return settings


def add_model(group: argparse._ArgumentGroup) -> None:
    """Add the flags of the architecture."""
    group.add_argument(
        "--model_type",
        choices=tuple(REGISTRY),
        default="Epoch",
        help="Epoch stages every epoch (30 s) on its own; Seq stages --num_seq epochs together",
    )
    group.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="sizes of the paper: paper_epoch has 0.32 M parameters, paper_seq 4.05 M",
    )
    group.add_argument(
        "--encoder",
        choices=("shared", "per_position"),
        default="shared",
        help="of Seq: one epoch encoder for all positions, or one for each as published (slower)",
    )
    group.add_argument(
        "--epoch_position",
        choices=("sinusoidal", "learned", "none"),
        default="sinusoidal",
        help="of Seq with a shared encoder: position embedding of the epochs in a window",
    )
    group.add_argument("--num_seq", type=positive, default=15, help="of Seq: epochs per window")
    group.add_argument("--d_model", type=positive, default=128, help="width, a multiple of 8")
    group.add_argument(
        "--dim_feedforward",
        type=positive,
        default=512,
        help="hidden width of the feed-forward layers after the epoch encoder, which has none",
    )
    group.add_argument(
        "--window_size",
        type=positive,
        default=50,
        help="samples per token: a multiple of 25 that divides the epoch",
    )
    group.add_argument("--dropout", type=not_negative, default=0.1, help="dropout probability")


def add_objective(group: argparse._ArgumentGroup) -> None:
    """Add the flags of training windows and loss."""
    # the misspelt name is the published script's
    add_list(
        group,
        "--weights",
        "--weigths",
        item=float,
        default=list(PUBLISHED_WEIGHTS),
        help="weights of W, N1, N2, N3 and REM in the loss",
    )
    group.add_argument(
        "--seq_loss",
        choices=("sum", "mean"),
        default="sum",
        help="of Seq: how the losses at the positions of a window are combined; published: sum",
    )
    group.add_argument(
        "--train_stride",
        type=positive,
        default=1,
        help="epochs between the starts of training windows",
    )
    group.add_argument(
        "--chunk_epochs",
        type=positive,
        help="consecutive epochs that are encoded once for all windows in them (default: enough "
        "for 8 windows with the shared encoder, else for one); more is faster, fewer mixes more "
        "nights into a step",
    )


def main(argv: list[str] | None = None) -> None:
    """Train the model that the command line describes."""
    settings = parse_args(argv)
    model, objective = settings.model, settings.objective

    def spec_of(view: View, held_out: list[int], processes: int) -> TrainingSpec:
        shape = shape_of(settings, view, processes)

        def batches(view: View, number: int, rank: int, processes: int) -> Batches:
            return shape.batches(view, [settings.run.seed, number], rank, processes)

        return TrainingSpec(
            model=REGISTRY[model.model_type],
            settings=model_settings(model, view),
            run=run_name(model.model_type, held_out),
            objective=Staging(
                objective.weights, over_positions=objective.seq_loss, stride=objective.train_stride
            ),
            batches=batches,
            next=f"python cmt_evaluate.py --model_type {model.model_type}",
        )

    # every recording is scaled by its own statistics, so no other subject's enter
    train(settings, "recording", spec_of, rate_of(REGISTRY[model.model_type]))


def model_settings(model: CmtModelFlags, view: View) -> dict[str, object]:
    """Settings of the model for ``models.build``."""
    settings = {
        "n_modalities": len(view.columns),
        "n_samples": view.n_samples,
        "d_model": model.d_model,
        "dim_feedforward": model.dim_feedforward,
        "window_size": model.window_size,
        "dropout": model.dropout,
    }
    if model.model_type == "Seq":
        settings |= {
            "num_seq": model.num_seq,
            "encoder": model.encoder,
            "epoch_position": model.epoch_position,
        }
    return settings


def run_name(model_type: str, held_out: list[int]) -> str:
    """Name of the run's folder in --project_path."""
    return f"cmt_{model_type.lower()}_fold{'-'.join(map(str, held_out))}"


def shape_of(settings: CmtSettings, view: View, processes: int) -> Layout:
    """Layout of the training windows: as many per run as --chunk_epochs has room for."""
    model, objective = settings.model, settings.objective
    length = model.num_seq if model.model_type == "Seq" else 1
    # an encoder per position encodes an epoch anew in every window, so longer runs save nothing
    once = model.model_type == "Seq" and model.encoder == "shared"
    windows = WINDOWS_PER_RUN if once else 1
    if objective.chunk_epochs:  # as many windows as begin, and end, within the chunk
        windows = (objective.chunk_epochs - length) // objective.train_stride + 1
    if windows < 1:
        raise UserError(
            f"--chunk_epochs {objective.chunk_epochs} holds no window of {length} epochs"
        )
    return layout(
        view,
        length=length,
        stride=objective.train_stride,
        windows=windows,
        batch_size=settings.optimiser.batch_size,
        processes=processes,
    )


if __name__ == "__main__":
    raise SystemExit(run_script(main))
