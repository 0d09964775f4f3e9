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

REGISTRY = {"Epoch": "epoch_cmt", "Seq": "sequence_cmt"}


@dataclass(frozen=True)
class CmtEvaluation(EvaluationSettings):
    """What the command line asks for."""

    model_type: str | None


def parse_args(argv: list[str] | None) -> CmtEvaluation:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Evaluate a cross-modal transformer on nights of subjects it has never seen.",
        "Everything lands in <run>/evaluation: metrics.json, tables, exports and pictures.",
    )
    what = parser.add_argument_group("what is evaluated")
    what.add_argument(
        "--model_type", choices=tuple(REGISTRY), help="kind of the run (default: trained last)"
    )
    evaluate_run.add_what(what)
    evaluate_run.add_how(parser.add_argument_group("how"))
    explanation_flags.add_flags(parser.add_argument_group("explanations"))
    settings = settings_from(parser.parse(argv), CmtEvaluation)
    explanation_flags.check(settings.explanations)
    return settings


def main(argv: list[str] | None = None) -> None:
    """Find the checkpoint, check that it is what was asked for, evaluate it."""
    settings = parse_args(argv)
    evaluated = settings.evaluated
    kind = settings.model_type.lower() if settings.model_type else "*"
    folds = "-".join(map(str, evaluated.val_data_list)) if evaluated.val_data_list else "*"
    path = evaluate_run.find_checkpoint(evaluated, f"cmt_{kind}_fold{folds}", "cmt_training.py")
    checkpoint = load_checkpoint(path)
    check_kind(settings, checkpoint)
    evaluate_run.evaluate(settings, checkpoint)


def check_kind(settings: CmtEvaluation, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that is not what the flags say."""
    kinds = {name: kind for kind, name in REGISTRY.items()}
    path, model = checkpoint.path, checkpoint.model
    if model not in kinds or checkpoint.training is None:
        raise UserError(f"{path}: a {model} checkpoint, not of cmt_training.py")
    if settings.model_type and REGISTRY[settings.model_type] != model:
        raise UserError(
            f"{path}: --model_type {settings.model_type}, but it holds a {kinds[model]}"
        )
    evaluate_run.check_trained_folds(settings, checkpoint)


if __name__ == "__main__":
    raise SystemExit(run_script(main))
