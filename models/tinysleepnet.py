"""TinySleepNet: four convolutions per epoch, an LSTM over the whole night.

Supratak & Guo, TinySleepNet: an efficient deep learning model for sleep stage scoring based on raw
single-channel EEG, EMBC 2020.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.base import StagingModel
from models.convolutions import SamePool, conv_block
from models.dropout import Dropout
from models.recurrent import PeepholeLSTM, State
from utils.stages import STAGES

_NORM = {"eps": 1e-3, "momentum": 0.01}  # TensorFlow's defaults: 0.99 of the former mean stays


class TinySleepNet(StagingModel):
    """Stages every epoch from all that came before it in the night.

    The input is µV as recorded, neither filtered nor scaled.

    Args:
        n_channels: signals of an epoch; 1 as published.
        fs: samples per second; the first kernel is half a second, its stride a sixteenth.
        n_samples: samples of an epoch.
        num_seq: consecutive epochs of a training chunk.
        cells: "peephole" as published, "lstm" for ``nn.LSTM``.
        dropout: after the pools and the LSTM.
    """

    stateful = True
    sequence_layer = "head"

    def __init__(
        self,
        *,
        n_channels: int = 1,
        fs: float = 100.0,
        n_samples: int = 3000,
        num_seq: int = 20,
        cells: Literal["peephole", "lstm"] = "peephole",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.num_seq = num_seq
        self.cnn = nn.Sequential(
            conv_block((n_channels, 128), int(fs / 2), int(fs / 16), **_NORM),
            SamePool(8),
            Dropout(dropout),
            *(conv_block((128, 128), 8, **_NORM) for _ in range(3)),
            SamePool(4),
            nn.Flatten(),
            Dropout(dropout),
        )
        with torch.no_grad():
            # eval: an epoch of zeros must not enter batch norm's statistics
            width = self.cnn.eval()(torch.zeros(1, n_channels, n_samples)).shape[1]
        self.cnn.train()
        if cells == "peephole":
            self.rnn = PeepholeLSTM(width, 128)
        elif cells == "lstm":
            self.rnn = nn.LSTM(width, 128, batch_first=True)
        else:
            raise ValueError(f"cells {cells!r}: peephole or lstm")
        self.cells = cells
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(128, len(STAGES))

    def forward(
        self, x: Tensor, stride: int = 1, *, state: State | None = None, carry: bool = False
    ) -> Any:
        """Logits (b, n, 5) of chunks (b, n, c, t), one window each whatever ``stride``.

        With ``carry`` they follow ``state`` (``None``: 0), and the state after them comes too.
        """
        encoded = self.encode_epochs(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.continued(encoded, state) if carry else self.classify(encoded)

    def encode_epochs(self, x: Tensor) -> Tensor:
        """Encode epochs: (n, c, t) in µV -> (n, 2048) at 100 Hz."""
        return self.cnn(x)

    def classify(self, z: Tensor) -> Tensor:
        """Logits (b, l, 5) of encodings (b, l, d) in sequence, from a state of 0."""
        return self.continued(z, None)[0]

    def continued(self, z: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Logits (b, l, 5) of encodings (b, l, d) that follow a state, and the state after."""
        # nn.LSTM has an axis of layers in its state
        if self.cells == "lstm" and state is not None:
            state = tuple(part[None] if part.dim() == 2 else part for part in state)
        hidden, state = self.rnn(z, state)
        return self.head(self.dropout(hidden)), state

    @torch.no_grad()
    def stage_night(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """Probabilities (n, 5) of a whole night, its state carried from the first epoch on."""
        if not len(x):
            return x.new_zeros(0, len(STAGES))
        parts, state = [], None
        for part in x.split(batch_size):
            logits, state = self.continued(self.encode_epochs(part)[None], state)
            parts.append(logits[0].softmax(dim=-1))
        return torch.cat(parts)

    def decayed_parameters(self) -> list[Tensor]:
        """The weights that L2 regularisation is for: the four convolution kernels."""
        return [m.weight for m in self.cnn.modules() if isinstance(m, nn.Conv1d)]
