"""Stage held-out nights with any trained staging model and measure the agreement.

python staging_evaluate.py                                  # the run trained last
python staging_evaluate.py --experiment tinysleepnet --is_interpret
python staging_evaluate.py --model_path converted.pt --data_path data/dreem-dodh --scorers dodh
"""

from __future__ import annotations

import argparse

from evaluation import evaluate_run, explain
from training.recipes import RECIPES, recipe_of
from utils.arguments import ScriptParser
from utils.checkpoint import load_checkpoint
from utils.errors import UserError, run_script


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Evaluate a staging model on nights of subjects it has never seen.",
        "Everything lands in <run>/evaluation: metrics.json, tables, exports and pictures.",
    )
    what = parser.add_argument_group("what is evaluated")
    what.add_argument(
        "-e",
        "--experiment",
        help=f"one of {', '.join(sorted(RECIPES))} (default: what was trained last)",
    )
    evaluate_run.add_what(what)
    evaluate_run.add_how(parser.add_argument_group("how"))
    explain.add_flags(parser.add_argument_group("explanations"))
    args = parser.parse(argv)
    explain.check(args)
    if args.experiment is not None:
        recipe_of(args.experiment)
    return args


def main(argv: list[str] | None = None) -> None:
    """Find the checkpoint, check that it is what was asked for, evaluate it."""
    args = parse_args(argv)
    folds = "-".join(map(str, args.val_data_list)) if args.val_data_list else "*"
    pattern = f"{args.experiment or '*'}_fold{folds}"
    path = evaluate_run.find_checkpoint(args, pattern, "staging_training.py")
    checkpoint = evaluate_run.with_training(load_checkpoint(path))
    if args.experiment not in (None, checkpoint.model):
        raise UserError(f"{path}: holds a {checkpoint.model}, not a {args.experiment}")
    evaluate_run.check_trained_folds(args, checkpoint)
    evaluate_run.evaluate(args, checkpoint)


if __name__ == "__main__":
    raise SystemExit(run_script(main))
