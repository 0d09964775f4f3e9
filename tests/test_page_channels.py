"""Traces of the page: columns of every epoch, units, filters, scales; further channels by name."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest
import torch

import predict
from datasets.readers.recording import Signal
from evaluation import page_channels
from evaluation.night_page import write_page
from evaluation.page_channels import COLUMNS, PageChannel, asked_for, merged, traces
from interpret.explained_night import ExplainedNight
from tests.edf_files import write_psg
from tests.stand_in import StandIn
from utils.errors import UserError
from utils.staged_night import StagedNight


def channel(samples: np.ndarray, fs: float = 100.0, unit: str = "uV", **about) -> PageChannel:
    def read(start: float, stop: float) -> np.ndarray:
        return samples[round(start * fs) : round(stop * fs)]

    signal = Signal(fs, unit, len(samples) / fs, read)
    return PageChannel(**({"label": "EEG C4", "role": "EEG", "signal": signal} | about))


def decoded(shown: dict, epoch: int) -> np.ndarray:
    """Smallest and largest value of every column of an epoch, as the page draws them: (c, 2)."""
    codes = np.frombuffer(base64.b64decode(shown["epochs"][epoch]), np.uint8).reshape(-1, 2)
    offset, step = (
        np.frombuffer(base64.b64decode(shown[name]), np.float32)[epoch]
        for name in ("offset", "step")
    )
    return np.where(codes[:, :1] > codes[:, 1:], np.nan, offset + step * codes.astype(float))


def test_every_epoch_has_a_thousand_columns_that_lose_no_wave():
    x = np.random.default_rng(0).normal(0, 20, 4 * 3000)
    x[3017], x[9001] = 180, -160  # one sample each
    shown = traces(channel(x, prepared=True), 4)
    assert len(shown["epochs"]) == 4
    for epoch in range(4):
        columns, own = decoded(shown, epoch), x[3000 * epoch :][:3000].reshape(COLUMNS, 3)
        assert np.abs(columns[:, 0] - own.min(axis=1)).max() < 1.0  # µV
        assert np.abs(columns[:, 1] - own.max(axis=1)).max() < 1.0
    assert decoded(shown, 1)[5, 1] == pytest.approx(180, abs=1)


@pytest.mark.parametrize("fs", [199.99, 128.0, 50.0, 1.0])
def test_columns_at_any_rate(fs):
    seconds = np.arange(round(90 * fs)) / fs
    shown = traces(channel(seconds, fs, prepared=True), 3)
    for epoch in range(3):
        columns = decoded(shown, epoch)
        assert len(columns) == min(COLUMNS, int(30 * fs))
        middle = 30 * epoch + 30 * (np.arange(len(columns)) + 0.5) / len(columns)
        assert np.abs(columns.mean(axis=1) - middle).max() <= 0.5 / fs + 0.15


def test_units_are_microvolts_and_scales_the_scorers():
    x = 1e-5 * np.sin(np.arange(6000) / 5)
    shown = traces(channel(x, unit="V"), 2)
    assert shown["unit"] == "µV" and shown["per_mm"] == 7.0 and shown["lines"]
    assert np.nanmax(decoded(shown, 0)) == pytest.approx(10, abs=1)
    assumed = traces(channel(1e6 * x, is_sized=False), 2)
    assert assumed["unit"] == "" and not assumed["lines"]  # 37.5 of what, nobody knows
    belt = traces(channel(40 + x, 25.0, "", label="Belt", role="ABD"), 2)
    assert belt["unit"] == "" and belt["band"] is None and belt["centre"] == pytest.approx(40)


def test_traces_are_filtered_as_the_manual_asks_and_what_is_prepared_is_not():
    seconds = np.arange(60 * 200) / 200
    x = 500 + 20 * np.sin(2 * np.pi * 10 * seconds) + 50 * np.sin(2 * np.pi * 80 * seconds)
    filtered = decoded(traces(channel(x, 200.0), 2), 1)[100:900]
    assert np.abs(np.nanmax(filtered) - 20) < 6 and abs(np.nanmean(filtered)) < 2
    assert np.nanmax(decoded(traces(channel(x, 200.0, prepared=True), 2), 1)) > 500
    assert traces(channel(x, 200.0, role="EMG"), 2)["band"] == (10.0, 90.0)  # below half the rate


def test_gaps_stay_empty_and_artefacts_are_cut():
    x = np.random.default_rng(0).normal(0, 20, 4 * 3000)
    x[3000:4500], x[7000], x[6000] = np.nan, 9e9, 3000.0
    shown = traces(channel(x, prepared=True), 4)
    assert np.isnan(decoded(shown, 1)[:499]).all() and np.isfinite(decoded(shown, 1)[501:]).all()
    assert shown["cut"] == 700.0 and np.nanmax(decoded(shown, 2)) == pytest.approx(700, abs=3)
    assert traces(channel(x[:3000], prepared=True), 4)["cut"] is None  # three epochs are not there
    nothing = traces(channel(np.full(6000, np.nan)), 2)
    assert np.isnan(decoded(nothing, 0)).all() and nothing["per_mm"] > 0


def test_a_channel_is_shown_once():
    one, other = channel(np.zeros(3000)), channel(np.ones(3000), label="EOG")
    assert merged([one, other], [replace(one, role="EEG2")]) == [one, other]


def test_further_channels_are_named_and_unknown_ones_refused(tmp_path, monkeypatch):
    edf = tmp_path / "night.edf"
    write_psg(edf, 3, {"EEG Fpz-Cz": 100, "EOG horizontal": 100, "Resp oro-nasal": 10})
    file = predict.opened(edf)
    shown = asked_for(file, ["EOG horizontal", "Resp oro-nasal"])
    assert [(one.label, one.kind, one.signal.fs) for one in shown] == [
        ("EOG horizontal", "EOG", 100.0), ("Resp oro-nasal", "", 10.0)
    ]  # fmt: skip
    monkeypatch.setattr(predict.catalogue, "load", lambda name, device: StandIn())
    words = ["--edf", str(edf), "-o", str(tmp_path / "night.html"), "--page_channels"]
    with pytest.raises(UserError, match="--page_channels: no channel 'EOG vertical'; it has: EEG"):
        predict.main([*words, "EOG vertical"])
    predict.main([*words, "EOG horizontal"])
    page = (tmp_path / "night.html").read_text()
    assert '"label":"EEG Fpz-Cz"' in page and '"label":"EOG horizontal"' in page
    assert '"label":"Resp' not in page


def night(recorded: list[PageChannel], label: str = "EEG") -> ExplainedNight:
    """Four epochs that a model staged by an equalised signal without a unit."""
    staged = StagedNight(label, label, np.eye(5)[[0, 1, 2, 2]], np.full(4, -1, np.int8))
    return ExplainedNight(
        staged=staged,
        signals=torch.zeros(4, 1, 3000),
        mean=np.zeros(1),
        sd=np.ones(1),
        channels=(label,),
        roles=("EEG",),
        unit="no unit",
        events={},
        recorded=recorded,
    )


def test_events_are_searched_for_in_what_was_recorded(monkeypatch):
    """Was: in the model's signal, whose unit may be lost, so that no slow wave was marked."""
    searched = []
    monkeypatch.setattr(page_channels, "detect", lambda one: searched.append(one) or {"rem": []})
    x = np.random.default_rng(0).normal(0, 20, 4 * 30 * 256)
    eog, eeg = channel(x, 256.0, label="E1", role="EOG"), channel(x, 256.0)
    marked = page_channels.with_events(night([eog, eeg]))
    assert marked.events == {"rem": []} and marked.evidence == "detected by yasa"
    (one,) = searched
    assert (one.unit, one.fs, one.channels) == ("µV", 100, ("EEG C4",)) and one.signals.std() > 5
    page_channels.with_events(night([replace(eeg, is_sized=False)]))
    assert searched[1].unit == "no unit"  # slow waves are left out then
    assert page_channels.with_events(night([eog])).events == {}


def test_labels_of_a_file_are_text_wherever_they_stand(tmp_path):
    hostile = "</script><img src=x onerror=alert(1)>"
    shown = channel(np.random.default_rng(0).normal(0, 20, 4 * 3000), label=hostile)
    page = write_page(tmp_path / "n.html", night([shown], hostile), [], [], hostile).read_text()
    assert "<img" not in page and page.count("</script>") == 3
    assert page.count("&lt;img") == 3  # the title, its heading, the headline
