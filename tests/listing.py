"""What a folder holds, for tests: without the hidden lists of what this program wrote."""

from __future__ import annotations

from pathlib import Path

from utils.manifest import NAME


def names(folder: Path) -> list[str]:
    """Names directly in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.name != NAME)


def below(folder: Path) -> list[str]:
    """Files and folders anywhere below, relative to it, sorted."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.name != NAME)
