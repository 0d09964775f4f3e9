"""Tables of models: figures read from the files of their runs, pooled over folds and seeds."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

import models
from datasets.store.protocols import WAKE_KEPT
from datasets.store.views import View
from evaluation import embed
from evaluation.probe_pretrained import counts_by_subject
from utils import metrics
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.files import read_json, write_json, write_table, write_text
from utils.intervals import columns, of_columns, over_subjects, with_interval
from utils.json_values import parsed
from utils.staged_night import stage_signals
from utils.stages import STAGES, UNSCORED

# cohorts of stores -> what the published table calls them; synthetic ones have no counterpart
PUBLISHED_AS = {
    "sleepedf-2013": "Sleep-EDF-20",
    "sleepedf-2018": "Sleep-EDF-78",
    "dodh": "DOD-H",
    "dodo": "DOD-O",
}
PUBLISHED = Path(__file__).parents[1] / "results" / "published_results.csv"
# our name of a model -> how its names in the published table begin, where that differs
CALLED = {
    "chambon2018": "chambon", "epoch_cmt": "epoch cmt", "sequence_cmt": "sequence cmt",
    "contrastive_cnn": "ssl contrastive, cnn", "masked_cnn": "ssl masked prediction, cnn",
    "hybrid_cnn": "ssl hybrid, cnn", "contrastive_cnn_attention": "ssl contrastive, cnn+attention",
    "masked_cnn_attention": "ssl masked prediction, cnn+attention",
    "hybrid_cnn_attention": "ssl hybrid, cnn+attention",
    "contrastive_transformer": "ssl contrastive, transformer",
    "masked_transformer": "ssl masked prediction, transformer",
    "hybrid_transformer": "ssl hybrid, transformer",
}  # fmt: skip
FIGURES = ("accuracy", "macro_f1", "kappa")
_REPEATS = 3  # the median of three is free of the first one's warm-up
# column -> its heading in Markdown and LaTeX; csv and json have all columns
_SHOWN = {
    "model": "model", "whose": "numbers", "accuracy": "accuracy", "macro_f1": "macro-F1",
    "kappa": "kappa", "parameters": "parameters", "seconds_per_pass": "s / pass",
    "seconds_per_night": "s / night", "passes": "passes", "data": "data and protocol",
}  # fmt: skip


def confusions(runs: Sequence[Path]) -> tuple[list[str], np.ndarray]:
    """Subjects and confusion matrices (n, 5, 5) of all recordings that ``runs`` evaluated."""
    # an empty cell is an epoch that the expert did not score
    code = {name: k for k, name in enumerate(STAGES)} | {"": UNSCORED}
    subjects, counts = [], []
    for run in runs:
        result = read_json(run / "evaluation" / "metrics.json")
        for row in result["recordings"]:
            path = run / "evaluation" / "predictions" / f"{row['recording']}.csv"
            with path.open(newline="") as file:
                epochs = [(code[r["expert"]], code[r["stage"]]) for r in csv.DictReader(file)]
            expert, stage = np.array(epochs).T
            subjects.append(row["subject"])
            counts.append(metrics.confusion(expert, stage))
    return subjects, np.stack(counts)


def own_row(name: str, runs: Sequence[Path], view: View, *, selected: str) -> dict[str, Any]:
    """Our figures of one model over its ``runs``, one per fold and seed.

    Seconds per night are measured on the first night of ``view``, on its device; seconds per pass
    are the median over all passes of training.
    """
    subjects, counts = confusions(runs)
    checkpoint = load_checkpoint(runs[0] / "checkpoints" / f"{selected}.pt")
    about = read_json(runs[0] / "evaluation" / "metrics.json")["about"]
    net = models.build_from(checkpoint).to(view.device)
    passes = [rows_of(run) for run in runs]
    return {
        "model": name,
        "whose": "ours",
        "data": data_of(about),
        **figures_of(subjects, counts),
        "parameters": sum(p.numel() for p in net.parameters()),
        "seconds_per_pass": round(median(row["seconds"] for rows in passes for row in rows), 3),
        "seconds_per_night": round(seconds_per_night(net, view), 4),
        "passes": round(sum(map(len, passes)) / len(passes), 1),
        "runs": len(runs),
        "subjects": len(set(subjects)),
        "epochs": int(counts.sum()),
        "source": f"{about['folds']}, selected on {about['select_on']}",
    }


def pretrained_rows(name: str, runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Rows of a pretrained encoder and of the same with random weights, by linear probes.

    Probes learned from all labels; figures are pooled over the folds and seeds of ``runs``.
    """
    checkpoint = load_checkpoint(runs[0] / "checkpoints" / "best.pt")
    about = read_json(runs[0] / "evaluation" / "probes.json")["about"]
    passes = [rows_of(run) for run in runs]
    encoder = embed.encoder_of(checkpoint).encoder
    table = []
    for space in ("pretrained", "random encoder"):
        subjects, counts = [], []
        for run in runs:
            rows = read_json(run / "evaluation" / "probes.json")["rows"]
            kept = next(
                row
                for row in rows
                if (row["space"], row["probe"], row["labels"]) == (space, "linear", "all")
            )
            by_subject = counts_by_subject(kept)
            subjects += by_subject
            counts += by_subject.values()
        table.append(
            {
                "model": name if space == "pretrained" else f"{name}, random weights",
                "whose": "ours",
                "data": data_of(about),
                **figures_of(subjects, np.array(counts)),
                "parameters": sum(p.numel() for p in encoder.parameters()),
                "seconds_per_pass": round(
                    median(row["seconds"] for rows in passes for row in rows), 3
                ),
                "passes": round(sum(map(len, passes)) / len(passes), 1) * (space == "pretrained"),
                "runs": len(runs),
                "subjects": len(set(subjects)),
                "epochs": int(np.sum(counts)),
                "source": "frozen encoder, linear probe, all labels",
            }
        )
    return table


def data_of(about: Mapping[str, Any]) -> str:
    """The data column: cohort, protocol, and how much Wake that protocol keeps."""
    wake = WAKE_KEPT.get(about["protocol"], "Wake as its reader keeps it")
    return f"{about['cohort']}, {about['protocol']}: {wake}"


def figures_of(subjects: Sequence[str], counts: np.ndarray) -> dict[str, Any]:
    """Figures of pooled confusion matrices (n, 5, 5), with their intervals by subject."""
    intervals = over_subjects(counts, subjects, {name: metrics.SUMMARIES[name] for name in FIGURES})
    return {k: v for name, one in intervals.items() for k, v in columns(name, one.plain()).items()}


def check_cohort(runs: Sequence[Path], cohort: str) -> None:
    """Check that ``runs`` were evaluated on nights of ``cohort``.

    Raises:
        UserError: a run was evaluated on other nights, such as synthetic ones.
    """
    for run in runs:
        for name in ("metrics.json", "probes.json"):
            path = run / "evaluation" / name
            if path.exists() and (measured := read_json(path)["about"]["cohort"]) != cohort:
                raise UserError(f"{run}: measured on {measured}; it cannot stand in {cohort}'s row")


def rows_of(run: Path) -> list[dict[str, Any]]:
    """Rows of a run's ``metrics.jsonl``, one per pass of training."""
    return [parsed(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def seconds_per_night(net: torch.nn.Module, view: View) -> float:
    """Median of three stagings of the view's first night."""
    _, signals, _ = next(view.whole_nights())
    taken = []
    for _ in range(_REPEATS):
        started = perf_counter()
        # .cpu() waits until a GPU has finished
        stage_signals(net, signals).cpu()
        taken.append(perf_counter() - started)
    return median(taken)


def published_rows(path: Path, cohort: str, wanted: Iterable[str]) -> list[dict[str, Any]]:
    """Published figures of a real cohort, as fractions; none for a synthetic one.

    ``wanted`` are the beginnings of published models' names, in any case.
    """
    if cohort not in PUBLISHED_AS:
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["dataset"] == PUBLISHED_AS[cohort]]
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: cannot read the published results ({error})") from error
    # by beginnings: published names may have endings, such as Sequence CMT-15
    starts = tuple(name.lower() for name in wanted)
    return [
        {
            "model": row["model"],
            "whose": "published" if row["verified"] == "yes" else "published, second hand",
            "data": f"{row['dataset']}, {row['protocol']}",
            "accuracy": _share(row["acc"], 100),  # published in %, but for kappa
            "macro_f1": _share(row["mf1"], 100),
            "kappa": _share(row["kappa"], 1),
            "parameters": int(float(row["params"])) if row["params"] else None,
            "source": row["source"],
        }
        for row in rows
        if row["model"].lower().startswith(starts)
    ]


def _share(text: str, whole: float) -> float | None:
    return round(float(text) / whole, 6) if text else None


def files_of(folder: Path, name: str) -> list[Path]:
    """Paths of the files that :func:`write` makes."""
    return [folder / f"{name}{suffix}" for suffix in (".csv", ".json", ".md", ".tex")]


def write(
    folder: Path, name: str, rows: Sequence[Mapping[str, Any]], conditions: str, *, overwrite: bool
) -> None:
    """Write a table as csv, json, Markdown and LaTeX, best kappa first, with its conditions."""
    # rows without kappa come last: it is never below -1
    rows = sorted(rows, key=lambda row: -(row["kappa"] if row["kappa"] is not None else -2))
    keys = list(dict.fromkeys(key for row in rows for key in row))
    table, raw, *texts = files_of(folder, name)
    write_table(table, [{k: row.get(k) for k in keys} for row in rows], overwrite=overwrite)
    write_json(raw, {"conditions": conditions, "rows": list(rows)}, overwrite=overwrite)
    cells = [[cell(row, key) for key in _SHOWN] for row in rows]
    for path, text in zip(
        texts,
        (
            markdown(cells) + f"\n{conditions}\n",
            latex(cells) + f"% {conditions}\n",
        ),
        strict=True,
    ):
        write_text(path, text, overwrite=overwrite)


def cell(row: Mapping[str, Any], key: str) -> str:
    """Text of a cell: a figure with its interval, a grouped count, or a dash for no value."""
    value = row.get(key)
    if value is None:
        return "–"
    if key in FIGURES:
        return with_interval(of_columns(key, row))
    if key == "parameters":
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """The table as Markdown, one row per model."""
    rows = [list(_SHOWN.values()), ["---"] * len(_SHOWN), *cells]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def latex(cells: Sequence[Sequence[str]]) -> str:
    """The table as LaTeX for the package ``booktabs``, one row per model."""

    # "--" is LaTeX's dash, % and _ have a meaning of their own there
    def line(row: Sequence[str]) -> str:
        escaped = (text.replace("%", r"\%").replace("_", r"\_").replace("–", "--") for text in row)
        return " & ".join(escaped) + r" \\" + "\n"

    head = r"\begin{tabular}{ll" + "r" * (len(_SHOWN) - 3) + "l}\n\\toprule\n"
    body = line(list(_SHOWN.values())) + "\\midrule\n" + "".join(map(line, cells))
    return head + body + "\\bottomrule\n\\end{tabular}\n"
