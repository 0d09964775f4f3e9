"""Attributions by Captum behind one call, for every staging model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from interpret.target import EpochTarget
from utils.errors import UserError

TIMES_INPUT = ("ixg", "ig", "gshap", "deeplift", "occlusion", "ablation")  # maps that hold x
COMPLETE = ("ig", "deeplift")  # attributions sum to F(x) - F(x'); gshap's do so on average only
TOLERANCE, MOST_STEPS = 0.01, 400
_RULES = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Sigmoid, nn.Tanh,
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.BatchNorm1d, nn.BatchNorm2d,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Flatten, nn.Identity, nn.Sequential, nn.ModuleList,
)  # fmt: skip


@dataclass(frozen=True)
class Explanation:
    """Attributions (b, m, t), signed, with what they explain.

    ``window`` (b, l, m, t) holds those of the whole window where it was asked for, ``bands``
    (b, f, m, t) those of every frequency band between ``edges`` in Hz where a method splits them,
    ``image`` (b, frames, bins) a map on the spectrogram.
    ``value`` and ``baseline_value`` (b,) are F at the epoch and at the baseline; ``error`` (b,) is
    the completeness error, NaN for methods that do not promise it; ``context`` (b, l) what each
    epoch of the window adds to F.
    """

    method: str
    attributions: Tensor
    value: Tensor
    baseline_value: Tensor
    error: Tensor
    context: Tensor
    settings: dict[str, Any] = field(default_factory=dict)
    window: Tensor | None = None
    bands: Tensor | None = None
    edges: tuple[tuple[float, float], ...] = ()
    image: Tensor | None = None


def explain(
    target: EpochTarget,
    epochs: Tensor,
    classes: Tensor,
    *,
    method: str = "ig",
    baseline: str = "zero",
    seed: int = 0,
    **settings: Any,
) -> Explanation:
    """Explain F at ``epochs`` (b,) for ``classes`` (b,); parameters are left as they were.

    A :class:`~interpret.target.WindowTarget` has its window attributed as well.

    Raises:
        UserError: an unknown method, one the model does not allow, or a baseline equal to the
            input.
    """
    if method not in METHODS:
        raise UserError(f"unknown method {method!r}; there are {', '.join(METHODS)}")
    device = target.night.device
    parts = []
    with frozen(target):
        for part in torch.arange(len(epochs)).split(target.at_once):
            these, wanted = epochs[part].to(device), classes[part].to(device)
            x = target.inputs(these)
            compared = target.baseline(these, baseline, seed)
            if method in COMPLETE and torch.equal(x, compared):
                raise UserError("the baseline equals the epochs: nothing could be attributed")
            with seeded(seed + int(part[0])):
                found = METHODS[method](target, x, compared, (these, wanted), **settings)
            with torch.no_grad():
                values = target(x, these, wanted), target(compared, these, wanted)
                parts.append((found.detach(), *values, target.context(these, wanted)))
    maps, value, at_baseline, context = (torch.cat(part) for part in zip(*parts, strict=True))
    error = torch.full_like(value, torch.nan)
    if method in COMPLETE:
        error = completeness_error(maps, value, at_baseline)
    return Explanation(
        method,
        target.own(maps, epochs.to(device)),
        value,
        at_baseline,
        error,
        context,
        {"baseline": baseline, "seed": seed, "output": target.output, **settings},
        window=maps if maps.dim() == 4 else None,
    )


def completeness_error(attributions: Tensor, value: Tensor, at_baseline: Tensor) -> Tensor:
    """|sum A - (F(x) - F(x'))| / |F(x) - F(x')|, (b,)."""
    change = value - at_baseline
    missing = attributions.flatten(1).sum(dim=1) - change
    return missing.abs() / change.abs().clamp_min(1e-6)


@contextmanager
def frozen(target: EpochTarget):
    """Evaluation mode, no gradients of parameters, no cuDNN: it cannot go back through an LSTM."""
    model = target.model
    training = model.training
    asked = [parameter.requires_grad for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        with torch.backends.cudnn.flags(enabled=False), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="captum")
            yield
    finally:
        model.train(training)
        for parameter, wanted in zip(model.parameters(), asked, strict=True):
            parameter.requires_grad_(wanted)


@contextmanager
def seeded(seed: int):
    """Torch's and numpy's global generators, which Captum draws from, seeded and put back."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _saliency(target, x, compared, extra):
    from captum.attr import Saliency

    return Saliency(target).attribute(x, abs=False, additional_forward_args=extra)


def _input_x_gradient(target, x, compared, extra):
    from captum.attr import InputXGradient

    return InputXGradient(target).attribute(x, additional_forward_args=extra)


def integrated_gradients(target, x, compared, extra, *, steps: int = 50, doubling: bool = True):
    """Steps double until every epoch's completeness error is at most 1 %, or 400 are taken."""
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(target)
    found = torch.zeros_like(x)
    left = torch.arange(len(x), device=x.device)
    with torch.no_grad():
        change = target(x, *extra) - target(compared, *extra)
    while len(left):
        part = tuple(argument[left] for argument in extra)
        found[left] = method.attribute(
            x[left], compared[left], n_steps=steps, internal_batch_size=4 * target.at_once,
            additional_forward_args=part,
        )  # fmt: skip
        steps *= 2
        if not doubling or steps > MOST_STEPS:
            break
        error = completeness_error(found[left], change[left], torch.zeros_like(change[left]))
        left = left[error > TOLERANCE]
    return found


def _gradient_shap(target, x, compared, extra, *, draws: int = 20):
    from captum.attr import GradientShap

    return GradientShap(target).attribute(
        x, compared, n_samples=draws, stdevs=0.0, additional_forward_args=extra
    )


def _deep_lift(target, x, compared, extra):
    from captum.attr import DeepLift

    refuse_deep_lift(target.model)
    return DeepLift(target).attribute(x, compared, additional_forward_args=extra)


def refuse_deep_lift(model: nn.Module) -> None:
    """DeepLIFT's rules hold for networks of simple layers only.

    Raises:
        UserError: naming the first layer it has no rule for.
    """
    for name, module in model.named_modules():
        if name and not isinstance(module, _RULES):
            raise UserError(
                f"deeplift has no rule for layer {name} ({type(module).__name__}); use ig or "
                "occlusion"
            )


def _occlusion(target, x, compared, extra, *, seconds: float = 1.0, epoch_seconds: int = 30):
    from captum.attr import Occlusion

    width = max(1, round(seconds * x.shape[-1] / epoch_seconds))
    alone = (1,) * (x.dim() - 2)  # one modality, and one epoch of a window, at a time
    return Occlusion(target).attribute(
        x, (*alone, width), strides=(*alone, max(1, width // 2)), baselines=compared,
        additional_forward_args=extra, perturbations_per_eval=8,
    )  # fmt: skip


def _modalities(target, x, compared, extra):
    from captum.attr import FeatureAblation

    shape = x.shape[1:-1]  # modalities, or epochs of a window and modalities
    groups = torch.arange(shape.numel(), device=x.device).view(1, *shape, 1).expand(1, *x.shape[1:])
    return FeatureAblation(target).attribute(
        x, compared, feature_mask=groups, additional_forward_args=extra
    )


def _random(target, x, compared, extra):
    return torch.randn(x.shape, device=x.device)


METHODS: dict[str, Callable[..., Tensor]] = {
    "saliency": _saliency,
    "ixg": _input_x_gradient,
    "ig": integrated_gradients,
    "gshap": _gradient_shap,
    "deeplift": _deep_lift,
    "occlusion": _occlusion,
    "ablation": _modalities,
    "random": _random,
}
