"""Orders of five bands: areas, exchanges and readings by hand, a linear detector, the command."""

from __future__ import annotations

import math
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import models
from benchmarks import band_orders, explained_bands, explanations
from datasets.readers.any_file import opened
from evaluation.stagers.band_reasons import BandReasons
from evaluation.stagers.stager import Asked
from interpret.bands import components
from tests.edf_files import sleepedf_in
from tests.stand_in import StandIn
from utils.errors import UserError
from utils.staged_night import Vote
from utils.stages import STAGES

FS = 100.0
CENTRES = (2.0, 6.0, 9.5, 13.5, 22.0)  # Hz, of the five bands
LABEL = "EEG Fpz-Cz"
TIME = torch.arange(3000, dtype=torch.float64) / FS


def waves(sizes) -> torch.Tensor:
    """Epochs (n, 1, t) with a sine in the middle of each band, of ``sizes`` (n, 5)."""
    sines = torch.stack([torch.sin(2 * math.pi * hz * TIME) for hz in CENTRES])
    return (torch.tensor(sizes, dtype=torch.float64) @ sines)[:, None]


def test_areas_of_two_bands_by_hand():
    # nothing removed 1, the first .2, the second .6, both 0
    table = np.array([[1.0, 0.2, 0.6, 0.0]])
    assert band_orders.area(table, np.array([[0, 1]])) == pytest.approx(0.35)
    assert band_orders.area(table, np.array([[1, 0]])) == pytest.approx(0.55)
    assert band_orders.below_random(table, np.array([[3.0, -1.0]])) == pytest.approx(0.10)
    assert band_orders.below_random(table, np.array([[-3.0, -1.0]])) == pytest.approx(-0.10)
    # of equal scores the first band comes first
    assert band_orders.below_random(table, np.array([[0.0, 0.0]])) == pytest.approx(0.10)


def test_all_orders_are_0_on_average():
    table = np.random.default_rng(0).random((2, 16))
    every = [
        band_orders.below_random(table, np.array([order, order[::-1]], float))
        for order in permutations(range(4))
    ]
    assert np.allclose(np.mean(every, axis=0), 0) and np.std(every) > 0.01


def test_the_right_order_of_a_linear_detector_has_the_smallest_area():
    weights = np.array([0.05, 0.3, 0.1, 0.15, 0.2])
    # the third epoch has all bands, the others none of them
    night = waves(np.eye(7)[:, [2]] * np.ones(5))
    sines = waves(np.eye(5))[:, 0] / 1500

    def stage(signals):
        amplitudes = (signals[:, 0] @ sines.T).numpy()  # size of each band's sine
        probabilities = np.zeros((2, len(signals), 5))
        probabilities[0, :, 3] = 0.1 + amplitudes @ weights
        probabilities[1, :, 3] = 0.1 + amplitudes @ weights[::-1]
        return probabilities

    epochs, others = torch.tensor([2]), torch.tensor([5])
    changes = band_orders.exchanges(night, FS, epochs, others)
    table = band_orders.without_bands(stage, night, epochs, np.array([3]), changes)
    assert table.shape == (2, 1, 32) and table[0, 0, 0] == pytest.approx(0.9, abs=1e-3)
    for k, weight in enumerate(weights):  # but for half a second at either end
        assert table[0, 0, 0] - table[0, 0, 1 << k] == pytest.approx(weight, rel=0.05)
    orders = list(permutations(range(5)))
    scores = np.array([weights[list(order)] for order in orders])
    every = band_orders.below_random(np.repeat(table[0], len(orders), axis=0), scores)
    gained = dict(zip(orders, every.tolist(), strict=True))
    assert max(gained, key=gained.get) == (0, 1, 2, 3, 4)
    # linear: the area is 0.1 and the sum of what is left, at half a band's width
    ordered = -np.sort(-weights) * 0.983  # what the joins leave of a band
    own = 0.1 + sum(w * (k + 0.5) / 5 for k, w in enumerate(ordered))
    chance = 0.1 + ordered.sum() / 2
    assert gained[0, 1, 2, 3, 4] == pytest.approx(chance - own, rel=0.02)
    assert band_orders.below_random(table[1], np.array([weights]))[0] < gained[0, 1, 2, 3, 4]


def test_an_exchange_leaves_other_bands_and_epochs_as_they_were():
    rng = np.random.default_rng(1)
    sizes = rng.uniform(0.5, 1, (50, 5))
    sizes[[7, 30], 2], sizes[[12, 45], 2] = 1.0, 0.0
    night, seen = waves(sizes), []
    epochs, others = torch.tensor([7, 30]), torch.tensor([12, 45])
    changes = band_orders.exchanges(night, FS, epochs, others)

    def stage(signals):
        seen.append(signals)
        return np.zeros((1, len(signals), 5))

    band_orders.without_bands(stage, night, epochs, np.array([0, 0]), changes)
    assert len(seen) == 32 and torch.equal(seen[0], night)
    without_alpha = seen[1 << 2]
    kept = torch.ones(50, dtype=torch.bool)
    kept[epochs] = False
    assert all(torch.equal(one[kept], night[kept]) for one in seen)
    inside = slice(200, 2800)  # away from the edges of the epochs
    for k, edges in enumerate(band_orders.EDGES):
        before, after = (components(x, FS, [edges])[0][epochs, 0] for x in (night, without_alpha))
        change = (after - before)[:, inside].abs().max() / before.abs().max()
        assert (change > 0.9) if k == 2 else (change < 0.05), edges
    # the whole set makes them the other epochs, up to half a second
    assert torch.allclose(seen[31][epochs][..., inside], night[others][..., inside], atol=0.15)
    # sample by sample the same at the borders, so that nothing jumps
    assert (seen[31][epochs] - night[epochs])[..., [0, -1]].abs().max() < 1e-2


def test_readings_of_every_method_by_hand():
    bands = np.arange(12.0).reshape(6, 1, 2)
    edges = [[0.5, 4.0], [4.0, 8.0], [8.0, 11.5], [11.5, 15.5], [15.5, 30.0], [30.0, 49.5]]
    arrays = {"bands": bands, "edges_hz": np.array(edges)}
    assert band_orders.contributions_of("specgrad", arrays).tolist() == [1, 5, 9, 13, 17]
    # a rate that has no beta
    few = {"bands": bands[:4], "edges_hz": np.array(edges[:4])}
    assert band_orders.contributions_of("specgrad", few).tolist() == [1, 5, 9, 13, 0]
    hertz = np.array([0.0, 0.5, 3.9, 4.0, 11.5, 20.0, 30.0])
    cells = np.ones((1, 2, 7)) * np.array([100, 1, 2, 3, 4, 5, 100])
    image = {"spectrogram": cells, "bins_hz": hertz}
    assert band_orders.contributions_of("ig", image).tolist() == [6, 6, 0, 8, 10]
    groups = ["slow waves", "theta", "alpha", "spindles", "fast activity", "amplitude"]
    parts = {"groups": np.array(groups), "contributions": np.arange(12.0).reshape(6, 2)}
    assert band_orders.contributions_of("treeshap", parts).tolist() == [1, 5, 9, 13, 17]
    named = {"groups": np.array([*band_orders.ORDERED, "rest of the night"])}
    named["contributions"] = np.array([[5.0], [4], [3], [2], [1], [9]])
    assert band_orders.contributions_of("bands", named).tolist() == [5, 4, 3, 2, 1]
    with pytest.raises(ValueError, match="attention"):
        band_orders.contributions_of("attention", {})


def test_orders_that_know_no_model():
    sizes = np.ones((20, 5)) * [5, 3, 2, 1, 0.5]
    sizes[4] = [5, 3, 2, 2, 0.05]  # sigma twice as large as elsewhere, beta a tenth
    scores = band_orders.model_free(waves(sizes), FS, np.array([4]), np.array([2]))
    assert tuple(scores) == band_orders.MODEL_FREE
    first = {name: band_orders.ORDERED[values[0].argmax()] for name, values in scores.items()}
    assert first == {
        "band_energy": "delta",
        "band_deviation": "sigma",
        "size_of_deviation": "beta",
        "stage_rhythm": "sigma",
    }
    of_all = band_orders.model_free(waves(sizes), FS, np.arange(5), np.arange(5))["stage_rhythm"]
    assert (np.sort(of_all, axis=1) == [-4, -3, -2, -1, 0]).all()
    leading = [band_orders.ORDERED[k] for k in of_all.argmax(axis=1)]
    assert dict(zip(STAGES, leading, strict=True)) == {
        "W": "alpha", "N1": "theta", "N2": "sigma", "N3": "delta", "REM": "theta",
    }  # fmt: skip


def test_epochs_are_apart_and_rare_stages_come_first():
    stages = np.repeat([0, 2, 3, 2, -1], [60, 100, 8, 100, 100])
    chosen = band_orders.chosen_epochs(stages, 3, 20, np.random.default_rng(0))
    assert (np.diff(chosen) >= 20).all()
    assert np.bincount(stages[chosen], minlength=5).tolist() == [3, 0, 3, 1, 0]
    again = band_orders.chosen_epochs(stages, 3, 20, np.random.default_rng(0))
    other = band_orders.chosen_epochs(stages, 3, 20, np.random.default_rng(1))
    assert chosen.tolist() == again.tolist() != other.tolist()
    partners = band_orders.of_other_stages(stages, chosen, np.random.default_rng(0))
    assert (stages[partners] >= 0).all() and (stages[partners] != stages[chosen]).all()


def test_an_edited_file_is_staged_as_the_file_but_for_its_samples(night_files):
    (path, _), n = night_files, 84
    file, stager = opened(path), StandIn()
    plain = stager.stage(file, Asked())
    signals = explained_bands.epochs_of(file, LABEL, n)
    edited = explained_bands.EditedFile(file, LABEL, signals.flatten().numpy())
    assert np.array_equal(stager.stage(edited, Asked()).probabilities, plain.probabilities)
    signals[40] *= 3
    edited = explained_bands.EditedFile(file, LABEL, signals.flatten().numpy())
    changed = stager.stage(edited, Asked()).probabilities != plain.probabilities
    assert np.flatnonzero(changed.any(axis=1)).tolist() == [40]
    assert np.array_equal(edited.read("EEG Pz-Oz", 3, 5), file.read("EEG Pz-Oz", 3, 5))


@pytest.fixture(scope="module")
def night_files(tmp_path_factory):
    """Recordings of two short nights."""
    import generate_demo_data

    folder = tmp_path_factory.mktemp("bands") / "raw"
    words = ["--subjects", "2", "--nights", "1", "--hours", "0.7", "--jobs", "1", "--distractors"]
    generate_demo_data.main(["--output", str(folder), *words])
    return sorted(folder.glob("*-PSG.edf"))


class Voters:
    """Stages as the scorer did; how surely, follows the size of the signal's samples."""

    def __init__(self) -> None:
        self.staged: list[str] = []

    def stage(self, file, asked):
        self.staged.append(file.path.stem)
        n = 84
        size = np.abs(file.read(LABEL, 0, n * 30).reshape(n, -1)).mean(axis=1)
        expert = np.arange(n) // 21 % 3
        probabilities = 0.1 + 0.4 * np.eye(5)[expert] * (size / size.max())[:, None]
        votes = [Vote(name, probabilities, 1 / 3) for name in explained_bands.PARTS]
        return SimpleNamespace(
            votes=votes, stages=expert, expert=expert, reads={"EEG": LABEL}, stager=self
        )


@pytest.fixture
def bench(night_files, tmp_path, monkeypatch):
    """The command on two nights, by voters and explanations that are known; its first page."""
    voters, sources = Voters(), sleepedf_in(night_files[0].parent)
    orders = {
        "specgrad": [5, 4, 3, 2, 1],
        "ig": [1, 2, 3, 4, 5],
        "bands": [5, 1, 1, 1, 1],
        "treeshap": [0] * 5,
    }

    def explained(night, epochs):
        scores = {name: np.tile(order, (len(epochs), 1)) for name, order in orders.items()}
        errors = {"specgrad": [0.02] * len(epochs), "treeshap": [0.0] * len(epochs)}
        return scores, errors

    def untrained(night, epochs, seed):
        return {name: np.full((len(epochs), 5), seed) for name in ("specgrad", "ig", "bands")}

    assert explained_bands.held_out(night_files[0].parent) == sources[1:]
    monkeypatch.setattr(explained_bands.bundled, "load", lambda *_: voters)
    monkeypatch.setattr(explained_bands, "explained", explained)
    monkeypatch.setattr(explained_bands, "untrained", untrained)
    monkeypatch.setattr(explained_bands, "held_out", lambda folder: sources)
    page = tmp_path / "explanations.md"
    explanations.write_text(page, "# Explanations\n\n| a |\n")
    words = ["--nights", str(night_files[0].parent), "--output", str(tmp_path / "out")]
    words += ["--table", str(page), "--untrained", "2"]
    names = [path.stem for path in night_files]
    return SimpleNamespace(voters=voters, sources=sources, page=page, words=words, names=names)


def test_the_command_goes_on_where_it_stopped(bench, monkeypatch):
    (first, second), staged, before = bench.names, bench.voters.staged, bench.page.read_text()

    def interrupted(night, epochs, explained=explained_bands.explained):
        if len(staged) > 33:  # in the second night
            raise KeyboardInterrupt
        return explained(night, epochs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(explained_bands, "explained", interrupted)
        explained_bands.main(bench.words)
    assert staged == [first] * 33 + [second] * 33
    assert bench.page.read_text() == before
    staged.clear()
    explained_bands.main(bench.words)
    assert staged == [second] * 33
    # the same again stages nothing and changes nothing, another seed measures anew
    staged.clear()
    text = bench.page.read_text()
    explained_bands.main(bench.words)
    assert not staged and bench.page.read_text() == text
    monkeypatch.setattr(explained_bands, "held_out", lambda folder: bench.sources[:1])
    explained_bands.main([*bench.words, "--seed", "1"])
    assert staged == [first] * 33


def test_the_page_keeps_what_it_had_and_has_every_order(bench):
    page, head = bench.page, bench.page.read_text()
    explained_bands.main(bench.words)
    text = page.read_text()
    assert text.startswith(f"{head}\n{explanations.BANDS_SECTION}\n")
    assert "2 held-out subjects" in text and "| default-yasa | treeshap |" in text
    assert "1 % / 5 %: `specgrad` 0 / 100 %, `treeshap` 100 / 100 %." in text
    rows = explanations.read_rows(page.with_name("explained_bands.csv"))
    means = {(r["model"], r["method"]): float(r["mean"]) for r in rows if r["stage"] == "all"}
    # all but one put the bands in their own order, which is that of ties
    assert means["default-spectra", "specgrad"] == means["default-bands", "bands"]
    assert means["default-spectra", "ig, random weights"] == means["default-yasa", "treeshap"]
    assert means["default-spectra", "ig"] != means["default-spectra", "specgrad"] != 0
    assert "" not in {row["ahead"] for row in rows if row["method"] == "ig"}
    assert {row["against"] for row in rows if row["method"] in band_orders.MODEL_FREE} == {""}
    # a new page of the other benchmark keeps the section
    explanations.write_text(page, "# New\n" + explanations.bands_section(page))
    assert page.read_text() == text.replace(head, "# New\n")


def test_a_method_is_ahead_where_it_beats_the_best_order_without_a_model():
    rng, nights = np.random.default_rng(0), []
    for subject in range(10):
        # theta alone matters, which no order without a model puts first
        table = np.array([0.9 - 0.8 * (k >> 1 & 1) for k in range(32)])
        table = table + rng.normal(0, 0.01, (4, 32))
        free = dict.fromkeys(band_orders.MODEL_FREE, [[5.0, 1, 4, 3, 2]] * 4)
        scores = {"ig": [[0.0, 9, 1, 1, 1]] * 4, "specgrad": [[9.0, 1, 2, 3, 4]] * 4}
        about = {"subject": f"s{subject}", "stages": ["W", "W", "N1", "N2"], "untrained": []}
        part = {"probabilities": {"default-spectra": table.tolist()}, "scores": scores}
        nights.append({**about, **part, "model_free": free})
    rows = {
        (r["method"], r["stage"]): r for r in explained_bands.rows_of("default-spectra", nights)
    }
    assert rows["ig", "all"]["ahead"] and rows["ig", "N1"]["ahead"]
    assert not rows["specgrad", "all"]["ahead"]
    assert rows["ig", "all"]["difference"] == pytest.approx(
        rows["ig", "all"]["mean"] - rows["ig", "all"]["mean_of_against"]
    )
    assert rows["ig", "all"]["subjects"] == 10 and rows["ig", "W"]["epochs"] == 20


def test_copies_with_random_weights_are_asked_as_the_networks_are():
    generator = torch.Generator().manual_seed(0)
    signals = torch.randn(24, 1, 3000, generator=generator)
    spectra, bands = models.build("seqsleepnet", num_seq=3), models.build("night_bands", hidden=4)
    stages = np.arange(24) % 5
    probabilities = np.eye(5)[stages] * 0.5 + 0.1
    staged = SimpleNamespace(stages=stages, probabilities=probabilities)
    reasons = (SimpleNamespace(net=spectra.eval()), BandReasons([bands], signals, "bands"))
    night = SimpleNamespace(
        stages=stages,
        signals=signals,
        explainer=SimpleNamespace(names=("default-spectra", "default-bands"), parts=reasons),
        explained_night=lambda: SimpleNamespace(staged=staged),
    )
    first, second = (explained_bands.untrained(night, np.array([8]), k) for k in (0, 1))
    assert set(first) == {"specgrad", "ig", "bands"}
    for method, scores in first.items():
        assert scores.shape == (1, 5) and np.isfinite(scores).all()
        assert not np.allclose(scores, second[method])


def test_what_cannot_be_measured_is_refused(tmp_path, night_files):
    with pytest.raises(UserError, match=r"benchmarks\.explanations makes them"):
        explained_bands.main(["--nights", str(tmp_path / "none")])
    foreign = tmp_path / "page.md"
    foreign.write_text("of somebody else")
    with pytest.raises(UserError, match="did not write it"):
        explained_bands.main(["--nights", str(night_files[0].parent), "--table", str(foreign)])
    voters = Voters()
    flags = explained_bands.parse_args([])
    night = voters.stage(opened(night_files[0]), Asked())
    lacking = SimpleNamespace(**{**vars(night), "votes": night.votes[:2]})
    with pytest.raises(UserError, match="staged without default-yasa"):
        explained_bands.measure(SimpleNamespace(stage=lambda *_: lacking), night_files[0], flags)
    alike = SimpleNamespace(**{**vars(night), "expert": np.zeros(84, int)})
    with pytest.raises(UserError, match="fewer than two stages"):
        explained_bands.measure(SimpleNamespace(stage=lambda *_: alike), night_files[0], flags)


@pytest.mark.slow
def test_the_default_on_its_smallest_night(tmp_path):
    import generate_demo_data

    raw, page = tmp_path / "raw", tmp_path / "page.md"
    words = ["--subjects", "2", "--nights", "1", "--hours", "1.2", "--distractors"]
    generate_demo_data.main(["--output", str(raw), *words])
    where = ["--nights", str(raw), "--output", str(tmp_path / "out"), "--table", str(page)]
    explained_bands.main([*where, "--per_stage", "1", "--untrained", "1"])
    rows = explanations.read_rows(tmp_path / "explained_bands.csv")
    assert {row["model"] for row in rows} == set(explained_bands.PARTS)
    methods = {row["method"] for row in rows}
    assert {"treeshap", "bands", "ig", "specgrad", "ig, random weights"} <= methods
