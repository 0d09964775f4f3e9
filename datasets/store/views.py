"""Views of a store: epochs, sequences and whole nights as tensors, on the device or streamed to it.

Where the chosen nights fit the budget they live on the device as one tensor, standardised once, and
a batch is one ``index_select``. Otherwise batches are read from the night files one ahead, into
buffers of their own, so that memory stays flat whatever the size of the store. Of several processes
each holds its share of the nights, those that ``whole_nights`` gives it, and reads the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, distributed

from datasets.store.batches import Batch, Batches, Windows, listed_windows
from datasets.store.night_files import NightFiles
from datasets.store.preparation import StoredChannel
from datasets.store.store import Store
from datasets.store.stored_channels import (
    Standardise,
    known_channels,
    night_scaling,
    night_signals,
    refuse_absent,
    refuse_not_finite,
    select_channels,
)
from utils.collectives import summed
from utils.devices import free_gb
from utils.errors import UserError
from utils.stages import EPOCH_SECONDS, STAGES

_GPU_SHARE, _HOST_GB = 0.6, 4.0


class View:
    """Chosen channels of chosen recordings of a store.

    Args:
        store: an opened store.
        recordings: recording ids; sequences never run from one into the next.
        channels: labels or roles, all of one rate; default: those at the first channel's rate.
        fs: rate in Hz that signals are brought to when they are read; default: as stored.
        standardise: per recording and channel, by :func:`train_statistics` of the training split,
            or not at all; "present" is per recording too, where channels may be absent (in a
            recording, or in the whole store) or flat, which are NaN then.
        device: where batches live.
        budget_gb: device memory the signals may take; above it batches are streamed. Default: 60 %
            of a GPU's free memory, or 4 GB of the host's for all processes together.

    Raises:
        UserError: unknown channels or recordings, channels of different rates, no recordings, or
            a recording without one of the channels.
    """

    def __init__(
        self,
        store: Store,
        recordings: Sequence[str],
        *,
        channels: Sequence[str] | None = None,
        fs: float | None = None,
        standardise: Standardise = "recording",
        device: torch.device | str = "cpu",
        budget_gb: float | None = None,
    ) -> None:
        if not recordings:
            raise UserError(f"{store.path}: no recordings chosen; check the folds")
        if standardise == "train":
            raise UserError("scaled by its training nights, whose statistics are not stored here")
        self.recordings = list(recordings)
        self.nights = [store.night(recording) for recording in recordings]
        known = known_channels(store, channels) if standardise == "present" else channels
        self.stored_fs, self.columns = select_channels(store, known)
        self.fs = fs or self.stored_fs
        of_rate = [channel for channel in store.channels if channel.fs == self.stored_fs]
        self.channels = tuple(replace(of_rate[column], fs=self.fs) for column in self.columns)
        self.slots = list(range(len(self.columns)))  # of the store's channels among those wanted
        if known is not None and len(known) < len(channels):
            self.slots = [k for k, name in enumerate(channels) if name in known]
            own = dict(zip(known, self.channels, strict=True))
            self.channels = tuple(
                own.get(name) or StoredChannel(name, name, "", self.fs, None) for name in channels
            )
        self.device = torch.device(device)
        self.lengths = np.array([night.n_epochs for night in self.nights])
        self.offsets = np.concatenate(([0], np.cumsum(self.lengths)))
        self._standardised = standardise != "none"
        self.stages = np.concatenate([night.stages for night in self.nights])
        if standardise != "present":
            refuse_absent(store, self.nights, self.channels, self.stored_fs, self.columns)
        rank, processes = _share()
        own = np.arange(len(self.nights)) % processes == rank
        self._moments = self._scalings(own, standardise)
        budget = _budget(self.device, processes) if budget_gb is None else budget_gb
        n_bytes = 4 * self.lengths[own].sum() * len(self.columns) * self.n_samples
        self._held = own & (n_bytes <= 1e9 * budget)
        self.resident = bool(self._held.all())
        # where each night begins in the tensor, whose first axis is the epochs of those held
        self._places = np.cumsum(self.lengths * self._held) - self.lengths * self._held
        self._data = self._load_held()
        self._files = None if self.resident else NightFiles(self.nights, self.stored_fs, self.fs)

    @property
    def n_samples(self) -> int:
        """Samples per epoch and channel."""
        return round(self.fs * EPOCH_SECONDS)

    @property
    def n_epochs(self) -> int:
        """Epochs of all recordings, unscored ones included."""
        return len(self.stages)

    def class_counts(self) -> np.ndarray:
        """Scored epochs per stage (5,)."""
        return np.bincount(self.stages[self.stages >= 0], minlength=len(STAGES))

    def epochs(
        self, batch_size: int, *, seed: int | None = None, scored_only: bool = True
    ) -> Batches:
        """Single epochs as windows of length 1, in order or shuffled by ``seed``."""
        return self.sequences(1, batch_size=batch_size, seed=seed, scored_only=scored_only)

    def sequences(
        self,
        length: int,
        *,
        stride: int | None = None,
        batch_size: int,
        seed: int | Sequence[int] | None = None,
        scored_only: bool = True,
        jitter: bool = False,
    ) -> Batches:
        """Windows of ``length`` epochs, ``stride`` apart (default: side by side).

        The last window of a recording ends with it. ``seed`` shuffles; ``jitter`` also starts each
        recording anywhere within its first stride, so that the borders between windows move from
        seed to seed; one end is then filled up by a further window, the other not, so that ends are
        drawn as often as the rest. ``scored_only`` leaves out windows without a single scored
        epoch. Recordings shorter than ``length`` give no window.

        Raises:
            UserError: no recording is long enough.
        """
        rng = np.random.default_rng(0 if seed is None else seed)
        nights, first = self._windows(length, stride or length, rng if jitter else None)
        if scored_only:
            # scored epochs before each one: a window's count is a difference
            scored = np.concatenate(([0], np.cumsum(self.stages >= 0)))
            start = self.offsets[nights] + first
            keep = scored[start + length] > scored[start]
            nights, first = nights[keep], first[keep]
        if seed is not None:
            order = rng.permutation(len(nights))
            nights, first = nights[order], first[order]
        return listed_windows(self, length, batch_size, Windows(nights, first), rng)

    def whole_nights(
        self, rank: int = 0, processes: int = 1
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Each recording, or this process's share: id, signals (n, c, t), stages (n,)."""
        for number in range(rank, len(self.recordings), processes):
            recording = self.recordings[number]
            where = Windows(np.array([number]), np.array([0]))
            batch = self._batch(where, int(self.lengths[number]))
            yield recording, batch.signals[0], batch.stages[0]

    def moments(self, recording: str) -> tuple[np.ndarray, np.ndarray]:
        """What was subtracted from a recording's channels and divided by, (c,) each."""
        mean, sd = self._moments[self.recordings.index(recording)].numpy()
        return mean, sd

    def too_short(self, length: int) -> list[str]:
        """Recordings that hold no window of ``length`` epochs."""
        return [r for r, n in zip(self.recordings, self.lengths, strict=True) if n < length]

    def _windows(self, length: int, stride: int, jitter: np.random.Generator | None):
        """Night number and first epoch of every window."""
        nights, firsts = [], []
        for number, n_epochs in enumerate(self.lengths):
            if n_epochs < length:
                continue
            last = n_epochs - length
            start = -int(jitter.integers(stride)) if jitter else 0
            first = np.arange(start, last + stride, stride)
            if jitter:  # windows that reach beyond an end are moved into it, at one of the ends
                beyond = first < 0 if jitter.integers(2) else first > last
                first = first[~beyond]
            first = first.clip(0, last)
            first = first[np.diff(first, prepend=-1) > 0]  # ascending: equal ones are neighbours
            nights.append(np.full(len(first), number))
            firsts.append(first)
        if not nights:
            raise UserError(
                f"no recording has {length} epochs (longest: {self.lengths.max()}); "
                "choose a shorter sequence"
            )
        return np.concatenate(nights), np.concatenate(firsts)

    def read(self, windows: Sequence[Windows], length: int) -> Iterator[Batch]:
        """Batches of the windows listed, in order."""
        if self.resident:
            return (self._batch(each, length) for each in windows)
        return self._read_ahead(windows, length)

    def _batch(self, windows: Windows, length: int) -> Batch:
        """A batch from what is held and, for the rest, from the files."""
        nights, first, keys = windows
        held = self._held[nights]
        if held.all():
            signals = self._gather(nights, first, length)
        elif not held.any():
            signals = self._read(nights, first, length)
        else:
            own = self._gather(nights[held], first[held], length)
            others = self._read(nights[~held], first[~held], length)
            order = np.argsort(np.argsort(~held, kind="stable"))  # back from own ones first
            signals = torch.cat((own, others))[torch.from_numpy(order).to(self.device)]
        index = (self.offsets[nights] + first)[:, None] + np.arange(length)
        return Batch(self._placed(signals), self._stages_at(index), nights, first, keys)

    def _gather(self, nights: np.ndarray, first: np.ndarray, length: int) -> Tensor:
        """Signals (b, l, c, t) from the resident tensor."""
        index = (self._places[nights] + first)[:, None] + np.arange(length)
        on_device = torch.from_numpy(index.reshape(-1)).to(self.device)
        signals = self._data.index_select(0, on_device)
        return signals.view(len(nights), length, *signals.shape[1:])

    def _placed(self, signals: Tensor) -> Tensor:
        """Channels (b, l, c, t) among those wanted, NaN where the store has none."""
        if len(self.slots) == len(self.channels):
            return signals
        shape = (*signals.shape[:2], len(self.channels), signals.shape[3])
        out = signals.new_full(shape, float("nan"))
        out[:, :, self.slots] = signals
        return out

    def _read_ahead(self, windows: Sequence[Windows], length: int):
        """Batches from the files, the next one being read while this one is used."""
        with ThreadPoolExecutor(1) as reader:
            coming = None
            for each in windows:
                current, coming = coming, reader.submit(self._batch, each, length)
                if current is not None:
                    yield current.result()
            if coming is not None:
                yield coming.result()

    def _read(self, nights: np.ndarray, first: np.ndarray, length: int) -> Tensor:
        """Signals (b, l, c, t) from the files.

        All by numpy, in the one thread that reads: torch would give it threads of its own, which
        wait for work on the cores that a step needs.
        """
        values = self._files.read(nights, first, length)
        if self.columns != list(range(values.shape[2])):
            values = values[:, :, self.columns]
        values = values.astype(np.float32, copy=False)
        moments = self._moments.numpy()[nights]
        with np.errstate(over="ignore", invalid="ignore"):
            sums = values.sum(axis=(1, 3))
        for n, of_channels, (mean, _) in zip(nights, sums, moments, strict=True):
            refuse_not_finite(self.nights[n], of_channels, np.isfinite(mean))
        if self._standardised:
            mean, sd = moments[:, None, ..., None].transpose(2, 0, 1, 3, 4)
            values -= mean
            values /= sd
        signals = torch.from_numpy(values)
        if self.device.type == "cuda":
            # a thread begins on the first GPU, where pinning would take memory of its process
            with torch.cuda.device(self.device):
                signals = signals.pin_memory().to(self.device, non_blocking=True)
        return signals

    def _stages_at(self, index: np.ndarray) -> Tensor:
        return torch.from_numpy(self.stages[index].astype(np.int64)).to(self.device)

    def _scalings(self, own: np.ndarray, standardise: Standardise) -> Tensor:
        """What to subtract from each night's channels and divide by, (nights, 2, c) on the CPU.

        At another rate than the stored one a whole night is read for it, so every process reads
        its ``own`` and is sent the others: processes open their views together.
        """
        scalings = torch.zeros(len(self.nights), 2, len(self.columns))
        for number in np.flatnonzero(own):
            scaling = night_scaling(
                self.nights[number], self.stored_fs, self.columns, standardise, self.fs
            )
            scalings[number] = torch.from_numpy(np.stack(scaling))
        return summed(scalings.to(self.device)).cpu()  # zeros where others have their nights

    def _load_held(self) -> Tensor:
        """Signals of the nights that this process holds, on the device, standardised."""
        shape = (int(self.lengths[self._held].sum()), len(self.columns), self.n_samples)
        data = torch.empty(shape, dtype=torch.float32, device=self.device)
        for number in np.flatnonzero(self._held):
            night, start = self.nights[number], self._places[number]
            part = data[start : start + self.lengths[number]]
            signals = night_signals(night, self.stored_fs, self.columns, self.fs)
            part.copy_(torch.from_numpy(signals))
            mean, sd = self._moments[number].to(self.device)
            is_present = np.isfinite(self._moments[number, 0].numpy())
            refuse_not_finite(night, part.sum(dim=(0, 2)).cpu().numpy(), is_present)
            part.sub_(mean[:, None]).div_(sd[:, None])
        return data


def _share() -> tuple[int, int]:
    """Number of this process, and of all that train together."""
    if not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _budget(device: torch.device, processes: int) -> float:
    """Default of the memory in GB that signals may take in this process."""
    if (free := free_gb(device)) is None:
        return _HOST_GB / processes
    # of what was free before this process took any: several views share it
    taken = torch.cuda.memory_allocated(device) / 1e9
    return max(0.0, _GPU_SHARE * (free + taken) - taken)
