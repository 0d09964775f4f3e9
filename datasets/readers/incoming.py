"""The judge of incoming signals: what a label cannot be, whether samples are there, which unit.

Every reader's signals pass it on their way through :mod:`datasets.readers.channels`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from datasets.readers.recording import TO_MICROVOLT, Signal

SLOWEST_HZ = 50.0  # below, a channel is a slow sensor, a quality or an envelope, whatever its name
# typical standard deviation within a second, in uV
_PLAUSIBLE_UV = {
    "EEG": (1.0, 500.0), "EOG": (1.0, 1000.0), "EMG": (0.1, 1000.0), "ECG": (5.0, 5000.0),
}  # fmt: skip
VOLTAGES = tuple(_PLAUSIBLE_UV)
_PIECE_SECONDS, _PIECES = 60.0, 30  # by which the size of a night's signal is measured
_ROUNDING = 1e-9
_LARGEST = 1e9  # beyond any physical value, in any unit
# beginnings of words, in labels without their role, of what is another signal than the role
_FOREIGN = {
    "heart": "ekg ecg card puls plet ppg heart herz bpm hrv",
    "breath": "resp flow airflow nasal oral therm thor chest abd effort snor mic press cpap pap "
    "ptaf spo sao osa sat oxi oxy etco tcco capno co rip belt sum rmi xflow diaph intercost "
    "atem atmung",
    "eyes": "loc roc eog leog reog heog veog eye auge",
    "muscle": "emg chin ment submen leg lleg rleg tib lat rat arm plm masset delt kinn bein jambe",
    "technical": "imped impd quality qual event evt mark trig status stat annot stim light photic "
    "position posit body accel acc gyro temp batt clock count dc aux index power ratio spect "
    "artif artef lead contact conn dev drl gnd ground env rms suppr burst ibi score stage hypno "
    "sense spare unused disconn trend vital audio movem activ patient kohm eda gsr",
}
_WHOLE = {
    "heart": "hr rr pr bp", "technical": "off on imp pos cm sq sqi ref sef csa", "breath": "snd",
}  # fmt: skip
_EYES = re.compile(r"(?<![a-z])e[12](?!\d)", re.IGNORECASE)
# what a role's own labels may say
_OWN = {"EEG": (), "EOG": ("eyes",), "EMG": ("muscle",), "ECG": ("heart",)}
_LEGS = re.compile(
    r"[lr]?leg|tib|lat|rat|arm|plm|bein|jambe|gamba|pierna|fds|edb|quadr|gastro|(ta|at)$",
    re.IGNORECASE,
)
_OTHER_UNITS = re.compile(r"k?ohms?|k?\u03c9|%|bpm|mmhg|cmh2o|hz|l/min", re.IGNORECASE)
_REFERENCES = {"a", "m", "ref", "avg", "av", "le", "car"}


def kind_of(role: str) -> str:
    """EEG for ``EEG2`` and ``EEG_C3``: the voltage that a role is, "" for other roles."""
    return next((kind for kind in VOLTAGES if role.startswith(kind)), "")


def denies(label: str, role: str) -> bool:
    """Whether a label tells that its signal is none of the role's, though it may begin like it.

    ``EEG EKG1-REF``, ``EEG A1-A2`` (ears alone), ``EEG E1-M2`` (an eye), ``EEG1_Off``, ``EMG Leg``,
    ``EEG Impedance``.
    """
    kind = kind_of(role)
    rest = re.sub(rf"^\s*{kind}", "", label, flags=re.IGNORECASE) if kind else label
    words = [word.lower() for word in re.findall(r"[^\W\d_]+", rest)]
    if not kind or not words:
        return False
    if kind == "EEG" and (set(words) <= _REFERENCES or _EYES.search(rest)):
        return True
    if kind == "EMG" and any(_LEGS.match(word) for word in words):
        return True
    strange = [name for name in _FOREIGN if name not in _OWN[kind]]
    begins = tuple(word for name in strange for word in _FOREIGN[name].split())
    whole = {word for name in strange for word in _WHOLE.get(name, "").split()} - {"ref"}
    return any(word in whole or word.startswith(begins) for word in words)


def is_other_unit(unit: str) -> bool:
    """Whether a unit is that of a resistance, a share, a rate, a pressure or a flow."""
    return _OTHER_UNITS.fullmatch(unit) is not None


def is_waveform(signal: Signal, role: str) -> bool:
    """Whether a signal is fast enough for its role: of voltages, envelopes are none."""
    return not kind_of(role) or signal.fs >= SLOWEST_HZ


def has_numbers(signal: Signal) -> bool:
    """Whether any sample is a number that can be."""
    return any(are_numbers(piece).any() for piece in _pieces(signal, _PIECE_SECONDS))


def is_flat(signal: Signal) -> bool:
    """Whether a signal never varies."""
    return not any(
        len(known) and np.ptp(known) > 0
        for piece in _pieces(signal, _PIECE_SECONDS)
        if (known := piece[are_numbers(piece)]) is not None
    )


def _pieces(signal: Signal, seconds: float, every: float | None = None) -> Iterator[np.ndarray]:
    """Pieces of a signal, one after the other or at the starts of longer ones."""
    for start in np.arange(0, signal.seconds, every or seconds).tolist():
        yield signal.read(start, min(signal.seconds, start + seconds))


def are_numbers(samples: np.ndarray) -> np.ndarray:
    """Which samples are finite, and no larger than anything physical."""
    return np.abs(samples) < _LARGEST  # NaN is not


def believed_unit(signal: Signal, kind: str) -> tuple[str, str]:
    """The unit of a voltage, and what is wrong with the named one, "" if it is believed.

    A unit is believed in which the signal has a size that its kind can have; else it is the one
    in which it would. Where there is none, or no signal to judge by, the unit is "".
    """
    named = signal.unit
    is_known = named.lower() in TO_MICROVOLT
    deviation = typical_deviation(signal)
    if is_known and deviation is None:
        return named, ""
    if is_known and _is_plausible(deviation, named, kind):
        return named, ""
    why = f"names {named!r}, which is no voltage" if named else "names no unit"
    if is_known:
        why = f"is no {kind} in {named} by its size"
    fits = [u for u in ("uV", "mV", "V") if deviation and _is_plausible(deviation, u, kind)]
    return (fits[0] if fits else ""), why


def typical_deviation(signal: Signal) -> float | None:
    """Median standard deviation within a second, of minutes all over the night; None where flat."""
    width = max(2, round(signal.fs))
    deviations = []
    every = max(_PIECE_SECONDS, signal.seconds / _PIECES)
    for piece in _pieces(signal, _PIECE_SECONDS, every):
        seconds = piece[: len(piece) // width * width].reshape(-1, width)
        seconds = seconds[are_numbers(seconds).all(axis=1)]
        some = seconds.std(axis=1)
        # the deviation of a constant is its rounding
        deviations.append(some[some > _ROUNDING * np.abs(seconds).max(initial=0)])
    varying = np.concatenate(deviations)
    return float(np.median(varying)) if len(varying) else None


def _is_plausible(deviation: float, unit: str, kind: str) -> bool:
    low, high = _PLAUSIBLE_UV[kind]
    return low <= deviation * TO_MICROVOLT[unit.lower()] <= high
