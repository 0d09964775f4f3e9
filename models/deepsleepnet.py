"""DeepSleepNet: two convolutional branches, an LSTM stack each way, and a shortcut.

Supratak et al., DeepSleepNet: a model for automatic sleep stage scoring based on raw single-channel
EEG, IEEE TNSRE 2017.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from models.base import StagingModel
from models.batch_norm import BatchNorm
from models.convolutions import SamePool, conv_block
from models.dropout import Dropout
from models.recurrent import PeepholeLSTM
from utils.stages import STAGES

_NORM = {"eps": 1e-5, "momentum": 1e-3}  # a decay of 0.999 in TensorFlow
_HIDDEN = 512


class DeepSleepNet(StagingModel):
    """Stages every epoch of a window of ``num_seq``.

    The forward and the backward stack are separate and meet only at the end, unlike in a two-layer
    bidirectional ``nn.LSTM``, whose second layer sees both directions.

    Args:
        n_channels, fs, n_samples: of an epoch.
        num_seq: epochs of a window.
        cells: "peephole" as published, "lstm" for ``nn.LSTM``.
        context: False is the network of the first stage of training: each epoch on its own.
        dropout: after pools, features and each LSTM.
    """

    sequence_layer = "head"

    def __init__(
        self,
        *,
        n_channels: int = 1,
        fs: float = 100.0,
        n_samples: int = 3000,
        num_seq: int = 25,
        cells: Literal["peephole", "lstm"] = "peephole",
        context: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if cells not in ("peephole", "lstm"):
            raise ValueError(f"cells {cells!r}: peephole or lstm")
        self.num_seq = num_seq
        # (kernel, stride): half a second shows when something happens, four seconds at which rhythm
        small, large = (int(fs / 2), int(fs / 16)), (int(4 * fs), int(fs / 2))
        self.small = _branch(n_channels, small, 8, 8, 4, dropout)
        self.large = _branch(n_channels, large, 4, 6, 2, dropout)
        self.features = Dropout(dropout)
        with torch.no_grad():
            epoch = torch.zeros(1, n_channels, n_samples)
            # eval: an epoch of zeros must not enter batch norm's statistics
            width = sum(branch.eval()(epoch).shape[1] for branch in (self.small, self.large))
        self.train()
        self.context = context
        if not context:
            self.head = nn.Linear(width, len(STAGES))
            return
        # without bias, which the batch norm after it would take off
        self.shortcut = nn.Linear(width, 2 * _HIDDEN, bias=False)
        self.shortcut_norm = BatchNorm(2 * _HIDDEN, **_NORM)
        self.forwards, self.backwards = (_Stack(width, cells, dropout) for _ in range(2))
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(2 * _HIDDEN, len(STAGES))

    def encode_epochs(self, x: Tensor) -> Tensor:
        """Encode epochs: (n, c, t) -> (n, 3072) at 100 Hz."""
        return self.features(torch.cat([self.small(x), self.large(x)], dim=1))

    def classify(self, z: Tensor) -> Tensor:
        """Classify encodings in sequence: (b, l, d) -> logits (b, l, 5)."""
        if not self.context:
            return self.head(z)
        direct = self.shortcut_norm(self.shortcut(z)).relu()
        both = torch.cat([self.forwards(z), self.backwards(z.flip(1)).flip(1)], dim=-1)
        return self.head(self.dropout(direct + both))

    def decayed_parameters(self) -> list[Tensor]:
        """The weight that L2 regularisation is for: the first kernel of the small branch."""
        return [next(m.weight for m in self.small.modules() if isinstance(m, nn.Conv1d))]


class _Stack(nn.Module):
    """Two LSTMs of one direction, dropout after each."""

    def __init__(self, width: int, cells: str, dropout: float) -> None:
        super().__init__()
        kind = PeepholeLSTM if cells == "peephole" else _PlainLSTM
        self.layers = nn.ModuleList([kind(width, _HIDDEN), kind(_HIDDEN, _HIDDEN)])
        self.dropout = Dropout(dropout)

    def forward(self, z: Tensor) -> Tensor:
        for layer in self.layers:
            z = self.dropout(layer(z)[0])
        return z


class _PlainLSTM(nn.LSTM):
    """``nn.LSTM`` with the batch first."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden, batch_first=True)


def _branch(
    n_channels: int, first: tuple[int, int], pool: int, kernel: int, last: int, dropout: float
) -> nn.Sequential:
    widths = (64, 128, 128, 128)
    return nn.Sequential(
        conv_block((n_channels, 64), *first, **_NORM),
        SamePool(pool),
        Dropout(dropout),
        *(conv_block(pair, kernel, **_NORM) for pair in pairwise(widths)),
        SamePool(last),
        nn.Flatten(),
    )
