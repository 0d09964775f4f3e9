"""Which samples of an epoch are hidden: patches, samples, or blocks of one to three seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from objectives.draws import Draws
from utils.stages import EPOCH_SECONDS

MASKINGS = ("block", "patch", "fixed_proportion_random", "probabilistic_random")
BLOCK_SECONDS = (1.0, 3.0)  # shortest and longest block


@dataclass(frozen=True)
class Masks:
    """Masks of one kind.

    ``block``: runs of patches, one to three seconds long, with something visible between two of
    them, so that what is hidden cannot be filled in from what is beside it. ``patch``: single
    patches; ``fixed_proportion_random`` a fixed number of samples, ``probabilistic_random`` each
    sample with a probability. ``ratio`` is the share that is hidden, ``patch`` its samples.

    Raises:
        ValueError: an unknown kind, or a ratio that hides nothing or all.
    """

    kind: str = "patch"
    ratio: float = 0.5
    patch: int = 50

    def __post_init__(self) -> None:
        if self.kind not in MASKINGS:
            raise ValueError(f"masking {self.kind!r}: there are {', '.join(MASKINGS)}")
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio {self.ratio:g}: a share between 0 and 1 is hidden")

    @property
    def of_patches(self) -> bool:
        """Whether whole patches are hidden, equally many in every epoch."""
        return self.kind in ("block", "patch")

    def draw(self, n_samples: int, draws: Draws) -> Tensor:
        """Which samples are hidden: (n, t) bool."""
        if self.kind == "probabilistic_random":
            return draws.uniform(n_samples) < self.ratio
        width = self.patch if self.of_patches else 1
        count = n_samples // width
        if self.kind == "block":
            hidden = self._blocks(count, *self.blocks(n_samples), draws)
        else:
            # a random order, so that exactly the same number is hidden in every epoch
            hidden = draws.uniform(count).argsort(dim=1) < round(self.ratio * count)
        return hidden.repeat_interleave(width, dim=1)

    def blocks(self, n_samples: int) -> tuple[int, int, int]:
        """Blocks of an epoch, and patches of the shortest and of the longest one.

        Raises:
            ValueError: no such blocks hide the ratio.
        """
        count, per_second = n_samples // self.patch, n_samples / EPOCH_SECONDS / self.patch
        low, high = BLOCK_SECONDS
        shortest, longest = math.ceil(low * per_second), math.floor(high * per_second)
        hidden = round(self.ratio * count)
        if hidden and shortest <= longest:
            fewest = math.ceil(hidden / longest)
            most = min(hidden // shortest, count - hidden + 1)
            # of middling length, but not so many that what is visible only keeps them apart
            n = max(fewest, min(round(2 * hidden / (shortest + longest)), (fewest + most) // 2))
            if n <= most:
                return n, shortest, longest
        raise ValueError(
            f"blocks of {low:g} to {high:g} s, in patches of {self.patch} samples, cannot hide "
            f"{self.ratio:g} of an epoch of {n_samples} samples"
        )

    def _blocks(self, count: int, n: int, shortest: int, longest: int, draws: Draws) -> Tensor:
        """Which patches are hidden (b, count): blocks of random lengths at random places."""
        hidden = round(self.ratio * count)
        # patches beyond the shortest length, drawn from the places that each block has for them
        places = n * (longest - shortest)
        longer = draws.uniform(places).argsort(dim=1).argsort(dim=1) < hidden - n * shortest
        lengths = shortest + longer.unflatten(1, (n, longest - shortest)).sum(dim=2)
        # visible patches beyond one between two blocks: bars among them part them into n + 1 gaps
        loose = count - hidden - (n - 1)
        bars = draws.uniform(loose + n).argsort(dim=1)[:, :n].sort(dim=1).values
        # before block k: loose patches before its bar, a patch and a block for each bar before it
        starts = bars + lengths.cumsum(dim=1) - lengths
        patch = torch.arange(count, device=bars.device)
        inside = (patch >= starts[..., None]) & (patch < (starts + lengths)[..., None])
        return inside.any(dim=1)
