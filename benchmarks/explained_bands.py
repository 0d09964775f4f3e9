"""Orders of five bands by the reasons of the default's parts, beside orders that know no model.

python -m benchmarks.explanations            # makes the nights, among others
python -m benchmarks.explained_bands         # resumes night by night where it was interrupted

What is read, and how, was fixed beforehand: results/explanations_rule.md, last section. Held-out
nights are staged with every subset of bands exchanged, 31 times each, so that the deletion curve of
any order is exact. Writes results/explained_bands.csv and a section of results/explanations.md.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import band_orders
from benchmarks.explanations import BANDS_SECTION, read_rows, table, without_bands_section
from datasets.readers.any_file import AnyFile, opened
from datasets.readers.profiles import cohort_nights, profile
from datasets.store import folds
from evaluation.staged_file import StagedFile
from evaluation.stagers import bundled
from evaluation.stagers.stager import Asked, Stager
from interpret.explain_nights import arrays_of
from interpret.explanation import INCOMPLETE
from interpret.integrated_gradients import TOLERANCE
from interpret.question import Plan, Question
from interpret.random_weights import with_random_weights
from interpret.registry import method_named
from interpret.scoreboard import Score, compare, summarise
from interpret.target import EpochTarget
from utils.arguments import ScriptParser, count, positive, settings_from
from utils.errors import UserError, run_script
from utils.files import check_file, read_json, sha256, write_json, write_table, write_text
from utils.locks import locked
from utils.stages import EPOCH_SECONDS, STAGES
from utils.version import VERSION

SPECTRA, BANDS, TREES = "default-spectra", "default-bands", "default-yasa"
PARTS = {SPECTRA: ("specgrad", "ig"), BANDS: ("bands",), TREES: ("treeshap",)}
APART = 20  # epochs between two that are edited: what is read around one does not reach another
_AT_ONCE = 12  # epochs explained together, which bounds the memory
Scores = dict[str, np.ndarray]  # by method, (b, 5)


@dataclass(frozen=True)
class BandFlags:
    """Nights, how much of them, and where the results go."""

    nights: Path
    output: Path
    table: Path
    per_stage: int
    untrained: int
    seed: int


@dataclass(frozen=True)
class EditedFile:
    """A ``file`` with other ``samples`` in the channel ``label``; all else is the file's own."""

    file: AnyFile
    label: str
    samples: np.ndarray

    def read(self, label: str, start: float, stop: float) -> np.ndarray:
        """Samples of one channel between two instants in seconds."""
        if label != self.label:
            return self.file.read(label, start, stop)
        fs = self.file.channel(label).fs
        return self.samples[round(start * fs) : round(stop * fs)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def parse_args(argv: list[str] | None) -> BandFlags:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser("Measure orders of bands by the reasons of the default's parts.")
    parser.add_argument(
        "--nights",
        type=Path,
        default=Path("data/explanations/raw"),
        help="simulated nights; the last of five folds is measured, as held out elsewhere",
    )
    parser.add_argument("--output", type=Path, default=Path("data/explained_bands"))
    parser.add_argument(
        "--table",
        type=Path,
        default=Path("results/explanations.md"),
        help="page whose section is written; explained_bands.csv lies beside it",
    )
    parser.add_argument("--per_stage", type=positive, default=5, help="epochs of each night")
    parser.add_argument("--untrained", type=count, default=3, help="copies with random weights")
    parser.add_argument("--seed", type=count, default=0)
    return settings_from(parser.parse(argv), BandFlags)


def main(argv: list[str] | None = None) -> None:
    """Measure the nights that are not measured yet, one after the other, and write the table."""
    flags = parse_args(argv)
    sources, kept = held_out(flags.nights), flags.table.with_name("explained_bands.csv")
    for path in (kept, flags.table):
        check_file(path)
    with locked(flags.output):
        stager = bundled.load(bundled.DEFAULT, torch.device("cpu"))
        nights = []
        for number, source in enumerate(sources, start=1):
            place = flags.output / f"{source.path.stem}.json"
            made_with = made_with_of(flags, source)
            if not place.exists() or read_json(place)["made_with"] != made_with:
                started = time.perf_counter()
                measured = {"made_with": made_with, "subject": source.subject}
                write_json(place, measured | measure(stager, source.path, flags))
                seconds = time.perf_counter() - started
                print(f"{number} of {len(sources)}: {source.path.stem}, {seconds:.0f} s")
            nights.append(read_json(place))
    rows = [row for part in PARTS for row in rows_of(part, nights)]
    write_table(kept, rows)
    before = without_bands_section(flags.table)
    write_text(flags.table, before + section(read_rows(kept), nights, flags))
    print(f"written: {kept}, {flags.table}")


def held_out(folder: Path) -> list[cohort_nights.Night]:
    """The first night of every subject of the last fold, as benchmarks.explanations holds out.

    Raises:
        UserError: there are no nights, or those of one subject alone.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no nights; python -m benchmarks.explanations makes them")
    every = cohort_nights.find(folder, profile.load("sleepedf"))
    sources = {source.subject: source for source in reversed(every)}
    parted = folds.for_few(sorted(sources))
    if parted is None:
        raise UserError(f"{folder}: nights of one subject, none of whom is held out; make more")
    return [sources[subject] for subject in parted.folds[-1].test]


def made_with_of(flags: BandFlags, source: cohort_nights.Night) -> dict[str, Any]:
    """What decides a night's results; another value of any makes them out of date."""
    return {
        "version": str(VERSION),
        "default": sha256(bundled.BUNDLE),
        "files": [sha256(file) for file in source.files],
        "per_stage": flags.per_stage,
        "untrained": flags.untrained,
        "seed": flags.seed,
    }


def measure(stager: Stager, path: Path, flags: BandFlags) -> dict[str, Any]:
    """One night: its chosen epochs, what each part makes of every subset of bands, all scores.

    Raises:
        UserError: a part cannot stage it, or no two stages are staged as the scorer did.
    """
    file = opened(path)
    night = stager.stage(file, Asked())
    if absent := set(PARTS) - {vote.name for vote in night.votes}:
        raise UserError(f"{path}: staged without {', '.join(sorted(absent))}: make longer nights")
    agreed = np.where(night.stages == night.expert, night.expert, -1)
    if len(np.unique(agreed[agreed >= 0])) < 2:
        raise UserError(f"{path}: fewer than two stages are staged as scored; make longer nights")
    rng = np.random.default_rng(flags.seed)
    epochs = band_orders.chosen_epochs(agreed, flags.per_stage, APART, rng)
    others = band_orders.of_other_stages(agreed, epochs, rng)
    classes = night.stages[epochs]
    (label,) = set(night.reads.values())
    fs = file.channel(label).fs
    signals = epochs_of(file, label, len(agreed))
    changes = band_orders.exchanges(signals, fs, *map(torch.from_numpy, (epochs, others)))
    probabilities = band_orders.without_bands(
        staging(stager, file, label), signals, torch.from_numpy(epochs), classes, changes
    )
    scores, errors = explained(night, epochs)
    controls = [untrained(night, epochs, flags.seed + k) for k in range(flags.untrained)]
    return {
        "epochs": epochs.tolist(),
        "stages": [STAGES[code] for code in classes],
        "others": others.tolist(),
        "probabilities": dict(zip(PARTS, probabilities.tolist(), strict=True)),
        "scores": plain(scores),
        "errors": errors,
        "untrained": [plain(one) for one in controls],
        "model_free": plain(band_orders.model_free(signals, fs, epochs, classes)),
    }


def epochs_of(file: AnyFile, label: str, n: int) -> torch.Tensor:
    """The samples of a channel as ``n`` epochs, (n, 1, t)."""
    samples = torch.from_numpy(np.array(file.read(label, 0, n * EPOCH_SECONDS), dtype=float))
    return samples.reshape(n, 1, -1)


def staging(stager: Stager, file: AnyFile, label: str) -> Callable[[torch.Tensor], np.ndarray]:
    """Probabilities (parts, n, 5) of the file with other signals (n, 1, t) in its channel."""

    def stage(signals: torch.Tensor) -> np.ndarray:
        edited = EditedFile(file, label, signals.flatten().numpy())
        night = stager.stage(edited, Asked(expert="none"))
        votes = {vote.name: vote.probabilities for vote in night.votes}
        return np.stack([votes[part] for part in PARTS])

    return stage


def explained(night: StagedFile, epochs: np.ndarray) -> tuple[Scores, dict[str, list[float]]]:
    """What every method adds to the default's stages by each band, through the parts' reasons.

    And the completeness error of every method at each epoch, (b,).
    """
    methods = [method for ones in PARTS.values() for method in ones]
    rows: dict[str, list[np.ndarray]] = {method: [] for method in methods}
    errors: dict[str, list[float]] = {method: [] for method in methods}
    with tempfile.TemporaryDirectory() as scratch:
        wanted = dict.fromkeys(epochs.tolist(), "")
        # those of signals; the parts that explain by features have their own
        for entry in night.write_reasons(Path(scratch), wanted, methods=PARTS[SPECTRA]):
            for method in methods:
                answer = entry["methods"][method]
                errors[method].append(answer["completeness_error"])
                with np.load(Path(scratch) / answer["file"]) as arrays:
                    rows[method].append(band_orders.contributions_of(method, arrays))
    return {method: np.stack(ones) for method, ones in rows.items()}, errors


def untrained(night: StagedFile, epochs: np.ndarray, seed: int) -> Scores:
    """The same of copies of the networks with random weights; trees have none."""
    reasons = dict(zip(night.explainer.names, night.explainer.parts, strict=True))
    classes = torch.from_numpy(night.stages[epochs].astype(np.int64))
    target = EpochTarget(with_random_weights(reasons[SPECTRA].net, seed), night.signals)
    target.at_once = _AT_ONCE
    plan = Plan(methods=PARTS[SPECTRA])
    question = Question(target, torch.from_numpy(epochs), classes, plan, quick=True)
    scores = {}
    for method in plan.methods:
        one = method_named(method).compute(question)
        arrays = [arrays_of(one, row) for row in range(len(epochs))]
        scores[method] = np.stack([band_orders.contributions_of(method, a) for a in arrays])
    nets = [with_random_weights(reasons[BANDS].nets[0], seed)]
    of_bands, _ = replace(reasons[BANDS], nets=nets).contributions(night.explained_night(), epochs)
    # the last one is what all other epochs add
    return scores | {"bands": of_bands.contributions[:, :-1]}


def plain(scores: Mapping[str, np.ndarray]) -> dict[str, list[list[float]]]:
    """Scores as JSON takes them."""
    return {name: np.asarray(values, float).tolist() for name, values in scores.items()}


def rows_of(part: str, nights: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of a part's methods, and of orders without a model, by stage; the best is beside each.

    What is compared is None in rows of orders without a model.
    """
    scores = [score for night in nights for score in scores_of(part, night)]
    beside = {(r["method"], r["stage"]): r for r in compare(scores, band_orders.MODEL_FREE)}
    rows = summarise(scores)
    means = {(row["method"], row["stage"]): row["mean"] for row in rows}
    for row in rows:
        other = beside.get((row["method"], row["stage"]), {})
        against = other.get("against")
        compared = {key: other.get(key) for key in ("difference", "low", "high", "ahead")}
        yield {
            "model": part,
            **{key: row[key] for key in ("method", "measure", "stage", "mean")},
            "mean_low": row["low"],
            "mean_high": row["high"],
            **{key: row[key] for key in ("interval", "subjects", "epochs")},
            "against": against,
            "mean_of_against": means.get((against, row["stage"])),
            **compared,
        }


def scores_of(part: str, night: Mapping[str, Any]) -> Iterator[Score]:
    """Every order's measure at each epoch of a night; of untrained copies the mean."""
    probabilities = np.array(night["probabilities"][part])
    orders = {name: [scores] for name, scores in night["model_free"].items()}
    for method in PARTS[part]:
        orders[method] = [night["scores"][method]]
        copies = [one[method] for one in night["untrained"] if method in one]
        orders |= {f"{method}, random weights": copies} if copies else {}
    for method, copies in orders.items():
        values = [band_orders.below_random(probabilities, np.array(one)) for one in copies]
        for stage, value in zip(night["stages"], np.mean(values, axis=0), strict=True):
            yield Score(method, band_orders.MEASURE, stage, night["subject"], float(value))


def section(
    rows: Sequence[Mapping[str, str]], nights: Sequence[Mapping[str, Any]], flags: BandFlags
) -> str:
    """The section of the page: orders without a model, then every method beside the best one."""
    n_epochs = sum(len(night["epochs"]) for night in nights)
    lines = [
        BANDS_SECTION,
        "",
        f"`python -m benchmarks.explained_bands`, by the last section of explanations_rule.md: "
        f"{len(nights)} held-out subjects, {n_epochs} epochs, up to {flags.per_stage} of every "
        f"stage of each. `{band_orders.MEASURE}`: mean area of all 120 orders of five bands under "
        "the probability, less that of the method's order; 0 is chance.",
        "",
        completeness(nights),
    ]
    for stage in ("all", *STAGES):
        own = [row for row in rows if row["stage"] == stage]
        if own:
            lines += ["", f"## {band_orders.MEASURE}, {stage}", "", *without_model(own), ""]
            lines += table([row for row in own if row["against"]])
    return "\n".join(lines) + "\n"


def completeness(nights: Sequence[Mapping[str, Any]]) -> str:
    """One line: for how many epochs every method's map misses up to 1 % and 5 % of the change."""
    shares = []
    for method in nights[0]["errors"]:
        errors = np.array([error for night in nights for error in night["errors"][method]])
        within = [f"{100 * (errors <= limit).mean():.0f}" for limit in (TOLERANCE, INCOMPLETE)]
        shares.append(f"`{method}` {' / '.join(within)} %")
    limits = f"{100 * TOLERANCE:g} % / {100 * INCOMPLETE:g} %"
    return f"Shares of the epochs whose map is complete to {limits}: {', '.join(shares)}."


def without_model(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Lines of a table of the orders that know no model, by part."""
    names = band_orders.MODEL_FREE
    means = {(row["model"], row["method"]): float(row["mean"]) for row in rows}
    lines = [f"| model | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for part in PARTS:
        cells = " | ".join(f"{means[part, name]:.3f}" for name in names)
        lines.append(f"| {part} | {cells} |")
    return lines


if __name__ == "__main__":
    raise SystemExit(run_script(main))
