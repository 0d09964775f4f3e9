"""Equalised spectra and varied recorders: what differs between recorders is gone, sleep is not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import signal

import generate_demo_data
import preprocess_sleepedf
from datasets.readers.edf import EdfFile
from datasets.readers.recording import Signal
from datasets.store.equalisation import _HERTZ, _LOG_DENSITY, equalise, middle_density
from datasets.store.store import Store
from datasets.synthetic.night import draw_night
from datasets.synthetic.recorders import RATES, draw_recorder, vary
from datasets.synthetic.subject import Difficulty, draw_subject
from evaluation.stagers import bundled
from evaluation.stagers.in_microvolt import without_unit
from evaluation.stagers.network_stager import is_unitless, opened_net
from tests.conftest import prepare
from tests.edf_files import write_pair
from utils.checkpoint import load_checkpoint, load_tensors
from utils.errors import UserError

FS = 100.0
HERTZ = np.array([1.0, 2, 4, 8, 16, 30])


@pytest.fixture(scope="module")
def night() -> np.ndarray:
    """150 minutes of noise that falls with frequency, with a 13 Hz spindle every other second."""
    rng = np.random.default_rng(0)
    noise = signal.lfilter([1], [1, -0.95], rng.standard_normal(round(9000 * FS)))
    seconds = np.arange(len(noise)) / FS
    burst = np.sin(2 * np.pi * 13 * seconds) * (seconds % 2 < 0.8)
    return 8 * noise + 12 * burst


def other_recorder(samples: np.ndarray) -> np.ndarray:
    """A smooth response of some decibels, and a third of the size."""
    taps = signal.firwin2(801, [0, 1, 5, 15, 50], [2.0, 1.6, 1.0, 0.6, 0.4], fs=FS)
    return signal.oaconvolve(samples, taps, mode="same") / 3


def decibels(samples: np.ndarray, hertz: np.ndarray = HERTZ) -> np.ndarray:
    grid, density, _ = middle_density(samples, FS)
    return 10 * np.interp(hertz, grid, density)


def test_two_recorders_become_one(night):
    before = decibels(night) - decibels(other_recorder(night))
    after = decibels(equalise(night, FS, unit_known=True)) - decibels(
        equalise(other_recorder(night), FS, unit_known=True)
    )
    assert np.ptp(before) > 9
    # 300 epochs against the 60 that hold a night as it is
    assert np.abs(after).max() < 60 / 360 * np.abs(before).max() + 0.5


def test_an_unknown_unit_does_not_matter(night):
    """Millivolts called nothing: the level is free, and few epochs do not bind it."""
    loud = decibels(equalise(night, FS, unit_known=True))
    np.testing.assert_allclose(decibels(equalise(night * 1e-3, FS, unit_known=False)), loud, atol=6)
    short = night[: round(300 * FS)]
    quiet = decibels(equalise(short * 1e-3, FS, unit_known=False))
    np.testing.assert_allclose(quiet, decibels(equalise(short, FS, unit_known=False)), atol=0.1)
    assert decibels(equalise(short * 1e-3, FS, unit_known=True)).max() < loud.min()


@pytest.mark.parametrize("factor", [1e-9, 1e-6, 1e3])
def test_the_size_of_numbers_does_not_matter(night, factor):
    """Volts: an EEG of 1e-5, whose density is 1e-12 and is no silence."""
    some = night[: round(3600 * FS)].astype(np.float32)
    usual = equalise(some, FS, unit_known=False)
    np.testing.assert_allclose(equalise(some * factor, FS, unit_known=False), usual, atol=1e-3)


def test_an_unnamed_unit_is_microvolts_where_it_was_known():
    samples = np.arange(10.0)
    volts = Signal(1.0, "V", 10.0, lambda start, stop: samples[int(start) : int(stop)], (2.0, 3.0))
    bare = without_unit(volts)
    assert bare.unit == "" and bare.scale == (2e6, 3.0)
    assert bare.read(2, 4).tolist() == [2e6, 3e6]
    assert without_unit(replace(volts, unit="mmHg")).read(2, 4).tolist() == [2.0, 3.0]


def test_a_short_file_is_left_nearly_as_it_is(night):
    short = night[: round(150 * FS)]
    change = decibels(equalise(short, FS, unit_known=True)) - decibels(short)
    assert np.abs(change).max() < 1.5


def test_what_is_narrow_in_frequency_or_time_stays(night):
    """A spindle peak keeps most of its height, and nothing moves in time."""
    equalised = equalise(night, FS, unit_known=True)
    at = np.array([9.0, 13.0, 18.0])
    before, after = decibels(night, at), decibels(equalised, at)
    height = [b[1] - (b[0] + b[2]) / 2 for b in (before, after)]
    assert height[1] > 0.6 * height[0] > 3
    lags = signal.correlate(equalised[:20000], night[:20000], mode="same", method="fft")
    assert lags.argmax() == 10000
    assert len(equalised) == len(night)


def test_drift_is_taken_out_and_silence_stays_silence(night):
    drifting = night + 200 * np.sin(2 * np.pi * 0.05 * np.arange(len(night)) / FS)
    equalised = equalise(drifting, FS, unit_known=True)
    assert decibels(equalised, np.array([0.05])) < decibels(drifting, np.array([0.05])) - 15
    np.testing.assert_array_equal(equalise(np.zeros(6000), FS, unit_known=True), np.zeros(6000))
    held = np.concatenate((np.zeros(30000), night))  # a lead that was off for five minutes
    np.testing.assert_allclose(
        decibels(equalise(held, FS, unit_known=True)),
        decibels(equalise(night, FS, unit_known=True)),
        atol=0.5,
    )


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_shares_of_stages_do_not_matter(share):
    """Deep sleep is brought to the same spectrum whether it is a fifth of the night or most."""
    rng = np.random.default_rng(0)
    slow = signal.lfilter([1], [1, -0.99], rng.standard_normal((600, 3000)))
    fast = rng.standard_normal((600, 3000))
    is_deep = (np.arange(600) < 600 * share)[:, None]
    night = equalise(np.where(is_deep, 3 * slow, 8 * fast).ravel(), FS, unit_known=True)
    deep, wake = (decibels(part) for part in np.split(night, [round(1_800_000 * share)]))
    # each as far from the common spectrum as the other, which is therefore in the middle
    common = 10 * np.interp(np.log(HERTZ), np.log(_HERTZ), _LOG_DENSITY)
    np.testing.assert_allclose((deep + wake) / 2, common, atol=2.5)


def test_every_person_of_a_varied_cohort_has_a_recorder():
    subjects = [draw_subject(0, k, Difficulty(1)) for k in range(40)]
    recorders = [draw_recorder(person) for person in subjects]
    assert {recorder.fs for recorder in recorders} == set(RATES)
    assert draw_recorder(subjects[3]).gain == recorders[3].gain
    gains = np.array([recorder.gain for recorder in recorders])
    assert gains.max() / gains.min() > 4
    varied = [vary(person) for person in subjects]
    assert np.ptp([p.traits.wakeful for p in varied]) > np.ptp([p.traits.wakeful for p in subjects])
    assert all(p.rate["arousal"] > 0 for p in varied)


def test_muscle_tells_wake_and_central_electrodes_see_no_blinks():
    """What lies between two tapes of a night that differ by muscle alone, or by eyes alone."""
    subject = vary(draw_subject(0, 3, Difficulty(1)))
    night = draw_night(subject, 1, hours=2.0)
    plain = replace(draw_recorder(subject), fs=100, noise_uv=0.0, hum_uv=0.0, low_pass=90.0)
    without = replace(plain, muscle_db=-200.0, eyes=0.0)
    silent = without.tape(night, 0)
    muscle, eyes = (
        replace(without, **change).tape(night, 0) - silent
        for change in ({"muscle_db": 0.0}, {"eyes": 0.5})
    )
    weights = night.timeline.stage_weights().argmax(axis=1).repeat(200)
    rms = [np.sqrt(np.mean(muscle[weights == stage] ** 2)) for stage in range(5)]
    assert rms[0] > 2 * max(rms[1:])
    hertz, density = signal.welch(muscle[weights == 0], 100, nperseg=400)
    assert density[hertz > 30].mean() > 20 * density[(hertz > 4) & (hertz < 12)].mean()
    halved = replace(without, eyes=0.25).tape(night, 0) - silent
    np.testing.assert_allclose(2 * halved, eyes, atol=1e-2)
    assert np.abs(eyes).max() > 20


def test_a_varied_cohort_from_files_to_a_equalised_store(tmp_path):
    words = ["--varied", "--subjects", "3", "--nights", "1", "--hours", "0.5", "--jobs", "1"]
    generate_demo_data.main([*words, "--output", str(tmp_path / "a")])
    generate_demo_data.main([*words, "--output", str(tmp_path / "b")])
    files = sorted((tmp_path / "a").glob("*-PSG.edf"))
    assert [p.read_bytes() for p in files] == [
        p.read_bytes() for p in sorted((tmp_path / "b").glob("*-PSG.edf"))
    ]
    recorders = [draw_recorder(vary(draw_subject(0, k, Difficulty(1)))) for k in range(3)]
    rates = [EdfFile(p).channel("EEG Fpz-Cz").fs for p in files]
    assert rates == [recorder.fs for recorder in recorders]
    preprocess_sleepedf.main(
        [
            "--raw_path",
            str(tmp_path / "a"),
            "--save_path",
            str(tmp_path / "store"),
            "--keep_all",
            "--channels",
            "EEG",
            "--resample",
            "100",
            "--preset",
            "equalised",
            "--figures",
            "0",
        ]
    )
    store = Store(tmp_path / "store")
    about = json.loads((tmp_path / "store" / "dataset.json").read_text())
    assert store.settings["preset"] == "equalised" and "--preset equalised" in json.dumps(about)
    with pytest.raises(UserError, match="--varied belongs to --format sleepedf"):
        generate_demo_data.main(["--varied", "--format", "dreem"])


def test_the_old_name_of_the_preset_is_known(tmp_path):
    """Commands from before call it "levelled"; what was prepared before is refused."""
    write_pair(tmp_path / "raw", [("W", 30), ("2", 30)], 60)
    words = ["--channels", "EEG", "--keep_all", "--preset"]
    prepare(tmp_path / "raw", tmp_path / "s", *words, "levelled")
    path = tmp_path / "s" / "nights" / "SC4001E0" / "night.json"
    facts = json.loads(path.read_text())
    assert facts["settings"]["preset"] == "equalised"
    assert facts["settings"].pop("equalised_about") == "midrange"
    path.write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"other settings \(equalised_about\)"):
        prepare(tmp_path / "raw", tmp_path / "s", *words, "equalised")


def test_weights_of_an_earlier_equalisation_are_refused(tmp_path):
    """They would be given signals of another spectrum than they learned from."""
    content = load_tensors(bundled.weights_of(bundled.parts()["default-spectra"])[0])
    assert is_unitless(load_checkpoint(bundled.weights_of(bundled.parts()["default-spectra"])[0]))
    content["trained"]["preparation"].pop("equalised_about")
    content["trained"]["preparation"]["preset"] = "levelled"
    torch.save(content, tmp_path / "old.pt")
    with pytest.raises(UserError, match=r"an earlier version equalised .* train again"):
        opened_net(load_checkpoint(tmp_path / "old.pt"))
