"""Killed, eight at once, on full and read-only disks: the same bytes in the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import killing

ROOT = Path(__file__).parents[1]
# how often: KILLS=40 pytest -m slow tests/test_killed.py
TIMES = {name: os.environ.get(name, n) for name, n in (("KILLS", "3"), ("ROUNDS", "1"))}
NAMESPACE = ["unshare", "-rm"]


def treated(way: str, name: str, times: str, *around: str) -> None:
    words = [*around, sys.executable, "-m", "tests.killing", way, times, name]
    done = subprocess.run(
        words, cwd=ROOT, env=os.environ | {"SEED": "0"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert f"{name}: {times} times {way}, 0 faults" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", killing.COMMANDS)
def test_killed_at_random_instants(name):
    treated("killed", name, TIMES["KILLS"])


@pytest.mark.slow
@pytest.mark.parametrize("name", killing.COMMANDS)
def test_eight_at_once(name):
    treated("together", name, TIMES["ROUNDS"])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["full", "readonly"])
@pytest.mark.parametrize("name", killing.COMMANDS)
def test_disks_that_take_nothing(way, name):
    """One line, exit code 2, nothing half-written; the same command ends well afterwards."""
    if not shutil.which("unshare") or subprocess.run([*NAMESPACE, "true"], check=False).returncode:
        pytest.skip("no disk of one's own can be mounted here")
    treated(way, name, TIMES["ROUNDS"], *NAMESPACE)
