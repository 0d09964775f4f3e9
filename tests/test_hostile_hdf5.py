"""HDF5 records that are damaged or made to mislead: one line each, within memory and time."""

from __future__ import annotations

import json
import resource
import time
import zipfile
from datetime import datetime

import h5py
import numpy as np
import pytest

from datasets.readers import dreem
from datasets.readers.dreem_file import DreemFile
from tests.refused import refused_line
from utils.errors import UserError

FS, EPOCHS = 10, 4
NAME = "0000-5000.h5"
DESCRIBED = {"fs": FS, "unit": "uV", "path": "signals/eeg/C3", "name": "C3"}


@pytest.fixture
def path(tmp_path):
    """A sound record of one channel."""
    with h5py.File(tmp_path / NAME, "w") as file:
        file["signals/eeg/C3"] = np.arange(FS * 30.0 * EPOCHS)
        file["hypnogram"] = [0, 1, 2, 3]
        file.attrs["description"] = json.dumps([DESCRIBED])
        file.attrs["start_time"] = 3600
    return tmp_path / NAME


def changed(path, change):
    """The record with the channel taken out and ``change(file)`` made."""
    with h5py.File(path, "r+") as file:
        del file["signals/eeg/C3"]
        change(file, "signals/eeg/C3")
    return path


def line(path) -> str:
    """What is said of a record that must be refused."""
    return refused_line(lambda: DreemFile(path), path)


def line_of_stages(path) -> str:
    """What is said of a hypnogram: stores refuse it, staging needs none."""
    said = refused_line(lambda: dreem.read(dreem.Record(path)), path)
    file = DreemFile(path)
    assert file.notes == [f"no agreement: {said}"] and (file.stages == -1).all()
    return said


def described(path, value) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["description"] = value


LINKS = {
    "dangling": lambda f, at: f.__setitem__(at, h5py.SoftLink("/nowhere")),
    "itself": lambda f, at: f.__setitem__(at, h5py.SoftLink("/" + at)),
    "ring": lambda f, at: (
        f.__setitem__(at, h5py.SoftLink("/b")),
        f.__setitem__("b", h5py.SoftLink("/" + at)),
    ),
    "relative": lambda f, at: f.__setitem__(at, h5py.SoftLink("C4")),
    "through a list": lambda f, at: f.__setitem__(at, h5py.SoftLink("/hypnogram/x")),
    "absent": lambda f, at: None,
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_that_lead_nowhere(path, kind):
    assert "no signal /signals/eeg/C3; the file holds" in line(changed(path, LINKS[kind]))


def test_links_within_the_file_are_followed(path):
    changed(
        path,
        lambda f, at: (
            f.__setitem__("there/x", np.arange(FS * 30.0 * EPOCHS)),
            f.__setitem__(at, h5py.SoftLink("/again/x")),
            f.__setitem__("again", h5py.SoftLink("there")),
        ),
    )
    assert DreemFile(path).read("C3", 1, 2).tolist() == list(range(10, 20))


EXTERNAL = {
    "signal": lambda f, at: f.__setitem__(at, h5py.ExternalLink("other.h5", "/x")),
    "folder": lambda f, at: (
        f.__delitem__("signals"),
        f.__setitem__("signals", h5py.ExternalLink("other.h5", "/")),
    ),
    "behind a link": lambda f, at: (
        f.__setitem__("b", h5py.ExternalLink("other.h5", "/x")),
        f.__setitem__(at, h5py.SoftLink("/b")),
    ),
    "absent file": lambda f, at: f.__setitem__(at, h5py.ExternalLink("/dev/zero", "/x")),
    "raw bytes": lambda f, at: f.create_dataset(
        at, (1200,), "f8", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", EXTERNAL)
def test_other_files_are_never_read(path, kind):
    with h5py.File(path.parent / "other.h5", "w") as other:
        other["x"] = other["eeg/C3"] = np.arange(FS * 30.0 * EPOCHS)
    assert "another file" in line(changed(path, EXTERNAL[kind]))


def test_a_virtual_list_is_of_another_file_too(path):
    layout = h5py.VirtualLayout((1200,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (1200,))
    changed(path, lambda f, at: f.create_virtual_dataset(at, layout))
    assert "another file" in line(path)


NOT_LISTS = {
    "one number": lambda f, at: f.__setitem__(at, 3.0),
    "nothing": lambda f, at: f.__setitem__(at, h5py.Empty("f8")),
    "a table": lambda f, at: f.__setitem__(at, np.zeros((1200, 2))),
    "text": lambda f, at: f.__setitem__(at, ["a"] * 1200),
    "columns": lambda f, at: f.__setitem__(at, np.zeros(1200, [("a", "f8")])),
    "complex": lambda f, at: f.__setitem__(at, np.zeros(1200, complex)),
    "a folder": lambda f, at: f.create_group(at),
    "ragged": lambda f, at: f.create_dataset(at, (1200,), h5py.vlen_dtype("f8")),
}


@pytest.mark.parametrize("kind", NOT_LISTS)
@pytest.mark.parametrize("where", ["signal", "hypnogram"])
def test_what_is_no_list_of_numbers(path, kind, where):
    if where == "signal":
        changed(path, NOT_LISTS[kind])
    else:
        with h5py.File(path, "r+") as file:
            del file["hypnogram"]
            NOT_LISTS[kind](file, "hypnogram")
    assert "list of" in (line(path) if where == "signal" else line_of_stages(path))


CLAIMS = {
    "many": {"shape": (30_000_000_000,), "dtype": "f4", "chunks": (1000,)},
    "ten days": {"shape": (FS * 864_000 - 1,), "dtype": "f8", "chunks": (1000,)},
    "too long": {"shape": (FS * 864_000 + 1,), "dtype": "i1", "chunks": (1000,)},
    "a wide block": {"shape": (1200,), "maxshape": (None,), "dtype": "f4", "chunks": (50_000_000,)},
    "packed": {
        "shape": (40_000_000,),
        "dtype": "i1",
        "chunks": (1_000_000,),
        "compression": "gzip",
    },
}


@pytest.mark.parametrize("kind", CLAIMS)
@pytest.mark.parametrize("where", ["signal", "hypnogram"])
def test_claims_cost_neither_memory_nor_time(path, kind, where):
    with h5py.File(path, "r+") as file:
        at = "signals/eeg/C3" if where == "signal" else "hypnogram"
        del file[at]
        made = file.create_dataset(at, **CLAIMS[kind])
        if kind == "packed":
            made[...] = 0
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert "claims" in (line(path) if where == "signal" else line_of_stages(path))
    assert time.monotonic() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize(
    "value",
    [
        "[" * 100_000, "[" * 500 + "]" * 500, '{"a":' * 5000, "", "{}", "[]", "[3]", "null", "x",
        json.dumps([DESCRIBED | {"fs": "fast"}]), json.dumps([DESCRIBED | {"fs": [10]}]),
        json.dumps([DESCRIBED | {"fs": None}]), '[{"fs": 10}]', json.dumps(DESCRIBED),
        json.dumps([DESCRIBED] * 5000), b"\xff\xfe\xff", h5py.Empty("S1"), np.array([1, 2, 3]),
        np.array(3.0),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_descriptions_that_are_none(path, value):
    described(path, value)
    assert any(word in line(path) for word in ("broken 'description'", "describes no", "damaged"))


@pytest.mark.parametrize("rate", ["1e9", "NaN", "Infinity", "0", "-100", "1e-320"])
def test_rates_that_are_none(path, rate):
    described(path, json.dumps([DESCRIBED]).replace(f'"fs": {FS}', f'"fs": {rate}'))
    assert "has a rate of" in line(path) or "claims to last" in line(path)


def test_a_name_described_twice_is_not_chosen_between(path):
    described(path, json.dumps([DESCRIBED, DESCRIBED]))
    assert "describes C3 twice" in line(path)


@pytest.mark.parametrize(
    ("value", "start"),
    [
        (3600, datetime(1970, 1, 1, 1)), (3600.5, datetime(1970, 1, 1, 1, 0, 0, 500_000)),
        ("3600", datetime(1970, 1, 1, 1)), (np.array([3600]), datetime(1970, 1, 1, 1)),
        ("2016-03-01T22:15:00", datetime(2016, 3, 1, 22, 15)),
        ("2016-03-01 22:15:00+01:00", datetime(2016, 3, 1, 22, 15)),
        ("yesterday", None), ("", None), (b"\xff\xff", None), (1e300, None), (-1e300, None),
        (float("nan"), None), (float("inf"), None), (np.array([1, 2]), None),
        (np.zeros(0), None), (h5py.Empty("f8"), None), (np.zeros((200, 40)), None),
        (np.array([(1, 2)], [("a", "i4"), ("b", "i4")]), None), (10**18, None),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_an_odd_start_is_an_unknown_one(path, value, start):
    with h5py.File(path, "r+") as file:
        file.attrs["start_time"] = value
    recording = dreem.read(dreem.Record(path))
    assert recording.start == start and recording.stages.tolist() == [0, 1, 2, 3]
    assert ("start_time is unreadable" in (recording.note or "")) == (start is None)


def test_damaged_bytes_are_one_line_or_change_nothing(path):
    """Blocks with checksums: samples are those that were written, or the record is refused."""
    truth = np.arange(FS * 30.0 * EPOCHS)
    changed(
        path, lambda f, at: f.create_dataset(at, data=truth, chunks=(300,), fletcher32=True)
    )  # fmt: skip
    raw, rng, n_read = path.read_bytes(), np.random.default_rng(1), 0
    for _ in range(60):
        data = bytearray(raw)
        data[rng.integers(len(raw))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        try:
            file = DreemFile(path)
            for channel in file.channels:
                if channel.label == "C3" and channel.fs == FS:
                    samples = file.read("C3", 0, file.seconds)
                    np.testing.assert_array_equal(samples, truth[: len(samples)])
            n_read += 1
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
    assert n_read < 60


@pytest.mark.parametrize("kind", ["locked", "unknown packing", "damaged", "cut"])
def test_a_record_in_a_zip_that_cannot_be_unpacked(path, tmp_path, kind):
    where = tmp_path / "dodh.zip"
    with zipfile.ZipFile(where, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, f"dodh/{NAME}")
    raw = bytearray(where.read_bytes())
    directory = raw.rindex(b"PK\x01\x02")
    if kind == "locked":
        raw[directory + 8] |= 1
        raw[6] |= 1
    elif kind == "unknown packing":
        raw[directory + 10] = raw[8] = 77
    elif kind == "damaged":
        raw[200] ^= 8
    else:
        raw = raw[: directory // 2]
    where.write_bytes(raw)
    with pytest.raises(UserError, match=r"dodh\.zip: (cannot unpack|not a readable zip)"):  # noqa: SIM117
        with dreem.find_records(where)[0].at_hand() as record:
            dreem.read(record)
