"""Agreement of attributions with evidence: do they point where the graphic elements are?

Three readings of a map are scored. Its *size* |A| follows large deflections whatever the model has
learned, as a model with random weights shows. Its *sign* over a second (evidence for the stage)
does not, but evidence against other stages counts as well. *Net* is the size of what a second adds
to F, divided by the amplitude of the signal in that second: what an event moves beyond being large.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.stats import rankdata

from utils.errors import UserError
from utils.stages import EPOCH_SECONDS

SMOOTH_SECONDS = 0.2
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


def event_mask(
    events: np.ndarray, n_epochs: int, *, fs: float, first_epoch: int, widen: float = 0.0
) -> np.ndarray:
    """Samples within events: bool (n_epochs, fs * 30) of a night that begins at ``first_epoch``."""
    mask = np.zeros(n_epochs * round(fs * EPOCH_SECONDS), bool)
    begin = (events[:, 0] - first_epoch * EPOCH_SECONDS - widen) * fs
    end = begin + (events[:, 1] + 2 * widen) * fs
    for start, stop in zip(np.round(begin), np.round(end), strict=True):
        # a night may begin within an event, and a negative index would count from the end
        mask[max(0, int(start)) : max(0, int(stop))] = True
    return mask.reshape(n_epochs, -1)


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


def smooth(maps: np.ndarray, fs: float, seconds: float = SMOOTH_SECONDS) -> np.ndarray:
    """Moving mean over ``seconds``."""
    return uniform_filter1d(maps, max(1, round(seconds * fs)), axis=-1, mode="nearest")


def net(maps: np.ndarray, fs: float, amplitude: np.ndarray | None) -> np.ndarray:
    """|mean of maps (n, t) over 1 s|, divided by the root mean square of ``amplitude`` (n, t)."""
    sums = np.abs(smooth(maps, fs, _EVENT_SECONDS))  # of the mean: opposite samples cancel
    if amplitude is None:
        return sums
    power = smooth(np.square(amplitude), fs, _EVENT_SECONDS)
    # a flat stretch has no power to divide by; rounding may even leave a negative one
    return sums / np.sqrt(np.maximum(power, 1e-12))


def agreement(
    maps: np.ndarray,
    events: np.ndarray,
    rows: np.ndarray,
    *,
    fs: float,
    first_epoch: int,
    amplitude: np.ndarray | None = None,
) -> Mapping[str, np.ndarray]:
    """Score maps (n, t) of the epochs ``rows`` (n,) of a night: one value per epoch and measure.

    ``auroc_size``, ``auroc_sign``, ``auroc_net``, ``pointing_size`` and ``pointing_sign``; epochs
    without an event are NaN. ``amplitude`` (n, t) is the signal that the maps hold as a factor.
    """
    n_epochs = int(rows.max()) + 1  # events after the last epoch asked for are cut off
    mask = event_mask(events, n_epochs, fs=fs, first_epoch=first_epoch)[rows]
    near = event_mask(events, n_epochs, fs=fs, first_epoch=first_epoch, widen=_NEAR_SECONDS)[rows]
    present = mask.any(axis=1)  # auroc is NaN elsewhere by itself, pointing is not
    scores = {"auroc_net": auroc(net(maps, fs, amplitude), mask)}
    # |A| before smoothing, so that waves add up; the signed map over a second, so that they cancel
    sizes, signed = smooth(np.abs(maps), fs), smooth(maps, fs, _EVENT_SECONDS)
    for name, smoothed in (("size", sizes), ("sign", signed)):
        scores[f"auroc_{name}"] = auroc(smoothed, mask)
        scores[f"pointing_{name}"] = np.where(present, pointing(smoothed, near), np.nan)
    return scores
