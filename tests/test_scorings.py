"""Scorings of laboratories' software: every layout gives the planted stages, or is refused."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from datasets.readers.scorings.layouts import read
from datasets.readers.scorings.scoring import Recorded, Wishes
from datasets.readers.scorings.vocabulary import codes_of, stage_of
from tests import scoring_layouts as lab
from tests.scoring_layouts import LAYOUTS, TRUTH, lines, words
from utils.errors import UserError

NIGHT = Recorded("night.edf", lab.START, 1200.0, (100.0, 10.0))


def staged(path: Path, content: str | bytes, recorded: Recorded = NIGHT, **wishes) -> list[int]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, recorded, Wishes(**wishes))[0].tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_planted_stages(tmp_path, layout):
    name, text = LAYOUTS[layout]
    assert staged(tmp_path / name, text) == TRUTH


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "\r\n", "\r"]
)
def test_encodings_and_line_ends(tmp_path, layout, encoding):
    name, text = LAYOUTS[layout]
    if layout == "a value per sample" or (layout == "double line ends" and encoding == "\r"):
        pytest.skip("as the others, and long")
    if encoding.isspace():
        raw = text.replace("\n", encoding).encode()
    else:
        raw = text.replace('encoding="utf-8"', f'encoding="{encoding}"').encode(encoding)
    assert staged(tmp_path / name, raw) == TRUTH
