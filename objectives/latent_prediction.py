"""Masked prediction of latents: what a slow copy of the encoder makes of the whole epoch.

data2vec (Baevski et al., ICML 2022), with a decoder that predicts at masked tokens alone as in
I-JEPA (Assran et al., CVPR 2023). Nothing in the loss prevents a collapse to one point, which is
why pretraining logs the rank of the validation embeddings.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from objectives.draws import Draws
from objectives.masks import Masks
from objectives.objective import Objective, in_full
from utils.collectives import whole_mean


class LatentPrediction(Objective):
    """Callable on a ``Pretraining`` that predicts latents, and a batch of single epochs.

    Args:
        masks: which patches are hidden.
        decay: share of the teacher's weights that stays at each batch of training; the rest are
            the encoder's own.
        layers: last blocks of the teacher whose normalised outputs are averaged.

    Raises:
        ValueError: masks not of whole patches, or a decay of 1 or more, which never follows.
    """

    def __init__(self, masks: Masks, *, decay: float = 0.996, layers: int = 3) -> None:
        if not masks.of_patches:
            raise ValueError("latents are of whole patches: masking 'block' or 'patch'")
        if decay >= 1:
            raise ValueError(f"teacher_decay {decay:g}: a share below 1")
        self.masks, self.decay, self.layers = masks, decay, layers
        self.teacher: nn.Module | None = None
        self._encoder: nn.Module | None = None

    def attach(self, net: nn.Module, device: torch.device) -> list[nn.Parameter]:
        """Begin the teacher as a copy of the encoder; it has no weights for the optimiser."""
        self._encoder = net.encoder
        self.teacher = deepcopy(net.encoder).requires_grad_(False).to(device).eval()
        return []

    def __call__(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error at the hidden patches of ``batch.signals`` (b, 1, c, t), no logs."""
        x = batch.signals[:, 0]
        if model.training:
            self.follow()
        hidden = self.masks.draw(x.shape[-1], Draws(batch.keys, "masks", x.device))
        wanted = self.targets(x)
        _, predicted = model(x, hidden=hidden)
        each = (in_full(predicted.latent) - wanted).square().mean(dim=2)
        counts = hidden.unflatten(1, (each.shape[1], -1))[..., 0]
        return whole_mean((each * counts).sum(), counts.sum()), {}

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher towards the encoder, as the last step of the optimiser left it."""
        own = self.teacher.parameters()
        for mine, theirs in zip(own, self._encoder.parameters(), strict=True):
            mine.lerp_(theirs, 1 - self.decay)

    @torch.no_grad()
    def targets(self, x: Tensor) -> Tensor:
        """The teacher's latents of all patches: (n, c, t) -> (n, p, d)."""
        blocks = self.teacher.of_patches(x, self.layers)
        # or a block's scale would weigh it; by token, as the mean over an epoch tells its stage
        normalised = [nn.functional.layer_norm(in_full(b), b.shape[-1:]) for b in blocks]
        return torch.stack(normalised).mean(dim=0)

    def state_dict(self) -> dict[str, Any]:
        """The teacher's weights."""
        return {"teacher": self.teacher.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from :meth:`state_dict`."""
        self.teacher.load_state_dict(state["teacher"])
