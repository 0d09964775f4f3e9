"""Stagers by name: the table of published weights, what is refused, votes, recordings of MNE."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mne
import numpy as np
import pytest
import torch
from torch import nn

import models
import predict
from datasets.readers.any_file import opened
from datasets.readers.derivations import every_derivation
from datasets.store.stored_file import StoredFile
from evaluation.stagers import bundled, catalogue, gssc_stager
from evaluation.stagers.interface import stage
from evaluation.stagers.network_stager import Member, NetworkStager
from evaluation.stagers.stager import Asked
from evaluation.stagers.vote import stage_file
from tests.edf_files import write_psg
from utils.checkpoint import FORMAT_VERSION, checkpoint_from
from utils.errors import UserError
from utils.files import sha256
from utils.staged_night import StagedNight, Vote
from utils.stages import STAGES

CPU = torch.device("cpu")
PUBLISHED = tuple(catalogue.table()["stagers"])
ROBUST = [name for name in PUBLISHED if name.startswith("robustsleepnet-without-")]


@pytest.fixture(scope="module")
def weights() -> Path:
    """The folder of published weights, or a skip."""
    if not os.environ.get("SLEEP_WEIGHTS"):
        pytest.skip("SLEEP_WEIGHTS is not set")
    return Path(os.environ["SLEEP_WEIGHTS"])


@pytest.fixture(scope="module")
def night(raw) -> Path:
    return sorted(raw.glob("*PSG.edf"))[0]


def untrained(model: str, channels: list[str], *, seed: int = 0, **settings) -> NetworkStager:
    """A stager with random weights."""
    torch.manual_seed(seed)
    net = models.build(model, **settings)
    preparation = {"preset": "robust"} if model == "robustsleepnet" else {"bandpass": [0.3, 35.0]}
    content = {
        "format": FORMAT_VERSION,
        "model": model,
        "settings": settings,
        "channels": [[name, name] for name in channels],
        "fs": settings.get("fs", 100.0),
        "standardise": "none" if model == "robustsleepnet" else "recording",
        "state": net.state_dict(),
        "source": {"origin": "test", "file": "f", "command": "", "preparation": preparation},
    }
    checkpoint = checkpoint_from(content, Path(f"{model}{seed}.pt"))
    return NetworkStager(f"{model}{seed}", [Member("only", checkpoint)], CPU)


# ---------------------------------------------------------------- the table


def test_the_table_is_complete():
    table = catalogue.table()
    for name in PUBLISHED:
        about = table["stagers"][name]
        assert {"reads", "trained_on", "files"} <= about.keys()
        source = table["sources"][about["source"]]
        assert source["licence"] == "MIT" and re.fullmatch("[0-9a-f]{40}", source["commit"])
        for file in catalogue.files_of(name):
            assert re.fullmatch("[0-9a-f]{64}", file.sha256) and file.n_bytes > 100_000
            assert source["commit"] in file.address and file.address.startswith("https://")
    # seven models, and their mean is of all of them
    assert len(ROBUST) == 7
    singles = {catalogue.files_of(name)[0].sha256 for name in ROBUST}
    assert {file.sha256 for file in catalogue.files_of("robustsleepnet")} == singles
    assert len(singles) == 7


def test_all_stagers_are_listed(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SLEEP_WEIGHTS", str(tmp_path))
    predict.main(["--list_models"])
    printed = capsys.readouterr().out
    for name in catalogue.names():
        assert f"\n{name}\n" in f"\n{printed}"
    assert "BSD-3-Clause" in printed and "AGPL-3" in printed
    assert printed.count("not here") >= len(PUBLISHED)
    assert "reads EEG, EOG, EMG; trained on SHHS" in printed


def test_every_published_file_is_the_one_of_the_table(weights):
    for name in PUBLISHED:
        for file in catalogue.files_of(name):
            assert file.path.stat().st_size == file.n_bytes and sha256(file.path) == file.sha256


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_stager_opens(weights, name):
    stager = catalogue.load(name, CPU)
    assert stager.headline.startswith(name) and stager.net.stages_nights
    assert len(stager.nets) == (7 if name in ("robustsleepnet", "robustsleepnet-night") else 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yassa", "no such stager or file; there are default, default-"),
        ("physioex-chambon-eeg", "not here; fetch them with `predict.py --download physioex-ch"),
        ("missing/best.pt", "no such checkpoint"),
    ],
)
def test_what_is_not_here_is_one_line(night, tmp_path, monkeypatch, name, message):
    monkeypatch.setenv("SLEEP_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match=message) as error:
        predict.main(["--edf", str(night), "--model", name, "-o", str(tmp_path / "out")])
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_other_weights_under_a_published_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SLEEP_WEIGHTS", str(tmp_path))
    (tmp_path / "chambon2018_1.ckpt").write_bytes(b"0" * 225_547)
    with pytest.raises(UserError, match="not the published file of physioex-chambon-eeg"):
        catalogue.load("physioex-chambon-eeg", CPU)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A server with one published file, which the table of the test names; the cache is empty."""
    served = tmp_path / "served" / "o" / "r" / "c"
    served.mkdir(parents=True)
    (served / "w.ckpt").write_bytes(bytes(range(256)) * 50)
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = partial(quiet, directory=str(tmp_path / "served"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    file = {
        "file": "w.ckpt", "path": "w.ckpt", "bytes": 12_800, "sha256": sha256(served / "w.ckpt"),
    }  # fmt: skip
    source = {"repository": "o/r", "commit": "c", "licence": "MIT", "authors": "A"}
    about = {"source": "s", "model": None, "reads": "EEG", "trained_on": "B", "files": [file]}
    table = {"sources": {"s": source}, "stagers": {"one": about}}
    monkeypatch.setattr(catalogue, "table", lambda: table)
    monkeypatch.setattr(catalogue, "_HOST", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("SLEEP_WEIGHTS", str(tmp_path / "cache"))
    yield server, served
    server.shutdown()
    server.server_close()


def test_download_fetches_and_checks(host, tmp_path, capsys):
    predict.main(["--download", "one"])
    assert "SHA-256 as published" in capsys.readouterr().out
    assert catalogue.files_of("one")[0].is_here
    server, _ = host
    server.shutdown()
    predict.main(["--download", "one"])  # it is here: nothing is asked for


def test_a_wrong_file_is_never_kept(host, tmp_path):
    _, served = host
    (served / "w.ckpt").write_bytes(b"1" * 12_800)
    with pytest.raises(UserError, match="is not the published file") as error:
        predict.main(["--download", "one"])
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").glob("w.ckpt*"))


def test_without_a_network_one_line_tells_what_to_do(host, tmp_path):
    server, _ = host
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=r"cannot be reached.*machine with a network and put it at"):
        predict.main(["--download", "one"])
    with pytest.raises(UserError, match="--download two: no published weights; there are one"):
        predict.main(["--download", "two"])


# ---------------------------------------------------------------- channels


def test_a_channel_that_is_lacking_is_refused_and_never_stood_in_for(weights, night):
    for name, lacking in (("physioex-chambon-3", "EMG"), ("dreem-simplesleepnet-dodh", "C3-M2")):
        file = opened(night)
        file.channels = tuple(c for c in file.channels if "EMG" not in c.label)
        with pytest.raises(UserError, match=f"no channel for .*{lacking}"):
            catalogue.load(name, CPU).stage(file, Asked())


def test_every_derivation_of_a_role_is_taken_once(tmp_path):
    names = ["C4", "M1", "C3", "M2", "EEG F4-M1", "EEG O1-M2", "E1-M2", "E2-M2", "Chin", "SaO2"]
    write_psg(tmp_path / "n.edf", 2, dict.fromkeys(names, 100))
    file = opened(tmp_path / "n.edf")
    eeg = [one.derivation for one in every_derivation(file, "EEG")]
    assert set(eeg) >= {"C4 - M1", "EEG F4-M1", "EEG O1-M2"}
    firsts = [name.split(" - ")[0] for name in eeg]
    assert len(set(firsts)) == len(firsts)
    assert not {"M1", "M2", "E1-M2", "Chin", "SaO2"} & {*eeg, *firsts}
    assert {one.derivation for one in every_derivation(file, "EOG")} >= {"E1-M2", "E2-M2"}


def test_a_channel_too_slow_for_the_models_band_is_brought_to_its_rate(tmp_path):
    """Was: the 50 Hz EOG of SHHS was refused for the band of 0.3 to 35 Hz."""
    write_psg(tmp_path / "n.edf", 6, {"EEG": 100, "EOG": 50})
    stager = untrained("chambon2018", ["EEG", "EOG"], n_channels=2)
    file = opened(tmp_path / "n.edf")
    staged = stager.stage(file, Asked())
    eog = staged.signals[:, 1].numpy() * staged.sd[1] + staged.mean[1]
    own = file.read("EOG", 0, 180).reshape(6, -1)
    # white noise of 25 Hz keeps its power: 0.3 Hz of it are cut, nothing is added
    assert eog[1:-1].var() == pytest.approx(own[1:-1].var(), rel=0.06)
    above = np.abs(np.fft.rfft(eog.reshape(-1))) ** 2
    assert above[(26 * 180) :].sum() < 0.02 * above.sum()


def test_a_model_of_any_channels_reads_all_of_them(night):
    stager = untrained("robustsleepnet", ["EEG"], n_channels=1, fs=60.0, n_samples=1800)
    staged = stager.stage(opened(night), Asked())
    # the muscle's signal has 1 Hz: an envelope
    assert set(staged.channels.values()) == {"EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal"}
    assert staged.signals.shape[1] == 3 and staged.unit == "quartile ranges"
    two = stage_file(opened(night), [stager], Asked({"EEG": ("EEG Fpz-Cz", "EEG Pz-Oz")}))
    assert list(two.channels.values()) == ["EEG Fpz-Cz", "EEG Pz-Oz"] and not two.votes
    with pytest.raises(UserError, match="no channel 'C9'"):
        stager.stage(opened(night), Asked({"EEG": ("C9",)}))


# ---------------------------------------------------------------- votes


def test_spread_by_hand():
    one, other = np.eye(5)[[0, 1, 2]], np.eye(5)[[0, 2, 2]]
    other[2] = [0, 0, 0.5, 0.5, 0]
    votes = [Vote("a", one, 0.25), Vote("b", other, 0.75)]
    night = StagedNight("n", "n", 0.25 * one + 0.75 * other, np.full(3, -1), votes=votes)
    # the second epoch: 3/4 and 1/4 of the probability lie apart from the mean
    expected = [0, 0.25 * 0.75 + 0.75 * 0.25, 0.25 * 0.375 + 0.75 * 0.125]
    np.testing.assert_allclose(night.spread, expected)
    assert replace(night, votes=()).spread is None


def test_who_decided_and_what_to_review_by_hand():
    first = np.array([[0.6, 0.4, 0, 0, 0], [0.5, 0.5, 0, 0, 0], [0.1, 0.9, 0, 0, 0]])
    other = np.array([[0.7, 0.3, 0, 0, 0], [0.9, 0.1, 0, 0, 0], [0.4, 0.6, 0, 0, 0]])
    votes = [Vote("a", first, 0.75), Vote("b", other, 0.25)]
    night = StagedNight("n", "n", 0.75 * first + 0.25 * other, np.full(3, -1), votes=votes)
    # shares of the margin: .15 and .1; 0 and .2; .6 and .05
    assert night.decided_by.tolist() == [0, 1, 0]
    np.testing.assert_allclose(night.uncertainty, [0.375, 0.4, 0.175])
    assert night.to_review.tolist() == [False, True, False]  # one of ten, and one at least
    assert replace(night, votes=()).decided_by is None
    long = np.repeat(night.probabilities, 10, axis=0)
    marked = StagedNight("n", "n", long, np.full(30, -1)).to_review
    assert np.flatnonzero(marked).tolist() == [10, 11, 12]


def test_derivations_and_models_are_averaged(night, tmp_path):
    stagers = [untrained("chambon2018", ["EEG"], seed=seed, n_channels=1) for seed in (0, 1)]
    labels = ("EEG Fpz-Cz", "EEG Pz-Oz")
    staged = stage_file(opened(night), stagers, Asked({"EEG": labels}))
    singles = [
        stager.stage(opened(night), Asked({"EEG": (label,)})).probabilities
        for stager in stagers
        for label in labels
    ]
    np.testing.assert_allclose(staged.probabilities, np.mean(singles, axis=0), atol=1e-6)
    assert [vote.name for vote in staged.votes] == [
        f"chambon2018{seed} {label}" for seed in (0, 1) for label in labels
    ]
    assert sum(vote.weight for vote in staged.votes) == pytest.approx(1)
    every = stage_file(opened(night), stagers[:1], Asked({"EEG": ("all",)}))
    assert [vote.name for vote in every.votes] == [f"chambon20180 {label}" for label in labels]
    with pytest.raises(UserError, match="the model reads no EGG; it reads EEG"):
        stage_file(opened(night), stagers, Asked({"EGG": ("EEG Fpz-Cz",)}))


def test_the_same_weights_by_other_settings_are_another_stager(night):
    """Was: a night staged by ``robustsleepnet`` passed for one by ``robustsleepnet-night``."""
    settings = {"n_channels": 1, "fs": 60.0, "n_samples": 1800, "num_seq": 3}
    ways = [
        untrained("robustsleepnet", ["EEG"], standardise_over=way, **settings).fingerprint
        for way in ("window", "night")
    ]
    assert ways[0] != ways[1] and ways[0].split()[0] == ways[1].split()[0]


def test_votes_of_one_name_have_names_of_their_own(night):
    stagers = [untrained("chambon2018", ["EEG"], seed=seed, n_channels=1) for seed in (0, 1)]
    for stager in stagers:
        stager.name = "best"
    staged = stage_file(opened(night), stagers, Asked({"EEG": ("EEG Fpz-Cz",)}))
    assert [vote.name for vote in staged.votes] == ["best (1)", "best (2)"]
    assert list(staged.reads) == ["best (1): EEG", "best (2): EEG"]


def test_each_model_has_one_share_whatever_its_derivations(night):
    eeg = untrained("chambon2018", ["EEG"], n_channels=1)
    eog = untrained("chambon2018", ["EOG"], seed=1, n_channels=1)
    asked = Asked({"EEG": ("EEG Fpz-Cz", "EEG Pz-Oz"), "EOG": ("EOG horizontal",)})
    staged = stage_file(opened(night), [eeg, eog], asked)
    assert [vote.weight for vote in staged.votes] == [0.25, 0.25, 0.5]


def test_votes_are_on_the_page_and_in_every_table(night, tmp_path, capsys):
    weights = bundled.weights_of(bundled.parts()["default-spectra"])[0]
    words = ["--model", "yasa", str(weights), "-o", str(tmp_path), "--explain", "2"]
    predict.main(["--edf", str(night), *words])
    assert "mean of 2 votes, spread" in capsys.readouterr().out
    folder = tmp_path / night.stem
    with (folder / "votes.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = {"yasa", weights.stem}
    assert set(rows[0]) == {"epoch", "onset_s", "stage", "spread", *names}
    with (folder / f"{night.stem}.csv").open() as file:
        assert [row["spread"] for row in csv.DictReader(file)] == [row["spread"] for row in rows]
    with (folder / f"{night.stem}_events.tsv").open() as file:
        assert "spread" in next(csv.reader(file, delimiter="\t"))
    assert "spread" in json.loads((folder / f"{night.stem}_events.json").read_text())
    values = json.loads((folder / f"{night.stem}.json").read_text())
    assert values["votes"] == dict.fromkeys(names, 0.5) and 0 < values["mean_spread"] < 1
    page = (folder / f"{night.stem}.html").read_text()
    assert 'id="spread"' in page and "Explained: yasa" in page


# ---------------------------------------------------------------- from Python


def test_what_mne_has_opened_is_staged_like_the_file(night, tmp_path):
    raw = mne.io.read_raw_edf(night, include=["EEG Fpz-Cz"], verbose="error")
    before = raw.annotations
    one, other = stage(night, channels={"EEG": "EEG Fpz-Cz"}), stage(raw)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
    assert other.start == one.start and other.expert_path == one.expert_path
    assert raw.annotations == before
    # later, without a file: the stages are those of the annotations
    own = one.annotations()
    held = mne.io.RawArray(raw.get_data(), raw.info, verbose="error").set_annotations(own)
    assert stage(held).expert_path is None  # a model's own stages are nobody's opinion
    held.set_annotations(mne.Annotations(own.onset, own.duration, own.description))
    again = stage(held.crop(600, 1800))
    assert again.expert_path == Path("raw") and again.recording == "raw"
    np.testing.assert_array_equal(again.expert, one.stages[20:60])


def test_a_raw_without_a_unit_and_with_a_gap(tmp_path):
    rng = np.random.default_rng(0)
    info = mne.create_info(["EEG", "Resp"], 100.0, ["eeg", "resp"])
    raw = mne.io.RawArray(50 * rng.standard_normal((2, 60_000)), info, verbose="error")
    raw.set_annotations(mne.Annotations([60.0], [30.0], ["BAD_ACQ_SKIP"]))
    staged = stage(raw)
    assert "EEG (EEG) names no unit" in staged.notes
    assert "gap in the recording" in staged.quality_flags[2] and not staged.quality_flags[4]
    with pytest.raises(UserError, match="no channel for EOG, EMG"):
        stage(raw, channels={}, model=str(_three_channels(tmp_path)))


@pytest.mark.parametrize(
    ("values", "message"),
    [(np.nan, "has no sample that is a number"), (np.inf, "no sample"), (1e-5, "flat throughout")],
)
def test_a_channel_without_a_signal_is_absent_by_name(values, message):
    samples = np.full((1, 30_000), values)
    raw = mne.io.RawArray(samples, mne.create_info(["EEG"], 100.0, "eeg"), verbose="error")
    with pytest.raises(UserError, match=rf"EEG \(EEG\) .*{message}"):
        stage(raw, "default-spectra")


def _three_channels(folder: Path) -> Path:
    net = models.build("chambon2018", n_channels=3)
    content = {
        "format": FORMAT_VERSION, "model": "chambon2018", "settings": {"n_channels": 3},
        "channels": [[name, name] for name in ("EEG", "EOG", "EMG")], "fs": 100.0,
        "standardise": "recording", "state": net.state_dict(),
        "source": {"origin": "t", "file": "f", "command": "", "preparation": {"bandpass": None}},
    }  # fmt: skip
    torch.save(content, folder / "three.pt")
    return folder / "three.pt"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"age": 30}, "age 30, sex None: give both"),
        ({"age": 30, "sex": "woman", "model": "yasa"}, "sex woman: give both"),
        ({"age": 30, "sex": "male", "model": "default-spectra"}, "none of default-spectra uses it"),
        ({"model": []}, "no model is named"),
    ],
)
def test_what_cannot_be_used_is_refused_from_python_too(night, words, message):
    with pytest.raises(UserError, match=message):
        stage(night, **words)


def test_a_lazily_opened_file_of_several_rates_has_no_edges(night):
    raw = mne.io.read_raw_edf(night, verbose="error")
    whole = mne.io.read_raw_edf(night, preload=True, verbose="error")
    names = {"EEG": "EEG Fpz-Cz"}
    one, other = stage(raw, channels=names), stage(whole, channels=names)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_a_staged_night_as_annotations_and_hypnogram():
    probabilities = np.eye(5, dtype=np.float32)[[0, 1, 2, 3, 4]]
    night = StagedNight("n", "n", probabilities, np.full(5, -1), 2, "2020-01-01T22:00:00")
    marks = night.annotations()
    assert list(marks.onset) == [60, 90, 120, 150, 180] and set(marks.duration) == {30}
    assert list(marks.description) == [f"Sleep stage {k}" for k in ("W", "N1", "N2", "N3", "R")]
    hypnogram = night.hypnogram()
    assert list(hypnogram.hypno) == ["WAKE", "N1", "N2", "N3", "REM"]
    assert str(hypnogram.start) == "2020-01-01 22:01:00"
    np.testing.assert_array_equal(hypnogram.proba["REM"], probabilities[:, 4])


def test_reasons_and_pages_from_python(night, tmp_path):
    staged = untrained("chambon2018", ["EEG"], n_channels=1).stage(opened(night), Asked())
    reasons = staged.explain([3, 40], counterfactuals=1)
    assert "counterfactual" not in reasons[40]
    assert reasons[3]["counterfactual"]["edited"].shape == (1, 3000)
    assert reasons[3]["counterfactual"]["sentence"].startswith(reasons[3]["stage"])
    assert sorted(reasons) == [3, 40] and reasons[3]["stage"] in STAGES
    assert reasons[3]["ig"]["signed"].shape == (1, 3000)
    assert {"value", "baseline_value"} <= reasons[3]["ig"].keys()
    with pytest.raises(UserError, match="no epoch 9999; it has 0 to"):
        staged.explain([9999])
    page = staged.page(tmp_path / "n.html", [3])
    others = [path.name for path in tmp_path.iterdir() if path != page]
    assert page.is_file() and others in ([], [".sleep-staging.json"])


def test_slow_methods_are_left_out_where_every_window_is_encoded_anew(night):
    settings = {"n_channels": 1, "fs": 60.0, "n_samples": 1800, "num_seq": 3}
    for way, has_bands in (("window", False), ("night", True)):
        stager = untrained("robustsleepnet", ["EEG"], standardise_over=way, **settings)
        staged = stager.stage(opened(night), Asked({"EEG": ("EEG Fpz-Cz",)}))
        assert ("specgrad" in staged.explain([3])[3]) == has_bands


# ---------------------------------------------------------------- stores


def test_a_stored_night_reads_as_a_file(store):
    recording = sorted(store.recordings)[0]
    file = StoredFile(store, recording)
    night = store.night(recording)
    label = night.channels[0].label
    whole = np.array(night.signals()[:, 0]).reshape(-1)
    np.testing.assert_array_equal(file.read(label, 0, file.seconds), whole)
    np.testing.assert_array_equal(file.read(label, 45.5, 61.25), whole[4550:6125])
    np.testing.assert_array_equal(file.stages, night.stages)
    assert file.channel(label).unit == "uV" and file.seconds == 30 * night.n_epochs


# ---------------------------------------------------------------- GSSC


def test_gssc_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr(gssc_stager, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed; `pip install gssc`.*AGPL-3"):
        catalogue.load("gssc", CPU)
    assert not gssc_stager.about().is_here


class Stand(nn.Module):
    """Stands for GSSC's second network: logits of the stage in the input, then a state."""

    def forward(self, codes: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return nn.functional.one_hot(codes, 5)[:, None].float() * 3, state


GSSC = '''
"""Stands for the package: hands each epoch's own code to the second network, drops a sample."""
import torch

class EEGInfer:
    def __init__(self, net=None, con_net=None, use_cuda=True):
        print("noise")
        self.con_net = con_net

    def mne_infer(self, inst, eeg=None, eog=None):
        signal = inst.get_data(picks=eeg or eog, units="uV")[0]
        n = (len(signal) - 1) // 3000
        codes = torch.from_numpy(signal[: n * 3000].reshape(n, 3000).mean(axis=1).round()).long()
        self.con_net(codes, None)
        return codes, None
'''


def test_gssc_is_used_through_its_interface(tmp_path, monkeypatch, capsys):
    package = tmp_path / "site" / "gssc"
    (package / "nets").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "infer.py").write_text(GSSC)
    for name in ("sig_net_v1.pt", "gru_net_v1.pt"):
        torch.save(Stand(), package / "nets" / name)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr(gssc_stager.metadata, "version", lambda name: "0")
    codes = np.tile([0, 1, 2, 3, 4], 4)
    info = mne.create_info(["EEG"], 100.0, ["eeg"])
    raw = mne.io.RawArray(1e-6 * np.repeat(codes, 3000)[None] + 0.0, info, verbose="error")
    try:
        staged = stage(raw, "gssc")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "gssc"]:
            del sys.modules[name]
    np.testing.assert_array_equal(staged.stages, codes)
    top = np.exp(3) / (np.exp(3) + 4)
    np.testing.assert_allclose(staged.probabilities.max(axis=1), top, rtol=1e-5)
    assert staged.absent == ["EOG"] and "noise" not in capsys.readouterr().out
    with pytest.raises(UserError, match="shows no reasons of GSSC"):
        staged.explain([1])
