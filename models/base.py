"""The staging interface: epochs are encoded on their own, then classified in sequence.

Because the two are separate, a night is encoded once and every window of ``num_seq`` epochs slides
over the encodings, in training and in evaluation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


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


class StagingModel(nn.Module, ABC):
    """What training, evaluation and explanation call; ``num_seq`` epochs make a window."""

    num_seq: int = 1

    @abstractmethod
    def encode_epochs(self, x: Tensor) -> Tensor:
        """Each 30 s epoch on its own: (n, m, t) -> (n, d)."""

    @abstractmethod
    def classify(self, z: Tensor) -> Tensor:
        """Encodings in sequence: (b, l, d) -> logits (b, l, 5)."""

    def forward(self, x: Tensor) -> Tensor:
        """(b, l, m, t) -> logits (b, l, 5)."""
        encoded = self.encode_epochs(x.flatten(0, 1))
        return self.classify(encoded.unflatten(0, x.shape[:2]))

    @torch.no_grad()
    def stage_night(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """Probabilities of a whole night: (n, m, t) -> (n, 5), averaged over all windows.

        ``batch_size`` bounds memory and does not change the result. A night shorter than a window
        is one shorter window.
        """
        encoded = torch.cat([self.encode_epochs(part) for part in x.split(batch_size)])
        windows = encoded.unfold(0, min(self.num_seq, len(x)), 1).transpose(1, 2)
        logits = torch.cat([self.classify(part) for part in windows.split(batch_size)])
        return average_windows(logits.softmax(dim=-1))


def average_windows(probabilities: Tensor) -> Tensor:
    """Mean over all windows that cover an epoch: (windows, l, k), stride 1 -> (windows + l - 1, k).

    Epoch i of n is covered ``min(i + 1, n - i, l, n - l + 1)`` times.
    """
    n_windows, length, n_classes = probabilities.shape
    epoch = torch.arange(n_windows)[:, None] + torch.arange(length)
    epoch = epoch.flatten().to(probabilities.device)
    total = probabilities.new_zeros(n_windows + length - 1, n_classes)
    total.index_add_(0, epoch, probabilities.flatten(0, 1))
    return total / torch.bincount(epoch)[:, None]
