"""Attributions that Captum computes and that differ only in how it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from interpret.attribution import Attribution
from interpret.evidence import SIGNED, Reading
from interpret.infidelity import (
    Move,
    replaced_channels,
    replaced_pieces,
    replaced_windows,
    small_noise,
)
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS

Moves = Callable[[Tensor, Tensor, int], Iterator[Move]]

# layers that keep DeepLIFT complete: those that Captum has rules for, those linear in evaluation
# mode, and containers
_RULES = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Sigmoid, nn.Tanh,
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.BatchNorm1d, nn.BatchNorm2d,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Flatten, nn.Identity, nn.Sequential, nn.ModuleList,
)  # fmt: skip

_WINDOW_SECONDS = 1.0  # of occlusion


class CaptumAttribution(Attribution):
    """An attribution by ``attribute``, called with target, x, baseline and (epochs, classes).

    ``moves``, called with x, baseline and seed, are what the maps foretell the effect of.
    """

    def __init__(
        self,
        name: str,
        attribute: Callable[..., Tensor],
        *,
        moves: Moves = replaced_pieces,
        complete: bool = False,
        on_spectrogram: bool = False,
        reading: Reading = SIGNED,
    ) -> None:
        self.name, self.attribute, self.moves = name, attribute, moves
        self.complete, self.reading = complete, reading
        self.on_spectrogram = on_spectrogram

    def maps(self, target, x, compared, extra, **settings) -> Tensor:
        """Maps that Captum returns, in the shape of ``x``."""
        return self.attribute(target, x, compared, extra, **settings)


def _saliency(target, x, compared, extra):
    from captum.attr import Saliency

    # Captum takes absolute values by default, which would hide evidence against the stage
    return Saliency(target).attribute(x, abs=False, additional_forward_args=extra)


def _input_x_gradient(target, x, compared, extra):
    from captum.attr import InputXGradient

    return InputXGradient(target).attribute(x, additional_forward_args=extra)


def _gradient_shap(target, x, compared, extra, *, draws: int = 20):
    from captum.attr import GradientShap

    # without noise: only points on the lines to baselines are drawn, among those of all epochs
    return GradientShap(target).attribute(
        x, compared, n_samples=draws, stdevs=0.0, additional_forward_args=extra
    )


def _deep_lift(target, x, compared, extra):
    from captum.attr import DeepLift

    refuse_deep_lift(target.model)
    return DeepLift(target).attribute(x, compared, additional_forward_args=extra)


def refuse_deep_lift(model: nn.Module) -> None:
    """Refuse models with layers that DeepLIFT has no rules for.

    Raises:
        UserError: naming the first layer it has no rule for.
    """
    for name, module in model.named_modules():
        # the model itself has no name and is no layer
        if name and not isinstance(module, _RULES):
            raise UserError(
                f"deeplift has no rule for layer {name} ({type(module).__name__}); use ig or "
                "occlusion"
            )


def _width(x: Tensor, seconds: float) -> int:
    return max(1, round(seconds * x.shape[-1] / EPOCH_SECONDS))


def _occlusion(target, x, compared, extra, *, seconds: float = _WINDOW_SECONDS):
    from captum.attr import Occlusion

    width = _width(x, seconds)
    alone = (1,) * (x.dim() - 2)  # one modality, and one epoch of a window, at a time
    # windows overlap by half, and Captum averages what covers a sample
    return Occlusion(target).attribute(
        x,
        (*alone, width),
        strides=(*alone, max(1, width // 2)),
        baselines=compared,
        additional_forward_args=extra,
        perturbations_per_eval=8,
    )


def _modalities(target, x, compared, extra):
    from captum.attr import FeatureAblation

    shape = x.shape[1:-1]  # modalities, or epochs of a window and modalities
    # one number for all samples of a group: they are removed together
    groups = torch.arange(shape.numel(), device=x.device).view(1, *shape, 1).expand(1, *x.shape[1:])
    return FeatureAblation(target).attribute(
        x, compared, feature_mask=groups, additional_forward_args=extra
    )


def _noise(x: Tensor, compared: Tensor, seed: int) -> Iterator[Move]:
    return small_noise(x, None, seed)


def _noise_times_input(x: Tensor, compared: Tensor, seed: int) -> Iterator[Move]:
    return small_noise(x, x, seed)


def _windows(x: Tensor, compared: Tensor, seed: int) -> Iterator[Move]:
    return replaced_windows(x, compared, _width(x, _WINDOW_SECONDS), seed)


def _channels(x: Tensor, compared: Tensor, seed: int) -> Iterator[Move]:
    return replaced_channels(x, compared)


SALIENCY = CaptumAttribution(
    "saliency", _saliency, moves=_noise, on_spectrogram=True, reading=Reading(size=True)
)
INPUT_X_GRADIENT = CaptumAttribution(
    "ixg", _input_x_gradient, moves=_noise_times_input, on_spectrogram=True
)
# complete on average over its draws only, so ``complete`` stays False
GRADIENT_SHAP = CaptumAttribution("gshap", _gradient_shap, on_spectrogram=True)
DEEP_LIFT = CaptumAttribution("deeplift", _deep_lift, complete=True)
OCCLUSION = CaptumAttribution("occlusion", _occlusion, moves=_windows)
ABLATION = CaptumAttribution("ablation", _modalities, moves=_channels)
