"""Chambon2018: two temporal convolutions per epoch, a linear layer over its neighbours.

Chambon et al., A deep learning architecture for temporal sleep stage classification using
multivariate and multimodal time series, IEEE TNSRE 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.base import StagingModel, windows_of
from models.batch_norm import ChannelBatchNorm
from models.dropout import Dropout
from utils.stages import STAGES

_MAPS, _INITIAL_SD = 8, 0.1


class Chambon2018(StagingModel):
    """Stages the middle epoch, ``(num_seq - 1) // 2``, of a window.

    At the ends of a night the edge epoch stands in for the neighbours that are missing.

    Args:
        n_channels: signals of an epoch; more than one are mixed by a linear layer first.
        fs: samples per second; kernels are half a second, pools an eighth.
        n_samples: samples of an epoch.
        num_seq: epochs of a window; odd numbers have a middle.
        dropout: of an epoch's features, where it is staged alone.
        context_dropout: of the features of a window of several epochs.
        batch_norm: after each convolution; published code leaves it out.
    """

    def __init__(
        self,
        *,
        n_channels: int = 1,
        fs: float = 100.0,
        n_samples: int = 3000,
        num_seq: int = 3,
        dropout: float = 0.25,
        context_dropout: float = 0.5,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if num_seq < 1:
            raise ValueError(f"num_seq {num_seq}: a window has at least one epoch")
        self.num_seq, self.n_channels = num_seq, n_channels
        kernel, pool = int(fs / 2), int(fs / 8 + 0.5)  # 13 at 100 Hz, 16 at 128 Hz
        self.spatial = nn.Linear(n_channels, n_channels) if n_channels > 1 else nn.Identity()
        self.layers = nn.Sequential(
            *_block(1, kernel, pool, batch_norm), *_block(_MAPS, kernel, pool, batch_norm)
        )
        with torch.no_grad():
            # measured: padding and pools round
            steps = self.layers(torch.zeros(1, 1, n_samples)).shape[-1]
        self.dropout = Dropout(dropout if num_seq == 1 else context_dropout)
        self.head = nn.Linear(num_seq * _MAPS * n_channels * steps, len(STAGES))
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                nn.init.normal_(module.weight, std=_INITIAL_SD)
                nn.init.zeros_(module.bias)

    def encode_epochs(self, x: Tensor) -> Tensor:
        """Encode epochs: (n, c, t) -> features (n, maps * c * steps), in that order."""
        mixed = self.spatial(x.transpose(1, 2)).transpose(1, 2)
        # every channel on its own, by the same kernels
        maps = self.layers(mixed.reshape(-1, 1, x.shape[-1]))
        return maps.unflatten(0, (len(x), self.n_channels)).transpose(1, 2).flatten(1)

    def classify(self, z: Tensor) -> Tensor:
        """Logits (b, 1, 5) of the middle of windows (b, l, d); shorter ones are padded."""
        missing = self.num_seq - z.shape[1]
        if missing > 0:
            before = missing // 2
            z = torch.cat(
                [z[:, :1].expand(-1, before, -1), z, z[:, -1:].expand(-1, missing - before, -1)], 1
            )
        return self.head(self.dropout(z).flatten(1))[:, None]

    @property
    def middle(self) -> int:
        """Position of the epoch that a window stages."""
        return (self.num_seq - 1) // 2

    @torch.no_grad()
    def stage_night(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """Probabilities (n, 5): every epoch in the middle of its own window, encoded once."""
        if not len(x):
            return x.new_zeros(0, len(STAGES))
        encoded = torch.cat([self.encode_epochs(part) for part in x.split(batch_size)])
        after = self.num_seq - 1 - self.middle
        padded = torch.cat(
            [encoded[:1].expand(self.middle, -1), encoded, encoded[-1:].expand(after, -1)]
        )
        windows = windows_of(padded[None], self.num_seq)
        logits = torch.cat([self.classify(part) for part in windows.split(batch_size)])
        return logits[:, 0].softmax(dim=-1)


def _block(maps: int, kernel: int, pool: int, batch_norm: bool) -> list[nn.Module]:
    norm = [ChannelBatchNorm(_MAPS)] if batch_norm else []
    return [
        nn.Conv1d(maps, _MAPS, kernel, padding=kernel // 2),
        *norm,
        nn.ReLU(),
        nn.MaxPool1d(pool),
    ]
