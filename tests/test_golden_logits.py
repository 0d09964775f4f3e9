"""Published weights give the published logits, and one changed weight of any tensor does not.

The files are read from ``SLEEP_WEIGHTS``; without that the tests are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import models
from evaluation.stagers.published_files import read_dreem, read_state
from models import published
from tests import published_layers
from tests.published_layers import noise, probe

# (window, epoch) -> logits of W, N1, N2, N3, REM by the original code; Chambon stages one epoch
GOLDEN = {
    ("chambon2018", 3): {(0, 0): (1.16978, 0.84012, -1.19229, -6.32578, 3.83287)},
    ("chambon2018", 1): {(0, 0): (-0.23671, -0.41190, 2.11226, -1.01756, -1.35597)},
    ("seqsleepnet", 3): {(0, 10): (2.12676, 1.00829, 2.89931, -3.33112, -2.70282)},
    ("seqsleepnet", 1): {(0, 10): (-1.07213, -1.23941, 0.39867, -3.57016, 5.50565)},
    ("simplesleepnet", 16): {
        (0, 10): (7.68920, 0.47854, -1.33360, -1.30572, -2.67303),
        (2, 3): (7.59842, 0.14106, -1.33563, -0.88814, -2.60412),
    },
    ("simplesleepnet", 12): {
        (0, 10): (6.05564, -1.74883, -1.42632, 0.80042, -2.30277),
        (2, 3): (5.94372, -1.78479, -1.43709, 0.73906, -2.09542),
    },
}
TOLERANCE = 1e-4
PLACES = 6  # weights of a tensor that are changed, one after the other
State = dict[str, Tensor]


class Weights:
    """A published file: its state, how ours is made of it, and what its layers compute."""

    def __init__(self, name: str, channels: int) -> None:
        folder = os.environ.get("SLEEP_WEIGHTS")
        files = sorted(Path(folder).glob(f"{name}_{channels}.*")) if folder else []
        if not files:
            pytest.skip("SLEEP_WEIGHTS holds no such file")
        self.name, self.channels = name, channels
        self.statistics: tuple[Tensor, ...] = ()
        if name == "simplesleepnet":
            state, *self.statistics = read_dreem(files[0])
        else:
            state = read_state(files[0].read_bytes())
        self.state: State = {k.removeprefix("nn."): v.float() for k, v in state.items()}

    def ours(self, state: State) -> nn.Module:
        """Our network with a state of theirs, in double precision."""
        convert: Callable = getattr(published, self.name)
        settings, mine = convert(state, *self.statistics)
        net = models.build(self.name, **settings)
        net.load_state_dict(mine)
        return net.eval().double()

    def published_input(self) -> Tensor:
        """What the golden logits were computed from."""
        if self.name == "seqsleepnet":
            return probe(4, 21, self.channels, 29, 129).double()
        if self.name == "chambon2018":
            return probe(4, 21, self.channels, 3000).double()
        return noise(4, 21, self.channels, 3000, scale=50).double()

    def plain(self, x: Tensor) -> Tensor:
        """Logits by the plain layers, in double precision."""
        state = {name: value.double() for name, value in self.state.items()}
        statistics = [values.double() for values in self.statistics]
        with torch.no_grad():
            logits = getattr(published_layers, self.name)(state, *statistics, x)
        return logits[:, None] if logits.dim() == 2 else logits

    def from_inside(self) -> Tensor:
        """Input on which no gate is saturated: what the networks read, standardised noise."""
        if self.name == "chambon2018":
            # slow as an EEG is: after white noise most features are closed by their ReLU
            slow = noise(2, 21, self.channels, 3000).double().cumsum(dim=-1)
            return (slow - slow.mean(dim=-1, keepdim=True)) / slow.std(dim=-1, keepdim=True)
        shape = (29, 129) if self.name == "seqsleepnet" else (28, 129)
        return 0.3 * noise(2, 21, self.channels, *shape).double()

    def plain_inside(self, x: Tensor) -> Tensor:
        """Logits of :meth:`from_inside` by the plain layers."""
        if self.name != "simplesleepnet":
            return self.plain(x)
        state = {published_layers.short(k): v.double() for k, v in self.state.items()}
        with torch.no_grad():
            return published_layers.simplesleepnet_sequence(state, x.transpose(-1, -2))


@torch.no_grad()
def logits(net: nn.Module, x: Tensor) -> Tensor:
    """(b, l, 5) of windows of epochs (b, l, c, t) or of spectrograms (b, l, c, …, …)."""
    return net(x) if x.dim() == 4 else net.stage_spectrograms(x)


@pytest.mark.parametrize(("name", "channels"), GOLDEN)
def test_golden_logits(name, channels):
    weights = Weights(name, channels)
    x = weights.published_input()
    plain = weights.plain(x)
    net = weights.ours(weights.state)
    in_use = logits(net.float(), x.float())
    for place, row in GOLDEN[name, channels].items():
        assert plain[place].tolist() == pytest.approx(row, abs=TOLERANCE)
        assert in_use[place].tolist() == pytest.approx(row, abs=TOLERANCE)
    torch.testing.assert_close(logits(net.double(), x), plain, atol=1e-5, rtol=0)
    inside = weights.from_inside()
    expected = weights.plain_inside(inside)
    torch.testing.assert_close(logits(net, inside), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "channels"), GOLDEN)
def test_one_changed_weight_of_any_tensor_is_noticed(name, channels):
    weights = Weights(name, channels)
    x = weights.from_inside()
    expected = weights.plain_inside(x)
    draw = torch.Generator().manual_seed(0)
    for tensor, values in weights.state.items():
        if tensor.endswith("F2_filtbank.S"):
            continue  # the converter compares the fixed bank itself, bit for bit
        inner = values.flatten()
        candidates = torch.arange(len(inner))
        if tensor.endswith("F2_filtbank.W"):  # outside its triangle a filter has no weight
            candidates = weights.state[tensor.replace(".W", ".S")].flatten().nonzero()[:, 0]
        places = candidates[torch.randint(len(candidates), (PLACES,), generator=draw)].tolist()
        effects = (effect_of(weights, tensor, place, x, expected) for place in places)
        assert any(effect > 2 * TOLERANCE for effect in effects), f"{tensor} at {places}"


def effect_of(weights: Weights, tensor: str, place: int, x: Tensor, expected: Tensor) -> float:
    """Largest difference of the logits with one weight of the published file changed by 0.5."""
    changed = weights.state | {tensor: weights.state[tensor].clone()}
    changed[tensor].view(-1)[place] += 0.5
    return float((logits(weights.ours(changed), x) - expected).abs().max())
