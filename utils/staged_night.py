"""Whole nights through a model: the one path for validation, evaluation and prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.metrics import confusion
from utils.stages import EDF_STAGES, EPOCH_SECONDS, MADE_BY_A_MODEL, UNSCORED, YASA_STAGES

REVIEWED_SHARE = 0.1  # of a night's epochs, the most uncertain ones


@dataclass(frozen=True)
class Vote:
    """The answer of one of several stagers, or derivations: ``probabilities`` (n, 5).

    ``weight`` is its share in the mean; the weights of a night's votes sum to 1.
    """

    name: str
    probabilities: np.ndarray
    weight: float


def mean_of(votes: Sequence[Vote]) -> np.ndarray:
    """Probabilities (n, 5) of all votes together."""
    return sum(vote.probabilities * np.float32(vote.weight) for vote in votes)


@dataclass(frozen=True)
class StagedNight:
    """A recording as a model staged it, beside the expert's stages.

    ``probabilities`` (n, 5) with rows that sum to 1, ``expert`` (n,) codes with -1 where unscored,
    ``first_epoch`` how many epochs of the source lie before the first one here, ``start`` the
    source's first second in ISO 8601, if known, ``clock`` the same on 1 January 1985 where its
    date alone is unknown, ``seconds`` the source's length, ``quality_flags`` (n,) what is wrong
    with each epoch's signals in words, "" for nothing, or ``()`` where they were not checked.
    ``lost`` (n,) are the epochs without a signal, which count as no stage, ``None`` where every one
    counts. ``votes`` are what ``probabilities`` are the mean of, where several models or
    derivations staged the night. ``own_onsets`` (n,) in s are those of epochs that do not follow
    each other from the source's first sample: those of a scorer whose clock drifts.
    """

    recording: str
    subject: str
    probabilities: np.ndarray
    expert: np.ndarray
    first_epoch: int = 0
    start: str | None = None
    quality_flags: Sequence[str] = ()
    lost: np.ndarray | None = None
    votes: Sequence[Vote] = ()
    seconds: float | None = None
    clock: str | None = None
    own_onsets: Sequence[float] = ()

    @property
    def onsets(self) -> np.ndarray:
        """Seconds (n,) from the source's first sample to each epoch's."""
        counted = EPOCH_SECONDS * (self.first_epoch + np.arange(len(self.probabilities)))
        return np.array(self.own_onsets) if len(self.own_onsets) else counted

    @property
    def spacing(self) -> float:
        """Seconds from one epoch to the next: less than 30 where a scorer's epochs are shorter."""
        return float(np.median(np.diff(self.onsets))) if len(self.own_onsets) > 1 else EPOCH_SECONDS

    @property
    def length(self) -> float:
        """Seconds that a stage is of: 30, of a scorer's shorter epochs theirs."""
        return min(EPOCH_SECONDS, round(self.spacing))  # a clock that drifts makes none shorter

    @property
    def begins(self) -> np.ndarray:
        """Seconds (n,) to what each stage is of: without the context that makes it 30 s long."""
        context = (EPOCH_SECONDS - self.length) / 2
        return self.onsets + context if context else self.onsets

    @property
    def stages(self) -> np.ndarray:
        """The most probable stage of every epoch, int8 (n,), whatever its signal."""
        return self.probabilities.argmax(axis=1).astype(np.int8)

    @property
    def believed(self) -> np.ndarray:
        """Whether each epoch (n,) has a signal, so that its stage can be believed."""
        return np.ones(len(self.probabilities), bool) if self.lost is None else ~self.lost

    @property
    def scored(self) -> np.ndarray:
        """The hypnogram, int8 (n,): :attr:`stages` where they are believed, else -1, unscored."""
        return np.where(self.believed, self.stages, UNSCORED).astype(np.int8)

    @property
    def hypnodensity(self) -> np.ndarray:
        """Probabilities (n, 5) as they are drawn: none where an epoch has no signal."""
        return np.where(self.believed[:, None], self.probabilities, 0.0)

    @property
    def counts(self) -> np.ndarray:
        """Confusion counts (5, 5) of the scored epochs."""
        return confusion(self.expert, self.stages)

    @property
    def spread(self) -> np.ndarray | None:
        """How far the votes lie apart at each epoch (n,), 0 to 1; ``None`` without votes.

        The part of the probability that the votes, on average, give to other stages than their
        mean does (total variation distance): 0 where all agree.
        """
        if not self.votes:
            return None
        apart = (np.abs(v.probabilities - self.probabilities).sum(axis=1) for v in self.votes)
        return sum(v.weight * d / 2 for v, d in zip(self.votes, apart, strict=True))

    @property
    def decided_by(self) -> np.ndarray | None:
        """Number of the vote that decided each epoch (n,); ``None`` without votes.

        The vote with the largest share of the margin: its weight times the probability that it
        gives to the night's stage, less that for the runner-up of the mean.
        """
        if not self.votes:
            return None
        rows = np.arange(len(self.probabilities))
        # stable and descending: where two are as likely, the first of them is the stage
        first, second = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :2].T
        shares = [
            v.weight * (v.probabilities[rows, first] - v.probabilities[rows, second])
            for v in self.votes
        ]
        return np.argmax(shares, axis=0)

    @property
    def uncertainty(self) -> np.ndarray:
        """How little each epoch's stage is certain (n,): 1 minus its probability, 0 to 0.8."""
        return 1 - self.probabilities.max(axis=1)

    @property
    def to_review(self) -> np.ndarray:
        """Whether each epoch (n,) belongs to the most uncertain tenth, which a scorer reviews."""
        n = len(self.probabilities)
        marked = np.zeros(n, bool)
        marked[np.argsort(-self.uncertainty, kind="stable")[: math.ceil(n * REVIEWED_SHARE)]] = True
        return marked

    def annotations(self) -> Any:
        """The stages as ``mne.Annotations``, one per epoch, ``Sleep stage W`` to ``R``, or ``?``.

        Onsets count from the first sample of the source, so that they fit the ``Raw`` it was. Their
        ``extras`` name a model as the origin: they are never taken for an expert's.
        """
        import mne

        names = [f"Sleep stage {EDF_STAGES[k]}" for k in self.scored]
        origin = [{"origin": MADE_BY_A_MODEL} for _ in names]
        return mne.Annotations(self.begins, float(self.length), names, extras=origin)

    def hypnogram(self) -> Any:
        """The night as a ``yasa.Hypnogram``, with the probabilities in its ``proba``."""
        import pandas
        import yasa

        start = pandas.Timestamp(self.start) if self.start else None
        if start is not None:
            start += pandas.Timedelta(seconds=float(self.begins[0]))
        return yasa.Hypnogram(
            [YASA_STAGES[k] for k in self.scored],
            freq=f"{round(self.spacing)}s",
            start=start,
            scorer="model",
            # YASA asks for rows that sum to 1 more closely than single precision does
            proba=pandas.DataFrame(
                self.probabilities / self.probabilities.sum(axis=1, keepdims=True, dtype=float),
                columns=YASA_STAGES[:UNSCORED],
            ),
        )


def stage_signals(
    model: Any,
    signals: Tensor,
    *,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    batch_size: int = 256,
) -> Tensor:
    """A night's signals (n, c, t) -> probabilities (n, 5); the one call of ``stage_night``.

    ``batch_size`` bounds memory and does not change the result.
    """
    model.eval()
    with autocast():
        return model.stage_night(signals, batch_size)


def agreement(
    model: Any,
    nights: Iterable[tuple[str, Tensor, Tensor]],
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> np.ndarray:
    """Confusion counts (5, 5) over nights; results stay on the device until the last night."""
    # every copy to the CPU waits for the GPU, so there is one at the end
    staged = [
        (stages, stage_signals(model, signals, autocast=autocast).argmax(dim=-1))
        for _, signals, stages in nights
    ]
    if not staged:
        return confusion(np.zeros(0, np.int64), np.zeros(0, np.int64))
    true, predicted = (torch.cat(part).cpu().numpy() for part in zip(*staged, strict=True))
    return confusion(true, predicted)
