"""Published weights: state dictionaries of their names and shapes become ours, and nothing else."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import convert_checkpoint
import models
from models.seqsleepnet import triangular_bank
from tests.test_staging_scripts import evaluate
from utils.checkpoint import load_checkpoint
from utils.errors import UserError


def probe(*shape: int) -> torch.Tensor:
    """The input of the golden logits: no random generator."""
    n = np.arange(np.prod(shape), dtype=np.float64)
    x = np.sin(0.37 * n) + 0.5 * np.cos(0.011 * n)
    return torch.from_numpy(x.astype(np.float32).reshape(shape))


def random_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"nn.{k}": 0.1 * torch.randn(*v, generator=generator) for k, v in shapes.items()}


def chambon_state(channels: int) -> dict[str, torch.Tensor]:
    features = "epoch_encoder.feature_extractor."
    shapes = {
        f"{features}0.weight": (8, 1, 1, 50),
        f"{features}0.bias": (8,),
        f"{features}4.weight": (8, 8, 1, 50),
        f"{features}4.bias": (8,),
        "clf.weight": (5, 2856 * channels),
        "clf.bias": (5,),
    }
    if channels > 1:
        shapes["epoch_encoder.spatial_conv.weight"] = (channels, 1, channels, 1)
        shapes["epoch_encoder.spatial_conv.bias"] = (channels,)
    return random_state(shapes)


def both_ways(prefix: str, gates: int, inputs: int, hidden: int = 64) -> dict[str, tuple]:
    return {
        f"{prefix}.{name}{way}": shape
        for way in ("", "_reverse")
        for name, shape in (
            ("weight_ih_l0", (gates * hidden, inputs)),
            ("weight_hh_l0", (gates * hidden, hidden)),
            ("bias_ih_l0", (gates * hidden,)),
            ("bias_hh_l0", (gates * hidden,)),
        )
    }


def seqsleepnet_state(channels: int) -> dict[str, torch.Tensor]:
    encoder = "epoch_encoder."
    state = random_state(
        both_ways(f"{encoder}F2_birnn", 4, 32 * channels)
        | both_ways("sequence_encoder.LSTM", 3, 128)
        | {
            f"{encoder}F2_filtbank.W": (channels, 129, 32),
            f"{encoder}F2_attention.W_omega": (128, 32),
            f"{encoder}F2_attention.b_omega": (32,),
            f"{encoder}F2_attention.u_omega": (32,),
            "sequence_encoder.clf.weight": (5, 128),
            "sequence_encoder.clf.bias": (5,),
        }
    )
    state[f"nn.{encoder}F2_filtbank.S"] = triangular_bank(100.0).repeat(channels, 1, 1)
    return state


def dreem_state(channels: int) -> dict[str, torch.Tensor]:
    def linear(prefix, outputs, inputs):
        return {f"{prefix}.weight": (outputs, inputs), f"{prefix}.bias": (outputs,)}

    encoder, sequence = "encoder.eeg.encoder", "sequence_encoder.encoder"
    shapes = (
        linear(f"{encoder}.filter_reduction", 30, 129)
        | linear(f"{encoder}.virtual_channels", channels, channels)
        | both_ways(f"{encoder}.gru", 3, 30 * channels, 25)
        | linear("features_encoder.layers.0.linear_0", 5, 6)
        | linear(f"{sequence}.0.residual_connection", 50, 55)
        | both_ways(f"{sequence}.0.gru", 3, 55, 25)
        | linear(f"{sequence}.1.residual_connection", 50, 50)
        | both_ways(f"{sequence}.1.gru", 3, 50, 25)
        | linear("classifier", 5, 50)
        | {
            "reducer.eeg.context_matrix": (50, 25),
            "reducer.eeg.context_bias": (1, 25),
            "reducer.eeg.context_vector": (25, 1),
        }
    )
    return {k.removeprefix("nn."): v for k, v in random_state(shapes).items()}


def dreem_tar(path: Path, state: dict, channels: int, name: str = "m/state.torch") -> Path:
    weights = io.BytesIO()
    torch.save(state, weights)
    mu = np.full((channels, 129, 1), -3.0).tolist()
    statistics = {"mu": mu, "sigma": np.full((channels, 129, 1), 2.0).tolist()}
    normal = json.dumps({"signals": [statistics]}).encode()
    with tarfile.open(path, "w") as archive:
        for member, raw in (
            (name, weights.getvalue()),
            ("m/normalization_parameters.json", normal),
        ):
            info = tarfile.TarInfo(member)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return path


def convert(path: Path, *words: str) -> nn.Module:
    out = path.with_name("ours.pt")
    convert_checkpoint.main([str(path), "--to", str(out), *words])
    return models.build_from(load_checkpoint(out))


@pytest.mark.parametrize("channels", [1, 3])
def test_chambon_computes_what_its_layers_say(channels, tmp_path):
    state = chambon_state(channels)
    torch.save({"state_dict": state}, tmp_path / "theirs.ckpt")
    net = convert(tmp_path / "theirs.ckpt", "--from", "physioex", "--model", "chambon2018")
    x = probe(4, 21, channels, 3000)
    w = {name.removeprefix("nn."): value for name, value in state.items()}
    activations = x.flatten(0, 1)[:, None]  # (n, 1, c, t), two-dimensional as in the original
    if channels > 1:
        spatial = [w[f"epoch_encoder.spatial_conv.{p}"] for p in ("weight", "bias")]
        activations = nn.functional.conv2d(activations, *spatial).transpose(1, 2)
    for number in (0, 4):
        weights = [w[f"epoch_encoder.feature_extractor.{number}.{p}"] for p in ("weight", "bias")]
        activations = nn.functional.conv2d(activations, *weights, padding=(0, 25)).relu()
        activations = nn.functional.max_pool2d(activations, (1, 13))
    expected = (
        activations.flatten(1).unflatten(0, (4, 21)).flatten(1) @ w["clf.weight"].T + w["clf.bias"]
    )
    with torch.no_grad():
        assert torch.allclose(net(x)[:, 0], expected, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_seqsleepnet_computes_what_its_layers_say(channels, tmp_path):
    state = seqsleepnet_state(channels)
    torch.save({"state_dict": state}, tmp_path / "theirs.ckpt")
    net = convert(tmp_path / "theirs.ckpt", "--from", "physioex", "--model", "seqsleepnet")
    w = {name.removeprefix("nn."): value for name, value in state.items()}
    x = probe(2, 21, channels, 29, 129)

    def recurrent(kind, prefix, z):
        cells = kind(z.shape[-1], 64, batch_first=True, bidirectional=True)
        cells.load_state_dict(
            {k.removeprefix(f"{prefix}."): v for k, v in w.items() if k.startswith(f"{prefix}.")}
        )
        return cells(z)[0]

    bank = w["epoch_encoder.F2_filtbank.W"].sigmoid() * w["epoch_encoder.F2_filtbank.S"]
    with torch.no_grad():
        frames = (x.flatten(0, 1) @ bank).transpose(1, 2).flatten(2)
        hidden = recurrent(nn.LSTM, "epoch_encoder.F2_birnn", frames)
        attention = "epoch_encoder.F2_attention."
        score = torch.tanh(hidden @ w[f"{attention}W_omega"] + w[f"{attention}b_omega"])
        weights = (score @ w[f"{attention}u_omega"]).softmax(dim=1)
        pooled = (hidden * weights[..., None]).sum(dim=1).unflatten(0, (2, 21))
        after = recurrent(nn.GRU, "sequence_encoder.LSTM", pooled)
        expected = after @ w["sequence_encoder.clf.weight"].T + w["sequence_encoder.clf.bias"]
        logits = net.classify(net.encode_spectrogram(x.flatten(0, 1)).unflatten(0, (2, 21)))
    assert torch.allclose(logits, expected, atol=1e-4)


@pytest.mark.parametrize("channels", [16, 12])
def test_dreems_weights_and_statistics_are_read(channels, tmp_path):
    state = dreem_state(channels)
    net = convert(dreem_tar(tmp_path / "net.gz", state, channels), "--from", "dreem")
    assert net.spectrogram.mean.shape == (channels, 129, 1)
    assert (net.spectrogram.mean == -3).all() and (net.spectrogram.sd == 2).all()
    assert torch.equal(net.pool.score.weight, state["reducer.eeg.context_matrix"].T)
    assert torch.equal(net.head.weight, state["classifier.weight"])
    assert net(50 * probe(1, 21, channels, 3000)).shape == (1, 21, 5)


def test_other_weights_are_refused(tmp_path):
    words = ["--from", "physioex", "--model", "chambon2018"]
    path = tmp_path / "theirs.ckpt"
    torch.save(chambon_state(1) | {"nn.extra": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="unexpected weights: extra"):
        convert(path, *words)
    torch.save({"nn.a": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"no weights 'epoch_encoder.feature_extractor.0.weight'"):
        convert(path, *words)
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(UserError, match="no file of plain tensors"):
        convert(path, *words)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="no file of plain tensors"):
        convert(path, *words)
    with pytest.raises(UserError, match="no such file"):
        convert(tmp_path / "absent", *words)
    with pytest.raises(UserError, match="no tar of Dreem's"):
        convert(path, "--from", "dreem")
    with pytest.raises(UserError, match="--model: name one of"):
        convert(path, "--from", "physioex")
    changed = seqsleepnet_state(1)
    changed["nn.epoch_encoder.F2_filtbank.S"][0, 3, 0] += 1
    torch.save(changed, path)
    with pytest.raises(UserError, match="not the triangular bank"):
        convert(path, "--from", "physioex", "--model", "seqsleepnet")
    assert not (tmp_path / "ours.pt").exists()


def test_broken_statistics_are_one_line(tmp_path):
    path = tmp_path / "net.gz"
    with tarfile.open(path, "w") as archive:
        for name in ("m/state.torch", "m/normalization_parameters.json"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"{[}"))
    with pytest.raises(UserError, match="not weights of this model"):
        convert(path, "--from", "dreem")


def test_weights_of_another_shape_name_what_differs(tmp_path):
    state = chambon_state(1)
    state["nn.clf.bias"] = torch.zeros(6)
    torch.save(state, tmp_path / "theirs.ckpt")
    with pytest.raises(UserError, match=r"head.bias"):
        convert(tmp_path / "theirs.ckpt", "--from", "physioex", "--model", "chambon2018")


def test_a_tar_cannot_lead_out_of_itself(tmp_path):
    path = dreem_tar(tmp_path / "net.gz", dreem_state(12), 12, name="../state.torch")
    with pytest.raises(UserError, match="leads out of it"):
        convert(path, "--from", "dreem")


GOLDEN = {
    ("chambon2018", 3): (1.16978, 0.84012, -1.19229, -6.32578, 3.83287),
    ("chambon2018", 1): (-0.23671, -0.41190, 2.11226, -1.01756, -1.35597),
    ("seqsleepnet", 3): (2.12676, 1.00829, 2.89931, -3.33112, -2.70282),
    ("seqsleepnet", 1): (-1.07213, -1.23941, 0.39867, -3.57016, 5.50565),
    ("simplesleepnet", 16): (-1.22031, -2.09981, 1.85400, 3.46916, -3.16818),
    ("simplesleepnet", 12): (0.73964, -2.02203, 0.25329, 1.76317, -0.75972),
}


def logits_of(net: nn.Module, name: str, channels: int) -> torch.Tensor:
    with torch.no_grad():
        if name == "chambon2018":
            return net(probe(4, 21, channels, 3000))[0, 0]
        if name == "seqsleepnet":
            x = probe(4, 21, channels, 29, 129)
            return net.classify(net.encode_spectrogram(x.flatten(0, 1)).unflatten(0, (4, 21)))[
                0, 10
            ]
        return net(50 * probe(4, 21, channels, 3000))[0, 10]


@pytest.mark.parametrize(("name", "channels"), GOLDEN)
def test_golden_logits(name, channels, tmp_path):
    """With the published files in ``SLEEP_WEIGHTS/<model>_<channels>.*``; skipped without."""
    folder = os.environ.get("SLEEP_WEIGHTS")
    files = sorted(Path(folder).glob(f"{name}_{channels}.*")) if folder else []
    if not files:
        pytest.skip("SLEEP_WEIGHTS holds no such file")
    words = ["--from", "dreem"]
    if name != "simplesleepnet":
        words = ["--from", "physioex", "--model", name]
    convert_checkpoint.main([str(files[0]), "--to", str(tmp_path / "ours.pt"), *words])
    net = models.build_from(load_checkpoint(tmp_path / "ours.pt"))
    assert logits_of(net, name, channels).tolist() == pytest.approx(
        GOLDEN[name, channels], abs=1e-4
    )


def test_converted_weights_are_evaluated_and_say_what_is_not_known(store, tmp_path, capsys):
    torch.save(chambon_state(1), tmp_path / "theirs.ckpt")
    words = ["--from", "physioex", "--model", "chambon2018"]
    convert(tmp_path / "theirs.ckpt", *words)
    evaluate(store, tmp_path, "--model_path", str(tmp_path / "ours.pt"), "-e", "chambon2018")
    said = capsys.readouterr().out
    assert "converted from physioex's theirs.ckpt; whom it was trained on is not known" in said
    folder = next(tmp_path.glob("evaluation_*"))
    about = json.loads((folder / "metrics.json").read_text())["about"]
    assert "weights of physioex" in about["headline"] and "all subjects" in about["headline"]
    assert about["trained"]["cohort"].startswith("unknown") and "scaling" not in about
    assert len(list((folder / "predictions").glob("*.csv"))) == len(store.recordings)
    evaluate(store, tmp_path, "--model_path", str(tmp_path / "ours.pt"), "--val_data_list", "1")
    about = json.loads((folder / "metrics.json").read_text())["about"]
    assert about["held_out_folds"] == [1]


def test_spectrograms_without_statistics_are_scaled_by_what_is_staged(store, tmp_path, capsys):
    torch.save(seqsleepnet_state(1), tmp_path / "theirs.ckpt")
    convert(tmp_path / "theirs.ckpt", "--from", "physioex", "--model", "seqsleepnet")
    evaluate(store, tmp_path, "--model_path", str(tmp_path / "ours.pt"))
    assert "scaled by of the" not in (said := capsys.readouterr().out)
    assert "scaled by the nights staged: the weights came without any" in said
    folder = next(tmp_path.glob("evaluation_*"))
    about = json.loads((folder / "metrics.json").read_text())["about"]
    assert about["scaling"].startswith("the nights staged")
