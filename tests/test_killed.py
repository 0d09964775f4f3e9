"""Killed at any instant, and started eight times at once: the same bytes as if left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import killing

KILLS, ROUNDS = int(os.environ.get("KILLS", "3")), int(os.environ.get("ROUNDS", "1"))
SEED = int(os.environ.get("SEED", "0"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Recordings, a store, and a run of each kind."""
    folder = tmp_path_factory.mktemp("inputs")
    killing.make_inputs(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", killing.COMMANDS)
def test_killed_at_random_instants(name, inputs):
    assert not killing.rounds(name, inputs, KILLS, SEED)


@pytest.mark.slow
@pytest.mark.parametrize("name", killing.COMMANDS)
def test_eight_at_once(name, inputs):
    assert not killing.rounds(name, inputs, ROUNDS, SEED, at_once=True)
