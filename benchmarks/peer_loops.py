"""The peers' own training loops, run by the interpreter of an environment that has the peers.

``benchmarks.peers`` starts this file, writes one task per line to it and reads one answer per line,
both JSON. Nothing of ours is imported: nights are plain numpy files, whatever else is the peers'.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

CHANNEL, FS, EPOCH_SECONDS, N_STAGES = "EEG Fpz-Cz", 100, 30, 5
SAMPLES = FS * EPOCH_SECONDS
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Task:
    """What to train: a model on windows of ``length`` epochs that begin ``stride`` apart.

    ``nights`` are folders of ``signals.npy`` (n, c, t), of which the first channel is read, and
    ``stages.npy`` (n,); ``precision`` is "32-true" or "bf16-mixed".
    """

    loop: str
    model: str
    length: int
    stride: int
    batch_size: int
    precision: str
    passes: int
    nights: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """Processor seconds and seconds by the clock of every pass; of one pass, its windows and the
    epochs encoded for them; parameters that are trained.
    """

    seconds: tuple[float, ...]
    clock: tuple[float, ...]
    windows: int
    epochs: int
    parameters: int


class Stopwatch:
    """Times passes twice: by the processor, as other programs slow the clock, and by the clock."""

    def __init__(self) -> None:
        self.seconds: tuple[float, ...] = ()
        self.clock: tuple[float, ...] = ()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Time what is done meanwhile."""
        started = time.process_time(), time.perf_counter()
        yield
        self.seconds += (time.process_time() - started[0],)
        self.clock += (time.perf_counter() - started[1],)

    def trained(self, windows: int, epochs: int, model: nn.Module) -> Trained:
        """What was timed, and how much a pass is."""
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return Trained(self.seconds, self.clock, windows, epochs, parameters)


def read(night: str) -> tuple[np.ndarray, np.ndarray]:
    """Signal (n, t) of the first channel and stages (n,)."""
    signals = np.load(Path(night) / "signals.npy", mmap_mode="r")
    return np.array(signals[:, 0]), np.load(Path(night) / "stages.npy").astype(np.int64)


def middle(stages: Any) -> Any:
    """The stage of a window's middle epoch, which is what Chambon2018 stages."""
    return stages[(len(stages) - 1) // 2]


def braindecode(task: Task) -> Trained:
    """braindecode's example of sleep staging: windows of Raws, its sampler, skorch's loop."""
    from braindecode import EEGClassifier
    from braindecode.models import SleepStagerChambon2018
    from braindecode.modules import TimeDistributed
    from braindecode.samplers import SequenceSampler

    class Timed(EEGClassifier):
        """Its classifier, whose passes are timed."""

        def run_single_epoch(self, *given: Any, training: bool, **how: Any) -> None:
            with watch.running() if training else contextlib.nullcontext():
                super().run_single_epoch(*given, training=training, **how)

    watch = Stopwatch()
    windows = windows_of_raws(task.nights)
    windows.target_transform = middle
    sampler = SequenceSampler(
        windows.get_metadata(), task.length, task.stride, randomize=True, random_state=0
    )
    encoder = SleepStagerChambon2018(1, FS, n_outputs=N_STAGES, n_times=SAMPLES, return_feats=True)
    width = encoder.len_last_layer * task.length
    head = nn.Sequential(nn.Flatten(start_dim=1), nn.Dropout(0.5), nn.Linear(width, N_STAGES))
    classifier = Timed(
        nn.Sequential(TimeDistributed(encoder), head),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        optimizer__lr=LEARNING_RATE,
        iterator_train__shuffle=False,
        iterator_train__sampler=sampler,
        train_split=None,  # ours is timed without its validation too
        batch_size=task.batch_size,
        classes=list(range(N_STAGES)),
    )
    classifier.fit(windows, y=None, epochs=task.passes)
    n_windows = len(sampler)
    return watch.trained(n_windows, n_windows * task.length, classifier.module_)


@lru_cache(maxsize=1)
def windows_of_raws(nights: tuple[str, ...]) -> Any:
    """The nights as braindecode reads them: an annotation per epoch of a Raw, held in memory."""
    import mne
    import pandas as pd
    from braindecode.datasets import BaseConcatDataset, RawDataset
    from braindecode.preprocessing import create_windows_from_events

    raws = []
    for number, night in enumerate(nights):
        signal, stages = read(night)
        info = mne.create_info([CHANNEL], FS, "eeg")
        raw = mne.io.RawArray(signal.reshape(1, -1), info, verbose="error")
        onsets = EPOCH_SECONDS * np.arange(len(stages))
        raw.set_annotations(mne.Annotations(onsets, EPOCH_SECONDS, stages.astype(str)))
        raws.append(RawDataset(raw, pd.Series({"subject": number})))
    return create_windows_from_events(
        BaseConcatDataset(raws),
        window_size_samples=SAMPLES,
        window_stride_samples=SAMPLES,
        preload=True,
        mapping={str(stage): stage for stage in range(N_STAGES)},
    )


def physioex(task: Task) -> Trained:
    """PhysioEx' trainer on its dataset, whose cache on disk was filled before the first pass."""
    from physioex.data import dict_collate_fn
    from physioex.train.trainer import Trainer
    from torch.utils.data import DataLoader, Subset

    class Timed(Trainer):
        """Its trainer, whose passes are timed."""

        @classmethod
        def _run_epoch(cls, **how: Any) -> nn.Module:
            with watch.running():
                return super()._run_epoch(**how)

    watch = Stopwatch()
    # its trainer always autocasts, on a CPU to bf16; this is how torch lets a user choose float32
    torch.set_autocast_dtype("cpu", {"32-true": torch.float32}.get(task.precision, torch.bfloat16))
    model = physioex_model(task)
    nights = physioex_nights(task.nights, task.length, task.model)
    # the first epochs of windows, as the dataset counts them
    ranges = [range(first, end, task.stride) for _, first, end in nights._subject_ranges]
    starts = [start for each in ranges for start in each]
    loader = DataLoader(
        Subset(nights, starts), task.batch_size, shuffle=True, collate_fn=dict_collate_fn
    )
    with tempfile.TemporaryDirectory() as folder:
        Timed.train(
            model,
            (loader, loader),
            checkpoint_path=folder,
            max_epochs=task.passes,
            lr=LEARNING_RATE,
            weight_decay=0.0,
            valid_interval_ratio=2.0,  # never within a pass: ours is timed without validation
        )
    return watch.trained(len(starts), len(starts) * task.length, model)


def physioex_model(task: Task) -> nn.Module:
    """Its own implementation, in the sizes of ours."""
    from physioex.models.chambon2018 import Chambon2018Net
    from physioex.models.seqsleepnet import SeqSleepNet
    from physioex.models.tinysleepnet import TinySleepNet

    if task.model == "seqsleepnet":
        return SeqSleepNet(in_chan=1, seqnlayer1=1, seqnlayer2=1)
    if task.model == "tinysleepnet":
        return TinySleepNet(in_chan=1)
    model = Chambon2018Net(in_channels=1, dropout=0.5)
    model(torch.zeros(2, task.length, 1, SAMPLES))  # its last layer is sized by the first batch
    return model


@lru_cache(maxsize=4)
def physioex_nights(nights: tuple[str, ...], length: int, model: str) -> Any:
    """The nights as a dataset of PhysioEx, its cache filled by reading each of them once."""
    from physioex.data import BasePhysioDataset, EDFHeader, PreprocessingPipeline, SubjectSpec
    from physioex.data.steps import Identity, XSleepNetSpectrogram

    class Nights(BasePhysioDataset):
        """Folders of numpy files, by the hooks that its documentation names."""

        DATASET_NAME = "benchmark"

        def _list_subjects(self) -> list[SubjectSpec]:
            return [SubjectSpec(Path(n).name, Path(n) / "signals.npy") for n in nights]

        def _read_edf_header(self, spec: SubjectSpec) -> EDFHeader:
            seconds = float(EPOCH_SECONDS * len(self._read_subject_labels(spec)))
            written = spec.edf_path.stat().st_mtime
            return EDFHeader([CHANNEL], {CHANNEL: FS}, {CHANNEL: "uV"}, {}, seconds, written)

        def _read_subject_channel(self, spec: SubjectSpec, _: Any) -> tuple[np.ndarray, float]:
            return read(str(spec.edf_path.parent))[0].reshape(-1), float(FS)

        def _read_subject_labels(self, spec: SubjectSpec) -> np.ndarray:
            return read(str(spec.edf_path.parent))[1]

    dataset = Nights(
        root=str(Path(nights[0]).parent),
        channels=[CHANNEL],
        pipelines=PreprocessingPipeline(
            [XSleepNetSpectrogram() if model == "seqsleepnet" else Identity()]
        ),
        sequence_length=length,
        cache_dir=os.environ["PEERS_CACHE"],
        label_transform=(lambda s: s[[(len(s) - 1) // 2]]) if model == "chambon2018" else None,
        trim_excess_wake=False,
    )
    for _, first, _ in dataset._subject_ranges:
        dataset[first]
    return dataset


LOOPS: dict[str, Callable[[Task], Trained]] = {"braindecode": braindecode, "physioex": physioex}


def main() -> None:
    """Answer tasks until there are no more; what the peers print is no answer and is dropped."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        words = json.loads(line)
        task = Task(**words | {"nights": tuple(words["nights"])})
        with contextlib.redirect_stdout(io.StringIO()):
            trained = LOOPS[task.loop](task)
        print(json.dumps(asdict(trained)), flush=True)


if __name__ == "__main__":
    main()
