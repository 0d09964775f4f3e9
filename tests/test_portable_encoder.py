"""Exported encoders: a card beside them, loaded in three lines, embedding nights as here."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

import export_encoder
import models
from datasets.store import splits
from evaluation import embed
from evaluation.probe_pretrained import row_of, write_probes
from evaluation.stagers.portable_encoder import WEIGHTS, load_encoder, save_encoder
from probing import probes
from probing.probes import Labelled
from utils.checkpoint import load_checkpoint, save_checkpoint
from utils.errors import UserError


def rows() -> list[dict]:
    """As few rows as a table of probes may have."""
    y = np.tile(np.arange(5), 12)
    test = Labelled(np.zeros((60, 1)), y, np.repeat(["a", "b", "c"], 20))
    right = probes.Probed(y, np.eye(5)[y], "C 1")
    wrong = probes.Probed(np.zeros(60, int), np.eye(5)[y], "C 1")
    kinds = (("majority", "–"), ("random encoder", "linear"), ("pretrained", "linear"))
    table = [
        row_of(space, probe, "all", 1.0, {"held_out": test}, [wrong]) for space, probe in kinds[:2]
    ]
    table.append(row_of(*kinds[2], "all", 1.0, {"held_out": test}, [right]))
    return [*table, row_of(*kinds[2], "subject", 0.1, {"held_out": test}, [wrong])]


@pytest.fixture(scope="module")
def run(store, tmp_path_factory) -> Path:
    """A run of an encoder of random weights, with the facts of a training and its probes."""
    path = tmp_path_factory.mktemp("runs") / "ssl_masked_transformer_fold1_seed0"
    subjects = sorted(store.subjects)
    facts = {
        "command": "ssl_training.py --data_path /home/somebody/secret/store",
        "cohort": store.cohort, "protocol": store.settings["protocol"],
        "preparation": store.settings,
        "store": splits.fingerprint(store), "folds": None, "train_folds": [0],
        "held_out_folds": [1], "select_on": "validation",
        "subjects": {
            "train": subjects[:1], "validation": subjects[1:2], "held_out": subjects[2:],
        },
    }  # fmt: skip
    settings = {"encoder": "transformer", "n_channels": 1, "decoder": True, "projection": [8]}
    torch.manual_seed(0)
    content = {
        "model": "pretraining", "settings": settings, "channels": [["EEG Fpz-Cz", "EEG"]],
        "fs": 100.0, "standardise": "recording", "scaled_over": "kept", "trained": facts, "pass": 2,
        "state": models.build("pretraining", **settings).state_dict(),
    }  # fmt: skip
    (path / "checkpoints").mkdir(parents=True)
    (path / "evaluation").mkdir()
    save_checkpoint(path / "checkpoints" / "best.pt", content)
    write_probes(path, load_checkpoint(path / "checkpoints" / "best.pt"), rows())
    return path


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "encoder"
    export_encoder.main(["--run", str(run), "--output", str(folder)])
    return folder


def test_a_recording_is_embedded_as_its_night_in_the_store(run, exported, store, raw):
    recording = next(iter(store.recordings))
    night = store.night(recording)
    checkpoint = load_checkpoint(run / "checkpoints" / "best.pt")
    view = embed.open_view(checkpoint, store, [recording], torch.device("cpu"))
    _, signals, _ = next(view.whole_nights())
    mean, sd = view.moments(recording)
    # nobody has scored a file, so all epochs of the night scale it, and not the scored ones alone
    stored = signals * float(sd[0]) + float(mean[0])
    scaled = (stored - stored.mean()) / stored.std()
    with torch.no_grad():
        expected = embed.encoder_of(checkpoint).encoder.latent(scaled.clamp(-20, 20)).numpy()
    encoder = load_encoder(exported, "cpu")
    first, end = night.first_epoch, night.first_epoch + night.n_epochs
    (path,) = raw.glob(f"**/{recording}*PSG.edf")
    z = encoder.encode(path, night=(first, end))
    assert z.dtype == np.float32 and z.shape[1] == 128
    assert np.allclose(z[first:end], expected, atol=1e-3)
    with pytest.raises(UserError, match=f"night 5 to {len(z) + 1}: the recording has {len(z)}"):
        encoder.encode(path, night=(5, len(z) + 1))
    with pytest.raises(UserError, match="no channel"):
        encoder.encode(path, channels={"EEG": "C9-M7"})


@pytest.mark.parametrize(("pool", "width"), [("cls", 64), ("mean", 64), ("mean_sd", 128)])
def test_what_is_exported_is_read_as_what_is_probed(run, tmp_path, pool, width):
    checkpoint = load_checkpoint(run / "checkpoints" / "best.pt")
    settings = {"encoder": "transformer_small", "n_patches": 30, "pool": pool}
    settings |= {"predicts": ["signal", "power"], "patch": 100, "decoder_depth": 2}
    net = models.build("pretraining", **settings).eval()
    checkpoint = replace(checkpoint, settings=settings, state=net.state_dict())
    save_encoder(checkpoint, tmp_path / WEIGHTS)
    x = torch.randn(3, 1, 3000)
    with torch.no_grad():
        z = load_encoder(tmp_path, "cpu")._encoder.latent(x)
        assert torch.equal(z, embed.encoder_of(checkpoint).encoder.latent(x))
    assert z.shape == (3, width)


def test_what_mne_has_opened_is_embedded_too(exported, raw):
    import mne

    path = sorted(raw.glob("**/*PSG.edf"))[0]
    encoder = load_encoder(exported, "cpu")
    opened = mne.io.read_raw_edf(path, include=["EEG Fpz-Cz"], verbose="error").crop(0, 900)
    before = opened.load_data().get_data().copy()
    z = encoder.encode(opened)
    assert z.shape == (30, 128) and np.isfinite(z).all()
    assert np.array_equal(opened.get_data(), before)


def test_the_file_holds_the_encoder_alone_and_no_path(run, exported):
    raw = (exported / WEIGHTS).read_bytes()
    state = safetensors.torch.load(raw)
    encoder = embed.encoder_of(load_checkpoint(run / "checkpoints" / "best.pt")).encoder
    assert {name.removeprefix("encoder.") for name in state} == set(encoder.state_dict())
    assert b"/home/somebody" not in raw and b"store" in raw
    assert not any("/home/somebody" in path.read_text() for path in exported.glob("*.md"))


def test_the_card_has_controls_training_preparation_and_licence(exported, store):
    card = (exported / export_encoder.CARD).read_text()
    assert card.startswith("---\nlicense: mit\n")
    for words in (
        store.cohort, "1 subject, without labels", "EEG Fpz-Cz (EEG) at 100 Hz",
        "Simulated nights alone",
        'load_encoder("encoder")', "in 3 held-out subjects", "10% by subject",
    ):  # fmt: skip
        assert words in card
    table = [line for line in card.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in table] == [
        "| encoder", "| majority", "| random encoder", "| pretrained",
    ]  # fmt: skip
    assert "1.000; mean of 3 subjects 1.000" in table[3] and table[2].endswith("| – |")
    (lines,) = [part.split("```")[0] for part in card.split("```python\n")[1:]]
    assert len(lines.strip().splitlines()) == 3


def test_the_same_weights_give_the_same_bytes_and_nothing_is_uploaded(
    run, exported, tmp_path, monkeypatch, capsys
):
    def refuse(*_):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    folder = tmp_path / "encoder"
    for _ in range(2):  # replaces what it wrote itself
        export_encoder.main(["--run", str(run), "--output", str(folder)])
    assert f"hf upload NAME {folder}" in capsys.readouterr().out
    for name in (WEIGHTS, export_encoder.CARD):
        assert (folder / name).read_bytes() == (exported / name).read_bytes()


@pytest.mark.parametrize("change", ["cut", "text", "missing", "foreign", "fields", "weights"])
def test_files_that_are_no_encoders_are_one_line(exported, tmp_path, change):
    path, whole = tmp_path / WEIGHTS, (exported / WEIGHTS).read_bytes()
    state = safetensors.torch.load(whole)
    size = int.from_bytes(whole[:8], "little")
    about = json.loads(whole[8 : 8 + size])["__metadata__"]["sleep_staging"]
    contents = {
        "cut": whole[:-9],
        "text": b"nothing",
        "foreign": safetensors.torch.save(state, {"format": "pt"}),
        "fields": safetensors.torch.save(
            state, {"sleep_staging": json.dumps(json.loads(about) | {"fs": 1e9})}
        ),
        "weights": safetensors.torch.save(
            {**state, "encoder.cls": torch.full((128,), torch.nan)}, {"sleep_staging": about}
        ),
    }
    if change in contents:
        path.write_bytes(contents[change])
    with pytest.raises(UserError, match=r"encoder\.safetensors: ") as refused:
        load_encoder(tmp_path, "cpu")
    assert "\n" not in str(refused.value)


def test_what_has_no_controls_or_no_licence_is_not_exported(run, tmp_path, monkeypatch):
    words = ["--run", str(run), "--output", str(tmp_path / "encoder")]
    path = run / "evaluation" / "probes.json"
    kept = path.read_bytes()
    path.write_text(path.read_text().replace('"version": "', '"version": "0.0'))
    with pytest.raises(UserError, match=r"no probes of these weights.*run ssl_evaluate\.py --runs"):
        export_encoder.main(words)
    path.write_bytes(kept)
    real = SimpleNamespace(
        is_simulated=False, path="best.pt", training=SimpleNamespace(cohort="shhs")
    )
    with pytest.raises(UserError, match=r"trained on shhs, whose terms .* --licence"):
        export_encoder.licence_of(real)
    assert not (tmp_path / "encoder").exists()
