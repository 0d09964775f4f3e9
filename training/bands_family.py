"""Training of ``night_bands`` on tables of band powers: sources, their splits, batches, checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import models
from datasets.band_batches import BandBatches, BandSource, balanced_batches
from datasets.band_tables import (
    BandNight,
    BandTable,
    read_table,
    split_of,
    table_of_store,
    with_stage_means,
    write_table,
)
from datasets.store.splits import Split, fingerprint
from datasets.store.store import Store
from objectives.band_staging import BandStaging
from training.fabric import start_fabric
from training.flags import RunFlags, ScheduleFlags, TrainingSettings
from training.foundation_family import optimiser
from training.loggers import open_logger
from training.loop import fit
from training.resume import Learner, Outputs
from training.run_report import report
from training.starting_weights import facts_of_start, starting_checkpoint
from training.train import TrainingSpec, build, plan_of, recorded
from training.validation import VALIDATED
from utils import metrics
from utils.errors import UserError
from utils.files import locked, refuse_inputs, sha256
from utils.locks import locked_alone
from utils.runs import Run, command
from utils.version import VERSION

MODEL = "night_bands"
# how recordings are prepared for the model: by a filter of the night, which leaves no trace in
# powers relative to that night
PREPARATION = {
    "cohort": "band powers",
    "protocol": "keep_all",
    "channels": ["EEG"],
    "bandpass": None,
    "fs": 100.0,
    "dtype": "float32",
    "preset": "equalised",
    "equalised_about": "midrange",
    "pad_epochs": 0,
}
_CHANNELS = [["EEG Fpz-Cz", "EEG"]]  # the label is preferred, any EEG will do


@dataclass(frozen=True)
class BandDataFlags:
    """Tables and stores, how their subjects are split, and where results go."""

    table: list[Path]
    data_path: list[Path]
    project_path: Path
    stage_means: Path | None
    n_test: int
    n_val: int
    split_seed: int | None


@dataclass(frozen=True)
class BandModelFlags:
    """Sizes of the network."""

    hidden: int
    layers: int
    dropout: float


@dataclass(frozen=True)
class BandObjectiveFlags:
    """Random changes of training nights, and smoothing of their labels."""

    augment: list[str]
    label_smoothing: float


@dataclass(frozen=True)
class BandSettings(TrainingSettings):
    """All settings of ``bands_training.py``."""

    data: BandDataFlags
    optimiser: ScheduleFlags
    model: BandModelFlags
    objective: BandObjectiveFlags


@dataclass(frozen=True)
class SplitTable:
    """A table, its subjects by what they are used for, and the checksums it is known by."""

    table: BandTable
    split: Split
    checksums: Sequence[str]

    def source(self, subjects: Sequence[str]) -> BandSource:
        """Nights of some of its subjects, for batches."""
        nights = tuple(self.table.of_subjects(subjects))
        return BandSource(nights, tuple(self.table.is_eog))


def split_seed(settings: BandSettings) -> int:
    """The seed that subjects are split by: the run's, unless one is given."""
    given = settings.data.split_seed
    return settings.run.seed if given is None else given


def open_sources(data: BandDataFlags, seed: int) -> list[SplitTable]:
    """Tables and stores of the flags, each split by subject with the same seed."""
    sources = []
    for path in data.table:
        sources.append(split_table(read_table(path), [sha256(path)], data, seed))
    for path in data.data_path:
        table = stored_table(path, data.project_path)
        sources.append(split_table(table, fingerprint(Store(path)), data, seed))
    if data.stage_means is None:
        return sources
    real = split_table(read_table(data.stage_means), [sha256(data.stage_means)], data, seed)
    return [with_means_of(real, source) for source in sources]


def split_table(
    table: BandTable, checksums: Sequence[str], data: BandDataFlags, seed: int
) -> SplitTable:
    """Split the subjects of a table."""
    split = Split(*split_of(table.subjects, data.n_test, data.n_val, seed))
    return SplitTable(table, split, checksums)


def with_means_of(real: SplitTable, source: SplitTable) -> SplitTable:
    """Simulated nights moved to the stage means of another table's training subjects."""
    if not source.table.cohort.startswith("synthetic-"):
        return source
    moved = with_stage_means(source.table, real.table, real.split.train)
    return SplitTable(moved, source.split, source.checksums)


def measured_at(fs: float) -> Callable[[Tensor], Tensor]:
    """The function that measures band powers of signals (n, c, t) of this rate."""
    try:
        return models.build(MODEL, fs=fs, n_samples=round(30 * fs)).decibels
    except ValueError as error:
        raise UserError(f"band powers: {error}; prepare the store with --resample 100") from error


def stored_table(path: Path, project: Path) -> BandTable:
    """Band powers of a store's nights, computed once and kept in the project's folder."""
    store = Store(path)
    name = f"{path.resolve().name}-{'-'.join(part[:8] for part in fingerprint(store))}-{VERSION}"
    target = project / "band_tables" / f"{name}.npz"
    with locked(target):  # a second training of the same store waits for the first
        if not target.exists():
            print(f"{path}: measuring the band powers of {len(store.recordings)} nights")
            write_table(target, table_of_store(store, measured_at, target))
            print(f"  written: {target}")
    # read back even when just computed: every run sees the same float16 values
    return read_table(target)


def facts_of(settings: BandSettings, sources: Sequence[SplitTable]) -> dict[str, Any]:
    """What a checkpoint holds of its training; one source within another, as of pretraining.

    Simulated and real subjects share ids without being the same, so each cohort has facts of its
    own. Subjects whose stage means were taken count as seen.
    """
    data, start = settings.data, facts_of_start(starting_checkpoint(settings.run))
    facts = start.pop("pretraining", None)
    seen = [(s.table.cohort, s.split, s.checksums) for s in sources]
    if data.stage_means is not None:
        table = read_table(data.stage_means)
        split = split_of(table.subjects, data.n_test, data.n_val, split_seed(settings))
        train, _, held_out = split
        checksums = [sha256(data.stage_means)]
        seen.append((table.cohort, Split(train, [], held_out), checksums))
    for cohort, split, checksums in reversed(seen):
        within = {"pretraining": facts} if facts else {}
        facts = of_one(settings, cohort, split, checksums) | within
    # resuming with any other source is refused
    store = [checksum for *_, checksums in seen for checksum in checksums]
    return facts | start | {"store": store}


def of_one(
    settings: BandSettings, cohort: str, split: Split, checksums: Sequence[str]
) -> dict[str, Any]:
    """Facts of the training on one cohort."""
    data = settings.data
    return {
        "command": command(),
        "cohort": cohort,
        "protocol": PREPARATION["protocol"],
        "preparation": PREPARATION,
        "store": list(checksums),
        "folds": None,
        "train_folds": [],
        "held_out_folds": [],
        "split": {"n_test": data.n_test, "n_val": data.n_val, "seed": split_seed(settings)},
        "subjects": {
            "train": split.train,
            "validation": split.validation,
            "held_out": split.held_out,
        },
        "select_on": "validation",
    }


def spec_of(settings: BandSettings, batches: Callable[[int], BandBatches]) -> TrainingSpec:
    """Model, objective and optimiser of the flags."""
    model, steps = settings.model, settings.optimiser
    per_pass = -(-len(batches(0)) // steps.accumulate)  # rounded up
    try:
        objective = BandStaging(
            settings.objective.augment, smoothing=settings.objective.label_smoothing
        )
    except ValueError as error:
        raise UserError(f"--augment: {error}") from error
    return TrainingSpec(
        model=MODEL,
        settings={
            "n_channels": 1,
            "fs": PREPARATION["fs"],
            "n_samples": round(30 * PREPARATION["fs"]),
            "hidden": model.hidden,
            "layers": model.layers,
            "dropout": model.dropout,
        },
        run=f"{MODEL}_seed{settings.run.seed}",
        objective=objective,
        batches=lambda view, number, rank, processes: batches(number),
        next="",
        per_step=True,  # the schedule is planned over optimiser steps
        optimiser=lambda steps_of, net: optimiser(
            max(1, settings.optimiser.n_epochs * per_pass), lambda net: None, steps_of, net
        ),
    )


def train_bands(settings: BandSettings, sources: Sequence[SplitTable]) -> Run:
    """Train on the sources in the run's folder, resuming what it holds; draw the curve."""
    fabric = start_fabric(settings.run)
    training = [source.source(source.split.train) for source in sources]
    seed, size = settings.run.seed, settings.optimiser.batch_size

    def batches(number: int) -> BandBatches:
        return balanced_batches(training, size, [seed, number], fabric.device)

    spec = spec_of(settings, batches)
    run = Run(settings.data.project_path / spec.run)
    refuse_inputs([run.path / "checkpoints"], [settings.run.model_path])
    with locked_alone(run.path, "training"):
        net = build(settings.run, spec)
        outputs = begin(settings, spec, run, facts_of(settings, sources))
        announce(sources, net, run, split_seed(settings))
        optimizer, schedule = spec.optimiser(settings.optimiser, net)
        model, optimizer = fabric.setup(net, optimizer)
        learner = Learner(net, model, optimizer, schedule, spec.objective)
        selecting = [source.table.of_subjects(source.split.validation) for source in sources]

        def validate() -> dict[str, float]:
            return figures_of(net, [night for nights in selecting for night in nights])

        position = fit(fabric, learner, batches, validate, plan_of(settings, spec), outputs)
        report(settings.data, run, position.best_pass, spec.selections["best"], spec.next)
    return run


def begin(settings: BandSettings, spec: TrainingSpec, run: Run, facts: dict[str, Any]) -> Outputs:
    """Open the run's folder and write ``run.json``; what every checkpoint describes."""
    kept, of_run = recorded(settings), settings.run
    run.begin(kept, facts, fresh=not of_run.resume)
    log = open_logger(of_run.logger, run.path, kept, of_run.nep_project)
    description = {
        "model": spec.model,
        "settings": dict(spec.settings),
        "channels": _CHANNELS,
        "fs": spec.settings["fs"],
        "standardise": "none",
        "trained": facts,
    }
    return Outputs(run, log, description)


def announce(sources: Sequence[SplitTable], net: nn.Module, run: Run, seed: int) -> None:
    """Print model, run folder and the split of each source with its seed."""
    print(f"{MODEL}, {sum(p.numel() for p in net.parameters()):,} parameters -> {run.path}")
    for source in sources:
        print(f"  {source.table.path}: {source.table.cohort}, split by subject with seed {seed}")
        for part in ("train", "validation", "held_out"):
            print(f"    {part.replace('_', ' '):<11}{sizes(source, part)}")


def sizes(source: SplitTable, part: str) -> str:
    """How many subjects, nights and epochs a part of the split has."""
    split = source.split
    subjects = {
        "train": split.train,
        "validation": split.validation,
        "held_out": split.held_out,
    }[part]
    nights = source.table.of_subjects(subjects)
    n_epochs = sum(len(night.stages) for night in nights)
    return f"{len(subjects)} subjects, {len(nights)} nights, {n_epochs:,} epochs"


@torch.no_grad()
def probabilities_of(net: nn.Module, night: BandNight, derivation: int = 0) -> np.ndarray:
    """Probabilities (n, 5) of a night of band powers, from one of its derivations."""
    net.eval()
    db = torch.from_numpy(night.decibels[:, derivation]).to(net.head.weight.device)
    return net.logits_of(db).softmax(dim=-1).cpu().numpy()


def figures_of(net: nn.Module, nights: Sequence[BandNight]) -> dict[str, float]:
    """Agreement with the expert over nights, in their first derivation."""
    counts = sum(
        metrics.confusion(night.stages, probabilities_of(net, night).argmax(axis=1))
        for night in nights
    )
    return {name: float(metrics.SUMMARIES[name](counts)) for name in VALIDATED}


def check(run: RunFlags) -> None:
    """Refuse what this training does not do, before any file is touched.

    Raises:
        UserError: naming the flag.
    """
    if run.devices * run.num_nodes > 1:
        raise UserError("--devices, --num_nodes: this training takes one device, and minutes")
    if run.compile:
        raise UserError("--compile: nights differ in length, and each would be compiled anew")
