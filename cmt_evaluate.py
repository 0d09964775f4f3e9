"""Stage held-out nights with a trained cross-modal transformer and measure the agreement.

python cmt_evaluate.py                                     # the run trained last
python cmt_evaluate.py --model_type Seq --val_data_list [4]
python cmt_evaluate.py --model_path results/cmt_seq_fold4/checkpoints/best.pt --data_path data/other
"""

from __future__ import annotations

from dataclasses import dataclass

from evaluation import evaluate_run
from evaluation.evaluate_run import EvaluationSettings
from interpret import explanation_flags
from utils.arguments import ScriptParser, settings_from
from utils.checkpoint import Checkpoint, load_checkpoint
from utils.errors import UserError, run_script

# --model_type, as the published scripts spell it -> name of the model here
REGISTRY = {"Epoch": "epoch_cmt", "Seq": "sequence_cmt"}


@dataclass(frozen=True)
class CmtEvaluation(EvaluationSettings):
    """Settings of this evaluation, one field per flag or group of flags."""

    model_type: str | None


def parse_args(argv: list[str] | None) -> CmtEvaluation:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Stage nights of subjects whom a cross-modal transformer has never seen, and measure its "
        "agreement with the expert.",
        "Results are written to <run>/evaluation: metrics.json, tables, exports and pictures.",
    )
    what = parser.add_argument_group("what is evaluated")
    what.add_argument(
        "--model_type",
        choices=tuple(REGISTRY),
        help="model to evaluate (default: the one trained last)",
    )
    evaluate_run.add_what(what)
    evaluate_run.add_how(parser.add_argument_group("how"))
    explanation_flags.add_flags(parser.add_argument_group("explanations"))
    settings = settings_from(parser.parse(argv), CmtEvaluation)
    explanation_flags.check(settings.explanations)
    return settings


def main(argv: list[str] | None = None) -> None:
    """Choose the checkpoint, check that it has the model and folds of the flags, evaluate it."""
    settings = parse_args(argv)
    evaluated = settings.evaluated
    # folders of runs are named cmt_<kind>_fold<folds>; what the flags leave open matches any
    kind = settings.model_type.lower() if settings.model_type else "*"
    folds = "-".join(map(str, evaluated.val_data_list)) if evaluated.val_data_list else "*"
    path = evaluate_run.find_checkpoint(evaluated, f"cmt_{kind}_fold{folds}", "cmt_training.py")
    checkpoint = load_checkpoint(path)
    check_kind(settings, checkpoint)
    evaluate_run.announce_origin(checkpoint)
    evaluate_run.evaluate(settings, checkpoint)


def check_kind(settings: CmtEvaluation, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint of another model or of other folds than the flags name."""
    kinds = {name: kind for kind, name in REGISTRY.items()}
    path, model = checkpoint.path, checkpoint.model
    # converted weights hold no record of a training, so whom they have seen is not known
    if model not in kinds or checkpoint.training is None:
        raise UserError(f"{path}: a {model} checkpoint, not of cmt_training.py")
    if settings.model_type and REGISTRY[settings.model_type] != model:
        raise UserError(
            f"{path}: --model_type {settings.model_type}, but it holds a {kinds[model]}"
        )
    evaluate_run.check_trained_folds(settings, checkpoint)


if __name__ == "__main__":
    raise SystemExit(run_script(main))
