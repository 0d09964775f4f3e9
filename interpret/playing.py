"""Edited epochs played forward: what a model makes of an epoch that changed, all others staying.

The answer is that of staging the whole night with the edited epoch in it, for less work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from interpret.target import EpochTarget
from utils.staged_night import stage_signals

_AT_ONCE = 64  # epochs encoded, or windows classified, together
# epochs on either side that a network of band powers reads again: half an hour, beyond which a
# recurrent network remembers little
_REACH = 60


class Player(ABC):
    """Plays edited epochs of one night forward."""

    @abstractmethod
    def __call__(self, edited: Tensor, epochs: Tensor) -> Tensor:
        """Signals (b, m, t) in place of ``epochs`` (b,) -> their probabilities (b, 5)."""

    @abstractmethod
    def staged(self, night: Tensor, epochs: Tensor) -> Tensor:
        """Probabilities (b, 5) of ``epochs`` of an edited night, by the model's own staging."""

    def votes(self, edited: Tensor, epochs: Tensor) -> Mapping[str, Tensor]:
        """Probabilities (b, 5) of each part of the model, if it has parts."""
        return {}


class WindowPlayer(Player):
    """A model whose encodings of epochs do not depend on others: all windows with the epoch."""

    def __init__(self, model: Any, night: Tensor) -> None:
        self.model, self.target = model, EpochTarget(model, night)

    def __call__(self, edited: Tensor, epochs: Tensor) -> Tensor:
        """Mean over the windows that cover an epoch, as ``stage_night`` takes it."""
        target, model, epochs = self.target, self.model, epochs.to(edited.device)
        encoded, night = model.encode_epochs(edited), target.encoded
        if model.middle is not None:  # one window per epoch
            logits = model.classify(target.put(night, encoded, epochs))
            return logits[:, 0].softmax(dim=-1)
        n, length = len(night), target.length
        # all runs of length epochs with the epoch in them: first epochs and whose they are
        firsts = [range(max(0, k - length + 1), min(k, n - length) + 1) for k in epochs.tolist()]
        first = torch.tensor([k for one in firsts for k in one], device=night.device)
        row = torch.tensor([b for b, one in enumerate(firsts) for _ in one], device=night.device)
        total = torch.zeros(len(epochs), 5, device=night.device)
        for starts, rows in zip(first.split(_AT_ONCE), row.split(_AT_ONCE), strict=True):
            windows = night[starts[:, None] + torch.arange(length, device=night.device)]
            here, place = torch.arange(len(rows)), epochs[rows] - starts
            windows[here, place] = encoded[rows]
            about = {"first": starts} if model.placed else {}
            own = model.classify(windows, **about)[here, place].softmax(dim=-1)
            total.index_add_(0, rows, own.to(total))
        return total / torch.bincount(row)[:, None]

    def staged(self, night: Tensor, epochs: Tensor) -> Tensor:
        """By ``stage_night`` on all windows with an epoch, or on the night where it takes part."""
        if self.model.placed or self.model.adapts_to_night:
            return of_whole_night(self.model, night, self.target.night, epochs)
        reach, rows = self.model.num_seq, []
        for epoch in epochs.tolist():
            first = max(0, epoch - reach)
            part = night[first : epoch + reach + 1]
            rows.append(stage_signals(self.model, part)[epoch - first])
        return torch.stack(rows)


class NightPlayer(Player):
    """Any other model: the epochs within its reach are staged again."""

    def __init__(self, model: Any, night: Tensor) -> None:
        self.model, self.night = model, night

    def __call__(self, edited: Tensor, epochs: Tensor) -> Tensor:
        """Stage two windows on either side; a state from before is that of their first epoch."""
        reach, rows = 2 * self.model.num_seq, []
        for signals, epoch in zip(edited, epochs.tolist(), strict=True):
            first = max(0, epoch - reach)
            part = self.night[first : epoch + reach + 1].clone()
            part[epoch - first] = signals
            rows.append(stage_signals(self.model, part)[epoch - first])
        return torch.stack(rows)

    def staged(self, night: Tensor, epochs: Tensor) -> Tensor:
        """By ``stage_night`` on the whole night."""
        return of_whole_night(self.model, night, self.night, epochs)


class BandsPlayer(Player):
    """A network that reads band powers of the night: measured again in the edited signals."""

    def __init__(self, model: Any, night: Tensor) -> None:
        self.model, self.night, self.db = model, night, model.decibels(night)[:, 0]

    @torch.no_grad()
    def __call__(self, edited: Tensor, epochs: Tensor) -> Tensor:
        """Read half an hour on either side; powers are relative to those of the whole night."""
        n, rows = len(self.db), torch.arange(len(edited))
        length = min(2 * _REACH + 1, n)
        epochs = epochs.to(self.db.device)
        nights = self.db.repeat(len(edited), 1, 1)
        nights[rows, epochs] = self.model.decibels(edited)[:, 0]
        starts = (epochs - _REACH).clamp(0, n - length)
        members = starts[:, None] + torch.arange(length, device=starts.device)
        features = self.model.relative(nights)[rows[:, None], members]
        logits = self.model(features.to(self.model.head.weight))
        return logits[rows, epochs - starts].softmax(dim=-1)

    def staged(self, night: Tensor, epochs: Tensor) -> Tensor:
        """By ``stage_night`` on the whole night."""
        return of_whole_night(self.model, night, self.night, epochs)


class Unplayed(Player):
    """A vote that is kept as it was: probabilities (n, 5) of a model that is not played."""

    def __init__(self, probabilities: Tensor) -> None:
        self.probabilities = probabilities

    def __call__(self, edited: Tensor, epochs: Tensor) -> Tensor:
        """What it gave to the epochs before they were edited."""
        return self.probabilities[epochs.to(self.probabilities.device)]

    def staged(self, night: Tensor, epochs: Tensor) -> Tensor:
        """What it gave to the epochs before the night was edited."""
        return self.probabilities[epochs.to(self.probabilities.device)]


class MeanPlayer(Player):
    """The mean of several models, by name, with a share each; shares sum to 1."""

    def __init__(self, parts: Mapping[str, tuple[Player, float]]) -> None:
        self.parts = parts

    def __call__(self, edited: Tensor, epochs: Tensor) -> Tensor:
        """Mean of the parts' probabilities."""
        return sum(share * player(edited, epochs) for player, share in self.parts.values())

    def staged(self, night: Tensor, epochs: Tensor) -> Tensor:
        """Mean of the parts' probabilities."""
        return sum(share * player.staged(night, epochs) for player, share in self.parts.values())

    def votes(self, edited: Tensor, epochs: Tensor) -> Mapping[str, Tensor]:
        """Probabilities (b, 5) of each part that is played."""
        return {
            name: player(edited, epochs)
            for name, (player, _) in self.parts.items()
            if not isinstance(player, Unplayed)
        }


def player_of(model: Any, night: Tensor) -> Player:
    """The player that suits a model, for the night's signals (n, m, t) as it receives them."""
    if model.reads_bands:
        return BandsPlayer(model, night)
    # a state is carried beyond windows, and other encodings depend on their place in one
    if model.separable and not model.stateful:
        return WindowPlayer(model, night)
    return NightPlayer(model, night)


def mean_player(models: Mapping[str, Any], night: Tensor) -> Player:
    """The player of models that share equally in a mean, by name, or of a single one."""
    players = {name: player_of(model, night) for name, model in models.items()}
    if len(players) == 1:
        return next(iter(players.values()))
    return MeanPlayer({name: (player, 1 / len(players)) for name, player in players.items()})


def of_whole_night(model: Any, night: Tensor, before: Tensor, epochs: Tensor) -> Tensor:
    """Stage an edited night: (b, 5); then the model is adapted to the night ``before`` again."""
    probabilities = stage_signals(model, night)
    if model.stages_epochs:
        model.adapt_to_night(before)
    return probabilities[epochs.to(probabilities.device)]
