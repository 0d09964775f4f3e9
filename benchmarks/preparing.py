"""Seconds per night from EDF to store, beside a plain MNE script of the same protocol.

    python -m benchmarks.preparing

Both sides run in this process on one core, in turns, over the same 22 h tape with a warm file
cache, and both write their result. The arrays are compared before anything is timed. Our side also
checks the files, hashes them, and stores moments and a description. Most of the MNE script's time
is ``events_from_annotations``, which is slow on long tapes; a second MNE figure leaves it out and
makes the events with numpy instead.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.side_by_side import one_core, seconds
from datasets.readers.profiles import cohort_nights, declared_night, profile
from datasets.readers.scorings.vocabulary import stage_of
from datasets.store.preparation import Settings, prepare
from datasets.store.store import write_night
from datasets.store.stored_night import read_night
from datasets.synthetic import sleepedf_files
from datasets.synthetic.night import draw_night
from datasets.synthetic.subject import Difficulty, draw_subject

CHANNELS = ("EEG Fpz-Cz", "EOG horizontal")
BAND = (0.2, 40.0)
REPEATS = 5
TARGET = 5.0


def plain_mne(
    source: cohort_nights.Night, out: Path, *, crops_like_cmt: bool, quick_events: bool = False
) -> None:
    """Load, filter and epoch as published preparation scripts do with MNE, and save."""
    import mne

    raw = mne.io.read_raw_edf(source.path, include=list(CHANNELS), preload=True, verbose=False)
    annotations = mne.read_annotations(source.scored)
    if crops_like_cmt:
        # 30 min after the onset, not the end, of the last annotation but one, as published;
        # annotations alone are cropped, so the filter sees the whole tape
        annotations.crop(annotations[1]["onset"] - 1800, annotations[-2]["onset"] + 1800)
        raw.filter(*BAND, verbose=False)
    # shifted by one: unscored (-1) becomes 0, Wake 1
    words = (*(f"Sleep stage {name}" for name in "W1234R?"), "Movement time")
    codes = {word: stage_of(word) + 1 for word in words}
    if quick_events:
        events = events_with_numpy(annotations, codes, raw)
    else:
        raw.set_annotations(annotations, emit_warning=False, verbose=False)
        events, _ = mne.events_from_annotations(raw, codes, chunk_duration=30.0, verbose=False)
    if not crops_like_cmt:
        asleep = np.flatnonzero(events[:, 2] != 1)
        # hypnograms may extend beyond the end of the signal
        asleep = asleep[events[asleep, 0] < raw.n_times]
        events = events[max(0, asleep[0] - 60) : asleep[-1] + 61]
    # MNE's tmax is inclusive: at 30 s every epoch would have one sample too many
    tmax = 30.0 - 1.0 / raw.info["sfreq"]
    epochs = mne.Epochs(
        raw, events, tmin=0.0, tmax=tmax, baseline=None, preload=True, verbose=False
    )
    # MNE holds volts, the store uV
    np.save(out / "signals.npy", (1e6 * epochs.get_data()).astype(np.float32))
    np.save(out / "stages.npy", epochs.events[:, 2] - 1)


def events_with_numpy(annotations, codes: dict[str, int], raw) -> np.ndarray:
    """MNE's event array, one row per 30 s of every annotation within the signal."""
    fs = raw.info["sfreq"]
    onsets = [np.arange(a["onset"], a["onset"] + a["duration"], 30) * fs for a in annotations]
    values = [
        np.full(len(o), codes[a["description"]]) for o, a in zip(onsets, annotations, strict=True)
    ]
    first, value = np.concatenate(onsets).astype(int), np.concatenate(values)
    # whole epochs alone, as mne.Epochs drops what the signal does not fill
    inside = first + 30 * fs <= raw.n_times
    return np.stack((first, np.zeros_like(first), value), axis=1)[inside]


def ours(source: cohort_nights.Night, out: Path, settings: Settings) -> None:
    """Prepare and store one night with the project's own code."""
    prepared = prepare(declared_night.read(source), settings, source.profile.roles)
    write_night(out, prepared, settings, source.files)


def check_equal(source: cohort_nights.Night, out: Path) -> float:
    """Largest difference in uV between the two results, whose labels must be the same."""
    night = read_night(out / source.id)
    theirs, stages = np.load(out / "signals.npy"), np.load(out / "stages.npy")
    if not np.array_equal(night.stages, stages):
        raise SystemExit("the two sides disagree about the stages")
    return float(np.abs(night.signals() - theirs).max())


def main() -> None:
    """Compare the two protocols, one without and one with a filter."""
    one_core()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sleepedf_files.write(folder, draw_night(draw_subject(0, 0, Difficulty(1)), 1), {})
        source = cohort_nights.find(folder, profile.load("sleepedf"))[0]
        for protocol, band in (("tinysleepnet", None), ("cmt", BAND)):
            settings = Settings("benchmark", protocol, CHANNELS, band)
            is_cmt = protocol == "cmt"
            # as defaults, so that every way keeps the settings of its own round
            ways = {
                "ours": lambda s=settings: ours(source, folder, s),
                "quick": lambda c=is_cmt: plain_mne(
                    source, folder, crops_like_cmt=c, quick_events=True
                ),
                "mne": lambda c=is_cmt: plain_mne(source, folder, crops_like_cmt=c),
            }
            # untimed, for caches and imports; "mne" is last, so its arrays are those compared
            for way in ways.values():
                way()
            difference = check_equal(source, folder)
            taken = seconds(ways, REPEATS)
            print(
                f"{protocol}: ours {taken['ours']:.3f} s, plain MNE {taken['mne']:.3f} s: "
                f"{taken['mne'] / taken['ours']:.1f} times faster (target {TARGET:g}); MNE with "
                f"numpy events {taken['quick']:.3f} s: {taken['quick'] / taken['ours']:.1f} times; "
                f"largest difference {difference:.1e} uV"
            )


if __name__ == "__main__":
    main()
