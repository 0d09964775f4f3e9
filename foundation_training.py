"""Full-night foundation transformer: pretrain without labels, probe it, or fine-tune it.

python foundation_training.py --data_path data/shhs                     # pretrain on whole nights
python foundation_training.py --stage probe --data_path data/shhs       # a head on what it learned
python foundation_training.py --stage finetune --head gru --data_path data/shhs
python foundation_training.py --published --data_path data/shhs         # the published sizes
"""

from __future__ import annotations

import argparse
from functools import partial

from torch import nn

import models
from datasets.store import splits
from datasets.store.store import Store
from datasets.store.stored_channels import known_channels
from datasets.store.views import View
from models.foundation import ROLES
from models.probing_heads import HEADS
from objectives.denoising import KINDS, TARGETS
from training import flags, foundation_family, frozen_encoder
from training.foundation_flags import (
    DEFAULTS,
    OF_STAGE,
    FoundationSettings,
    ScheduleFlags,
    resolve_defaults,
    run_name,
)
from training.loop import LOWEST_LOSS, SELECTIONS
from training.train import TrainingSpec, train
from utils.arguments import (
    ScriptParser,
    add_flag,
    changed,
    count,
    not_negative,
    positive,
    settings_from,
)
from utils.checkpoint import Checkpoint
from utils.errors import UserError, run_script


def parse_args(argv: list[str] | None) -> FoundationSettings:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Train the full-night foundation transformer on a store of whole nights.",
        "Any of the roles may be absent in a recording. Next: foundation_evaluate.py.",
    )
    add_what(parser.add_argument_group("what is learned"))
    add_model(parser.add_argument_group("a new model; the lighter one unless sizes are given"))
    add_objective(parser.add_argument_group("objective"))
    flags.add_data(parser.add_argument_group("data"))
    add_steps(parser.add_argument_group("optimiser"))
    flags.add_run(parser.add_argument_group("run"))
    parser.fill_help(DEFAULTS)
    parser.set_defaults(channels=None)
    settings = flags.resolve_shared(settings_from(parser.parse(argv), FoundationSettings))
    settings = resolve_defaults(settings)
    check(settings)
    return settings


def check(settings: FoundationSettings) -> None:
    """Refuse what does not go together, before any file is touched.

    Raises:
        UserError: naming the flag.
    """
    objective, model = settings.objective, settings.model
    shares = {
        "role_dropout": objective.role_dropout,
        "label_smoothing": objective.label_smoothing,
        "warmup": settings.optimiser.warmup,
    }
    for name, share in shares.items():
        if share is not None and share >= 1:
            raise UserError(f"--{name} takes a share below 1")
    if model.init == "autoencoder" and model.tokeniser == "spectrum":
        raise UserError("--init autoencoder begins a pretraining that reads samples")
    if settings.run.compile:
        raise UserError("--compile: nights differ in length, which compiles again for each")


def add_what(group: argparse._ArgumentGroup) -> None:
    """Stage, head, and what it is built on."""
    group.add_argument(
        "--stage",
        choices=tuple(OF_STAGE),
        default="pretrain",
        help="without labels; a head on the frozen encoder; or everything with labels",
    )
    group.add_argument("--head", choices=tuple(HEADS), help="what reads stages ({})")
    group.add_argument(
        "--pretrained",
        help="run folder or checkpoint of --stage pretrain (default: the newest run); none: random "
        "weights",
    )


def add_model(group: argparse._ArgumentGroup) -> None:
    """Sizes; 6 s patches of 128 dimensions unless something else is asked for."""
    add_flag(
        group, "--published", help="sizes of the published model: 17,299,603 parameters at 125 Hz"
    )
    group.add_argument("--patch_seconds", type=not_negative, help="length of a patch ({})")
    group.add_argument("--d_model", type=positive, help="width of a token ({})")
    group.add_argument("--n_heads", type=positive, help="attention heads ({})")
    group.add_argument("--dim_feedforward", type=positive, help="width of the feedforward ({})")
    group.add_argument("--local_layers", type=count, help="layers within an epoch ({})")
    group.add_argument("--layers", type=positive, help="layers over the night ({})")
    add_flag(group, "--merge", default=None, help="one token an epoch for the night's layers")
    group.add_argument("--mixing", choices=("roles", "none"), help="may channels see each other")
    group.add_argument(
        "--positions", choices=("sinusoidal", "learned"), help="of tokens; learned holds 8 h"
    )
    group.add_argument(
        "--tokeniser", choices=("both", "linear", "spectrum"), help="what a patch is read as"
    )
    group.add_argument("--dropout", type=not_negative, help="share of activations dropped ({})")
    group.add_argument(
        "--init",
        choices=("random", "autoencoder"),
        help="weights to begin pretraining with ({}); autoencoder: the best linear one of the "
        "training nights",
    )
    group.add_argument(
        "--recompute",
        choices=("feedforward", "layers", "none"),
        default="feedforward",
        help="activations computed twice to save memory",
    )


def add_objective(group: argparse._ArgumentGroup) -> None:
    """What is hidden or corrupted, and how stages are weighed."""
    group.add_argument(
        "--objective",
        choices=KINDS,
        help="of pretraining: fill in what is hidden, clean what is corrupted, or both ({})",
    )
    group.add_argument(
        "--mask_ratio", type=not_negative, help="share of patches hidden in pretraining ({})"
    )
    group.add_argument("--target", choices=TARGETS, help="what is predicted of a patch ({})")
    group.add_argument(
        "--role_dropout",
        type=not_negative,
        default=0.2,
        help="probability that a role is left out of a night, one always stays",
    )
    group.add_argument(
        "--crop_hours", type=not_negative, help="pieces of a night; 0: whole nights ({})"
    )
    group.add_argument("--focal_gamma", type=not_negative, help="focal loss; 0: cross-entropy ({})")
    group.add_argument("--weights", choices=("none", "balanced"), help="of the stages ({})")
    group.add_argument(
        "--label_smoothing", type=not_negative, help="share of a label given to all ({})"
    )
    group.add_argument(
        "--trim_wake",
        type=int,
        help="epochs of wake kept around sleep in training, never in validation; -1: all ({})",
    )


def add_steps(group: argparse._ArgumentGroup) -> None:
    """AdamW, its schedule by optimiser steps, and when to stop."""
    group.add_argument("--n_epochs", type=count, default=50, help="passes over the training nights")
    group.add_argument("--batch_size", type=positive, default=4, help="nights a batch")
    group.add_argument("--lr", type=not_negative, default=1e-3, help="highest learning rate")
    group.add_argument("--weight_decay", type=not_negative, default=0.01, help="of matrices")
    group.add_argument(
        "--schedule", choices=("cosine", "constant"), default="cosine", help="after the warm-up"
    )
    group.add_argument(
        "--warmup", type=not_negative, default=0.1, help="share of all steps in which lr rises"
    )
    group.add_argument(
        "--grad_clip", type=not_negative, default=1.0, help="largest gradient norm; 0: no limit"
    )
    group.add_argument(
        "--accumulate", type=positive, default=1, help="batches to sum gradients over before a step"
    )
    group.add_argument(
        "--max_minutes", type=not_negative, default=0.0, help="no pass after so many; 0: no limit"
    )
    group.add_argument(
        "--patience", type=count, default=0, help="passes without a better one; 0: never stop"
    )


def main(argv: list[str] | None = None) -> None:
    """Find what to build on, describe the training, train."""
    settings = parse_args(argv)
    store = Store(settings.data.data_path)
    channels = settings.data.channels or known_channels(store, ROLES)
    pretrained = foundation_family.find_pretrained(settings.learning, settings.model, settings.data)
    if pretrained is not None:
        channels = list(pretrained.settings["roles"])
        refuse_pretrained_on(settings.data, store, pretrained)
    settings = changed(settings, channels=channels)
    train(settings, "present", partial(spec_of, settings, pretrained))


def refuse_pretrained_on(data: flags.DataFlags, store: Store, pretrained: Checkpoint) -> None:
    """Nobody who was pretrained on may be held out."""
    table = splits.find_table(store, data.folds)
    held_out = splits.held_out_folds(table, data.train_data_list, data.val_data_list)
    people = [subject for k in held_out for subject in table.folds[k].test]
    foundation_family.refuse_pretrained_on(pretrained, store.cohort, people)


def spec_of(
    settings: FoundationSettings,
    pretrained: Checkpoint | None,
    view: View,
    held_out: list[int],
    processes: int,
) -> TrainingSpec:
    """What sets this training apart, of --stage."""
    if pretrained is not None:
        built = pretrained.settings | {"recompute": settings.model.recompute}
    else:
        built = foundation_family.model_settings(settings.model, view)
    if view.fs != built["fs"]:
        raise UserError(
            f"{settings.data.data_path}: {view.fs:g} Hz, the encoder reads {built['fs']:g} Hz; "
            f"prepare the store with --resample {built['fs']:g}"
        )
    name = run_name(settings, held_out)
    if settings.learning.stage == "pretrain":
        return pretraining(settings, view, built, name, processes)
    return staging(settings, view, built, name, processes, pretrained)


def pretraining(
    settings: FoundationSettings, view: View, built: dict, name: str, processes: int
) -> TrainingSpec:
    """``--stage pretrain``."""
    objective = foundation_family.pretraining_objective(settings.objective, built)
    batches = pieces_of(settings, settings.run.seed)
    return TrainingSpec(
        model="foundation_pretraining",
        settings=built,
        run=name,
        objective=objective,
        batches=batches,
        next="python foundation_training.py --stage probe",
        validate=partial(foundation_family.validate_loss, objective, pieces_of(settings, seed=0)),
        selections=LOWEST_LOSS,
        per_step=True,
        initialise_from_training_data=partial(
            foundation_family.initialise_from_training_data, None, settings.model.init
        ),
        optimiser=partial(
            foundation_family.optimiser,
            steps_of(settings.optimiser, batches, view, processes),
            partial(foundation_family.freeze_unused, objective),
        ),
    )


def staging(
    settings: FoundationSettings,
    view: View,
    built: dict,
    name: str,
    processes: int,
    pretrained: Checkpoint | None,
) -> TrainingSpec:
    """``--stage probe`` on nights that are encoded once, ``--stage finetune`` on signals."""
    probing = settings.learning.stage == "probe"
    data, run, state, validate = settings.data, settings.run, None, None
    if pretrained is not None:
        encoder = foundation_family.encoder_of(pretrained)
        state = encoder.state_dict()
    elif probing:
        encoder = untrained(built, view)
        state = encoder.state_dict()
    if probing:
        cache = frozen_encoder.cached(data.data_path, data.project_path / name, encoder)
        batches = frozen_encoder.encoded_pieces(
            cache(view), settings.optimiser.batch_size, run.seed
        )
        validate = partial(frozen_encoder.validate_encoded, cache)
    else:
        batches = pieces_of(settings, run.seed)
    steps = steps_of(settings.optimiser, batches, view, processes)
    objective = foundation_family.staging_objective(settings.objective, view, encoded=probing)
    return TrainingSpec(
        model="foundation",
        settings=built | {"head": settings.learning.head},
        run=name,
        built_on=pretrained,
        objective=objective,
        batches=batches,
        next="python foundation_evaluate.py",
        validate=validate,
        selections=SELECTIONS,
        per_step=True,
        initialise_from_training_data=partial(
            foundation_family.initialise_from_training_data, state, "random"
        ),
        optimiser=partial(
            foundation_family.optimiser, steps, freeze_encoder if probing else keep_all
        ),
    )


def pieces_of(settings: FoundationSettings, seed: int):
    """Pieces of nights, or whole ones, as many a batch as asked for."""
    return foundation_family.pieces_of(
        settings.objective.crop_hours, settings.optimiser.batch_size, seed
    )


def freeze_encoder(net: nn.Module) -> None:
    """--stage probe trains the head alone."""
    net.encoder.requires_grad_(False)


def keep_all(net: nn.Module) -> None:
    """Everything is trained."""


def untrained(built: dict, view: View):
    """An encoder of random weights, which knows the spectra's statistics."""
    net = models.build("foundation_pretraining", **built)
    foundation_family.initialise_from_training_data(None, "random", net, view)
    return net.encoder.eval()


def steps_of(optimiser: ScheduleFlags, batches, view: View, processes: int) -> int:
    """Optimiser steps of the whole training."""
    a_pass = len(batches(view, 0, 0, processes))
    return max(1, optimiser.n_epochs * -(-a_pass // optimiser.accumulate))


if __name__ == "__main__":
    raise SystemExit(run_script(main))
