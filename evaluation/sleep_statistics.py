"""Sleep statistics of a hypnogram, by YASA, with their definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from utils.stages import UNSCORED, YASA_STAGES

if TYPE_CHECKING:
    from yasa import Hypnogram

# name: YASA's name, unit and definition
STATISTICS = {
    "TIB": ("TIB", "min", "time in bed: all kept epochs, unscored ones included"),
    "TST": ("TST", "min", "total sleep time: N1 + N2 + N3 + REM"),
    "SE": ("SE", "%", "sleep efficiency: TST of TIB"),
    "SOL": ("SOL", "min", "sleep onset latency: first kept epoch to first epoch of sleep"),
    "WASO": ("WASO", "min", "wake after sleep onset, up to the last epoch of sleep"),
    "REM_latency": ("Lat_REM", "min", "first epoch of sleep to first epoch of REM"),
    "W": ("WAKE", "min", "minutes of W"),
    "N1": ("N1", "min", "minutes of N1"),
    "N2": ("N2", "min", "minutes of N2"),
    "N3": ("N3", "min", "minutes of N3"),
    "REM": ("REM", "min", "minutes of REM"),
    "SFI": ("SFI", "1/h", "sleep fragmentation: awakenings per hour of TST"),
}


def hypnogram(stages: np.ndarray, scorer: str | None = None) -> Hypnogram:
    """YASA's hypnogram of codes (n,), -1 where unscored; its comparisons need a ``scorer``."""
    import yasa

    return yasa.Hypnogram([YASA_STAGES[k] for k in stages], freq="30s", scorer=scorer)


def sleep_statistics(stages: np.ndarray) -> dict[str, float]:
    """Sleep statistics of a hypnogram (n,), named as in :data:`STATISTICS`; NaN where undefined.

    They depend on how much Wake the protocol keeps around the night: TIB, SE and SOL above all.
    """
    if not len(stages):
        return dict.fromkeys(STATISTICS, float("nan"))
    values = hypnogram(stages).sleep_statistics()
    ours = {name: float(values[theirs]) for name, (theirs, *_) in STATISTICS.items()}
    # YASA counts it from the first epoch, the AASM manual from the onset of sleep
    return ours | {"REM_latency": ours["REM_latency"] - ours["SOL"]}


def compare(expert: np.ndarray, model: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """Sleep statistics as (expert, model, model - expert), over the epochs the expert scored."""
    # else the model would have more sleep by epochs that the expert left out
    masked = np.where(expert == UNSCORED, UNSCORED, model)
    theirs, ours = sleep_statistics(expert), sleep_statistics(masked)
    return {name: (theirs[name], ours[name], ours[name] - theirs[name]) for name in STATISTICS}
