"""Models of sleep staging: one file per architecture, built by name with :func:`build`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any

from torch import nn

from models.backbone import Backbone, backbone_names
from models.base import SleepModel
from models.chambon import Chambon2018
from models.cmt import EpochCMT, SequenceCMT
from models.deepsleepnet import DeepSleepNet
from models.epoch_encoders import ENCODERS, EpochStager, build_encoder
from models.foundation import Foundation
from models.foundation_pretraining import FoundationPretraining
from models.night_bands import NightBands
from models.pretraining import Pretraining, ZooEncoder, decoder_for
from models.robustsleepnet import RobustSleepNet
from models.seqsleepnet import SeqSleepNet
from models.simplesleepnet import SimpleSleepNet
from models.sleeptransformer import SleepTransformer
from models.tinysleepnet import TinySleepNet

_BUILDERS = {
    "chambon2018": Chambon2018,
    "cnn": partial(EpochStager, encoder="cnn"),
    "cnn_attention": partial(EpochStager, encoder="cnn_attention"),
    "deepsleepnet": DeepSleepNet,
    "epoch_cmt": EpochCMT,
    "robustsleepnet": RobustSleepNet,
    "seqsleepnet": SeqSleepNet,
    "sequence_cmt": SequenceCMT,
    "simplesleepnet": SimpleSleepNet,
    "sleeptransformer": SleepTransformer,
    "tinysleepnet": TinySleepNet,
    "transformer": partial(EpochStager, encoder="transformer"),
}


# of whole nights; they have scripts of their own
_OF_NIGHTS = {
    "foundation": Foundation,
    "foundation_pretraining": FoundationPretraining,
    "night_bands": NightBands,
}


def names() -> list[str]:
    """Names that :func:`build` knows, without the image networks of :func:`backbone_names`."""
    return sorted(_BUILDERS)


def is_stateful(name: str) -> bool:
    """Whether the model ``name`` carries a recurrent state through a night."""
    return _class_of(name).stateful


def rate_of(name: str) -> float | None:
    """The rate in Hz that the model ``name`` was made for; ``None`` if its layers follow any."""
    return _class_of(name).made_for_hz


def _class_of(name: str) -> type[SleepModel]:
    builder = _BUILDERS.get(name, Backbone)
    return builder.func if isinstance(builder, partial) else builder


def build(name: str, **settings: Any) -> nn.Module:
    """The model ``name``; defaults are the published settings.

    Raises:
        ValueError: an unknown name, or settings the architecture cannot have.
    """
    if name == "pretraining":
        return build_pretraining(**settings)
    if name in _OF_NIGHTS:
        return _OF_NIGHTS[name](**settings)
    if name not in _BUILDERS:
        if name in backbone_names():
            return Backbone(name=name, **settings)
        raise ValueError(
            f"unknown model {name!r}; there are {', '.join(names())} and torchvision's image "
            "networks, such as resnet18"
        )
    return _BUILDERS[name](**settings)


def build_pretraining(
    encoder: str,
    *,
    n_channels: int = 1,
    fs: float = 100.0,
    n_samples: int = 3000,
    decoder: bool = True,
    decoder_depth: int = 8,
    predicts: Sequence[str] = ("signal",),
    patch: int = 50,
    projection: Sequence[int] = (512, 128),
    **settings: Any,
) -> Pretraining:
    """An epoch encoder of ours or of the zoo with what pretraining adds to it.

    ``settings`` are those of the encoder.

    Raises:
        ValueError: as :func:`build`.
    """
    if encoder in ENCODERS:
        net = build_encoder(encoder, n_channels=n_channels, n_samples=n_samples, **settings)
    else:
        # cross-modal transformers call channels modalities and have no setting for the rate
        channels = "n_modalities" if encoder.endswith("_cmt") else "n_channels"
        about = {channels: n_channels, "n_samples": n_samples, **settings}
        if channels == "n_channels":
            about["fs"] = fs
        net = ZooEncoder(build(encoder, **about), n_channels, n_samples)
    made = None
    if decoder:
        made = decoder_for(net, n_channels, n_samples, predicts, patch=patch, depth=decoder_depth)
    return Pretraining(net, made, projection)


def with_defaults(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the model ``name``, completed by the defaults of those that are not given."""
    builder = _OF_NIGHTS.get(name) or _BUILDERS.get(name) or Backbone
    if name == "pretraining":
        builder = build_pretraining
    parameters = signature(builder).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | dict(settings)


def build_from(checkpoint: Any) -> nn.Module:
    """The trained model of a checkpoint (see ``utils.checkpoint``), in evaluation mode.

    Raises:
        ValueError: an unknown model, impossible settings, or weights of other shapes.
    """
    try:
        model = build(checkpoint.model, **checkpoint.settings)
        model.load_state_dict(checkpoint.state)
    # what torch and constructors raise for settings or weights of another model
    except (TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"its weights and settings do not fit together: {error}") from error
    return model.eval()
