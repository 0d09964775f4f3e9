"""Weights that are damaged, hostile or of another kind: one line each, and nothing is run."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from evaluation.stagers import bundled
from evaluation.stagers.published_files import read_state
from models.published import NotThese
from tests.refused import refused_line
from tests.test_checkpoint import FACTS
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.torch_files import load_tensors

WEIGHTS = bundled.weights_of(bundled.parts()["default-spectra"])[0]
CONTENT = {
    "format": 1, "model": "chambon2018", "settings": {"num_seq": 3}, "fs": 100.0,
    "channels": [["EEG", "EEG"]], "standardise": "recording", "state": {"weight": torch.ones(2)},
    "trained": FACTS,
}  # fmt: skip


@pytest.fixture
def bundle(tmp_path):
    """A copy of the bundle's part of spectra alone."""
    about = bundled.parts()["default-spectra"]
    for path in bundled.weights_of(about):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "default.json").write_text(json.dumps({"parts": [about]}))
    return tmp_path / "default.json"


def saved(path: Path, **changed) -> Path:
    """A checkpoint with some fields changed; ``None`` of ``...`` takes one out."""
    content = {key: value for key, value in (CONTENT | changed).items() if value is not ...}
    torch.save(content, path)
    return path


def line(path: Path) -> str:
    """What is said of a checkpoint that must be refused."""
    return refused_line(lambda: load_checkpoint(path), path)


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path):
    """Padding between an archive's members belongs to no weight, and to no checksum of its own."""
    raw, truth = WEIGHTS.read_bytes(), load_checkpoint(WEIGHTS)
    rng, path, n_refused = random.Random(7), tmp_path / "flipped.pt", 0
    for _ in range(150):
        data = bytearray(raw)
        data[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            loaded = load_checkpoint(path)
        except UserError as error:
            n_refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert loaded.fingerprint() == truth.fingerprint() and loaded.settings == truth.settings
    assert n_refused > 130


def test_a_bundled_file_has_the_bytes_that_were_bundled(bundle):
    device = torch.device("cpu")
    bundled.load("default-spectra", device, bundle)
    path = bundle.parent / "spectra_1.pt"
    raw = path.read_bytes()
    # a bit of the padding, which no checksum of the archive covers
    padding = raw.index(b"ZZZZ")
    path.write_bytes(raw[:padding] + b"z" + raw[padding + 1 :])
    load_checkpoint(path)
    with pytest.raises(UserError, match=r"spectra_1\.pt: not the weights that default\.json"):
        bundled.load("default-spectra", device, bundle)
    with pytest.raises(UserError, match="restore the file"):
        bundled.load(bundled.DEFAULT, device, bundle)
    about = json.loads(bundle.read_text())["parts"][0]
    bundle.write_text(json.dumps({"parts": [about | {"sha256": {"spectra_0.pt": "0"}}]}))
    with pytest.raises(UserError, match=r"spectra_0\.pt: not the weights"):
        bundled.load("default-spectra", device, bundle)
    # a bundle from before declares none
    del about["sha256"]
    bundle.write_text(json.dumps({"parts": [about]}))
    assert bundled.load("default-spectra", device, bundle).name == "default-spectra"


def test_the_bundle_of_this_project_declares_every_file():
    for about in bundled.parts().values():
        assert set(about.get("sha256", {})) == set(about.get("checkpoints", ()))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_weights_that_are_not_finite_are_refused(tmp_path, value, dtype):
    state = {"a": torch.ones(3), "layer.bias": torch.tensor([1.0, value], dtype=dtype)}
    assert "layer.bias is not finite" in line(saved(tmp_path / "a.pt", state=state))
    raw = io.BytesIO()
    torch.save({"state_dict": state}, raw)
    with pytest.raises(NotThese, match=r"layer\.bias is not finite"):
        read_state(raw.getvalue())


NO_SUBJECTS = FACTS | {"subjects": {"train": "SC400", "validation": []}}
WRONG = {
    "format": ["1", 2, True, None, torch.ones(3), [1], float("nan")],
    "model": [None, 3, ["chambon2018"]],
    "settings": [
        None, [], "x", {1: 2}, {"n": float("nan")}, {"n": 1e9}, {"n": 10**6}, {"n": {}},
        {"n": [[1]]}, {"n": torch.ones(1)},
    ],
    "channels": [None, [], "EEG", ["EEG"], [["EEG"]], [["EEG", 3]], [["a", "b", "c"]], 5, {"a": 1}],
    "fs": ["100", None, True, [100], float("nan"), float("inf"), 0, -100, 1e5, 1e9, torch.ones(1)],
    "standardise": [None, "recordings", 3, ["none"], torch.ones(2)],
    "state": [None, [], "x", {1: torch.ones(1)}, {"a": 3}, {"a": [1.0]}],
    "trained": [
        [], "x", 3, {"command": "x"}, NO_SUBJECTS, FACTS | {"subjects": []},
        FACTS | {"preparation": "x"}, FACTS | {"preparation": {"bandpass": 3}},
        FACTS | {"preparation": {"bandpass": ["0.3", "35"]}}, FACTS | {"pretraining": [FACTS]},
        FACTS | {"pretraining": NO_SUBJECTS}, FACTS | {"held_out_folds": 3},
    ],
    "source": [
        "x", [], {}, {"command": "x", "origin": "y"}, {"command": 1, "origin": "", "file": ""},
    ],
    "pass": ["3", 2.5, [1], True],
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in WRONG.items() for value in values],
    ids=lambda value: str(value)[:30],
)
def test_a_field_of_the_wrong_kind_is_named(tmp_path, field, value):
    assert f"{field} " in line(saved(tmp_path / "a.pt", **{field: value})).replace(",", " ")


@pytest.mark.parametrize("field", [key for key in CONTENT if key not in ("trained", "format")])
def test_a_field_that_is_missing(tmp_path, field):
    assert "not a checkpoint of this project" in line(saved(tmp_path / "a.pt", **{field: ...}))


def test_lists_within_lists_cost_nothing(tmp_path):
    """A list that holds another twice, forty times over: a terabyte as text, 300 bytes as file."""
    bomb: list = []
    for _ in range(40):
        bomb = [bomb, bomb]
    for field in ("format", "settings", "channels", "trained", "source"):
        value = {"n": bomb} if field == "settings" else bomb
        assert field in line(saved(tmp_path / "a.pt", **{field: value}))
    deep = FACTS
    for _ in range(100):
        deep = FACTS | {"pretraining": deep}
    assert "trained" in line(saved(tmp_path / "a.pt", trained=deep))


def test_a_tensor_that_claims_more_than_it_holds(tmp_path):
    huge = torch.ones(1).expand(10**10)
    assert "claims more numbers" in line(saved(tmp_path / "a.pt", state={"a": huge}))
    at = torch.zeros(1, 1, dtype=torch.long)
    sparse = torch.sparse_coo_tensor(at, torch.ones(1), (10**10,), check_invariants=True)
    assert "plain tensor" in line(saved(tmp_path / "a.pt", state={"a": sparse}))
    meta = torch.ones(10**10, device="meta")
    assert "plain tensor" in line(saved(tmp_path / "a.pt", state={"a": meta}))


def test_an_archive_that_unfolds(tmp_path):
    saved(tmp_path / "a.pt", state={"a": torch.zeros(10**6)})
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as plain,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert "unfolds to more" in line(tmp_path / "b.pt")


def test_cut_and_empty_files(tmp_path):
    raw, path = WEIGHTS.read_bytes(), tmp_path / "cut.pt"
    for n in (0, 1, 4, 10, 100, len(raw) // 2, len(raw) - 30, len(raw) - 1):
        path.write_bytes(raw[:n])
        assert "damaged" in line(path)


def test_a_part_of_an_archive_on_several_disks(tmp_path):
    raw, path = WEIGHTS.read_bytes(), tmp_path / "part.pt"
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 2)  # of two disks
    path.write_bytes(raw[:-22] + locator + raw[-22:])
    assert "damaged" in line(path)


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


def programs(folder: Path) -> dict[str, Path]:
    """Whole models, as they are often saved."""
    torch.save(_Net(), folder / "whole.pt")
    torch.save(_Net(), folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": {}, "hyper_parameters": _Net()}, folder / "within.ckpt")
    with zipfile.ZipFile(folder / "script.pt", "w") as archive:  # as torch.jit writes them
        archive.writestr("script/constants.pkl", pickle.dumps(()))
        archive.writestr("script/data.pkl", pickle.dumps(()))
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["whole.pt", "old.pt", "within.ckpt", "script.pt"])
def test_a_pickled_model_is_a_program_and_the_line_is_how_to_save_its_state(tmp_path, name):
    path = programs(tmp_path)[name]
    said = line(path)
    with pytest.raises(NotThese) as error:
        read_state(path.read_bytes())
    for text in (said, str(error.value)):
        assert "a pickled program" in text and "could run code" in text
        assert "torch.save(net.state_dict(), 'state.pt')" in text
    # and the two lines do what they say
    net = _Net()
    torch.save(net.state_dict(), tmp_path / "state.pt")
    assert set(read_state((tmp_path / "state.pt").read_bytes())) == {"layer.weight", "layer.bias"}


def test_a_damaged_file_is_not_called_a_program(tmp_path):
    for raw in (b"nothing", b"\x80\x02garbage", b"PK\x03\x04", WEIGHTS.read_bytes()[:-9]):
        (tmp_path / "a.pt").write_bytes(raw)
        assert "program" not in line(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "header", [b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"{}"]
)
def test_safetensors_are_named_with_a_way_to_convert_them(tmp_path, header):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<f", float("nan")))
    assert "a safetensors file" in line(path)
    with pytest.raises(NotThese, match="a safetensors file"):
        read_state(path.read_bytes())


def test_weights_that_are_sound_are_read_as_before(tmp_path):
    state = {
        "a": torch.arange(4.0)[::2],
        "n": torch.tensor(3),
        "empty": torch.ones(0),
        "b": torch.ones(2, 2).T,
    }
    loaded = load_checkpoint(saved(tmp_path / "a.pt", state=state, fs=128, trained=...)).state
    for name, tensor in state.items():
        assert torch.equal(loaded[name], tensor)
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(load_tensors(tmp_path / "old.pt")["b"], state["b"])
