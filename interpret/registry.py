"""The registered explanation methods; a new one is a line here and a file of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from interpret import captum_attributions as captum
from interpret.attention_maps import Attention
from interpret.attribution import Attribution
from interpret.baselines import AUTO
from interpret.expected_gradients import ExpectedGradients
from interpret.explanation import Explanation
from interpret.explanation_method import ExplanationMethod
from interpret.grad_cam import GradCam
from interpret.integrated_gradients import IntegratedGradients
from interpret.model_free import Amplitude, BandEnergy, Edge, Energy, Middle
from interpret.question import SPECTROGRAM
from interpret.random_control import RandomControl
from interpret.rollout import Rollout
from interpret.spectral_gradients import SpectralGradients
from interpret.target import EpochTarget
from utils.errors import UserError

# in the order of help texts and messages
METHODS: tuple[ExplanationMethod, ...] = (
    captum.SALIENCY,
    captum.INPUT_X_GRADIENT,
    IntegratedGradients(),
    ExpectedGradients(),
    captum.GRADIENT_SHAP,
    captum.DEEP_LIFT,
    captum.OCCLUSION,
    captum.ABLATION,
    RandomControl(),
    SpectralGradients(),
    GradCam(),
    Attention(),
    Rollout(),
    BandEnergy(),
    Energy(),
    Amplitude(),
    Middle(),
    Edge(),
)


def names() -> tuple[str, ...]:
    """Names of all methods."""
    return tuple(method.name for method in METHODS)


def method_named(name: str) -> ExplanationMethod:
    """The method of that name.

    Raises:
        UserError: there is no such method.
    """
    for method in METHODS:
        if method.name == name:
            return method
    raise UserError(f"unknown method {name!r}; there are {', '.join(names())}")


def control() -> ExplanationMethod:
    """The control method, with which all others are compared."""
    return next(method for method in METHODS if method.control)


def model_free() -> list[ExplanationMethod]:
    """Methods that know no model, which stand beside all others wherever these are measured."""
    return [method for method in METHODS if method.model_free]


def explain(
    target: EpochTarget,
    epochs: Tensor,
    classes: Tensor,
    *,
    method: str = "ig",
    baseline: str = AUTO,
    space: str = SPECTROGRAM,
    seed: int = 0,
    **settings: Any,
) -> Explanation:
    """Explain F at ``epochs`` (b,) for ``classes`` (b,) by the attribution named ``method``.

    ``space``: "spectrogram", what models that read spectrograms are given, or "samples".

    Raises:
        UserError: no such attribution, or one that the model does not allow.
    """
    attribution = method_named(method)
    if not isinstance(attribution, Attribution):
        raise UserError(f"{method} is no attribution: ask for it by interpret.explain_nights")
    target = attribution.target_of(target, space)
    return attribution.explain(target, epochs, classes, baseline=baseline, seed=seed, **settings)
