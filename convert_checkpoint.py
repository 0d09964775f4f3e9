"""Published weights -> a checkpoint of this project, which every script here reads.

python convert_checkpoint.py --from physioex --model chambon2018 weights.ckpt --to chambon.pt
python convert_checkpoint.py --from dreem simple_sleep_net_dodh.gz --to dodh.pt
python convert_checkpoint.py --from robustsleepnet best_model.gz --to robust.pt
python convert_checkpoint.py --from cmt state.pt --to cmt.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

from evaluation.stagers.published_files import ORIGINS, convert
from models import published
from utils.arguments import ScriptParser, add_flag
from utils.checkpoint import save_checkpoint
from utils.errors import UserError, run_script
from utils.files import check_file, refuse_inputs

CONVERTED = "converted weights"  # what --to is called where it may be replaced


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
        choices=tuple(ORIGINS),
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
    refuse_inputs([args.to], [args.source])
    check_file(args.to, CONVERTED, overwrite=args.overwrite)
    checkpoint = convert(args.source, args.origin, args.model)
    save_checkpoint(args.to, checkpoint, what=CONVERTED, overwrite=args.overwrite)
    print(f"{args.to}: {checkpoint['model']}, {checkpoint['settings']}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
