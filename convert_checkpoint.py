"""Published weights -> a checkpoint of this project, which every script here reads.

python convert_checkpoint.py --from physioex --model chambon2018 weights.ckpt --to chambon.pt
python convert_checkpoint.py --from dreem simple_sleep_net_dodh.gz --to dodh.pt
python convert_checkpoint.py --from robustsleepnet best_model.gz --to robust.pt
python convert_checkpoint.py --from cmt state.pt --to cmt.pt
"""

from __future__ import annotations

import argparse
import json
import pickle
import tarfile
from collections.abc import Sequence
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
CONVERTED = "converted weights"  # what --to is called where it may be replaced
# a whole module is a program; its authors' code is needed to take the weights out of it
_AS_STATE = (
    ", but a pickled program, which is never run here; if you rely on its authors, run two lines "
    "beside their code: `import torch; net = torch.load(FILE, map_location='cpu', "
    "weights_only=False)` and `torch.save(net.state_dict(), 'state.pt')`, and convert state.pt"
)
_WEIGHTS, _STATISTICS = "state.torch", "normalization_parameters.json"  # in Dreem's tars
# what they read is standardised in the network, or scaled before it by a preparation of its own
_OWN_SCALING = ("simplesleepnet", "robustsleepnet")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Convert published weights, strictly: nothing missing, nothing left over, nothing run.",
        "Weights that were saved as a whole pickled module are refused: loading them runs code.",
    )
    parser.add_argument("source", type=Path, help="the published file")
    parser.add_argument(
        "--from",
        dest="origin",
        choices=("physioex", "dreem", "robustsleepnet", "cmt"),
        required=True,
        help="who made it",
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
        elif args.origin == "robustsleepnet":
            name = "robustsleepnet"
            weights = read_tar(args.source, (_WEIGHTS,))[_WEIGHTS]
            settings, state = published.robustsleepnet(read_state(weights))
        elif args.origin == "cmt":
            settings, state = published.cmt(read_state(args.source.read_bytes()))
            name = "sequence_cmt" if "num_seq" in settings else "epoch_cmt"
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
    if net.any_channels:
        checkpoint["source"]["channels"] = "any number and kind, in any order"
    save_checkpoint(args.to, checkpoint, what=CONVERTED, overwrite=args.overwrite)
    print(f"{args.to}: {name}, {sum(p.numel() for p in net.parameters()):,} parameters, {settings}")


def checkpoint_of(
    args: argparse.Namespace, name: str, settings: dict[str, Any], state: dict[str, Any]
) -> dict[str, Any]:
    """The checkpoint in this project's format, with where the weights come from."""
    n_channels = settings.get("n_channels", 2)
    return {
        "model": name,
        "settings": settings,
        "channels": [[label, role_of(label)] for label in MONTAGES[n_channels]],
        "fs": settings.get("fs", 100.0),
        "standardise": "none" if name in _OWN_SCALING else "recording",
        "state": state,
        "source": {
            "origin": args.origin,
            "file": args.source.name,
            "sha256": sha256(args.source),
            "command": command(),
            **ORIGINS[args.origin],
        },
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
    except pickle.UnpicklingError as error:
        # torch's own message is many lines; "Weights only" is what it begins with for a program
        pickled = _AS_STATE if "weights only" in str(error).lower() else ""
        raise published.NotThese(f"no file of plain tensors{pickled}") from error
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        raise published.NotThese(f"no file of plain tensors ({type(error).__name__})") from error
    # Lightning keeps the weights among other things, a plain file has nothing else
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    tensors = isinstance(state, dict) and all(isinstance(v, torch.Tensor) for v in state.values())
    if not state or not tensors:
        raise published.NotThese("it holds no state dictionary")
    return state


def read_dreem(path: Path) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Weights and statistics of SimpleSleepNet in Dreem's tar.

    Raises:
        NotThese: as :func:`read_tar`, or there are no statistics.
    """
    members = read_tar(path, (_STATISTICS, _WEIGHTS))
    mean, sd = statistics_in(json.loads(members[_STATISTICS]))
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
    except (tarfile.TarError, OSError, EOFError) as error:
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
