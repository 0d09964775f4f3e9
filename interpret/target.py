"""What is explained: one output of a staging model, as a function of one epoch in its context."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from interpret.baselines import AUTO, OF_SIGNALS, Deviations, baselines_of
from interpret.spectrogram_maps import spread_frames
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
        encoded: encodings (n, d) of the night's epochs, where they are known already.
    """

    at_once = 64  # epochs explained together
    spans_window = False
    deviates_from = "the night"  # whose mean and deviation a baseline's distance is measured by
    grid: tuple[np.ndarray, np.ndarray] | None = None  # frames in s, bins in Hz of what varies

    def __init__(
        self,
        model: Any,
        night: Tensor,
        output: Output = "logit",
        *,
        encoded: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model, self.night, self.output = model, night, output
        model.adapt_to_night(night)
        self.given = self.of_signals(night)
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
        self.encoded = encoded
        # otherwise an encoding depends on the position in the window, and none can be reused
        if model.separable and encoded is None:
            with torch.no_grad():
                self.encoded = torch.cat([self.encode(part) for part in self.given.split(256)])

    def of_signals(self, x: Tensor) -> Tensor:
        """What F is a function of, for signals (n, m, t): the signals."""
        return x

    def encode(self, x: Tensor) -> Tensor:
        """Encodings (n, d) of what F is a function of."""
        return self.model.encode_epochs(x)

    def stage(self, windows: Tensor, epochs: Tensor) -> Tensor:
        """Logits (b, l, 5) of windows (b, l, …) of it, those around ``epochs``."""
        return self.model(windows, **self.placed(epochs))

    def over_time(self, maps: Tensor) -> Tensor:
        """Maps of what F is a function of (…, m, t), by sample."""
        return maps

    def forward(self, x: Tensor, epochs: Tensor, classes: Tensor) -> Tensor:
        """Signals (b, m, t) in place of ``epochs`` (b,), for ``classes`` (b,) -> F (b,)."""
        return self.output_of(self.logits(x, epochs), classes)

    def logits(self, x: Tensor, epochs: Tensor) -> Tensor:
        """Logits (b, 5) of ``epochs`` (b,) with ``x`` (b, m, t) in their place."""
        epochs = epochs.to(x.device)
        if self.encoded is None:
            return self.own_logits(self.stage(self.put(self.given, x, epochs), epochs), epochs)
        windows = self.put(self.encoded, self.encode(x), epochs)
        return self.own_logits(self.model.classify(windows, **self.placed(epochs)), epochs)

    def context(self, epochs: Tensor, classes: Tensor) -> Tensor:
        """What each epoch of the window adds to F: (b, l).

        F minus F with that epoch replaced: by the recording's mean, a flat line, or by the mean
        spectrogram where the model reads spectrograms, which a flat line is far from.
        """
        epochs, classes = epochs.to(self.night.device), classes.to(self.night.device)
        night, nothing = self.given, torch.zeros_like(self.given[:1])
        if self.encoded is not None:
            night, nothing = self.encoded, self.nothing()
        windows = night[self.members(epochs)]
        effects = []
        # one position at a time: all at once would hold length copies of every window
        for position in [None, *range(self.length)]:
            changed = windows.clone()
            if position is not None:
                changed[:, position] = nothing
            if self.encoded is None:
                logits = self.stage(changed, epochs)
            else:
                logits = self.model.classify(changed, **self.placed(epochs))
            effects.append(self.output_of(self.own_logits(logits, epochs), classes))
        return effects[0][:, None] - torch.stack(effects[1:], dim=1)

    def nothing(self) -> Tensor:
        """The encoding (1, d) that stands for an epoch left out."""
        if self.model.reads_spectrograms:
            x = self.model.spectrograms(self.night[:1])
            return self.model.encode_spectrogram(torch.zeros_like(x))
        return self.model.encode_epochs(torch.zeros_like(self.night[:1]))

    def placed(self, epochs: Tensor) -> dict[str, Tensor]:
        """First epochs of the windows around ``epochs``, for models that know places in a night."""
        if not self.model.placed:
            return {}
        return {"first": self.starts[epochs.cpu()].to(self.night.device)}

    def own_logits(self, logits: Tensor, epochs: Tensor) -> Tensor:
        """Those (b, 5) of ``epochs`` among the logits (b, l, 5) of the windows around them."""
        if logits.shape[1] == 1:  # the model stages the middle epoch alone
            return logits[:, 0]
        rows = torch.arange(len(logits), device=logits.device)
        return logits[rows, self.positions[epochs.cpu()].to(logits.device)]

    def output_of(self, logits: Tensor, classes: Tensor) -> Tensor:
        """The output explained (b,), for ``classes`` (b,), from logits (b, 5)."""
        rows, classes = torch.arange(len(logits), device=logits.device), classes.to(logits.device)
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

    def rows(self, epochs: Tensor) -> Tensor:
        """Numbers of the epochs that vary where ``epochs`` (b,) are explained: these alone."""
        return epochs

    def inputs(self, epochs: Tensor) -> Tensor:
        """What is attributed to: the signals (b, m, t) of ``epochs`` (b,)."""
        return self.given[self.rows(epochs)]

    def own(self, maps: Tensor, epochs: Tensor) -> Tensor:
        """The part (b, m, t) of attributions that belongs to ``epochs`` themselves."""
        return maps

    @cached_property
    def probabilities(self) -> Tensor:
        """What the model makes of the night as it is, (n, 5)."""
        return stage_signals(self.model, self.night)

    def baseline_kind(self, kind: str) -> str:
        """The baseline that ``auto`` stands for: zero, the recording's mean after scaling.

        To samples of a model that reads spectrograms, an epoch of another stage: a flat line has
        a spectrogram that no night has.
        """
        if kind != AUTO:
            return kind
        return "other_stage" if self.model.reads_spectrograms else "zero"

    def baseline(self, epochs: Tensor, kind: str, seed: int = 0) -> Tensor:
        """Baselines in the shape of :meth:`inputs`; see ``interpret.baselines``."""
        kind, rows = self.baseline_kind(kind), self.rows(epochs)
        return baselines_of(self.given, rows, kind, seed=seed, staged=lambda: self.probabilities)

    def distance(self, x: Tensor, epochs: Tensor) -> Tensor:
        """Distances (b,) of the epochs in ``x`` (b, m, t) from the night's mean, in deviations.

        Root mean square over channels and bands of log power, so that a flat line is far away.
        """
        return self._deviations.distance(self.own(x, epochs))

    @cached_property
    def _deviations(self) -> Deviations:
        return Deviations(self.night)

    @cached_property
    def on_spectrogram(self) -> EpochTarget:
        """The same F as a function of what a model that reads spectrograms makes of signals."""
        kind = WindowSpectrogramTarget if self.spans_window else SpectrogramTarget
        target = kind(self.model, self.night, self.output, encoded=self.encoded)
        target.at_once = self.at_once
        return target


class WindowTarget(EpochTarget):
    """F of a whole window: attributions reach every epoch the model sees, (b, l, m, t)."""

    at_once = 8  # fewer than single epochs: each one is a whole window in memory
    spans_window = True

    def logits(self, x: Tensor, epochs: Tensor) -> Tensor:
        """Logits (b, 5) of ``epochs`` (b,) in windows ``x`` (b, l, m, t) around them."""
        # no encoding is reused: every epoch of the window varies
        return self.own_logits(self.stage(x, epochs), epochs.to(x.device))

    def rows(self, epochs: Tensor) -> Tensor:
        """Numbers (b, l) of all epochs of the windows around ``epochs`` (b,)."""
        return self.members(epochs)

    def own(self, maps: Tensor, epochs: Tensor) -> Tensor:
        """The part of the windows' maps that belongs to ``epochs`` themselves, (b, m, t)."""
        rows = torch.arange(len(maps), device=maps.device)
        return maps[rows, self.positions[epochs.cpu()].to(maps.device)]


class SpectrogramTarget(EpochTarget):
    """F of a standardised spectrogram (b, m, frames, bins), for models that read such.

    In samples the path from a baseline would be bent by the logarithm: nearly all of it lies where
    the signal is a ten thousandth of its size.
    """

    def of_signals(self, x: Tensor) -> Tensor:
        """Standardised spectrograms (n, m, frames, bins) of signals (n, m, t)."""
        with torch.no_grad():
            return torch.cat([self.model.spectrograms(part) for part in x.split(256)])

    def encode(self, x: Tensor) -> Tensor:
        """Encodings (n, d) of spectrograms."""
        return self.model.encode_spectrogram(x)

    def stage(self, windows: Tensor, epochs: Tensor) -> Tensor:
        """Logits (b, l, 5) of windows (b, l, m, frames, bins) around ``epochs`` (b,)."""
        return self.model.stage_spectrograms(windows, **self.placed(epochs))

    def over_time(self, maps: Tensor) -> Tensor:
        """Sums over bins of maps (…, m, frames, bins), spread over the samples: (…, m, t)."""
        return spread_frames(maps.sum(dim=-1), self.grid[0], self.night.shape[-1])

    @property
    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Middles of the frames in s and of the bins in Hz."""
        return self.model.spectrogram_grid()

    @property
    def deviates_from(self) -> str:
        """What spectrograms are standardised by, and distances of baselines measured in."""
        return {"training": "the training nights", "night": "the night"}[self.model.scaled_by]

    def baseline_kind(self, kind: str) -> str:
        """The baseline that ``auto`` stands for: the mean of what spectrograms are scaled by."""
        return "training_mean" if kind == AUTO else kind

    def baseline(self, epochs: Tensor, kind: str, seed: int = 0) -> Tensor:
        """Baselines in the shape of :meth:`inputs`; those made of signals are brought here."""
        kind, rows = self.baseline_kind(kind), self.rows(epochs)
        if kind == "training_mean":
            x = self.given[rows]
            return self.model.mean_spectrograms(x.flatten(0, -4)).reshape(x.shape)
        if kind in OF_SIGNALS or kind.startswith("without_"):
            x = baselines_of(self.night, rows, kind)
            return self.of_signals(x.flatten(0, -3)).unflatten(0, rows.shape)
        return baselines_of(self.given, rows, kind, seed=seed, staged=lambda: self.probabilities)

    def distance(self, x: Tensor, epochs: Tensor) -> Tensor:
        """Distances (b,) of the epochs in ``x`` from the mean: root mean square over cells."""
        return self.own(x, epochs).flatten(1).square().mean(dim=1).sqrt()


class WindowSpectrogramTarget(SpectrogramTarget, WindowTarget):
    """F of the spectrograms of a whole window, (b, l, m, frames, bins)."""
