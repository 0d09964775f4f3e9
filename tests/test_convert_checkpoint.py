"""Published weights: state dictionaries of their names and shapes become ours, and nothing else."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import convert_checkpoint
import models
from models.seqsleepnet import triangular_bank
from tests import published_layers
from tests.published_layers import noise, probe
from tests.test_staging_scripts import evaluate, train
from utils.checkpoint import load_checkpoint, load_tensors
from utils.errors import UserError


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
            "reducer.eeg.context_matrix": (25, 50),
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
    with torch.no_grad():
        assert torch.allclose(net(x)[:, 0], published_layers.chambon2018(w, x), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_seqsleepnet_computes_what_its_layers_say(channels, tmp_path):
    state = seqsleepnet_state(channels)
    torch.save({"state_dict": state}, tmp_path / "theirs.ckpt")
    net = convert(tmp_path / "theirs.ckpt", "--from", "physioex", "--model", "seqsleepnet")
    w = {name.removeprefix("nn."): value for name, value in state.items()}
    x = probe(2, 21, channels, 29, 129)
    with torch.no_grad():
        logits = net.classify(net.encode_spectrogram(x.flatten(0, 1)).unflatten(0, (2, 21)))
        assert torch.allclose(logits, published_layers.seqsleepnet(w, x), atol=1e-4)


@pytest.mark.parametrize("channels", [16, 12])
def test_dreems_weights_and_statistics_are_read(channels, tmp_path):
    state = dreem_state(channels)
    net = convert(dreem_tar(tmp_path / "net.gz", state, channels), "--from", "dreem")
    assert net.spectrogram.mean.shape == (channels, 129, 1)
    assert (net.spectrogram.mean == -3).all() and (net.spectrogram.sd == 2).all()
    x = noise(2, 21, channels, 3000, scale=50)
    with torch.no_grad():
        expected = published_layers.simplesleepnet(
            state, net.spectrogram.mean, net.spectrogram.sd, x
        )
        torch.testing.assert_close(net(x), expected, atol=1e-5, rtol=0)


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
    with pytest.raises(UserError, match=r"normalization_parameters\.json: no JSON"):
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


def test_converted_weights_are_evaluated_and_say_what_is_not_known(store, tmp_path, capsys):
    torch.save(chambon_state(1), tmp_path / "theirs.ckpt")
    words = ["--from", "physioex", "--model", "chambon2018"]
    convert(tmp_path / "theirs.ckpt", *words)
    evaluate(store, tmp_path, "--model_path", str(tmp_path / "ours.pt"), "-e", "chambon2018")
    printed = capsys.readouterr().out
    assert "trained on SHHS, unknown subjects (physioex's theirs.ckpt); if they are" in printed
    folder = next(tmp_path.glob("evaluation_*"))
    about = json.loads((folder / "metrics.json").read_text())["about"]
    assert "weights of physioex" in about["headline"] and "all subjects" in about["headline"]
    assert about["trained"]["cohort"].startswith("SHHS, unknown subjects")
    assert len(list((folder / "predictions").glob("*.csv"))) == len(store.recordings)
    evaluate(store, tmp_path, "--model_path", str(tmp_path / "ours.pt"), "--val_data_list", "1")
    about = json.loads((folder / "metrics.json").read_text())["about"]
    assert about["held_out_folds"] == [1]


def test_spectrograms_without_statistics_are_scaled_by_each_night(store, tmp_path):
    torch.save(seqsleepnet_state(1), tmp_path / "theirs.ckpt")
    net = convert(tmp_path / "theirs.ckpt", "--from", "physioex", "--model", "seqsleepnet")
    night = noise(40, 1, 3000) * torch.linspace(1, 3, 3000)
    night[7] = 0.0123 + 1e-8 * night[7]  # a gap with a filter's traces, far below any signal
    alone = net.stage_night(night)
    recorded = torch.arange(40) != 7
    scaled = net.spectrogram(night[recorded]).double()
    torch.testing.assert_close(
        scaled.mean(dim=(0, 2)), torch.zeros(1, 129).double(), atol=1e-4, rtol=0
    )
    spread = scaled.std(dim=(0, 2), correction=0)
    torch.testing.assert_close(spread, torch.ones(1, 129).double(), atol=1e-4, rtol=0)
    net.stage_night(50 * night)  # another night in between changes nothing, nor do batches
    torch.testing.assert_close(net.stage_night(night, batch_size=9), alone, atol=1e-5, rtol=0)
    # a unit is a constant in decibels, which the night's own mean takes out
    torch.testing.assert_close(net.stage_night(10 * night)[20], alone[20], atol=1e-3, rtol=0)
    evaluate(store, tmp_path, "--model_path", str(tmp_path / "ours.pt"))
    assert next(tmp_path.glob("evaluation_*/metrics.json")).exists()
    # files from before the scaling was kept would be staged in plain decibels
    content = load_tensors(tmp_path / "ours.pt")
    del content["source"]["preparation"], content["settings"]["scaled_by"]
    torch.save(content, tmp_path / "before.pt")
    with pytest.raises(UserError, match=r"earlier version.*run convert_checkpoint.py again"):
        evaluate(store, tmp_path, "--model_path", str(tmp_path / "before.pt"))


def test_converted_weights_begin_a_training(store, tmp_path):
    """Settings are compared with defaults filled in, and missing statistics are fitted."""
    torch.save(seqsleepnet_state(1), tmp_path / "theirs.ckpt")
    theirs = convert(tmp_path / "theirs.ckpt", "--from", "physioex", "--model", "seqsleepnet")
    begin = ["--model_path", str(tmp_path / "ours.pt"), "--lr", "1e-9", "--n_epochs", "1"]
    with pytest.raises(UserError, match="has num_seq 21; these flags ask for num_seq 5"):
        train(store, tmp_path, "seqsleepnet", "--num_seq", "5", *begin)
    run = train(store, tmp_path, "seqsleepnet", "--num_seq", "21", *begin)
    ours = load_checkpoint(run / "checkpoints" / "best.pt")
    assert torch.allclose(ours.state["head.weight"], theirs.head.weight, atol=1e-6)
    assert (ours.state["spectrogram.sd"] != 1).all()
    assert ours.settings.get("scaled_by", "training") == "training"
    assert ours.training.pretraining.cohort.startswith("SHHS, unknown subjects")
