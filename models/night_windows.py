"""Epochs staged from windows of their night, as if nothing beyond a window had been recorded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from models.foundation import Foundation
from models.role_layers import ReadPatches

# logits (w, longest, 5) of windows from epoch starts (w,) up to stops (w,) of a night
Windows = Callable[[Tensor, Tensor], Tensor]
_TOKENS_AT_ONCE = 65_536  # 32 MB of width 128


class NightWindows:
    """One night of a model in evaluation mode: windows of it are staged as nights of their own.

    What each patch gives by itself is computed once. Everything that mixes epochs, or knows where
    in the night they are, is computed anew in every window: positions begin at 0, layers and head
    see the window alone. Signals are scaled as they come, by their night.

    Args:
        model: in evaluation mode.
        x: signals of the night (n, c, t).
        by_night: log spectra keep the night's mean taken off, else each window's own, as where
            training reads pieces of nights.
    """

    @torch.no_grad()
    def __init__(self, model: Foundation, x: Tensor, *, by_night: bool) -> None:
        self._model = model
        patches, valid = model.encoder.patches(rearrange(x, "n c t -> 1 c (n t)"))
        self._read, self._valid = model.encoder.read(patches), valid[0]
        self._middle = model.encoder.middle(self._read, valid) if by_night else None

    @torch.no_grad()
    def __call__(self, starts: Tensor, stops: Tensor) -> Tensor:
        """Logits (w, longest, 5) of windows from epoch ``starts`` (w,) up to ``stops`` (w,).

        After a window's own end they stand for nothing.
        """
        longest = int((stops - starts).max())
        n_tokens = longest * self._model.encoder.patches_per_epoch * len(self._valid)
        at_once = max(1, _TOKENS_AT_ONCE // n_tokens)
        parts = zip(starts.split(at_once), stops.split(at_once), strict=True)
        return torch.cat([self._staged(*part, longest) for part in parts])

    def _staged(self, starts: Tensor, stops: Tensor, longest: int) -> Tensor:
        encoder = self._model.encoder
        per = encoder.patches_per_epoch
        place = torch.arange(longest * per, device=self._valid.device)
        at = starts.to(place)[:, None] * per + place  # (w, q): patches of the night
        inside = at < stops.to(place)[:, None] * per
        at = at.clamp_max(self._valid.shape[1] - 1)
        valid = rearrange(self._valid[:, at], "c w q -> w c q") & inside[:, None]
        read = ReadPatches(*(None if part is None else _gathered(part, at) for part in self._read))
        middle = encoder.middle(read, valid) if self._middle is None else self._middle
        encoded, _ = encoder.body(encoder.joined(read, middle), valid)
        return self._model.head(encoded.tokens, encoded.valid, 1 if encoder.merge else per)


def _gathered(part: Tensor, at: Tensor) -> Tensor:
    """Patches ``at`` (w, q) of a night's (1, c, p, d): (w, c, q, d)."""
    return rearrange(part[0][:, at], "c w q d -> w c q d")


def staged(windows: Windows, n: int, reach: int) -> np.ndarray:
    """Stages (n,) of a night's epochs, each by the window of ``reach`` epochs to either side.

    Windows end where the night does; what several epochs share is staged once.
    """
    epochs = np.arange(n)
    spans = np.stack([(epochs - reach).clip(0), (epochs + reach + 1).clip(max=n)], axis=1)
    distinct, of = np.unique(spans, axis=0, return_inverse=True)
    of = of.reshape(-1)
    starts, stops = torch.from_numpy(distinct.astype(np.int64)).T
    chosen = windows(starts, stops).argmax(dim=-1).cpu().numpy()  # (w, longest)
    return chosen[of, epochs - distinct[of, 0]]
