"""What is computed: one file per architecture; :func:`build` makes one by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from models.backbone import Backbone, backbone_names
from models.chambon import Chambon2018
from models.cmt import EpochCMT, SequenceCMT
from models.deepsleepnet import DeepSleepNet
from models.seqsleepnet import SeqSleepNet
from models.simplesleepnet import SimpleSleepNet
from models.sleeptransformer import SleepTransformer
from models.tinysleepnet import TinySleepNet

_BUILDERS = {
    "chambon2018": Chambon2018,
    "deepsleepnet": DeepSleepNet,
    "epoch_cmt": EpochCMT,
    "seqsleepnet": SeqSleepNet,
    "sequence_cmt": SequenceCMT,
    "simplesleepnet": SimpleSleepNet,
    "sleeptransformer": SleepTransformer,
    "tinysleepnet": TinySleepNet,
}


def names() -> list[str]:
    """Names that :func:`build` knows, without the image networks of :func:`backbone_names`."""
    return sorted(_BUILDERS)


def build(name: str, **settings: Any) -> nn.Module:
    """The model ``name``; defaults are the published settings.

    Raises:
        ValueError: an unknown name, or settings the architecture cannot have.
    """
    if name in backbone_names():
        return Backbone(name=name, **settings)
    if name not in _BUILDERS:
        raise ValueError(
            f"unknown model {name!r}; there are {', '.join(names())} and torchvision's image "
            "networks, such as resnet18"
        )
    return _BUILDERS[name](**settings)


def build_from(checkpoint: Mapping[str, Any]) -> nn.Module:
    """The trained model of a checkpoint (see ``utils.runs``), in evaluation mode.

    Raises:
        ValueError: an unknown model, impossible settings, or weights of other shapes.
    """
    try:
        model = build(checkpoint["model"], **checkpoint["settings"])
        model.load_state_dict(checkpoint["state"])
    except (TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"its weights and settings do not fit together: {error}") from error
    return model.eval()
