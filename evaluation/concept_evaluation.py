"""Concepts of a trained model: nights to learn directions on, and nights to test them on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.store.preparation import UNITLESS, preset_named
from datasets.store.store import Store
from datasets.store.views import View
from evaluation.stage import open_view, stage
from interpret import concept_run
from interpret.concept_layers import check_model
from interpret.concepts import KINDS
from interpret.explained_night import ExplainedNight
from interpret.explained_run import opened_nights, truth_file
from interpret.explanation_flags import ExplanationFlags
from utils.checkpoint import Checkpoint
from utils.errors import UserError


def check(
    flags: ExplanationFlags,
    checkpoint: Checkpoint,
    store: Store,
    subjects: Sequence[str],
    model: torch.nn.Module,
) -> None:
    """Refuse what concepts cannot be measured of, before any night is staged.

    Raises:
        UserError: a model without encodings of single epochs, a single subject, or
            ``--without_path`` has no stores, or stores of other nights.
    """
    check_model(model)
    parts = split_subjects(checkpoint, store, subjects)
    recordings = [r for part in parts for r in some_of(store.of_subjects(part), flags)]
    check_without(flags, store, recordings)


def write_concepts(
    folder: Path,
    flags: ExplanationFlags,
    model: torch.nn.Module,
    opened: tuple[Checkpoint, Store, Sequence[str] | None, torch.device],
    subjects: Sequence[str],
    about: Mapping[str, Any],
) -> None:
    """Measure the use of concepts in nights of ``subjects``, whom training has not seen.

    ``opened``: checkpoint, store, the channels that stand in for its own, and device.
    """
    checkpoint, store, channels, device = opened
    parts = split_subjects(checkpoint, store, subjects)
    for part, what in zip(parts, ("learned from", "tested on"), strict=True):
        print(f"concepts: directions {what} {len(part)} subjects")
    stores = stores_without(flags)

    def view_of(store: Store, recordings: Sequence[str]) -> View:
        return open_view(checkpoint, store, recordings, device, channels=channels)

    def nights_of(part: Sequence[str]) -> Iterator[concept_run.NightAndWithout]:
        view = view_of(store, some_of(store.of_subjects(part), flags))
        staged = [night for night, _ in stage(model, view)]
        for night in opened_nights(view, staged, flags.truth_path):
            own = [night.staged.recording]
            # one kind after the other, as each is a whole night in memory
            yield night, ((k, signals_in(view_of(s, own), night)) for k, s in stores.items())

    concept_run.write_concepts(
        folder, flags, model, (nights_of(parts[0]), nights_of(parts[1])), about
    )


def stores_without(flags: ExplanationFlags) -> dict[str, Store]:
    """Stores of ``--without_path`` by the kind of events that their nights lack.

    Raises:
        UserError: there is none, or one cannot be opened.
    """
    if flags.without_path is None:
        return {}
    folders = {kind: flags.without_path / kind for kind in KINDS}
    stores = {kind: Store(path) for kind, path in folders.items() if path.is_dir()}
    if not stores:
        raise UserError(
            f"{flags.without_path}: no store of nights without a kind of events; prepare some "
            f"into folders called {', '.join(KINDS)}"
        )
    return stores


def check_without(flags: ExplanationFlags, store: Store, recordings: Sequence[str]) -> None:
    """Refuse stores of ``--without_path`` that hold other nights, or those with the events.

    Raises:
        UserError: naming the store, or the list of events that is missing.
    """
    for kind, other in stores_without(flags).items():
        remedy = f"make it by the commands of {store.path}, with --omit {kind}"
        if other.settings != store.settings:
            raise UserError(f"{other.path}: prepared otherwise than {store.path}; {remedy}")
        if (preset := preset_named(store.settings.get("preset"))) in UNITLESS:
            raise UserError(
                f"{store.path}: preset {preset} scales a night by the whole of it, so that without "
                "some events all of it differs; leave out --without_path"
            )
        nights = [(store.night(recording), other.night(recording)) for recording in recordings]
        for night, same in nights:
            if not np.array_equal(night.stages, same.stages):
                raise UserError(f"{other.path}: {night.id} is another night; {remedy}")
            if not (truth := truth_file(flags.truth_path, night.id)).is_file():
                raise UserError(f"{truth}: is not there; name its folder with --truth_path")
        # one night may have no such events
        if all(night.sd == same.sd for night, same in nights):
            raise UserError(f"{other.path}: its nights have the events; {remedy}")


def signals_in(view: View, night: ExplainedNight) -> Tensor:
    """Signals (n, m, t) of the one night of a view, scaled as ``night`` and not by itself.

    Large waves that are missing would make all others larger.
    """
    [(recording, signals, _)] = view.whole_nights()
    mean, sd = view.moments(recording)
    factor, offset = (
        torch.as_tensor(values[:, None], dtype=signals.dtype, device=signals.device)
        for values in (sd / night.sd, (mean - night.mean) / night.sd)
    )
    return signals * factor + offset


def split_subjects(
    checkpoint: Checkpoint, store: Store, held_out: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Subjects to learn directions from, and others to test them on.

    The former are those of the training; where the store has none of them, every second one of
    ``held_out``.

    Raises:
        UserError: one subject alone.
    """
    facts = checkpoint.training.facts
    trained = set(facts["subjects"].get("train", ())) & set(store.subjects) - set(held_out)
    # ids of another cohort may be the same by chance
    if trained and facts["cohort"] == store.cohort:
        return sorted(trained), list(held_out)
    if len(held_out) < 2:
        raise UserError(
            f"{store.path}: concepts are learned from some subjects and tested on others, and it "
            "has one; add nights of a second"
        )
    return list(held_out[::2]), list(held_out[1::2])


def some_of(recordings: Sequence[str], flags: ExplanationFlags) -> list[str]:
    """At most ``--concept_recordings`` (0: all), spread over the list, so over subjects."""
    n = flags.concept_recordings
    if not n or len(recordings) <= n:
        return list(recordings)
    return [recordings[k] for k in np.linspace(0, len(recordings) - 1, n).round().astype(int)]
