"""Encoders of single epochs for self-supervised learning: one vector of numbers per epoch.

CNN and CNN with attention after SleePyCo (Lee et al. 2024) as the latent-representation benchmark
uses them; the Transformer reads patches of half a second. What an encoder makes of the moments of
an epoch is read as their mean, as mean and deviation, or from a CLS token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.attention import attend, sinusoidal_positions
from models.base import SleepModel, StagingModel
from models.batch_norm import ChannelBatchNorm
from utils.stages import STAGES

WIDTH = 128
# the pools together divide time by 500: six steps per epoch at 100 Hz
CHANNELS, CONVOLUTIONS, POOLS = (64, 128, 192, 256, WIDTH), (2, 2, 3, 3, 3), (5, 5, 5, 4)
_ATTENDED = (3, 4)  # stages that attention follows
_HEADS = 8
POOLINGS = ("cls", "mean", "mean_sd")
# a Transformer for curves on a processor, about a twelfth of the other's weights
SMALL = {"width": 64, "depth": 3, "heads": 4}


class CnnEncoder(SleepModel):
    """Five stages of convolutions: (n, c, t) -> features (n, 128, t / 500).

    Args:
        n_channels: signals of an epoch.
        attention: self-attention after the last two stages.
        pool: the latent is the ``mean`` over steps, or that and their deviation, ``mean_sd``.
    """

    def __init__(self, n_channels: int = 1, *, attention: bool = False, pool: str = "mean") -> None:
        super().__init__()
        if pool not in ("mean", "mean_sd"):
            raise ValueError(f"pool {pool!r}: a CNN has mean and mean_sd")
        self.pool = pool
        self.width = _width_of(WIDTH, pool)  # of the latent
        inputs = (n_channels, *CHANNELS[:-1])
        self.stages = nn.ModuleList(
            _Stage(*sizes, attention=attention and k in _ATTENDED)
            for k, sizes in enumerate(zip(inputs, CHANNELS, CONVOLUTIONS, strict=True))
        )
        self.pools = nn.ModuleList(nn.MaxPool1d(width) for width in POOLS)

    def forward(self, x: Tensor) -> Tensor:
        """Features of epochs: (n, c, t) -> (n, 128, steps)."""
        x = self.stages[0](x)
        for pool, stage in zip(self.pools, self.stages[1:], strict=True):
            x = stage(pool(x))
        return x

    def latent(self, x: Tensor) -> Tensor:
        """Latents of epochs: (n, c, t) -> (n, 128), or (n, 256) with deviations."""
        return pooled(self(x).transpose(1, 2), self.pool)


class PatchEncoder(SleepModel):
    """A pre-norm Transformer over patches and a CLS token: (n, c, t) -> (n, 1 + p, d).

    Args:
        n_channels, n_samples: of an epoch.
        n_patches: tokens of an epoch, all channels together.
        use_cls: False leaves the CLS token out.
        pool: the latent is the CLS token, ``cls``, the ``mean`` over patches, or that and their
            deviation, ``mean_sd``. By default the CLS token where there is one, else the mean.
        width, depth, heads: d, blocks, and heads of their attention.
    """

    def __init__(
        self,
        n_channels: int = 1,
        n_samples: int = 3000,
        *,
        n_patches: int = 60,
        use_cls: bool = True,
        pool: str | None = None,
        width: int = WIDTH,
        depth: int = 6,
        heads: int = _HEADS,
    ) -> None:
        super().__init__()
        if n_samples % n_patches:
            raise ValueError(f"{n_patches} patches: {n_samples} samples do not divide into them")
        self.pool = pool or ("cls" if use_cls else "mean")
        if self.pool not in POOLINGS or (self.pool == "cls" and not use_cls):
            raise ValueError(f"pool {pool!r}: there are {', '.join(POOLINGS)}; cls needs use_cls")
        self.n_patches, self.patch, self.heads = n_patches, n_samples // n_patches, heads
        self.token_width, self.width = width, _width_of(width, self.pool)  # of tokens, of latents
        self.embed = nn.Linear(n_channels * self.patch, width)
        self.cls = nn.Parameter(0.02 * torch.randn(width)) if use_cls else None
        self.register_buffer(
            "positions", sinusoidal_positions(1 + self.n_patches, width), persistent=False
        )
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def patches(self, x: Tensor) -> Tensor:
        """Cut epochs into patches: (n, c, t) -> (n, p, c * patch)."""
        return x.unflatten(2, (self.n_patches, self.patch)).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """Tokens (n, 1 + p, d) of epochs (n, c, t), or of their patches ``kept`` (n, k) alone.

        Without CLS token the first one is missing.
        """
        return self.norm(self.blocks(self._tokens(x, kept)))

    def of_patches(self, x: Tensor, last: int) -> list[Tensor]:
        """What each of the ``last`` blocks makes of the patches: (n, c, t) -> (n, p, d) each."""
        tokens, outputs = self._tokens(x), []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens[:, -self.n_patches :])
        return outputs[-last:]

    def latent(self, x: Tensor) -> Tensor:
        """Latents of epochs: (n, c, t) -> (n, d), or (n, 2 d) with deviations."""
        tokens = self(x)
        return (
            tokens[:, 0] if self.pool == "cls" else pooled(tokens[:, -self.n_patches :], self.pool)
        )

    def _tokens(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        # before patches are left out, so that those kept know their place in the epoch
        tokens = self.embed(self.patches(x)) + self.positions[1:]
        if kept is not None:
            tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
        if self.cls is not None:
            first = (self.cls + self.positions[0]).expand(len(x), 1, -1)
            tokens = torch.cat([first, tokens], dim=1)
        return tokens


def pooled(tokens: Tensor, how: str) -> Tensor:
    """Mean over the tokens (n, k, d) of an epoch, (n, d); ``mean_sd``: and deviation, (n, 2 d)."""
    mean = tokens.mean(dim=1)
    if how == "mean":
        return mean
    # not a bare root, whose gradient at equal tokens is infinite
    spread = (tokens.var(dim=1, correction=0) + 1e-6).sqrt()
    return torch.cat([mean, spread], dim=1)


def _width_of(width: int, pool: str) -> int:
    """Width of the latent that is read from tokens of ``width``."""
    return 2 * width if pool == "mean_sd" else width


class EpochStager(StagingModel):
    """Stages single epochs by an encoder and one linear layer, from scratch or after pretraining.

    Args:
        encoder: "cnn", "cnn_attention" or "transformer".
        n_channels, fs, n_samples, num_seq: of an epoch; every epoch stands alone, so a window is 1.
    """

    made_for_hz = 100.0

    def __init__(
        self,
        *,
        encoder: str = "cnn",
        n_channels: int = 1,
        fs: float = 100.0,
        n_samples: int = 3000,
        num_seq: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__()
        if num_seq != 1:
            raise ValueError(f"num_seq {num_seq}: {encoder} stages every epoch alone; it takes 1")
        self.encoder = build_encoder(
            encoder, n_channels=n_channels, n_samples=n_samples, **settings
        )
        self.head = nn.Linear(self.encoder.width, len(STAGES))

    def encode_epochs(self, x: Tensor) -> Tensor:
        """Encode epochs: (n, c, t) -> (n, d)."""
        return self.encoder.latent(x)

    def classify(self, z: Tensor) -> Tensor:
        """Classify encodings: (b, l, d) -> logits (b, l, 5)."""
        return self.head(z)


def build_encoder(
    name: str, *, n_channels: int = 1, n_samples: int = 3000, **settings: Any
) -> nn.Module:
    """Encoder by name: CNNs, or a Transformer with settings of its own.

    Raises:
        ValueError: another name, or an epoch that patches do not fill.
    """
    if name == "transformer":
        return PatchEncoder(n_channels, n_samples, **settings)
    if name == "transformer_small":
        return PatchEncoder(n_channels, n_samples, **SMALL, **settings)
    if name not in ("cnn", "cnn_attention"):
        raise ValueError(f"unknown encoder {name!r}; there are {', '.join(ENCODERS)}")
    return CnnEncoder(n_channels, attention=name == "cnn_attention", **settings)


ENCODERS = ("cnn", "cnn_attention", "transformer", "transformer_small")


class _Stage(nn.Module):
    """Convolutions, each normalised; channel gate and optional attention before the last PReLU."""

    def __init__(self, inputs: int, width: int, n: int, *, attention: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for k in range(n):
            layers += [nn.Conv1d(inputs if k == 0 else width, width, 3, padding=1)]
            layers += [ChannelBatchNorm(width)]
            layers += [nn.PReLU()] if k < n - 1 else []  # the last one follows the gate
        self.layers = nn.Sequential(*layers)
        # squeeze and excitation (Hu et al. 2018), as in SleePyCo
        self.gate = nn.Sequential(
            nn.Linear(width, width // 16), nn.ReLU(), nn.Linear(width // 16, width), nn.Sigmoid()
        )
        self.attention = _SelfAttention(width) if attention else nn.Identity()
        self.last = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        return self.last(self.attention(x * self.gate(x.mean(dim=2))[..., None]))


class _SelfAttention(nn.Module):
    """Self-attention over the steps of (n, d, steps), added and normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.transpose(1, 2)
        return self.norm(tokens + self.out(_attend(self.to_qkv(tokens)))).transpose(1, 2)


class Block(nn.Module):
    """Attention and an MLP four times as wide, each normalised first; 198,272 parameters of 128."""

    def __init__(self, width: int = WIDTH, heads: int = _HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attend and transform: (n, tokens, d) -> the same shape."""
        x = x + self.out(_attend(self.to_qkv(self.first(x)), self.heads))
        return x + self.mlp(self.second(x))


def _attend(qkv: Tensor, heads: int = _HEADS) -> Tensor:
    """Self-attention: queries, keys, values (n, tokens, 3 d) -> (n, tokens, d)."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return attend(q, k, v).transpose(1, 2).flatten(2)
