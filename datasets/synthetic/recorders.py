"""Cohorts whose subjects differ by recorder, electrodes and quality of sleep (``--varied``).

A model trained on nights of one recorder learns that recorder. Here each subject has a montage, an
amplifier, a sampling rate and artefacts of its own, far more different than any real cohort's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import signal

from datasets.synthetic.background import coloured_noise
from datasets.synthetic.night import Night
from datasets.synthetic.streams import stream
from datasets.synthetic.subject import Subject

RATES = (100, 128, 200, 256)
_KNOT_HZ = np.array([0.3, 1.0, 3.0, 8.0, 16.0, 30.0, 50.0])
_KNOT_DB = 2.5  # deviation of the response at each knot
_TAPS_SECONDS = 4
# nights of odd composition and how many subjects have one
ODD_NIGHTS = {"insomnia": 0.07, "no_n3": 0.05, "no_rem": 0.05, "nap": 0.04, "all_wake": 0.03}
_BEYOND_DB = 1.0
# muscle under the electrodes, of 12 nights in a laboratory: decibels of its bands below gamma, of
# W, N1, N2, N3 and REM below Wake, and how they come and go from slot to slot
_MUSCLE_BANDS_DB = np.array([-40.0, -35, -28, -16, -6, 0])
_MUSCLE_STAGES_DB = np.array([0.0, -7, -11, -13, -15])
_MUSCLE_SD_DB = np.array([8.0, 6, 2, 1, 2])
_MUSCLE_PERSISTENCE = 0.6
_NAP_HOURS, _WAKE_HOURS = (1.0, 2.0), 10.0


@dataclass(frozen=True)
class Recorder:
    """How one subject is recorded.

    ``mix`` (2, 3): both EEG channels out of Fpz-Cz, Pz-Oz and the EOG; ``response_db`` at seven
    frequencies; first-order high-pass and ``order``-th-order low-pass in Hz; ``noise_uv`` of the
    amplifier and ``hum_uv`` of the mains at ``hum_hz``; ``eyes`` the share of eye movements that is
    picked up, ``muscle_db`` the muscle of Wake at 39 Hz in dB above 1 uV**2/Hz.
    """

    fs: int
    mix: np.ndarray
    gain: float
    response_db: np.ndarray
    high_pass: float
    low_pass: float
    order: int
    noise_uv: float
    hum_uv: float
    hum_hz: float
    eyes: float
    muscle_db: float

    def tape(self, night: Night, channel: int) -> np.ndarray:
        """EEG ``channel`` (0 or 1) of a night in uV, float32 (seconds * fs,)."""
        night = replace(night, eyes=self.eyes)
        parts = zip(self.mix[channel], ("EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal"), strict=True)
        mixed = sum(np.float32(share) * night.render(name, self.fs) for share, name in parts)
        mixed += self._muscle(night, channel)
        rng = night.stream("recorder", str(channel))
        mixed += self.noise_uv * rng.standard_normal(len(mixed), dtype=np.float32)
        if self.hum_hz < self.fs / 2:  # else it would be sampled as another frequency
            phase = 2 * np.pi * self.hum_hz / self.fs * np.arange(len(mixed))
            mixed += (self.hum_uv * np.sin(phase)).astype(np.float32)
        # an odd number of taps around their middle: "same" shifts nothing in time
        return signal.oaconvolve(mixed, self._taps(), mode="same").astype(np.float32)

    def _muscle(self, night: Night, channel: int) -> np.ndarray:
        """Tonic and in bursts, most of it in Wake, uV (seconds * fs,)."""
        rng = night.stream("muscle", str(channel))
        weights = night.timeline.stage_weights()
        fresh = np.sqrt(1 - _MUSCLE_PERSISTENCE**2) * rng.standard_normal(len(weights))
        bursts = signal.lfilter([1.0], [1.0, -_MUSCLE_PERSISTENCE], fresh)
        level = self.muscle_db + weights @ _MUSCLE_STAGES_DB + bursts * (weights @ _MUSCLE_SD_DB)
        return coloured_noise(rng, (level[:, None] + _MUSCLE_BANDS_DB) / 10, self.fs)

    def _taps(self) -> np.ndarray:
        """Taps of the amplifier as a zero-phase filter."""
        hertz = np.linspace(0, self.fs / 2, 8 * self.fs + 1)
        # clipped, since the first frequency is 0 and its logarithm infinite
        knots = np.interp(np.log(hertz.clip(0.01)), np.log(_KNOT_HZ), self.response_db)
        squared = 10 ** (knots / 10)
        squared *= hertz**2 / (hertz**2 + self.high_pass**2)
        squared /= 1 + (hertz / self.low_pass) ** (2 * self.order)
        # firwin2 takes amplitudes, the response above is of power
        return signal.firwin2(
            _TAPS_SECONDS * self.fs + 1, hertz, self.gain * np.sqrt(squared), fs=self.fs
        )


def draw_recorder(subject: Subject) -> Recorder:
    """Draw the recorder of a subject, the same for all its nights."""
    rng = stream(subject.seed, "subject", subject.number, "recorder")
    frontal = rng.uniform(0.15, 1.0, 2)
    return Recorder(
        fs=int(rng.choice(RATES)),
        mix=np.stack((frontal, rng.uniform(0, 0.9, 2), rng.uniform(-0.25, 0.25, 2)), axis=1),
        gain=float(np.exp(rng.normal(0, 0.5))),
        response_db=rng.normal(0, _KNOT_DB, len(_KNOT_HZ)),
        high_pass=float(rng.uniform(0.05, 0.6)),
        low_pass=float(rng.uniform(25, 90)),
        order=int(rng.integers(1, 5)),
        noise_uv=float(np.exp(rng.uniform(np.log(0.1), np.log(2.0)))),
        # two recorders of three have no hum
        hum_uv=float(rng.choice([0.0, 0.0, 1.0]) * np.exp(rng.uniform(-1, 2))),
        hum_hz=float(rng.choice([50.0, 60.0])),
        # at central electrodes a tenth of what frontal ones see
        eyes=float(np.exp(rng.uniform(np.log(0.05), 0))),
        muscle_db=float(rng.uniform(-24, -4)),
    )


def vary(subject: Subject) -> Subject:
    """The subject as a patient may be: wakeful or sleepy, with other arousals, waves and ECG."""
    rng = stream(subject.seed, "subject", subject.number, "varied")
    arousals = float(np.exp(rng.uniform(np.log(0.5), np.log(12))))
    return replace(
        subject,
        beyond_db=_beyond(rng),
        traits=replace(
            subject.traits,
            deep=subject.traits.deep * float(np.exp(rng.uniform(-0.7, 0.4))),
            wakeful=subject.traits.wakeful * float(np.exp(rng.uniform(-0.3, 1.0))),
        ),
        rate=subject.rate
        | {
            "arousal": arousals,
            "movement": float(np.exp(rng.uniform(0, np.log(8)))),
            **{k: v * float(np.exp(rng.normal(0, 0.35))) for k, v in subject.rate.items()},
        },
        ecg_leak_uv=float(rng.uniform(2, 20)) if rng.random() < 0.5 else 0.0,
    )


def _beyond(rng: np.random.Generator) -> np.ndarray:
    """Decibels (5, 10) by which a patient's bands differ from the law's healthy subjects at home.

    Wake most, between a night at home and one in a laboratory with eyes closed: of 12 of those,
    the medians of Wake less N3 at C4-A1 are -8, -3, 1, 1 and 4 dB from delta to beta.
    """
    beyond = _BEYOND_DB * rng.standard_normal((5, 10))
    wake = np.array([2.5, 1.5, 2.5, 1.0, 1.0]) * rng.standard_normal(5)
    wake -= rng.uniform(0, 1) * np.array([10.0, 5.0, 5.0, 4.0, 10.0])
    beyond[0] += np.tile(wake, 2)
    return beyond


def odd_night(subject: Subject, hours: float | None) -> tuple[str | None, float | None]:
    """What is odd about a subject's nights, of ``ODD_NIGHTS`` or nothing, and their hours."""
    rng = stream(subject.seed, "subject", subject.number, "odd")
    shares = list(ODD_NIGHTS.values())
    kind = rng.choice([*ODD_NIGHTS, ""], p=[*shares, 1 - sum(shares)])
    if kind == "nap":
        return "nap", float(rng.uniform(*_NAP_HOURS))
    return str(kind) or None, _WAKE_HOURS if kind == "all_wake" else hours
