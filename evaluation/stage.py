"""Nights opened for a checkpoint and staged by its model, the same way in every script."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

import models
from datasets.store.preparation import UNITLESS, formerly_equalised, preset_named
from datasets.store.store import Store
from datasets.store.stored_channels import resampled_line
from datasets.store.views import View
from utils.checkpoint import Checkpoint
from utils.devices import missing
from utils.errors import UserError
from utils.staged_night import StagedNight, stage_signals


def load_model(checkpoint: Checkpoint) -> nn.Module:
    """The trained model, in evaluation mode.

    Raises:
        UserError: its weights and settings do not fit together.
    """
    try:
        return models.build_from(checkpoint)
    except ValueError as error:
        raise UserError(f"{checkpoint.path}: {error}") from error


def load_staging_model(checkpoint: Checkpoint) -> nn.Module:
    """The trained model, in evaluation mode, if it stages.

    Raises:
        UserError: it stages nothing, or as :func:`load_model`.
    """
    model = load_model(checkpoint)
    if not model.stages_nights:
        raise UserError(
            f"{checkpoint.path}: a {checkpoint.model}, which stages nothing; train a head first"
        )
    return model


def pick_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is a GPU where there is one.

    Raises:
        UserError: there is no such device.
    """
    try:
        # MPS by name alone: it lacks some of the operations
        device = ("cpu" if missing()["cuda"] else "cuda") if name == "auto" else name
        # a tensor on it: only that shows whether the device works
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from error


def open_view(
    checkpoint: Checkpoint,
    store: Store,
    recordings: Sequence[str],
    device: torch.device,
    *,
    channels: Sequence[str] | None = None,
) -> View:
    """Open recordings of a store in the channels, rate and scale that the checkpoint reads.

    ``channels`` stand in for the checkpoint's, in its order, in stores of other cohorts. A model of
    any roles is given all it knows; those that the store lacks are absent.

    Raises:
        UserError: the store lacks a channel, or sets the scale of its signals otherwise.
    """
    chosen = list(channels or stand_ins(store, checkpoint))
    if len(chosen) != len(checkpoint.channels):
        raise UserError(
            f"--channels: the checkpoint reads {len(checkpoint.channels)}: "
            f"{', '.join(checkpoint.labels)}"
        )
    view = View(
        store,
        recordings,
        channels=chosen,
        fs=checkpoint.fs,
        standardise=checkpoint.standardise,
        device=device,
        budget_gb=0,  # nights are read one at a time: memory does not grow with the store
    )
    if view.fs != view.stored_fs:
        print(f"{store.path}: {resampled_line(view.stored_fs, view.fs, 'the checkpoint')}")
    if (n := checkpoint.settings.get("n_samples", view.n_samples)) != view.n_samples:
        raise UserError(
            f"{checkpoint.path}: its rate of {view.fs:g} Hz and its epochs of {n} samples do not "
            "fit together; train again, or fetch it again"
        )
    check_preset(checkpoint, store)
    name_other_filter(checkpoint, store)
    return view


def check_preset(checkpoint: Checkpoint, store: Store) -> None:
    """Refuse nights whose scale was not set as the checkpoint's were: it would stage them wrongly.

    Raises:
        UserError: one of both has a preset that sets the scale of signals, the other has not, or
            an earlier version of it.
    """
    preparation = checkpoint.training.preparation if checkpoint.training else {}
    wanted, has = (preset_named(made.get("preset")) for made in (preparation, store.settings))
    if wanted != has and {wanted, has} & set(UNITLESS):
        remedy = f"with --preset {wanted}" if wanted else "without --preset"
        raise UserError(
            f"{store.path}: prepared with preset {has}, the checkpoint's nights with {wanted}; "
            f"prepare the store {remedy}"
        )
    if formerly_equalised(preparation) and not formerly_equalised(store.settings):
        raise UserError(
            f"{checkpoint.path}: trained on nights that an earlier version equalised about their "
            f"median; {store.path} is equalised about the middle of their range: train again on it"
        )
    if formerly_equalised(store.settings) and not formerly_equalised(preparation):
        raise UserError(
            f"{store.path}: equalised by an earlier version; prepare it again in another folder"
        )


def name_other_filter(checkpoint: Checkpoint, store: Store) -> None:
    """Print where the store's signals were filtered otherwise than the checkpoint's nights.

    Not refused, as a cohort may exist in one filter alone; but frequencies that are missing, or
    that no training night had, change what a model sees.
    """
    if checkpoint.training is None or not checkpoint.training.preparation:
        return
    own, wanted = (_filter_of(made) for made in (store.settings, checkpoint.training.preparation))
    if own != wanted:
        print(
            f"{store.path}: {own}, the checkpoint's nights {wanted}: figures may suffer from that "
            "alone"
        )


def _filter_of(preparation: Mapping[str, Any]) -> str:
    preset, band = preset_named(preparation.get("preset")), preparation.get("bandpass")
    by = f"prepared by preset {preset}" if preset else ""
    if not band:
        return by or "unfiltered"
    low, high = band
    return f"{by + ' and ' if by else ''}filtered {low:g}–{high:g} Hz"


def stand_ins(store: Store, checkpoint: Checkpoint) -> list[str]:
    """The checkpoint's labels, or its roles where a store of another cohort lacks the label."""
    if checkpoint.standardise == "present":
        return [role for _, role in checkpoint.channels]
    present = {channel.label for channel in store.channels}
    chosen = []
    for label, role in checkpoint.channels:
        chosen.append(label if label in present else role)
        if label not in present and label != role:  # published weights name roles alone
            print(f"{store.path}: no channel {label!r}, taking its first {role}")
    return chosen


def stage(
    model: nn.Module, view: View, *, batch_size: int = 256, roles: Sequence[str] | None = None
) -> Iterator[tuple[StagedNight, float]]:
    """Stage each night of a view as a whole; yields it with the seconds that took.

    ``roles`` are those shown to a model of any channels; the others are NaN, as if absent.
    """
    by_id = {night.id: night for night in view.nights}
    # (1, channels, 1), as signals are (epochs, channels, samples)
    is_hidden = torch.tensor([roles is not None and c.role not in roles for c in view.channels])
    is_hidden = is_hidden[None, :, None].to(view.device)
    model.to(view.device).eval()
    bar = tqdm(
        view.whole_nights(),
        desc="staging",
        total=len(by_id),
        unit="night",
        # None: shown in a terminal alone; with roles the caller has a bar of its own
        disable=None if roles is None else True,
    )
    for recording, signals, expert in bar:
        night = by_id[recording]
        shown = signals if roles is None else signals.masked_fill(is_hidden, float("nan"))
        started = time.perf_counter()
        probabilities = stage_signals(model, shown, batch_size=batch_size).float().cpu().numpy()
        # to the CPU first: a GPU computes on after the call has returned
        seconds = time.perf_counter() - started
        yield (
            StagedNight(
                recording,
                night.subject,
                probabilities,
                expert.cpu().numpy(),
                night.first_epoch,
                night.start,
                own_onsets=night.onsets,
            ),
            seconds,
        )
