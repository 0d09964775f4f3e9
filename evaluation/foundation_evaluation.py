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
from evaluation import embed, missing_roles, probe_pretrained
from evaluation.evaluation_files import write_evaluation
from evaluation.probe_pretrained import LabelFlags
from evaluation.stage import load_model, stage
from interpret import role_importance
from interpret.explain_nights import explain_nights
from interpret.explained_run import EXPLANATIONS
from interpret.index import Entry
from objectives.denoising import dropped_roles
from objectives.draws import Draws
from probing import embeddings
from probing.row_files import Rows
from training.foundation_family import corrupted_nights, linear_autoencoders
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


def stage_by(
    model: nn.Module, view: View, roles: tuple[str, ...]
) -> tuple[list[StagedNight], float]:
    """Stage every night by some of its roles; the nights, and mean seconds per night."""
    nights, seconds = zip(*stage(model, view, roles=roles), strict=True)
    return list(nights), sum(seconds) / len(nights)


def evaluate(
    flags: ReportFlags, model: nn.Module, view: View, folder: Path, about: dict[str, Any]
) -> list[dict[str, Any]]:
    """Stage, score and export whole nights; then under every pattern of missing roles.

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
        # of a model that stages: the head is no setting of pretraining
        settings = {k: v for k, v in checkpoint.settings.items() if k != "head"}
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


def cleaning(net: nn.Module, views: Mapping[str, View], seed: int = 0) -> list[dict[str, Any]]:
    """Error of cleaning corrupted nights, of the model and of the best linear autoencoder.

    The linear one is fitted to the training nights in closed form, role by role, with as many
    dimensions as the model's tokens have; both clean the same corrupted held-out patches.
    """
    encoder = net.encoder
    net.eval()
    with torch.random.fork_rng(), torch.no_grad():  # the same corruption in every call
        torch.manual_seed(seed)
        linear = linear_autoencoders(net, views["train"])
        # squared errors of the model, the linear one and untouched samples, and how many samples
        errors = np.zeros((4, len(linear)))
        for clean, corrupted, valid, x in corrupted_nights(net, views["held_out"]):
            # the first argument is the truth, which is compared here and not by the model
            made = net(x[None], x[None]).samples[0]
            for k, one in enumerate(linear):
                true = clean[k, valid[k]].cpu().numpy()
                if not len(true):  # the role is absent
                    continue
                given = corrupted[k, valid[k]].cpu().numpy()
                guesses = made[k, valid[k]].float().cpu().numpy(), one(given), given
                errors[:3, k] += [float(((g - true) ** 2).sum()) for g in guesses]
                errors[3, k] += true.size
    rows = [
        {
            "role": role,
            **dict(
                zip(
                    ("model", "linear_autoencoder", "untouched"),
                    (errors[:3, k] / max(errors[3, k], 1)).tolist(),
                    strict=True,
                )
            ),
        }
        for k, role in enumerate(encoder.roles)
    ]
    mean = errors[:3].sum(axis=1) / max(errors[3].sum(), 1)
    names = ("model", "linear_autoencoder", "untouched")
    return [*rows, {"role": "all", **dict(zip(names, mean.tolist(), strict=True))}]


def benchmark_run(
    flags: ReportFlags, run: Path, checkpoint: Checkpoint, store: Store, device: torch.device
) -> None:
    """Benchmark a pretrained encoder: embeddings, probes of it and its controls, cleaning error."""
    probe_pretrained.check_writable(run)
    net = load_model(checkpoint)
    views = embed.split_views(checkpoint, store, device)
    encoders = encoders_of(checkpoint, net.encoder, flags.pool)
    with embed.embedded_spaces(run, checkpoint, views, encoders, flags.seeds) as spaces:
        rows = list(probe_pretrained.frozen_rows(spaces, flags, views))
    probe_pretrained.write_probes(run, checkpoint, rows)
    folder, about = run / "evaluation", probe_pretrained.about_training(checkpoint)
    cleaned = cleaning(net, views)
    write_table(folder / "cleaning.csv", cleaned)
    write_json(folder / "cleaning.json", {"about": about, "rows": cleaned})
    probe_pretrained.report(run, rows)
    print("error of cleaning corrupted held-out nights (1: the mean of every channel)")
    for row in cleaned:
        print(
            f"  {row['role']:<6}model {row['model']:.4f}   linear autoencoder "
            f"{row['linear_autoencoder']:.4f}   untouched {row['untouched']:.4f}"
        )
