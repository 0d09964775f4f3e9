"""What is said of a bad file: always one line that names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from utils.errors import UserError


def refused_line(read: Callable[[], Any], path: Path) -> str:
    """The line by which ``read`` refuses the file at ``path``."""
    with pytest.raises(UserError) as error:
        read()
    # run_script folds what libraries write in several lines
    said = " ".join(str(error.value).split())
    assert str(path) in said and len(said) < 1000
    return said
