"""Pretraining of the full-night transformer: patches that were hidden or corrupted are rebuilt."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.base import SleepModel
from models.foundation import FoundationEncoder
from models.role_layers import RoleLinear

_QUIET = 0.02  # of whatever would disturb a linear autoencoder


class Reconstruction(NamedTuple):
    """Predicted and true patches as samples (b, c, p, s) and as spectra (b, c, p, k)."""

    samples: Tensor | None
    spectra: Tensor | None
    true_samples: Tensor
    true_spectra: Tensor | None
    valid: Tensor


class FoundationPretraining(SleepModel):
    """The encoder with what pretraining adds: a token for what is hidden, heads for every role.

    Args:
        target: "signal" has a head that predicts samples, "spectrum" one that predicts log
            spectra, "both" has both, as far as the tokeniser computes spectra.
        settings: of :class:`FoundationEncoder`.
    """

    def __init__(self, *, target: str = "both", **settings) -> None:
        super().__init__()
        self.encoder = FoundationEncoder(**settings)
        n, d = len(self.encoder.roles), self.encoder.d_model
        self.head = RoleLinear(n, d, self.encoder.n_samples) if target != "spectrum" else None
        spectrum = self.encoder.spectrum
        spectral = spectrum is not None and target != "signal"
        self.spectral_head = RoleLinear(n, d, spectrum.n_bins) if spectral else None
        self.hidden = nn.Parameter(torch.zeros(d)) if spectrum else None

    def forward(self, clean: Tensor, seen: Tensor, hidden: Tensor | None = None) -> Reconstruction:
        """Reconstruction of ``clean`` (b, c, t) from ``seen``, a corrupted or equal copy of it.

        Patches of ``hidden`` (b, c, p) are not shown to the model.
        """
        true, valid = self.encoder.patches(clean)
        patches, _ = self.encoder.patches(seen)
        # or the night's mean spectrum, which is taken off each patch, would hold hidden ones
        shown = valid if hidden is None else valid & ~hidden
        tokens = self.encoder.tokens(patches, shown)
        if hidden is not None:
            blank = tokens.new_zeros(()) if self.hidden is None else self.hidden.to(tokens.dtype)
            tokens = torch.where(hidden[..., None], blank, tokens)
        _, each = self.encoder.body(tokens, valid)
        spectral = self.spectral_head is not None
        return Reconstruction(
            samples=None if self.head is None else self.head(each),
            spectra=self.spectral_head(each) if spectral else None,
            true_samples=true,
            true_spectra=self.encoder.spectrum(true, valid) if spectral else None,
            valid=valid,
        )

    def divided_parts(self) -> list[nn.Module]:
        """The transformer's layers, which hold nearly all weights."""
        return [*self.encoder.local, *self.encoder.layers]

    @torch.no_grad()
    def begin_linear(self, inward: Tensor, outward: Tensor, mean: Tensor) -> None:
        """Begin as a linear autoencoder of every role, to which layers add nothing yet.

        ``inward`` (c, s, d), ``outward`` (c, d, s), ``mean`` (c, s).
        """
        self.encoder.linear.weight.copy_(inward)
        self.encoder.linear.bias.zero_()
        self.head.weight.copy_(outward)
        self.head.bias.copy_(mean)
        for layer in (*self.encoder.local, *self.encoder.layers):
            # residual branches that end in zeros leave their layer the identity
            branches = [layer.time.out, layer.ff[2]]
            branches += [layer.across.out] if layer.across is not None else []
            for branch in branches:
                branch.weight.zero_()
                branch.bias.zero_()
        if self.encoder.of_spectrum is not None:
            self.encoder.of_spectrum.weight.mul_(_QUIET)
            self.encoder.of_spectrum.bias.zero_()
        if self.encoder.position_scale is not None:
            self.encoder.position_scale.fill_(_QUIET)
