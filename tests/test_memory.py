"""Freed memory that is kept for the next arrays."""

from __future__ import annotations

import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from utils import memory

FAULTS = """
import resource, sys
import numpy as np
from utils.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        arrays = [np.ones(2_000_000, np.uint8) for _ in range(30)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults(how: str) -> int:
    """Pages cleared while 60 MB in arrays of 2 MB are made and freed 20 times."""
    command = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_pages_are_not_cleared_again_for_each_array():
    assert faults("kept") < 1000 < faults("freed")


def test_other_c_libraries_are_left_as_they_are(monkeypatch):
    asked = []
    library = SimpleNamespace(mallopt=lambda *given: asked.append(given) or 1)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: library)
    for name, can in (("", False), ("glibc", True)):
        monkeypatch.setattr(memory.platform, "libc_ver", lambda name=name: (name, ""))
        assert memory.keep_freed_memory() is can
    assert [option for option, _ in asked] == [-4, -1]
