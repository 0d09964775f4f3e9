"""Full-night transformer over any subset of channels, after PFTSleep (SLEEP 2025, zsaf061).

Signals are (b, c, t), one channel per role, standardised; NaN is what was not recorded: padding,
gaps, absent roles. Whatever is NaN is masked everywhere, so it changes nothing for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models import low_rank
from models.base import SleepModel
from models.dropout import Dropout
from models.night_pieces import logits_of_pieces
from models.probing_heads import build_head, by_epoch, masked_mean
from models.role_layers import Encoded, Layer, LogSpectrum, ReadPatches, RoleLinear
from utils.stages import EPOCH_SECONDS, STAGES

ROLES = ("ECG", "EOG", "EMG", "EEG", "SPO2", "THOR", "ABDO")
# what the published model is: sizes, no mixing of channels, positions learned for 8 h
PUBLISHED = {
    "fs": 125.0, "d_model": 512, "n_heads": 4, "dim_feedforward": 2048, "local_layers": 0,
    "layers": 3, "merge": False, "mixing": "none", "positions": "learned", "tokeniser": "linear",
    "affine": True,
}  # fmt: skip
_LARGEST = 10.0  # standard deviations; beyond it is artefact
_LEARNED_POSITIONS = 4800  # of 6 s: 8 h
_POSITION_SCALE = 0.3  # of sinusoidal ones beside tokens, to begin with
# settings of what is made around an encoder: heads, updates
_AROUND = ("head", "lora_rank", "target")


class FoundationEncoder(nn.Module):
    """Patches of 6 s of every role, local layers within an epoch, global ones over the night.

    Args:
        roles: names of the channels, in the order of the signals.
        fs: rate of all channels in Hz.
        patch_seconds: length of a patch; must divide 30 s.
        local_layers: layers whose attention stays within an epoch.
        layers: layers over the whole night.
        merge: one token per epoch and role for the global layers, else one per patch.
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
        self,
        *,
        roles: Sequence[str] = ROLES,
        fs: float = 125.0,
        patch_seconds: float = 6.0,
        d_model: int = 128,
        n_heads: int = 4,
        dim_feedforward: int = 512,
        local_layers: int = 2,
        layers: int = 4,
        merge: bool = True,
        mixing: Literal["roles", "none"] = "roles",
        positions: Literal["sinusoidal", "learned"] = "sinusoidal",
        tokeniser: Literal["linear", "spectrum", "both"] = "spectrum",
        affine: bool = False,
        dropout: float = 0.1,
        recompute: Literal["none", "feedforward", "layers"] = "feedforward",
    ) -> None:
        super().__init__()
        self.roles, self.d_model, self.merge = tuple(roles), d_model, merge
        self.n_samples = round(patch_seconds * fs)
        self.patches_per_epoch = round(EPOCH_SECONDS / patch_seconds)
        if abs(self.patches_per_epoch * self.n_samples - EPOCH_SECONDS * fs) > 1e-6:
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
        scale = nn.Parameter(torch.tensor(_POSITION_SCALE))
        self.position_scale = scale if positions == "sinusoidal" else None
        shape, mix = (d_model, n_heads, dim_feedforward, dropout), mixing == "roles"
        again = recompute == "feedforward"
        self.local = nn.ModuleList(
            Layer(*shape, mixing=mix, window=self.patches_per_epoch, recompute=again)
            for _ in range(local_layers)
        )
        self.layers = nn.ModuleList(
            Layer(*shape, mixing=mix, recompute=again) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(d_model, elementwise_affine=False)
        self.dropout, self.recompute = Dropout(dropout), recompute == "layers"

    def patches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Signals (b, c, t) with NaN -> patches (b, c, p, s) with zeros for it, valid (b, c, p).

        A patch is valid if at least half of it was recorded.
        """
        recorded = ~x.isnan()
        # clamped in place: where has made a copy
        x = torch.where(recorded, x, 0.0).clamp_(-_LARGEST, _LARGEST)
        patches = rearrange(x, "b c (p s) -> b c p s", s=self.n_samples)
        recorded = rearrange(recorded, "b c (p s) -> b c p s", s=self.n_samples)
        return patches, recorded.sum(dim=-1) * 2 >= self.n_samples

    def tokens(self, patches: Tensor, valid: Tensor) -> Tensor:
        """Patches (b, c, p, s), valid (b, c, p) -> tokens (b, c, p, d) without positions."""
        read = self.read(patches)
        return self.joined(read, self.middle(read, valid))

    def read(self, patches: Tensor) -> ReadPatches:
        """What each patch (b, c, p, s) gives by itself, whatever the night around it."""
        if self.gain is not None:
            patches = patches * self.gain[:, :, None] + self.offset[:, :, None]
        return ReadPatches(
            None if self.linear is None else self.linear(patches),
            None if self.spectrum is None else self.spectrum.raw(patches),
        )

    def middle(self, read: ReadPatches, valid: Tensor) -> Tensor | None:
        """The mean log powers (b, c, 1, k) of patches that are valid (b, c, p), if any are read."""
        return None if self.spectrum is None else self.spectrum.middle(read.log_powers, valid)

    def joined(self, read: ReadPatches, middle: Tensor | None) -> Tensor:
        """Tokens (b, c, p, d) of what was read, its log powers taken from their ``middle``."""
        parts = [] if read.samples is None else [read.samples]
        if read.log_powers is not None:
            parts.append(self.of_spectrum(self.spectrum.standardised(read.log_powers, middle)))
        return sum(parts)

    def forward(self, x: Tensor) -> Encoded:
        """Signals (b, c, t) -> one token per role and epoch, or per role and patch if unmerged."""
        patches, valid = self.patches(x)
        tokens = self.tokens(patches, valid)
        del x, patches  # hundreds of megabytes of a night
        return self.body(tokens, valid)[0]

    def body(self, tokens: Tensor, valid: Tensor) -> tuple[Encoded, Tensor]:
        """Tokens (b, c, p, d) -> the encoded night, and a vector per patch that knows the night."""
        h, kept, local, merged = self._upto(tokens, valid, self.layers)
        spread = h
        if self.merge:  # each patch, and what the night's layers made of its epoch
            spread = local + (h - merged).repeat_interleave(self.patches_per_epoch, dim=2)
        return Encoded(self.norm(h) * kept[..., None], kept), spread

    def _upto(
        self, tokens: Tensor, valid: Tensor, layers: Sequence[nn.Module]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens after some global layers and which are valid; patches and tokens before them."""
        h = self.dropout(tokens + self._positions(tokens, tokens.shape[2]))
        local = h = self._through(self.local, h * valid[..., None], valid)
        if self.merge:
            h, valid = masked_mean(
                rearrange(h, "b c (n k) d -> b c n k d", k=self.patches_per_epoch),
                rearrange(valid, "b c (n k) -> b c n k", k=self.patches_per_epoch),
                dim=3,
            )
            h = h + self._positions(h, h.shape[2])  # merged tokens are numbered by epoch
        return self._through(layers, h, valid), valid, local, h

    def _through(self, layers: Sequence[nn.Module], h: Tensor, valid: Tensor) -> Tensor:
        for layer in layers:
            if self.recompute and torch.is_grad_enabled():
                h = checkpoint(layer, h, valid, use_reentrant=False)
            else:
                h = layer(h, valid)
        return h

    def _positions(self, like: Tensor, n: int) -> Tensor:
        """Position codes (n, d); position p has the same code however long the night."""
        if self.positions is not None:
            index = torch.arange(n, device=like.device).clamp_max(_LEARNED_POSITIONS - 1)
            return self.positions[index]
        half = self.d_model // 2
        rates = torch.exp(torch.arange(half, device=like.device) * (-math.log(1e4) / half))
        angles = torch.arange(n, device=like.device)[:, None] * rates
        return self.position_scale * torch.cat([angles.sin(), angles.cos()], dim=1).to(like.dtype)

    @torch.no_grad()
    def embed(self, x: Tensor, pool: str = "concat") -> Tensor:
        """One vector per epoch of a night: (n, c, t) -> (n, c d), zeros where a role is absent.

        With ``pool`` "mean" it is the mean over present roles, (n, d).
        """
        encoded = self(rearrange(x, "n c t -> 1 c (n t)"))
        per = 1 if self.merge else self.patches_per_epoch
        tokens, valid = (part[0] for part in by_epoch(*encoded, per))
        if pool == "mean":
            return masked_mean(tokens, valid, dim=0)[0]
        return rearrange(tokens, "c n d -> n (c d)")

    @torch.no_grad()
    def attention(self, x: Tensor, epochs: Tensor) -> tuple[Tensor, Tensor]:
        """Attention of the last layer from chosen epochs of one night (c, t).

        Returns weights over the night's epochs (k, c, n), each role's summing to 1, and over roles
        (k, c, c), rows summing to 1 (identity where channels are not mixed).
        """
        patches, valid = self.patches(x[None])
        last = self.layers[-1]
        hidden, valid, _, _ = self._upto(self.tokens(patches, valid), valid, self.layers[:-1])
        per = 1 if self.merge else self.patches_per_epoch
        queries = (epochs[:, None] * per + torch.arange(per, device=epochs.device)).flatten()
        rows = last.norm_time(hidden)[0]
        time = last.time.weights(rows, valid[0], queries)
        # patches of a key epoch add up, those of a query epoch are averaged: rows still sum to 1
        time = rearrange(time, "c (k i) (n j) -> c k i n j", i=per, j=per).sum(-1).mean(2)
        across = torch.eye(len(self.roles), device=x.device).expand(len(epochs), -1, -1)
        if last.across is not None:
            at = rearrange(hidden[0][:, queries], "c k d -> k c d")
            present = rearrange(valid[0][:, queries], "c k -> k c")
            # here epochs are the rows of attention, and all roles its queries
            every = torch.arange(len(self.roles), device=x.device)
            across = last.across.weights(last.norm_across(at), present, every)
            across = rearrange(across, "(k i) c e -> k i c e", i=per).mean(1)
        return rearrange(time, "c k n -> k c n"), across


def encoder_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the encoder alone, out of those of a model that was made around it."""
    return {name: value for name, value in settings.items() if name not in _AROUND}


class Foundation(SleepModel):
    """The encoder with a head that stages every epoch of a night.

    Args:
        head: a name of ``models.probing_heads``.
        lora_rank: of the updates that alone train the encoder's layers; 0 trains all of it.
        settings: of :class:`FoundationEncoder`.
    """

    stages_nights = True

    def __init__(self, *, head: str = "linear", lora_rank: int = 0, **settings) -> None:
        super().__init__()
        self.encoder = FoundationEncoder(**settings)
        self.head = build_head(head, len(self.encoder.roles), self.encoder.d_model)
        if lora_rank:  # last, so that the other weights are drawn as without it
            low_rank.add(self.encoder, (self.encoder.local, self.encoder.layers), lora_rank)

    def forward(
        self, x: Tensor | None, encoded: Encoded | None = None, pieces: tuple | None = None
    ) -> Tensor:
        """Nights (b, n, c, t), or what the encoder made of them -> logits (b, n, 5).

        ``pieces``: their length and where they begin, by which the layers see the night.
        """
        if pieces is not None:
            return logits_of_pieces(self.encoder, self.head, x, *pieces)
        if encoded is None:
            encoded = self.encode(x)
        per = 1 if self.encoder.merge else self.encoder.patches_per_epoch
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
