"""Decoders and projection heads of pretraining, which are discarded after it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.attention import sinusoidal_positions
from models.base import SleepModel
from models.batch_norm import BatchNorm, ChannelBatchNorm
from models.epoch_encoders import (
    CHANNELS,
    CONVOLUTIONS,
    POOLS,
    WIDTH,
    Block,
    CnnEncoder,
    PatchEncoder,
)

_DECODER_DEPTH = 8


class Pretraining(SleepModel):
    """An encoder with a decoder for masked prediction and a projection for contrast.

    Args:
        encoder: a :class:`CnnEncoder`, a :class:`PatchEncoder`, or any module with ``latent``.
        n_channels, n_samples: of an epoch.
        decoder: whether to have one.
        projection: widths after the latent, the last one what contrast compares; empty: none.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        n_channels: int = 1,
        n_samples: int = 3000,
        decoder: bool = True,
        projection: Sequence[int] = (512, 128),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        latent_width = encoder.width
        self.decoder = None
        if decoder:
            self.decoder = decoder_for(encoder, n_channels, n_samples, latent_width)
        self.projection = _projection(latent_width, projection) if projection else nn.Identity()

    def forward(
        self, x: Tensor, hidden: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Epochs (n, c, t) -> what contrast compares (n, k), or a reconstruction (n, c, t).

        With ``hidden`` (n, t) samples are hidden from the encoder and everything is reconstructed;
        the Transformer never gets hidden patches as tokens, others see 0 there.
        """
        if hidden is None:
            return self.projection(self.encoder.latent(x)), None
        return None, self.decoder(self.encoder, x, hidden)


class ZooEncoder(SleepModel):
    """The epoch encoder of a staging model; layers that it does not use are taken out."""

    def __init__(self, model: nn.Module, n_channels: int, n_samples: int) -> None:
        super().__init__()
        if not model.separable:
            raise ValueError("epochs of this model are encoded within their window, not one by one")
        encoded = model.encode_epochs(torch.randn(2, n_channels, n_samples))
        # layers that the encoding does not depend on get no gradient: those that stage sequences
        names = [name for name, _ in model.named_parameters()]
        grads = torch.autograd.grad(encoded.sum(), list(model.parameters()), allow_unused=True)
        used = {name.split(".")[0] for name, g in zip(names, grads, strict=True) if g is not None}
        for name, child in list(model.named_children()):
            if name not in used and any(True for _ in child.parameters()):
                setattr(model, name, nn.Identity())
        self.width, self.model = encoded.shape[1], model
        self.spectrogram = model.spectrogram

    def latent(self, x: Tensor) -> Tensor:
        """Latents of epochs: (n, c, t) -> (n, d)."""
        return self.model.encode_epochs(x)


def decoder_for(
    encoder: nn.Module, n_channels: int, n_samples: int, latent_width: int
) -> nn.Module:
    """The decoder that belongs to an encoder."""
    if isinstance(encoder, PatchEncoder):
        return PatchDecoder(encoder, n_channels)
    if isinstance(encoder, CnnEncoder):
        return CnnDecoder(n_channels)
    return LatentDecoder(latent_width, n_channels, n_samples)


class PatchDecoder(nn.Module):
    """Eight blocks over all patches, a mask token in the place of each hidden one."""

    def __init__(self, encoder: PatchEncoder, n_channels: int) -> None:
        super().__init__()
        self.patch, self.n_patches = encoder.patch, encoder.n_patches
        self.embed = nn.Linear(WIDTH, WIDTH)
        self.mask_token = nn.Parameter(0.02 * torch.randn(WIDTH))
        self.register_buffer(
            "positions", sinusoidal_positions(1 + self.n_patches, WIDTH), persistent=False
        )
        self.blocks = nn.Sequential(*(Block() for _ in range(_DECODER_DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, n_channels * self.patch)

    def forward(self, encoder: PatchEncoder, x: Tensor, hidden: Tensor) -> Tensor:
        """Reconstruct epochs (n, c, t) whose samples ``hidden`` (n, t) the encoder does not see."""
        kept = self._kept(hidden)
        if kept is None:
            # samples are hidden, not patches: all patches stay, with zeros in them
            x = x.masked_fill(hidden[:, None], 0.0)
            kept = torch.arange(self.n_patches, device=x.device).expand(len(x), -1)
        seen = self.embed(encoder(x, kept))
        # scatter takes one type, and under autocast ``seen`` has another than the parameter
        tokens = self.mask_token.expand(len(x), self.n_patches, -1).to(seen.dtype)
        n_first = seen.shape[1] - kept.shape[1]
        first, seen = seen[:, :n_first], seen[:, n_first:]
        tokens = tokens.scatter(1, kept[..., None].expand(-1, -1, WIDTH), seen)
        # position 0 is that of the CLS token
        tokens = torch.cat([first, tokens], dim=1) + self.positions[1 - n_first :]
        predicted = self.head(self.norm(self.blocks(tokens))[:, n_first:])
        return predicted.unflatten(2, (x.shape[1], self.patch)).transpose(1, 2).flatten(2)

    def _kept(self, hidden: Tensor) -> Tensor | None:
        """Visible patches (n, k); ``None`` unless equally many whole patches are hidden in each."""
        by_patch = hidden.unflatten(1, (self.n_patches, self.patch))
        hides = by_patch.any(dim=2)
        counts = hides.sum(dim=1)
        if (by_patch.all(dim=2) != hides).any() or (counts != counts[0]).any():
            return None
        # stable: the visible patches come first, in their order in time
        left = self.n_patches - int(counts[0])
        return torch.argsort(hides.int(), dim=1, stable=True)[:, :left]


class CnnDecoder(nn.Module):
    """The encoder backwards: transposed convolutions where it pools, a plain one at the end."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        widths = CHANNELS[::-1]
        layers: list[nn.Module] = []
        for k, width in enumerate(widths):
            layers += [
                part
                for _ in range(CONVOLUTIONS[::-1][k])
                for part in (
                    nn.Conv1d(width, width, 3, padding=1),
                    ChannelBatchNorm(width),
                    nn.PReLU(),
                )
            ]
            if k < len(POOLS):
                pool = POOLS[::-1][k]
                layers += [nn.ConvTranspose1d(width, widths[k + 1], pool, stride=pool)]
        self.layers = nn.Sequential(*layers, nn.Conv1d(widths[-1], n_channels, 3, padding=1))

    def upsampled(self, features: Tensor) -> Tensor:
        """Signals from features: (n, 128, t / 500) -> (n, c, t)."""
        return self.layers(features)

    def forward(self, encoder: CnnEncoder, x: Tensor, hidden: Tensor) -> Tensor:
        """Reconstruct epochs (n, c, t) whose samples ``hidden`` (n, t) the encoder sees as 0."""
        return self.upsampled(encoder(x.masked_fill(hidden[:, None], 0.0)))


class LatentDecoder(nn.Module):
    """Decoder from one vector per epoch, for encoders that keep nothing else."""

    def __init__(self, width: int, n_channels: int, n_samples: int) -> None:
        super().__init__()
        steps, left = divmod(n_samples, 500)  # the CNN decoder makes 500 samples of each step
        if left:
            raise ValueError(f"{n_samples} samples per epoch: this decoder makes multiples of 500")
        self.steps = steps
        self.expand = nn.Linear(width, WIDTH * steps)
        self.decoder = CnnDecoder(n_channels)

    def forward(self, encoder: nn.Module, x: Tensor, hidden: Tensor) -> Tensor:
        """Reconstruct epochs (n, c, t) whose samples ``hidden`` (n, t) the encoder sees as 0."""
        latent = encoder.latent(x.masked_fill(hidden[:, None], 0.0))
        return self.decoder.upsampled(self.expand(latent).unflatten(1, (WIDTH, self.steps)))


def _projection(width: int, widths: Sequence[int]) -> nn.Sequential:
    """Linear layers, batch norm and ReLU between them."""
    layers: list[nn.Module] = []
    for k, after in enumerate(widths):
        layers += [nn.Linear(width, after)]
        layers += [BatchNorm(after), nn.ReLU()] if k < len(widths) - 1 else []
        width = after
    return nn.Sequential(*layers)
