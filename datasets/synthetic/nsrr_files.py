"""Synthetic nights in the layouts of the NSRR cohorts: EDF by montage, annotations beside it.

Labels, rates, units and references are those of the cohorts, with the spellings and oddities that
their files are known for, one or two per subject. The brain is that of two calibrated derivations;
heart and breath follow the stage in a way nobody calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from datasets.synthetic import nsrr_scoring
from datasets.synthetic.night import Night
from datasets.synthetic.timeline import SLOT_SECONDS
from datasets.synthetic.truth import write_truth
from utils.files import written_whole

COHORTS = ("shhs", "mesa", "mros", "wsc", "apples")
ONE_VISIT = ("mesa", "apples")
# share of the EEG in either eye; size of Fpz, so large that a forgotten reference shows
_LEAK, _COMMON_UV = 0.2, 40.0
_HEART = np.array([0.08, 0.02, 0.0, -0.05, 0.04])  # beats by stage, share of the subject's rate
_UNEVEN = np.array([0.10, 0.08, 0.05, 0.02, 0.16])  # of the breath, by stage
_SCALE = {"uV": 1.0, "mV": 1e-3, "V": 1e-6, "": 1.0}


@dataclass(frozen=True)
class Chan:
    """One channel of a file: what it shows, and how it is written."""

    label: str
    source: str
    fs: int
    unit: str = "uV"
    limit: float = 500.0  # uV, or the unit of what is no voltage


class Layout:
    """Files of one cohort, as ``generate_demo_data.py`` writes them."""

    def __init__(self, cohort: str) -> None:
        self.cohort = cohort

    def stem_of(self, subject: int, night: int) -> str:
        """Recording id: subject and visit as the cohort writes them."""
        return {
            "shhs": f"shhs{night}-{200001 + subject}",
            "mesa": f"mesa-sleep-{subject + 1:04d}",
            "mros": f"mros-visit{night}-aa{subject + 1:04d}",
            "wsc": f"wsc-visit{night}-{10101 + subject}",
            "apples": f"apples-{110001 + subject}",
        }[self.cohort]

    def write(self, folder: Path, night: Night, settings: dict, *, is_last: bool = False) -> str:
        """Write one night's EDF, truth and annotations; returns its id.

        The last night of MrOS has no annotation, as a few real ones.
        """
        number, visit = night.subject.number, night.number
        stem = self.stem_of(number, visit)
        write_truth(folder, stem, night, settings)
        places = {"shhs": f"edfs/shhs{visit}", "mesa": "edfs", "mros": f"edfs/visit{visit}"}
        place = places.get(self.cohort, "")
        name = f"{stem}-nsrr.edf" if self.cohort == "wsc" else f"{stem}.edf"
        path = folder / "polysomnography" / place / name
        start = datetime(1985, 1, 1, 22, 3 + number % 50, 10)
        more = (0, 0, 13, -13)[number % 4] if self.cohort == "shhs" else 0
        channels = montage(self.cohort, number, visit)
        _write_edf(path, night, channels, start, more, undated=self._undated(number))
        if not (self.cohort == "mros" and is_last):
            nsrr_scoring.write(folder / "polysomnography", self.cohort, stem, night, start)
        return stem

    def _undated(self, number: int) -> bool:
        return self.cohort == "shhs" and number % 4 == 1


def montage(cohort: str, number: int, visit: int) -> list[Chan]:
    """Channels of one subject's file in the cohort's order, with that subject's oddities."""
    return {"shhs": _shhs, "mesa": _mesa, "mros": _mros, "wsc": _wsc, "apples": _apples}[cohort](
        number, visit
    )


def _shhs(number: int, visit: int) -> list[Chan]:
    eeg, eog, belt, heart = (125, 50, 10, 125) if visit == 1 else (128, 64, 8, 256)
    second = ("EEG(sec)", "EEG 2", "EEG sec", "EEG(SEC)")[number % 4]
    odd = number % 4  # of every four subjects two have odd units, a third a dead belt
    return [
        Chan("SaO2", "spo2", 1, "%", 100),
        Chan("H.R.", "rate", 1, "bpm", 250),
        Chan(second, "second", eeg),
        Chan("ECG", "ecg", heart, "mV", 2000),
        Chan("EMG", "chin", eeg, "" if odd == 1 else "uV"),
        Chan("EOG(L)", "eye_l", eog, "mV" if odd == 2 else "uV"),
        Chan("EOG(R)", "eye_r", eog, "mV" if odd == 2 else "uV"),
        Chan("EEG", "central", eeg, "V" if odd == 2 else "uV"),
        Chan("AIRFLOW", "thor", belt, "", 3),
        Chan("THOR RES", "thor", belt, "", 3),
        Chan("ABDO RES", "flat" if odd == 3 else "abdo", belt, "", 3),
        Chan("POSITION", "flat", 1, "", 3),
        Chan("LIGHT", "flat", 1, "", 3),
        Chan("OX stat", "flat", 1, "", 3),
    ]


def _mesa(number: int, visit: int) -> list[Chan]:
    exg = {"EKG": "ecg", "EOG-L": "eye_l_fpz", "EOG-R": "eye_r_fpz", "EMG": "chin"}
    exg |= {"EEG1": "frontal", "EEG2": "occipital", "EEG3": "central"}
    slow = {"Pres": "thor", "Flow": "thor", "Snore": "flat", "Thor": "thor", "Abdo": "abdo"}
    slow |= {"Leg": "flat", "Aux_AC" if number % 2 else "Therm": "thor", "Pos": "flat"}
    off = [f"{name}_Off" for name in exg]
    return [
        *(Chan(label, source, 256, limit=1000) for label, source in exg.items()),
        *(Chan(label, source, 32, "", 3) for label, source in slow.items()),
        *(Chan(label, "flat", 1, "", 3) for label in off),
        Chan("Pleth", "thor", 32, "", 3),
        Chan("OxStatus", "flat", 1, "", 3),
        Chan("SpO2", "spo2", 1, "%", 100),
        Chan("HR", "rate", 1, "bpm", 250),
        Chan("DHR", "rate", 1, "bpm", 250),
    ]


def _mros(number: int, visit: int) -> list[Chan]:
    ears, eyes = (("A1", "A2"), ("LOC", "ROC")) if visit == 1 else (("M1", "M2"), ("E1", "E2"))
    thorax, abdomen, belt = ("Thoracic", "Abdominal", 16) if visit == 1 else ("Chest", "ABD", 32)
    channels = [
        Chan("C3", "second_fpz", 256),
        Chan("C4", "central_fpz", 256),
        Chan(ears[0], "ear_l_fpz", 256),
        Chan(ears[1], "ear_r_fpz", 256),
        Chan(eyes[0], "eye_l_fpz", 256),
        Chan(eyes[1], "eye_r_fpz", 256),
        # the whole chin or heart is the difference of the two
        Chan("L Chin", "chin_l", 256),
        Chan("R Chin", "chin_r", 256),
        Chan("ECG L", "ecg_l", 512, "uV", 2000),
        Chan("ECG R", "ecg_r", 512, "uV", 2000),
        Chan(thorax, "thor", belt, "", 3),
        Chan(abdomen, "abdo", belt, "", 3),
        Chan("Airflow", "thor", 16, "", 3),
        Chan(("SAO2", "SpO2", "Sa02")[number % 3], "spo2", 1, "%", 100),
        Chan("HR", "rate", 1, "bpm", 250),
        Chan("STAT", "flat", 1, "", 3),
        Chan("Leg L", "flat", 64, "", 3),
        Chan("Cannula Flow", "thor", 64, "", 3),
    ]
    if number % 2:
        channels = [replace(c, label=c.label.replace(" ", "")) for c in channels]
    return channels


def _wsc(number: int, visit: int) -> list[Chan]:
    gamma = number % 2 == 0
    fs, unit = 100 if gamma else 200, "mV" if number % 4 == 3 else "uV"
    exg = {"E1": "eye_l", "E2": "eye_r", "C3_M2": "central", "O1_M2": "occipital"}
    exg |= {"chin": "chin"} if gamma else {"F3_M2": "frontal", "cchin_l": "chin"}
    return [
        *(Chan(label, source, fs, unit) for label, source in exg.items()),
        Chan("lleg_r", "flat", fs, "", 3),
        Chan("ECG", "ecg", fs, "uV", 2000),
        # a label that occurs twice must not keep a reader from the others
        *(Chan(label, "thor", fs, "", 3) for label in ("nas_pres", "FLOW", "FLOW", "thorax")),
        Chan("abdomen", "abdo", fs, "", 3),
        Chan("position", "flat", fs, "", 3),
        Chan("spo2", "spo2", fs, "%", 100),
    ]


def _apples(number: int, visit: int) -> list[Chan]:
    c3, c4, left, right, chin = (
        ("EEG_C3_A2", "EEG_C4_A1", "EOG_Left", "EOG_Right", "EMG_Chin")
        if number % 2
        else ("C3_M2", "C4_M1", "LOC", "ROC", "EMG")
    )
    return [
        Chan(chin, "chin", 200),
        Chan("ECG", "ecg", 200, "uV", 2000),
        Chan("pulse", "rate", 1, "bpm", 250),
        Chan("SpO2", "spo2", 1, "%", 100),
        Chan("abdomen", "abdo", 100, "", 3),
        Chan("thorax", "thor", 100, "", 3),
        Chan("LEG", "flat", 100, "", 3),
        Chan("O1_M2", "occipital", 100),
        Chan(c3, "second", 100),
        Chan(c4, "central", 100),
        Chan(left, "eye_l", 100),
        Chan(right, "eye_r", 100),
    ]


class Body:
    """What a night's sensors show, each source rendered once at the fastest rate of the brain."""

    def __init__(self, night: Night, fs: int) -> None:
        self.night, self.fs = night, fs
        # several channels show one source, and rendering is slow
        self.at = cache(self._at)
        self._base = cache(self._rendered)

    def _at(self, source: str, fs: int) -> np.ndarray:
        """Samples of a source at a rate, in uV, %, beats per minute or arbitrary units."""
        if source in ("spo2", "rate", "thor", "abdo", "flat") or source.startswith("ecg"):
            return self._slow(source, fs)
        samples = self._brain(source)
        if fs == self.fs:
            return samples
        divisor = np.gcd(fs, self.fs)
        return resample_poly(samples, fs // divisor, self.fs // divisor)

    def _brain(self, source: str) -> np.ndarray:
        """Electrodes: between two of them, or against Fpz with what Fpz alone shows."""
        if source.endswith("_fpz"):
            return self._brain(source.removesuffix("_fpz")) + self._own(source) + self._fpz()
        mixture = {"frontal": (1, 0), "occipital": (0, 1), "ear_l": (0, 0), "ear_r": (0, 0)}
        mixture |= {"central": (0.8, 0.2), "second": (0.65, 0.35)}
        if source in mixture:
            front, back = mixture[source]
            return front * self._base("EEG Fpz-Cz") + back * self._base("EEG Pz-Oz")
        if source.startswith("eye"):
            side = 0.5 if source == "eye_l" else -0.5
            return side * self._base("EOG horizontal") + _LEAK * self._base("EEG Fpz-Cz")
        sign = {"chin": 1.0, "chin_r": 0.5, "chin_l": -0.5}[source]
        level = np.repeat(self.night.render_emg_envelope(), self.fs)
        return sign * 3 * level * self._noise("chin")

    def _own(self, source: str) -> np.ndarray:
        """An ear's own signal, which the electrodes referred to it share."""
        ear = {
            "central_fpz": "ear_l",
            "second_fpz": "ear_r",
            "ear_l_fpz": "ear_l",
            "ear_r_fpz": "ear_r",
        }.get(source)
        return 10 * self._noise(ear) if ear else np.zeros(1)  # one zero, to be broadcast

    def _fpz(self) -> np.ndarray:
        return _COMMON_UV * self._noise("fpz")

    def _noise(self, name: str) -> np.ndarray:
        # by name, from the start of its stream: electrodes with one source have the same samples
        n = self.night.seconds * self.fs
        return self.night.stream("nsrr", name).standard_normal(n, dtype=np.float32)

    def _rendered(self, derivation: str) -> np.ndarray:
        return self.night.render(derivation, self.fs)

    def _slow(self, source: str, fs: int) -> np.ndarray:
        times = np.arange(self.night.seconds * fs) / fs
        if source == "flat":
            return np.zeros(len(times))
        if source == "spo2":
            return np.round(96 + np.clip(self._drift("spo2", times, 120), -3, 3))
        seconds = np.arange(self.night.seconds)
        if source in ("thor", "abdo"):
            rate = self.night.subject.breaths_per_minute / 60
            uneven = self._by_stage(_UNEVEN) * self._drift("breath", seconds, 20)
            turns = np.interp(times, seconds, np.cumsum(rate * (1 + uneven)))
            depth = np.exp(np.interp(times, seconds, 2 * uneven))
            return depth * np.sin(2 * np.pi * turns - (0.4 if source == "abdo" else 0))
        rate = self.night.subject.heart_per_minute / 60
        rate = rate * (1 + self._by_stage(_HEART) + 0.03 * self._drift("heart", seconds, 30))
        if source == "rate":
            return np.round(60 * np.interp(times, seconds, rate))
        phase = np.interp(times, seconds, np.cumsum(rate)) % 1
        # R peak, then the T wave
        beat = 800 * np.exp(-0.5 * ((phase - 0.5) / 0.012) ** 2)
        beat += 120 * np.exp(-0.5 * ((phase - 0.75) / 0.04) ** 2)
        return {"ecg": 1.0, "ecg_l": 0.5, "ecg_r": -0.5}[source] * beat

    def _by_stage(self, values: np.ndarray) -> np.ndarray:
        """A quantity of every second that follows the body's stage."""
        return (self.night.timeline.stage_weights() @ values).repeat(SLOT_SECONDS)

    def _drift(self, name: str, times: np.ndarray, step: int) -> np.ndarray:
        """Unit-variance drift with knots ``step`` seconds apart."""
        n = self.night.seconds // step + 2
        knots = self.night.stream("nsrr", name).standard_normal(n)
        return np.interp(times, np.arange(n) * step, knots)


def _write_edf(
    path: Path, night: Night, channels: list[Chan], start: datetime, more: int, *, undated: bool
) -> None:
    """Write an EDF, ``more`` seconds longer than its labels; some have records of 6 or 10 s."""
    import edfio

    body = Body(night, max(c.fs for c in channels if c.source in ("central", "central_fpz")))
    signals = []
    for chan in channels:
        samples = body.at(chan.source, chan.fs)
        length = len(samples) + more * chan.fs
        samples = np.pad(samples, (0, max(0, more * chan.fs)), "wrap")[:length]
        signals.append(
            edfio.EdfSignal.from_digital(
                digitised(samples, chan),
                chan.fs,
                label=chan.label,
                physical_dimension=chan.unit,
                physical_range=physical_range(chan),
                digital_range=(-32768, 32767),
            )
        )
    number = night.subject.number
    edf = edfio.Edf(
        signals,
        recording=edfio.Recording(startdate=start.date(), equipment_code="synthetic"),
        starttime=start.time(),
        # a file lengthened by 13 s holds no whole number of longer records
        data_record_duration=(1, 6, 10)[number % 3] if more == 0 else 1,
    )
    with written_whole(path) as temporary:
        edf.write(temporary)
        if undated:
            raw = bytearray(temporary.read_bytes())
            raw[168:176] = b"00.00.00"  # the start date; edfio cannot write zeros
            temporary.write_bytes(raw)


def physical_range(chan: Chan) -> tuple[float, float]:
    """Limits of a channel in its own unit."""
    limit = chan.limit * _SCALE.get(chan.unit, 1.0)
    return (0.0, limit) if chan.source in ("spo2", "rate") else (-limit, limit)


def digitised(samples: np.ndarray, chan: Chan) -> np.ndarray:
    """Digital values (16 bit) of physical ones, saturating at the channel's limits."""
    low, high = physical_range(chan)
    scaled = samples * _SCALE.get(chan.unit, 1.0)
    steps = np.rint((scaled - low) * (65535 / (high - low)) - 32768)
    return np.clip(steps, -32768, 32767).astype(np.int16)
