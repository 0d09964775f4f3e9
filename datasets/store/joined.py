"""Several stores as one: nights of other cohorts, montages and rates, their channels by role.

Leaving one cohort out is then holding out a fold: the table ``cohorts`` of the joined store has a
fold per cohort.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from pathlib import Path

import numpy as np

from datasets.readers.incoming import kind_of
from datasets.readers.recording import TO_MICROVOLT, FileSignals, Recording, bouts_of
from datasets.store import folds
from datasets.store.build import Reader, build_store
from datasets.store.folds import Fold, FoldTable
from datasets.store.preparation import (
    SLOWEST_WAVEFORM_HZ,
    RolePreprocessing,
    Settings,
    StoredChannel,
    preset_named,
)
from datasets.store.store import Store
from datasets.store.stored_file import StoredFile
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, STAGES

FOLDS = "cohorts"
_VALIDATION_SHARE = 0.1
_SYNTHETIC = "synthetic-"


@dataclass(frozen=True)
class StoredSource:
    """One night of a store, its channels by role: ``labels`` (role, label)."""

    store: Path
    id: str
    labels: tuple[tuple[str, str], ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """What tells whether the night is still the same: its facts name its sources."""
        folder = self.store / "nights" / self.id
        return (folder / "night.json", folder / "stages.npy")


def read(source: StoredSource) -> Recording:
    """A stored night as a recording: signals as they are stored, named by role.

    Raises:
        UserError: it cannot be read.
    """
    file = StoredFile(Store(source.store), source.id)
    night, signals = file.night, FileSignals(file)
    known = {c.label: d for c, d in zip(night.channels, night.derivations, strict=True) if d}
    cut = timedelta(seconds=night.first_epoch * EPOCH_SECONDS)
    return Recording(
        id=source.id,
        subject=night.subject,
        night=night.night,
        signals={role: signals[label] for role, label in source.labels},
        bouts=bouts_of(file.stages),
        stages=file.stages,
        start=file.start + cut if file.start else None,
        # signals of joined nights begin with their first epoch, whatever lay between epochs
        note="epochs had onsets of their own; here they are counted" if night.onsets else None,
        derivations={role: known.get(label, label) for role, label in source.labels},
    )


def channel_for(store: Store, role: str) -> StoredChannel | None:
    """A store's channel for a role: of this very role, or the first of its kind (``EEG_C4``)."""
    waveforms = [c for c in store.channels if c.fs >= SLOWEST_WAVEFORM_HZ or not kind_of(role)]
    own = (c for c in waveforms if role in (c.role, c.label))
    alike = (c for c in waveforms if kind_of(role) == role == kind_of(c.role))
    return next(own, None) or next(alike, None)


def common_roles(stores: Sequence[Store]) -> list[str]:
    """EEG, EOG and EMG, as far as every store has them as waveforms."""
    return [r for r in ("EEG", "EOG", "EMG") if all(channel_for(store, r) for store in stores)]


def join(path: Path, stores: Sequence[Store], roles: Sequence[str], fs: float | None) -> Store:
    """Build, or bring up to date, the joined store at ``path``.

    Signals are resampled to ``fs`` Hz, by default the lowest rate among the channels, so that none
    lacks a part of the spectrum that others have. Nights without one of the roles are left out.

    Raises:
        UserError: fewer than two cohorts, one twice, persons who are in two of them, a role that a
            store lacks, or stores whose signals have no unit.
    """
    _check_apart(stores)
    roles = list(roles) or common_roles(stores)
    chosen = {role: [_channel(store, role) for store in stores] for role in roles}
    if not roles:
        raise UserError(f"{stores[0].path}: has no EEG, EOG or EMG that all other stores have")
    sources = [source for k, store in enumerate(stores) for source in _sources(store, chosen, k)]
    rates = [channel.fs for channels in chosen.values() for channel in channels]
    settings = Settings(
        cohort=joined_name(store.cohort for store in stores),
        protocol="keep_all",
        channels=tuple(roles),
        fs=float(fs or min(rates)),
        kept={role: RolePreprocessing(_unit(chosen[role]), required=True) for role in roles},
    )
    if (path / "dataset.json").is_file() and Store(path).settings != settings.as_json():
        raise UserError(
            f"{path}: joined of other stores, roles or rates before; choose another --project_path"
        )
    command = f"stores joined: {', '.join(store.cohort for store in stores)}"
    joined = build_store(path, sources, Reader(read), settings=settings, command=command)
    folds.write(joined.path / "folds", _folds(joined, stores))
    return joined


def joined_name(cohorts: Iterable[str]) -> str:
    """One name for several cohorts; with a single synthetic one all of it is synthetic."""
    names = list(cohorts)
    is_synthetic = any(name.startswith(_SYNTHETIC) for name in names)
    return _SYNTHETIC * is_synthetic + "+".join(name.removeprefix(_SYNTHETIC) for name in names)


def _check_apart(stores: Sequence[Store]) -> None:
    """Refuse stores that are not of different cohorts, or not comparable."""
    if len(stores) < 2:
        raise UserError("a table across cohorts needs two stores or more; name them with --stores")
    for store in stores:
        if preset := preset_named(store.settings.get("preset")):
            raise UserError(
                f"{store.path}: prepared with preset {preset}, which other stores were not; "
                "prepare it without --preset"
            )
    for one, other in combinations(stores, 2):
        if one.cohort == other.cohort:
            raise UserError(f"{other.path}: {other.cohort}, as {one.path} is; name one of the two")
        for what, both in (
            ("subject", set(one.subjects) & set(other.subjects)),
            ("recording", set(one.recordings) & set(other.recordings)),
        ):
            if both:
                raise UserError(
                    f"{other.path}: holds {what} {min(both)}, as {one.path} does ({len(both)} "
                    "such), who would be trained on and tested; name stores of different persons"
                )


def _channel(store: Store, role: str) -> StoredChannel:
    channel = channel_for(store, role)
    if channel is None:
        has = ", ".join(f"{c.label} ({c.role}, {c.fs:g} Hz)" for c in store.channels)
        raise UserError(f"{store.path}: no waveform for {role}; it has {has}: choose other --roles")
    return channel


def _sources(
    store: Store, chosen: dict[str, list[StoredChannel]], number: int
) -> list[StoredSource]:
    """Nights of a store that have every role.

    Raises:
        UserError: none has.
    """
    labels = tuple((role, channels[number].label) for role, channels in chosen.items())
    columns = [store.channels.index(channels[number]) for channels in chosen.values()]
    nights = [store.night(recording) for recording in store.recordings]
    whole = [night for night in nights if not np.isnan(np.array(night.sd)[columns]).any()]
    if not whole:
        raise UserError(f"{store.path}: no night has all of {', '.join(chosen)}; choose --roles")
    if len(whole) < len(nights):
        print(f"{store.cohort}: {len(nights) - len(whole)} nights lack a role, and are left out")
    return [StoredSource(store.path, night.id, labels) for night in whole]


def _unit(channels: Sequence[StoredChannel]) -> str:
    """Microvolts where every store has voltages; else values stay as they are."""
    return "uV" if all(c.unit.lower() in TO_MICROVOLT for c in channels) else "a.u."


def _folds(joined: Store, stores: Sequence[Store]) -> FoldTable:
    """A fold per cohort; of each of the others a tenth of the subjects, at least one, validates.

    A cohort of a single subject only trains.
    """
    present = set(joined.subjects)
    of_cohort = [sorted(present & set(store.subjects)) for store in stores]
    rng, made = np.random.default_rng(0), []
    for k, tested in enumerate(of_cohort):
        train, validation = [], []
        for subjects in (some for n, some in enumerate(of_cohort) if n != k):
            n = min(max(1, round(_VALIDATION_SHARE * len(subjects))), len(subjects) - 1)
            chosen = set(rng.choice(subjects, n, replace=False).tolist())
            validation += sorted(chosen)
            train += [subject for subject in subjects if subject not in chosen]
        made.append(Fold(train, validation, tested))
    names = ", ".join(f"{k} {store.cohort}" for k, store in enumerate(stores))
    return FoldTable(FOLDS, f"one cohort held out in turn: {names}", made)


def described(store: Store, roles: Sequence[str]) -> dict[str, object]:
    """What a table reports of a cohort: size, stages, montage, rates and preparation."""
    nights = [store.night(recording) for recording in store.recordings]
    counts = sum(np.bincount(n.stages[n.stages >= 0], minlength=len(STAGES)) for n in nights)
    shares = (counts / max(1, counts.sum())).round(4).tolist()
    channels = [_channel(store, role) for role in roles]
    columns = [store.channels.index(channel) for channel in channels]
    montage = {}
    for role, channel, k in zip(roles, channels, columns, strict=True):
        made = Counter(n.derivations[k] or channel.label for n in nights if not np.isnan(n.sd[k]))
        montage[role] = ", ".join(
            f"{label} ({n})" if len(made) > 1 else label for label, n in made.most_common()
        )
    bands = {role: channel.bandpass for role, channel in zip(roles, channels, strict=True)}
    return {
        "cohort": store.cohort,
        "nights": len(nights),
        "subjects": len(store.subjects),
        "epochs": int(counts.sum()),
        **dict(zip(STAGES, shares, strict=True)),
        "montage": "; ".join(f"{role}: {text}" for role, text in montage.items()),
        "hz": ", ".join(f"{fs:g}" for fs in dict.fromkeys(c.fs for c in channels)),
        "bandpass": "; ".join(f"{role}: {_band(band)}" for role, band in bands.items()),
        "protocol": store.settings["protocol"],
    }


def _band(band: tuple[float | None, float | None] | None) -> str:
    low, high = band or (None, None)
    if low is None and high is None:
        return "as recorded"
    return f"{'' if low is None else f'{low:g}'}–{'' if high is None else f'{high:g}'} Hz"
