"""Published weights -> a checkpoint of this project, which every script here reads.

python convert_checkpoint.py --from physioex --model chambon2018 weights.ckpt --to chambon.pt
python convert_checkpoint.py --from dreem simple_sleep_net_dodh.gz --to dodh.pt
"""

from __future__ import annotations

import argparse
import json
import pickle
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import torch

import models
from models import published
from utils.arguments import ScriptParser, add_flag
from utils.checkpoint import load_tensors, save_checkpoint
from utils.errors import UserError, run_script
from utils.files import check_file, refuse_inputs, sha256
from utils.runs import command

# published weights name no channels: these are PhysioEx's roles, in its order
CHANNELS = {1: [["EEG", "EEG"]], 3: [["EEG", "EEG"], ["EOG", "EOG"], ["EMG", "EMG"]]}
_LARGEST_BYTES = 1 << 28  # of a member, read whole into memory; published weights are far smaller
CONVERTED = "converted weights"  # what --to is called where it may be replaced
_DREEM_MEMBERS = ("normalization_parameters.json", "state.torch")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Convert published weights, strictly: nothing missing, nothing left over, nothing run.",
        "The published CMT weights are pickled programs and cannot be read without running them.",
    )
    parser.add_argument("source", type=Path, help="the published file")
    parser.add_argument(
        "--from", dest="origin", choices=("physioex", "dreem"), required=True, help="who made it"
    )
    parser.add_argument(
        "--model", choices=tuple(published.CONVERTERS), help="which of PhysioEx's models it is"
    )
    parser.add_argument(
        "--to", type=Path, default=Path("converted.pt"), help="the checkpoint to write"
    )
    add_flag(parser, "--overwrite", help="replace a file at --to that this script did not write")
    args = parser.parse(argv)
    if args.origin == "physioex" and args.model is None:
        raise UserError(f"--model: name one of {', '.join(published.CONVERTERS)}")
    return args


def main(argv: list[str] | None = None) -> None:
    """Convert published weights and write the checkpoint, if a model loads them strictly."""
    args = parse_args(argv)
    if not args.source.is_file():
        raise UserError(f"{args.source}: no such file")
    refuse_inputs([args.to], [args.source])
    check_file(args.to, CONVERTED, overwrite=args.overwrite)
    try:
        if args.origin == "dreem":
            name = "simplesleepnet"
            settings, state = published.simplesleepnet(*read_dreem(args.source))
        else:
            name = args.model
            settings, state = published.CONVERTERS[name](read_state(args.source.read_bytes()))
        net = models.build(name, **settings)
        net.load_state_dict(state)
    # NotThese is a ValueError; torch raises RuntimeError for states that do not fit, in many lines
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{args.source}: not weights of this model: {reason}") from error
    checkpoint = checkpoint_of(args, name, settings, state)
    save_checkpoint(args.to, checkpoint, what=CONVERTED, overwrite=args.overwrite)
    print(f"{args.to}: {name}, {sum(p.numel() for p in net.parameters()):,} parameters, {settings}")


def checkpoint_of(
    args: argparse.Namespace, name: str, settings: dict[str, Any], state: dict[str, Any]
) -> dict[str, Any]:
    """The checkpoint in this project's format, with where the weights come from."""
    n_channels = settings["n_channels"]
    numbered = [[f"channel {k + 1}", "EEG"] for k in range(n_channels)]
    return {
        "model": name,
        "settings": settings,
        "channels": CHANNELS.get(n_channels, numbered),
        "fs": 100.0,
        # SimpleSleepNet brings the statistics of its spectrograms with its weights
        "standardise": "none" if name == "simplesleepnet" else "recording",
        "state": state,
        "source": {
            "origin": args.origin,
            "file": args.source.name,
            "sha256": sha256(args.source),
            "command": command(),
        },
    }


def read_state(raw: bytes) -> dict[str, torch.Tensor]:
    """The state dictionary in a file of tensors; nothing in it is run.

    Raises:
        NotThese: it holds something else.
    """
    try:
        loaded = load_tensors(raw)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise published.NotThese(f"no file of plain tensors ({type(error).__name__})") from error
    # Lightning keeps the weights among other things, a plain file has nothing else
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    tensors = isinstance(state, dict) and all(isinstance(v, torch.Tensor) for v in state.values())
    if not state or not tensors:
        raise published.NotThese("it holds no state dictionary")
    return state


def read_dreem(path: Path) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Weights and statistics in Dreem's tar, read in memory.

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
                wanted = inside.name in _DREEM_MEMBERS and member.size < _LARGEST_BYTES
                if wanted and member.isfile():
                    members[inside.name] = archive.extractfile(member).read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise published.NotThese(f"no tar of Dreem's ({error})") from error
    if missing := [name for name in _DREEM_MEMBERS if name not in members]:
        raise published.NotThese(f"the tar has no {', '.join(missing)}")
    mean, sd = statistics_in(json.loads(members["normalization_parameters.json"]))
    return read_state(members["state.torch"]), mean, sd


def statistics_in(parameters: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """``mu`` and ``sigma`` (c, 129, 1), wherever they are in the JSON.

    Raises:
        NotThese: there are none.
    """
    statistics = _holding_mu(parameters)
    if statistics is None:
        raise published.NotThese("normalization_parameters.json has no mu and sigma")
    # channels, frequencies from 0 to 50 Hz, and one value for all times
    return tuple(torch.tensor(statistics[name]).reshape(-1, 129, 1) for name in ("mu", "sigma"))


def _holding_mu(value: Any) -> dict[str, Any] | None:
    if isinstance(value, dict):
        if {"mu", "sigma"} <= value.keys():
            return value
        value = list(value.values())
    if isinstance(value, list):
        return next((inner for part in value if (inner := _holding_mu(part))), None)
    return None


if __name__ == "__main__":
    raise SystemExit(run_script(main))
