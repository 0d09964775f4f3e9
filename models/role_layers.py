"""Parts of the foundation model: tokenisers by role, and layers that ignore masked tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.attention import attend
from models.dropout import Dropout

_BINS = 40
_FLOOR = 1e-4
_SMALLEST_SD = 0.3  # of a log power: bins that hold nothing but the floor must not be blown up
_LARGEST = 10.0
_TOKENS_AT_ONCE = 4096  # where nothing is kept for a gradient


class Encoded(NamedTuple):
    """Tokens (b, c, q, d) and which of them hold a recording, (b, c, q)."""

    tokens: Tensor
    valid: Tensor


class ReadPatches(NamedTuple):
    """Patches by themselves: as samples (b, c, p, d) and as log powers (b, c, p, k), or None."""

    samples: Tensor | None
    log_powers: Tensor | None


class RoleLinear(nn.Module):
    """A linear layer of its own for every role: (b, c, …, i) -> (b, c, …, o)."""

    def __init__(self, n_roles: int, n_in: int, n_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(n_roles, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_roles, n_out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Each channel by its own weights."""
        flat = rearrange(x, "b c p i -> c (b p) i")
        out = torch.baddbmm(self.bias[:, None], flat, self.weight)
        return rearrange(out, "c (b p) o -> b c p o", b=len(x))


class LogSpectrum(nn.Module):
    """Log power of a patch in bins that widen with frequency, standardised by role and bin.

    Each night's own mean is taken off, so that what is left is what changes over the night and not
    whose night it is; deviations are of the training nights (:meth:`fit`).
    """

    def __init__(self, n_roles: int, n_samples: int) -> None:
        super().__init__()
        # from 1: the constant part is left out; unique: the lowest edges round to the same number
        edges = torch.logspace(0, math.log10(n_samples // 2 + 1), _BINS + 1).round().unique().long()
        pooled = torch.zeros(n_samples // 2 + 1, len(edges) - 1)
        for k, (low, high) in enumerate(pairwise(edges.tolist())):
            pooled[low:high, k] = 1 / (high - low)
        self.n_bins = len(edges) - 1
        self.register_buffer("window", torch.hann_window(n_samples), persistent=False)
        self.register_buffer("pooled", pooled, persistent=False)
        self.register_buffer("sd", torch.ones(n_roles, 1, self.n_bins))

    def raw(self, patches: Tensor) -> Tensor:
        """Log power in bins, not standardised: (b, c, p, s) -> (b, c, p, k)."""
        # in float32: FFTs take no bfloat16, and float16 only on GPUs and in powers of two
        with torch.autocast(patches.device.type, enabled=False):
            spectrum = torch.fft.rfft(patches.float() * self.window, norm="ortho")
            power = torch.view_as_real(spectrum).square_().sum(dim=-1)
            return (power @ self.pooled + _FLOOR).log()

    def forward(self, patches: Tensor, valid: Tensor) -> Tensor:
        """Standardised spectra (b, c, p, k), within ten deviations, of patches (b, c, p, s)."""
        log_power = self.raw(patches)
        return self.standardised(log_power, self.middle(log_power, valid))

    def standardised(self, log_power: Tensor, middle: Tensor) -> Tensor:
        """Log powers (b, c, p, k) less ``middle`` (b, c, 1, k), in deviations, at most ten."""
        return ((log_power - middle) / self.sd).clamp(-_LARGEST, _LARGEST)

    def middle(self, log_power: Tensor, valid: Tensor) -> Tensor:
        """Mean (b, c, 1, k) of a night's log powers (b, c, p, k) over what is valid (b, c, p)."""
        present = valid[..., None]
        count = present.sum(dim=2, keepdim=True).clamp_min(1)
        return (log_power * present).sum(dim=2, keepdim=True) / count

    @torch.no_grad()
    def fit(self, nights) -> None:
        """Set the deviations from nights' patches (b, c, p, s) and which are valid (b, c, p)."""
        count, square = 0.0, 0.0
        for patches, valid in nights:
            # in doubles, which not every GPU has
            log_power = self.raw(patches)
            centred = (log_power - self.middle(log_power, valid)) * valid[..., None]
            centred = centred.cpu().double()
            count = count + valid.sum(dim=(0, 2)).cpu().double()[:, None, None]
            square = square + (centred**2).sum(dim=(0, 2))[:, None]
        variance = torch.where(count > 0, square / count.clamp_min(1), 1.0)
        self.sd.copy_(variance.sqrt().clamp_min(_SMALLEST_SD))


class Attention(nn.Module):
    """Multi-head attention over the last axis but one, in rows; masked tokens are never seen."""

    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.dropout = Dropout(dropout)
        self.scale = nn.Parameter(torch.ones(()))  # of the scores; the published model learns it

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Attend: (r, i, d), valid (r, i) -> (r, i, d); rows without a valid token give zeros."""
        # a softmax over nothing is NaN, so such rows stay out of it
        rows = valid.any(dim=1)
        if not bool(rows.all()):
            out = torch.zeros_like(x)
            if bool(rows.any()):
                out[rows] = self.forward(x[rows], valid[rows]).to(out.dtype)
            return out
        q, k, v = self._projected(x)
        # the fastest kernels take no mask
        mask = None if bool(valid.all()) else valid[:, None, None, :]
        mixed = attend(q, k, v, attn_mask=mask)
        return self.dropout(self.out(rearrange(mixed, "r h i d -> r i (h d)")))

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (r, h, i, d); the scale goes into the queries' weights."""
        d = x.shape[-1]
        weight, bias = (
            torch.cat([part[:d] * self.scale, part[d:]])
            for part in (self.qkv.weight, self.qkv.bias)
        )
        return rearrange(
            F.linear(x, weight, bias), "r i (three h d) -> three r h i d", three=3, h=self.n_heads
        )

    def weights(self, x: Tensor, valid: Tensor, queries: Tensor) -> Tensor:
        """Softmax weights of chosen queries, mean over heads: x (r, i, d), (k,) -> (r, k, i)."""
        q, k, _ = self._projected(x)
        scores = q[:, :, queries] @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        scores = scores.masked_fill(~valid[:, None, None, :], -torch.inf)
        return scores.softmax(dim=-1).nan_to_num(0.0).mean(dim=1)


class Layer(nn.Module):
    """Pre-norm layer on tokens (b, c, p, d): over time within a channel, then across channels."""

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        dim_feedforward: int,
        dropout: float,
        *,
        mixing: bool,
        window: int = 0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.window, self.recompute = window, recompute
        self.norm_time, self.norm_ff = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.time = Attention(d_model, n_heads, dropout)
        self.across = Attention(d_model, n_heads, dropout) if mixing else None
        self.norm_across = nn.LayerNorm(d_model) if mixing else None
        self.ff = nn.Sequential(
            nn.Linear(d_model, dim_feedforward),
            nn.GELU(),
            nn.Linear(dim_feedforward, d_model),
            Dropout(dropout),
        )

    def forward(self, h: Tensor, valid: Tensor) -> Tensor:
        """Update tokens: (b, c, p, d), valid (b, c, p) -> (b, c, p, d)."""
        b, c, p, _ = h.shape
        rows = rearrange(h, "b c (w p) d -> (b c w) p d", p=self.window or p)
        present = rearrange(valid, "b c (w p) -> (b c w) p", p=self.window or p)
        rows = _in_parts(self._over_time, rows, present)
        h = rearrange(rows, "(b c w) p d -> b c (w p) d", b=b, c=c)
        if self.across is not None:
            rows = rearrange(h, "b c p d -> (b p) c d")
            rows = _in_parts(self._over_roles, rows, rearrange(valid, "b c p -> (b p) c"))
            h = rearrange(rows, "(b p) c d -> b c p d", b=b)
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self._fed_forward, h, use_reentrant=False)
        # a row of one for each token, which is all that this part reads
        return _in_parts(self._fed_forward, h.flatten(0, 2)[:, None]).view_as(h)

    def _over_time(self, rows: Tensor, present: Tensor) -> Tensor:
        return rows + self.time(self.norm_time(rows), present)

    def _over_roles(self, rows: Tensor, present: Tensor) -> Tensor:
        return rows + self.across(self.norm_across(rows), present)

    def _fed_forward(self, h: Tensor) -> Tensor:
        return h + self.ff(self.norm_ff(h))


def _in_parts(work: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """Apply ``work`` to rows (r, i, …), without gradients few at a time to save memory."""
    if torch.is_grad_enabled():
        return work(*rows)
    at_once = max(1, _TOKENS_AT_ONCE // rows[0].shape[1])
    parts = zip(*(row.split(at_once) for row in rows), strict=True)
    return torch.cat([work(*part) for part in parts])
