"""Export a pretrained encoder as safetensors with a card, to be loaded in three lines.

python export_encoder.py                                           # the run trained last
python export_encoder.py --run results/ssl_contrastive_cnn_fold4_seed0 --licence cc-by-4.0
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from evaluation.encoder_card import card_of
from evaluation.stagers.portable_encoder import WEIGHTS, load_encoder, save_encoder
from utils.arguments import ScriptParser
from utils.checkpoint import Checkpoint, is_of_stamp, load_checkpoint
from utils.errors import UserError, run_script
from utils.files import check_folder, read_json, refuse_inputs, write_text, written_folder
from utils.runs import newest_run

ENCODER = "exported encoder"  # what its folder is called where it may be replaced
CARD = "README.md"
_OURS = "mit"  # licence of weights that have seen simulated nights alone


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Export the encoder of a run of ssl_training.py, with a card of what trained it and of the "
        "controls beside it.",
        f"Run ssl_evaluate.py first. Writes {WEIGHTS} and {CARD}; uploads nothing.",
    )
    parser.add_argument(
        "--project_path", type=Path, default=Path("results"), help="folder with the trained runs"
    )
    parser.add_argument("--run", type=Path, help="the run (default: the newest ssl_* there)")
    parser.add_argument(
        "--output", type=Path, help="folder to write (default: encoders/ and the name of the run)"
    )
    parser.add_argument(
        "--licence",
        help="licence of the weights, as hubs abbreviate it: a cohort's terms may bind what it "
        f"trained (default: {_OURS}, for simulated nights alone)",
    )
    return parser.parse(argv)


def main(argv: list[str] | None = None) -> None:
    """Write weights and card, load them again, and print how they could be shared."""
    args = parse_args(argv)
    run = args.run or newest_run(args.project_path, "ssl_*")
    output = args.output or Path("encoders") / run.name
    refuse_inputs([output], [run])
    check_folder(output, ENCODER)
    checkpoint = load_checkpoint(run / "checkpoints" / "best.pt")
    probed = probes_of(run)
    text = card_of(checkpoint, output.name, probed, args.licence or licence_of(checkpoint))
    with written_folder(output, ENCODER) as folder:
        save_encoder(checkpoint, folder / WEIGHTS)
        load_encoder(folder, "cpu")  # what cannot be loaded is not kept
        write_text(folder / CARD, text)
    print(text)
    print(f"written: {output}")
    shared = shlex.join(["hf", "upload", "NAME", str(output)])
    print(f"to share it, if its licence allows: {shared}")


def probes_of(run: Path) -> dict:
    """What ``ssl_evaluate.py`` measured of the run's weights.

    Raises:
        UserError: it was not run, or the weights are others by now.
    """
    path = run / "evaluation" / "probes.json"
    if not path.is_file() or not is_of_stamp((probed := read_json(path))["about"], run):
        raise UserError(
            f"{path}: no probes of these weights, and a card has its controls beside it; run "
            f"ssl_evaluate.py --runs {run.name}"
        )
    return probed


def licence_of(checkpoint: Checkpoint) -> str:
    """The licence of weights that simulated nights alone have trained.

    Raises:
        UserError: others have, whose terms are not known here.
    """
    if not checkpoint.is_simulated:
        raise UserError(
            f"{checkpoint.path}: trained on {checkpoint.training.cohort}, whose terms may bind the "
            "weights; name their licence with --licence"
        )
    return _OURS


if __name__ == "__main__":
    raise SystemExit(run_script(main))
