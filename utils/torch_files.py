"""Files of tensors that anyone may have made: checked against their checksums, never run.

torch compares no checksum of its archives, so that a flipped bit would become a weight of 1e37.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# torch's words for a file that names functions or classes of somebody's code
_OF_PROGRAMS = (
    "GLOBAL ",
    "unrecognized function",
    "Can only create new object",
    "must be imported",
)
PROGRAM = (
    "a pickled program and no file of plain tensors: loading it could run code, so it is never "
    "loaded here; if you rely on its authors, run two lines beside their code: `import torch; net "
    "= torch.load(FILE, map_location='cpu', weights_only=False)` and `torch.save("
    "net.state_dict(), 'state.pt')`, and convert state.pt (convert_checkpoint.py)"
)
_SAFETENSORS = (
    "a safetensors file, which is not read here; beside its library run `import torch; from "
    "safetensors.torch import load_file` and `torch.save(load_file(FILE), 'state.pt')`, and "
    "convert state.pt (convert_checkpoint.py)"
)


class NotTensorsError(ValueError):
    """A file is damaged, or holds something else than tensors and plain values."""


def load_tensors(file: Path | bytes) -> Any:
    """Read what torch saved in a file, or in its bytes, if it is tensors and plain values alone.

    Raises:
        NotTensorsError: it is damaged, or a program.
    """
    with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as source:
        if _is_archive(source):
            _check_archive(source)
        else:
            _check_plain(source)
        source.seek(0)
        try:
            # weights_only: a full unpickler would run whatever code the file names
            return torch.load(source, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            is_program = any(words in str(error) for words in _OF_PROGRAMS)
            raise NotTensorsError(PROGRAM if is_program else _damaged(error)) from error
        except Exception as error:  # there is nothing that a damaged pickle may not raise
            raise NotTensorsError(_damaged(error)) from error


def _damaged(error: Exception | str) -> str:
    why = error if isinstance(error, str) else type(error).__name__
    return f"damaged, or no file of plain tensors ({why}); copy or fetch it again"


def _is_archive(source: Any) -> bool:
    try:
        return zipfile.is_zipfile(source)
    except zipfile.BadZipFile as error:  # parts of an archive on several disks
        raise NotTensorsError(_damaged(error)) from error


def _check_archive(source: Any) -> None:
    """Refuse an archive whose members are not what their checksums stand for, or are packed."""
    size = source.seek(0, io.SEEK_END)
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            # torch packs nothing: what unfolds to more than the file was made to fill the memory
            if sum(member.file_size for member in members) > size:
                raise NotTensorsError(_damaged("it unfolds to more than its own size"))
            broken = archive.testzip()
    except NotTensorsError:
        raise
    except Exception as error:  # zipfile raises a dozen kinds, one for each field
        raise NotTensorsError(_damaged(error)) from error
    if broken is not None:
        raise NotTensorsError(_damaged(f"the checksum of {broken} is another"))
    if any(member.filename.endswith("constants.pkl") for member in members):
        raise NotTensorsError(PROGRAM)  # TorchScript


def _check_plain(source: Any) -> None:
    """Refuse what torch would take for an archive, or hand to another library."""
    source.seek(0)
    head = source.read(10)
    if head.startswith(b"PK"):
        raise NotTensorsError(_damaged("an archive without its end"))
    length = int.from_bytes(head[:8], "little")
    if head[8:] in (b'{"', b"{ ", b"{}") and length <= source.seek(0, io.SEEK_END):
        raise NotTensorsError(_SAFETENSORS)


def check_weights(state: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not finite, or larger than what their file holds.

    Raises:
        NotTensorsError: naming the tensor.
    """
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise NotTensorsError(f"{name} is no plain tensor")
        # a tensor may repeat one stored number as often as its shape asks for
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise NotTensorsError(f"{name} claims more numbers than the file holds")
        if not torch.isfinite(tensor).all():
            raise NotTensorsError(
                f"{name} is not finite: the training failed, or the file is damaged; use another "
                "checkpoint"
            )


def load_program(path: Path) -> Any:
    """Read a pickled module of an installed package, which runs code: never a user's file."""
    return torch.load(path, map_location="cpu", weights_only=False)
