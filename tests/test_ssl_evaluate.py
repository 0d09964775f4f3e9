"""Frozen embeddings, probes with their controls, latent metrics, and the scripts that make them."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import latent_space_evaluator
import models
import ssl_evaluate
from datasets.store.views import View
from evaluation import embed, probe_pretrained
from evaluation.probe_pretrained import counts_by_subject, drawn, few, row_of
from experiments import model_table
from probing import embeddings, probes
from probing.latent_report import Space, measure
from probing.probes import Labelled
from probing.row_files import Rows
from tests.test_nothing_lost import refused
from tests.test_ssl import pretrain
from training.fine_tuning import Tuning, tune
from utils import metrics
from utils.checkpoint import load_checkpoint
from utils.errors import UserError

QUICK = ["--fractions", "0.05,1", "--seeds", "0,1", "--tuning_steps", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def project(store, tmp_path_factory) -> Path:
    """Two pretrained Transformers of one fold, evaluated; the first with everything."""
    folder = tmp_path_factory.mktemp("ssl")
    paths = ["--data_path", str(store.path), "--project_path", str(folder)]
    pretrain(store, folder, "--encoder", "transformer_small", "--objective", "masked")
    before = checkpoints(folder)
    ssl_evaluate.main([*paths, *QUICK, "--context"])
    assert checkpoints(folder) == before  # nothing that follows touches the encoder
    pretrain(store, folder, "--encoder", "transformer_small", "--objective", "contrastive")
    ssl_evaluate.main([*paths, *QUICK, "--tuned", "False", "--runs", "ssl_contrastive*"])
    return folder


def checkpoints(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.glob("*/checkpoints/*.pt"))}


def masked(project: Path) -> Path:
    return next(project.glob("ssl_masked_*"))


def test_every_row_that_honesty_asks_for(project):
    with (masked(project) / "evaluation" / "probes.csv").open() as file:
        rows = list(csv.DictReader(file))
    combinations = {(r["space"], r["probe"], r["labels"], r["share"]) for r in rows}
    every = ("band powers", "random encoder", "supervised encoder", "pretrained")
    # controls first
    assert list(dict.fromkeys(r["space"] for r in rows))[:5] == ["majority", *every]
    probed = ("linear", "linear, balanced", "linear, by night", "kNN", "temporal context")
    assert {(space, probe, "all", "1.0") for space in every for probe in probed} <= combinations
    for space in every:
        few_labels = {
            (space, probe, by, "0.05")
            for by in ("epoch", "subject")
            for probe in ("linear", "linear, by night")
        }
        # it has seen all labels
        shared = few_labels & combinations
        assert shared == (set() if space == "supervised encoder" else few_labels)
    assert ("majority", "–", "all", "1.0") in combinations
    for by, share in (("all", "1.0"), ("epoch", "0.05"), ("subject", "0.05")):
        assert {(s, "end to end", by, share) for s in ("fine-tuned", "supervised")} <= combinations
    with (project / "ssl_benchmark.csv").open() as file:
        over_runs = list(csv.DictReader(file))
    assert {r["configuration"] for r in over_runs} == {
        "ssl_masked_transformer_small",
        "ssl_contrastive_transformer_small",
    }
    assert all(r["runs"] == "1" and r["kappa_sd"] in ("0.0", "") for r in over_runs)
    by_name = {(r["space"], r["probe"]): r for r in rows if r["labels"] == "all"}
    assert by_name["random encoder", "linear"]["seeds"] == "2"
    assert float(by_name["majority", "–"]["kappa"]) == 0
    assert by_name["pretrained", "linear"]["chosen"].startswith("C ")


def test_embeddings_say_what_they_are(project, store):
    run = masked(project)
    checkpoint = load_checkpoint(run / "checkpoints" / "best.pt")
    saved = embeddings.load(run / "embeddings")
    for split, arrays in saved.items():
        subjects = checkpoint.training.subjects[split]
        assert set(arrays["subject"].tolist()) == set(subjects)
        assert arrays["recording"].tolist() == sorted(arrays["recording"].tolist())
        first = arrays["recording"] == arrays["recording"][0]
        assert (np.diff(arrays["epoch"][first]) == 1).all()
        night = store.night(str(arrays["recording"][0]))
        assert arrays["stage"][first].tolist() == night.stages.tolist()
        assert arrays["t_sec"][0] == 30 * night.first_epoch
        with (run / "embeddings" / f"{split}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [int(r["epoch"]) for r in rows] == arrays["epoch"].tolist()
    # the encoder's own latent: before any head, not normalised
    net = embed.encoder_of(checkpoint)
    view = embed.split_views(checkpoint, store, torch.device("cpu"))["held_out"]
    _, signals, _ = next(view.whole_nights())
    with torch.no_grad():
        expected = net.encoder.latent(signals[:5].clamp(-20, 20))
    assert np.allclose(saved["held_out"]["z"][:5], expected, atol=1e-5)


def test_embedding_moves_no_statistic_and_ignores_the_scale_of_the_file(store, tmp_path):
    checkpoint = SimpleNamespace(settings={"encoder": "cnn"})
    net = models.build("pretraining", **checkpoint.settings).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    view = View(store, list(store.recordings)[:1], channels=["EEG"], budget_gb=0)
    one = embed.embed(net, view, tmp_path / "one.npy", clip=True)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    louder = View(store, list(store.recordings)[:1], channels=["EEG"], budget_gb=0)
    read = louder._files.read
    louder._files = SimpleNamespace(read=lambda *a: 10 * read(*a), _open={})
    louder._moments = 10 * louder._moments
    other = embed.embed(net, louder, tmp_path / "other.npy", clip=True)
    assert np.allclose(one, other, atol=1e-4)


def test_embeddings_that_do_not_belong_together_are_refused(project, tmp_path):
    run = masked(project)
    target = tmp_path / "embeddings"

    def copied() -> None:
        target.mkdir(exist_ok=True)
        for path in (run / "embeddings").glob("*.np?"):
            (target / path.name).write_bytes(path.read_bytes())

    copied()
    assert set(embeddings.load(target)) == set(embeddings.SPLITS)
    other = next(project.glob("ssl_contrastive_*")) / "embeddings" / "train.npz"
    (target / "train.npz").write_bytes(other.read_bytes())
    with pytest.raises(UserError, match="of different encoders"):
        embeddings.load(target)
    copied()
    (target / "train.npz").write_bytes((target / "held_out.npz").read_bytes())
    with pytest.raises(UserError, match="in more than one split"):
        embeddings.load(target)
    (target / "train.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"train.npz: no embeddings"):
        embeddings.load(target)
    np.savez(target / "train.npz", z=np.zeros(3))
    with pytest.raises(UserError, match="no embeddings of ours: no stage"):
        embeddings.load(target)


def test_another_store_is_refused(project, dreem_cohort):
    _, other = dreem_cohort
    paths = ["--data_path", str(other.path), "--project_path", str(project)]
    with pytest.raises(UserError, match="pretrained on another store"):
        ssl_evaluate.main([*paths, *QUICK])


def test_wrong_words_are_one_line(store, project, tmp_path):
    paths = ["--data_path", str(store.path), "--project_path"]
    with pytest.raises(UserError, match="no run ssl_other"):
        ssl_evaluate.main([*paths, str(project), "--runs", "ssl_other*"])
    with pytest.raises(UserError, match="--fractions takes shares"):
        ssl_evaluate.parse_args(["--fractions", "0,1"])
    with pytest.raises(UserError, match="no embeddings in ssl_"):
        latent_space_evaluator.main(["--project_path", str(tmp_path)])
    checkpoint = load_checkpoint(masked(project) / "checkpoints" / "best.pt")
    with pytest.raises(UserError, match=r"best\.pt: a chambon2018, not of ssl_training\.py"):
        embed.encoder_of(replace(checkpoint, model="chambon2018"))


def test_a_fold_without_labels_is_refused(store, project, monkeypatch):
    monkeypatch.setattr(View, "class_counts", lambda self: np.zeros(5, int))
    paths = ["--data_path", str(store.path), "--project_path", str(project)]
    with pytest.raises(UserError, match="nobody scored the epochs of its train, validation"):
        ssl_evaluate.main([*paths, *QUICK])


# probes -----------------------------------------------------------------------------------------


def test_a_row_of_the_table_pools_subjects(project):
    """And the row of random weights stands beside it; figures are those of the summed counts."""
    run = next(project.glob("ssl_contrastive*"))
    rows = model_table.pretrained_rows("contrastive_transformer", [run, run])
    assert [row["model"][-14:] for row in rows] == ["ve_transformer", "random weights"]
    kept = next(
        row
        for row in json.loads((run / "evaluation" / "probes.json").read_text())["rows"]
        if (row["space"], row["probe"], row["labels"]) == ("pretrained", "linear", "all")
    )
    counts = sum(np.array(matrix) for matrix in kept["per_subject"].values())
    assert rows[0]["epochs"] == 2 * counts.sum()
    assert rows[0]["kappa"] == pytest.approx(float(metrics.kappa(counts)))
    assert rows[0]["kappa"] == pytest.approx(kept["kappa"])
    assert rows[0]["parameters"] == 153_408
    assert "30 min of Wake" in rows[0]["data"]


@pytest.fixture
def clouds() -> tuple[Labelled, Labelled, Labelled]:
    """Stages as overlapping clouds in 128 dimensions, three sets of subjects."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 128))

    def draw(n: int, subject_prefix: str) -> Labelled:
        y = rng.integers(0, 5, n)
        z = (centres[y] + 3 * rng.normal(size=(n, 128))).astype(np.float32)
        return Labelled(z, y, np.array([subject_prefix + str(k % 4) for k in range(n)]))

    return draw(400, "a"), draw(100, "b"), draw(200, "c")


def test_the_linear_probe_is_scikit_learns(clouds):
    train, validation, test = clouds
    probed = probes.linear_probe(train, validation, test)
    strength = float(probed.chosen.split()[1])
    mean, sd = train.z.mean(axis=0), train.z.std(axis=0)
    model = LogisticRegression(C=strength, max_iter=1000)
    model.fit((train.z - mean) / sd, train.stages)
    assert model.coef_.size + model.intercept_.size == 129 * 5
    expected = model.predict_proba((test.z - mean) / sd)
    assert np.allclose(probed.probabilities, expected, atol=0.01)
    assert (probed.stages == expected.argmax(axis=1)).mean() > 0.99


def test_strength_is_chosen_on_validation_subjects_alone(clouds):
    train, validation, test = clouds
    scrambled = Labelled(test.z, np.random.default_rng(1).permutation(test.stages), test.subjects)
    one, other = (probes.linear_probe(train, validation, part) for part in (test, scrambled))
    assert one.chosen == other.chosen and (one.stages == other.stages).all()
    unscored = Labelled(
        np.concatenate([train.z, 99 + train.z[:9]]),
        np.append(train.stages, [-1] * 9),
        np.append(train.subjects, ["x"] * 9),
    )
    assert (probes.linear_probe(unscored, validation, test).stages == one.stages).all()


def test_information_is_a_bound_and_none_without_any(clouds):
    train, validation, test = clouds
    exact = np.eye(5)[test.stages]
    share = np.bincount(test.stages) / len(test.stages)
    entropy = -(share * np.log2(share)).sum()
    assert probes.information_bound(exact, test.stages) == pytest.approx(entropy)
    assert (
        0
        < probes.information_bound(
            probes.linear_probe(train, validation, test).probabilities, test.stages
        )
        < entropy
    )
    shuffled = Labelled(train.z, np.random.default_rng(0).permutation(train.stages), train.subjects)
    probed = probes.linear_probe(shuffled, validation, test)
    assert probes.information_bound(probed.probabilities, test.stages) <= 0
    assert probes.information_bound(np.tile(share, (len(test.z), 1)), test.stages) == pytest.approx(
        0
    )


def test_neighbours_and_majority(clouds):
    train, _, test = clouds
    own = probes.nearest_neighbours(train, train, k=1)
    assert (own.stages == train.stages).all()
    always = probes.majority(train, test).stages
    assert set(always) == {np.bincount(train.stages).argmax()}


def test_hand_made_features_of_a_sine():
    time = np.arange(3000) / 100
    epochs = np.stack([np.sin(2 * np.pi * f * time) for f in (2, 10, 20)])[:, None]
    features = probes.hand_made(epochs.astype(np.float32), 100.0)
    assert features.shape == (3, probes.N_HAND_MADE)
    assert features[:, :5].argmax(axis=1).tolist() == [0, 2, 3]  # delta, alpha, beta
    assert features[:, -1] == pytest.approx([2, 10, 20], abs=0.6)


def test_the_interval_is_of_the_mean_over_seeds(clouds):
    test = clouds[2]
    rng = np.random.default_rng(0)
    right, wrong = test.stages.copy(), (test.stages + 1) % 5
    noisy = np.where(rng.random(200) < 0.3, wrong, right)
    probabilities = np.zeros((200, 5))
    probed = [probes.Probed(s, probabilities, "x") for s in (noisy, wrong)]
    row = row_of("a", "b", "all", 1.0, {"held_out": test}, probed)
    assert row["accuracy"] == pytest.approx((noisy == right).mean() / 2)
    assert row["accuracy_low"] < row["accuracy_mean_of_subjects"] < row["accuracy_high"] < 0.5
    assert row["accuracy_interval"] == "t, mean over subjects"
    assert row["accuracy_sd"] > 0.3 and row["subjects"] == 4


def test_a_row_is_counted_in_one_sweep_whatever_the_number_of_subjects(monkeypatch):
    """Was: all epochs compared with every subject, quadratic in their number."""
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(-1, 5, 6000), rng.integers(0, 5, 6000)
    of = rng.permutation(np.arange(6000) // 20)
    test = Labelled(np.zeros((6000, 1)), true, np.array([f"s{k:03}" for k in of]))
    probed = [probes.Probed(predicted, np.full((6000, 5), 0.2), "x")] * 2
    expected = [metrics.confusion(true[of == k], predicted[of == k]) for k in range(300)]
    monkeypatch.setattr(metrics, "confusion", None)  # not once per subject
    row = row_of("a", "b", "all", 1.0, {"held_out": test}, probed)
    assert row["subjects"] == 300 and row["seeds"] == 2
    for k in (0, 17, 299):
        assert row["per_subject"][f"s{k:03}"] == (2 * expected[k]).tolist()


def test_counts_by_subject_are_read_from_old_files_too(clouds):
    """Their key was ``people``."""
    train, _, test = clouds
    row = row_of("a", "b", "all", 1.0, {"held_out": test}, [probes.majority(train, test)])
    old = {"people" if key == "per_subject" else key: value for key, value in row.items()}
    assert counts_by_subject(old) == counts_by_subject(row)
    assert set(counts_by_subject(old)) == set(test.subjects)
    assert np.sum(list(counts_by_subject(old).values())) == len(test.stages)


def test_the_same_labels_are_drawn_for_every_encoder(clouds):
    train = clouds[0]
    other = Labelled(np.zeros_like(train.z), train.stages, train.subjects)
    for by in ("epoch", "subject"):
        assert (drawn(train, by, 0.1, 3) == drawn(other, by, 0.1, 3)).all()
        assert drawn(train, by, 0.1, 3).tolist() != drawn(train, by, 0.1, 4).tolist()
    by_epoch = train.stages[drawn(train, "epoch", 0.01, 0)]
    assert sorted(set(by_epoch)) == [0, 1, 2, 3, 4] and len(by_epoch) == 5
    subjects = train.subjects[drawn(train, "subject", 0.01, 0)]
    assert len(set(subjects)) == 1 and len(subjects) == 100
    shares = few([0.01, 0.1, 0.5, 1.0], train)
    assert shares == [
        ("epoch", 0.01),
        ("epoch", 0.1),
        ("epoch", 0.5),
        ("subject", 0.01),
        ("subject", 0.5),
    ]


def test_tuning_learns_and_leaves_its_start_as_it_was():
    torch.manual_seed(0)
    encoder = models.build("pretraining", encoder="transformer", decoder=False).encoder
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    y = torch.arange(60) % 2
    time = torch.arange(3000) / 100
    x = torch.stack([torch.sin(2 * torch.pi * (3 + 9 * k) * time) for k in y])[:, None]
    data = Tuning(x + 0.1 * torch.randn_like(x), y, np.array(["a"] * 60))
    probed = tune(encoder, dict.fromkeys(("train", "validation", "held_out"), data), None, 30, 0)
    assert (probed.stages == y.numpy()).mean() > 0.95
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


@pytest.mark.parametrize("budget_gb", [4.0, 0.0], ids=["resident", "streamed"])
def test_tuning_reads_epochs_when_it_needs_them(project, store, monkeypatch, budget_gb):
    """Was: all signals of all splits on the device, whatever their size."""
    checkpoint = load_checkpoint(masked(project) / "checkpoints" / "best.pt")
    two = list(store.recordings)[:2]
    view = View(store, two, channels=["EEG"], budget_gb=budget_gb)
    signals = torch.cat([x for _, x, _ in view.whole_nights()]).clamp(-embed.CLIP, embed.CLIP)
    subjects = [store.night(r).subject for r, x, _ in view.whole_nights() for _ in x]
    monkeypatch.setattr(View, "whole_nights", None)
    data = probe_pretrained.tuning_data(view, checkpoint)
    rows = torch.randperm(len(signals))[:50]
    assert torch.equal(data.signals[rows], signals[rows])
    assert data.stages.tolist() == view.stages.tolist()
    assert data.subjects.tolist() == subjects
    net = embed.encoder_of(checkpoint)
    # the first epochs of all: enough to train, validate and test once
    data = replace(data, stages=data.stages[:20])
    splits = dict.fromkeys(("train", "validation", "held_out"), data)
    whole = dict.fromkeys(splits, replace(data, signals=signals))
    ours, theirs = (tune(net.encoder, some, None, 1, 0) for some in (splits, whole))
    assert np.array_equal(ours.probabilities, theirs.probabilities)


# latent metrics ---------------------------------------------------------------------------------


def space(n: int = 300, apart: float = 6.0, stages: int = 5, name: str = "a") -> Space:
    rng = np.random.default_rng(0)
    y = np.repeat(rng.integers(0, stages, n // 5), 5)
    z = rng.normal(size=(n, 16)) + apart * np.eye(5, 16)[y]
    subject = np.array([f"s{k * 6 // n}" for k in range(n)])
    recording = np.array([f"r{k * 6 // n}" for k in range(n)])
    some = z[:40]
    views = some + 0.1 * rng.normal(size=(10, *some.shape))
    z = z.astype(np.float32)
    return Space(name, z, y, subject, recording, np.arange(n), views, subject[:40])


def test_stages_that_lie_apart_and_shuffled_ones():
    rows = {r["metric"]: r for r in measure(space(), parts=6)}
    assert rows["purity"]["value"] == 1 and rows["purity"]["null"] < 0.5
    assert rows["silhouette_stage"]["value"] > 0.4 > 0.1 > rows["silhouette_stage"]["null"]
    assert rows["ari"]["value"] == 1 and abs(rows["ari"]["null"]) < 0.1
    assert rows["auroc_n1_rem"]["value"] > 0.99
    assert abs(rows["subject_leakage"]["value"]) < 0.4
    assert rows["rank_me"]["low"] < rows["rank_me"]["value"] < rows["rank_me"]["high"]
    assert rows["rank_me"]["interval"] == "jackknife over subjects"
    assert rows["rank_me"]["subjects"] == 6
    assert rows["alignment"]["value"] < 0.01 < rows["lidar"]["value"]
    assert rows["neighbours_same_stage"]["value"] < rows["neighbours_other_stage"]["value"]
    assert not rows["rank_me"]["needs_labels"] and rows["purity"]["needs_labels"]


def test_subjects_who_are_identified_by_their_embeddings():
    latents = space()
    latents.z[:, 8:14] += 8 * np.eye(6)[[int(s[1]) for s in latents.subject]]
    rows = {r["metric"]: r for r in measure(latents, parts=0)}
    assert rows["subject_leakage"]["value"] > 0.9
    assert rows["purity"]["low"] is None


def test_silhouettes_by_stage_and_by_cluster_are_two_things():
    # tight clusters that have nothing to do with the stages
    mixed = space(apart=0.0)
    mixed.z[:] += 20 * np.eye(5, 16)[np.arange(300) % 5]
    rows = {r["metric"]: r["value"] for r in measure(mixed, parts=0)}
    assert rows["silhouette_kmeans"] > 0.6 and rows["silhouette_stage"] < 0.1


@pytest.mark.filterwarnings("error")
def test_missing_stages_collapsed_spaces_and_too_few_epochs():
    rows = {r["metric"]: r for r in measure(space(stages=3), parts=2)}
    assert rows["auroc_n1_rem"]["value"] is None and rows["auroc_n1_rem"]["note"] == "undefined"
    assert rows["purity"]["value"] > 0.9
    flat = space()
    flat.z[:] = 1.0
    rows = {r["metric"]: r for r in measure(flat, parts=2)}
    assert rows["purity"]["value"] is None and rows["two_nn"]["value"] is None
    assert rows["rank_me"]["value"] == pytest.approx(1)
    few_rows = measure(space(n=15), parts=2)
    assert few_rows[0]["note"] == "too few scored epochs"


def test_one_table_and_one_page_of_all_runs(project):
    words = ["--project_path", str(project), "--parts", "2", "--map_epochs", "80"]
    latent_space_evaluator.main(words)
    folder = project / "latent"
    with (folder / "metrics.csv").open() as file:
        names = {row["space"] for row in csv.DictReader(file)}
    assert len(names) == 4  # two runs, and the two controls of their one fold
    page = (folder / "index.html").read_text()
    assert all(name.removeprefix("ssl_").split(",")[0] in page for name in names)
    assert not re.search(r'(src|href)="http', page) and "<script" not in page
    for name in ("map_PCA", "map_t-SNE", "map_UMAP", "night", "cka", "against_probe"):
        assert (folder / f"{name}.png").stat().st_size > 5_000
    quality = json.loads((folder / "map_quality.json").read_text())
    assert quality.keys() == names
    for of_kind in quality.values():
        assert all(0 <= one["stability"] <= 1 for one in of_kind.values())
    assert "trustworthiness" in page and "of nine" in page
    result = json.loads((folder / "metrics.json").read_text())
    assert len(result["probe_macro_f1"]) == 2


def test_latent_spaces_stay_in_their_files(project):
    """Was: a whole space, then those of the scored epochs and of every draw, in memory."""
    folders = sorted(project.glob("ssl_*/"))
    spaces = list(latent_space_evaluator.spaces_of(folders))
    assert len(spaces) == 4 and all(isinstance(latents.z, Rows) for latents in spaces)
    # training epochs to fit maps to, none of the held-out subjects
    train = embeddings.load(folders[0] / "embeddings")["train"]["z"][:]
    of_run = next(latents for latents in spaces if latents.name == folders[0].name)
    assert {row.tobytes() for row in of_run.train} <= {row.tobytes() for row in train}
    assert all(len(latents.train) == len(of_run.train) for latents in spaces)
    assert set(of_run.view_subject) <= set(of_run.subject)
    splits = embeddings.load(folders[0] / "embeddings", of=("held_out",))
    assert [split for split, arrays in splits.items() if "z" in arrays] == ["held_out"]
    assert "subject" in splits["held_out"] and "subject" not in splits["train"]


def test_a_latent_report_replaces_nothing_but_a_latent_report(project, store, tmp_path):
    """Was: ``--output results`` deleted every run, any other ``--output`` what was in it."""
    results = tmp_path / "results"
    shutil.copytree(project, results, ignore=shutil.ignore_patterns("ssl_masked_*", "latent"))
    (run,) = results.glob("ssl_*/")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    paths = ["--project_path", results, "--maps", "False", "--parts", "2", "--output"]
    for output in ("results", f"results/{run.name}", f"results/{run.name}/embeddings", "thesis"):
        refused(
            latent_space_evaluator.main,
            *paths,
            tmp_path / output,
            match="is an input|holds",
            keeps=tmp_path,
        )
    for _ in range(2):
        latent_space_evaluator.main([*map(str, paths), str(tmp_path / "latent")])
    (tmp_path / "latent" / "index.html").write_text("mine")
    refused(
        latent_space_evaluator.main,
        *paths,
        tmp_path / "latent",
        match="holds index.html",
        keeps=tmp_path,
    )
    # nor does the evaluation before it
    (run / "evaluation" / "probes.csv").write_text("mine")
    words = ["--project_path", results, "--data_path", store.path, "--tuned", "False"]
    refused(ssl_evaluate.main, *words, match="probes.csv: is there already", keeps=tmp_path)


# what is reused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["weights", "version"])
def test_embeddings_and_probes_of_other_weights_are_not_reported(project, tmp_path, capsys, change):
    """Was: those of the former weights were reported after a run was trained again."""
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    run = masked(copy)
    if change == "version":
        for path in (run / "embeddings").glob("*.npz"):
            with np.load(path) as arrays:
                np.savez(path, **{**arrays, "version": np.array("0.0.1")})
        probed = run / "evaluation" / "probes.json"
        probed.write_text(probed.read_text().replace('"version": "', '"version": "0.0'))
    else:
        path = run / "checkpoints" / "best.pt"
        content = torch.load(path, weights_only=True)
        name = next(iter(content["state"]))
        content["state"][name] = content["state"][name] + 1
        torch.save(content, path)
    with pytest.raises(UserError, match=r"out of date; run ssl_evaluate\.py"):
        latent_space_evaluator.main(["--project_path", str(copy), "--maps", "False"])
    with probe_pretrained.summarise(copy).open() as file:
        assert {row["configuration"] for row in csv.DictReader(file)} == {
            "ssl_contrastive_transformer_small"
        }
    assert f"left out: {run.name}" in capsys.readouterr().out
