"""Graphoelements: what occurs when, how large, and where it is seen.

Rates are means per 30 s of each state; amplitudes are peak to peak in the derivation where a kind
is largest. Definitions after Rechtschaffen & Kales and the AASM manual; numbers within the ranges
of scoring practice, tuned so that band powers and time-domain figures match real nights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from datasets.synthetic import waveforms

W_OPEN, W_CLOSED = 0, 1  # columns of Timeline.state; N1..REM follow as 2..5


@dataclass(frozen=True)
class Kind:
    """A class of events.

    ``rates`` per epoch of [W eyes open, W eyes closed, N1, N2, N3, REM]; ``amplitude`` (median, log
    sd, lowest, highest) in uV; ``seconds`` (median, log sd, lowest, highest); ``hz`` (mean, sd);
    ``gains`` per derivation; ``supports``: stages it is evidence for.
    """

    wave: Callable
    rates: tuple[float, ...]
    amplitude: tuple[float, float, float, float]
    seconds: tuple[float, float, float, float]
    hz: tuple[float, float]
    gains: dict[str, float]
    supports: str


def _gains(fpz: float, pz: float, eog: float, emg: float = 0.0) -> dict[str, float]:
    return {"EEG Fpz-Cz": fpz, "EEG Pz-Oz": pz, "EOG horizontal": eog, "EMG submental": emg}


# no rates for what does not occur by a rate of its own: saccades come in bursts, which sawtooth
# waves lead into, slow waves of N3 in trains; hz (0, 0): no rhythm, or the subject's own spindles
KINDS: dict[str, Kind] = {
    "alpha": Kind(
        waveforms.alpha, (0, 8, 1.1, 0, 0.4, 0.15), (18, 0.3, 12, 60), (4, 0.6, 1, 15), (0, 0.3),
        _gains(0.25, 1, 0.05), "W",
    ),
    "vertex_wave": Kind(
        waveforms.vertex_wave, (0, 0, 0.8, 0.2, 0, 0), (65, 0.2, 50, 120), (0.42, 0.1, 0.3, 0.5),
        (0, 0), _gains(1, 0.3, 0.15), "N1",
    ),
    "spindle": Kind(
        waveforms.spindle, (0, 0, 0, 2.2, 0.9, 0), (25, 0.25, 15, 50), (0.95, 0.3, 0.5, 2), (0, 0),
        _gains(1, 0.5, 0.1), "N2",
    ),
    "k_complex": Kind(
        waveforms.k_complex, (0, 0, 0, 0.38, 0.1, 0), (108, 0.1, 100, 250), (0.9, 0.2, 0.5, 1.5),
        (0, 0), _gains(1, 0.35, 0.4), "N2",
    ),
    "slow_wave": Kind(
        waveforms.slow_wave, (0, 0, 0, 0.12, 0, 0), (82, 0.15, 75, 220), (0.85, 0.4, 0.5, 2),
        (0, 0), _gains(1, 0.5, 0.5), "N3",
    ),
    "theta_run": Kind(
        waveforms.theta_run, (0, 0, 1.6, 0.2, 0, 0.6), (13, 0.25, 10, 30), (2, 0.35, 1, 4),
        (5.5, 0.7), _gains(1, 0.6, 0.1), "N1 REM",
    ),
    "sawtooth": Kind(
        waveforms.sawtooth, (0, 0, 0, 0, 0, 0), (28, 0.25, 20, 60), (2.8, 0.25, 2, 5), (3.2, 0.6),
        _gains(1, 0.4, 0.15), "REM",
    ),
    "rem": Kind(
        waveforms.saccade, (0, 0, 0, 0, 0, 0), (88, 0.4, 50, 300), (0.55, 0.35, 0.25, 1.2),
        (14, 3.5), _gains(0.1, 0, 1), "REM",
    ),
    "sem": Kind(
        waveforms.slow_eye_movement, (0, 0.5, 1.1, 0, 0, 0), (58, 0.3, 40, 150),
        (3.2, 0.25, 1.8, 6), (0.38, 0.08), _gains(0.04, 0, 1), "N1",
    ),
    "blink": Kind(
        waveforms.blink, (9, 0.4, 0, 0, 0, 0), (125, 0.25, 80, 200), (0.3, 0.12, 0.2, 0.4), (0, 0),
        _gains(1, 0.02, 0.9), "W",
    ),
    "arousal": Kind(
        waveforms.arousal, (0, 0, 0, 0.06, 0.02, 0.05), (22, 0.25, 15, 80), (5, 0.4, 3, 15),
        (10, 1), _gains(1, 0.5, 0.4, 0.03), "n/a",
    ),
    "twitch": Kind(
        waveforms.twitch, (0, 0, 0, 0, 0, 0.8), (30, 0.3, 15, 80), (0.12, 0.3, 0.05, 0.25), (40, 5),
        _gains(0, 0, 0, 1), "REM",
    ),
}  # fmt: skip


def _distractors(kind: str, shape: Callable, elsewhere: str) -> dict[str, Kind]:
    """Kinds that resemble ``kind``: with another ``shape``, at 20 Hz, ``elsewhere`` alone."""
    spec = replace(KINDS[kind], rates=(), supports="n/a")
    return {
        f"{kind}_wrong_shape": replace(spec, wave=shape),
        f"{kind}_wrong_band": replace(spec, wave=waveforms.twitch, hz=(20.0, 1.0)),
        f"{kind}_wrong_channel": replace(spec, gains=_gains(0, 0, 0) | {elsewhere: 1}),
    }


DISTRACTORS: dict[str, Kind] = {
    **_distractors("spindle", waveforms.waning_spindle, "EOG horizontal"),
    **_distractors("k_complex", waveforms.backwards(waveforms.k_complex), "EOG horizontal"),
    **_distractors("slow_wave", waveforms.backwards(waveforms.slow_wave), "EOG horizontal"),
    **_distractors("rem", waveforms.backwards(waveforms.saccade), "EEG Fpz-Cz"),
}
ALL_KINDS = KINDS | DISTRACTORS
