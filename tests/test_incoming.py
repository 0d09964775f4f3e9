"""What enters: units, sizes, labels that lie, samples that are no numbers, rates of odd clocks."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import mne
import numpy as np
import pytest

from datasets.quality import quality_flags, without_signal
from datasets.readers import dreem
from datasets.readers.any_file import opened
from datasets.readers.channels import assessed, choose, match
from datasets.readers.electrodes import site_rank
from datasets.readers.incoming import believed_unit, denies
from datasets.readers.missing import filled
from datasets.readers.recording import Recording, Signal, unit_named
from datasets.store.descriptions import note_lines
from datasets.store.filters import butterworth_sections, resample
from datasets.store.preparation import RolePreprocessing, Settings, prepare
from evaluation.stagers.interface import stage
from tests.odd_edf import Chan, eeg, pink, write_odd
from utils.errors import UserError

EEG = [("EEG Fpz-Cz", "EEG")]


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        *((text, "uV") for text in (
            "uV", "UV", "µV", "μV", "ÂµV", "Î¼V", "ìV", "microV", "microvolt", "Microvolts",
            "uVolt", "mcV", "(uV)", "[µV]", "µ V", "uVrms", "?V", "\ufffdV", " uV\0",
            "㎶", "mkV", "мкВ", "мкV", "¦ÌV", "?ÊV",
        )),
        *((text, "mV") for text in ("mV", "MV", "millivolt", "milliV", "mVolts")),
        *((text, "nV") for text in ("nV", "nanovolt", "NV")),
        *((text, "V") for text in ("V", "v", "Volt", "volts")),
        ("", ""), ("  ", ""), ("kOhm", "kOhm"), ("mmHg", "mmHg"), ("%", "%"), ("a.u.", "a.u"),
        ("mL", "mL"), ("uA", "uA"), ("Hz", "Hz"),
    ],
)  # fmt: skip
def test_spellings_of_units(written, unit):
    assert unit_named(written) == unit


@pytest.mark.parametrize(
    "raw", [b"\xb5V", "µV".encode(), "μV".encode(), b"microV", b"uV", "μV".encode("iso8859-7")]
)
def test_microvolts_in_any_encoding_are_filtered_in_stores(tmp_path, raw):
    file = opened(write_odd(tmp_path / "a.edf", [eeg(unit=raw)]))
    (one,) = match(file, EEG, {}).values()
    assert one.signal.unit == "uV" and one.is_sized and one.note is None


def of(samples: np.ndarray, unit: str = "uV", fs: float = 100.0) -> Signal:
    def read(start: float, stop: float) -> np.ndarray:
        return samples[round(start * fs) : round(stop * fs)]

    return Signal(fs, unit, len(samples) / fs, read)


@pytest.mark.parametrize(
    ("named", "size", "unit", "believed"),
    [
        ("uV", 20, "uV", True),
        ("mV", 0.02, "mV", True),
        ("V", 2e-5, "V", True),
        ("nV", 2e4, "nV", True),
        ("mV", 20, "uV", False),  # microvolts whose header has mV (CFS)
        ("V", 20, "uV", False),
        ("uV", 2e-5, "V", False),
        ("uV", 0.02, "mV", False),
        ("", 20, "uV", False),
        ("kOhm", 20, "uV", False),
        ("uV", 1e7, "", False),
    ],
)
def test_a_unit_is_believed_where_its_size_can_be(named, size, unit, believed):
    given, why = believed_unit(of(pink(600, 100, sd=size), named), "EEG")
    assert given == unit and (why == "") == believed


def test_a_dead_lead_at_night_is_no_evidence_of_the_unit():
    samples = pink(3600, 100)
    samples[90_000:270_000] = 0.3  # half of the night, and all of its middle
    assert believed_unit(of(samples), "EEG") == ("uV", "")
    assert believed_unit(of(np.zeros(60_000), "mV"), "EEG") == ("mV", "")


def test_stores_take_microvolts_for_what_they_are(tmp_path):
    path = write_odd(tmp_path / "a.edf", [eeg(unit="mV", epochs=20)])
    recording = Recording("n", "n", 1, {LABEL: _signal(path)}, (), np.zeros(20, np.int8), None)
    prepared = prepare(recording, Settings("c", "keep_all", (LABEL,)), {"EEG": (LABEL,)})
    assert prepared.signals[100.0].std() == pytest.approx(20, rel=0.1)
    assert "is no EEG in mV by its size, taken as uV" in prepared.recording.note
    with pytest.raises(UserError, match="is in 'mmHg'; voltages are in nV, uV, mV, V"):
        assessed(_only(of(pink(60, 100), "mmHg")), "EEG", "n")
    with pytest.raises(UserError, match="no EEG in any unit"):
        assessed(_only(of(pink(60, 100, sd=1e7), "uV")), "EEG", "n")


LABEL = "EEG C4-M1"


def _signal(path: Path) -> Signal:
    file = opened(path)
    channel = file.channel(LABEL)
    return Signal(
        channel.fs, unit_named(channel.unit), file.seconds, lambda a, b: file.read(LABEL, a, b)
    )


def _only(signal: Signal):
    return choose(["x"], {"x": signal}, {}, "n")["x"]


# ---------------------------------------------------------------- labels


NOT_EEG = (
    "EEG EKG1-REF", "EEG ECG", "EEG Pulse", "EEG HR", "EEG RESP1-REF", "EEG Airflow", "EEG SpO2",
    "EEG Snore", "EEG Thorax", "EEG LOC-REF", "EEG ROC", "EEG EOG-L", "EEG LEOG-A2", "EEG EMG-REF",
    "EEG Chin", "EEG A1-REF", "EEG A1-A2", "EEG M2", "EEG REF", "EEG GND", "EEG Impedance",
    "EEG quality", "EEG1_Off", "EEG events", "EEG Marker", "EEG Trigger", "EEG Photic", "EEG DC1",
    "EEG position", "EEG Temp", "EEG Batt", "EEG SQI", "EEG IBI", "EEGQuality", "EEG Status",
    "EEG E1", "EEG-E2-M2", "EEG PR", "EEG BP", "EEG OSAT", "EEG Plet", "EEG Audio", "EEG Movement",
    "EEG spare", "EEG unused", "EEG Trend", "EEG Kinn", "EEG Auge li", "EEG Herz", "EEG2_Sense",
    "EEG (disconn.)", "EEG Vitals", "EEG SEF95",
)  # fmt: skip


@pytest.mark.parametrize("label", NOT_EEG)
def test_labels_that_begin_with_eeg_and_are_none(tmp_path, label):
    assert denies(label, "EEG")
    names = [label[:16], "EEG C4-REF"]
    file = opened(write_odd(tmp_path / "a.edf", [eeg(n, seed=k) for k, n in enumerate(names)]))
    assert match(file, EEG, {})["EEG Fpz-Cz"].parts == ("EEG C4-REF",)
    # what a user names is taken
    assert match(file, EEG, {"EEG": label[:16]})["EEG Fpz-Cz"].parts == (label[:16],)


@pytest.mark.parametrize("label", ["EEG X7", "EEG aEEG", "EEG Q-Wort", "EEG Sp1", "EEG N/C"])
def test_an_eeg_that_nobody_knows_comes_behind_electrodes(tmp_path, label):
    file = opened(write_odd(tmp_path / "a.edf", [eeg(label), eeg("EEG C3-A2", seed=1)]))
    assert match(file, EEG, {})["EEG Fpz-Cz"].parts == ("EEG C3-A2",)
    alone = opened(write_odd(tmp_path / "b.edf", [eeg(label)]))
    assert match(alone, EEG, {})["EEG Fpz-Cz"].parts == (label,)


@pytest.mark.parametrize(
    ("label", "role"),
    [("POL C3", "EEG"), ("A2-C3", "EEG"), ("M1-C4", "EEG"), ("C3 [uV]", "EEG"), ("1 C4-M1", "EEG"),
     ("EEG LOC-Ref", "EOG"), ("EEG E1-M2", "EOG"), ("VEOG", "EOG"), ("Auge links", "EOG"),
     ("EEG Chin1", "EMG"), ("Kinn", "EMG")],
)  # fmt: skip
def test_labels_as_recorders_write_them(tmp_path, label, role):
    file = opened(write_odd(tmp_path / "a.edf", [eeg(label)]))
    roles = [(one, one) for one in ("EEG", "EOG", "EMG")]
    assert {k: one.parts for k, one in match(file, roles, {}).items()} == {role: (label,)}


@pytest.mark.parametrize("label", ["E10", "E25", "EMG Bein", "EMG TA", "EMG FDS", "EEG E1"])
def test_no_eye_and_no_chin(tmp_path, label):
    file = opened(write_odd(tmp_path / "a.edf", [eeg(label)]))
    role = "EEG" if label == "EEG E1" else "EMG" if "EMG" in label else "EOG"
    assert role not in match(file, [(role, role)], {})


@pytest.mark.parametrize("unit", ["kOhm", "%", "mmHg", "bpm"])
def test_other_units_are_passed_over_for_a_voltage(tmp_path, unit):
    channels = [eeg("EEG C4", unit=unit), eeg("EEG C3", seed=1)]
    file = opened(write_odd(tmp_path / "a.edf", channels))
    assert match(file, EEG, {})["EEG Fpz-Cz"].parts == ("EEG C3",)
    assert file.notes == [f"EEG (EEG C4) is in {unit}, no voltage: passed over"]
    assert match(file, EEG, {"EEG": "EEG C4"})["EEG Fpz-Cz"].parts == ("EEG C4",)


@pytest.mark.parametrize(
    ("label", "role"),
    [
        *((label, "EEG") for label in (
            "EEG", "EEG 2", "EEG(sec)", "EEG1", "EEG Fpz-Cz", "EEG C4-A1", "EEG T3-REF", "EEG CP5",
            "EEG F4-LE", "EEG POz", "EEG Pz-Oz", "EEG FC1-AVG", "EEG A1-C3", "EEG C3-M2 clean",
        )),
        *((label, "EOG") for label in ("EOG LOC-A2", "EOG left", "EOG(L)", "EOG horizontal")),
        *((label, "EMG") for label in ("EMG", "EMG submental", "EMG Chin1-Chin2", "EMG1")),
        *((label, "ECG") for label in ("ECG", "ECG II", "ECG L-ECG R", "ECG1")),
        ("SaO2 quality", "SPO2"),
    ],
)  # fmt: skip
def test_labels_that_are_what_they_say(label, role):
    assert not denies(label, role)


@pytest.mark.parametrize(
    "label", ["EMG Leg", "EMG RLeg", "EMG TIB", "EMG/LAT", "EMG EKG", "EMG off"]
)
def test_legs_are_no_chin(label):
    assert denies(label, "EMG")


@pytest.mark.parametrize("label", ["EOG quality", "EOG_Off", "EOG Impedance"])
def test_eyes_that_are_none(label):
    assert denies(label, "EOG")


@pytest.mark.parametrize(
    "label",
    ["Fpz-Cz", "fpz cz", "Pz-Oz", "C4M1", "C4-A1", "T3", "T4", "F7", "F8", "FT10", "CP5", "AF4-M1",
     "PO3", "TP9", "Fp1-F7", "Cz", "O1-M2", "P8", "Iz", "C3-LE", "F3-Avg"],
)  # fmt: skip
def test_bare_derivations_are_eeg(tmp_path, label):
    file = opened(write_odd(tmp_path / "a.edf", [eeg("Resp"), eeg(label, seed=1)]))
    assert match(file, EEG, {})["EEG Fpz-Cz"].parts == (label,)


@pytest.mark.parametrize(
    "label", ["O2", "SpO2", "CO2", "EtCO2", "Pulse", "Flow", "T", "PTT", "Chin"]
)
def test_what_is_no_electrode(label):
    assert site_rank(label) is None


def slow(label: str, fs: int = 1) -> Chan:
    """Something that varies with every sample, slowly."""
    values = np.random.default_rng(0).integers(-2000, 2000, 120 * fs)
    return Chan(label, values, fs)


@pytest.mark.parametrize("fs", [1, 10, 32])
def test_an_envelope_fulfils_no_waveform(tmp_path, fs):
    file = opened(write_odd(tmp_path / "a.edf", [eeg("EEG Fpz-Cz"), slow("EMG submental", fs)]))
    three = [("EEG", "EEG"), ("EMG", "EMG")]
    assert list(match(file, three, {})) == ["EEG"]
    assert file.notes == [f"EMG (EMG submental) has {fs} Hz, which is no waveform: passed over"]
    # a checkpoint that was trained on this very channel, and a user who names it, get it
    assert "EMG submental" in match(file, [("EMG submental", "EMG")], {})
    chosen = match(file, three, {"EMG": "EMG submental"})["EMG"]
    assert f"has {fs} Hz, no waveform" in chosen.note


def test_channels_without_a_signal_are_passed_over_by_name(tmp_path):
    dead = Chan("EEG F4-M1", np.full(12_000, 7), 100)
    broken = eeg("EEG F3-M2", physical=(5, 5))
    file = opened(write_odd(tmp_path / "a.edf", [dead, broken, eeg("EEG C4-M1")]))
    assert match(file, EEG, {})["EEG Fpz-Cz"].parts == ("EEG C4-M1",)
    assert "EEG (EEG F4-M1) is flat throughout: passed over" in file.notes
    assert any("'EEG F3-M2' has an empty value range" in note for note in file.notes)


# ---------------------------------------------------------------- samples that are no numbers


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -3e9])
@pytest.mark.parametrize("where", [slice(0, 5), slice(50, 51), slice(90, 100)])
def test_what_is_missing_becomes_a_straight_line(value, where):
    samples = np.arange(100.0)
    samples[where] = value
    mended = filled(samples, np.abs(samples) < 1e9)
    known = np.r_[: where.start, where.stop : 100]
    assert np.isfinite(mended).all() and (mended[known] == known).all()
    expected = np.clip(np.arange(100), known.min(), known.max())
    np.testing.assert_allclose(mended, expected)
    assert not filled(np.full(5, value), np.zeros(5, bool)).any()


def record(path: Path, lost: slice, value: float, n: int = 40) -> Path:
    """A Dreem record of ``n`` epochs with a hole."""
    x = pink(30 * n, 250)
    x[lost] = value
    with h5py.File(path, "w") as file:
        file["signals/eeg/C3_M2"] = x
        file["hypnogram"] = np.resize([0, 1, 2, 3, 4], n)
        file.attrs["description"] = json.dumps(
            [{"fs": 250, "unit": "µV", "path": "signals/eeg/C3_M2", "name": "C3_M2"}]
        )
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e20])
@pytest.mark.parametrize("bandpass", [None, (0.3, 35.0)])
def test_a_hole_costs_its_own_epoch_in_stores(tmp_path, value, bandpass):
    path = record(tmp_path / "a.h5", slice(50_000, 50_100), value)
    settings = Settings("c", "keep_all", ("EEG",), bandpass=bandpass, fs=100.0)
    prepared = prepare(dreem.read(dreem.Record(path)), settings, dreem.ROLES)
    assert np.isfinite(prepared.signals[100.0]).all()
    assert np.flatnonzero(prepared.stages == -1).tolist() == [6]
    assert "1 epochs lack samples: filled, and unscored" in prepared.recording.note
    whole = record(tmp_path / "b.h5", slice(0), 0)
    other = prepare(dreem.read(dreem.Record(whole)), settings, dreem.ROLES)
    apart = np.abs(prepared.signals[100.0] - other.signals[100.0]).max(axis=(1, 2))
    assert apart[[0, 1, 2, 3, 4, *range(8, 40)]].max() < 1e-3 * 20


def test_a_channel_without_numbers_is_refused_by_name(tmp_path):
    path = record(tmp_path / "a.h5", slice(None), np.nan)
    with pytest.raises(UserError, match="'C3_M2' has no sample that is a number"):
        prepare(dreem.read(dreem.Record(path)), Settings("c", "keep_all", ("EEG",)), dreem.ROLES)
    with pytest.raises(UserError, match=r"EEG \(C3_M2\) has no sample that is a number: passed"):
        stage(path, "default-spectra")


@pytest.mark.parametrize("value", [np.nan, 1e3])
def test_a_raw_with_a_hole_and_a_dead_lead(value):
    samples = 1e-6 * pink(30 * 130, 100)
    samples[3000 * 20 + 7] = value
    samples[3000 * 50 : 3000 * 52] = 0
    raw = mne.io.RawArray(samples[None], mne.create_info(["EEG"], 100.0, "eeg"), verbose="error")
    staged = stage(raw, "default-spectra")
    assert np.isfinite(staged.probabilities).all()
    lost = [20, 50, 51] if np.isnan(value) else [50, 51]
    assert np.flatnonzero(staged.scored == -1).tolist() == lost
    assert staged.quality_flags[20] in ("EEG missing samples", "EEG artefact")
    assert [staged.annotations().description[k] for k in lost] == ["Sleep stage ?"] * len(lost)
    assert (staged.hypnogram().hypno.iloc[lost] == "UNS").all()
    assert (staged.stages >= 0).all()


def test_which_epochs_have_nothing_to_stage():
    flags = ["", "gap in the recording", "E flat", "F flat", "E flat; F flat", "E artefact",
             "F missing samples", "E flat; gap in the recording"]  # fmt: skip
    assert without_signal(flags, ["E", "F"]).tolist() == [0, 1, 0, 0, 1, 0, 1, 1]
    assert without_signal(flags, ["E"]).tolist() == [0, 1, 1, 0, 1, 0, 1, 1]
    x = np.random.default_rng(0).normal(0, 20, 9000)
    x[3000:3040] = np.nan
    assert quality_flags({"E": of(x)}, {"E"}, np.zeros((0, 2)), 3) == ["", "E missing samples", ""]


# ---------------------------------------------------------------- odd clocks


@pytest.mark.parametrize("fs", [199.99, 500.02, 256.016, 600.614990234375, 100.0001, 99.99999, 128])
@pytest.mark.parametrize("new_fs", [100.0, 60.0])
def test_rates_of_odd_clocks_keep_time_over_a_night(fs, new_fs):
    """A tone at the end of a recording lies where it did, and none of it is lost."""
    seconds = 1800.0
    times = np.arange(round(seconds * fs)) / fs
    tone = np.sin(2 * np.pi * 7 * times)
    got = resample(tone, fs, new_fs)
    expected = np.sin(2 * np.pi * 7 * np.arange(len(got)) / new_fs)
    inner = slice(200, -200)
    assert np.abs(got - expected)[inner].max() < 6e-3
    assert abs(len(got) - seconds * new_fs) <= 2


def test_odd_clocks_alias_no_more_than_simple_ratios():
    times = np.arange(200_000) / 199.99
    assert np.abs(resample(np.sin(2 * np.pi * 70 * times), 199.99, 100.0))[200:-200].max() < 0.02


@pytest.mark.parametrize("fs", [199.99, 500.02, 256.016, 600.614990234375])
def test_nights_of_odd_rates_are_prepared(fs):
    n = 11
    samples = pink(30 * n, fs, sd=20)[: round(30 * n * fs)]
    signal = of(samples, fs=fs)
    recording = Recording("n", "n", 1, {LABEL: signal}, (), np.zeros(n, np.int8), None)
    for settings, rate in (
        (Settings("c", "keep_all", (LABEL,), bandpass=(0.3, 35.0), fs=100.0), 100.0),
        (Settings("c", "keep_all", (LABEL,)), float(round(fs))),  # the nearest that fills epochs
        (Settings("c", "keep_all", (LABEL,), fs=100.0, preset="equalised"), 100.0),
    ):
        prepared = prepare(recording, settings, {"EEG": (LABEL,)})
        assert prepared.signals[rate].shape == (n, 1, round(30 * rate))
        assert np.isfinite(prepared.signals[rate]).all()


def test_a_filter_that_leaves_nothing_is_an_error():
    with pytest.raises(
        ValueError, match="a high-pass of 10 Hz leaves nothing of a signal of 16 Hz"
    ):
        butterworth_sections(10.0, None, 16.0)
    signal = of(pink(600, 16), fs=16)
    recording = Recording(
        "n", "n", 1, {"EMG": signal}, (), np.zeros(20, np.int8), None, None, {"EMG": "EMG"}
    )
    kept = {"EMG": RolePreprocessing("uV", 10.0)}
    with pytest.raises(UserError, match="leaves nothing"):
        prepare(recording, Settings("c", "keep_all", ("EMG",), fs=100.0, kept=kept), {})
    eeg16 = Recording("n", "n", 1, {LABEL: of(pink(600, 60), fs=60)}, (), np.zeros(20), None)
    with pytest.raises(UserError, match=r"--bandpass: band-pass 0\.3-35 Hz needs"):
        prepare(eeg16, Settings("c", "keep_all", (LABEL,), bandpass=(0.3, 35.0)), {"EEG": (LABEL,)})


def test_notes_of_a_store_are_lines_and_not_too_many(tmp_path):
    for k in range(14):
        (tmp_path / f"n{k:02}").mkdir()
        facts = {"note": f"odd\n{k}"} if k > 1 else {}
        (tmp_path / f"n{k:02}" / "night.json").write_text(json.dumps(facts))
    lines = note_lines(tmp_path)
    assert lines[0] == r"  note: n02: odd\n2" and len(lines) == 11
    assert lines[-1].startswith("  note: 2 more")
