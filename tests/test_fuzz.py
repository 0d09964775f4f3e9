"""Flipped, cut and inserted bytes: never a traceback, never a hang, never a wrong store.

An accepted pair must be stored exactly as an independent decoder reads the damaged bytes: a flipped
sample is still that sample, but a label, a rate or a stage must never be guessed. Every other kind
of file is damaged by ``tests.fuzzing``; ``pytest -m slow tests/test_fuzz.py --fuzz-cases 20000``
tries so many cases in all.
"""

from __future__ import annotations

import random
import re
import shutil
import time

import numpy as np
import pytest

from datasets.store.store import Store
from tests import fuzzing
from tests.conftest import prepare
from tests.edf_files import decode, write_pair
from tests.fuzz_targets import TARGETS
from utils.errors import UserError

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


def code_of(text: str) -> int:
    """The stage of a word whose letters have another case, or other marks between them."""
    plain = re.sub(r"[^a-z0-9?]", "", text.casefold())
    last = plain.removeprefix("sleep").removeprefix("stage")
    rk = {"w": 0, "r": 4, "i": 1, **dict(zip("0123459", (0, 1, 2, 3, 3, 4, -1), strict=True))}
    return -1 if plain == "movementtime" or last in ("", *"?67mlau") else rk[last]


def check_against_decoder(folder, path) -> None:
    """The store holds what the damaged bytes say."""
    signals, _ = decode(next(folder.glob("*PSG*")))
    _, annotations = decode(next(folder.glob("*Hypnogram*")))
    store = Store(path)
    night = store.night("SC4001E0")
    stages = np.full(night.n_epochs, -1)
    for onset, duration, text in annotations:
        first = round(onset / 30)
        stages[first : first + round(duration / 30)] = code_of(text)
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


def faults_of(name, folder, cases) -> list[str]:
    sound = fuzzing.prepared(TARGETS[name], folder / "sound")
    return [f"case {k}: {fault}" for k in cases if (fault := fuzzing.tried(sound, k))]


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_of_every_kind(name, tmp_path):
    """Refused in one line or read as an independent reader does, in flat memory; a few of each."""
    assert not faults_of(name, tmp_path, range(4))


def test_a_reader_that_guesses_or_breaks_is_noticed(tmp_path):
    """The harness itself: what it must not let pass."""
    sound = TARGETS["list.txt"]

    def with_reader(read, check=None):
        return fuzzing.Sound(fuzzing.Target(sound.write, read, check), tmp_path / "s", files, None)

    (tmp_path / "s").mkdir()
    files = [path.relative_to(tmp_path / "s") for path in sound.write(tmp_path / "s")]

    def wrong(folder, value, before):
        assert value == before, "not the same"

    assert "ZeroDivisionError" in fuzzing.tried(with_reader(lambda folder: 1 / 0), 0)
    assert "read wrongly: not the same" in fuzzing.tried(with_reader(lambda folder: 3, wrong), 0)
    assert "bytes for a file" in fuzzing.tried(with_reader(lambda folder: b"x" * 2 * 10**8), 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuzzing, "SECONDS", 0.0)
        assert "took" in fuzzing.tried(with_reader(lambda folder: sum(range(10**5))), 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_of_every_kind_in_processes_of_their_own(name, request):
    cases = -(-request.config.getoption("--fuzz-cases") // len(TARGETS))
    faults = fuzzing.watched(name, cases)
    assert not faults, "\n".join(faults)
