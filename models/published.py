"""Weights published elsewhere, converted into ours strictly: none missing, none left over.

PhysioEx v1 (MIT): Chambon2018 and SeqSleepNet, trained on SHHS. Dreem (MIT): SimpleSleepNet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from models.seqsleepnet import triangular_bank

State = Mapping[str, Tensor]
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

    The scaling of its training data was never published: decibels enter as they are.
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
    shape = (n_channels, 29, 129)  # mean 0 and deviation 1 leave decibels unscaled
    ours |= {"spectrogram.mean": torch.zeros(shape), "spectrogram.sd": torch.ones(shape)}
    return {"n_channels": n_channels, "num_seq": 21}, ours


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
        "reducer.eeg", "context_matrix", lambda w: w.reshape(25, 50)  # hidden x input, like ours
    )
    ours["pool.score.bias"] = left.ending("reducer.eeg", "context_bias", lambda b: b.reshape(25))
    ours["pool.query.weight"] = left.ending(
        "reducer.eeg", "context_vector", lambda v: v.reshape(1, 25)
    )
    left.finish()
    return {"n_channels": len(ours["channels.bias"]), "num_seq": 21}, ours


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
