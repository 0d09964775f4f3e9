"""Methods beside maps that know no model, for several models: results/explanations.md.

python -m benchmarks.explanations
python -m benchmarks.explanations --models sequence_cmt --methods ig,attention

What is read, and how, was fixed beforehand: results/explanations_rule.md. Simulated nights with
distractors are made, every model is trained and its held-out nights are explained. After an
interruption the same command resumes where it stopped.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.cells import Cell, run_cell
from interpret.explanation import INCOMPLETE
from interpret.integrated_gradients import TOLERANCE
from utils.arguments import ScriptParser, add_list, count, positive, settings_from
from utils.errors import UserError, run_script
from utils.files import locked, read_json, write_json, write_table, write_text
from utils.version import VERSION

ROOT = Path(__file__).parents[1]
# measures of the table, and the stages they are read in; against_model_free.csv has the others
SHOWN = {
    "deletion_below_random": ("all", "W", "N1", "N2", "N3", "REM"),
    "deletion_below_random_same_stage": ("all",),
    "insertion_above_random": ("all",),
    **{f"auroc_{kind}": ("all",) for kind in ("spindle", "k_complex", "slow_wave", "rem")},
    **{
        f"from_wrong_{what}_{kind}": ("all",)
        for kind in ("spindle", "k_complex", "slow_wave", "rem")
        for what in ("shape", "band", "channel")
    },
}
# of the page, by benchmarks.explained_bands, which writes it and all that follows
BANDS_SECTION = "# Orders of five bands: parts of the default"
# what has no counterpart without a model: means of the summary, completeness by shares of epochs
PLAIN = (
    "signs_of_first_baseline",
    "likeness_to_first_baseline",
    "likeness_to_random_weights",
    "infidelity",
)
_ENDS = ("interpretations", "against_model_free.csv")  # what a finished model has


@dataclass(frozen=True)
class TableFlags:
    """Nights, models and methods of the table."""

    output: Path
    table: Path
    subjects: int
    hours: float
    passes: int
    models: list[str]
    methods: list[str]
    per_stage: int
    n_random: int
    seed: int
    device: str


def parse_args(argv: list[str] | None) -> TableFlags:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser("Measure explanations of several models beside maps that know none.")
    parser.add_argument("--output", type=Path, default=Path("data/explanations"))
    parser.add_argument("--table", type=Path, default=Path("results/explanations.md"))
    parser.add_argument(
        "--subjects", type=positive, default=50, help="a fifth of whom are held out and explained"
    )
    parser.add_argument("--hours", type=float, default=4.0, help="of each one's night")
    parser.add_argument("--passes", type=positive, default=20, help="over the training data")
    add_list(
        parser,
        "--models",
        default=["sequence_cmt", "seqsleepnet", "simplesleepnet"],
        help="those of staging_training.py",
    )
    add_list(
        parser,
        "--methods",
        default=["ig", "eg", "specgrad", "ixg", "occlusion", "attention", "rollout"],
        help="those that a model does not allow are left out",
    )
    parser.add_argument(
        "--per_stage", type=positive, default=100, help="epochs of every stage, of all subjects"
    )
    parser.add_argument("--n_random", type=positive, default=20, help="random orders")
    parser.add_argument("--seed", type=count, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return settings_from(parser.parse(argv), TableFlags)


def main(argv: list[str] | None = None) -> None:
    """Run what is not done yet, one model after the other, and write the table."""
    flags = parse_args(argv)
    with locked(flags.output):
        check_same(flags)
        for cell in cells(flags):
            print(f"{cell.name}: {cell.log}")
            if failure := run_cell(cell):
                raise UserError(failure)
        rows = [row for model in flags.models for row in rows_of(flags, model)]
        write_table(flags.table.with_suffix(".csv"), rows)
        text = page(rows, flags) + "\n".join(["", *plain_section(flags)]) + "\n"
        write_text(flags.table, text + bands_section(flags.table))
    print(f"written: {flags.table}")


def check_same(flags: TableFlags) -> None:
    """Refuse a folder whose nights and runs were made otherwise; models may be added.

    Raises:
        UserError: naming what differs.
    """
    path = flags.output / "settings.json"
    asked = {k: str(v) for k, v in asdict(flags).items() if k not in ("output", "table", "models")}
    asked["version"] = str(VERSION)
    known = read_json(path) if path.exists() else asked
    if wrong := [name for name in asked if known.get(name) != asked[name]]:
        raise UserError(
            f"{flags.output}: made with another {', '.join(wrong)}; choose another --output"
        )
    write_json(path, asked)


def cells(flags: TableFlags) -> Iterator[Cell]:
    """What is left to do: the nights, then each model's training and explanation."""
    raw, store = flags.output / "raw", flags.output / "store"
    if not (store / "dataset.json").exists():
        nights = ["--subjects", flags.subjects, "--nights", 1, "--hours", flags.hours]
        made = ["generate_demo_data.py", "--output", raw, *nights, "--seed", flags.seed]
        kept = ["preprocess_sleepedf.py", "--raw_path", raw, "--save_path", store]
        yield cell(flags, "nights", [[*made, "--distractors"], kept])
    for model in flags.models:
        if finished(flags, model) is None:
            yield cell(flags, model, [train(flags, model), explain(flags, model)])


def train(flags: TableFlags, model: str) -> list[object]:
    """The command that trains a model on four fifths of the subjects."""
    passes = ["--n_epochs", flags.passes, "--seed", flags.seed, "--logger", "csv"]
    return ["staging_training.py", *where(flags, model), *passes, "--accelerator", flags.device]


def explain(flags: TableFlags, model: str) -> list[object]:
    """The command that explains and measures the nights of all other subjects."""
    chosen = ["--interpret_recordings", 0, "--interpret_select", f"per_stage:{flags.per_stage}"]
    drawn = ["--pictures", 0, "--interpret_pictures", 0, "--interpret_bands", "False"]
    methods = ["--interpret_methods", ",".join(flags.methods), "--n_random", flags.n_random]
    truth = ["--truth_path", flags.output / "raw", "--device", flags.device]
    asked = ["--is_interpret", *chosen, *methods, *truth, *drawn]
    return ["staging_evaluate.py", *where(flags, model), *asked]


def where(flags: TableFlags, model: str) -> list[object]:
    """Flags that name the model, its store and the folder of its runs."""
    paths = ["--data_path", flags.output / "store", "--project_path", flags.output / model]
    return ["--experiment", model, *paths]


def cell(flags: TableFlags, name: str, commands: Sequence[Sequence[object]]) -> Cell:
    """Commands of our scripts as a cell of that name."""
    words = [[sys.executable, str(ROOT / script), *map(str, rest)] for script, *rest in commands]
    return Cell(name, words, flags.output / f"{name}.log")


def finished(flags: TableFlags, model: str) -> Path | None:
    """The table of a model that is explained already."""
    return next(iter(sorted((flags.output / model).glob("/".join(("*", *_ENDS))))), None)


def rows_of(flags: TableFlags, model: str) -> Iterator[dict[str, str]]:
    """Rows of a model: each method beside the best map without a model, with its own mean."""
    path = finished(flags, model)
    means = {
        (row["method"], row["measure"], row["stage"]): row["mean"]
        for row in read_rows(path.with_name("summary.csv"))
    }
    for row in read_rows(path):
        keys = [(row[name], row["measure"], row["stage"]) for name in ("method", "against")]
        values = {"mean": means[keys[0]], "mean_of_against": means[keys[1]]}
        yield {"model": model, **row, **values}


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table as text."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def page(rows: Sequence[dict[str, str]], flags: TableFlags) -> str:
    """The table as a page: a section for each measure, the means and what is ahead."""
    lines = [
        "# Explanations beside maps that know no model",
        "",
        f"`python -m benchmarks.explanations`, by the rule of explanations_rule.md: "
        f"{flags.subjects} simulated subjects with distractors, a fifth of them held out, "
        f"{flags.per_stage} epochs of every stage of all of them. *Ahead* is what exceeds the best "
        "map without a model in a paired comparison by subject, whose 95 % interval excludes 0.",
    ]
    for measure, stages in SHOWN.items():
        for stage in stages:
            of_both = [r for r in rows if (r["measure"], r["stage"]) == (measure, stage)]
            if of_both:
                title = measure if stage == "all" else f"{measure}, {stage}"
                lines += ["", f"## {title}", "", *table(of_both)]
    return "\n".join(lines) + "\n"


def plain_section(flags: TableFlags) -> list[str]:
    """Lines of what has no counterpart: how maps change with baseline and weights, completeness."""
    lines = [
        "## Baselines, weights, completeness",
        "",
        "Means over epochs of all stages, without a counterpart that knows no model.",
        "",
        "| model | method | measure | mean | n |",
        "|---|---|---|---|---|",
    ]
    for model in flags.models:
        folder = finished(flags, model).parent
        for row in read_rows(folder / "summary.csv"):
            if row["measure"] in PLAIN and row["stage"] == "all":
                interval = f"{float(row['mean']):.3f} [{float(row['low']):.3f}, "
                interval += f"{float(row['high']):.3f}]"
                lines.append(
                    f"| {model} | {row['method']} | {row['measure']} | {interval} "
                    f"| {row['subjects']} |"
                )
    lines += [
        "",
        "| model | method | epochs | <= 1 % | <= 5 % | flagged |",
        "|---|---|---|---|---|---|",
    ]
    for model in flags.models:
        errors: dict[str, list[float]] = {}
        index = read_json(finished(flags, model).with_name("index.json"))
        for entry in index["explanations"]:
            for method, answer in entry["methods"].items():
                if answer["completeness_error"] is not None:
                    errors.setdefault(method, []).append(answer["completeness_error"])
        for method, own in errors.items():
            shares = [
                100 * sum(e <= limit for e in own) / len(own) for limit in (TOLERANCE, INCOMPLETE)
            ]
            flagged = sum(error > INCOMPLETE for error in own)
            shown = " | ".join(f"{share:.1f} %" for share in shares)
            lines.append(f"| {model} | {method} | {len(own)} | {shown} | {flagged} |")
    return lines


def bands_section(path: Path) -> str:
    """The section on orders of bands of a page that may not be there yet, with a line before it."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return "\n" + text[text.index(BANDS_SECTION) :] if BANDS_SECTION in text else ""


def without_bands_section(path: Path) -> str:
    """A page up to its section on orders of bands, with a line after it; "" without a page."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    before = text.partition(BANDS_SECTION)[0].rstrip("\n")
    return f"{before}\n\n" if before else ""


def table(rows: Sequence[dict[str, str]]) -> list[str]:
    """Lines of a table of one measure."""
    lines = [
        "| model | method | mean | best without a model | difference | n | ahead |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["low"], row["high"]
        interval = f" [{float(low):.3f}, {float(high):.3f}]" if low else ""
        lines.append(
            f"| {row['model']} | {row['method']} | {float(row['mean']):.3f} "
            f"| {row['against']} {float(row['mean_of_against']):.3f} "
            f"| {float(row['difference']):+.3f}{interval} | {row['subjects']} "
            f"| {'**yes**' if row['ahead'] == 'True' else 'no'} |"
        )
    return lines


if __name__ == "__main__":
    raise SystemExit(run_script(main))
