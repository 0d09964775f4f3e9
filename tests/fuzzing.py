"""Damaged files for every reader: what is tried, how each is damaged, and what must hold.

``python -m tests.fuzzing TARGET FIRST CASES`` tries some cases in a process of its own, whose end,
silence or size the test that started it notices; ``tests.fuzz_targets`` has the targets.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.fuzz_targets import TARGETS, Target
from utils.errors import UserError

SECONDS, EXTRA_BYTES = 10.0, 100_000_000  # of one case; beside four times the file
STARTING_SECONDS = 180.0
ROOT = Path(__file__).parents[1]
# what numbers become, where a file has one
NUMBERS = (
    "nan", "inf", "-inf", "3e10", "-1", "0", "1e308", "1e-320", "9" * 5000, "²", "٣", "1_0", "0x10",
    "00030", "29.999", "-0", "1e5", "+30", "", " ", "99999999999", "2147483648", "true", "null",
)  # fmt: skip
INSERTS = (
    b"\0", b"\n", b'"', b"<", b"&", b"]]>", b"\xff\xfe", b"\x14", b"\x15", b"[" * 2000,
    b'{"a":' * 500, b"(" * 3000, b"<a>" * 500, b"x" * 140_000, b"\r", b"\xe9", b"\xc2",
    b"../../", b"\x1b[2J", b",,,,", b"=cmd()", b"%s%n", b"\t" * 50, b"<!ENTITY a 'b'>",
)  # fmt: skip


def damaged(raw: bytes, rng: random.Random, is_text: bool) -> bytes:
    """One to four edits of any kind."""
    data = raw
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        edits = (*_BYTES, *(_TEXT * 2 if is_text else ()))
        data = rng.choice(edits)(data, rng) if data else data
    return data


def _at(data: bytes, rng: random.Random) -> int:
    """A place; headers, where most can go wrong, get half of them."""
    return rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 1024))


def _flip(data: bytes, rng: random.Random) -> bytes:
    at = _at(data, rng)
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _replace(data: bytes, rng: random.Random) -> bytes:
    at, size = _at(data, rng), rng.randrange(1, 9)
    return data[:at] + rng.randbytes(size) + data[at + size :]


def _delete(data: bytes, rng: random.Random) -> bytes:
    at = _at(data, rng)
    return data[:at] + data[at + rng.randrange(1, 40) :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = _at(data, rng)
    return data[:at] + rng.choice(INSERTS) + data[at:]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    first = _at(data, rng)
    piece = data[first : first + rng.randrange(1, 400)]
    return data[:first] + piece * rng.randrange(2, 40) + data[first:]


def _number(data: bytes, rng: random.Random) -> bytes:
    spans = [match.span() for match in re.finditer(rb"-?\d[\d.]*", data)]
    if not spans:
        return data
    first, last = rng.choice(spans)
    return data[:first] + rng.choice(NUMBERS).encode() + data[last:]


def _word(data: bytes, rng: random.Random) -> bytes:
    """One word in the place of another."""
    spans = [match.span() for match in re.finditer(rb"[A-Za-z_]+", data)]
    if not spans:
        return data
    (a, b), (c, d) = rng.choice(spans), rng.choice(spans)
    return data[:a] + data[c:d] + data[b:]


def _encoding(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("latin-1")
    return text.encode(rng.choice(("utf-16", "utf-16-le", "utf-8-sig", "utf-32", "utf-7")))


_BYTES = (_flip, _flip, _replace, _delete, _insert, _cut, _repeat)
_TEXT = (_number, _number, _word, _encoding)


@dataclass(frozen=True)
class Sound:
    """A target's sound files in their folder, and what is read of them."""

    target: Target
    folder: Path
    files: list[Path]
    value: Any


def prepared(target: Target, folder: Path) -> Sound:
    """Write the target's sound files, and read them."""
    folder.mkdir()
    files = target.write(folder)
    value = target.read(folder)
    if target.check is not None:
        target.check(folder, value, value)
    return Sound(target, folder, [path.relative_to(folder) for path in files], value)


def tried(sound: Sound, case: int) -> str:
    """What is wrong about one case: nothing, if it is refused in one line or read rightly."""
    rng, target = random.Random(case), sound.target
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "x"
        shutil.copytree(sound.folder, folder)
        path = folder / rng.choice(sound.files)
        path.write_bytes(damaged(path.read_bytes(), rng, target.is_text))
        size, before, began = path.stat().st_size, _reset_peak(), time.process_time()
        fault = _fault(sound, folder)
        took, used = time.process_time() - began, _peak() - before
    if not fault and took > SECONDS:
        fault = f"took {took:.1f} s"
    if not fault and used > 4 * size + EXTRA_BYTES:
        fault = f"took {used:,} bytes for a file of {size:,}"
    return fault


def _fault(sound: Sound, folder: Path) -> str:
    try:
        value = sound.target.read(folder)
        if sound.target.check is not None:
            sound.target.check(folder, value, sound.value)
    except UserError as error:
        return "" if len(str(error)) <= 2100 else f"a line of {len(str(error)):,} characters"
    except AssertionError as error:
        return f"read wrongly: {' '.join(str(error).split())[:300]}"
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(at.filename).name}:{at.lineno}"
        return f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:200]}"
    return ""


def _reset_peak() -> int:
    """Resident bytes now, from which the peak is counted anew."""
    # memory that scripts keep when arrays free it would be taken again unseen
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) * 1024


def watched(name: str, cases: int) -> list[str]:
    """Faults of a target's cases, tried in a process of their own that may end, or fall silent."""
    faults, first = [], 0
    while first < cases:
        command = [sys.executable, "-m", "tests.fuzzing", name, str(first), str(cases - first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0, cwd=ROOT) as process:
            lines = list(_lines(process))
            process.kill()
        faults += [line.removeprefix("fault ") for line in lines if line.startswith("fault ")]
        if "done" in lines:
            break
        started = [int(line.split()[1]) for line in lines if line.startswith("case ")]
        if not started:
            return [*faults, "the sound files are not read"]
        faults.append(f"{started[-1]} ended its process, or did not end ({process.returncode})")
        first = started[-1] + 1
    return faults


def _lines(process: subprocess.Popen) -> Iterator[str]:
    """What a process prints, until its end or a silence that no case may cause."""
    text, patience = b"", STARTING_SECONDS
    while select.select([process.stdout], [], [], patience)[0]:
        if not (piece := os.read(process.stdout.fileno(), 1 << 16)):
            return
        patience = 6 * SECONDS  # of the clock: the machine may be busy
        *whole, text = (text + piece).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in whole)


def main(name: str, first: int, cases: int) -> None:
    """Try cases and print one line for each that began, and one for each fault."""
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as place:
        sound = prepared(target, Path(place) / "sound")
        for case in range(first, first + cases):
            print(f"case {case}", flush=True)
            if fault := tried(sound, case):
                print(f"fault {case} {fault}", flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
