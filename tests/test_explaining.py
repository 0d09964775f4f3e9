"""``--is_interpret`` from the command line: folders, index, figures, scores."""

from __future__ import annotations

import base64
import csv
import json
import re
import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import cmt_evaluate
from datasets.store.views import View
from evaluation.evaluate_run import added_by_training
from evaluation.stage import load_staging_model, open_view
from interpret import explained_run, registry
from interpret.explained_night import ExplainedNight
from interpret.explanation_flags import plan_of
from interpret.scoreboard import Score, summarise
from interpret.selection import select, select_of_nights
from tests import listing
from tests.index_schema import check_index
from tests.test_training import train
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.staged_night import StagedNight
from utils.stages import STAGES

FEW = ["--ig_most_steps", "100"]  # small networks that nobody trained bend their paths
EXPERT = np.array([0, 0, 1, 2, 2, 2, -1, 3, 4, 4], np.int8)


def probabilities_of(stages):
    sure = np.linspace(0.5, 0.95, len(stages))
    p = np.repeat((1 - sure)[:, None] / 4, 5, axis=1)
    p[np.arange(len(stages)), stages] = sure
    return p


STAGED = probabilities_of(np.array([0, 1, 1, 2, 2, 0, 2, 3, 4, 4]))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("all", list(range(10))),
        ("errors", [1, 5]),
        ("uncertain:3", [0, 1, 2]),
        ("per_stage:9", [0, 2, 3, 4, 7, 8, 9]),
        ("3", [3]),
        ("[4, 2,2]", [2, 4]),
        ("1,9", [1, 9]),
    ],
)
def test_selection(spec, expected):
    assert select(spec, STAGED, EXPERT).tolist() == expected


def test_a_few_of_every_stage_by_seed():
    drawn = [select("per_stage:1", STAGED, EXPERT, seed=seed).tolist() for seed in range(8)]
    assert all(len(chosen) == 5 for chosen in drawn)
    assert len({tuple(chosen) for chosen in drawn}) > 1
    unscored = np.full(10, -1, np.int8)
    assert select("per_stage:9", STAGED, unscored).tolist() == list(range(10))


def night_named(subject: str, number: int, stages: list[int]) -> StagedNight:
    stages = np.array(stages, np.int8)
    return StagedNight(f"{subject}n{number}", subject, probabilities_of(stages), stages)


def test_a_few_of_every_stage_of_all_subjects_together():
    rich = [0] * 30 + [1] * 30 + [2] * 30 + [3] * 30
    nights = [
        night_named("a", 1, [*rich, 4]),
        night_named("a", 2, rich),
        night_named("b", 1, [0, 1, 2, 2, 2, 4]),
        night_named("c", 1, rich),
    ]
    chosen = select_of_nights("per_stage:10", nights, seed=1)
    counts = np.array(
        [np.bincount(night.stages[chosen[night.recording]], minlength=5) for night in nights]
    )
    of_subjects = np.array([counts[:2].sum(axis=0), counts[2], counts[3]])
    # in turn, and where one has too few the others have more; all there are of a rare stage
    assert of_subjects[:, :2].T.tolist() == [[5, 1, 4], [5, 1, 4]]
    assert of_subjects[:, 2:].T.tolist() == [[4, 3, 3], [5, 0, 5], [1, 1, 0]]
    assert np.abs(np.diff(counts[:2, :4], axis=0)).max() <= 1  # a subject's nights alike
    # never fewer than one of each subject
    fewest = select_of_nights("per_stage:1", nights)
    assert [len(fewest[name]) for name in ("bn1", "cn1")] == [4, 4]
    # all other selections are those of each night
    assert select_of_nights("uncertain:3", nights)["cn1"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("spec", ["some", "10", "uncertain", "per_stage:x", "-1", ""])
def test_impossible_selections(spec):
    with pytest.raises(UserError, match=r"takes all, errors|has epochs 0 to 9"):
        select(spec, STAGED, EXPERT)


def test_summary_is_over_subjects():
    scores = [Score("ig", "m", "N2", f"s{k % 4}", float(k % 4)) for k in range(40)]
    scores += [Score("ig", "m", "N3", "s0", 1.0), Score("ig", "m", "N3", "s0", float("nan"))]
    rows = {(row["stage"]): row for row in summarise(scores)}
    assert rows["N2"]["mean"] == 1.5 and rows["N2"]["epochs"] == 40
    assert rows["N2"]["low"] < 1.5 < rows["N2"]["high"]
    assert (rows["N2"]["interval"], rows["N2"]["subjects"]) == ("t, mean over subjects", 4)
    assert rows["N3"] | {"mean": 0} == {
        "method": "ig",
        "measure": "m",
        "stage": "N3",
        "mean": 0,
        "mean_of_subjects": 1.0,
        "low": None,
        "high": None,
        "interval": "none: fewer than two subjects",
        "epochs": 1,
        "subjects": 1,
    }
    assert rows["all"]["epochs"] == 41


@pytest.fixture(scope="module")
def explained(raw, store, tmp_path_factory) -> Path:
    """A small run, explained."""
    project = tmp_path_factory.mktemp("explained")
    run = train(store, project, "--n_epochs", "1")
    words = ["--is_interpret", "True", "--interpret_select", "3,40", "--n_random", "3"]
    words += ["--counterfactuals", "1", "--page_channels", "EMG,EEG2"]
    methods = ["--interpret_methods", "ig,occlusion,attention,rollout", "--pictures", "0"]
    evaluate(store, project, raw, *words, *methods)
    return run / "interpretations"


def evaluate(store, project: Path, raw: Path, *words: str) -> None:
    paths = ["--data_path", str(store.path), "--project_path", str(project), "--device", "cpu"]
    cmt_evaluate.main(
        [*paths, "--truth_path", str(raw), "--interpret_recordings", "1", *FEW, *words]
    )


def test_every_sample_has_a_folder(explained):
    folders = sorted(path for path in explained.iterdir() if path.is_dir())
    assert [folder.name[-6:] for folder in folders] == ["_e0003", "_e0040"]
    names = {name for name in listing.names(folders[0]) if "counterfactual." not in name}
    own = ("ig", "occlusion", "attention", "rollout", "random", "input", "prototypes")
    arrays = {f"{m}.npz" for m in own}
    pictures = {f"{m}.{kind}" for m in ("ig", "occlusion", "attention") for kind in ("png", "pdf")}
    assert names == arrays | pictures | {"prototypes.png", "prototypes.pdf"}
    for path in explained.rglob("*"):  # valid on every file system
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,120}", path.name)


def test_a_page_shows_further_channels_of_the_store(store, explained):
    """As stored, in their own unit; the model reads EEG and EOG alone."""
    (page,) = explained.glob("*.html")
    traces = json.loads(re.search(r'id="trace_data"[^>]*>(.*?)</script>', page.read_text())[1])
    labels = [store.channels[k].label for k in (0, 2, 3, 1)]
    assert [one["label"] for one in traces] == labels
    assert all(one["prepared"] and one["unit"] == "µV" for one in traces)
    for shown, name in zip(traces[2:], ("EMG", "EEG2"), strict=True):
        stored = View(store, [page.stem], channels=[name], standardise="none")
        own = next(stored.whole_nights())[1][7, 0].numpy()
        codes = np.frombuffer(base64.b64decode(shown["epochs"][7]), np.uint8).reshape(-1, 2)
        offset, step = (
            np.frombuffer(base64.b64decode(shown[name]), np.float32)[7]
            for name in ("offset", "step")
        )
        starts = np.floor(np.arange(len(codes)) * len(own) / len(codes)).astype(int)
        limits = np.minimum.reduceat(own, starts), np.maximum.reduceat(own, starts)
        np.testing.assert_allclose(offset + step * codes.T, limits, atol=step)


def test_arrays_say_what_they_hold(store, explained):
    folder = next(path for path in explained.iterdir() if path.is_dir())
    recording, epoch = folder.name.split("_e")
    with np.load(folder / "ig.npz") as maps, np.load(folder / "input.npz") as given:
        assert maps["signed"].shape == (2, 3000) and (maps["signed"] < 0).any()
        assert (maps["size"] == np.abs(maps["signed"])).all()
        raw_signals = store.night(recording).signals()[int(epoch)][[0, 2]]
        assert np.allclose(given["signals"], raw_signals, atol=1e-2)  # µV, as recorded
        assert given["time_s"][1] == pytest.approx(0.01)
    with np.load(folder / "rollout.npz") as maps:  # its own share of what a window attends to
        assert maps["context"].sum() == pytest.approx(1, abs=1e-4)
        assert 0 < maps["signed"].sum() < 0.5 and maps["signed"].sum() in [
            pytest.approx(share, abs=1e-5) for share in maps["context"]
        ]


def test_the_index_lists_what_was_explained(explained):
    index = json.loads((explained / "index.json").read_text())
    about = index["about"]
    assert about["interpretation"]["methods"] == ["ig", "occlusion", "attention", "rollout"]
    assert about["cohort"] == "synthetic-sleepedf-2018"
    check_index(explained)
    for entry in index["explanations"]:
        assert (explained / entry["folder"]).is_dir()
        assert entry["explained"] == entry["model"] in STAGES
        assert entry["methods"]["ig"]["completeness_error"] <= 0.01
        assert entry["methods"]["attention"]["completeness_error"] is None
        assert sum(entry["probabilities"]) == pytest.approx(1, abs=1e-4)


def test_counterfactuals_of_as_many_epochs_as_asked_for(explained):
    entries = json.loads((explained / "index.json").read_text())["explanations"]
    about = entries[0]["methods"]["counterfactual"]["settings"]
    assert "counterfactual" not in entries[1]["methods"]
    assert about["sentence"].startswith(entries[0]["model"])
    edits = {row["edit"] for row in about["edits"]}
    assert {"slow waves", "sigma power", "eye movements"} <= edits
    with (explained / "counterfactuals.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(about["edits"])
    page = next(explained.glob("*.html")).read_text()
    # as JSON in the page, without characters that its script would have to escape
    assert about["sentence"].split(";")[0] in page and '"counterfactual":{"sentence"' in page


def test_bands_add_up(explained):
    with (explained / "bands.csv").open() as file:
        rows = list(csv.DictReader(file))
    shapley = {
        row["band"]: row for row in rows if (row["figure"], row["stage"]) == ("shapley", "all")
    }
    assert set(shapley) == {"delta", "theta", "alpha", "sigma", "beta", "gamma", "gap"}
    assert abs(float(shapley["gap"]["mean"])) < 1e-5
    figures = {"shapley", "single", "exchanged", "mean", "weighted"}
    assert {row["figure"] for row in rows} == figures
    assert (explained / "bands.png").read_bytes()[:4] == b"\x89PNG"


def test_metrics_are_drawn_beside_their_table(explained):
    with (explained / "explanation_metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    free = {method.name for method in registry.model_free()}
    for measure in ("deletion_below_random", "insertion_above_random"):
        own = [row for row in rows if row["measure"] == measure]
        assert own[0]["method"] in free and not {row["method"] for row in own[1:]} & free
        assert 2 <= len(own) <= 5
    for name in ("explanation_metrics", "randomisation", "deletion_insertion"):
        assert {path.suffix for path in explained.glob(f"{name}.*")} == {".csv", ".png", ".pdf"}


def test_epochs_for_a_second_look_are_listed_and_their_order_tested(store, explained):
    looked = json.loads((explained / "second_look.json").read_text())
    assert looked["about"]["temperature"] != 1  # fitted on the validation nights
    by_night = {}
    for row in looked["epochs"]:
        by_night.setdefault(row["recording"], []).append(row)
    assert set(by_night) <= set(store.recordings)
    for rows in by_night.values():
        gains = [row["expected_gain"] for row in rows]
        assert gains == sorted(gains, reverse=True)
        assert all(row["expert"] != row["model"] for row in rows)
    reasons = {row["epoch"] for row in looked["epochs"] if row["reasons"]}
    assert reasons <= {3, 40}
    with (explained / "planted_label_errors.csv").open() as file:
        planted = {(row["ranking"], row["measure"]) for row in csv.DictReader(file)}
    assert {("expected gain", "precision"), ("band powers", "ahead")} <= planted


def test_prototypes_are_those_of_training_nights(store, explained):
    index = json.loads((explained / "index.json").read_text())
    held_out = {entry["recording"] for entry in index["explanations"]}
    for entry in index["explanations"]:
        with np.load(explained / entry["methods"]["prototypes"]["file"]) as arrays:
            recording, epoch = arrays["recordings"][0], arrays["epochs"][0]
            assert not held_out & set(arrays["recordings"].tolist())
            assert store.night(str(recording)).stages[epoch] == arrays["stages"][0]
    with (explained / "prototypes.csv").open() as file:
        spaces = {row["space"] for row in csv.DictReader(file)}
    assert {"latent space", "log band powers", "drawn at random"} <= spaces
    assert (explained / "prototypes.png").exists()


def test_scores_of_every_method_and_the_control(explained):
    table = (explained / "summary.csv").read_text().splitlines()
    columns = "method,measure,stage,mean,mean_of_subjects,low,high,interval,subjects,epochs"
    assert table[0] == columns
    assert (explained / "summary_by_subject.csv").exists()
    compared = (explained / "differences.csv").read_text().splitlines()
    assert compared[0] == columns.replace("method,", "method,minus,").removesuffix(",epochs")
    assert {line.split(",")[1] for line in compared[1:]} == {"random"}
    rows = json.loads((explained / "faithfulness.json").read_text())["rows"]
    measured = {(row["method"], row["measure"]) for row in rows}
    for method in ("ig", "occlusion", "attention", "rollout", "random"):
        assert (method, "deletion_below_random") in measured
    assert ("total_energy", "deletion_below_random_same_stage") in measured
    for measure in ("completeness_error", "infidelity", "sensitivity_max"):
        assert ("ig", measure) in measured
    for measure in ("likeness_to_random_weights", "likeness_of_size_to_random_weights"):
        assert ("ig", measure) in measured
    assert ("attention", "completeness_error") not in measured


def test_controls_are_calibrated_on_a_night_of_training(store, explained):
    checkpoint = load_checkpoint(explained.parent / "checkpoints" / "best.pt")
    training = checkpoint.training.facts["subjects"]["train"]
    view = open_view(
        checkpoint, store, store.of_subjects(sorted(training)[:1])[:1], torch.device("cpu")
    )
    epochs = added_by_training(load_staging_model(checkpoint), checkpoint, store, view)
    assert epochs.training_epochs.shape == (len(view.nights[0].stages), 2, 3000)
    others = replace(checkpoint.training, facts=checkpoint.training.facts | {"store": "another"})
    elsewhere = replace(checkpoint, training=others)
    assert added_by_training(None, elsewhere, store, view).training_epochs is None


def test_every_method_stands_beside_the_best_without_a_model(explained):
    free = {method.name for method in registry.model_free()}
    with (explained / "against_model_free.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["measure"] == "deletion_below_random"]
    assert {"ig", "occlusion", "attention", "rollout", "random"} == {row["method"] for row in rows}
    assert {row["against"] for row in rows} <= free
    assert {row["ahead"] for row in rows} == {"False"}  # of one subject nothing is known
    with (explained / "summary_by_subject.csv").open() as file:
        assert len({row["subject"] for row in csv.DictReader(file)}) == 1


def test_no_figure_stays_open_and_the_flag_takes_a_value(raw, store, explained):
    words = ["--is_interpret", "True", "--interpret_select", "5", "--n_random", "1"]
    cheap = ["--n_untrained", "1", "--interpret_methods", "ig,attention", "--pictures", "0"]
    evaluate(store, explained.parents[1], raw, *words, *cheap)
    assert plt.get_fignums() == []
    index = json.loads((explained / "index.json").read_text())
    assert [entry["epoch"] for entry in index["explanations"]] == [5]


def test_twenty_epochs_of_every_stage_of_all_subjects_by_default():
    flags = cmt_evaluate.parse_args([]).explanations
    assert (flags.interpret_select, flags.interpret_recordings) == ("per_stage:20", 0)
    assert plan_of(flags).baseline == "auto"
    assert plan_of(flags).other_baselines == ("mean_epoch", "other_stage")
    # the demo explains a small sample of its own
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    assert "--is_interpret True --interpret_select per_stage:2 --interpret_recordings 1" in makefile


def test_false_means_false(raw, store, explained, capsys):
    evaluate(store, explained.parents[1], raw, "--is_interpret", "False", "--pictures", "0")
    assert "explanations:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--interpret_methods", "shap"], "no shap; there are saliency"),
        (["--interpret_select", "9999"], "the night has epochs 0 to"),
        (["--interpret_other_baselines", "zero,black"], "no black; there are auto, training_mean"),
        (["--interpret_methods", "deeplift"], "deeplift has no rule for layer"),
        (["--target_class", "N7"], "--target_class"),
        (["--page_channels", "ECG"], "--page_channels: .*no channel 'ECG'; it has EEG"),
    ],
)
def test_what_cannot_be_explained_is_one_line(raw, store, explained, words, message):
    with pytest.raises(UserError) as refused:
        evaluate(store, explained.parents[1], raw, "--is_interpret", *words, "--pictures", "0")
    assert re.search(message, str(refused.value))


def test_the_true_stage_is_explained_on_scored_epochs_only(raw, store, explained):
    words = ["--is_interpret", "--target_class", "true", "--interpret_select", "all"]
    cheap = ["--interpret_methods", "saliency", "--n_random", "1", "--pictures", "0"]
    cheap += ["--n_untrained", "1", "--interpret_bands", "False"]
    night = next(iter(json.loads((explained / "index.json").read_text())["explanations"]))
    recording = night["recording"]
    stages = np.array(store.night(recording).stages)
    chosen = np.r_[np.flatnonzero(stages >= 0)[:2], np.flatnonzero(stages < 0)[:1]]
    words[-1] = ",".join(map(str, chosen))
    evaluate(store, explained.parents[1], raw, *words, *cheap)
    entries = json.loads((explained / "index.json").read_text())["explanations"]
    assert [e["epoch"] for e in entries] == chosen[:2].tolist()
    assert all(e["explained"] == e["expert"] for e in entries)


@pytest.mark.slow
def test_all_held_out_nights_are_explained_one_in_memory_at_a_time(
    raw, store, tmp_path, monkeypatch
):
    # the subject of this fold has two nights
    run = train(store, tmp_path, "--n_epochs", "1", "--train_data_list", "1,2")
    alive, most = weakref.WeakSet(), []

    def counted(view, staged, signals, truth_path):
        night = night_of(view, staged, signals, truth_path)
        alive.add(night)
        most.append(len(alive))
        return night

    night_of = explained_run.night_of
    monkeypatch.setattr(explained_run, "night_of", counted)
    # identity: nights hold arrays, which compare by element
    monkeypatch.setattr(ExplainedNight, "__hash__", object.__hash__)
    monkeypatch.setattr(ExplainedNight, "__eq__", object.__eq__)
    words = ["--is_interpret", "--interpret_select", "uncertain:2", "--interpret_recordings", "0"]
    cheap = ["--interpret_methods", "ig", "--n_random", "1", "--n_untrained", "1"]
    none = ["--interpret_pictures", "1", "--pictures", "0", "--interpret_bands", "True"]
    evaluate(store, tmp_path, raw, *words, *cheap, *none)
    explained = run / "interpretations"
    pages = {path.stem for path in explained.glob("*.html")}
    entries = check_index(explained)
    assert Counter(entry["recording"] for entry in entries) == dict.fromkeys(pages, 2)
    assert len(pages) == 2
    assert len(most) == 4 and max(most) <= 2  # the one that is opened while another ends
    for name in ("summary", "bands", "stage_means", "deletion_insertion"):
        with (explained / f"{name}.csv").open() as file:
            assert all(int(row["epochs"]) > 0 for row in csv.DictReader(file)), name
    text = next(explained.glob("*.html")).read_text()
    assert "<th>subjects</th><th>epochs</th>" in text
    assert "at the baseline (zero) " in text


def test_a_method_is_one_file_and_one_line(raw, store, explained, monkeypatch):
    """CONTRIBUTING's example, registered, goes all the way from the flag to the page."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    space: dict = {"__name__": "example"}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], space)
    with pytest.raises(UserError, match="no difference; there are"):
        evaluate(store, explained.parents[1], raw, "--interpret_methods", "difference")
    monkeypatch.setattr(registry, "METHODS", (*registry.METHODS, space["Difference"]()))
    words = ["--is_interpret", "--interpret_select", "7", "--interpret_methods", "difference"]
    cheap = ["--n_random", "1", "--n_untrained", "1", "--pictures", "0"]
    project = explained.parents[1]
    evaluate(store, project, raw, *words, *cheap, "--interpret_bands", "False")
    (entry,) = check_index(explained)
    assert set(entry["methods"]) == {"difference", "random", "prototypes"}
    place = explained / entry["folder"]
    with np.load(place / "difference.npz") as maps, np.load(place / "input.npz") as given:
        signed, signals = maps["signed"], given["signals"]
    assert all(np.corrcoef(a, b)[0, 1] > 0.999 for a, b in zip(signed, signals, strict=True))
    assert (place / "difference.png").read_bytes()[:4] == b"\x89PNG"
    rows = json.loads((explained / "faithfulness.json").read_text())["rows"]
    measured = {row["measure"] for row in rows if row["method"] == "difference"}
    assert {"deletion_below_random", "infidelity", "likeness_to_random_weights"} <= measured
    assert '"difference":' in next(explained.glob("*.html")).read_text()
