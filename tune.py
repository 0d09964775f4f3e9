"""Search the settings of any training script with Optuna.

python tune.py --space configs/tune/cmt.json             # cmt_training.py, on the demo store
python tune.py --script foundation_training.py --space configs/tune/foundation.json \
    --fixed "--data_path data/shhs --n_epochs 10" --metric val_loss --direction minimize
python tune.py --space configs/tune/cmt.json --workers 2                # two at the same time

After an interruption the same command resumes the search; workers on other machines join it if
they share its --output.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from experiments import search, search_report, search_space
from experiments.search import Search
from utils.arguments import ScriptParser, add_flag, count, next_command, positive, settings_from
from utils.errors import UserError, run_script
from utils.files import refuse_inputs

ROOT = Path(__file__).parent


@dataclass(frozen=True)
class TuneFlags:
    """Settings of the search, one field per flag."""

    config: Path | None
    script: Path
    space: Path
    fixed: str
    metric: str
    direction: str
    n_trials: int
    output: Path
    workers: int
    prune: bool
    grid: bool
    seed: int


def parse_args(argv: list[str] | None) -> TuneFlags:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Search better settings for a training script, by its figure on the validation subjects.",
        "Trials that fall behind are stopped early; held-out folds are never evaluated.",
    )
    parser.add_argument(
        "--script", type=Path, default=Path("cmt_training.py"), help="training script to tune"
    )
    parser.add_argument(
        "--space",
        type=Path,
        default=ROOT / "configs" / "tune" / "cmt.json",
        help='search space: JSON file that gives each flag a range {"low": …, "high": …}, with '
        '"log": true or "step": … if wanted, or a list of choices',
    )
    parser.add_argument(
        "--fixed", default="", help='flags of all trials, in one string such as "--n_epochs 5"'
    )
    parser.add_argument("--metric", default="val_kappa", help="deciding figure of metrics.jsonl")
    parser.add_argument(
        "--direction", choices=("maximize", "minimize"), default="maximize", help="which is better"
    )
    parser.add_argument("--n_trials", type=positive, default=20, help="trials, completed or pruned")
    parser.add_argument(
        "--output", type=Path, default=Path("results/tune"), help="folder of study and pictures"
    )
    parser.add_argument(
        "--workers", type=positive, default=1, help="processes that share the study"
    )
    add_flag(parser, "--prune", default=True, help="stop trials below the median of their pass")
    add_flag(
        parser,
        "--grid",
        help="train every combination of a space of choices once, up to --n_trials; those that "
        "the script refuses are listed as failed",
    )
    parser.add_argument("--seed", type=count, default=0, help="seed of the search, not of training")
    flags = settings_from(parser.parse(argv), TuneFlags)
    # a script's name alone is enough, wherever the search is started
    script = flags.script if flags.script.is_file() else ROOT / flags.script
    if not script.is_file():
        raise UserError(f"--script {flags.script}: no such file")
    return replace(flags, script=script)


def main(argv: list[str] | None = None) -> None:
    """Search, alone or with further workers, then print the best setting."""
    flags = parse_args(argv)
    space, n_trials = search_space.read_space(flags.space), flags.n_trials
    if flags.grid:
        n_trials = min(n_trials, len(search_space.combinations(space)))
    wanted = Search(
        script=flags.script,
        fixed=tuple(shlex.split(flags.fixed)),
        space=space,
        metric=flags.metric,
        maximise=flags.direction == "maximize",
        output=flags.output,
        n_trials=n_trials,
        prune=flags.prune,
        seed=flags.seed,
        grid=flags.grid,
    )
    written = [flags.output / name for name in search.FILES]
    refuse_inputs(written, [flags.space, flags.script, flags.config])
    others = []
    if flags.workers > 1:
        one = replace(wanted, n_trials=1)
        search.run(one)  # makes the study, its default and a first trial before others join
        words = sys.argv[1:] if argv is None else argv
        command = [sys.executable, str(ROOT / "tune.py"), *words, "--workers", "1"]
        others = [
            subprocess.Popen(command, env=os.environ | {"TUNE_WORKER": "1"})
            for _ in range(1, flags.workers)
        ]
    study = search.run(wanted)
    for process in others:
        process.wait()
    if os.environ.get("TUNE_WORKER"):  # only the process that was started by hand reports
        return
    summary = search_report.report(wanted, study)
    print(
        f"best {flags.metric} {summary['best']:.4f}, with the script's defaults "
        f"{summary['default']:.4f}"
    )
    print(f"setting: {flags.output / 'best.json'}   pictures: {flags.output}")
    # a folder of its own: a run of the defaults may stand in the usual one
    best = ["--config", flags.output / "best.json", "--project_path", flags.output / "best"]
    print(next_command("python", flags.script.name, *best, *shlex.split(flags.fixed)))


if __name__ == "__main__":
    raise SystemExit(run_script(main))
