"""Full-night transformer over any subset of channels, after PFTSleep (SLEEP 2025, zsaf061).

Signals are (b, c, t), one channel a role, standardised; NaN is what nobody recorded: padding, gaps,
absent roles. Whatever is NaN is masked everywhere, so it changes nothing for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.probing_heads import build_head, by_epoch, masked_mean
from utils.stages import EPOCH_SECONDS, STAGES

ROLES = ("ECG", "EOG", "EMG", "EEG", "SPO2", "THOR", "ABDO")
# what the published model is: sizes, no mixing of channels, positions learned for 8 h
PUBLISHED = {
    "fs": 125.0, "d_model": 512, "n_heads": 4, "dim_feedforward": 2048, "local_layers": 0,
    "layers": 3, "merge": False, "mixing": "none", "positions": "learned", "tokeniser": "linear",
    "affine": True,
}  # fmt: skip
_LARGEST = 10.0  # standard deviations; beyond it is artefact
_BINS = 40
_FLOOR = 1e-4
_LEARNED_POSITIONS = 4800  # of 6 s: 8 h
_TOKENS_AT_ONCE = 4096  # where nothing is kept for a gradient


class Encoded(NamedTuple):
    """Tokens (b, c, q, d) and which of them hold a recording, (b, c, q)."""

    tokens: Tensor
    valid: Tensor


class Reconstruction(NamedTuple):
    """What was there and what the model makes of it: samples (b, c, p, s), spectra (b, c, p, k)."""

    samples: Tensor
    spectra: Tensor | None
    true_samples: Tensor
    true_spectra: Tensor | None
    valid: Tensor


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

    Statistics are of the training nights (:meth:`fit`).
    """

    def __init__(self, n_roles: int, n_samples: int) -> None:
        super().__init__()
        edges = torch.logspace(0, math.log10(n_samples // 2 + 1), _BINS + 1).round().unique().long()
        pooled = torch.zeros(n_samples // 2 + 1, len(edges) - 1)
        for k, (low, high) in enumerate(pairwise(edges.tolist())):
            pooled[low:high, k] = 1 / (high - low)
        self.n_bins = len(edges) - 1
        self.register_buffer("window", torch.hann_window(n_samples), persistent=False)
        self.register_buffer("pooled", pooled, persistent=False)
        self.register_buffer("mean", torch.zeros(n_roles, 1, self.n_bins))
        self.register_buffer("sd", torch.ones(n_roles, 1, self.n_bins))

    def raw(self, patches: Tensor) -> Tensor:
        """(b, c, p, s) -> log power (b, c, p, k)."""
        with torch.autocast(patches.device.type, enabled=False):
            spectrum = torch.fft.rfft(patches.float() * self.window, norm="ortho")
            power = torch.view_as_real(spectrum).square_().sum(dim=-1)
            return (power @ self.pooled + _FLOOR).log()

    def forward(self, patches: Tensor) -> Tensor:
        """Standardised log power (b, c, p, k)."""
        return (self.raw(patches) - self.mean) / self.sd

    @torch.no_grad()
    def fit(self, nights) -> None:
        """Set the statistics from patches (b, c, p, s) with their valid ones (b, c, p)."""
        count, total, square = 0.0, 0.0, 0.0
        for patches, valid in nights:
            found = self.raw(patches).double() * valid[..., None]
            count = count + valid.sum(dim=(0, 2)).double()[:, None, None]
            total = total + found.sum(dim=(0, 2))[:, None]
            square = square + (found**2).sum(dim=(0, 2))[:, None]
        seen = count > 0
        mean = torch.where(seen, total / count.clamp_min(1), 0.0)
        variance = torch.where(seen, square / count.clamp_min(1) - mean**2, 1.0)
        self.mean.copy_(mean)
        self.sd.copy_(variance.clamp_min(1e-4).sqrt())


class Attention(nn.Module):
    """Multi-head attention over the last axis but one, in rows; masked tokens are never seen."""

    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.ones(()))  # of the scores; the published model learns it

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(r, i, d), valid (r, i) -> (r, i, d); rows of nothing but masked tokens give zeros."""
        rows = valid.any(dim=1)
        if not bool(rows.all()):
            out = torch.zeros_like(x)
            if bool(rows.any()):
                out[rows] = self.forward(x[rows], valid[rows]).to(out.dtype)
            return out
        q, k, v = self._projected(x)
        mask = None if bool(valid.all()) else valid[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
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
        """Rows of the softmax on demand: x (r, i, d), token numbers (k,) -> (r, k, i)."""
        q, k, _ = self._projected(x)
        scores = q[:, :, queries] @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        scores = scores.masked_fill(~valid[:, None, None, :], -torch.inf)
        return scores.softmax(dim=-1).nan_to_num(0.0).mean(dim=1)


class Layer(nn.Module):
    """Pre-norm layer on tokens (b, c, p, d): over time within a channel, then across channels."""

    def __init__(
        self, d_model: int, n_heads: int, dim_feedforward: int, dropout: float, *, mixing: bool,
        window: int = 0, recompute: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.window, self.recompute = window, recompute
        self.norm_time, self.norm_ff = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.time = Attention(d_model, n_heads, dropout)
        self.across = Attention(d_model, n_heads, dropout) if mixing else None
        self.norm_across = nn.LayerNorm(d_model) if mixing else None
        self.ff = nn.Sequential(
            nn.Linear(d_model, dim_feedforward), nn.GELU(),
            nn.Linear(dim_feedforward, d_model), nn.Dropout(dropout),
        )  # fmt: skip

    def forward(self, h: Tensor, valid: Tensor) -> Tensor:
        """(b, c, p, d), valid (b, c, p) -> (b, c, p, d)."""
        b, c, p, _ = h.shape
        rows = rearrange(h, "b c (w p) d -> (b c w) p d", p=self.window or p)
        there = rearrange(valid, "b c (w p) -> (b c w) p", p=self.window or p)
        rows = _in_parts(self._over_time, rows, there)
        h = rearrange(rows, "(b c w) p d -> b c (w p) d", b=b, c=c)
        if self.across is not None:
            rows = rearrange(h, "b c p d -> (b p) c d")
            rows = _in_parts(self._over_roles, rows, rearrange(valid, "b c p -> (b p) c"))
            h = rearrange(rows, "(b p) c d -> b c p d", b=b)
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self._fed_forward, h, use_reentrant=False)
        return _in_parts(self._fed_forward, h.flatten(0, 2)[:, None]).view_as(h)

    def _over_time(self, rows: Tensor, there: Tensor) -> Tensor:
        return rows + self.time(self.norm_time(rows), there)

    def _over_roles(self, rows: Tensor, there: Tensor) -> Tensor:
        return rows + self.across(self.norm_across(rows), there)

    def _fed_forward(self, h: Tensor) -> Tensor:
        return h + self.ff(self.norm_ff(h))


def _in_parts(work: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """``work`` on rows (r, i, …), so many at a time that memory stays small without gradients."""
    if torch.is_grad_enabled():
        return work(*rows)
    at_once = max(1, _TOKENS_AT_ONCE // rows[0].shape[1])
    parts = zip(*(row.split(at_once) for row in rows), strict=True)
    return torch.cat([work(*part) for part in parts])


class FoundationEncoder(nn.Module):
    """Patches of 6 s of every role, local layers within an epoch, global ones over the night.

    Args:
        roles: names of the channels, in the order of the signals.
        fs: rate of all channels in Hz.
        patch_seconds: length of a patch; must divide 30 s.
        local_layers: layers whose attention stays within an epoch.
        layers: layers over the whole night.
        merge: one token an epoch and role for the global layers, else one a patch.
        mixing: "roles" lets channels see each other, "none" keeps them apart as published.
        positions: "sinusoidal", or "learned" for 8 h (the last one holds on after it).
        tokeniser: "linear" on the samples, "spectrum" on the log spectrum, or "both".
        affine: a gain and an offset for every role, as published.
        recompute: activations computed again for the gradient, to save memory: of the
            "feedforward" parts, of whole "layers", or of nothing, "none".

    Raises:
        ValueError: a patch that does not divide an epoch into whole samples.
    """

    def __init__(
        self, *, roles: Sequence[str] = ROLES, fs: float = 125.0, patch_seconds: float = 6.0,
        d_model: int = 128, n_heads: int = 4, dim_feedforward: int = 512, local_layers: int = 2,
        layers: int = 4, merge: bool = True, mixing: Literal["roles", "none"] = "roles",
        positions: Literal["sinusoidal", "learned"] = "sinusoidal",
        tokeniser: Literal["linear", "spectrum", "both"] = "both", affine: bool = False,
        dropout: float = 0.1,
        recompute: Literal["none", "feedforward", "layers"] = "feedforward",
    ) -> None:  # fmt: skip
        super().__init__()
        self.roles, self.d_model, self.merge = tuple(roles), d_model, merge
        self.n_samples = round(patch_seconds * fs)
        self.an_epoch = round(EPOCH_SECONDS / patch_seconds)
        if abs(self.an_epoch * self.n_samples - EPOCH_SECONDS * fs) > 1e-6:
            raise ValueError(f"patches of {patch_seconds:g} s at {fs:g} Hz do not fill 30 s")
        n = len(self.roles)
        self.gain = nn.Parameter(torch.ones(n, 1)) if affine else None
        self.offset = nn.Parameter(torch.zeros(n, 1)) if affine else None
        self.linear = RoleLinear(n, self.n_samples, d_model) if tokeniser != "spectrum" else None
        self.spectrum = LogSpectrum(n, self.n_samples) if tokeniser != "linear" else None
        bins = self.spectrum.n_bins if self.spectrum else 0
        self.of_spectrum = RoleLinear(n, bins, d_model) if self.spectrum else None
        learned = torch.empty(_LEARNED_POSITIONS, d_model).normal_(0, 0.02)
        self.positions = nn.Parameter(learned) if positions == "learned" else None
        shape, mix = (d_model, n_heads, dim_feedforward, dropout), mixing == "roles"
        again = recompute == "feedforward"
        self.local = nn.ModuleList(
            Layer(*shape, mixing=mix, window=self.an_epoch, recompute=again)
            for _ in range(local_layers)
        )
        self.layers = nn.ModuleList(
            Layer(*shape, mixing=mix, recompute=again) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(d_model, elementwise_affine=False)
        self.dropout, self.recompute = nn.Dropout(dropout), recompute == "layers"

    def patches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Signals (b, c, t) with NaN -> patches (b, c, p, s) with zeros for it, valid (b, c, p).

        A patch is valid if at least half of it was recorded.
        """
        there = ~x.isnan()
        x = torch.where(there, x, 0.0).clamp_(-_LARGEST, _LARGEST)
        patches = rearrange(x, "b c (p s) -> b c p s", s=self.n_samples)
        there = rearrange(there, "b c (p s) -> b c p s", s=self.n_samples)
        return patches, there.sum(dim=-1) * 2 >= self.n_samples

    def tokens(self, patches: Tensor) -> Tensor:
        """Patches (b, c, p, s) -> tokens (b, c, p, d) without positions."""
        if self.gain is not None:
            patches = patches * self.gain[:, :, None] + self.offset[:, :, None]
        parts = []
        if self.linear is not None:
            parts.append(self.linear(patches))
        if self.spectrum is not None:
            parts.append(self.of_spectrum(self.spectrum(patches)))
        return sum(parts)

    def forward(self, x: Tensor) -> Encoded:
        """Signals (b, c, t) -> one token an epoch and role, or a patch and role if not merged."""
        patches, valid = self.patches(x)
        tokens = self.tokens(patches)
        del x, patches  # hundreds of megabytes of a night
        return self.body(tokens, valid)[0]

    def body(self, tokens: Tensor, valid: Tensor) -> tuple[Encoded, Tensor]:
        """Tokens (b, c, p, d) -> what is encoded, and every patch in the light of it."""
        h, kept, local = self._upto(tokens, valid, self.layers)
        spread = h.repeat_interleave(self.an_epoch, dim=2) + local if self.merge else h
        return Encoded(self.norm(h) * kept[..., None], kept), self.norm(spread)

    def _upto(
        self, tokens: Tensor, valid: Tensor, layers: Sequence[nn.Module]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens after some of the global layers, which are valid, and tokens before any."""
        h = self.dropout(tokens + self._positions(tokens, tokens.shape[2]))
        local = h = self._through(self.local, h * valid[..., None], valid)
        if self.merge:
            h, valid = masked_mean(
                rearrange(h, "b c (n k) d -> b c n k d", k=self.an_epoch),
                rearrange(valid, "b c (n k) -> b c n k", k=self.an_epoch), dim=3,
            )  # fmt: skip
            h = h + self._positions(h, h.shape[2])
        return self._through(layers, h, valid), valid, local

    def _through(self, layers: Sequence[nn.Module], h: Tensor, valid: Tensor) -> Tensor:
        for layer in layers:
            if self.recompute and torch.is_grad_enabled():
                h = checkpoint(layer, h, valid, use_reentrant=False)
            else:
                h = layer(h, valid)
        return h

    def _positions(self, like: Tensor, n: int) -> Tensor:
        """(n, d): position p is the same however long the night."""
        if self.positions is not None:
            index = torch.arange(n, device=like.device).clamp_max(_LEARNED_POSITIONS - 1)
            return self.positions[index]
        half = self.d_model // 2
        rates = torch.exp(torch.arange(half, device=like.device) * (-math.log(1e4) / half))
        angles = torch.arange(n, device=like.device)[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=1).to(like.dtype)

    @torch.no_grad()
    def embed(self, x: Tensor, pool: str = "concat") -> Tensor:
        """One vector an epoch of a night: (n, c, t) -> (n, c d), zeros where a role is absent, or
        (n, d) as the mean over present roles."""
        encoded = self(rearrange(x, "n c t -> 1 c (n t)"))
        per = 1 if self.merge else self.an_epoch
        tokens, valid = (part[0] for part in by_epoch(*encoded, per))
        if pool == "mean":
            return masked_mean(tokens, valid, dim=0)[0]
        return rearrange(tokens, "c n d -> n (c d)")

    @torch.no_grad()
    def attention(self, x: Tensor, epochs: Tensor) -> tuple[Tensor, Tensor]:
        """What the last layer looks at from chosen epochs of one night (c, t).

        Returns weights over the night's epochs (k, c, n), each role's summing to 1, and over roles
        (k, c, c), rows summing to 1 (identity where channels are not mixed).
        """
        patches, valid = self.patches(x[None])
        last = self.layers[-1]
        hidden, valid, _ = self._upto(self.tokens(patches), valid, self.layers[:-1])
        per = 1 if self.merge else self.an_epoch
        queries = (epochs[:, None] * per + torch.arange(per, device=epochs.device)).flatten()
        rows = last.norm_time(hidden)[0]
        time = last.time.weights(rows, valid[0], queries)
        time = rearrange(time, "c (k i) (n j) -> c k i n j", i=per, j=per).sum(-1).mean(2)
        across = torch.eye(len(self.roles), device=x.device).expand(len(epochs), -1, -1)
        if last.across is not None:
            at = rearrange(hidden[0][:, queries], "c k d -> k c d")
            there = rearrange(valid[0][:, queries], "c k -> k c")
            every = torch.arange(len(self.roles), device=x.device)
            across = last.across.weights(last.norm_across(at), there, every)
            across = rearrange(across, "(k i) c e -> k i c e", i=per).mean(1)
        return rearrange(time, "c k n -> k c n"), across


class FoundationPretraining(nn.Module):
    """The encoder with what pretraining adds: a token for what is hidden, a head for every role."""

    def __init__(self, **settings) -> None:
        super().__init__()
        self.encoder = FoundationEncoder(**settings)
        n, d = len(self.encoder.roles), self.encoder.d_model
        self.head = RoleLinear(n, d, self.encoder.n_samples)
        spectrum = self.encoder.spectrum
        self.spectral_head = RoleLinear(n, d, spectrum.n_bins) if spectrum else None
        self.hidden = nn.Parameter(torch.zeros(d)) if spectrum else None

    def forward(self, clean: Tensor, seen: Tensor, hidden: Tensor | None = None) -> Reconstruction:
        """What the model makes of ``seen`` (b, c, t), beside ``clean``; patches of ``hidden``
        (b, c, p) are not shown to it."""
        true, valid = self.encoder.patches(clean)
        patches, _ = self.encoder.patches(seen)
        tokens = self.encoder.tokens(patches)
        if hidden is not None:
            blank = tokens.new_zeros(()) if self.hidden is None else self.hidden.to(tokens.dtype)
            tokens = torch.where(hidden[..., None], blank, tokens)
        _, each = self.encoder.body(tokens, valid)
        spectral = self.spectral_head is not None
        return Reconstruction(
            samples=self.head(each),
            spectra=self.spectral_head(each) if spectral else None,
            true_samples=true,
            true_spectra=self.encoder.spectrum(true) if spectral else None,
            valid=valid,
        )


class Foundation(nn.Module):
    """The encoder with a head that stages every epoch of a night.

    Args:
        head: a name of ``models.probing_heads``.
        settings: of :class:`FoundationEncoder`.
    """

    def __init__(self, *, head: str = "linear", **settings) -> None:
        super().__init__()
        self.encoder = FoundationEncoder(**settings)
        self.head = build_head(head, len(self.encoder.roles), self.encoder.d_model)

    def forward(self, x: Tensor | None, encoded: Encoded | None = None) -> Tensor:
        """Nights (b, n, c, t), or what the encoder made of them -> logits (b, n, 5)."""
        if encoded is None:
            encoded = self.encode(x)
        per = 1 if self.encoder.merge else self.encoder.an_epoch
        return self.head(encoded.tokens, encoded.valid, per)

    def encode(self, x: Tensor) -> Encoded:
        """Nights (b, n, c, t) -> tokens by role."""
        return self.encoder(rearrange(x, "b n c t -> b c (n t)"))

    @torch.no_grad()
    def stage_night(self, x: Tensor, batch_size: int = 0) -> Tensor:
        """Probabilities of a whole night: (n, c, t) -> (n, 5); a night is one sequence."""
        if not len(x):
            return x.new_zeros(0, len(STAGES))
        return self(x[None])[0].softmax(dim=-1)
