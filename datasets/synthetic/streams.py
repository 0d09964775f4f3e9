"""Random numbers by name: every quantity has its own stream, so none depends on another's use."""

from __future__ import annotations

from zlib import crc32

import numpy as np


def stream(seed: int, *path: str | int) -> np.random.Generator:
    """Generator of one quantity, such as ``stream(7, "subject", 3, "night", 1, "spindle")``."""
    name = "/".join(str(part) for part in path)
    # not hash(), which differs from process to process
    return np.random.Generator(
        np.random.Philox(np.random.SeedSequence([seed, crc32(name.encode())]))
    )
