"""Grad-CAM on the spectrogram: where in time and frequency an image network has its evidence.

Selvaraju et al. 2017, by Captum's ``LayerGradCam``, for models that read images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from interpret import spectrogram_figures
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
        """Whether the model reads images, so that one of its layers has a map."""
        return model.reads_images

    def compute(self, question: Question) -> Explanation:
        """Explain the question's epochs by :func:`grad_cam`."""
        return grad_cam(question.target, question.epochs, question.classes)

    def draw(self, shown: ShownEpoch) -> Figure:
        """Draw the map over the spectrogram it was made on."""
        night, epoch = shown.night, shown.epoch
        spectrogram = shown.question.model.spectrogram
        with torch.no_grad():
            decibels = spectrogram.decibels(night.signals[[epoch]])[0] / spectrogram.per_decibel
        return spectrogram_figures.draw_image(
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
    mixes in its first layer. It sums to no change of F, so there is no completeness.

    Raises:
        UserError: the network keeps no image.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    # whatever span was asked for: the layer's map is one of single epochs
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
            # signed: without the ReLU of the paper, evidence against the stage is kept
            cam = method.attribute(alone.night[these[0]], additional_forward_args=these)
            # the layer's image has the axes of the spectrogram, and fewer points
            size = (spectrogram.frames, spectrogram.bins)
            parts.append(LayerAttribution.interpolate(cam, size, "bilinear")[:, 0].detach())
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
    """Values of frames (b, frames) at the middles of their windows, linear in between: (b, t)."""
    hop = round(spectrogram.hop_seconds * spectrogram.fs)
    # interpolation puts a value into the middle of its hop, and padding that into the middle of the
    # window, which is longer
    inner = nn.functional.interpolate(course[:, None], course.shape[1] * hop, mode="linear")
    missing = n_samples - inner.shape[-1]
    return nn.functional.pad(inner, (missing // 2, missing - missing // 2), mode="replicate")[:, 0]
