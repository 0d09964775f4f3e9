"""Names of outputs: fit for files, and never those of inputs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from utils.errors import UserError


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path | None]) -> None:
    """Refuse outputs that are inputs too, or folders that hold one.

    Links are followed, and names that differ in their letters' case count as the same.

    Raises:
        UserError: naming the output.
    """
    inodes, names, above = {}, {}, {}
    for path in filter(None, inputs):
        if path.exists():
            status = path.stat()
            inodes[status.st_dev, status.st_ino] = path
        resolved = path.resolve()
        names[str(resolved).casefold()] = path
        above |= dict.fromkeys((str(parent).casefold() for parent in resolved.parents), path)
    for output in outputs:
        name, inode = str(output.resolve()).casefold(), None
        if output.exists():
            status = output.stat()
            inode = status.st_dev, status.st_ino
        if same := names.get(name) or inodes.get(inode):
            raise UserError(f"{output}: is an input of this command ({same}); name another output")
        if held := above.get(name):
            raise UserError(
                f"{output}: holds an input of this command ({held}), so nothing is written there; "
                "name another output"
            )


def is_safe(name: str) -> bool:
    """Whether a name is fit for a file or folder: not empty, no path, no control character."""
    return bool(name.strip(". ")) and not any(c in "/\\" or ord(c) < 32 for c in name)


def safe_name(name: str, source: Path | str) -> str:
    """``name``, if :func:`is_safe`.

    Raises:
        UserError: naming the source of the name.
    """
    if not is_safe(name):
        raise UserError(f"{source}: {name!r} cannot be the name of results; rename it")
    return name
