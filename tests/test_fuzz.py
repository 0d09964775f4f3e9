"""Flipped, cut and inserted bytes: never a traceback, never a hang, never a wrong store.

An accepted pair must be stored exactly as an independent decoder reads the damaged bytes: a flipped
sample is still that sample, but a label, a rate or a stage must never be guessed.
"""

from __future__ import annotations

import random
import shutil
import time

import numpy as np
import pytest

from datasets.store.store import Store
from tests.conftest import prepare
from tests.edf_files import TEXTS, decode, write_pair
from utils.errors import UserError

CODES = dict(zip(TEXTS.values(), (0, 1, 2, 3, 3, 4, -1, -1), strict=True))
BOUTS = [("W", 3), ("1", 1), ("2", 2), ("3", 1), ("4", 1), ("R", 2), ("M", 1), ("W", 2), ("?", 4)]
SECONDS_A_CASE = 5


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("valid")
    write_pair(folder, BOUTS, 13, channels={"EEG Fpz-Cz": 4, "EOG horizontal": 4, "EMG": 1})
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def damage(raw: bytes, rng: random.Random) -> bytes:
    """One to four edits; headers and annotations, where most can go wrong, get half of them."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        reach = len(data) if rng.random() < 0.5 else min(len(data), 1024)
        if reach == 0:
            break
        at = rng.randrange(reach)
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            data[at] = rng.choice(b"0123456789+-.eE \x00\x14\x15")
        elif kind == 3:
            del data[at : at + rng.randrange(1, 40)]
        elif kind == 4:
            data[at:at] = rng.randbytes(rng.randrange(1, 20))
        else:
            del data[at:]
    return bytes(data)


def check_against_decoder(folder, path) -> None:
    """The store holds what the damaged bytes say."""
    signals, _ = decode(next(folder.glob("*PSG*")))
    _, annotations = decode(next(folder.glob("*Hypnogram*")))
    store = Store(path)
    night = store.night("SC4001E0")
    stages = np.full(night.n_epochs, -1)
    for onset, duration, text in annotations:
        first = int(onset // 30)
        stages[first : first + int(duration // 30)] = CODES[text]
    np.testing.assert_array_equal(night.stages, stages)
    for channel in store.channels:
        fs, values = signals[channel.label]
        assert fs == channel.fs
        of_rate = [c.label for c in store.channels if c.fs == fs]
        stored = night.signals(fs)[:, of_rate.index(channel.label)].ravel()
        np.testing.assert_allclose(
            stored, values[: len(stored)], rtol=1e-5, atol=1e-6 * np.abs(values).max()
        )
        assert len(values) - len(stored) < 30 * fs


def test_damaged_files_are_refused_in_one_line_or_stored_as_they_are(valid, tmp_path, request):
    cases = request.config.getoption("--fuzz-cases")
    accepted = 0
    for case in range(cases):
        rng = random.Random(case)
        folder, path = tmp_path / "raw", tmp_path / "store"
        for old in (folder, path):
            shutil.rmtree(old, ignore_errors=True)
        folder.mkdir()
        target = rng.choice(sorted(valid))
        for name, raw in valid.items():
            (folder / name).write_bytes(damage(raw, rng) if name == target else raw)
        started = time.monotonic()
        try:
            prepare(folder, path, "--keep_all", "--channels", "EEG", "EOG")
            check_against_decoder(folder, path)
            accepted += 1
        except UserError as error:
            assert "SC4001E" in str(error), f"case {case}: {error}"
            assert not (path / "dataset.json").exists(), f"case {case}"
            assert not list(path.rglob(".*")), f"case {case}: leftovers"
        except Exception as error:
            raise AssertionError(f"case {case} ({target}): {type(error).__name__}") from error
        assert time.monotonic() - started < SECONDS_A_CASE, f"case {case} hangs"
    assert 0.05 * cases < accepted < 0.9 * cases
