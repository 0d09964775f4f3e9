"""Stores that are damaged or made to mislead: refused by name, in one line, never misread."""

from __future__ import annotations

import random

import numpy as np
import pytest

from datasets.store.store import Store
from datasets.store.stored_file import StoredFile
from datasets.store.views import View
from tests.refused import refused_line
from tests.small_store import CHANNELS, EPOCHS, FS, edited, write_small_store
from utils.errors import UserError

SHAPE = (EPOCHS, len(CHANNELS), FS * 30)


@pytest.fixture
def path(tmp_path):
    return write_small_store(tmp_path / "store")


def batches(path, budget_gb: float) -> list[np.ndarray]:
    """All signals of a store as training reads them, in memory or from the files."""
    view = View(Store(path), ["a", "b"], standardise="none", budget_gb=budget_gb)
    return [batch.signals.numpy() for batch in view.epochs(4, scored_only=False)]


def line(path, night: str = "b") -> str:
    """What is said of a damaged night; both ways of reading must refuse it alike."""
    said = [
        refused_line(lambda gb=gb: batches(path, gb), path / "nights" / night) for gb in (1.0, 0.0)
    ]
    return said[0]


def test_the_sound_store_is_read(path):
    for budget in (1.0, 0.0):
        assert np.concatenate(batches(path, budget)).shape == (2 * EPOCHS, 1, *SHAPE[1:])
    file = StoredFile(Store(path), "a")
    assert len(file.read("EOG", 0, 60)) == 60 * FS


def header(version: int, text: str) -> bytes:
    width = 2 if version == 1 else 4
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(width, "little") + text.encode()


def saved(array: np.ndarray, version=(1, 0)):
    """How to write an array as a version of the format."""

    def write(file) -> None:
        with file.open("wb") as opened:
            np.lib.format.write_array(opened, array, version, allow_pickle=True)

    return write


GOOD = np.ones(SHAPE, np.float32)
SIGNALS = {
    "empty": lambda f: f.write_bytes(b""),
    "half a header": lambda f: f.write_bytes(f.read_bytes()[:40]),
    "no array": lambda f: f.write_bytes(b"hello" * 100),
    "cut": lambda f: f.write_bytes(f.read_bytes()[:-1]),
    "longer": lambda f: f.write_bytes(f.read_bytes() + b"\0"),
    "version 2": saved(GOOD, (2, 0)),
    "version 3": saved(GOOD, (3, 0)),
    "version 9": lambda f: f.write_bytes(header(9, "{}")),
    "Fortran order": saved(np.asfortranarray(np.arange(GOOD.size, dtype="f4").reshape(SHAPE))),
    "big-endian": saved(GOOD.astype(">f4")),
    "double": saved(GOOD.astype("f8")),
    "whole numbers": saved(GOOD.astype("i4")),
    "complex": saved(GOOD.astype("c8")),
    "objects": saved(GOOD.astype(object)),
    "text": saved(GOOD.astype("S4")),
    "fields": saved(np.zeros(SHAPE, [("a", "i2"), ("b", "i2")])),
    "another shape": saved(np.ones((SHAPE[0], SHAPE[2], SHAPE[1]), np.float32)),
    "one number": saved(np.array(1, np.float32)),
    "3e10 numbers": lambda f: f.write_bytes(
        header(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (30000000000,)}\n")
    ),
    "deep header": lambda f: f.write_bytes(header(1, "(" * 5000)),
    "long header": lambda f: f.write_bytes(header(2, " " * 10**6)),
    "program": lambda f: f.write_bytes(header(1, "__import__('os').system('true')")),
    "a folder": lambda f: (f.unlink(), f.mkdir()),
    "absent": lambda f: f.unlink(),
}  # fmt: skip


@pytest.mark.parametrize("kind", SIGNALS)
@pytest.mark.parametrize("name", ["signals.npy", "stages.npy"])
def test_arrays_of_another_kind_are_refused(path, kind, name):
    SIGNALS[kind](path / "nights" / "b" / name)
    assert f"{name}" in line(path) and "run the preprocess script again" in line(path)


@pytest.mark.parametrize("code", [5, 7, 127, -2, -128])
def test_a_stage_that_is_none_is_refused(path, code):
    saved(np.array([0, 1, 2, 3, code, -1], np.int8))(path / "nights/b/stages.npy")
    assert "holds codes that are no stages" in line(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("place", [(0, 0, 0), (EPOCHS - 1, 1, FS * 30 - 1)])
def test_samples_that_are_no_numbers_are_refused(path, value, dtype, place):
    signals = np.full(SHAPE, 60_000, dtype)  # whose sum is no number of 16 bits any more
    for night in "ab":
        saved(signals)(path / f"nights/{night}/signals.npy")
    batches(path, 0.0)
    signals[place] = value
    saved(signals)(path / "nights/b/signals.npy")
    assert "samples that are no numbers" in line(path)
    label = CHANNELS[place[1]]["label"]
    with pytest.raises(UserError, match="samples that are no numbers"):
        StoredFile(Store(path), "b").read(label, 0, EPOCHS * 30)


def test_an_absent_channel_is_no_fault(path):
    """As in a store by role: NaN throughout, and no moments."""
    signals = GOOD.copy()
    signals[:, 1] = np.nan
    saved(signals)(path / "nights/b/signals.npy")
    absent = [CHANNELS[0] | {"mean": 0.0, "sd": 1.0}, CHANNELS[1] | {"mean": None, "sd": None}]
    edited(path / "nights/b/night.json", channels=absent)
    for budget in (1.0, 0.0):
        view = View(Store(path), ["b"], standardise="present", budget_gb=budget)
        (batch,) = view.epochs(EPOCHS, scored_only=False)
        assert batch.signals[:, :, 0].isfinite().all() and batch.signals[:, :, 1].isnan().all()


def test_a_flipped_bit_of_an_array_header_is_refused_or_changes_nothing(path):
    file = path / "nights/b/signals.npy"
    raw, truth, rng = file.read_bytes(), batches(path, 1.0), random.Random(3)
    for _ in range(60):
        data = bytearray(raw)
        data[rng.randrange(128)] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
        for budget in (1.0, 0.0):
            try:
                arrays = batches(path, budget)
            except UserError as error:
                assert str(file) in str(error) and "\n" not in str(error)
            else:
                np.testing.assert_array_equal(np.concatenate(arrays), np.concatenate(truth))


NIGHT = {
    "subject": [3, None, ["S1"], "S9", ...],
    "night": ["1", 1.5, -1, None],
    "n_epochs": ["6", 6.0, 5, 0, -6, 10**12, True, None, ...],
    "first_epoch": ["0", 0.5, 10**9, None],
    "start": ["yesterday", 3, ["2016"], "2016-13-01T00:00:00"],
    "settings": [3, []],
    "sources": [3, "x"],
    "channels": [
        3, [], {}, ["EEG"], [CHANNELS[0] | {"mean": 0, "sd": 1}], [{}], [[]],
        [c | {"mean": "0", "sd": 1} for c in CHANNELS],
        [c | {"mean": 0, "sd": float("nan")} for c in CHANNELS],
        [c | {"mean": 0, "sd": 1, "fs": "10"} for c in CHANNELS],
        [c | {"mean": 0, "sd": 1, "fs": 1e9} for c in CHANNELS],
        [c | {"mean": 0, "sd": 1, "fs": 20} for c in CHANNELS],
        [c | {"mean": 0, "sd": 1, "fs": 0} for c in CHANNELS],
        [c | {"mean": 0, "sd": 1, "label": 3} for c in CHANNELS],
        [c | {"mean": 0, "sd": 1, "label": "C4"} for c in CHANNELS],
        [c | {"mean": 0, "sd": 1, "bandpass": "0.3"} for c in CHANNELS],
        [c | {"mean": 0, "sd": 1, "bandpass": [0.3]} for c in CHANNELS],
        [c | {"mean": 0, "sd": 1, "colour": "red"} for c in CHANNELS],
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in NIGHT.items() for value in values],
    ids=lambda value: str(value)[:30],
)
def test_a_field_of_a_night_that_cannot_be(path, field, value):
    edited(path / "nights/b/night.json", **{field: value})
    line(path)


DATASET = {
    "format": ["1", 2, None, [1], 1.0],
    "cohort": [3, None, ["x"], ...],
    "settings": [3, [], {}, {"protocol": 3}, ...],
    "channels": [3, [], ["EEG"], [{}], [CHANNELS[0]], [c | {"fs": 1e9} for c in CHANNELS]],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in DATASET.items() for value in values],
    ids=lambda value: str(value)[:30],
)
def test_a_field_of_a_store_that_cannot_be(path, field, value):
    edited(path / "dataset.json", **{field: value})
    refused_line(lambda: batches(path, 1.0), path)


TEXTS = ["", "x", "[" * 100_000, "[" * 300 + "]" * 300, '{"a":' * 3000, "[]", "3", "null", '"x"']


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:8])
@pytest.mark.parametrize("name", ["dataset.json", "nights/b/night.json"])
def test_json_that_is_none(path, name, text):
    (path / name).write_text(text)
    refused_line(lambda: batches(path, 1.0), path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_in_another_encoding_is_read(path, encoding):
    """As editors on Windows save it."""
    for name in ("dataset.json", "nights/b/night.json"):
        text = (path / name).read_text()
        (path / name).write_bytes(text.encode(encoding))
    batches(path, 1.0)


ROWS = {
    "another subject": "a,S1,1,6\nb,S1,1,6\n",
    "other epochs": "a,S1,1,6\nb,S2,1,7\n",
    "no epochs": "a,S1,1,6\nb,S2,1,\n",
    "text as epochs": "a,S1,1,6\nb,S2,1,six\n",
    "5,000 digits": f"a,S1,1,6\nb,S2,1,{'9' * 5000}\n",
    "twice": "a,S1,1,6\nb,S2,1,6\nb,S2,1,6\n",
    "short": "a,S1,1,6\nb,S2\n",
    "long": "a,S1,1,6\nb,S2,1,6,7,8\n",
    "nameless": "a,S1,1,6\n,S2,1,6\n",
    "out of the store": "a,S1,1,6\n../../b,S2,1,6\n",
    "a cell above the limit": f"a,S1,1,6\nb,{'x' * 140_000},1,6\n",
    "an open quote": 'a,S1,1,6\nb,"S2,1,6\n',
    "bytes": "a,S1,1,6\nb,\0S2,1,6\n",
}


@pytest.mark.parametrize("kind", ROWS)
def test_tables_that_cannot_be(path, kind):
    (path / "recordings.csv").write_text("recording,subject,night,n_epochs\n" + ROWS[kind])
    refused_line(lambda: batches(path, 1.0), path)
