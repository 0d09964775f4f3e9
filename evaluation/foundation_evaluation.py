"""Evaluation of foundation models: whole nights, missing roles, embeddings and their probes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

import models
from datasets.store.store import Store
from datasets.store.views import View
from evaluation import (
    cleaning,
    context_ablation,
    embed,
    missing_roles,
    probe_pretrained,
    transfer_probes,
)
from evaluation.context_ablation import Reference
from evaluation.encoder_controls import Control, embed_powers
from evaluation.evaluation_files import write_evaluation
from evaluation.probe_pretrained import SUPERVISED, LabelFlags
from evaluation.stage import load_model, stage
from interpret import role_importance
from interpret.explain_nights import explain_nights
from interpret.explained_run import EXPLANATIONS
from interpret.index import Entry
from models.foundation import encoder_settings
from objectives.denoising import dropped_roles
from objectives.draws import Draws
from probing import embeddings
from probing.row_files import Rows
from training import supervised_nights
from utils.checkpoint import Checkpoint
from utils.files import write_json, write_table, written_folder
from utils.staged_night import StagedNight

_DROP = 0.3  # probability that a role is left out of a view


@dataclass(frozen=True)
class ReportFlags(LabelFlags):
    """What is reported as well: missing roles, explanations, embeddings and their probes."""

    missing: bool
    pictures: int
    is_interpret: bool
    interpret_recordings: int
    embed: bool
    pool: str
    supervised: bool
    contexts: list[str]


def stage_by(
    model: nn.Module, view: View, roles: tuple[str, ...]
) -> tuple[list[StagedNight], float]:
    """Stage every night by some of its roles; the nights, and mean seconds per night."""
    nights, seconds = zip(*stage(model, view, roles=roles), strict=True)
    return list(nights), sum(seconds) / len(nights)


def evaluate(
    flags: ReportFlags,
    model: nn.Module,
    view: View,
    folder: Path,
    about: dict[str, Any],
    reference: Reference | None = None,
) -> list[dict[str, Any]]:
    """Stage, score and export whole nights; then under every pattern of missing roles.

    ``reference`` is what contexts are compared with, if not the model itself.
    Returns the rows of ``missing_roles.csv``.
    """
    present = present_roles(view)
    wanted = missing_roles.patterns(present) if flags.missing else {"all": present}
    staged, rows = {}, []
    for name, roles in tqdm(wanted.items(), desc="patterns", unit="pattern", disable=None):
        staged[name], seconds = stage_by(model, view, roles)
        rows.append(missing_roles.row_of(name, roles, staged[name], seconds))
    write_evaluation(folder, staged["all"], about, pictures=flags.pictures)
    if flags.missing:
        missing_roles.write_missing(folder, rows, about["headline"])
    if flags.contexts:
        wanted = context_ablation.reaches(flags.contexts)
        context_ablation.write_contexts(folder, model, view, wanted, about["headline"], reference)
    if flags.is_interpret:
        explain(
            flags,
            model,
            view,
            staged,
            about,
            folder.with_name(folder.name.replace("evaluation", "interpretations")),
        )
    return rows


def explain(
    flags: ReportFlags,
    model: nn.Module,
    view: View,
    staged: Mapping[str, list[StagedNight]],
    about: Mapping[str, Any],
    folder: Path,
) -> None:
    """Explain the first nights: importance of every role, and attention over the night."""
    present = present_roles(view)
    without = {}
    for role in present:
        name = f"without {role}"
        others = tuple(r for r in present if r != role)
        if others:  # none where a night has one role
            without[role] = staged[name] if name in staged else stage_by(model, view, others)[0]
    rows = []

    def explain_one(into: Path, numbered: tuple[int, tuple[str, Tensor, Tensor]]) -> list[Entry]:
        number, (recording, signals, _) = numbered
        means, entry = role_importance.explain_night(
            into,
            model.encoder,
            signals,
            staged["all"][number],
            {role: nights[number] for role, nights in without.items()},
        )
        rows.append({"recording": recording, **means})
        return [entry]

    with written_folder(folder, EXPLANATIONS) as temporary:
        nights = islice(enumerate(view.whole_nights()), flags.interpret_recordings)
        explain_nights(temporary, nights, explain_one, about)
        if rows and without:
            write_table(temporary / "roles.csv", rows)
    print(f"explanations: {folder}")


def present_roles(view: View) -> tuple[str, ...]:
    """Roles that are recorded in at least one of the nights."""
    recorded = np.zeros(len(view.channels), bool)
    for recording in view.recordings:
        mean, _ = view.moments(recording)
        recorded[view.slots] |= ~np.isnan(mean)  # an absent role has no mean
    return tuple(c.role for c, has in zip(view.channels, recorded, strict=True) if has)


def embed_roles(encoder: nn.Module, pool: str, view: View, path: Path) -> Rows:
    """Embed every epoch of a view into a file."""
    encoder.to(view.device).eval()
    return embeddings.write_z(path, lambda signals: encoder.embed(signals, pool), view)


def random_encoder(checkpoint: Checkpoint, like: nn.Module, seed: int) -> nn.Module:
    """The same encoder with random weights, but with the pretrained one's statistics of spectra."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        settings = encoder_settings(checkpoint.settings)
        fresh = models.build("foundation_pretraining", **settings).encoder.eval()
    # statistics of the training nights scale its input: a control differs in weights alone
    if fresh.spectrum is not None:
        fresh.spectrum.load_state_dict(like.spectrum.state_dict())
    return fresh


def encoders_of(checkpoint: Checkpoint, encoder: nn.Module, pool: str) -> embed.Encoders:
    """How the pretrained encoder and its controls embed nights."""
    # the checksum is taken of a network's attribute ``encoder``
    holder = nn.Module()
    holder.encoder = encoder
    return embed.Encoders(
        holder,
        partial(embed_roles, encoder, pool),
        lambda seed: partial(embed_roles, random_encoder(checkpoint, encoder, seed), pool),
        partial(views_of_roles, encoder, pool),
    )


def views_of_roles(encoder: nn.Module, pool: str, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Embed some scored epochs, other roles left out in each view: rows (m,), z (q, m, d)."""

    def encoded(signals: Tensor, epochs: Tensor) -> list[Tensor]:
        # (1, roles): the same roles of the whole night, in whose context an epoch is encoded
        recorded = ~signals.isnan().all(dim=-1).all(dim=0)[None]
        draws = Draws.anew(recorded)
        dropped = [dropped_roles(recorded, _DROP, draws)[0] for _ in range(embeddings.N_VIEWS)]
        return [
            encoder.embed(signals.masked_fill(out[:, None], float("nan")), pool)[epochs]
            for out in dropped
        ]

    return embeddings.seen_again(encoded, view)


def benchmark_run(
    flags: ReportFlags,
    run: Path,
    checkpoint: Checkpoint,
    store: Store,
    device: torch.device,
    others: Mapping[str, View],
) -> None:
    """Benchmark a pretrained encoder: embeddings, probes of it and its controls, cleaning error.

    ``others``: nights of other cohorts by name, on which the same probes are tested.
    """
    probe_pretrained.check_writable(run)
    net = load_model(checkpoint)
    views = embed.split_views(checkpoint, store, device)
    folder, about = run / "evaluation", probe_pretrained.about_training(checkpoint)
    encoders = encoders_of(checkpoint, net.encoder, flags.pool)
    embedders = {
        "band powers": [embed_powers],
        "random encoder": [encoders.random(seed) for seed in flags.seeds],
        "pretrained": [encoders.pretrained],
    }
    controls: dict[str, Control] = {}
    if flags.supervised:
        budget = supervised_nights.budget_of(checkpoint, len(views["train"].nights))
        trained = supervised_nights.supervised_encoder(
            checkpoint, net.encoder, views, budget, flags.seeds[0]
        )
        by_labels = partial(embed_roles, trained, flags.pool)
        embedders[SUPERVISED] = [by_labels]
        controls[SUPERVISED] = lambda split, path: by_labels(views[split], path)
    moved: list[dict[str, Any]] = []
    with embed.embedded_spaces(run, checkpoint, views, encoders, flags.seeds, controls) as spaces:
        rows = list(probe_pretrained.frozen_rows(spaces, flags, views))
        for cohort, view in others.items():
            some = transfer_probes.transferred(
                spaces, embedders, views, view, flags, run / "transfer"
            )
            moved += [{"cohort": cohort} | row for row in some]
    probe_pretrained.write_probes(run, checkpoint, rows)
    compared = transfer_probes.differences([{"cohort": store.cohort} | row for row in rows])
    if moved:
        transfer_probes.write_transfer(folder, moved, about)
        compared += transfer_probes.differences(moved)
    write_table(folder / "differences.csv", compared)
    cleaned = cleaning.cleaning(net, views)
    if cleaned:
        write_table(folder / "cleaning.csv", cleaned)
        write_json(folder / "cleaning.json", {"about": about, "rows": cleaned})
    probe_pretrained.report(run, rows)
    transfer_probes.report(compared)
    cleaning.report(cleaned)
