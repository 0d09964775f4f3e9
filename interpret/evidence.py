"""Agreement of maps with evidence: do they point where the graphic elements are?

Every method is read in one way, fixed here before any run: what a second adds to F, that is the
signed map over 1 s, of all frequencies together. Large deflections draw many maps whatever a model
has learned, so two things stand beside every figure: the same figure of maps that know no model
(``interpret.model_free``), and how far the map tells events from distractors of the same energy
that have the wrong shape, lie in the wrong band or in the wrong channel.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.stats import rankdata

from utils.errors import UserError
from utils.stages import EPOCH_SECONDS

_NEAR_SECONDS = 0.25
_EVENT_SECONDS = 1.0  # within an event gradients change sign with every wave
# kind of event: stage it is evidence for, role of its channel, band it lies in
EVIDENCE = {
    "spindle": ("N2", "EEG", "sigma"),
    "k_complex": ("N2", "EEG", "delta"),
    "slow_wave": ("N3", "EEG", "delta"),
    "rem": ("REM", "EOG", "delta"),
    "alpha": ("W", "EEG", "alpha"),
}
WRONG = ("shape", "band", "channel")
# as simulated nights name what resembles an event in all but one respect
DISTRACTORS = tuple(f"{kind}_wrong_{what}" for kind in EVIDENCE for what in WRONG)


@dataclass(frozen=True)
class Reading:
    """How a method's maps are read: one way each.

    ``size``: |A|, for maps without the signal as a factor, whose sign turns with every wave.
    ``in_event_band``: in the band of the event, which is then known beforehand.
    """

    size: bool = False
    in_event_band: bool = False


SIGNED = Reading()


def read_events(path: Path, kinds: Sequence[str] = tuple(EVIDENCE)) -> dict[str, np.ndarray]:
    """Events of a truth file as onset and duration in s of the recording: kind -> (events, 2).

    Raises:
        UserError: the file is missing or has other columns.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return {
            # two columns even where a kind has no events
            kind: np.array(
                [(float(r["onset"]), float(r["duration"])) for r in rows if r["trial_type"] == kind]
            ).reshape(-1, 2)
            for kind in kinds
        }
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a list of events ({error})") from error


def epochs_at(seconds: np.ndarray, onsets: np.ndarray) -> np.ndarray:
    """Numbers of the epochs with ``onsets`` (n,) in s that hold instants (k,): -1 where none does.

    Of epochs that overlap, the last one.
    """
    number = np.searchsorted(onsets, seconds, side="right") - 1
    return np.where(seconds < onsets[number.clip(0)] + EPOCH_SECONDS, number, -1)


def event_mask(
    events: np.ndarray, onsets: np.ndarray, *, fs: float, widen: float = 0.0
) -> np.ndarray:
    """Samples within events: bool (n, fs * 30) of epochs with ``onsets`` (n,) in s."""
    length = round(fs * EPOCH_SECONDS)
    mask = np.zeros((len(onsets), length), bool)
    begins, ends = events[:, 0] - widen, events.sum(axis=1) + widen
    # an event may reach over several epochs, begin before the first or end after the last
    first = np.searchsorted(onsets, begins - EPOCH_SECONDS, side="right")
    last = np.searchsorted(onsets, ends, side="left")
    for begin, end, *epochs in zip(begins, ends, first, last, strict=True):
        for epoch in range(*epochs):
            start, stop = (round((edge - onsets[epoch]) * fs) for edge in (begin, end))
            mask[epoch, max(0, start) : max(0, stop)] = True
    return mask


def auroc(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each row's samples, inside against outside: (n,).

    NaN in rows that are all inside or all outside. Ties count half.
    """
    inside = mask.sum(axis=1)
    outside = mask.shape[1] - inside
    ranks = rankdata(maps, axis=1)  # the Mann-Whitney statistic is this area; ties share a rank
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.where(mask, ranks, 0).sum(axis=1) - inside * (inside + 1) / 2) / np.where(
            (inside > 0) & (outside > 0), inside * outside, np.nan
        )


def pointing(maps: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Whether each row's largest sample lies in an event widened by 0.25 s: bool (n,)."""
    return near[np.arange(len(maps)), maps.argmax(axis=1)]


def over_a_second(maps: np.ndarray, fs: float) -> np.ndarray:
    """Moving mean over 1 s."""
    return uniform_filter1d(maps, max(1, round(_EVENT_SECONDS * fs)), axis=-1, mode="nearest")


def agreement(
    maps: np.ndarray, events: np.ndarray, rows: np.ndarray, *, fs: float, onsets: np.ndarray
) -> Mapping[str, np.ndarray]:
    """Score maps (n, t) of the epochs ``rows`` (n,) of a night: one value per epoch and measure.

    ``onsets`` in s are those of all its epochs.

    ``auroc`` and ``pointing`` of the map over 1 s; epochs without an event are NaN.
    """
    mask = event_mask(events, onsets, fs=fs)[rows]
    near = event_mask(events, onsets, fs=fs, widen=_NEAR_SECONDS)[rows]
    present = mask.any(axis=1)  # auroc is NaN elsewhere by itself, pointing is not
    smoothed = over_a_second(maps, fs)
    return {
        "auroc": auroc(smoothed, mask),
        "pointing": np.where(present, pointing(smoothed, near), np.nan),
    }


def values_at(
    maps: np.ndarray, events: np.ndarray, rows: np.ndarray, *, fs: float, onsets: np.ndarray
) -> np.ndarray:
    """Mean of the maps (n, t) of the epochs ``rows`` (n,) over every event (k, 2): (at most k,).

    The event is widened by 0.25 s, beyond which filters carry little of it; a moving mean would
    favour what is largest in its middle. It belongs to the epoch of its middle; those of other
    epochs are left out.
    """
    at, length = {int(epoch): row for row, epoch in enumerate(rows)}, maps.shape[1]
    values = []
    epochs = epochs_at(events[:, 0] + events[:, 1] / 2, onsets).tolist()
    for (onset, duration), epoch in zip(events, epochs, strict=True):
        begin, end = onset - _NEAR_SECONDS, onset + duration + _NEAR_SECONDS
        if epoch in at:
            start, stop = (round((edge - onsets[epoch]) * fs) for edge in (begin, end))
            values.append(maps[at[epoch], max(0, start) : min(length, stop)].mean())
    return np.array(values)


def share_above(right: np.ndarray, wrong: np.ndarray) -> float:
    """Share of pairs in which a value of ``right`` (k,) is above one of ``wrong`` (j,).

    Ties count half; NaN where one of them is empty.
    """
    mask = np.arange(len(right) + len(wrong)) < len(right)
    return float(auroc(np.concatenate((right, wrong))[None], mask[None])[0])
