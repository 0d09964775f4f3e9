"""Full-night foundation transformer: pretrain without labels, probe it, or fine-tune it.

python foundation_training.py --data_path data/shhs                     # pretrain on whole nights
python foundation_training.py --stage probe --data_path data/shhs       # a head on what it learned
python foundation_training.py --stage finetune --head gru --data_path data/shhs
python foundation_training.py --stage finetune --lora_rank 8 --data_path data/shhs
python foundation_training.py --published --data_path data/shhs         # the published sizes
"""

from __future__ import annotations

from functools import partial

from torch import nn

import models
from datasets.store import splits
from datasets.store.store import Store
from datasets.store.stored_channels import known_channels
from datasets.store.views import View
from models.foundation import ROLES, encoder_settings
from training import (
    context_validation,
    flags,
    foundation_arguments,
    foundation_family,
    frozen_encoder,
    pretraining_probe,
)
from training.flags import ScheduleFlags
from training.foundation_flags import (
    DEFAULTS,
    FoundationSettings,
    resolve_defaults,
    run_name,
)
from training.loop import LOWEST_LOSS, SELECTIONS
from training.train import TrainingSpec, train
from utils.arguments import ScriptParser, changed, settings_from
from utils.checkpoint import Checkpoint
from utils.errors import UserError, run_script


def parse_args(argv: list[str] | None) -> FoundationSettings:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Train the full-night foundation transformer on a store of whole nights.",
        "Without --channels, all roles are read that the store has; a recording may lack some. "
        "Next: foundation_evaluate.py.",
    )
    foundation_arguments.add_what(parser.add_argument_group("what is learned"))
    foundation_arguments.add_model(
        parser.add_argument_group("a new model, lighter than the published one by default")
    )
    foundation_arguments.add_objective(parser.add_argument_group("objective"))
    flags.add_data(parser.add_argument_group("data"))
    flags.add_adamw(parser.add_argument_group("optimiser"), lr=1e-3, over="the training nights")
    flags.add_run(parser.add_argument_group("run"))
    parser.fill_help(DEFAULTS)
    parser.set_defaults(channels=None)  # main() takes them from the store or the pretrained model
    settings = resolve_defaults(settings_from(parser.parse(argv), FoundationSettings))
    settings = flags.resolve_shared(settings, divides=settings.learning.stage == "pretrain")
    check(settings)
    return settings


def check(settings: FoundationSettings) -> None:
    """Refuse flags that contradict each other, before any file is touched.

    Raises:
        UserError: naming the flag.
    """
    objective = settings.objective
    shares = {
        "role_dropout": objective.role_dropout,
        "label_smoothing": objective.label_smoothing,
        "warmup": settings.optimiser.warmup,
    }
    for name, share in shares.items():
        if share is not None and share >= 1:
            raise UserError(f"--{name} takes a share below 1")
    crop = objective.crop_hours
    if crop is not None and (
        len(crop) not in (1, 2) or (len(crop) == 2 and not 0 < crop[0] < crop[1])
    ):
        raise UserError("--crop_hours takes one number, or two above 0, the smaller first")
    if settings.learning.probe and settings.run.strategy == flags.SHARDED:
        raise UserError(f"--probe: no process of --strategy {flags.SHARDED} has the whole encoder")
    if settings.run.compile:
        raise UserError("--compile: nights differ in length, and each would be compiled anew")


def main(argv: list[str] | None = None) -> None:
    """Choose the encoder to build on and the channels, then train."""
    settings = parse_args(argv)
    store = Store(settings.data.data_path)
    channels = settings.data.channels or known_channels(store, ROLES)
    pretrained = foundation_family.find_pretrained(settings)
    if pretrained is not None:
        channels = list(pretrained.settings["roles"])  # its weights differ by role
        refuse_pretrained_on(settings.data, store, pretrained)
    settings = changed(settings, channels=channels)
    # a patch of the encoder has a fixed number of samples
    fs = pretrained.settings["fs"] if pretrained is not None else None
    train(settings, "present", partial(spec_of, settings, pretrained), fs)  # absent roles are NaN


def refuse_pretrained_on(data: flags.DataFlags, store: Store, pretrained: Checkpoint) -> None:
    """Refuse to hold out subjects whom the pretraining has seen."""
    table = splits.find_table(store, data.folds)
    held_out = splits.held_out_folds(table, data.train_data_list, data.val_data_list)
    subjects = [subject for k in held_out for subject in table.folds[k].test]
    foundation_family.refuse_pretrained_on(pretrained, store.cohort, subjects)


def spec_of(
    settings: FoundationSettings,
    pretrained: Checkpoint | None,
    view: View,
    held_out: list[int],
    processes: int,
) -> TrainingSpec:
    """Describe the training of --stage for :func:`training.train.train`."""
    if pretrained is not None:  # its head, where it has one, is that of --head
        built = encoder_settings(pretrained.settings)
        built["recompute"] = settings.model.recompute  # changes no result
    else:
        built = foundation_family.model_settings(settings.model, view)
    name = run_name(settings, held_out)
    if settings.learning.stage == "pretrain":
        return pretraining(settings, view, built, name, processes)
    return staging(settings, view, built, name, processes, pretrained)


def pretraining(
    settings: FoundationSettings, view: View, built: dict, name: str, processes: int
) -> TrainingSpec:
    """Describe the training of ``--stage pretrain``."""
    objective = foundation_family.pretraining_objective(settings.objective, built)
    if settings.model.init == "autoencoder" and "spectrum" in (
        built["tokeniser"],
        objective.target,
    ):
        raise UserError(
            "--init autoencoder reads and predicts samples: --tokeniser both --target both does"
        )
    batches = pieces_of(settings, settings.run.seed)
    validate = partial(foundation_family.validate_loss, objective, pieces_of(settings, seed=0))
    if settings.learning.probe:
        validate = partial(pretraining_probe.validate_and_probe, validate, view)
    return TrainingSpec(
        model="foundation_pretraining",
        settings=built | {"target": objective.target},
        run=name,
        objective=objective,
        batches=batches,
        next="python foundation_training.py --stage probe",
        validate=validate,
        selections=LOWEST_LOSS,
        per_step=True,  # the cosine is planned over optimiser steps
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
    """Describe ``--stage probe``, on nights encoded once, or ``finetune``, on signals."""
    probing = settings.learning.stage == "probe"
    data, run, state, validate = settings.data, settings.run, None, None
    rank = settings.learning.lora_rank or 0
    if pretrained is not None:
        encoder = foundation_family.encoder_of(pretrained)
        state = encoder.state_dict()
    elif probing:  # --pretrained none is the control: a head on random weights
        encoder = untrained(built, view)
        state = encoder.state_dict()
    if probing:  # a frozen encoder gives the same tokens in every pass
        cache = frozen_encoder.cached(data.data_path, data.project_path / name, encoder)
        batches = frozen_encoder.encoded_pieces(
            cache(view), settings.optimiser.batch_size, run.seed
        )
        validate = partial(frozen_encoder.validate_encoded, cache)
    else:
        batches, reach = pieces_of(settings, run.seed), settings.objective.context
        if reach is not None:
            validate = partial(context_validation.validate_by_windows, reach)
    steps = steps_of(settings.optimiser, batches, view, processes)
    objective = foundation_family.staging_objective(settings.objective, view, encoded=probing)
    return TrainingSpec(
        model="foundation",
        settings=built | {"head": settings.learning.head, "lora_rank": rank},
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
    """Batches of whole nights, or of pieces of --crop_hours."""
    return foundation_family.pieces_of(
        settings.objective.crop_hours, settings.optimiser.batch_size, seed
    )


def freeze_encoder(net: nn.Module) -> None:
    """Freeze the encoder, so that --stage probe trains the head alone."""
    net.encoder.requires_grad_(False)


def keep_all(net: nn.Module) -> None:
    """Freeze nothing."""


def untrained(built: dict, view: View):
    """An encoder with random weights that has the statistics of the training nights' spectra."""
    net = models.build("foundation_pretraining", **built)
    foundation_family.initialise_from_training_data(None, "random", net, view)
    return net.encoder.eval()


def steps_of(optimiser: ScheduleFlags, batches, view: View, processes: int) -> int:
    """Optimiser steps of the whole training, which the schedule is planned for."""
    n_batches = len(batches(view, 0, 0, processes))
    return max(1, optimiser.n_epochs * -(-n_batches // optimiser.accumulate))  # rounded up


if __name__ == "__main__":
    raise SystemExit(run_script(main))
