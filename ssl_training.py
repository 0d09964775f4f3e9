"""Pretrain an encoder of epochs without labels: masked prediction, contrast, or both.

python ssl_training.py --objective contrastive --encoder cnn          # the demo store
python ssl_training.py --objective masked --encoder transformer_small --n_steps 2000
python ssl_training.py --config configs/DLPROJ_pretrain_MP_Transformer_Sleep-EDF-2018.json
python ssl_training.py --objective hybrid --encoder tinysleepnet --fold all
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

import models
from datasets.store import splits
from datasets.store.store import Store
from datasets.store.views import Batches, View
from models.epoch_encoders import POOLINGS
from objectives.contrast_views import VIEWS
from objectives.masked import TARGETS
from objectives.masks import MASKINGS
from training import flags, ssl_family, ssl_flags, staging_family
from training.loop import LAST, LOWEST_LOSS
from training.pretraining_nights import Reading, limited
from training.ssl_flags import PretrainingSettings
from training.train import TrainingSpec, train
from utils.arguments import (
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


def parse_args(argv: list[str] | None) -> PretrainingSettings:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Pretrain an encoder of single epochs on the training subjects, without their labels.",
        "Flags that would have no effect on the chosen objective and encoder are refused. Next: "
        "ssl_evaluate.py.",
    )
    add_what(parser.add_argument_group("objective and encoder"))
    add_masked(parser.add_argument_group("masked prediction"))
    add_contrastive(parser.add_argument_group("contrastive learning"))
    flags.add_data(parser.add_argument_group("data"))
    steps = parser.add_argument_group("optimiser")
    flags.add_optimiser(steps)
    add_steps(steps)
    flags.add_run(parser.add_argument_group("run"))
    parser.fill_help(ssl_flags.DEFAULTS)
    # None: depends on the schedule
    parser.set_defaults(
        channels=["EEG"],
        n_epochs=None,
        batch_size=128,
        lr=4e-4,
        grad_clip=1.0,
        patience=None,
        step_size=None,
        gamma=None,
        eps=1e-8,
        train_data_list=None,
    )
    parser.config_reader = ssl_flags.read_config
    settings = flags.resolve_shared(settings_from(parser.parse(argv), PretrainingSettings))
    known = (*models.ENCODERS, *models.names(), *models.backbone_names())
    if (encoder := settings.learning.encoder) not in known:
        raise UserError(
            f"--encoder {encoder}: there are {ssl_family.encoder_names()} and every model of "
            "staging_training.py"
        )
    settings = ssl_flags.resolve_defaults(settings)
    ssl_family.objective_of(settings)  # refuses what it cannot have before any file is touched
    return settings


def add_what(group: argparse._ArgumentGroup) -> None:
    """Add the flags of objective, encoder and fold."""
    group.add_argument(
        "--objective",
        choices=ssl_flags.OBJECTIVES,
        default="contrastive",
        help="masked: log power and samples of what is hidden; latent: its latents by a slow copy; "
        "contrastive: two views of an epoch alike and unlike all others; vicreg: alike, without "
        "others; hybrid: masked and contrastive",
    )
    group.add_argument(
        "--encoder",
        default="cnn",
        help=f"{ssl_family.encoder_names()}, or a model of staging_training.py for its encoder",
    )
    group.add_argument(
        "--fold", help="fold to hold out, or 'all' in turn (default: --val_data_list or the last)"
    )
    group.add_argument(
        "--normalization",
        choices=("recording", "none"),
        default="recording",
        help="scaling per recording and channel, then clipping at 20 standard deviations; none: "
        "signals as stored",
    )
    group.add_argument(
        "--num_patches", type=positive, help="of Transformers: tokens per epoch (default: {})"
    )
    add_flag(group, "--use_cls", default=None, help="of Transformers: a CLS token ({})")
    group.add_argument(
        "--pool",
        choices=POOLINGS,
        help="latent of an epoch: CLS token, mean over tokens, or mean and deviation side by side "
        "(default: {}; without masks the CLS token, of CNNs the mean)",
    )
    group.add_argument(
        "--val_check_interval",
        type=count,
        default=0,
        help="steps between validations, each of which then counts as a pass; 0: once per pass",
    )


def add_masked(group: argparse._ArgumentGroup) -> None:
    """Add the flags of masks and targets."""
    group.add_argument(
        "--masking_type",
        choices=MASKINGS,
        help="hide blocks of patches, 1 to 3 s long, patches, a fixed number of samples, or each "
        "sample by chance (default: {})",
    )
    group.add_argument(
        "--masking_ratio", type=not_negative, help="share of the signal to hide (default: {})"
    )
    group.add_argument(
        "--patch_samples",
        type=positive,
        help="samples per patch (default: {}, of Transformers a token)",
    )
    group.add_argument(
        "--loss_on",
        choices=("masked", "visible"),
        help="samples that the loss is on; visible repeats a mistake of published code, whose "
        "encoder saw the samples it had to predict (default: {})",
    )
    group.add_argument(
        "--target",
        choices=TARGETS,
        help="what is predicted: log power of every patch, less its mean over the night, samples, "
        "or both (default: {})",
    )
    add_flag(
        group, "--norm_patches", default=None, help="standardise samples by patch (default: {})"
    )
    group.add_argument(
        "--decoder_blocks",
        type=positive,
        help="of Transformers: blocks of the decoder (default: {})",
    )
    group.add_argument(
        "--teacher_decay",
        type=not_negative,
        help="of latent: share of the slow copy's weights that stays at each batch (default: {})",
    )


def add_contrastive(group: argparse._ArgumentGroup) -> None:
    """Add the flags of views, projection, temperature, and the weight in the hybrid."""
    group.add_argument(
        "--temperature", type=not_negative, help="temperature of the NT-Xent loss (default: {})"
    )
    group.add_argument(
        "--views",
        choices=VIEWS,
        help="set of random changes that makes two views of each epoch (default: {})",
    )
    add_list(
        group,
        "--projection_hidden",
        item=positive,
        help="widths of the projection's hidden layers, [] for none (default: {})",
    )
    group.add_argument(
        "--chunk",
        type=count,
        help="epochs computed at a time, so that a large --batch_size fits; 0: all (default: {})",
    )
    group.add_argument(
        "--neighbours",
        type=count,
        help="the second view is of an epoch at most so far along the night; 0: of the same "
        "(default: {})",
    )
    group.add_argument(
        "--queue",
        type=count,
        help="projections of earlier batches kept as negatives (default: {})",
    )
    group.add_argument(
        "--alpha_crl",
        type=not_negative,
        help="weight of the contrastive loss in the hybrid one, or of its gradient if balanced "
        "(default: {})",
    )
    add_flag(
        group,
        "--balance",
        default=None,
        help="of hybrid: weight contrast by the norms of both gradients on the encoder (default: "
        "{})",
    )


def add_steps(group: argparse._ArgumentGroup) -> None:
    """Add the flags of schedule and length."""
    group.add_argument(
        "--n_steps",
        type=positive,
        help="optimiser steps, unless --n_epochs ends before (default: "
        f"{ssl_flags.STEPS}, without --n_epochs)",
    )
    group.add_argument(
        "--schedule",
        choices=ssl_flags.OF_SCHEDULE,
        help="lr rises, then falls along a cosine of steps to 1 %%, without --patience by default; "
        "or in steps of passes, with 10 (default: cosine, or step beside --gamma or --step_size)",
    )
    group.add_argument(
        "--warmup",
        type=not_negative,
        help="of the cosine: share of the steps in which lr rises (default: {})",
    )


def main(argv: list[str] | None = None) -> None:
    """Choose the fold and train; with --fold all, every fold in turn."""
    settings = parse_args(argv)
    table = splits.find_table(Store(settings.data.data_path), settings.data.folds)
    numbers = range(len(table.folds))
    if settings.learning.fold == "all":
        words = sys.argv[1:] if argv is None else argv
        for k in numbers:  # the last --fold on a command line is the one that counts
            main([*words, "--fold", str(k)])
        return
    settings = choose_fold(settings, numbers)
    # masks, views and decoders are made for 100 Hz, as the encoders are
    train(settings, settings.learning.normalization, partial(spec_of, settings), ssl_flags.FS)


def spec_of(
    settings: PretrainingSettings, view: View, held_out: list[int], processes: int
) -> TrainingSpec:
    """Describe the pretraining for :func:`training.train.train`."""
    learning, steps = settings.learning, settings.optimiser
    ssl_family.check_patches(settings, view.n_samples)
    reading = ssl_family.reading_of(settings)
    checks, batches = staging_family.checked_every(
        learning.val_check_interval,
        partial(shuffled, reading, settings.run.seed),
        view,
        processes,
    )
    length, batches = limited(batches, checks, steps, view, processes)
    objective = ssl_family.objective_of(settings)
    return TrainingSpec(
        model="pretraining",
        settings=ssl_family.settings_of(settings, view),
        run=ssl_family.run_name(settings, held_out),
        objective=objective,
        batches=batches,
        checks=checks,
        per_step=steps.schedule == "cosine",
        n_passes=length.passes,
        next="python ssl_evaluate.py",
        validate=partial(ssl_family.validate, objective, reading),
        # a copy that all follow into one point is predicted best
        selections=LAST if learning.objective == "latent" else LOWEST_LOSS,
        initialise_from_training_data=ssl_family.initialise_from_training_data,
        optimiser=partial(ssl_family.optimiser, objective, length.steps, view.device),
    )


def choose_fold(settings: PretrainingSettings, numbers: range) -> PretrainingSettings:
    """Translate --fold into the lists of folds to train on and to hold out.

    Raises:
        UserError: there is no such fold.
    """
    fold, held_out = settings.learning.fold, settings.data.val_data_list
    if fold is None and held_out is None:
        fold = str(numbers[-1])
    if fold is not None:
        try:
            held_out = [numbers[count(fold)]]
        except (ValueError, IndexError):
            raise UserError(f"--fold takes 0 to {numbers[-1]} or 'all'") from None
    training = settings.data.train_data_list
    if training is None:
        training = [k for k in numbers if k not in held_out]
    return changed(settings, fold=fold, val_data_list=held_out, train_data_list=training)


def shuffled(
    reading: Reading, seed: int, view: View, number: int, rank: int, processes: int
) -> Batches:
    """Batches of single epochs, shuffled anew in every pass."""
    return reading.epochs(view, seed=[seed, number]).for_process(rank, processes)


if __name__ == "__main__":
    raise SystemExit(run_script(main))
