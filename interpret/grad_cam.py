"""Grad-CAM on the spectrogram: where in time and frequency an image network looks.

Selvaraju et al. 2017, by Captum's ``LayerGradCam``, for models that read images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from interpret import explanation_figures
from interpret.explanation import Explanation
from interpret.explanation_method import ExplanationMethod
from interpret.frozen_model import frozen
from interpret.question import Question
from interpret.sample import ShownEpoch
from interpret.target import EpochTarget
from utils.errors import UserError

if TYPE_CHECKING:
    from interpret.explanation_figures import Figure

NAME = "gradcam"


class GradCam(ExplanationMethod):
    """A map on the spectrogram, the same for all channels."""

    name = NAME

    def allows(self, model: Any) -> bool:
        """Models with a layer of images to look at."""
        return model.reads_images

    def compute(self, question: Question) -> Explanation:
        """See :func:`grad_cam`."""
        return grad_cam(question.target, question.epochs, question.classes)

    def draw(self, shown: ShownEpoch) -> Figure:
        """The map over the spectrogram it was made on."""
        night, epoch = shown.night, shown.epoch
        spectrogram = shown.question.model.spectrogram
        with torch.no_grad():
            decibels = spectrogram.decibels(night.signals[[epoch]])[0]
        return explanation_figures.draw_image(
            shown.explanation.image[shown.row].cpu().numpy(),
            decibels.cpu().numpy(),
            night.physical(epoch),
            spectrogram.grid(),
            title=shown.title(self.name),
            channels=night.channels,
            unit=night.unit,
        )


def grad_cam(target: EpochTarget, epochs: Tensor, classes: Tensor) -> Explanation:
    """Signed Grad-CAM of F at ``epochs`` (b,) for ``classes`` (b,).

    ``image`` (b, frames, bins) is the map on the spectrogram; ``attributions`` (b, m, t) are its
    means over frequency, spread over the samples and the same for all channels, which the network
    mixes before it looks. It sums to no change of F, so there is no completeness.

    Raises:
        UserError: the network keeps no image.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    alone = EpochTarget(target.model, target.night, target.output)
    try:
        layer = target.model.cam_layer()
    except ValueError as error:
        raise UserError(f"--interpret_methods {NAME}: {error}; use ig or occlusion") from error
    epochs, classes = epochs.to(alone.night.device), classes.to(alone.night.device)
    spectrogram, parts = target.model.spectrogram, []
    with frozen(alone):
        method = LayerGradCam(alone, layer)
        for rows in torch.arange(len(epochs)).split(alone.at_once):
            these = epochs[rows], classes[rows]
            found = method.attribute(alone.night[these[0]], additional_forward_args=these)
            size = (spectrogram.frames, spectrogram.bins)
            parts.append(LayerAttribution.interpolate(found, size, "bilinear")[:, 0].detach())
        with torch.no_grad():
            value = alone(alone.night[epochs], epochs, classes)
            context = alone.context(epochs, classes)
    image = torch.cat(parts)
    course = over_samples(image.mean(dim=2), alone.night.shape[-1], spectrogram)
    nothing = torch.full_like(value, torch.nan)
    maps = course[:, None].expand(-1, alone.night.shape[1], -1).contiguous()
    return Explanation(
        NAME, maps, value, nothing, nothing, context, {"output": target.output}, image=image
    )


def over_samples(course: Tensor, n_samples: int, spectrogram: Any) -> Tensor:
    """A value a frame (b, frames) at the middle of its window, linear in between: (b, t)."""
    hop = round(spectrogram.hop_seconds * spectrogram.fs)
    inner = nn.functional.interpolate(course[:, None], course.shape[1] * hop, mode="linear")
    missing = n_samples - inner.shape[-1]
    return nn.functional.pad(inner, (missing // 2, missing - missing // 2), mode="replicate")[:, 0]
