"""Stage held-out nights with any trained staging model and measure the agreement.

python staging_evaluate.py                                  # the run trained last
python staging_evaluate.py --experiment tinysleepnet --is_interpret
python staging_evaluate.py --model_path converted.pt --data_path data/dreem-dodh --scorers dodh
"""

from __future__ import annotations

from dataclasses import dataclass

from evaluation import evaluate_run
from evaluation.evaluate_run import EvaluationSettings
from interpret import explanation_flags
from training.recipes import RECIPES, recipe_of
from utils.arguments import ScriptParser, settings_from
from utils.checkpoint import load_checkpoint
from utils.errors import UserError, run_script


@dataclass(frozen=True)
class StagingEvaluation(EvaluationSettings):
    """Settings of this evaluation, one field per flag or group of flags."""

    experiment: str | None


def parse_args(argv: list[str] | None) -> StagingEvaluation:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Stage nights of subjects whom a staging model has never seen, and measure its agreement "
        "with the expert.",
        "Results are written to <run>/evaluation: metrics.json, tables, exports and pictures.",
    )
    what = parser.add_argument_group("what is evaluated")
    what.add_argument(
        "-e",
        "--experiment",
        help=f"model to evaluate: {', '.join(sorted(RECIPES))} (default: the one trained last)",
    )
    evaluate_run.add_what(what)
    evaluate_run.add_how(parser.add_argument_group("how"))
    explanation_flags.add_flags(parser.add_argument_group("explanations"))
    settings = settings_from(parser.parse(argv), StagingEvaluation)
    explanation_flags.check(settings.explanations)
    if settings.experiment is not None:  # refuses unknown models
        recipe_of(settings.experiment)
    return settings


def main(argv: list[str] | None = None) -> None:
    """Choose the checkpoint, check that it has the model and folds of the flags, evaluate it."""
    settings = parse_args(argv)
    evaluated = settings.evaluated
    # folders of runs are named <model>_fold<folds>; what the flags leave open matches any
    folds = "-".join(map(str, evaluated.val_data_list)) if evaluated.val_data_list else "*"
    pattern = f"{settings.experiment or '*'}_fold{folds}"
    path = evaluate_run.find_checkpoint(
        evaluated,
        pattern,
        "staging_training.py",
        but_not="*_seed*",  # as pretraining and foundation models call theirs
    )
    checkpoint = load_checkpoint(path)
    evaluate_run.announce_origin(checkpoint)
    if settings.experiment not in (None, checkpoint.model):
        raise UserError(f"{path}: holds a {checkpoint.model}, not a {settings.experiment}")
    evaluate_run.check_trained_folds(settings, checkpoint)
    evaluate_run.evaluate(settings, checkpoint)


if __name__ == "__main__":
    raise SystemExit(run_script(main))
