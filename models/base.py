"""The staging interface: epochs are encoded on their own, then classified in sequence.

Because the two are separate, a night is encoded once and every window of ``num_seq`` epochs slides
over the encodings, in training and in evaluation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from utils.stages import STAGES


@dataclass(frozen=True)
class AttentionMaps:
    """Softmax weights of a model's own layers; all >= 0, the last axis sums to 1.

    ``intra`` (n, l, m, h, 1 + windows): each modality's CLS over itself and its windows.
    ``cross`` (n, l, h, 1 + m): the cross-modal CLS over itself and the modalities.
    ``inter`` (n, h, l, l): epoch over epoch, or ``None`` for a model of single epochs.
    """

    intra: Tensor
    cross: Tensor
    inter: Tensor | None


class SleepModel(nn.Module):
    """Base of all models: what callers may ask of one, absent unless a subclass has it.

    ``stages_nights``: it has ``stage_night``. ``stages_epochs``: it is a :class:`StagingModel`,
    whose epochs can be encoded, and explained, one by one. ``shows_attention``: it has
    ``attention``. ``reads_images``: it has ``cam_layer``. ``placed``: ``forward`` and ``classify``
    take the number of each run's first epoch. ``stateful``: a recurrent state is carried from epoch
    to epoch of a night, and training has to carry it between chunks. ``adapts_to_night``: it is
    scaled by the night that it stages, as :meth:`StagingModel.adapt_to_night` sets.
    ``any_channels``: it reads signals of any number and kind, in any order. ``made_for_hz``: the
    rate that it was made for, which signals are brought to when they are read; ``None``: its layers
    follow any.
    ``reads_bands``: it reads the power of one EEG in bands alone, as ``decibels``. ``spectrogram``:
    what it reads, scaled by statistics of the training nights, or ``None`` for models of signals.
    ``sequence_layer``: the part whose input, (b, l, d), is what the epochs around it have made of
    every epoch; ``None`` where no layer has that.
    ``reads_spectrograms``: it stages from ``spectrograms`` of epochs, whose cells have mean 0 and
    deviation 1 in what they were ``scaled_by``, the training nights or the night that is staged.
    """

    stages_nights: bool = False
    stages_epochs: bool = False
    shows_attention: bool = False
    reads_images: bool = False
    placed: bool = False
    stateful: bool = False
    adapts_to_night: bool = False
    any_channels: bool = False
    made_for_hz: float | None = None
    reads_bands: bool = False
    sequence_layer: str | None = None
    reads_spectrograms: bool = False
    scaled_by: str = "training"

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram: nn.Module | None = None

    @property
    def middle(self) -> int | None:
        """The one epoch of a window that is staged, or ``None`` for all."""
        return None

    def decayed_parameters(self) -> list[Tensor]:
        """Parameters that weight decay applies to; all, unless the paper names some."""
        return list(self.parameters())

    def divided_parts(self) -> list[nn.Module]:
        """Parts whose weights are gathered one by one where processes share the weights out."""
        return []

    def output_layers(self) -> list[nn.Module]:
        """The layers that make logits: one, or one for each position of a window."""
        return [self.head]


class StagingModel(SleepModel, ABC):
    """Interface of models that encode epochs one by one and stage windows of ``num_seq`` epochs."""

    stages_nights = True
    stages_epochs = True
    num_seq: int = 1
    separable: bool = True  # an epoch's encoding does not depend on the window it stands in

    @abstractmethod
    def encode_epochs(self, x: Tensor) -> Tensor:
        """Each 30 s epoch on its own: (n, m, t) -> (n, d)."""

    @abstractmethod
    def classify(self, z: Tensor) -> Tensor:
        """Encodings in sequence: (b, l, d) -> logits (b, l, 5)."""

    def forward(self, x: Tensor, stride: int = 1) -> Tensor:
        """Logits of all windows of runs of epochs: (b, n, m, t) -> (b * windows, l, 5).

        Every epoch is encoded once; all windows of l = min(n, ``num_seq``) epochs, ``stride``
        apart, slide over the encodings. A run of exactly ``num_seq`` epochs is one window.
        """
        encoded = self.encode_epochs(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.classify(windows_of(encoded, self.num_seq, stride))

    def spectrograms(self, x: Tensor) -> Tensor:
        """What the network reads of epochs: (n, c, t) -> (n, c, frames, bins), standardised."""
        return self.spectrogram(x)

    def spectrogram_grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Middles of the frames in s and of the bins in Hz."""
        return self.spectrogram.grid()

    def mean_spectrograms(self, x: Tensor) -> Tensor:
        """Spectrograms of mean 0 in the places of ``x`` (n, c, frames, bins)."""
        return torch.zeros_like(x)

    def encode_spectrogram(self, x: Tensor) -> Tensor:
        """Each epoch from its spectrogram: (n, c, frames, bins) -> (n, d)."""
        raise NotImplementedError

    def stage_spectrograms(self, x: Tensor, **placed: Tensor) -> Tensor:
        """Logits (b, l, 5) of windows of spectrograms (b, l, c, frames, bins)."""
        z = self.encode_spectrogram(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.classify(z, **placed)

    def adapt_to_night(self, x: Tensor, batch_size: int = 256) -> None:
        """Set what depends on the whole night (n, m, t) that is staged next: nothing, usually."""

    @torch.no_grad()
    def stage_night(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """Probabilities of a whole night: (n, m, t) -> (n, 5), averaged over all windows.

        ``batch_size`` bounds memory and does not change the result. A night shorter than a window
        is one shorter window.
        """
        if not len(x):  # recurrent layers refuse sequences of no epochs
            return x.new_zeros(0, len(STAGES))
        self.adapt_to_night(x, batch_size)
        encoded = torch.cat([self.encode_epochs(part) for part in x.split(batch_size)])
        windows = windows_of(encoded[None], self.num_seq)
        logits = torch.cat([self.classify(part) for part in windows.split(batch_size)])
        return average_windows(logits.softmax(dim=-1))


def windows_of(runs: Tensor, length: int, stride: int = 1) -> Tensor:
    """Windows of ``length`` (or the whole run, if shorter): (b, n, …) -> (b * windows, l, …)."""
    windows = runs.unfold(1, min(length, runs.shape[1]), stride)
    return windows.movedim(-1, 2).flatten(0, 1)  # unfold puts the epochs of a window last


def average_windows(probabilities: Tensor) -> Tensor:
    """Mean over all windows that cover an epoch: (windows, l, k), stride 1 -> (windows + l - 1, k).

    Epoch i of n is covered ``min(i + 1, n - i, l, n - l + 1)`` times.
    """
    n_windows, length, n_classes = probabilities.shape
    # number of the epoch behind each row of each window: (windows, l)
    epoch = torch.arange(n_windows)[:, None] + torch.arange(length)
    epoch = epoch.flatten().to(probabilities.device)
    total = probabilities.new_zeros(n_windows + length - 1, n_classes)
    total.index_add_(0, epoch, probabilities.flatten(0, 1))
    return total / torch.bincount(epoch)[:, None]
