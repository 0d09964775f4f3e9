"""Evaluate night_bands on the held-out subjects of a table of band powers, or of a store.

python bands_evaluate.py                                              # the demo store
python bands_evaluate.py --table sc153.npz --n_test 16 --n_val 10     # as in training
python bands_evaluate.py --table sc153.npz --n_test 0 --derivation Pz-Oz --model_path best.pt
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evaluation.band_evaluation import BandEvaluationFlags, evaluate
from evaluation.evaluate_run import report
from utils.arguments import DEMO_STORE, ScriptParser, count, settings_from
from utils.checkpoint import load_checkpoint
from utils.errors import run_script
from utils.runs import newest_run


def parse_args(argv: list[str] | None) -> BandEvaluationFlags:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Agreement of night_bands with the experts of subjects that its training has not seen.",
        "The split is drawn by --seed, as in training; subjects that were seen are refused.",
    )
    parser.add_argument("--model_path", type=Path, help="a checkpoint, instead of a run's best")
    parser.add_argument(
        "--project_path", type=Path, default=Path("results"), help="where training wrote its runs"
    )
    parser.add_argument("--table", type=Path, help="table of band powers, an .npz file")
    parser.add_argument(
        "--data_path", type=Path, help="a store, instead of a table (default: the demo store)"
    )
    parser.add_argument(
        "--derivation", help="such as Fpz-Cz or Pz-Oz (default: the first of the table)"
    )
    parser.add_argument("--n_test", type=count, default=1, help="subjects held out; 0 stages all")
    parser.add_argument("--n_val", type=count, default=1, help="subjects who selected in training")
    parser.add_argument("--seed", type=count, default=0, help="seed of the split")
    parser.add_argument("--pictures", type=count, default=0, help="recordings to draw")
    flags = settings_from(parser.parse(argv), BandEvaluationFlags)
    if flags.table is None and flags.data_path is None:
        return replace(flags, data_path=DEMO_STORE)
    return flags


def main(argv: list[str] | None = None) -> None:
    """Stage the held-out subjects, write everything, print the figures."""
    settings = parse_args(argv)
    path = settings.model_path
    if path is None:
        path = newest_run(settings.project_path, "night_bands_*") / "checkpoints" / "best.pt"
    result = evaluate(settings, load_checkpoint(path))
    about = result["about"]
    print(f"{path} -> {about['headline']}, split by subject with seed {about['split']['seed']}")
    report(result, result["folder"])
    n3 = {who: stages["N3"] for who, stages in about["shares"].items()}
    print(f"  share of N3: expert {n3['expert']:.3f}, model {n3['model']:.3f}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
