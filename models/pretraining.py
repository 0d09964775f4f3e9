"""Decoders and projection heads of pretraining, which are discarded after it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

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

PREDICTED = ("signal", "power", "latent")


class Predicted(NamedTuple):
    """What a decoder predicts: signals (n, c, t), log powers (n, c, p, k), latents (n, p, d)."""

    signal: Tensor | None = None
    power: Tensor | None = None
    latent: Tensor | None = None


class Pretraining(SleepModel):
    """An encoder with a decoder for masked prediction and a projection for contrast.

    Args:
        encoder: a :class:`CnnEncoder`, a :class:`PatchEncoder`, or any module with ``latent``.
        decoder: of :func:`decoder_for`, or none.
        projection: widths after the latent, the last one what contrast compares; empty: none.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module | None, projection: Sequence[int] = (512, 128)
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.projection = _projection(encoder.width, projection) if projection else nn.Identity()

    def forward(
        self, x: Tensor, hidden: Tensor | None = None
    ) -> tuple[Tensor | None, Predicted | None]:
        """Epochs (n, c, t) -> what contrast compares (n, k), or what is predicted of the epochs.

        With ``hidden`` (n, t) samples are hidden from the encoder and everything is predicted;
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
    encoder: nn.Module,
    n_channels: int,
    n_samples: int,
    predicts: Collection[str] = ("signal",),
    *,
    patch: int = 50,
    depth: int = 8,
) -> nn.Module:
    """The decoder that belongs to an encoder.

    Args:
        encoder: what it decodes.
        n_channels, n_samples: of an epoch.
        predicts: some of ``signal``, ``power`` (log power of every patch) and, of a
            :class:`PatchEncoder`, ``latent``.
        patch: samples of a patch whose power is predicted; of a :class:`PatchEncoder` its own.
        depth: blocks, of a :class:`PatchEncoder`.

    Raises:
        ValueError: nothing that this encoder can predict.
    """
    can = PREDICTED if isinstance(encoder, PatchEncoder) else PREDICTED[:2]
    if not predicts or not set(predicts) <= set(can):
        raise ValueError(f"predicts {', '.join(predicts)}: of this encoder {', '.join(can)}")
    if isinstance(encoder, PatchEncoder):
        if "power" in predicts and patch != encoder.patch:
            raise ValueError(f"patch {patch}: the encoder's own have {encoder.patch} samples")
        return PatchDecoder(encoder, n_channels, predicts, depth)
    made = n_channels, predicts, patch
    if isinstance(encoder, CnnEncoder):
        return CnnDecoder(*made)
    return LatentDecoder(encoder.width, n_samples, CnnDecoder(*made))


def bins_of(patch: int) -> int:
    """Frequencies of a frame of two patches of so many samples each."""
    return patch + 1


class PatchDecoder(nn.Module):
    """Blocks over all patches, a mask token in the place of each hidden one."""

    def __init__(
        self,
        encoder: PatchEncoder,
        n_channels: int,
        predicts: Collection[str] = ("signal",),
        depth: int = 8,
    ) -> None:
        super().__init__()
        self.patch, self.n_patches = encoder.patch, encoder.n_patches
        width, heads = encoder.token_width, encoder.heads
        self.embed = nn.Linear(width, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.register_buffer(
            "positions", sinusoidal_positions(1 + self.n_patches, width), persistent=False
        )
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        sizes = {"signal": self.patch, "power": bins_of(self.patch)}
        heads_of = {k: nn.Linear(width, n_channels * n) for k, n in sizes.items() if k in predicts}
        self.head, self.power_head = heads_of.get("signal"), heads_of.get("power")
        self.latent_head = nn.Linear(width, width) if "latent" in predicts else None

    def forward(self, encoder: PatchEncoder, x: Tensor, hidden: Tensor) -> Predicted:
        """Predict epochs (n, c, t) whose samples ``hidden`` (n, t) the encoder does not see."""
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
        tokens = tokens.scatter(1, kept[..., None].expand_as(seen), seen)
        # position 0 is that of the CLS token
        tokens = torch.cat([first, tokens], dim=1) + self.positions[1 - n_first :]
        decoded = self.norm(self.blocks(tokens))[:, n_first:]
        signal = power = None
        if self.head is not None:
            signal = self._by_channel(self.head(decoded), x.shape[1]).flatten(2)
        if self.power_head is not None:
            power = self._by_channel(self.power_head(decoded), x.shape[1])
        return Predicted(signal, power, self.latent_head and self.latent_head(decoded))

    def _by_channel(self, patches: Tensor, n_channels: int) -> Tensor:
        """(n, p, c * k) -> (n, c, p, k)."""
        return patches.unflatten(2, (n_channels, -1)).transpose(1, 2)

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
    """The encoder backwards: transposed convolutions where it pools, a plain one at the end.

    Powers are those of patches of ``patch`` samples, by a convolution beside the last one.
    """

    def __init__(
        self, n_channels: int, predicts: Collection[str] = ("signal",), patch: int = 50
    ) -> None:
        super().__init__()
        self.n_channels, widths = n_channels, CHANNELS[::-1]
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
        last = nn.Conv1d(widths[-1], n_channels, 3, padding=1)
        self.layers = nn.Sequential(*layers, last if "signal" in predicts else nn.Identity())
        self.power = None
        if "power" in predicts:
            self.power = nn.Conv1d(widths[-1], n_channels * bins_of(patch), patch, stride=patch)

    def upsampled(self, features: Tensor) -> Predicted:
        """Predict epochs by features (n, 128, t / 500)."""
        features = self.layers[:-1](features)
        last, power = self.layers[-1], None
        if self.power is not None:
            power = self.power(features).unflatten(1, (self.n_channels, -1)).transpose(2, 3)
        return Predicted(None if isinstance(last, nn.Identity) else last(features), power)

    def forward(self, encoder: CnnEncoder, x: Tensor, hidden: Tensor) -> Predicted:
        """Predict epochs (n, c, t) whose samples ``hidden`` (n, t) the encoder sees as 0."""
        return self.upsampled(encoder(x.masked_fill(hidden[:, None], 0.0)))


class LatentDecoder(nn.Module):
    """Decoder from one vector per epoch, for encoders that keep nothing else."""

    def __init__(self, width: int, n_samples: int, decoder: CnnDecoder) -> None:
        super().__init__()
        steps, left = divmod(n_samples, 500)  # the CNN decoder makes 500 samples of each step
        if left:
            raise ValueError(f"{n_samples} samples per epoch: this decoder makes multiples of 500")
        self.steps = steps
        self.expand = nn.Linear(width, WIDTH * steps)
        self.decoder = decoder

    def forward(self, encoder: nn.Module, x: Tensor, hidden: Tensor) -> Predicted:
        """Predict epochs (n, c, t) whose samples ``hidden`` (n, t) the encoder sees as 0."""
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
