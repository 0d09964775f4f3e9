"""The flags of ``foundation_training.py``, but for those that every training script has."""

from __future__ import annotations

from typing import Any

from models.probing_heads import HEADS
from objectives.denoising import KINDS, TARGETS
from training.foundation_flags import OF_STAGE
from utils.arguments import add_flag, add_list, count, not_negative, positive


def add_what(group: Any) -> None:
    """Add the flags of stage, head and pretrained encoder."""
    group.add_argument(
        "--stage",
        choices=tuple(OF_STAGE),
        default="pretrain",
        help="train without labels, a head on the frozen encoder, or all of it with labels",
    )
    group.add_argument("--head", choices=tuple(HEADS), help="layers that stage (default: {})")
    group.add_argument(
        "--lora_rank",
        type=count,
        help="fine-tune by low-rank updates of so many dimensions (LoRA), the pretrained weights "
        "frozen; 0: all weights (default: {})",
    )
    add_flag(
        group,
        "--probe",
        default=None,
        help="probe a pretraining after every pass: val_probe_macro_f1 of a linear probe on the "
        "validation nights, to compare settings by (default: {})",
    )
    group.add_argument(
        "--pretrained",
        help="encoder to build on: run folder or checkpoint of --stage pretrain, or none for "
        "random weights (default: the newest run)",
    )


def add_model(group: Any) -> None:
    """Add the flags of a new encoder's sizes."""
    add_flag(
        group, "--published", help="sizes of the published model: 17,299,603 parameters at 125 Hz"
    )
    group.add_argument("--patch_seconds", type=not_negative, help="seconds per patch (default: {})")
    group.add_argument("--d_model", type=positive, help="width of a token (default: {})")
    group.add_argument("--n_heads", type=positive, help="attention heads (default: {})")
    group.add_argument("--dim_feedforward", type=positive, help="feed-forward width (default: {})")
    group.add_argument("--local_layers", type=count, help="layers within an epoch (default: {})")
    group.add_argument("--layers", type=positive, help="layers over the night (default: {})")
    add_flag(group, "--merge", default=None, help="one token per epoch over the night ({})")
    group.add_argument(
        "--mixing", choices=("roles", "none"), help="whether roles see each other (default: {})"
    )
    group.add_argument(
        "--positions", choices=("sinusoidal", "learned"), help="of tokens; learned: up to 8 h ({})"
    )
    group.add_argument(
        "--tokeniser",
        choices=("both", "linear", "spectrum"),
        help="what is read of a patch: samples (linear), log spectra or both (default: {})",
    )
    group.add_argument("--dropout", type=not_negative, help="dropout probability (default: {})")
    group.add_argument(
        "--init",
        choices=("random", "autoencoder"),
        help="first weights of a pretraining; autoencoder: the best linear autoencoder of the "
        "training nights, with --tokeniser both (default: {})",
    )
    group.add_argument(
        "--recompute",
        choices=("feedforward", "layers", "none"),
        default="feedforward",
        help="activations that are not kept but computed again, to save memory",
    )


def add_objective(group: Any) -> None:
    """Add the flags of both objectives: pretraining and staging."""
    group.add_argument(
        "--objective",
        choices=KINDS,
        help="of pretraining: fill in hidden patches, clean corrupted ones, or both (default: {})",
    )
    group.add_argument(
        "--mask_ratio", type=not_negative, help="share of the patches to hide (default: {})"
    )
    group.add_argument(
        "--target", choices=TARGETS, help="what is predicted of a patch (default: {})"
    )
    group.add_argument(
        "--role_dropout",
        type=not_negative,
        default=0.2,
        help="probability that a role is left out of a training night; one always stays",
    )
    add_list(
        group,
        "--crop_hours",
        item=not_negative,
        help="hours per piece of a night, 0: whole; two numbers: lengths drawn between them, each "
        "octave as often. A model stages by as much context as it was trained with "
        "(foundation_evaluate.py --contexts; default: {})",
    )
    group.add_argument(
        "--context",
        type=count,
        help="fine-tune layers that see no more than so many epochs to either side: every night is "
        "cut into pieces, and its spectra keep the night's mean taken off (default: all)",
    )
    group.add_argument("--focal_gamma", type=not_negative, help="focal loss; 0: cross-entropy ({})")
    group.add_argument(
        "--weights", choices=("none", "balanced"), help="stage weights (default: {})"
    )
    group.add_argument(
        "--label_smoothing", type=not_negative, help="share of a label given to all (default: {})"
    )
    group.add_argument(
        "--trim_wake",
        type=int,
        help="train on so many epochs of Wake around sleep, validate on all; -1: all (default: {})",
    )
