"""Files of published weights as this project's checkpoints; nothing in them is run."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch

import models
from models import published
from utils.errors import UserError
from utils.files import sha256
from utils.json_values import parsed
from utils.runs import command
from utils.torch_files import NotTensorsError, check_weights, load_tensors

_COMMON = ("F3-F4", "F3-M2", "F4-O2", "F3-O1")  # to both montages of Dreem's
_REST = ("EMG", "ECG", "EOG1", "EOG2")
# published weights name no channels: these are what their authors fed, in their order
MONTAGES = {
    1: ("EEG",),
    2: ("EEG", "EOG"),
    3: ("EEG", "EOG", "EMG"),
    12: ("C3-M2", "C4-M1", *_COMMON, "O1-M2", "O2-M1", *_REST),
    16: (
        "C3-M2", "F4-M1", *_COMMON, "FP1-F3", "FP1-M2", "FP1-O1", "FP2-F4", "FP2-M1", "FP2-O2",
        *_REST,
    ),
}  # fmt: skip
# what is known of every origin's weights: how their nights were prepared decides predictions
ORIGINS = {
    "physioex": {
        "licence": "MIT", "trained_on": "SHHS", "preparation": {"bandpass": [0.3, 40.0]},
    },
    "dreem": {"licence": "MIT", "trained_on": "DOD", "preparation": {"preset": "dreem"}},
    "cmt": {
        "licence": "its authors'", "trained_on": "Sleep-EDF",
        "preparation": {"bandpass": [0.2, 40.0]},
    },
    "robustsleepnet": {
        "licence": "MIT", "preparation": {"preset": "robust"},
        "trained_on": "MESA, MrOS, SHHS, MASS, DOD-H, DOD-O, Sleep-EDF (all but one)",
    },
}  # fmt: skip
_LARGEST_BYTES = 1 << 28  # of a member, read whole into memory; published weights are far smaller
_WEIGHTS, _STATISTICS = "state.torch", "normalization_parameters.json"  # in Dreem's tars
# what they read is standardised in the network, or scaled before it by a preparation of its own
_OWN_SCALING = ("simplesleepnet", "robustsleepnet")


def convert(path: Path, origin: str, model: str | None = None) -> dict[str, Any]:
    """The content of a checkpoint made from a published file; nothing missing, nothing left over.

    ``origin`` is one of :data:`ORIGINS`; ``model`` which of PhysioEx's it is.

    Raises:
        UserError: no such file, or not weights of that model.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        name, settings, state = _READERS[origin](path, model)
        net = models.build(name, **settings)
        net.load_state_dict(state)
    # NotThese is a ValueError; torch raises RuntimeError for states that do not fit, in many lines
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not weights of this model: {reason}") from error
    channels = MONTAGES[settings.get("n_channels", 2)]
    source = {
        "origin": origin,
        "file": path.name,
        "sha256": sha256(path),
        "command": command(),
        **ORIGINS[origin],
    }
    if net.any_channels:
        source["channels"] = "any number and kind, in any order"
    return {
        "model": name,
        "settings": settings,
        "channels": [[label, role_of(label)] for label in channels],
        "fs": settings.get("fs", 100.0),
        "standardise": "none" if name in _OWN_SCALING else "recording",
        "state": state,
        "source": source,
    }


def _of_physioex(path: Path, model: str | None) -> tuple[str, dict, dict]:
    return model, *published.CONVERTERS[model](read_state(path.read_bytes()))


def _of_dreem(path: Path, model: str | None) -> tuple[str, dict, dict]:
    return "simplesleepnet", *published.simplesleepnet(*read_dreem(path))


def _of_robustsleepnet(path: Path, model: str | None) -> tuple[str, dict, dict]:
    weights = read_tar(path, (_WEIGHTS,))[_WEIGHTS]
    return "robustsleepnet", *published.robustsleepnet(read_state(weights))


def _of_cmt(path: Path, model: str | None) -> tuple[str, dict, dict]:
    settings, state = published.cmt(read_state(path.read_bytes()))
    return "sequence_cmt" if "num_seq" in settings else "epoch_cmt", settings, state


_READERS = {
    "physioex": _of_physioex,
    "dreem": _of_dreem,
    "robustsleepnet": _of_robustsleepnet,
    "cmt": _of_cmt,
}


def role_of(label: str) -> str:
    """EEG, EOG, EMG or ECG; a derivation has a role of its own, which no other EEG fulfils."""
    if "-" in label:
        return "EEG_" + label.replace("-", "_")
    return label.rstrip("12")


def read_state(raw: bytes) -> dict[str, torch.Tensor]:
    """The state dictionary in a file of tensors; nothing in it is run.

    Raises:
        NotThese: it holds something else.
    """
    try:
        loaded = load_tensors(raw)
    except NotTensorsError as error:
        raise published.NotThese(str(error)) from error
    # Lightning keeps the weights among other things, a plain file has nothing else
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    tensors = isinstance(state, dict) and all(isinstance(v, torch.Tensor) for v in state.values())
    if not state or not tensors:
        raise published.NotThese("it holds no state dictionary")
    try:
        check_weights(state)
    except NotTensorsError as error:
        raise published.NotThese(str(error)) from error
    return state


def read_dreem(path: Path) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Weights and statistics of SimpleSleepNet in Dreem's tar.

    Raises:
        NotThese: as :func:`read_tar`, or there are no statistics.
    """
    members = read_tar(path, (_STATISTICS, _WEIGHTS))
    try:
        parameters = parsed(members[_STATISTICS])
    except ValueError as error:
        raise published.NotThese(f"{_STATISTICS}: no JSON ({error})") from error
    mean, sd = statistics_in(parameters)
    return read_state(members[_WEIGHTS]), mean, sd


def read_tar(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Members of a tar by their names, in whatever folder, read in memory.

    Raises:
        NotThese: no tar, a member is missing, or a member's path leads out of it.
    """
    try:
        with tarfile.open(path) as archive:
            members = {}
            for member in archive.getmembers():
                inside = PurePosixPath(member.name)
                if inside.is_absolute() or ".." in inside.parts:
                    raise published.NotThese(f"its member {member.name!r} leads out of it")
                wanted = inside.name in names and member.size < _LARGEST_BYTES
                if wanted and member.isfile():
                    members[inside.name] = archive.extractfile(member).read()
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise published.NotThese(f"no tar of Dreem's ({error})") from error
    if missing := [name for name in names if name not in members]:
        raise published.NotThese(f"the tar has no {', '.join(missing)}")
    return members


def statistics_in(parameters: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """``mu`` and ``sigma`` (c, 129, 1), wherever they are in the JSON.

    Raises:
        NotThese: there are none.
    """
    statistics = _holding_mu(parameters)
    if statistics is None:
        raise published.NotThese("normalization_parameters.json has no mu and sigma")
    try:
        # channels, frequencies from 0 to 50 Hz, and one value for all times
        mean, sd = (torch.tensor(statistics[name]).reshape(-1, 129, 1) for name in ("mu", "sigma"))
    except (TypeError, ValueError, RuntimeError) as error:
        raise published.NotThese(f"{_STATISTICS}: mu and sigma are no tables ({error})") from error
    if not (torch.isfinite(mean).all() and torch.isfinite(sd).all()):
        raise published.NotThese(f"{_STATISTICS}: mu and sigma are not finite")
    return mean, sd


def _holding_mu(value: Any) -> dict[str, Any] | None:
    if isinstance(value, dict):
        if {"mu", "sigma"} <= value.keys():
            return value
        value = list(value.values())
    if isinstance(value, list):
        return next((inner for part in value if (inner := _holding_mu(part))), None)
    return None
