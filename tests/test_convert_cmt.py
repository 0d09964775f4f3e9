"""Published cross-modal transformers: our network computes what their layers and names say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import convert_checkpoint
import models
from models.attention import sinusoidal_positions
from utils.checkpoint import load_checkpoint
from utils.errors import UserError

D, FF, WINDOW, LENGTH = 32, 48, 50, 4
State = dict[str, Tensor]


Shapes = dict[str, tuple[int, ...]]
# of each branch of an embedding: (outputs, inputs, kernel) of its convolutions
REST = (D - D // 4) // 2
BRANCHES = (
    (1, [(D // 4, 1, WINDOW)]),
    (2, [(D // 8, 1, 5), (D // 4, D // 8, 5), (REST, D // 4, 2)]),
    (3, [(D // 4, 1, 25), (REST, D // 4, 2)]),
    (4, [(D, D, 1)]),
)


def linear(name: str, outputs: int, inputs: int, *kernel: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, *kernel), f"{name}.bias": (outputs,)}


def attention(prefix: str, name: str) -> Shapes:
    matrices = {f"{name}.in_proj_weight": (3 * D, D), f"{name}.in_proj_bias": (3 * D,)}
    shapes = matrices | linear(f"{name}.out_proj", D, D) | {"norm.weight": (D,), "norm.bias": (D,)}
    return {f"{prefix}{part}": shape for part, shape in shapes.items()}


def embedding(prefix: str) -> Shapes:
    shapes: Shapes = {f"{prefix}cls_token": (1, 1, D)}
    for number, steps in BRANCHES:
        for step, sizes in enumerate(steps):
            shapes |= linear(f"{prefix}projection_{number}.{2 * step}", *sizes)
        norm = f"{prefix}projection_{number}.{2 * len(steps)}"
        parts = ("weight", "bias", "running_mean", "running_var")
        shapes |= {f"{norm}.{part}": (steps[-1][0],) for part in parts}
    return shapes


def encoder(prefix: str) -> Shapes:
    shapes = {f"{prefix}cross_atten.cls_token": (1, 1, D)}
    for modality in ("eeg_atten.", "eog_atten."):
        shapes |= embedding(f"{prefix}{modality}window_embed.")
        shapes |= attention(f"{prefix}{modality}", "self_attn")
    return shapes | attention(f"{prefix}cross_atten.", "cross_attn")


def feed_forward(name: str) -> Shapes:
    norm = {f"{name}.norm.weight": (D,), f"{name}.norm.bias": (D,)}
    return linear(f"{name}.linear1", FF, D) | linear(f"{name}.linear2", D, FF) | norm


def random_state(kind: str) -> State:
    """A published state's names and shapes; norms far from where they begin, statistics too."""
    if kind == "Epoch":
        shapes = encoder("") | feed_forward("eeg_ff") | feed_forward("eog_ff")
        shapes |= linear("mlp.1", 5, 2 * D)
    else:
        shapes = attention("seq_atten.", "self_attn") | feed_forward("ff_net")
        for position in range(1, LENGTH + 1):
            shapes |= encoder(f"epoch_{position}.") | linear(f"mlp_{position}.1", 5, D)
    draw = torch.Generator().manual_seed(1)
    state = {name: 0.3 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    for name in list(state):
        if name.endswith("running_var"):
            state[name] = 0.5 + state[name].abs()
            state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
        elif name.endswith("window_embed.cls_token"):
            positions = sinusoidal_positions(5000, D)[:, None]
            state[name.replace("cls_token", "pos.pe")] = positions
    return state


def plain_attention(state: State, prefix: str, kind: str, x: Tensor) -> Tensor:
    """Torch's own attention on the published names, then residual and layer norm."""
    layer = nn.MultiheadAttention(D, 8, batch_first=True, dtype=x.dtype).eval()
    inner = f"{prefix}{kind}."
    layer.load_state_dict({k.removeprefix(inner): v for k, v in state.items() if inner in k})
    mixed = x + layer(x, x, x, need_weights=False)[0]
    return F.layer_norm(mixed, (D,), state[f"{prefix}norm.weight"], state[f"{prefix}norm.bias"])


def plain_branch(state: State, prefix: str, x: Tensor) -> Tensor:
    """Convolutions whose stride is their kernel, each with LeakyReLU, and a batch norm."""
    steps = sorted({int(k[len(prefix) + 1 :].split(".")[0]) for k in state if k.startswith(prefix)})
    for step in steps[:-1]:
        weight = state[f"{prefix}.{step}.weight"]
        x = F.leaky_relu(
            F.conv1d(x, weight, state[f"{prefix}.{step}.bias"], stride=weight.shape[-1])
        )
    norm = [
        state[f"{prefix}.{steps[-1]}.{p}"]
        for p in ("running_mean", "running_var", "weight", "bias")
    ]
    return F.batch_norm(x, *norm)


def plain_encoder(state: State, prefix: str, x: Tensor) -> Tensor:
    """Epochs (n, 2, t) -> the cross-modal CLS (n, d), nothing left out and nothing folded."""
    summaries = []
    for number, modality in enumerate(("eeg_atten.", "eog_atten.")):
        embedding = f"{prefix}{modality}window_embed."
        signal = x[:, number : number + 1]
        scales = [plain_branch(state, f"{embedding}projection_{k}", signal) for k in (1, 2, 3)]
        tokens = plain_branch(state, f"{embedding}projection_4", torch.cat(scales, dim=1))
        cls = state[f"{embedding}cls_token"].expand(len(x), 1, D)
        tokens = torch.cat([cls, tokens.transpose(1, 2)], dim=1)
        tokens = tokens + state[f"{embedding}pos.pe"][: tokens.shape[1], 0]
        summaries.append(plain_attention(state, f"{prefix}{modality}", "self_attn", tokens)[:, 0])
    cls = state[f"{prefix}cross_atten.cls_token"].expand(len(x), 1, D)
    tokens = torch.cat([cls, torch.stack(summaries, dim=1)], dim=1)
    return plain_attention(state, f"{prefix}cross_atten.", "cross_attn", tokens)[:, 0]


def plain_feed_forward(state: State, name: str, x: Tensor) -> Tensor:
    hidden = F.linear(x, state[f"{name}.linear1.weight"], state[f"{name}.linear1.bias"]).relu()
    x = x + F.linear(hidden, state[f"{name}.linear2.weight"], state[f"{name}.linear2.bias"])
    return F.layer_norm(x, (D,), state[f"{name}.norm.weight"], state[f"{name}.norm.bias"])


def plain_logits(state: State, kind: str, x: Tensor) -> Tensor:
    """Logits (b, l, 5) of windows (b, l, 2, t) by the published description."""
    if kind == "Epoch":
        vectors = plain_encoder(state, "", x.flatten(0, 1))
        both = [plain_feed_forward(state, name, vectors) for name in ("eeg_ff", "eog_ff")]
        logits = F.linear(torch.cat(both, dim=1), state["mlp.1.weight"], state["mlp.1.bias"])
        return logits.unflatten(0, x.shape[:2])
    vectors = [plain_encoder(state, f"epoch_{k + 1}.", x[:, k]) for k in range(LENGTH)]
    mixed = plain_attention(state, "seq_atten.", "self_attn", torch.stack(vectors, dim=1))
    mixed = plain_feed_forward(state, "ff_net", mixed)
    heads = [(state[f"mlp_{k + 1}.1.weight"], state[f"mlp_{k + 1}.1.bias"]) for k in range(LENGTH)]
    return torch.stack([F.linear(mixed[:, k], *head) for k, head in enumerate(heads)], dim=1)


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
        effects = [effect_of(state, name, place, net, x, expected) for place in places]
        assert max(effects) > 1e-6, f"{name} at {places}: {effects}"
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
