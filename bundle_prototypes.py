"""Bundle prototypes: epochs of simulated training nights that explanations of predict.py show.

python bundle_prototypes.py                              # of the store that make weights prepared
python bundle_prototypes.py --model_path best.pt --data_path data/store --output prototypes.npz
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from datasets.store.store import Store
from evaluation.stage import load_staging_model, open_view
from interpret import prototypes
from utils.arguments import ScriptParser, add_flag, positive, settings_from
from utils.checkpoint import load_checkpoint
from utils.errors import UserError, run_script
from utils.files import check_file, refuse_inputs

WEIGHTS = Path("results") / "weights"


@dataclass(frozen=True)
class PrototypeFlags:
    """Whose training nights, how many epochs of them, and where they go."""

    model_path: Path
    data_path: Path
    output: Path
    per_stage: int
    overwrite: bool


def parse_args(argv: list[str] | None) -> PrototypeFlags:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Bundle prototypes of a model: epochs that stand for the stages of its training nights.",
        "They are the medoids of every stage in the model's latent space; the same store gives the "
        "same file.",
    )
    parser.add_argument(
        "--model_path", type=Path, default=WEIGHTS / "spectra_0.pt", help="checkpoint that encodes"
    )
    parser.add_argument(
        "--data_path",
        type=Path,
        default=Path("data/weights/store"),
        help="store with the nights that it was trained on, or some of them",
    )
    parser.add_argument(
        "--output", type=Path, default=WEIGHTS / prototypes.BUNDLED, help="file to write"
    )
    parser.add_argument("--per_stage", type=positive, default=40, help="epochs of every stage")
    add_flag(parser, "--overwrite", help="replace a file that this script did not write")
    return settings_from(parser.parse(argv), PrototypeFlags)


def main(argv: list[str] | None = None) -> None:
    """Encode epochs of the training nights, keep the medoids, write them."""
    flags = parse_args(argv)
    check_file(flags.output, overwrite=flags.overwrite)
    refuse_inputs([flags.output], [flags.model_path])
    checkpoint, store = load_checkpoint(flags.model_path), Store(flags.data_path)
    model = load_staging_model(checkpoint)
    if not prototypes.allows(model):
        raise UserError(f"{checkpoint.path}: a {checkpoint.model} encodes no epochs on their own")
    seen = set(checkpoint.training.subjects["train"]) if checkpoint.training else set()
    recordings = store.of_subjects(sorted(seen & set(store.subjects)))
    if not recordings:
        raise UserError(
            f"{store.path}: none of its subjects trained {checkpoint.path}; name that store"
        )
    view = open_view(checkpoint, store, recordings, torch.device("cpu"))
    every = prototypes.gathered(model, view, per_stage=5 * flags.per_stage)
    kept = replace(prototypes.thinned(every, flags.per_stage), weights=checkpoint.fingerprint())
    prototypes.save(flags.output, kept)
    size = flags.output.stat().st_size
    print(f"{len(kept.z)} of {len(every.z)} epochs of {len(recordings)} recordings; {size:,} bytes")
    print(f"written: {flags.output}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
