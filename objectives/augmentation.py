"""Random changes of training signals, as torchvision transforms of whole batches on their device.

After the augmentations of PhysioEx and of Dreem's SimpleSleepNet. A batch is (b, …, c, t): runs of
consecutive epochs, or single ones. Every run draws for itself, by its own key: a transform is given
the batch and :class:`~objectives.draws.Draws`, and returns both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from objectives.draws import Draws
from objectives.objective import Objective
from utils.collectives import gathered
from utils.stages import EPOCH_SECONDS, NIGHT_RANGE

_RESPONSE_HZ = (0.3, 1.0, 3.0, 8.0, 16.0, 30.0, 50.0)
_CONTRAST_HZ = (0.5, 1.0, 2.0, 4.0, 7.0, 10.0, 13.0, 18.0, 26.0, 40.0)
_MOST_DB = 15.0  # that contrast changes any frequency by


class OnSome(v2.Transform):
    """Changes each run with probability ``p``; the others pass as they are."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor, draws: Draws | None = None) -> Any:
        """Change runs (b, …, c, t) -> the same shape; returned with ``draws`` where given any."""
        drawn = Draws.anew(x) if draws is None else draws
        changed = torch.where(self.chosen(x, drawn), self.change(x, self.draw(x, drawn)), x)
        return changed if draws is None else (changed, draws)

    def chosen(self, x: Tensor, draws: Draws) -> Tensor:
        """Draw which runs are changed, (b, 1, …)."""
        return draws.uniform(*_of_runs(x)) < self.p

    def draw(self, x: Tensor, draws: Draws) -> Any:
        """Draw what :meth:`change` needs beside the signals, for all runs."""

    def change(self, x: Tensor, how: Any) -> Tensor:
        """Change all runs; :meth:`forward` keeps the result of the chosen ones."""
        raise NotImplementedError


class Amplitude(OnSome):
    """Scales every channel of a run by its own gain, between 1 / ``most`` and ``most``."""

    def __init__(self, p: float = 0.5, most: float = 1.5) -> None:
        super().__init__(p)
        self.most = most

    def draw(self, x: Tensor, draws: Draws) -> Tensor:
        return self.most ** (2 * draws.uniform(*_of_channels(x)) - 1)

    def change(self, x: Tensor, how: Tensor) -> Tensor:
        return x * how


class Shift(OnSome):
    """A run moved in time by up to ``share`` of an epoch; what leaves one end enters the other."""

    def __init__(self, p: float = 0.5, share: float = 0.1) -> None:
        super().__init__(p)
        self.share = share

    def draw(self, x: Tensor, draws: Draws) -> Tensor:
        reach = int(self.share * x.shape[-1])
        return draws.integers(-reach, reach + 1)

    def change(self, x: Tensor, how: Tensor) -> Tensor:
        runs = x.movedim(-2, 1)  # (b, c, …, t): consecutive epochs become one signal
        flat = runs.flatten(2)
        index = (torch.arange(flat.shape[-1], device=x.device) - how[:, None]) % flat.shape[-1]
        moved = flat.gather(2, index[:, None].expand_as(flat))
        return moved.view(runs.shape).movedim(1, -2)


class BandStop(OnSome):
    """Frequencies of a band ``width`` Hz wide removed, anywhere from ``lowest`` to ``highest``."""

    def __init__(
        self, p: float = 0.5, width: float = 3.0, lowest: float = 0.5, highest: float = 40.0
    ) -> None:
        super().__init__(p)
        self.width, self.lowest, self.highest = width, lowest, highest

    def draw(self, x: Tensor, draws: Draws) -> Tensor:
        # the band stays below Nyquist, half of the samples per second
        reach = min(self.highest, x.shape[-1] / EPOCH_SECONDS / 2) - self.width - self.lowest
        return self.lowest + reach * draws.uniform(*_of_runs(x))

    def change(self, x: Tensor, how: Tensor) -> Tensor:
        hertz = torch.arange(x.shape[-1] // 2 + 1, device=x.device) / EPOCH_SECONDS
        kept = (hertz < how) | (hertz >= how + self.width)
        return torch.fft.irfft(torch.fft.rfft(x) * kept, n=x.shape[-1])


class Mask(OnSome):
    """Up to ``share`` of every epoch set to 0, in all its channels."""

    def __init__(self, p: float = 0.5, share: float = 0.2) -> None:
        super().__init__(p)
        self.share = share

    def draw(self, x: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        shape = (*x.shape[1:-2], 1, 1)
        width = self.share * draws.uniform(*shape)
        return width, (1 - width) * draws.uniform(*shape)

    def change(self, x: Tensor, how: tuple[Tensor, Tensor]) -> Tensor:
        width, start = how
        place = torch.arange(x.shape[-1], device=x.device) / x.shape[-1]
        return x * ~((place >= start) & (place < start + width))


class Noise(OnSome):
    """White noise added, up to ``share`` of each channel's own deviation in the epoch."""

    def __init__(self, p: float = 0.5, share: float = 0.3) -> None:
        super().__init__(p)
        self.share = share

    def draw(self, x: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        return self.share * draws.uniform(*_of_channels(x)), draws.normal(*x.shape[1:])

    def change(self, x: Tensor, how: tuple[Tensor, Tensor]) -> Tensor:
        share, noise = how
        return x + share * x.std(dim=-1, keepdim=True) * noise


class Channels(OnSome):
    """Every channel of a run set to 0 with probability ``p``, but for one that is drawn to stay."""

    def chosen(self, x: Tensor, draws: Draws) -> Tensor:
        """Choose all runs: here ``p`` is the probability of each channel."""
        return torch.ones(1, dtype=torch.bool, device=x.device)

    def draw(self, x: Tensor, draws: Draws) -> Tensor:
        drawn = draws.uniform(*_of_channels(x))
        # the channel with the largest number stays whatever ``p``
        return (drawn >= self.p) | (drawn == drawn.amax(dim=-2, keepdim=True))

    def change(self, x: Tensor, how: Tensor) -> Tensor:
        return x * how


class Response(OnSome):
    """Filters every channel of a run by its own smooth frequency response.

    Gains with deviation ``db`` at seven frequencies from 0.3 to 50 Hz, between them by linear
    interpolation over log frequency.
    """

    def __init__(self, p: float = 0.5, db: float = 3.0) -> None:
        super().__init__(p)
        self.db = db

    def draw(self, x: Tensor, draws: Draws) -> Tensor:
        shape = (*_of_channels(x)[:-1], len(_RESPONSE_HZ))
        return self.db * draws.normal(*shape) @ _between(_RESPONSE_HZ, x)

    def change(self, x: Tensor, how: Tensor) -> Tensor:
        # n: an inverse transform would otherwise make odd lengths even
        return torch.fft.irfft(torch.fft.rfft(x) * 10 ** (how / 20), n=x.shape[-1])


class Contrast(OnSome):
    """Makes the epochs of a run more alike, or less, in what they differ from a middle epoch.

    Decibels about the middle of the batch's range are multiplied by a factor between ``least`` and
    ``most`` at ten frequencies, between them by linear interpolation over log frequency. Meant for
    nights that were spectrally equalised, all of which have that middle.
    """

    def __init__(self, p: float = 0.5, least: float = 0.5, most: float = 1.05) -> None:
        super().__init__(p)
        self.least, self.most = least, most

    def draw(self, x: Tensor, draws: Draws) -> Tensor:
        return self.least + (self.most - self.least) * draws.uniform(*_of_channels(x))

    def change(self, x: Tensor, how: Tensor) -> Tensor:
        knots = _between(_CONTRAST_HZ, x)
        spectrum = torch.fft.rfft(x)
        power = spectrum.real.square() + spectrum.imag.square()
        # below the first knot lies what filters leave of 0 Hz
        lowest = round(_CONTRAST_HZ[0] * EPOCH_SECONDS)
        inside = torch.arange(x.shape[-1] // 2 + 1, device=x.device) >= lowest
        level = (power * inside) @ knots.T / (knots * inside).sum(dim=1)
        decibels = 10 * level.clamp_min(1e-12).log10()
        ends = decibels.new_tensor(NIGHT_RANGE)
        # (epochs of all processes, c * knots), so that the range is that of the whole batch
        epochs, _ = gathered(decibels.flatten(0, -3).flatten(1))
        middle = epochs.quantile(ends, dim=0).mean(dim=0).view(decibels.shape[-2:])
        gain = ((how - 1) * (decibels - middle)).clamp(-_MOST_DB, _MOST_DB) @ knots
        return torch.fft.irfft(spectrum * 10 ** (gain / 20), n=x.shape[-1])


def _between(knots: Sequence[float], x: Tensor) -> Tensor:
    """Weights (k, bins) of values at ``knots`` Hz at each bin of the spectrum of x (…, t).

    Linear over log frequency between two knots, constant beyond both ends.
    """
    at = torch.tensor(knots, device=x.device).log2()
    hertz = torch.arange(x.shape[-1] // 2 + 1, device=x.device) / EPOCH_SECONDS
    # just below the last knot, so that one is left on its right
    place = hertz.clamp(knots[0], knots[-1] - 1e-3).log2()
    right = torch.searchsorted(at, place, right=True)
    share = (place - at[right - 1]) / (at[right] - at[right - 1])
    unit = torch.eye(len(knots), device=x.device)
    return unit[:, right - 1] * (1 - share) + unit[:, right] * share


AUGMENTATIONS: dict[str, Callable[..., v2.Transform]] = {
    "amplitude": Amplitude,
    "shift": Shift,
    "bandstop": BandStop,
    "mask": Mask,
    "noise": Noise,
    "channels": Channels,
    "response": Response,
    "contrast": Contrast,
}


def clipping(most: float) -> v2.Transform:
    """The transform that clips signals at ``most`` on both sides."""
    return v2.Lambda(partial(torch.clamp, min=-most, max=most), Tensor)


def composed(names: Sequence[str], p: float) -> v2.Transform:
    """The named transforms one after the other, each with probability ``p``.

    Raises:
        KeyError: an unknown name.
    """
    return v2.Compose([AUGMENTATIONS[name](p) for name in names])


class Augmented(Objective):
    """An objective that sees every batch through a transform."""

    def __init__(self, objective: Any, transform: Callable[..., Any]) -> None:
        self.objective, self.transform = objective, transform

    def __call__(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective's loss and logs on changed ``batch.signals`` (b, l, c, t)."""
        draws = Draws(batch.keys, "augmentation", batch.signals.device)
        changed, _ = self.transform(batch.signals, draws)
        return self.objective(model, replace(batch, signals=changed))

    def attach(self, net: nn.Module, device: torch.device) -> list[nn.Parameter]:
        """Attach the wrapped objective; its weights, for the optimiser."""
        return self.objective.attach(net, device)

    def state_dict(self) -> dict[str, Any]:
        """State of the wrapped objective."""
        return self.objective.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume the wrapped objective from :meth:`state_dict`."""
        self.objective.load_state_dict(state)


def _of_runs(x: Tensor) -> tuple[int, ...]:
    """Shape of one number for each of ``x`` (b, …, c, t): (1, …)."""
    return (1,) * (x.dim() - 1)


def _of_channels(x: Tensor) -> tuple[int, ...]:
    """Shape of one number per channel for each of ``x`` (b, …, c, t): (1, …, c, 1)."""
    return (*[1] * (x.dim() - 3), x.shape[-2], 1)
