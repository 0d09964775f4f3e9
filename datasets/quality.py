"""Signal quality of every epoch, assessed on the signals as recorded, before any filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from datasets.readers.incoming import are_numbers
from datasets.readers.recording import TO_MICROVOLT, Signal
from utils.stages import EPOCH_SECONDS

# sd of a second below, and peak to peak of an epoch above, which an epoch is flagged
_FLAT_UV, _LARGEST_UV = 0.5, 1000.0
_FLAT_SHARE = 0.02  # of the night's median second, where the unit is unknown
_ROUNDING = 1e-6  # of the night's largest epoch, by which calibrated constants may vary
_CUT_SHARE = 0.01  # of an epoch's samples at the recorder's limit
_GAP, _MISSING, _FLAT, _ARTEFACT = "gap in the recording", "missing samples", "flat", "artefact"


def quality_flags(
    signals: Mapping[str, Signal], sized: set[str], gaps: np.ndarray, n_epochs: int
) -> list[str]:
    """Quality flag of every epoch: its gaps, flat signals and artefacts in words, "" without any.

    Filters would let the neighbours ring into a dead epoch, so nothing is filtered here. Flat is an
    epoch half of whose seconds hardly vary; an artefact is larger than brain and eyes are, or cut
    off at the recorder's limit. Signals that are not ``sized`` have no known unit: they are
    compared with the night's own median.
    """
    begin = EPOCH_SECONDS * np.arange(n_epochs)
    # axes: gaps down, epochs across
    apart = (gaps[:, :1] < begin + EPOCH_SECONDS) & (gaps[:, 1:] > begin)
    problems = [[_GAP] if gap else [] for gap in apart.any(axis=0)]
    for name, signal in signals.items():
        deviation, size, is_cut, lacks = by_epoch(signal, n_epochs)
        scale = TO_MICROVOLT[signal.unit.lower()] if name in sized else None
        # where most of the night is dead, its median is 0 but for rounding
        lowest = max(_FLAT_SHARE * np.median(deviation), _ROUNDING * size.max(initial=0))
        lowest = lowest if scale is None else _FLAT_UV / scale
        flat = (deviation <= lowest).mean(axis=1) >= 0.5
        large = is_cut if scale is None else is_cut | (size * scale > _LARGEST_UV)
        for epoch in np.flatnonzero(lacks & ~apart.any(axis=0)):
            problems[epoch].append(f"{name} {_MISSING}")
        for epoch in np.flatnonzero(flat | large):
            problems[epoch].append(f"{name} {_FLAT if flat[epoch] else _ARTEFACT}")
    return ["; ".join(words) for words in problems]


def without_signal(flags: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Whether each epoch (n,) has nothing to stage, by its flags: it counts as no sleep, nor wake.

    It lacks samples, or each of the signals ``names`` is flat.
    """
    flat = {f"{name} {_FLAT}" for name in names}
    words = [set(flag.split("; ")) for flag in flags]
    return np.array(
        [
            _GAP in of_epoch
            or any(one.endswith(f" {_MISSING}") for one in of_epoch)
            or bool(flat and flat <= of_epoch)
            for of_epoch in words
        ],
        bool,
    )


def by_epoch(signal: Signal, n_epochs: int) -> tuple[np.ndarray, ...]:
    """Deviation per second (n, 30), peak to peak, whether cut off, and lacking samples (n,) each.

    Cut off: more than a hundredth of its samples lie at the night's highest or lowest value. An
    epoch at a time is read, so memory is flat. Seconds that lack a sample do not vary.
    """
    width = max(2, int(signal.fs))  # a second; one sample alone would have no deviation
    rows, ends, shares = [], np.zeros((n_epochs, 2)), np.zeros((n_epochs, 2))
    lacks = np.zeros(n_epochs, bool)
    for k in range(n_epochs):
        x = signal.read(k * EPOCH_SECONDS, (k + 1) * EPOCH_SECONDS)
        known = are_numbers(x)
        if not known.all():
            lacks[k], x = True, np.where(known, x, x[known].mean() if known.any() else 0.0)
        n = min(EPOCH_SECONDS, len(x) // width)
        seconds = known[: n * width].reshape(n, width).all(axis=1)
        rows.append(x[: n * width].reshape(n, width).std(axis=1) * seconds)
        ends[k] = x.min(), x.max()
        shares[k] = (x == ends[k, 0]).mean(), (x == ends[k, 1]).mean()
    # == and not near: a saturated recorder repeats exactly its largest value
    limits = ends[:, 0].min(), ends[:, 1].max()
    is_cut = ((ends == limits) & (shares > _CUT_SHARE)).any(axis=1)
    # rates that do not divide into 30 s give epochs that differ by a sample, and so by a second
    shortest = min(map(len, rows))
    return np.stack([row[:shortest] for row in rows]), np.ptp(ends, axis=1), is_cut, lacks
