"""What is explained: one output of a staging model, as a function of one epoch in its context."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from interpret.baselines import baselines_of
from utils.staged_night import stage_signals

Output = Literal["logit", "prob", "logodds"]


class EpochTarget(nn.Module):
    """F(x): the output for a class at an epoch, its neighbours staying as they are.

    Each epoch i of a night is seen in the window that has it in the middle (shifted at the ends of
    the night). The neighbours are encoded once; what varies is the epoch itself, so a night of n
    epochs and k steps costs n k encodings, not as many for every epoch of a window.

    Args:
        model: a staging model with ``encode_epochs``, ``classify`` and ``num_seq``; others are
            called by ``forward`` on whole windows.
        night: signals (n, m, t) as the model receives them.
        output: logit of the class, its probability, or its log odds against all others.
    """

    at_once = 64  # epochs explained together

    def __init__(self, model: Any, night: Tensor, output: Output = "logit") -> None:
        super().__init__()
        self.model, self.night, self.output = model, night, output
        model.adapt_to_night(night)
        self.length = min(model.num_seq, len(night))
        self.starts = (torch.arange(len(night)) - self.length // 2).clamp(
            0, len(night) - self.length
        )
        self.positions = torch.arange(len(night)) - self.starts
        # such a model stages one epoch of a window alone: near the ends of a night windows reach
        # beyond it, as in its own stage_night
        if model.middle is not None:
            self.starts = torch.arange(len(night)) - model.middle
            self.positions = torch.full((len(night),), model.middle)
            self.length = model.num_seq
        self.encoded = None
        # otherwise an encoding depends on the position in the window, and none can be reused
        if model.separable:
            with torch.no_grad():
                self.encoded = torch.cat([model.encode_epochs(part) for part in night.split(256)])

    def forward(self, x: Tensor, epochs: Tensor, classes: Tensor) -> Tensor:
        """Signals (b, m, t) in place of ``epochs`` (b,), for ``classes`` (b,) -> F (b,)."""
        epochs, classes = epochs.to(x.device), classes.to(x.device)
        if self.encoded is None:
            windows = self.put(self.night, x, epochs)
            return self.read(self.model(windows), epochs, classes)
        windows = self.put(self.encoded, self.model.encode_epochs(x), epochs)
        return self.read(self.model.classify(windows, **self.placed(epochs)), epochs, classes)

    def context(self, epochs: Tensor, classes: Tensor) -> Tensor:
        """What each epoch of the window adds to F: (b, l).

        F minus F with that epoch replaced by the recording's mean, a flat line.
        """
        epochs, classes = epochs.to(self.night.device), classes.to(self.night.device)
        flat = torch.zeros_like(self.night[:1])
        night, nothing = self.night, flat
        if self.encoded is not None:
            night, nothing = self.encoded, self.model.encode_epochs(flat)
        windows = night[self.members(epochs)]
        effects = []
        # one position at a time: all at once would hold length copies of every window
        for position in [None, *range(self.length)]:
            changed = windows.clone()
            if position is not None:
                changed[:, position] = nothing
            if self.encoded is None:
                logits = self.model(changed)
            else:
                logits = self.model.classify(changed, **self.placed(epochs))
            effects.append(self.read(logits, epochs, classes))
        return effects[0][:, None] - torch.stack(effects[1:], dim=1)

    def placed(self, epochs: Tensor) -> dict[str, Tensor]:
        """First epochs of the windows around ``epochs``, for models that know places in a night."""
        if not self.model.placed:
            return {}
        return {"first": self.starts[epochs.cpu()].to(self.night.device)}

    def read(self, logits: Tensor, epochs: Tensor, classes: Tensor) -> Tensor:
        """The output explained, from logits (b, l, 5) of the windows around ``epochs``: (b,)."""
        rows = torch.arange(len(logits), device=logits.device)
        if logits.shape[1] == 1:  # the model stages the middle epoch alone
            logits = logits[:, 0]
        else:
            logits = logits[rows, self.positions[epochs.cpu()].to(logits.device)]
        if self.output == "prob":
            return logits.softmax(dim=-1)[rows, classes]
        chosen = logits[rows, classes]
        if self.output == "logit":
            return chosen
        # log p - log(1 - p) from logits: as a difference of probabilities, 1 - p would round to 0
        return chosen - logits.scatter(1, classes[:, None], -torch.inf).logsumexp(dim=-1)

    def put(self, night: Tensor, own: Tensor, epochs: Tensor) -> Tensor:
        """Windows (b, l, …) of ``night`` around ``epochs``, ``own`` (b, …) in their places."""
        windows = night[self.members(epochs)]
        # a mask, not one position: at the end of a night the edge epoch fills several
        here = self.members(epochs) == epochs[:, None]
        return torch.where(here.view(*here.shape, *[1] * (own.dim() - 1)), own[:, None], windows)

    def members(self, epochs: Tensor) -> Tensor:
        """Epochs of the windows around ``epochs``: (b, l); the edge epoch where a night ends."""
        starts = self.starts[epochs.cpu()]
        members = (starts[:, None] + torch.arange(self.length)).clamp(0, len(self.night) - 1)
        return members.to(self.night.device)

    def inputs(self, epochs: Tensor) -> Tensor:
        """What is attributed to: the signals (b, m, t) of ``epochs`` (b,)."""
        return self.night[epochs]

    def own(self, maps: Tensor, epochs: Tensor) -> Tensor:
        """The part (b, m, t) of attributions that belongs to ``epochs`` themselves."""
        return maps

    def baseline(self, epochs: Tensor, kind: str, seed: int = 0) -> Tensor:
        """Baselines in the shape of :meth:`inputs`; see ``interpret.baselines``."""
        about = {}
        if kind in ("wake", "same_stage"):
            # the epoch that the model itself is surest to be Wake; no expert is needed
            staged = stage_signals(self.model, self.night)
            about = {"wake": int(staged[:, 0].argmax()), "stages": staged.argmax(dim=1)}
        return baselines_of(self.night, epochs, kind, seed=seed, **about)


class WindowTarget(EpochTarget):
    """F of a whole window: attributions reach every epoch the model sees, (b, l, m, t)."""

    at_once = 8  # fewer than single epochs: each one is a whole window in memory

    def forward(self, x: Tensor, epochs: Tensor, classes: Tensor) -> Tensor:
        """Windows (b, l, m, t) around ``epochs`` (b,), for ``classes`` (b,) -> F (b,)."""
        # no encoding is reused: every epoch of the window varies
        logits = self.model(x, **self.placed(epochs))
        return self.read(logits, epochs.to(x.device), classes.to(x.device))

    def inputs(self, epochs: Tensor) -> Tensor:
        """Windows (b, l, m, t) around ``epochs`` (b,)."""
        return self.night[self.members(epochs)]

    def own(self, maps: Tensor, epochs: Tensor) -> Tensor:
        """The part of the windows' maps that belongs to ``epochs`` themselves, (b, m, t)."""
        rows = torch.arange(len(maps), device=maps.device)
        return maps[rows, self.positions[epochs.cpu()].to(maps.device)]

    def baseline(self, epochs: Tensor, kind: str, seed: int = 0) -> Tensor:
        """Baselines of every epoch of the windows, (b, l, m, t)."""
        return super().baseline(self.members(epochs), kind, seed)
