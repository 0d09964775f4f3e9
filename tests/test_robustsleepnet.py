"""RobustSleepNet: the published network beside its equations, and what it makes of gaps."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import convert_checkpoint
import models
from tests.test_convert_checkpoint import both_ways
from utils.checkpoint import load_checkpoint
from utils.errors import UserError

ENCODER, SEQUENCE = "encoder_eeg.encoder", "sequence_encoder.encoder"
TOLERANCE = 1e-4


def linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def attention(name: str, context: int, inputs: int) -> dict[str, tuple[int, ...]]:
    vector = {f"{name}.context_vector.weight": (1, context)}
    return linear(f"{name}.context_matrix", context, inputs) | vector


SHAPES = (
    linear(f"{ENCODER}.filter_reduction", 32, 65)
    | {
        tensor: shape
        for k in range(4)
        for tensor, shape in attention(f"{ENCODER}.channel_attention.attention_{k}", 30, 32).items()
    }
    | both_ways(f"{ENCODER}.gru", 3, 128, 64)
    | linear("reducer_eeg.reduction", 50, 128)
    | attention("reducer_eeg.attention", 25, 50)
    | linear(f"{SEQUENCE}.0.residual_connection", 100, 50)
    | both_ways(f"{SEQUENCE}.0.gru", 3, 50, 50)
    | linear(f"{SEQUENCE}.1.residual_connection", 100, 100)
    | both_ways(f"{SEQUENCE}.1.gru", 3, 100, 50)
    | linear("classifier", 5, 100)
)


def random_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.2 * torch.randn(*shape, generator=generator) for name, shape in SHAPES.items()}


def tar(path: Path, state: dict, member: str = "m/state.torch") -> Path:
    weights = io.BytesIO()
    torch.save(state, weights)
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(member)
        info.size = len(weights.getvalue())
        archive.addfile(info, io.BytesIO(weights.getvalue()))
    return path


def converted(path: Path, out: Path) -> nn.Module:
    convert_checkpoint.main([str(path), "--from", "robustsleepnet", "--to", str(out)])
    return models.build_from(load_checkpoint(out))


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> nn.Module:
    """Random weights, through a tar as published."""
    folder = tmp_path_factory.mktemp("random")
    return converted(tar(folder / "best_model.gz", random_state()), folder / "ours.pt")


def by_night(net: nn.Module) -> nn.Module:
    """The same weights, standardised over the night."""
    other = models.build("robustsleepnet", num_seq=net.num_seq, standardise_over="night")
    other.load_state_dict(net.state_dict())
    return other.eval()


def noise(channels: int, n_windows: int = 2) -> np.ndarray:
    """The input of the golden logits."""
    x = np.random.RandomState(0).randn(n_windows, 21, channels, 1800)
    return x.astype(np.float32)


def logits(net: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(torch.from_numpy(x)).numpy()


# the network again, from the published names and equations alone, in double precision


def sigmoid(v: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-v))


def gru(w: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    """Both directions of a recurrent layer, step by step: (n, steps, d) -> (n, steps, 2 h)."""
    ways = []
    for way, order in (("", slice(None)), ("_reverse", slice(None, None, -1))):
        w_ih, w_hh, b_ih, b_hh = (
            w[f"{name}.{kind}_l0{way}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h, steps = np.zeros((len(x), w_hh.shape[1])), []
        for step in x.swapaxes(0, 1)[order]:
            from_input = np.split(step @ w_ih.T + b_ih, 3, axis=1)
            from_before = np.split(h @ w_hh.T + b_hh, 3, axis=1)
            reset, update = (sigmoid(from_input[k] + from_before[k]) for k in (0, 1))
            h = (1 - update) * np.tanh(from_input[2] + reset * from_before[2]) + update * h
            steps.append(h)
        ways.append(np.stack(steps[order], axis=1))
    return np.concatenate(ways, axis=-1)


def affine(w: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def attended(w: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    """Weighted mean over the axis before the last."""
    hidden = np.tanh(affine(w, f"{name}.context_matrix", x))
    score = np.exp(hidden @ w[f"{name}.context_vector.weight"].T)
    return (score / score.sum(axis=-2, keepdims=True) * x).sum(axis=-2)


def reference(state: dict[str, torch.Tensor], x: np.ndarray) -> np.ndarray:
    """Logits of windows (b, l, c, 1800) -> (b, l, 5)."""
    w = {name: value.double().numpy() for name, value in state.items()}
    window = np.hanning(128) / np.hanning(128).sum()
    clipped = x.astype(float).clip(-20, 20) / 20
    frames = np.stack([clipped[..., k : k + 128] for k in range(0, 1673, 60)], axis=-2)
    power = np.log10(np.maximum(np.abs(np.fft.rfft(frames * window)) ** 2, 1e-20))
    z = power - power.mean(axis=(1, 3), keepdims=True)
    z /= power.std(axis=(1, 3), keepdims=True, ddof=1)  # b, l, c, 28, 65
    filtered = affine(w, f"{ENCODER}.filter_reduction", z).swapaxes(2, 3)  # b, l, 28, c, 32
    names = [f"{ENCODER}.channel_attention.attention_{k}" for k in range(4)]
    virtual = np.concatenate([attended(w, name, filtered) for name in names], axis=-1)
    steps = gru(w, f"{ENCODER}.gru", virtual.reshape(-1, *virtual.shape[2:]))
    pooled = attended(w, "reducer_eeg.attention", affine(w, "reducer_eeg.reduction", steps))
    h = pooled.reshape(*x.shape[:2], -1)
    for k in (0, 1):
        name = f"{SEQUENCE}.{k}"
        h = (affine(w, f"{name}.residual_connection", h) + gru(w, f"{name}.gru", h)) / 2
    return affine(w, "classifier", h)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_computes_what_its_equations_say(net, channels):
    x = noise(channels)
    x[0, 3, 0, 700:720] = 90  # beyond the clip
    x[0, :, 0] += 10 * np.sin(0.7 * np.arange(1800))  # a tone, whose log power hardly varies
    expected = reference(random_state(), x)
    assert np.abs(logits(net, x) - expected).max() < TOLERANCE


def test_size_and_shapes(net):
    for channels in (1, 3, 8):
        built = models.build("robustsleepnet", n_channels=channels)
        assert sum(p.numel() for p in built.parameters()) == 180_343
        x = torch.from_numpy(noise(channels))
        assert net.log_power(x).shape == (2, 21, channels, 28, 65)
        assert net.encode_epochs(x[0]).shape == (21, 50)
        assert net(x).shape == (2, 21, 5)
    assert net.any_channels and not net.separable
    assert models.build("robustsleepnet", standardise_over="night").separable
    assert models.build("robustsleepnet", num_seq=5)(x, stride=2).shape == (2 * 9, 5, 5)
    with pytest.raises(ValueError, match="reads 60 Hz; prepare the store with --resample 60"):
        models.build("robustsleepnet", fs=100.0)
    with pytest.raises(ValueError, match="window or night"):
        models.build("robustsleepnet", standardise_over="epoch")
    with pytest.raises(ValueError, match="within their window"):
        models.build("pretraining", encoder="robustsleepnet", fs=60.0, n_samples=1800)


# file, channels: logits of the original code in epochs [0, 10] and [1, 3] of ``noise``
GOLDEN = {
    ("0dfcee73", 1): (
        (3.49728, -2.49525, -0.07487, 0.17822, -1.05012),
        (3.04814, -2.09887, 0.12042, -0.37037, -0.79945),
    ),
    ("0dfcee73", 3): (
        (8.80262, -0.50228, -0.81086, -3.26571, -2.61150),
        (7.42101, -0.82065, -0.46769, -2.86964, -2.07816),
    ),
    ("415fe39c", 1): (
        (2.50336, -1.97343, 0.75726, 0.25539, -1.46939),
        (2.12967, -1.81389, 0.87169, 0.46647, -1.64711),
    ),
    ("8f1969fa", 1): (
        (3.95471, -2.07331, 0.13098, -0.71012, -1.04022),
        (5.87868, -1.15349, -0.43080, -1.91065, -1.12180),
    ),
    ("a2eb4aed", 1): (
        (2.54516, -1.67778, 0.05219, -0.55876, -1.00119),
        (1.97580, -1.83634, 0.15491, -0.08594, -0.97244),
    ),
    ("be685bd5", 1): (
        (-0.36609, -2.41035, 1.33452, 1.02360, -0.73205),
        (0.21538, -2.02649, 0.91768, 0.69188, -0.66529),
    ),
    ("e5844e92", 1): (
        (2.80615, -2.29884, 0.49169, 0.87228, -0.96756),
        (4.01187, -1.55711, 0.27143, -0.41887, -1.12987),
    ),
    ("fdbd193a", 1): (
        (3.07965, -1.90440, 0.11357, -0.00012, -1.17236),
        (3.25800, -1.93902, 0.21316, -0.25964, -1.15244),
    ),
}
GOLDEN["40c76916", 1] = GOLDEN["0dfcee73", 1]  # the same weights, published twice


def published_file(name: str) -> Path:
    """``SLEEP_WEIGHTS/robustsleepnet/<name>*.gz``, or a skip."""
    folder = os.environ.get("SLEEP_WEIGHTS")
    files = sorted(Path(folder, "robustsleepnet").glob(f"{name}*.gz")) if folder else []
    if not files:
        pytest.skip("SLEEP_WEIGHTS holds no such file")
    return files[0]


@pytest.mark.parametrize(("name", "channels"), GOLDEN)
def test_golden_logits(name, channels, tmp_path):
    """The equations meet the given rows; then they give all others, with three channels too."""
    path = published_file(name)
    net = converted(path, tmp_path / "ours.pt")
    with tarfile.open(path) as archive:
        member = next(m for m in archive.getnames() if m.endswith("state.torch"))
        raw = io.BytesIO(archive.extractfile(member).read())
    state = torch.load(raw, map_location="cpu", weights_only=True)  # saved on a GPU
    assert {key: tuple(value.shape) for key, value in state.items()} == SHAPES
    x = noise(channels)
    expected, ours = reference(state, x), logits(net, x)
    for computed in (expected, ours):
        given = np.array(GOLDEN[name, channels])
        assert np.abs(np.stack([computed[0, 10], computed[1, 3]]) - given).max() < TOLERANCE
    assert np.abs(ours - expected).max() < TOLERANCE
    more = noise(3, 3)[2:]
    assert np.abs(logits(net, more) - reference(state, more)).max() < TOLERANCE


def drawn(net: nn.Module, n_positions: int = 8) -> list[tuple[str, int]]:
    """Some positions in every tensor."""
    draw = np.random.RandomState(1)
    return [
        (name, k)
        for name, tensor in net.state_dict().items()
        for k in draw.choice(
            tensor.numel(), min(tensor.numel(), n_positions), replace=False
        ).tolist()
    ]


def effects(net: nn.Module, positions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], float]:
    """Largest change of the logits of ``noise(3)`` by 0.5 more in one weight."""
    weights, changes = net.state_dict(), {}
    with torch.no_grad():
        power = net.log_power(torch.from_numpy(noise(3)).to(net.head.weight))
        before = net.classify(net.encode(power))
        for name, k in positions:
            flat = weights[name].view(-1)  # shares its memory with the network
            kept = flat[k].clone()
            flat[k] += 0.5
            after = net.classify(net.encode(power))
            changes[name, k] = (after - before).abs().max().item()
            flat[k] = kept
    return changes


def test_every_weight_is_seen_in_the_logits(net):
    changes = effects(net, drawn(net))
    assert len({name for name, _ in changes}) == len(SHAPES) == 49
    assert [key for key, change in changes.items() if change <= TOLERANCE] == []


# weights of 0dfcee73 whose change is seen in double precision alone: units that are saturated,
# or that hardly anything after them reads
UNSEEN = {
    ("virtual.0.score.weight", 690), ("virtual.0.score.weight", 699), ("pool.score.weight", 87),
    ("pool.score.bias", 21), ("layers.0.rnn.weight_hh_l0", 561), ("layers.1.rnn.weight_ih_l0", 317),
    ("layers.1.rnn.weight_ih_l0", 453), ("layers.1.rnn.weight_ih_l0", 4093),
    ("layers.1.rnn.bias_ih_l0", 4), ("layers.1.rnn.weight_ih_l0_reverse", 1851),
    ("layers.1.rnn.bias_ih_l0_reverse", 46), ("layers.1.rnn.bias_hh_l0_reverse", 21),
}  # fmt: skip


@pytest.mark.slow
def test_every_published_weight_is_seen_but_for_saturated_units(tmp_path):
    net = converted(published_file("0dfcee73"), tmp_path / "ours.pt")
    changes = effects(net, drawn(net))
    assert {key for key, change in changes.items() if change <= TOLERANCE} <= UNSEEN
    assert min(effects(net.double(), UNSEEN).values()) > 1e-9


def test_the_attention_over_one_channel_is_nothing(net):
    # which is why golden rows of one channel do not test it
    x, before = noise(1), logits(net, noise(1))
    changed = by_night(net)  # a copy
    changed.by_night = False
    with torch.no_grad():
        for weight in changed.virtual.parameters():
            weight += 0.5
    assert np.abs(logits(changed, x) - before).max() < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classifier.bias": torch.zeros(6)}, r"size mismatch for head.bias"),
        ({"classifier.bias": None}, "no weights 'classifier.bias'"),
        ({"classifier.scale": torch.zeros(5)}, "unexpected weights: classifier.scale"),
        ({f"{ENCODER}.channel_attention.attention_4.context_matrix.bias": torch.zeros(30)},
         "unexpected weights"),
    ],
)  # fmt: skip
def test_other_weights_are_refused_in_one_line(change, message, tmp_path):
    state = {k: v for k, v in (random_state() | change).items() if v is not None}
    path = tar(tmp_path / "best_model.gz", state)
    with pytest.raises(UserError, match=message) as refused:
        converted(path, tmp_path / "ours.pt")
    assert "\n" not in str(refused.value) and not (tmp_path / "ours.pt").exists()


def test_a_tar_of_something_else_is_refused(tmp_path):
    path = tar(tmp_path / "best_model.gz", random_state(), member="weights.torch")
    with pytest.raises(UserError, match=r"the tar has no state\.torch"):
        converted(path, tmp_path / "ours.pt")


def test_a_converted_checkpoint_states_what_it_is(tmp_path):
    converted(tar(tmp_path / "best_model.gz", random_state()), tmp_path / "ours.pt")
    checkpoint = load_checkpoint(tmp_path / "ours.pt")
    assert (checkpoint.model, checkpoint.fs, checkpoint.standardise) == (
        "robustsleepnet", 60.0, "none",
    )  # fmt: skip
    assert checkpoint.settings["num_seq"] == 21 and checkpoint.channels == (("EEG", "EEG"),)
    source = checkpoint.source
    assert (source["origin"], source["file"]) == ("robustsleepnet", "best_model.gz")
    assert source["channels"] == "any number and kind, in any order"
    assert len(source["sha256"]) == 64 and source["command"]
