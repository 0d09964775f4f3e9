"""Attention whose weights are returned, position codes and the feed-forward block.

Vaswani et al. 2017 with normalisation after the residual, as in Pradeepkumar et al. 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from models.dense import Dense
from models.dropout import Dropout

_MOST_ROWS = 65_535  # that a grid of a CUDA kernel has along the axis of the batch


def sinusoidal_positions(length: int, d_model: int) -> Tensor:
    """Fixed position code (length, d_model): sines on even, cosines on odd channels."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, d_model, 2) * (-torch.log(torch.tensor(1e4)) / d_model))
    code = torch.zeros(length, d_model)
    code[:, 0::2] = torch.sin(position * rate)
    code[:, 1::2] = torch.cos(position * rate[: d_model // 2])  # one fewer where d_model is odd
    return code


def attend(q: Tensor, k: Tensor, v: Tensor, **how: Any) -> Tensor:
    """Fused attention of rows (r, h, i, d), in parts where they are more than its kernels take.

    ``how`` is of ``scaled_dot_product_attention``; a mask has a row of its own for each.
    """
    if len(q) <= _MOST_ROWS:
        return nn.functional.scaled_dot_product_attention(q, k, v, **how)
    mask = how.pop("attn_mask", None)
    masks = [None] * len(q.split(_MOST_ROWS)) if mask is None else mask.split(_MOST_ROWS)
    rows = zip(*(part.split(_MOST_ROWS) for part in (q, k, v)), masks, strict=True)
    return torch.cat([attend(*three, attn_mask=mask, **how) for *three, mask in rows])


def by_rows(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A layer of torch that attends within each row of x (r, i, d), in as many rows at a time."""
    if len(x) <= _MOST_ROWS:
        return layer(x)
    return torch.cat([layer(part) for part in x.split(_MOST_ROWS)])


class AttentionBlock(nn.Module):
    """Multi-head self-attention, residual, dropout and layer norm; 4 d**2 + 6 d parameters."""

    def __init__(self, d_model: int, heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = Dense(d_model, 3 * d_model)
        self.out = Dense(d_model, d_model)
        self.dropout_weights = Dropout(dropout)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(d_model)
        # as nn.MultiheadAttention begins: queries, keys and values drawn as one matrix
        nn.init.xavier_uniform_(self.to_qkv.weight)
        nn.init.zeros_(self.to_qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor, *, shown: bool = True) -> tuple[Tensor, Tensor | None]:
        """Attend: (b, n, d) -> output (b, n, d) and, if ``shown``, weights (b, h, n, n)."""
        q, k, v = rearrange(
            self.to_qkv(tokens), "b n (three h d) -> three b h n d", three=3, h=self.heads
        )
        weights, rate = None, self.dropout_weights.p if self.training else 0.0
        # the fused kernel never holds the (n, n) weights, so it cannot return them, nor, on a
        # processor, leave some out
        if shown or (rate and tokens.device.type == "cpu"):
            weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)
            mixed = self.dropout_weights(weights) @ v
        else:
            mixed = attend(q, k, v, dropout_p=rate)
        mixed = rearrange(mixed, "b h n d -> b n (h d)")
        return self.norm(tokens + self.dropout(self.out(mixed))), weights if shown else None

    def first(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Row 0 of :meth:`forward` alone: (b, n, d) -> output (b, d), weights (b, h, n).

        The query of one token is folded into the keys' projection, so scores and the weighted sum
        are taken on the tokens themselves and no key or value is ever made: a key bias cancels in
        the softmax, and the value bias is scaled by what dropout left of the weights.
        """
        q_weight, k_weight, v_weight = self.to_qkv.weight.chunk(3)
        # the key bias adds the same to all scores of a query
        q_bias, _, v_bias = self.to_qkv.bias.chunk(3)
        first = tokens[:, 0]
        query = nn.functional.linear(first, q_weight, q_bias)
        query = rearrange(query, "b (h e) -> b h e", h=self.heads)
        per_head = rearrange(k_weight, "(h e) d -> h e d", h=self.heads)
        folded = einsum(query, per_head, "b h e, h e d -> b h d") * query.shape[-1] ** -0.5
        weights = (folded @ tokens.transpose(1, 2)).softmax(dim=-1)
        dropped = self.dropout_weights(weights)
        per_head = rearrange(v_weight, "(h e) d -> h e d", h=self.heads)
        mixed = einsum(dropped @ tokens, per_head, "b h d, h e d -> b h e")
        bias = rearrange(v_bias, "(h e) -> h e", h=self.heads)
        mixed = mixed + dropped.sum(dim=-1, keepdim=True) * bias
        mixed = rearrange(mixed, "b h e -> b (h e)")
        return self.norm(first + self.dropout(self.out(mixed))), weights


class FeedForward(nn.Module):
    """Linear, ReLU, linear with dropout, residual and layer norm, on (…, d)."""

    def __init__(self, d_model: int, dim_feedforward: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Dense(d_model, dim_feedforward),
            nn.ReLU(),
            Dropout(dropout),
            Dense(dim_feedforward, d_model),
            Dropout(dropout),
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every token: (…, d) -> (…, d)."""
        return self.norm(x + self.layers(x))
