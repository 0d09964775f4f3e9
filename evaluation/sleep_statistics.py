"""Sleep statistics of a hypnogram, as the AASM's scoring manual defines them.

AASM Manual for the Scoring of Sleep and Associated Events, version 3, chapter "Parameters to be
Reported for Polysomnography": total recording time, total sleep time, sleep latency, stage R
latency, wake after sleep onset, sleep efficiency, time in each stage. Hypnograms have no marks of
lights: lights out is the beginning of their first scored epoch, lights on the end of the last.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from utils.stages import EPOCH_SECONDS, STAGES, UNSCORED, YASA_STAGES

if TYPE_CHECKING:
    from yasa import Hypnogram

_PERSISTENT_REM = 3  # minutes
# name: unit and definition
STATISTICS = {
    "TIB": (
        "min",
        "time in bed, the AASM's total recording time: lights out (beginning of the first scored "
        "epoch) to lights on (end of the last), unscored epochs between them included",
    ),
    "TST": ("min", "total sleep time: N1 + N2 + N3 + REM; unscored epochs are no sleep"),
    "SE": ("%", "sleep efficiency: TST of TIB"),
    "SOL": ("min", "sleep latency: lights out to sleep onset, the first epoch of any sleep"),
    "WASO": ("min", "wake after sleep onset up to lights on, as the AASM counts it"),
    "WASO_SPT": ("min", "wake after sleep onset up to the final awakening (last epoch of sleep)"),
    "REM_latency": ("min", "sleep onset to the first epoch of REM"),
    "REM_latency_3min": (
        "min",
        "sleep onset to the first REM that persists for 3 min; not the AASM's, definitions differ "
        "between studies (Knowles et al. 1982, Biological Psychiatry 17, 993)",
    ),
    "W": ("min", "minutes of W"),
    "N1": ("min", "minutes of N1"),
    "N2": ("min", "minutes of N2"),
    "N3": ("min", "minutes of N3"),
    "REM": ("min", "minutes of REM"),
    "SFI": ("1/h", "sleep fragmentation: awakenings per hour of TST, as YASA has it"),
}


def hypnogram(stages: np.ndarray, scorer: str | None = None) -> Hypnogram:
    """YASA's hypnogram of codes (n,), -1 where unscored; its comparisons need a ``scorer``."""
    import yasa

    return yasa.Hypnogram([YASA_STAGES[k] for k in stages], freq="30s", scorer=scorer)


def sleep_statistics(stages: np.ndarray, seconds: float = EPOCH_SECONDS) -> dict[str, float]:
    """Sleep statistics of a hypnogram (n,), named as in :data:`STATISTICS`; NaN where undefined.

    Its epochs begin ``seconds`` apart: windows of 30 s around a scorer's shorter epochs overlap.
    They depend on how much Wake the protocol keeps around the night: TIB, SE, SOL and WASO above
    all. ``WASO_SPT`` and the latencies of REM do not.
    """
    per_minute = 60 / seconds
    scored = np.flatnonzero(stages != UNSCORED)
    if not len(scored):
        return dict.fromkeys(STATISTICS, float("nan"))
    night = stages[scored[0] : scored[-1] + 1]
    asleep = night > STAGES.index("W")  # unscored is below
    minutes = {stage: float((night == k).sum()) / per_minute for k, stage in enumerate(STAGES)}
    tst, tib = float(asleep.sum()) / per_minute, len(night) / per_minute
    values = dict.fromkeys(STATISTICS, float("nan")) | minutes
    values |= {"TIB": tib, "TST": tst, "SE": 100 * tst / tib}
    if not tst:  # what begins with sleep is undefined
        return values
    onset, awakening = int(asleep.argmax()), len(night) - int(asleep[::-1].argmax())
    wake, rem = night == STAGES.index("W"), night == STAGES.index("REM")
    # a whole number of epochs, in spite of rounding
    persistent = math.ceil(_PERSISTENT_REM * per_minute - 1e-9)
    return values | {
        "SOL": onset / per_minute,
        "WASO": float(wake[onset:].sum()) / per_minute,
        "WASO_SPT": float(wake[onset:awakening].sum()) / per_minute,
        "REM_latency": (_first_run(rem, 1) - onset) / per_minute,
        "REM_latency_3min": (_first_run(rem, persistent) - onset) / per_minute,
        "SFI": _awakenings(stages[scored]) / (tst / 60),
    }


def _first_run(those: np.ndarray, length: int) -> float:
    """Where the first run of at least ``length`` true values (n,) begins; NaN if there is none."""
    if len(those) < length:
        return float("nan")
    runs = np.lib.stride_tricks.sliding_window_view(those, length).all(axis=1)
    return float(runs.argmax()) if runs.any() else float("nan")


def _awakenings(scored: np.ndarray) -> int:
    """How often sleep is followed by W, without the unscored epochs in between."""
    wake = STAGES.index("W")
    return int(((scored[:-1] != wake) & (scored[1:] == wake)).sum())


def compare(
    expert: np.ndarray, model: np.ndarray, seconds: float = EPOCH_SECONDS
) -> dict[str, tuple[float, float, float]]:
    """Sleep statistics as (expert, model, model - expert), over the epochs the expert scored."""
    # else the model would have more sleep by epochs that the expert left out
    masked = np.where(expert == UNSCORED, UNSCORED, model)
    theirs, ours = sleep_statistics(expert, seconds), sleep_statistics(masked, seconds)
    return {name: (theirs[name], ours[name], ours[name] - theirs[name]) for name in STATISTICS}
