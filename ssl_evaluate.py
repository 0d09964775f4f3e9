"""Evaluate pretrained encoders: frozen embeddings, probes, few labels, and controls.

python ssl_evaluate.py                              # the run trained last
python ssl_evaluate.py --runs all --tuned False     # every run, without training networks
python ssl_evaluate.py --published physioex-chambon-eeg,physioex-seqsleepnet-eeg
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasets.store.store import Store
from evaluation import probe_pretrained
from evaluation.probe_pretrained import ProbeFlags
from evaluation.stage import pick_device
from evaluation.stagers import catalogue
from utils import runs
from utils.arguments import (
    DEMO_STORE,
    ScriptParser,
    add_flag,
    add_list,
    next_command,
    positive,
    settings_from,
)
from utils.checkpoint import load_checkpoint
from utils.errors import UserError, run_script
from utils.files import check_file


@dataclass(frozen=True)
class ProbingSettings:
    """Settings of this evaluation; ``runs``: last, all or a pattern."""

    project_path: Path
    data_path: Path
    runs: str
    probes: ProbeFlags
    device: str


def parse_args(argv: list[str] | None) -> ProbingSettings:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Embed every epoch by pretrained, frozen encoders, and evaluate the embeddings by probes.",
        "Results are written to <run>/embeddings and <run>/evaluation. Next: "
        "latent_space_evaluator.py.",
    )
    parser.add_argument(
        "--project_path", type=Path, default=Path("results"), help="folder with the trained runs"
    )
    parser.add_argument("--data_path", type=Path, default=DEMO_STORE, help="store pretrained on")
    parser.add_argument(
        "--runs", default="last", help="runs: 'last', 'all', or a pattern such as ssl_masked_*"
    )
    add_list(
        parser,
        "--fractions",
        item=float,
        default=[0.01, 0.05, 0.1, 1.0],
        help="shares of the training labels that probes learn from, drawn by epoch and by subject",
    )
    add_list(
        parser,
        "--seeds",
        item=int,
        default=[0, 1, 2, 3, 4],
        help="seeds of labels, random encoders",
    )
    add_networks(parser)
    parser.add_argument("--device", default="auto", help="device: auto, cpu, cuda or cuda:1")
    settings = settings_from(parser.parse(argv), ProbingSettings)
    probe_pretrained.check_draws(settings.probes.seeds, settings.probes.fractions)
    return settings


def add_networks(group: ScriptParser) -> None:
    """Add the flags of what is trained, or taken from others, to compare with."""
    add_flag(
        group,
        "--tuned",
        default=True,
        help="also fine-tune the encoder, and train it from scratch, with the same labels, and "
        "with all labels for as long as it was pretrained",
    )
    group.add_argument(
        "--tuning_steps", type=positive, default=300, help="steps of each of these trainings"
    )
    add_flag(
        group,
        "--context",
        help="also train a recurrent network on the nights of each frozen space",
    )
    add_list(
        group,
        "--published",
        default=[],
        help="published stagers whose encoders are compared with, such as physioex-chambon-eeg",
    )


def main(argv: list[str] | None = None) -> None:
    """Evaluate each run in turn, then write one table of all runs."""
    settings = parse_args(argv)
    device = pick_device(settings.device)
    check_file(settings.project_path / "ssl_benchmark.csv")  # before the long work, not after it
    published = {name: catalogue.published_checkpoint(name) for name in settings.probes.published}
    for run in chosen_runs(settings):
        checkpoint = load_checkpoint(run / "checkpoints" / "best.pt")
        store = Store(settings.data_path)
        rows = probe_pretrained.evaluate(run, checkpoint, store, settings.probes, device, published)
        probe_pretrained.report(run, rows)
    print(f"over folds and seeds: {probe_pretrained.summarise(settings.project_path)}")
    where = ["--project_path", settings.project_path]
    print(next_command("python", "latent_space_evaluator.py", *where))


def chosen_runs(settings: ProbingSettings) -> list[Path]:
    """Folders of the chosen runs, those that have a best checkpoint.

    Raises:
        UserError: there are none.
    """
    if settings.runs == "last":
        return [runs.newest_run(settings.project_path, "ssl_*")]
    pattern = "ssl_*" if settings.runs == "all" else settings.runs
    checkpoints = sorted(settings.project_path.glob(f"{pattern}/checkpoints/best.pt"))
    if not checkpoints:
        raise UserError(f"{settings.project_path}: no run {pattern}; run ssl_training.py first")
    return [path.parents[1] for path in checkpoints]


if __name__ == "__main__":
    raise SystemExit(run_script(main))
