"""Synthetic nights as genuine Sleep-EDF cassette files: ``SC4ssNE0-PSG.edf`` and its hypnogram.

Seven channels with the labels, units, rates, ranges and prefilter texts of the real tapes; 30 s
records (one file of a cohort has 60 s, like SC4362F0); hypnograms whose last annotation runs past
the end of the signal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, time
from itertools import pairwise
from pathlib import Path

import numpy as np

from datasets.synthetic.night import Night
from datasets.synthetic.recorders import Recorder, draw_recorder
from datasets.synthetic.truth import write_truth
from utils.files import remove_ours, written_whole
from utils.stages import EPOCH_SECONDS

_RK_TEXTS = {
    0: "Sleep stage W",
    1: "Sleep stage 1",
    2: "Sleep stage 2",
    3: "Sleep stage 3",
    4: "Sleep stage 4",
    5: "Sleep stage R",
    6: "Movement time",
    9: "Sleep stage ?",
}
_RECORDERS = "EFG"
_SCORERS = "CHJMPW"
_VARIED_UV = (-1000, 1000)  # strong amplifiers are drawn, too
_EXG_FILTER = "HP:0.5Hz LP:100Hz [enhanced cassette BW]"


@dataclass(frozen=True)
class _Channel:
    label: str
    fs: int
    unit: str
    physical: tuple[float, float]
    digital: tuple[int, int]
    prefilter: str
    transducer: str


_CHANNELS = (
    _Channel(
        "EEG Fpz-Cz", 100, "uV", (-192, 192), (-2048, 2047), _EXG_FILTER, "Ag-AgCl electrodes"
    ),
    _Channel("EEG Pz-Oz", 100, "uV", (-197, 196), (-2048, 2047), _EXG_FILTER, "Ag-AgCl electrodes"),
    _Channel(
        "EOG horizontal", 100, "uV", (-1009, 1009), (-2048, 2047), _EXG_FILTER, "Ag-AgCl electrodes"
    ),
    # no unit: its physical values are the digital ones
    _Channel(
        "Resp oro-nasal", 1, "", (-2048, 2047), (-2048, 2047), "HP:0.03Hz LP:0.9Hz",
        "Oral-nasal thermistors",
    ),
    _Channel(
        "EMG submental", 1, "uV", (-5, 5), (-2500, 2500), "HP:16Hz Rectification LP:0.7Hz",
        "Ag-AgCl electrodes",
    ),
    _Channel("Temp rectal", 1, "DegC", (34, 40), (-2849, 2731), "", "Rectal thermistor"),
    _Channel(
        "Event marker", 1, "", (-2047, 2048), (-2047, 2048), "Hold during 2 seconds", "Marker"
    ),
)  # fmt: skip


def stem_of(subject: int, night: int) -> str:
    """File stem of a night; subjects take the recorders E, F and G in turn."""
    return f"SC4{subject:02d}{night}{_RECORDERS[subject % 3]}0"


def write(folder: Path, night: Night, settings: dict, *, is_last: bool = False) -> str:
    """Write one night's two EDF files and its truth files; returns the stem.

    The cohort's last night has 60 s records if its length allows. The hypnogram is written last: a
    killed run leaves no complete pair behind.
    """
    record_seconds = 60 if is_last and night.timeline.n_epochs % 2 == 0 else 30
    stem = stem_of(night.subject.number, night.number)
    rng = night.stream("tape")
    start = _start(rng, night)
    write_truth(folder, stem, night, settings)
    recorder = draw_recorder(night.subject) if settings.get("varied") else None
    _write_psg(folder / f"{stem}-PSG.edf", night, start, record_seconds, recorder)
    # the scorer's letter is part of the name: another seed would leave a second hypnogram
    for former in folder.glob(f"{stem[:7]}?-Hypnogram.edf"):
        remove_ours(former)
    scorer = _SCORERS[int(rng.integers(len(_SCORERS)))]
    _write_hypnogram(folder / f"{stem[:7]}{scorer}-Hypnogram.edf", night, start)
    return stem


def bouts_of(night: Night) -> list[tuple[int, int, str]]:
    """Annotations as the scorer writes them: onset and duration in seconds, text."""
    rk = night.timeline.rk
    borders = np.r_[0, np.flatnonzero(np.diff(rk)) + 1, len(rk)]
    bouts = [
        (int(a) * EPOCH_SECONDS, int(b - a) * EPOCH_SECONDS, _RK_TEXTS[int(rk[a])])
        for a, b in pairwise(borders)
    ]
    # real hypnograms run on past the signal, and a reader must cut them
    overrun = night.timeline.beyond * EPOCH_SECONDS
    bouts.append((len(rk) * EPOCH_SECONDS, overrun, _RK_TEXTS[9]))
    return bouts


def _start(rng: np.random.Generator, night: Night) -> tuple[date, time]:
    """Day from the seed in 1989-1991, both nights of a subject on consecutive days; afternoon."""
    first = night.subject.seed * 37 + night.subject.number * 11
    day = date(1989, 1, 1).toordinal() + first % 900 + night.number - 1
    minute = int(rng.integers(0, 120))
    return date.fromordinal(day), time(15 + minute // 60, minute % 60)


def _write_psg(
    path: Path,
    night: Night,
    start: tuple[date, time],
    record_seconds: int,
    recorder: Recorder | None,
) -> None:
    import edfio

    channels = _CHANNELS
    if recorder is not None:
        eeg = [replace(c, fs=recorder.fs, physical=_VARIED_UV) for c in _CHANNELS[:2]]
        channels = (*eeg, *_CHANNELS[2:])
    # digital values, since of physical ones edfio refuses those that a tape would saturate
    signals = [
        edfio.EdfSignal.from_digital(
            _digitise(_samples(night, channel, recorder), channel),
            channel.fs,
            label=channel.label,
            transducer_type=channel.transducer,
            physical_dimension=channel.unit,
            physical_range=channel.physical,
            digital_range=channel.digital,
            prefiltering=channel.prefilter,
        )
        for channel in channels
    ]
    edf = edfio.Edf(
        signals,
        # by this the reader knows the tape: no store of it passes for a real cohort's
        recording=edfio.Recording(startdate=start[0], equipment_code="synthetic"),
        starttime=start[1],
        data_record_duration=record_seconds,
    )
    with written_whole(path) as temporary:
        edf.write(temporary)


def _write_hypnogram(path: Path, night: Night, start: tuple[date, time]) -> None:
    import edfio

    edf = edfio.Edf(
        [],
        recording=edfio.Recording(startdate=start[0]),
        starttime=start[1],
        annotations=[edfio.EdfAnnotation(*bout) for bout in bouts_of(night)],
    )
    with written_whole(path) as temporary:
        edf.write(temporary)


def _samples(night: Night, channel: _Channel, recorder: Recorder | None) -> np.ndarray:
    """Physical values of one channel; a ``recorder`` of its own has the EEG only."""
    if recorder is not None and channel.label.startswith("EEG"):
        return recorder.tape(night, int(channel.label != _CHANNELS[0].label))
    if channel.fs == 100:
        return night.render(channel.label, channel.fs)
    if channel.label == "EMG submental":
        return night.render_emg_envelope()
    rng = night.stream(channel.label)
    seconds = night.seconds
    if channel.label == "Resp oro-nasal":
        rate = night.subject.breaths_per_minute / 60
        rate = rate * (1 + 0.08 * _slow(rng, seconds, 40))
        depth = 900 * np.exp(0.3 * _slow(rng, seconds, 90))
        # at 1 Hz the running sum of a rate in Hz is the phase
        return depth * np.sin(2 * np.pi * np.cumsum(rate)) + rng.normal(0, 30, seconds)
    if channel.label == "Temp rectal":
        return 37.2 + 0.3 * _slow(rng, seconds, 7200) + rng.normal(0, 0.004, seconds)
    # the event marker: each value lasts two seconds, as its prefilter text promises
    held = np.repeat(rng.normal(900, 4, seconds // 2 + 1), 2)[:seconds]
    return np.round(held)


def _slow(rng: np.random.Generator, n: int, step: int) -> np.ndarray:
    """Unit-variance drift: normals every ``step`` samples, joined by straight lines."""
    knots = rng.standard_normal(n // step + 2)
    return np.interp(np.arange(n), np.arange(len(knots)) * step, knots)


def _digitise(samples: np.ndarray, channel: _Channel) -> np.ndarray:
    """Nearest digital values, int16, saturating at the channel's limits as the tapes do."""
    (low, high), (bottom, top) = channel.digital, channel.physical
    per_unit = (high - low) / (top - bottom)
    digital = np.rint((samples - bottom) * per_unit + low)
    return np.clip(digital, low, high, out=digital).astype(np.int16)
