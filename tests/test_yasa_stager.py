"""YASA as a stager: its own answers, whatever the unit; reasons that add up."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import edfio
import joblib
import mne
import numpy as np
import pytest
import yasa
from sklearn.exceptions import InconsistentVersionWarning

import predict
from datasets.readers.any_file import opened
from datasets.readers.recording import Signal
from evaluation.stagers.interface import stage
from evaluation.stagers.stager import Asked
from evaluation.stagers.yasa_stager import YasaStager, is_envelope
from evaluation.stagers.yasa_trees import rescaled
from interpret.feature_contributions import GROUPS, SPANS, place_of
from tests.index_schema import check_index
from utils.errors import UserError
from utils.stages import STAGES

CLASSIFIERS = sorted((Path(yasa.__file__).parent / "classifiers").glob("*.joblib"))


@pytest.fixture(scope="module")
def night(raw) -> Path:
    return sorted(raw.glob("*PSG.edf"))[0]


@pytest.fixture(scope="module")
def staged(night):
    return YasaStager().stage(opened(night), Asked())


def copy_of(night: Path, path: Path, *, unit: str = "uV", gain: float = 1.0, fs=None) -> Path:
    """The EEG and EOG of a night with another unit, gain, or (EOG) a rate of 1 in ``fs``."""
    signals = []
    for signal in edfio.read_edf(night).signals[:3]:
        if signal.label.startswith("EEG Pz"):
            continue
        data, rate = signal.data, signal.sampling_frequency
        if fs and "EOG" in signal.label:
            data, rate = data[::fs], rate / fs
        top = float(np.abs(data).max()) * gain
        one = edfio.EdfSignal(
            data * gain, rate, label=signal.label, physical_dimension=unit,
            physical_range=(-top, top),
        )  # fmt: skip
        signals.append(one)
    edfio.Edf(signals).write(path)
    return path


def test_it_is_yasas_own_answer(night, staged):
    """The same numbers as YASA's interface gives when it is called by hand."""
    raw = mne.io.read_raw_edf(night, include=["EEG Fpz-Cz", "EOG horizontal"], verbose="error")
    own = yasa.SleepStaging(raw, "EEG Fpz-Cz", eog_name="EOG horizontal")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        proba = own.predict().proba
    expected = proba[["WAKE", "N1", "N2", "N3", "REM"]].to_numpy()
    # both read the same integers, but scale them to volts in another order
    assert np.abs(staged.probabilities - expected).mean() < 1e-3
    assert staged.channels == {"EEG": "EEG Fpz-Cz", "EOG": "EOG horizontal"}
    assert staged.unit == "µV" and staged.absent == ["EMG"]
    assert "EMG (EMG submental) has 1 Hz" in staged.notes[0]
    assert staged.expert_path is not None and len(staged.expert) == len(expected)


def test_a_named_unit_is_believed_and_converted(night, staged, tmp_path):
    # the numbers of 1 uV are those of 1e-3 mV
    file = copy_of(night, tmp_path / "n.edf", unit="mV", gain=1e-3)
    again = YasaStager().stage(opened(file), Asked())
    assert (again.stages == staged.stages).mean() > 0.97 and again.unit == "µV"


def test_a_blank_or_impossible_unit_sets_the_scale_by_the_night(night, tmp_path):
    answers = []
    for number, (unit, gain) in enumerate((("", 1.0), ("", 37.0), ("V", 1.0))):
        file = copy_of(night, tmp_path / f"{number}.edf", unit=unit, gain=gain)
        one = YasaStager().stage(opened(file), Asked())
        assert one.unit == "µV by robust scale"
        assert "EEG: set to a robust deviation of 15 uV" in one.notes
        answers.append(one)
    assert (answers[0].stages == answers[1].stages).mean() > 0.97
    notes = "; ".join(answers[0].notes)
    assert "names no unit" in notes and "taken as uV" not in notes
    # the size of an EOG without a unit cannot be known
    assert "EOG (EOG horizontal) has no unit" in notes and "EOG" not in answers[0].channels
    assert "EEG (EEG Fpz-Cz) is no EEG in V by its size" in answers[2].notes
    quartiles = np.percentile(answers[0].signals[:, 0].numpy(), (25, 75))
    assert np.diff(quartiles)[0] / 1.349 == pytest.approx(15, rel=0.3)  # unfiltered


def test_slow_channels_are_left_out_or_refused(night, tmp_path):
    file = copy_of(night, tmp_path / "slow.edf", fs=2)
    one = YasaStager().stage(opened(file), Asked())
    assert list(one.channels) == ["EEG"]
    assert "EOG (EOG horizontal) has 50 Hz, YASA needs more than 80 Hz: left out" in one.notes
    with pytest.raises(UserError, match="has 50 Hz, YASA needs more than 80 Hz"):
        YasaStager().stage(opened(file), Asked({"EEG": ("EOG horizontal",)}))


def test_flat_epochs_and_short_files_are_staged_with_a_note():
    rng = np.random.default_rng(0)
    samples = 2e-5 * rng.standard_normal((1, 30 * 3000))
    samples[:, 30_000:45_000] = 0
    raw = mne.io.RawArray(samples, mne.create_info(["EEG"], 100.0, "eeg"), verbose="error")
    flat = stage(raw, "yasa")  # without a warning, which would be an error here
    assert np.isfinite(flat.probabilities).all()
    assert [k for k, flag in enumerate(flat.quality_flags) if flag] == list(range(10, 15))
    short = stage(raw.crop(0, 60, include_tmax=False), "yasa")
    assert len(short.stages) == 2 and "shorter than five minutes" in short.notes[0]


def test_an_envelope_is_no_muscle():
    rng = np.random.default_rng(0)
    time = np.arange(0, 600, 0.01)

    def of(x):
        return Signal(100.0, "uV", 600.0, lambda start, stop: x)

    assert is_envelope(of(5 + np.interp(time, np.arange(600), rng.normal(size=600))))
    assert not is_envelope(of(rng.normal(size=len(time))))


def test_age_and_sex_choose_another_classifier(night, staged, tmp_path):
    given = YasaStager().stage(opened(night), Asked(age=70, sex="male"))
    assert not np.array_equal(given.probabilities, staged.probabilities)
    reasons = given.explainer.contributions(np.arange(3), given.stages[:3])
    assert {"age", "male"} <= set(reasons.names)
    for words, message in (
        (["--age", "70"], "age 70, sex None: give both"),
        (["--age", "70", "--sex", "male"], "none of default-spectra uses it"),
    ):
        with pytest.raises(UserError, match=message):
            words = ["--model", "default-spectra", *words]
            predict.main(["--edf", str(night), "-o", str(tmp_path), *words])
    several = ["--edf", str(night.parent), "--model", "yasa", "--age", "70", "--sex", "male"]
    with pytest.raises(UserError, match="one age for 5 recordings"):
        predict.main([*several, "-o", str(tmp_path)])


def test_contributions_add_up_to_the_margin_of_every_epoch(staged):
    every = np.arange(len(staged.stages))
    margins = []
    for code in range(len(STAGES)):
        reasons = staged.explainer.contributions(every, np.full(len(every), code))
        assert reasons.error.max() < 1e-6
        grouped = reasons.grouped()
        assert grouped.shape == (len(every), len(GROUPS), len(SPANS))
        total = reasons.margin - reasons.expected
        assert np.abs(grouped.sum(axis=(1, 2)) - total).max() < 1e-6
        margins.append(reasons.margin)
    # margins are those that the probabilities come from, in our order of stages
    powers = np.exp(np.stack(margins, axis=1))
    np.testing.assert_allclose(
        powers / powers.sum(axis=1, keepdims=True), staged.probabilities, atol=1e-5
    )


# ---------------------------------------------------------------- whatever the unit


DEVIATIONS = (12.0, 18.0, 27.0)


@pytest.fixture(scope="module")
def averaged(night):
    return YasaStager("mean", roles=("EEG",), deviations=DEVIATIONS).stage(opened(night), Asked())


def own_staging(samples: np.ndarray, factor: float) -> yasa.SleepStaging:
    """YASA's own interface on one EEG in microvolts, times ``factor``."""
    info = mne.create_info(["EEG"], 100.0, "eeg")
    return yasa.SleepStaging(mne.io.RawArray(samples * factor * 1e-6, info, verbose="error"), "EEG")


def test_features_that_grow_with_the_signal_are_rescaled_and_no_others_do(averaged):
    samples = averaged.signals.permute(1, 0, 2).reshape(1, -1).double().numpy()
    features, factor = own_staging(samples, 1.0).get_features(), 1.7
    expected = own_staging(samples, factor).get_features()
    for name, column in rescaled(features, factor).items():
        # counts of zero crossings and order patterns turn on the last digit of a sample
        atol = 1 if name == "eeg_nzc" else 1e-2 if name.startswith("eeg_nzc") else 2e-3
        np.testing.assert_allclose(column, expected[name], rtol=2e-3, atol=atol, err_msg=name)
    grown = {"eeg_std", "eeg_iqr", "eeg_abspow"}
    assert grown == {k for k in features if not np.allclose(features[k], expected[k], rtol=0.1)}


def test_the_mean_of_three_sizes_is_yasas_own_answer_at_each(averaged):
    samples = averaged.signals.permute(1, 0, 2).reshape(1, -1).double().numpy()
    typical = own_staging(samples, 1.0).get_features()["eeg_std"].median()
    answers = []
    for deviation in DEVIATIONS:
        staging = own_staging(samples, deviation / typical)
        assert staging.get_features()["eeg_std"].median() == pytest.approx(deviation, rel=1e-4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            proba = staging.predict().proba
        answers.append(proba[["WAKE", "N1", "N2", "N3", "REM"]].to_numpy())
    np.testing.assert_allclose(averaged.probabilities, np.mean(answers, axis=0), atol=1e-3)
    assert averaged.unit == "µV by robust scale" and list(averaged.channels) == ["EEG"]


def test_a_named_unit_is_ignored_where_all_sizes_are_tried(night, averaged, tmp_path):
    for number, (unit, gain) in enumerate((("", 0.5), ("uV", 2.0), ("mV", 1e-3))):
        file = copy_of(night, tmp_path / f"{number}.edf", unit=unit, gain=gain)
        stager = YasaStager("mean", roles=("EEG",), deviations=DEVIATIONS)
        again = stager.stage(opened(file), Asked())
        assert (again.stages == averaged.stages).mean() > 0.97


def test_contributions_at_several_sizes_add_up(averaged):
    every = np.arange(len(averaged.stages))
    reasons = averaged.explainer.contributions(every, averaged.stages)
    assert reasons.error.max() < 1e-6 and len(averaged.explainer.factors) == 3


def test_one_feature_alone_would_be_seen_missing(staged):
    reasons = staged.explainer.contributions(np.arange(5), staged.stages[:5])
    largest = np.abs(reasons.contributions).sum(axis=0).argmax()
    reasons.contributions[:, largest] = 0
    assert reasons.error.max() > 1e-3


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda path: path.stem)
def test_every_feature_of_every_classifier_belongs_to_one_group(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        names = joblib.load(path).feature_name_
    places = {name: place_of(name) for name in names}
    for name, (group, span) in places.items():
        # a derived feature stands where that which it is derived from stands
        assert places[name.removesuffix(span)][0] == group if span else True
        assert (group == "eyes") == name.startswith("eog_")
        assert (group == "muscle") == name.startswith("emg_")
    assert place_of("eeg_sigma_c7min_norm") == ("spindles", "_c7min_norm")
    assert place_of("eeg_dt") == ("slow waves", "")
    assert place_of("time_hour") == ("time of night", "")


def test_a_feature_that_no_rule_places_is_an_error():
    for name in ("eeg_gamma", "ecg_std", "sigma"):
        with pytest.raises(ValueError, match="belongs to no group"):
            place_of(name)


def test_the_page_shows_reasons_beside_the_traces(night, tmp_path, capsys):
    predict.main(["--edf", str(night), "--model", "yasa", "-o", str(tmp_path), "--explain", "4"])
    assert "yasa: YASA 0.8.1" in capsys.readouterr().out
    folder = tmp_path / night.stem
    entries = check_index(folder / "interpretations")
    assert 1 <= len(entries) <= 4
    for entry in entries:
        about = entry["methods"]["treeshap"]
        with np.load(folder / "interpretations" / about["file"]) as arrays:
            total = arrays["contributions"].sum()
            assert arrays["feature_contributions"].sum() == pytest.approx(total, abs=1e-9)
        assert about["value"] - about["baseline_value"] == pytest.approx(total, abs=1e-6)
        assert about["completeness_error"] < 1e-6
    page = (folder / f"{night.stem}.html").read_text()
    assert '"slow waves"' in page and '"this epoch"' in page and "eog_" in page
    values = json.loads((folder / f"{night.stem}.json").read_text())
    assert values["model"].startswith("YASA 0.8.1") and values["kappa"] is not None
