"""Benchmark of a pretrained encoder: the same probes and labels for it and for its controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from datasets.store.splits import fingerprint
from datasets.store.store import Store
from datasets.store.views import View
from evaluation import embed
from probing import embeddings, probes
from probing.probes import Labelled, Probed
from training.fine_tuning import EpochsOf, Tuning, context_probe, tune
from utils import metrics
from utils.checkpoint import Checkpoint, is_of_stamp
from utils.errors import UserError
from utils.files import check_file, read_json, write_json, write_table
from utils.intervals import Figure, columns, of_columns, over_subjects, with_interval
from utils.metrics import plain
from utils.stages import STAGES

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "kappa")
Splits = dict[str, Labelled]


@dataclass(frozen=True)
class LabelFlags:
    """Shares of the labels that probes learn from, and seeds of draws and random encoders."""

    fractions: list[float]
    seeds: list[int]


@dataclass(frozen=True)
class ProbeFlags(LabelFlags):
    """Which networks are trained beside the linear probes, and for how many steps."""

    tuned: bool
    tuning_steps: int
    context: bool


def evaluate(
    run: Path, checkpoint: Checkpoint, store: Store, flags: ProbeFlags, device: torch.device
) -> list[dict[str, Any]]:
    """Embed the nights, probe and tune; returns the rows of ``evaluation/probes.csv``.

    Raises:
        UserError: another store than the one pretrained on, or a split without a single label.
    """
    if fingerprint(store) != checkpoint.training.facts["store"]:
        raise UserError(
            f"{run}: pretrained on another store than {store.path}; its subjects are known "
            "there only, so name that --data_path"
        )
    views = embed.split_views(checkpoint, store, device)
    net = embed.encoder_of(checkpoint)
    check_writable(run)
    if bare := [s for s, view in views.items() if not view.class_counts().any()]:
        raise UserError(
            f"{run}: nobody scored the epochs of its {', '.join(bare)} subjects, so nothing can "
            "be probed; choose another fold"
        )
    clip = checkpoint.standardise != "none"  # the limit is in standard deviations
    encoders = embed.Encoders(
        net,
        partial(embed.embed, net, clip=clip),
        lambda seed: partial(embed.embed, embed.untrained(checkpoint, seed), clip=clip),
        partial(embed.embed_views, net, clip=clip),
    )
    with embed.embedded_spaces(run, checkpoint, views, encoders, flags.seeds) as spaces:
        rows = list(frozen_rows(spaces, flags))
        if flags.tuned:
            rows += tuned_rows(net, checkpoint, views, flags)
        if flags.context:
            rows.append(context_row(spaces["pretrained"][0], views, flags.seeds))
    write_probes(run, checkpoint, rows)
    return rows


def check_draws(seeds: Sequence[int], fractions: Sequence[float]) -> None:
    """Refuse seeds and shares of labels by which nothing can be drawn.

    Raises:
        UserError: no seed, or a share of labels that is not above 0 and up to 1.
    """
    if not seeds:
        raise UserError("--seeds takes at least one number")
    if not fractions or not all(0 < share <= 1 for share in fractions):
        raise UserError("--fractions takes shares above 0 and up to 1, such as 0.01 0.1 1")


def write_probes(run: Path, checkpoint: Checkpoint, rows: list[dict[str, Any]]) -> None:
    """``evaluation/probes.csv`` and ``.json``; counts by subject in the json alone."""
    for row in rows:
        row["run"] = run.name
    table = [{key: value for key, value in row.items() if key != "per_subject"} for row in rows]
    write_table(run / "evaluation" / "probes.csv", table)
    about = about_training(checkpoint)
    write_json(run / "evaluation" / "probes.json", {"about": about, "rows": rows})


def about_training(checkpoint: Checkpoint) -> dict[str, Any]:
    """What heads a table of probes: facts of the training, and the stamp of its weights."""
    facts = checkpoint.training.facts
    about = {key: facts[key] for key in ("command", "cohort", "protocol", "held_out_folds")}
    return about | checkpoint.stamp()


def check_writable(run: Path) -> None:
    """Refuse, before anything is computed, to replace files that this program did not write.

    Raises:
        UserError: naming one.
    """
    names = [f"{s}.{end}" for s in embeddings.SPLITS for end in ("npy", "npz", "csv")]
    names += ["controls.npz", *(f"{name}.npy" for name in embeddings.CONTROLS)]
    evaluated = [
        f"evaluation/{what}.{end}" for what in ("probes", "cleaning") for end in ("csv", "json")
    ]
    for name in (*(f"embeddings/{name}" for name in names), *evaluated):
        check_file(run / name)


def frozen_rows(spaces: Mapping[str, list[Splits]], flags: LabelFlags) -> Iterator[dict[str, Any]]:
    """Probe every space with all labels and with few, the same draws for all: rows of the table."""
    first = spaces["pretrained"][0]
    yield row_of(
        "majority", "–", "all", 1.0, first, [probes.majority(first["train"], first["held_out"])]
    )
    for name, kinds in spaces.items():
        for balanced in (False, True):
            probed = [
                probes.linear_probe(s["train"], s["validation"], s["held_out"], balanced=balanced)
                for s in kinds
            ]
            probe = "linear, balanced" if balanced else "linear"
            yield row_of(name, probe, "all", 1.0, first, probed)
        probed = [probes.nearest_neighbours(s["train"], s["held_out"]) for s in kinds]
        yield row_of(name, "kNN", "all", 1.0, first, probed)
        for by, share in few(flags.fractions, first["train"]):
            probed = [  # a space of one network has it probed by every draw
                probes.linear_probe(
                    kinds[k % len(kinds)]["train"].some(drawn(first["train"], by, share, seed)),
                    kinds[k % len(kinds)]["validation"],
                    kinds[k % len(kinds)]["held_out"],
                )
                for k, seed in enumerate(flags.seeds)
            ]
            yield row_of(name, "linear", by, share, first, probed)


def few(fractions: Sequence[float], train: Labelled) -> list[tuple[str, float]]:
    """Ways to have fewer labels, as (by, share); shares that give the same subjects are one."""
    total = len(set(train.subjects.tolist()))
    by_subject = {max(1, round(share * total)): share for share in reversed(fractions)}
    shares = {"epoch": fractions, "subject": sorted(by_subject.values())}
    return [(by, share) for by, some in shares.items() for share in some if share < 1]


def drawn(train: Labelled, by: str, share: float, seed: int) -> np.ndarray:
    """Rows of the training epochs that keep their label."""
    if by == "epoch":
        return probes.draw_epochs(train, share, seed)
    subjects = probes.draw_subjects(train.subjects.tolist(), share, seed)
    return np.flatnonzero(np.isin(train.subjects, subjects))


def tuned_rows(
    net: nn.Module,
    checkpoint: Checkpoint,
    views: Mapping[str, View],
    flags: ProbeFlags,
) -> Iterator[dict[str, Any]]:
    """Train the network with labels, from pretrained and from random weights: rows of the table."""
    splits = {s: tuning_data(view, checkpoint) for s, view in views.items()}
    labels = {s: data.labelled for s, data in splits.items()}
    for by, share in [*few(flags.fractions, labels["train"]), ("all", 1.0)]:
        for name in ("fine-tuned", "supervised"):
            tuned = []
            for seed in flags.seeds:
                start = net if name == "fine-tuned" else embed.untrained(checkpoint, seed)
                rows = None if by == "all" else drawn(labels["train"], by, share, seed)
                tuned.append(tune(start.encoder, splits, rows, flags.tuning_steps, seed))
            yield row_of(name, "end to end", by, share, labels, tuned)


def tuning_data(view: View, checkpoint: Checkpoint) -> Tuning:
    """All epochs of a split with their stages and subjects; signals are read batch by batch."""
    clip = embed.CLIP if checkpoint.standardise != "none" else None
    subjects = np.repeat([night.subject for night in view.nights], view.lengths)
    stages = torch.from_numpy(view.stages.astype(np.int64))
    return Tuning(EpochsOf(view, clip), stages, subjects)


def context_row(splits: Splits, views: Mapping[str, View], seeds: Sequence[int]) -> dict[str, Any]:
    """Probe whole nights of frozen embeddings by a recurrent network: a row of the table."""
    offsets = {split: view.offsets for split, view in views.items()}
    probed = [context_probe(splits, offsets, seed) for seed in seeds]
    return row_of("pretrained", "temporal context", "all", 1.0, splits, probed)


def row_of(
    name: str, probe: str, by: str, share: float, splits: Splits, probed: list[Probed]
) -> dict[str, Any]:
    """A row of the table: figures pooled over test epochs, means over seeds, intervals by subject.

    ``per_subject``: confusion counts of every held-out subject, seeds together.
    """
    test = splits["held_out"]
    names = np.unique(test.subjects)
    counts = np.stack(
        [
            np.stack(
                [
                    metrics.confusion(
                        test.stages[test.subjects == who], one.stages[test.subjects == who]
                    )
                    for who in names
                ]
            )
            for one in probed
        ]
    )  # (seeds, subjects, 5, 5)
    row: dict[str, Any] = {"space": name, "probe": probe, "labels": by, "share": share}
    summed = counts.sum(axis=0)
    row["per_subject"] = {str(who): summed[k].tolist() for k, who in enumerate(names)}
    means = {figure: _over_seeds(metrics.SUMMARIES[figure]) for figure in FIGURES}
    # a subject comes with all its seeds: (subjects, seeds, 5, 5)
    intervals = over_subjects(counts.swapaxes(0, 1), names.tolist(), means)
    for figure in FIGURES:
        each = metrics.SUMMARIES[figure](counts.sum(axis=1))
        row |= columns(figure, intervals[figure].plain())
        row[f"{figure}_sd"] = plain(each.std()) if len(each) > 1 else None
    bits = [probes.information_bound(one.probabilities, test.stages) for one in probed]
    row["information_bits"] = plain(np.mean(bits))
    per_stage = metrics.f1(counts.sum(axis=(0, 1)))
    row |= {f"f1_{stage}": plain(v) for stage, v in zip(STAGES, per_stage, strict=True)}
    row |= {
        "seeds": len(probed),
        "subjects": len(names),
        "chosen": "; ".join(dict.fromkeys(one.chosen for one in probed)),
    }
    return row


def _over_seeds(figure: Figure) -> Figure:
    """The mean of a figure over seeds, of counts (…, seeds, k, k)."""
    return lambda counts: figure(counts).mean(axis=-1)


def counts_by_subject(row: Mapping[str, Any]) -> dict[str, list[list[int]]]:
    """Confusion counts of every held-out subject in a row of ``probes.json``, old files too."""
    # ``people``: files written before the key was renamed
    return row["per_subject"] if "per_subject" in row else row["people"]


def report(run: Path, rows: list[dict[str, Any]]) -> None:
    """Print macro-F1 of every row, and where the files are."""
    print(f"{run.name}: macro-F1 of held-out subjects, 95 % over subjects")
    for row in rows:
        labels = (
            "all labels" if row["labels"] == "all" else f"{row['share']:.0%} by {row['labels']}"
        )
        shown = with_interval(of_columns("macro_f1", row))
        print(f"  {row['space']:<16}{row['probe']:<18}{labels:<16}  {shown}")
    print(f"written: {run / 'evaluation' / 'probes.csv'}   embeddings: {run / 'embeddings'}")


def summarise(project: Path) -> Path:
    """Write ``ssl_benchmark.csv``: mean and deviation per configuration over folds and seeds."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for path in sorted(project.glob("ssl_*/evaluation/probes.json")):
        run, probed = path.parents[1], read_json(path)
        what = run.name.partition("_fold")[0]
        if not is_of_stamp(probed["about"], run):
            print(f"left out: {run.name}, trained again or probed by an earlier version")
            continue
        for row in probed["rows"]:
            key = (what, row["space"], row["probe"], row["labels"], row["share"])
            groups.setdefault(key, []).append(row)
    rows = []
    for key, group in groups.items():
        row = dict(zip(("configuration", "space", "probe", "labels", "share"), key, strict=True))
        for figure in FIGURES:
            values = np.array([np.nan if one[figure] is None else one[figure] for one in group])
            row |= {figure: plain(values.mean()), f"{figure}_sd": plain(values.std())}
        rows.append(row | {"runs": len(group)})
    return write_table(project / "ssl_benchmark.csv", rows)
