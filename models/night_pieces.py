"""Nights cut for training: layers and head see pieces of them alone, spectra the whole night."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import pad


def logits_of_pieces(
    encoder: Any, head: nn.Module, x: Tensor, length: int, before: Tensor
) -> Tensor:
    """Logits (b, n, 5) of nights (b, n, c, t), each epoch by what its piece of the night holds.

    Pieces are of ``length`` epochs; the first begins ``before`` (b,) epochs before its night, fewer
    than its length. As in :class:`~models.night_windows.NightWindows` with ``by_night``, positions
    begin anew in every piece and log spectra keep the night's mean taken off.
    """
    n, per = x.shape[1], encoder.patches_per_epoch
    patches, valid = encoder.patches(rearrange(x, "b n c t -> b c (n t)"))
    tokens = encoder.tokens(patches, valid)
    total = -(-(n + length - 1) // length) * length  # epochs that hold the night wherever it is cut
    ends = [(first * per, (total - first - n) * per) for first in before.tolist()]
    tokens = torch.stack([pad(t, (0, 0, *two)) for t, two in zip(tokens, ends, strict=True)])
    valid = torch.stack([pad(v, two) for v, two in zip(valid, ends, strict=True)])
    q = length * per
    tokens = rearrange(tokens, "b c (m q) d -> (b m) c q d", q=q)
    valid = rearrange(valid, "b c (m q) -> (b m) c q", q=q)
    encoded, _ = encoder.body(tokens, valid)
    logits = head(encoded.tokens, encoded.valid, 1 if encoder.merge else per)
    logits = rearrange(logits, "(b m) l s -> b (m l) s", b=len(x))
    return torch.stack(
        [one[first : first + n] for one, first in zip(logits, before.tolist(), strict=True)]
    )
