"""Where outputs may be written: never over inputs, or over files of somebody else."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from utils import manifest
from utils.errors import UserError
from utils.manifest import is_ours


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


def check_file(target: Path, what: str = "", *, overwrite: bool | None = None) -> None:
    """Refuse to write where a file of somebody else stands.

    ``overwrite`` is the user's choice; None where there is no such flag.

    Raises:
        UserError: naming the file and what to do.
    """
    if target.is_dir():
        raise UserError(f"{target}: a folder is there, so no file of that name can be written")
    if overwrite or not os.path.lexists(target) or is_ours(target, what):
        return
    flag = "" if overwrite is None else ", or add --overwrite"
    raise UserError(
        f"{target}: is there already, and this program did not write it or it was changed since; "
        f"move it away or choose another name{flag}"
    )


def check_folder(target: Path, what: str) -> None:
    """Refuse to replace a folder that is not wholly ours and of the same kind.

    Raises:
        UserError: naming a file in it and what to do.
    """
    if not os.path.lexists(target):
        return
    if target.is_symlink() and not target.resolve().is_relative_to(target.parent.resolve()):
        raise UserError(f"{target}: a link out of its folder; name {target.resolve()} instead")
    if not target.is_dir():
        raise UserError(f"{target}: a file is there, so no folder of that name can be written")
    foreign = next(manifest.strangers(target), None)
    if foreign is not None:
        raise UserError(
            f"{target}: holds {foreign.relative_to(target)}, which this program did not write or "
            "which was changed since, so the folder is not replaced; move that file away or choose "
            "another output"
        )
    holds_files = any(names for _, _, names in os.walk(target))
    if holds_files and (kind := manifest.read(target).what) != what:
        raise UserError(
            f"{target}: holds other files of this program{f' ({kind})' if kind else ''}, which "
            f"the {what} does not replace; choose another output"
        )
