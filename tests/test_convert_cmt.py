"""Published cross-modal transformers: our network computes what their layers and names say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import convert_checkpoint
import models
from benchmarks.published_cmt import PublishedEpoch, PublishedSequence
from utils.checkpoint import load_checkpoint
from utils.errors import UserError

D, FF, LENGTH = 32, 48, 4
State = dict[str, Tensor]


def published(kind: str) -> nn.Module:
    """A small network of the published design."""
    if kind == "Epoch":
        return PublishedEpoch(D, FF).eval()
    return PublishedSequence(D, FF, length=LENGTH).eval()


def random_state(kind: str) -> State:
    """A published state; norms far from where they begin, statistics too."""
    state = published(kind).state_dict()
    draw = torch.Generator().manual_seed(1)
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif not name.endswith("pos.pe"):
            state[name] = 0.3 * torch.randn(value.shape, generator=draw)
        if name.endswith("running_var"):
            state[name] = 0.5 + state[name].abs()
    return state


def plain_logits(state: State, kind: str, x: Tensor) -> Tensor:
    """Logits (b, l, 5) of windows (b, l, 2, t) by the published layers, nothing left out."""
    net = published(kind).double()
    net.load_state_dict(state)
    with torch.no_grad():
        return net(x)


def probe(kind: str) -> Tensor:
    draw = torch.Generator().manual_seed(2)
    return torch.randn(3, 1 if kind == "Epoch" else LENGTH, 2, 3000, generator=draw).double()


def convert(state: object, folder: Path) -> nn.Module:
    torch.save(state, folder / "state.pt")
    out = folder / "ours.pt"
    convert_checkpoint.main([str(folder / "state.pt"), "--from", "cmt", "--to", str(out)])
    return models.build_from(load_checkpoint(out)).double()


def doubled(state: State) -> State:
    """In double precision, so that two ways of computing agree to many digits."""
    return {name: v.double() if v.is_floating_point() else v for name, v in state.items()}


@pytest.mark.parametrize(("net", "n"), [(PublishedEpoch, 521_349), (PublishedSequence, 4_049_867)])
def test_the_published_designs_have_their_parameters(net, n):
    assert sum(p.numel() for p in net().parameters()) == n


@pytest.mark.parametrize("kind", ["Epoch", "Seq"])
def test_logits_are_those_of_the_published_layers(kind, tmp_path):
    state, x = random_state(kind), probe(kind)
    net = convert(state, tmp_path)
    checkpoint = load_checkpoint(tmp_path / "ours.pt")
    assert checkpoint.channels == (("EEG", "EEG"), ("EOG", "EOG"))
    assert checkpoint.settings["dim_feedforward"] == FF
    with torch.no_grad():
        expected = plain_logits(doubled(state), kind, x)
        assert expected.std() > 0.1
        torch.testing.assert_close(net(x), expected, atol=1e-9, rtol=0)
        # in single precision, as it is used
        torch.testing.assert_close(net.float()(x.float()), expected.float(), atol=1e-5, rtol=0)


def has_effect(name: str) -> bool:
    """Weights that no logit depends on: a counter, and what the converter itself compares."""
    return not name.endswith(("num_batches_tracked", "pos.pe"))


def effect_of(
    state: State, name: str, place: int, net: nn.Module, x: Tensor, expected: Tensor
) -> float:
    """Largest difference of the logits with one weight of ``state`` changed by 0.5."""
    changed = state | {name: state[name].clone()}
    changed[name].view(-1)[place] += 0.5
    net.load_state_dict(models.published.cmt(changed)[1])
    with torch.no_grad():
        return float((net(x) - expected).abs().max())


@pytest.mark.parametrize("kind", ["Epoch", "Seq"])
def test_one_changed_weight_of_any_tensor_is_noticed(kind, tmp_path):
    state, x = random_state(kind), probe(kind)
    expected = plain_logits(doubled(state), kind, x)
    names = [name for name in state if has_effect(name)]
    if kind == "Seq":  # the positions' encoders are alike: the first and the last stand for all
        names = [n for n in names if not n.startswith(("epoch_2", "epoch_3", "mlp_2", "mlp_3"))]
    draw = torch.Generator().manual_seed(3)
    settings, converted = models.published.cmt(state)
    net = (
        models.build("epoch_cmt" if kind == "Epoch" else "sequence_cmt", **settings).eval().double()
    )
    for name in names:
        values = state[name].flatten()
        if name.endswith("in_proj_bias"):
            values = values[:D]  # a key's bias adds the same to all scores: the softmax drops it
        # of five places, since a hidden unit whose ReLU stays closed hides its own weights
        places = torch.randint(len(values), (5,), generator=draw).tolist()
        effects = (effect_of(state, name, place, net, x, expected) for place in places)
        assert any(effect > 1e-6 for effect in effects), f"{name} at {places}"
    assert converted.keys() == net.state_dict().keys()


def test_other_states_are_refused(tmp_path):
    state = random_state("Epoch")
    with pytest.raises(UserError, match="unexpected weights: extra"):
        convert(state | {"extra": torch.zeros(2)}, tmp_path)
    with pytest.raises(UserError, match=r"no weights 'mlp.1.bias'"):
        convert({k: v for k, v in state.items() if k != "mlp.1.bias"}, tmp_path)
    moved = state | {"eeg_atten.window_embed.pos.pe": torch.zeros(5000, 1, D)}
    with pytest.raises(UserError, match="not the sinusoidal position code"):
        convert(moved, tmp_path)
    assert not (tmp_path / "ours.pt").exists()


def test_a_whole_module_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(UserError, match=r"never loaded here.*torch\.load\(FILE.*state_dict\(\)"):
        convert(nn.Linear(2, 2), tmp_path)
