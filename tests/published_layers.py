"""What published weights compute, written from their names alone: none of our modules is used."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = Mapping[str, Tensor]


def probe(*shape: int) -> Tensor:
    """The input of the published golden logits: two sines, no random generator."""
    n = np.arange(np.prod(shape), dtype=np.float64)
    x = np.sin(0.37 * n) + 0.5 * np.cos(0.011 * n)
    return torch.from_numpy(x.astype(np.float32).reshape(shape))


def noise(*shape: int, scale: float = 1.0) -> Tensor:
    """Normal noise of one seed, as float32."""
    return torch.from_numpy((scale * np.random.RandomState(0).randn(*shape)).astype(np.float32))


def recurrent(kind: type[nn.RNNBase], state: State, prefix: str, z: Tensor) -> Tensor:
    """Both directions of one recurrent layer over (b, n, i), from the weights under ``prefix``."""
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    hidden = own["weight_hh_l0"].shape[1]
    cells = kind(z.shape[-1], hidden, batch_first=True, bidirectional=True, dtype=z.dtype)
    cells.load_state_dict(own)
    return cells(z)[0]


def linear(state: State, prefix: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{prefix}weight"], state[f"{prefix}bias"])


def chambon2018(state: State, x: Tensor) -> Tensor:
    """PhysioEx's Chambon2018: windows (b, l, c, t) -> logits (b, 5)."""
    signals = x.flatten(0, 1)[:, None]  # (n, 1, c, t), two-dimensional as in the original
    if "epoch_encoder.spatial_conv.weight" in state:
        spatial = [state[f"epoch_encoder.spatial_conv.{p}"] for p in ("weight", "bias")]
        signals = F.conv2d(signals, *spatial).transpose(1, 2)
    for number in (0, 4):
        layer = [state[f"epoch_encoder.feature_extractor.{number}.{p}"] for p in ("weight", "bias")]
        signals = F.max_pool2d(F.conv2d(signals, *layer, padding=(0, 25)).relu(), (1, 13))
    return linear(state, "clf.", signals.flatten(1).unflatten(0, x.shape[:2]).flatten(1))


def seqsleepnet(state: State, x: Tensor) -> Tensor:
    """PhysioEx's SeqSleepNet: spectrograms (b, l, c, frames, bins) -> logits (b, l, 5)."""
    encoder = "epoch_encoder."
    bank = state[f"{encoder}F2_filtbank.W"].sigmoid() * state[f"{encoder}F2_filtbank.S"]
    frames = (x.flatten(0, 1) @ bank).transpose(1, 2).flatten(2)
    hidden = recurrent(nn.LSTM, state, f"{encoder}F2_birnn.", frames)
    attention = f"{encoder}F2_attention."
    score = torch.tanh(hidden @ state[f"{attention}W_omega"] + state[f"{attention}b_omega"])
    weights = (score @ state[f"{attention}u_omega"]).softmax(dim=1)
    pooled = (hidden * weights[..., None]).sum(dim=1).unflatten(0, x.shape[:2])
    after = recurrent(nn.GRU, state, "sequence_encoder.LSTM.", pooled)  # a GRU in spite of its name
    return linear(state, "sequence_encoder.clf.", after)


def dreem_log_power(x: Tensor) -> Tensor:
    """Epochs (…, t) in µV -> log power (…, frames, 129) of symmetric Hann windows."""
    window = torch.from_numpy(np.hanning(256)).to(x.dtype)
    frames = (x.clamp(-500, 500) / 500).unfold(-1, 256, 100)
    power = torch.fft.rfft(frames * (window / window.sum())).abs().square()
    return torch.log10(power.clamp_min(1e-20))


def simplesleepnet(state: State, mean: Tensor, sd: Tensor, x: Tensor) -> Tensor:
    """Dreem's SimpleSleepNet on windows (b, l, c, t) that begin a night -> logits (b, l, 5).

    ``mean`` and ``sd`` (c, 129, 1) are the statistics beside the weights.
    """
    state = {short(name): value for name, value in state.items()}
    power = dreem_log_power(x).transpose(-1, -2)  # (b, l, c, 129, frames), as the statistics are
    return simplesleepnet_sequence(state, (power - mean) / sd)


def simplesleepnet_sequence(state: State, scaled: Tensor) -> Tensor:
    """The part after scaling: (b, l, c, 129, frames) -> logits (b, l, 5)."""
    z = linear(state, "filter_reduction.", scaled.permute(0, 1, 4, 2, 3))  # b, l, frames, c, 30
    z = linear(state, "virtual_channels.", z.transpose(-1, -2)).transpose(-1, -2)
    hidden = recurrent(nn.GRU, state, "eeg.gru.", z.flatten(-2).flatten(0, 1))
    score = torch.tanh(hidden @ state["context_matrix"].T + state["context_bias"].flatten())
    weights = (score @ state["context_vector"].flatten()).softmax(dim=1)
    pooled = (hidden * weights[..., None]).sum(dim=1).unflatten(0, scaled.shape[:2])
    place = torch.arange(scaled.shape[1], dtype=pooled.dtype)[:, None]
    cycles = torch.tensor([10.0, 30.0, 60.0, 90.0, 120.0], dtype=pooled.dtype)
    times = torch.cat([place / 1200, torch.cos(torch.pi * place / cycles)], dim=1)
    times = linear(state, "linear_0.", times).relu().expand(len(pooled), -1, -1)
    h = torch.cat([pooled, times], dim=-1)
    for number in (0, 1):
        after = recurrent(nn.GRU, state, f"{number}.gru.", h)
        h = (linear(state, f"{number}.residual_connection.", h) + after) / 2
    return linear(state, "classifier.", h)


def short(name: str) -> str:
    """The telling end of a published name, behind whatever wrappers."""
    parts = name.split(".")
    if "gru" in parts:
        return ".".join(["eeg" if "eeg" in parts else parts[parts.index("gru") - 1], *parts[-2:]])
    if parts[-2] == "residual_connection":
        return ".".join(parts[-3:])
    return parts[-1] if parts[-1].startswith("context") else ".".join(parts[-2:])
