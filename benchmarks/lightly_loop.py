"""The usual loop of lightly-ssl with our encoder and views, run where lightly is installed.

``benchmarks.pretraining --lightly`` starts this file by the interpreter of an environment that has
lightly and borrows our packages. It reads the name of an encoder per line and answers with the
processor's seconds of a pass that was warmed up, JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.transforms.multi_view_transform import MultiViewTransform
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parents[1]))

import models
from benchmarks.pretraining import BATCH, TEMPERATURE, epochs_of
from objectives.contrast_views import views_of


class Epochs(Dataset):
    """Epochs without labels, changed by what lightly sets as ``transform``."""

    def __init__(self, signals: Tensor) -> None:
        self.signals, self.transform = signals, None

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        return self.transform(self.signals[index]), 0


def of_one(views: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A change of batches as one of a single epoch (c, t)."""
    return lambda epoch: views(epoch[None])[0]


def one_pass(
    net: nn.Module, optimiser: torch.optim.Optimizer, loader: Iterable, criterion: nn.Module
) -> None:
    """A pass as lightly's examples have it."""
    for (first, second), _, _ in loader:
        loss = criterion(net(first)[0], net(second)[0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def seconds_of(encoder: str) -> float:
    """Processor's seconds of the second pass."""
    torch.manual_seed(0)
    views = of_one(views_of("benchmark"))
    data = LightlyDataset.from_torch_dataset(
        Epochs(epochs_of()), transform=MultiViewTransform([views, views])
    )
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)
    net = models.build("pretraining", encoder=encoder, decoder=False)
    optimiser, criterion = torch.optim.Adam(net.parameters(), lr=1e-4), NTXentLoss(TEMPERATURE)
    one_pass(net, optimiser, loader, criterion)
    started = time.process_time()
    one_pass(net, optimiser, loader, criterion)
    return time.process_time() - started


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(seconds_of(line.strip())), flush=True)
