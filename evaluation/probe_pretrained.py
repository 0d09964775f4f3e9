"""Benchmark of a pretrained encoder: the same probes and labels for it and for its controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from datasets.store.splits import fingerprint
from datasets.store.store import Store
from datasets.store.views import View
from evaluation import embed, encoder_controls
from evaluation.encoder_controls import Control, SingleEpochs, budget, supervised
from probing import embeddings, probes
from probing.probes import Labelled, Probed
from probing.row_files import scaled_by_night
from training.fine_tuning import EpochsOf, Tuning, context_probe, tune
from utils import metrics
from utils.checkpoint import Checkpoint, is_of_stamp
from utils.errors import UserError
from utils.files import check_file, read_json, write_json, write_table
from utils.intervals import Figure, columns, of_columns, over_subjects, with_interval
from utils.metrics import plain
from utils.stages import STAGES

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "kappa")
SUPERVISED, PUBLISHED = "supervised encoder", "published: "  # spaces of controls
_TABLES = ("probes", "cleaning", "transfer", "differences")
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
    published: list[str]


def evaluate(
    run: Path,
    checkpoint: Checkpoint,
    store: Store,
    flags: ProbeFlags,
    device: torch.device,
    published: Mapping[str, Checkpoint],
) -> list[dict[str, Any]]:
    """Embed the nights, probe and tune; returns the rows of ``evaluation/probes.csv``.

    ``published``: encoders of others to compare with, by name.

    Raises:
        UserError: as :func:`scored_views`, or a file to be written is somebody else's.
    """
    views = scored_views(run, checkpoint, store, device)
    net = embed.encoder_of(checkpoint)
    check_writable(run)
    clip = checkpoint.standardise != "none"  # the limit is in standard deviations
    epochs = encoder_controls.unlabelled(views["train"], embed.CLIP if clip else None)
    untrained = partial(encoder_controls.untrained, checkpoint, net.encoder, epochs=epochs)
    encoders = embed.Encoders(
        net,
        partial(embed.embed, net, clip=clip),
        lambda seed: partial(embed.embed, untrained(seed=seed), clip=clip),
        partial(embed.embed_views, net, clip=clip),
    )
    others: dict[str, Control] = {
        f"{PUBLISHED}{name}": encoder_controls.published(one, checkpoint, store, device)
        for name, one in published.items()
    }
    labels = {s: tuning_data(view, checkpoint) for s, view in views.items()}
    if flags.tuned:
        steps, seed = budget(run, checkpoint, views["train"]), flags.seeds[0]
        trained = supervised(untrained(seed=seed), labels, steps, seed)
        others[SUPERVISED] = lambda split, path: embed.embed(trained, views[split], path, clip=clip)
    with embed.embedded_spaces(run, checkpoint, views, encoders, flags.seeds, others) as spaces:
        rows = list(frozen_rows(spaces, flags, views))
        if flags.tuned:
            rows += tuned_rows(net.encoder, untrained, labels, flags)
        if flags.context:
            rows += context_rows(spaces, views, flags.seeds)
    write_probes(run, checkpoint, rows, published)
    return rows


def scored_views(
    run: Path, checkpoint: Checkpoint, store: Store, device: torch.device
) -> dict[str, View]:
    """The nights of a run's splits, each of which somebody has scored.

    Raises:
        UserError: another store than the one pretrained on, or a split without a single label.
    """
    if fingerprint(store) != checkpoint.training.facts["store"]:
        raise UserError(
            f"{run}: pretrained on another store than {store.path}; its subjects are known "
            "there only, so name that --data_path"
        )
    views = embed.split_views(checkpoint, store, device)
    if bare := [s for s, view in views.items() if not view.class_counts().any()]:
        raise UserError(
            f"{run}: nobody scored the epochs of its {', '.join(bare)} subjects, so nothing can "
            "be probed; choose another fold"
        )
    return views


def check_draws(seeds: Sequence[int], fractions: Sequence[float]) -> None:
    """Refuse seeds and shares of labels by which nothing can be drawn.

    Raises:
        UserError: no seed, or a share of labels that is not above 0 and up to 1.
    """
    if not seeds:
        raise UserError("--seeds takes at least one number")
    if not fractions or not all(0 < share <= 1 for share in fractions):
        raise UserError("--fractions takes shares above 0 and up to 1, such as 0.01 0.1 1")


def write_probes(
    run: Path,
    checkpoint: Checkpoint,
    rows: list[dict[str, Any]],
    published: Mapping[str, Checkpoint] | None = None,
) -> None:
    """``evaluation/probes.csv`` and ``.json``; counts by subject in the json alone."""
    for row in rows:
        row["run"] = run.name
    table = [{key: value for key, value in row.items() if key != "per_subject"} for row in rows]
    write_table(run / "evaluation" / "probes.csv", table)
    about = about_training(checkpoint)
    about["published"] = {name: dict(one.source) for name, one in (published or {}).items()}
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
    evaluated = [f"evaluation/{what}.{end}" for what in _TABLES for end in ("csv", "json")]
    for name in (*(f"embeddings/{name}" for name in names), *evaluated):
        check_file(run / name)


def frozen_rows(
    spaces: Mapping[str, list[Splits]], flags: LabelFlags, views: Mapping[str, View]
) -> Iterator[dict[str, Any]]:
    """Probe every space with all labels and with few, the same draws for all: rows of the table.

    An encoder that was trained with all labels is not probed with few.
    """
    first = spaces["pretrained"][0]

    def nearest(train: Labelled, _: Labelled, test: Labelled) -> Probed:
        return probes.nearest_neighbours(train, test)  # nothing is chosen

    yield row_of(
        "majority", "–", "all", 1.0, first, [probes.majority(first["train"], first["held_out"])]
    )
    for name, kinds in spaces.items():
        of_nights = [by_night(one, views) for one in kinds]
        linear = probes.linear_probe
        for probe, learn, some in (
            ("linear", linear, kinds),
            ("linear, balanced", partial(linear, balanced=True), kinds),
            ("linear, by night", linear, of_nights),
            ("kNN", nearest, kinds),
        ):
            probed = [learn(s["train"], s["validation"], s["held_out"]) for s in some]
            yield row_of(name, probe, "all", 1.0, first, probed)
        if name == SUPERVISED:
            continue
        for by, share in few(flags.fractions, first["train"]):
            rows = [drawn(first["train"], by, share, seed) for seed in flags.seeds]
            for probe, some in (("linear", kinds), ("linear, by night", of_nights)):
                probed = [  # a space of one network has it probed by every draw
                    linear(s["train"].some(r), s["validation"], s["held_out"])
                    for r, s in zip(rows, cycle(some), strict=False)
                ]
                yield row_of(name, probe, by, share, first, probed)


def by_night(splits: Splits, views: Mapping[str, View]) -> Splits:
    """The same space, every night centred and scaled by its own epochs."""
    return {
        split: replace(labelled, z=scaled_by_night(labelled.z, views[split].offsets))
        for split, labelled in splits.items()
    }


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
    encoder: nn.Module,
    untrained: Callable[..., SingleEpochs],
    splits: Mapping[str, Tuning],
    flags: ProbeFlags,
) -> Iterator[dict[str, Any]]:
    """Train the network with labels, from pretrained and from random weights: rows of the table."""
    labels = {s: data.labelled for s, data in splits.items()}
    for by, share in [*few(flags.fractions, labels["train"]), ("all", 1.0)]:
        for name in ("supervised", "fine-tuned"):
            tuned = []
            for seed in flags.seeds:
                start = encoder if name == "fine-tuned" else untrained(seed=seed).encoder
                rows = None if by == "all" else drawn(labels["train"], by, share, seed)
                tuned.append(tune(start, splits, rows, flags.tuning_steps, seed))
            yield row_of(name, "end to end", by, share, labels, tuned)


def tuning_data(view: View, checkpoint: Checkpoint) -> Tuning:
    """All epochs of a split with their stages and subjects; signals are read batch by batch."""
    clip = embed.CLIP if checkpoint.standardise != "none" else None
    subjects = np.repeat([night.subject for night in view.nights], view.lengths)
    stages = torch.from_numpy(view.stages.astype(np.int64))
    return Tuning(EpochsOf(view, clip), stages, subjects)


def context_rows(
    spaces: Mapping[str, list[Splits]], views: Mapping[str, View], seeds: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Probe whole nights of every space by the same recurrent network: rows of the table."""
    offsets = {split: view.offsets for split, view in views.items()}
    for name, kinds in spaces.items():
        probed = [
            context_probe(splits, offsets, seed)
            for splits, seed in zip(cycle(kinds), seeds, strict=False)
        ]
        yield row_of(name, "temporal context", "all", 1.0, kinds[0], probed)


def row_of(
    name: str, probe: str, by: str, share: float, splits: Splits, probed: list[Probed]
) -> dict[str, Any]:
    """A row of the table: figures pooled over test epochs, means over seeds, intervals by subject.

    ``per_subject``: confusion counts of every held-out subject, seeds together.
    """
    test = splits["held_out"]
    names, of = np.unique(test.subjects, return_inverse=True)
    # (seeds, subjects, 5, 5)
    counts = np.stack([metrics.confusions(test.stages, p.stages, of, len(names)) for p in probed])
    row: dict[str, Any] = {"space": name, "probe": probe, "labels": by, "share": share}
    summed = counts.sum(axis=0)
    row["per_subject"] = {str(who): summed[k].tolist() for k, who in enumerate(names)}
    means = {figure: _over_seeds(metrics.SUMMARIES[figure]) for figure in FIGURES}
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
    width = 1 + max(len(row["space"]) for row in rows)
    for row in rows:
        labels = (
            "all labels" if row["labels"] == "all" else f"{row['share']:.0%} by {row['labels']}"
        )
        shown = with_interval(of_columns("macro_f1", row))
        print(f"  {row['space']:<{width}}{row['probe']:<18}{labels:<16}  {shown}")
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
