"""Which concepts of the scoring manual a model uses: tables and a figure of a run's nights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interpret.concept_directions import RANDOM
from interpret.concept_figures import draw_concepts
from interpret.concept_table import OUTPUT, TRAINED, ConceptNights, table_of
from interpret.concepts import KINDS, PAIRS, amounts_of, pairs_of
from interpret.evidence import read_events
from interpret.explained_night import ExplainedNight
from interpret.explained_run import truth_file
from interpret.explanation_flags import ExplanationFlags
from interpret.random_weights import with_random_weights
from utils import figures
from utils.files import write_json, write_table, written_folder

CONCEPTS = "concepts"  # what their folder is called where it may be replaced
_LISTS = ("by_subject",)  # columns of the json alone
# columns of the small table of use against rule
_RULES = (
    "layer", "concept", "rule", "stage", "verdict", "tcav", "alignment", "q", "probe_accuracy",
    "added_sd", "pairs", "amplitude_gap_db", "pairs_learned", "subjects_learned", "pairs_tested",
    "subjects_tested", "epochs",
)  # fmt: skip
# a night, and signals (n, m, t) of the same one without the events of some kinds
NightAndWithout = tuple[ExplainedNight, Iterable[tuple[str, Tensor]]]


def write_concepts(
    folder: Path,
    flags: ExplanationFlags,
    model: torch.nn.Module,
    nights: tuple[Iterable[NightAndWithout], Iterable[NightAndWithout]],
    about: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Learn directions of concepts on the first ``nights`` and test them on the second.

    Writes ``concepts.csv``, ``concepts.json``, ``concepts.png`` and, of the trained model's use of
    each concept in the stage of its rule, ``rules.csv``; copies with random weights are measured
    beside the model. Returns the rows.
    """
    with written_folder(folder, CONCEPTS) as temporary:
        learning, testing = (iter(part) for part in nights)
        first = next(learning)
        models = {TRAINED: model} | dict(_untrained(model, first[0], flags))
        fitted = _read(chain([first], learning), models, flags)
        tested = _read(testing, models, flags)
        rows, absent = table_of(fitted, tested, seed=flags.interpret_seed)
        about = {
            **about,
            "output": OUTPUT,
            "random_concepts": RANDOM,
            "subjects_learned": sorted(fitted.subjects),
            "subjects_tested": sorted(tested.subjects),
        }
        write_json(temporary / "concepts.json", {"about": about, "rows": rows, "left_out": absent})
        if rows:
            flat = [{k: v for k, v in row.items() if k not in _LISTS} for row in rows]
            write_table(temporary / "concepts.csv", flat)
            rules = [{k: row[k] for k in _RULES} for row in ruled(rows)]
            write_table(temporary / "rules.csv", rules)
            picture = draw_concepts(rows, TRAINED, title=str(about["headline"]))
            figures.save(picture, temporary / "concepts.png")
    print_rules(rows, absent)
    print(f"concepts: {folder}")
    return rows


def _untrained(
    model: torch.nn.Module, night: ExplainedNight, flags: ExplanationFlags
) -> Iterator[tuple[str, torch.nn.Module]]:
    """Copies with random weights, their batch norms calibrated on a night of training subjects."""
    for number in range(flags.n_untrained):
        seed = flags.interpret_seed + number
        copy = with_random_weights(model, seed, training=night.signals)
        yield f"random weights {number + 1}", copy


def _read(
    nights: Iterable[NightAndWithout],
    models: Mapping[str, torch.nn.Module],
    flags: ExplanationFlags,
) -> ConceptNights:
    read = ConceptNights()
    for night, without in nights:
        events = night.events
        if night.evidence == "planted":  # with the kinds that are no evidence of maps
            events = read_events(truth_file(flags.truth_path, night.staged.recording), KINDS)
        amounts = amounts_of(night, events, night.evidence)
        pairs = pairs_of(night, amounts, without, seed=flags.interpret_seed)
        read.add(night, amounts, pairs, models, flags.interpret_seed)
    return read


def ruled(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of the trained model in the stages that the manual has a rule for."""
    return [row for row in rows if row["model"] == TRAINED and row["rule"]]


def print_rules(rows: Sequence[Mapping[str, Any]], absent: Sequence[Mapping[str, str]]) -> None:
    """Print every concept in the stage of its rule, as the trained model uses it."""
    print("concept, layer and stage of its rule: TCAV, alignment, q; accuracy on other subjects")
    for row in ruled(rows):
        name = f"{row['concept']} {row['rule']} {row['stage']}"
        # what a direction may be about as well
        unequal = row["pairs"] == PAIRS[0]
        gap = f", {row['amplitude_gap_db']:+.1f} dB in amplitude" if unequal else ""
        print(
            f"  {row['layer']:<9}{name:<26}{row['tcav']:>6.2f}{row['alignment']:>8.2f}"
            f"  q {row['q']:.3f}  {row['probe_accuracy']:.2f}  {row['verdict']}; "
            f"{row['pairs']}{gap}"
        )
    for row in absent:
        if row["model"] == TRAINED:
            print(f"  {row['layer']:<9}{row['concept']}: left out, {row['why']}")
