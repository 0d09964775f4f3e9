"""Weights published elsewhere, converted into ours strictly: none missing, none left over.

PhysioEx v1 (MIT): Chambon2018 and SeqSleepNet, trained on SHHS. Dreem (MIT): SimpleSleepNet
and RobustSleepNet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from models.attention import sinusoidal_positions
from models.seqsleepnet import triangular_bank

State = Mapping[str, Tensor]
_BOTH = ("weight", "bias")
# names that torch gives the parameters of one bidirectional recurrent layer
_BY_DIRECTION = [
    f"{kind}_{part}_l0{way}"
    for kind in ("weight", "bias")
    for part in ("ih", "hh")
    for way in ("", "_reverse")
]


class NotThese(ValueError):
    """The weights are not those of the model named."""


def chambon2018(state: State) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """PhysioEx's Chambon2018 -> settings and state of ours."""
    left = _Taken(state, "nn.")
    features = "epoch_encoder.feature_extractor."
    # their kernels have two dimensions, one of them 1; their blocks have four modules, ours three
    ours = {
        f"layers.{number}.{part}": left.take(
            f"{features}{theirs}.{part}", (lambda w: w[:, :, 0]) if part == "weight" else None
        )
        for number, theirs in ((0, 0), (3, 4))
        for part in ("weight", "bias")
    }
    n_channels = 1
    if "epoch_encoder.spatial_conv.weight" in left:
        ours["spatial.weight"] = left.take(
            "epoch_encoder.spatial_conv.weight", lambda w: w[:, 0, :, 0]
        )
        ours["spatial.bias"] = left.take("epoch_encoder.spatial_conv.bias")
        n_channels = len(ours["spatial.bias"])
    ours |= {f"head.{part}": left.take(f"clf.{part}") for part in ("weight", "bias")}
    left.finish()
    # features per epoch and channel: 8 maps of 17 steps at 100 Hz
    length = ours["head.weight"].shape[1] // (136 * n_channels)
    return {"n_channels": n_channels, "num_seq": length}, ours


def seqsleepnet(state: State) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """PhysioEx's SeqSleepNet -> settings and state of ours; its "LSTM" over epochs is a GRU.

    The statistics of its training data were never published: every bin of every night is
    standardised over that night instead.
    """
    left = _Taken(state, "nn.")
    ours = {"bank.weight": left.take("epoch_encoder.F2_filtbank.W")}
    n_channels = len(ours["bank.weight"])
    bank = left.take("epoch_encoder.F2_filtbank.S")
    ours["bank.triangles"] = triangular_bank(100.0).repeat(n_channels, 1, 1)
    if not torch.equal(bank.reshape(ours["bank.triangles"].shape), ours["bank.triangles"]):
        raise NotThese("epoch_encoder.F2_filtbank.S is not the triangular bank of 0 to 50 Hz")
    for name in _BY_DIRECTION:
        ours[f"epoch_rnn.{name}"] = left.take(f"epoch_encoder.F2_birnn.{name}")
        ours[f"rnn.{name}"] = left.take(f"sequence_encoder.LSTM.{name}")
    attention = "epoch_encoder.F2_attention."
    # theirs is x @ W, while nn.Linear keeps the transposed matrix
    ours["pool.score.weight"] = left.take(f"{attention}W_omega", lambda w: w.T.contiguous())
    ours["pool.score.bias"] = left.take(f"{attention}b_omega")
    ours["pool.query.weight"] = left.take(f"{attention}u_omega", lambda w: w[None])
    ours |= {f"head.{p}": left.take(f"sequence_encoder.clf.{p}") for p in ("weight", "bias")}
    left.finish()
    shape = (n_channels, 29, 129)  # until a night sets them
    ours |= {"spectrogram.mean": torch.zeros(shape), "spectrogram.sd": torch.ones(shape)}
    return {"n_channels": n_channels, "num_seq": 21, "scaled_by": "night"}, ours


def simplesleepnet(
    state: State, mean: Tensor, sd: Tensor
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Dreem's SimpleSleepNet and its statistics (c, 129, 1) -> settings and state of ours."""
    left = _Taken(state, "")
    ours = {"spectrogram.mean": mean.float(), "spectrogram.sd": sd.float()}
    for theirs, name in (
        ("eeg.encoder.filter_reduction", "filters"),
        ("eeg.encoder.virtual_channels", "channels"),
        ("features_encoder.layers.0.linear_0", "time.0"),
        ("sequence_encoder.encoder.0.residual_connection", "layers.0.linear"),
        ("sequence_encoder.encoder.1.residual_connection", "layers.1.linear"),
        ("classifier", "head"),
    ):
        for part in ("weight", "bias"):
            ours[f"{name}.{part}"] = left.ending(theirs, part)
    for theirs, name in (
        ("eeg.encoder.gru", "epoch_rnn"),
        ("sequence_encoder.encoder.0.gru", "layers.0.rnn"),
        ("sequence_encoder.encoder.1.gru", "layers.1.rnn"),
    ):
        for part in _BY_DIRECTION:
            ours[f"{name}.{part}"] = left.ending(theirs, part)
    ours["pool.score.weight"] = left.ending(
        "reducer.eeg",
        "context_matrix",
        lambda w: w.reshape(25, 50),  # hidden x input, like ours
    )
    ours["pool.score.bias"] = left.ending("reducer.eeg", "context_bias", lambda b: b.reshape(25))
    ours["pool.query.weight"] = left.ending(
        "reducer.eeg", "context_vector", lambda v: v.reshape(1, 25)
    )
    left.finish()
    return {"n_channels": len(ours["channels.bias"]), "num_seq": 21}, ours


def cmt(state: State) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Published cross-modal transformer, Epoch or Seq -> settings and state of ours.

    Sequence models have an encoder and a head for each position, ``epoch_1`` and ``mlp_1`` onwards.
    """
    left = _Taken(state, "module.")
    length = sum(name.startswith("mlp_") and name.endswith("weight") for name in left.left)
    encoders = [(f"encoders.{k}.", f"epoch_{k + 1}.") for k in range(length)]
    ours: dict[str, Tensor] = {}
    for mine, theirs in encoders or [("encoder.", "")]:
        _cmt_encoder(left, ours, mine, theirs)
    if length:
        _cmt_attention(left, ours, "inter.", "seq_atten.", "self_attn")
        _cmt_feed_forward(left, ours, "feed_forward.", "ff_net.")
        heads = [(f"heads.{k}.", f"mlp_{k + 1}.1.") for k in range(length)]
    else:
        _cmt_feed_forward(left, ours, "feed_forward.0.", "eeg_ff.")
        _cmt_feed_forward(left, ours, "feed_forward.1.", "eog_ff.")
        heads = [("head.", "mlp.1.")]
    ours |= {f"{mine}{p}": left.take(f"{theirs}{p}") for mine, theirs in heads for p in _BOTH}
    left.finish()
    first = encoders[0][0] if length else "encoder."
    settings = {
        "d_model": ours[f"{first}cls"].shape[-1],
        "dim_feedforward": len(ours[f"feed_forward.{'' if length else '0.'}layers.0.bias"]),
        "window_size": ours[f"{first}embeddings.0.branches.0.0.weight"].shape[1],
    }
    if length:
        settings |= {"num_seq": length, "encoder": "per_position", "epoch_position": "none"}
    return settings, ours


def _cmt_encoder(left: _Taken, ours: dict[str, Tensor], mine: str, theirs: str) -> None:
    """One epoch encoder: an embedding and attention for EEG and EOG, attention across both."""
    for number, modality in enumerate(("eeg_atten.", "eog_atten.")):
        embedding, source = f"{mine}embeddings.{number}.", f"{theirs}{modality}window_embed."
        for branch, steps in enumerate(((0,), (0, 2, 4), (0, 2), (0,))):
            name = f"{embedding}branches.{branch}" if branch < 3 else f"{embedding}fuse"
            projection = f"{source}projection_{branch + 1}"
            for step in steps:
                # (out, in, kernel) as one product over (kernel, in), as our patches are laid out
                ours[f"{name}.{step}.weight"] = left.take(
                    f"{projection}.{step}.weight", lambda w: w.transpose(1, 2).flatten(1)
                )
                ours[f"{name}.{step}.bias"] = left.take(f"{projection}.{step}.bias")
            norm = steps[-1] + 2  # behind the last convolution and its LeakyReLU
            for part in (*_BOTH, "running_mean", "running_var", "num_batches_tracked"):
                ours[f"{name}.{norm}.{part}"] = left.take(f"{projection}.{norm}.{part}")
        ours[f"{embedding}cls"] = left.take(f"{source}cls_token")
        _check_positions(left.take(f"{source}pos.pe"), f"{source}pos.pe")
        _cmt_attention(left, ours, f"{mine}intra.{number}.", f"{theirs}{modality}", "self_attn")
    ours[f"{mine}cls"] = left.take(f"{theirs}cross_atten.cls_token")
    _cmt_attention(left, ours, f"{mine}cross.", f"{theirs}cross_atten.", "cross_attn")


def _cmt_attention(
    left: _Taken, ours: dict[str, Tensor], mine: str, theirs: str, kind: str
) -> None:
    """Queries, keys and values as one matrix, in that order, as torch keeps them."""
    for part in _BOTH:
        ours[f"{mine}to_qkv.{part}"] = left.take(f"{theirs}{kind}.in_proj_{part}")
        ours[f"{mine}out.{part}"] = left.take(f"{theirs}{kind}.out_proj.{part}")
        ours[f"{mine}norm.{part}"] = left.take(f"{theirs}norm.{part}")


def _cmt_feed_forward(left: _Taken, ours: dict[str, Tensor], mine: str, theirs: str) -> None:
    for part in _BOTH:
        ours[f"{mine}layers.0.{part}"] = left.take(f"{theirs}linear1.{part}")
        ours[f"{mine}layers.3.{part}"] = left.take(f"{theirs}linear2.{part}")
        ours[f"{mine}norm.{part}"] = left.take(f"{theirs}norm.{part}")


def _check_positions(code: Tensor, name: str) -> None:
    """Their position code is a buffer of 5,000 places; ours is computed, so it must be the same."""
    code = code.flatten(0, -2)[:256]  # more than an epoch has windows; far ones differ by rounding
    if not torch.allclose(code, sinusoidal_positions(*code.shape), atol=1e-4):
        raise NotThese(f"{name} is not the sinusoidal position code")


def robustsleepnet(state: State) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Dreem's RobustSleepNet -> settings and state of ours; one channel stands for any number."""
    left = _Taken(state, "")
    ours: dict[str, Tensor] = {}
    encoder, sequence = "encoder_eeg.encoder", "sequence_encoder.encoder"
    layers = {
        f"{encoder}.filter_reduction": "filters",
        "reducer_eeg.reduction": "reduction",
        f"{sequence}.0.residual_connection": "layers.0.linear",
        f"{sequence}.1.residual_connection": "layers.1.linear",
        "classifier": "head",
    }
    attentions = {f"{encoder}.channel_attention.attention_{k}": f"virtual.{k}" for k in range(4)}
    for theirs, mine in (attentions | {"reducer_eeg.attention": "pool"}).items():
        layers[f"{theirs}.context_matrix"] = f"{mine}.score"
        ours[f"{mine}.query.weight"] = left.take(f"{theirs}.context_vector.weight")
    for theirs, mine in layers.items():
        ours |= {f"{mine}.{part}": left.take(f"{theirs}.{part}") for part in _BOTH}
    for theirs, mine in (
        (f"{encoder}.gru", "epoch_rnn"),
        (f"{sequence}.0.gru", "layers.0.rnn"),
        (f"{sequence}.1.gru", "layers.1.rnn"),
    ):
        ours |= {f"{mine}.{part}": left.take(f"{theirs}.{part}") for part in _BY_DIRECTION}
    left.finish()
    return {"n_channels": 1, "fs": 60.0, "n_samples": 1800, "num_seq": 21}, ours


class _Taken:
    """A state dictionary whose every entry must be asked for exactly once."""

    def __init__(self, state: State, prefix: str) -> None:
        self.state = {name.removeprefix(prefix): value for name, value in state.items()}
        self.left = set(self.state)

    def __contains__(self, name: str) -> bool:
        return name in self.state

    def take(self, name: str, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        if name not in self.left:
            raise NotThese(f"no weights {name!r}; there are {', '.join(sorted(self.state)[:8])} …")
        self.left.discard(name)
        try:
            value = self.state[name] if change is None else change(self.state[name])
        except (IndexError, RuntimeError) as error:
            raise NotThese(f"{name}: shape {tuple(self.state[name].shape)} ({error})") from error
        return value.float()

    def ending(
        self, part: str, last: str, change: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """The only entry with ``part`` in it that ends in ``last``, behind whatever wrapper."""
        pattern = re.compile(rf"(.*\.)?{re.escape(part)}(\..*)?\.{re.escape(last)}")
        matches = [name for name in self.state if pattern.fullmatch(name)]
        if len(matches) != 1:
            raise NotThese(f"{len(matches)} weights match {part}…{last}, one was expected")
        return self.take(matches[0], change)

    def finish(self) -> None:
        if self.left:
            raise NotThese(f"unexpected weights: {', '.join(sorted(self.left))}")


CONVERTERS = {"chambon2018": chambon2018, "seqsleepnet": seqsleepnet}
