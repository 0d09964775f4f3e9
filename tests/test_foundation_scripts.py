"""Foundation scripts as users run them: pretrain, probe, fine-tune, evaluate, refuse."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import foundation_evaluate
import foundation_training
import generate_demo_data
import preprocess_nsrr
from datasets.store.store import Store
from evaluation.context_ablation import Reference, reaches, write_contexts
from evaluation.stage import load_model
from objectives.denoising import Denoising
from probing import embeddings
from tests.index_schema import check_index
from tests.test_nothing_lost import refused
from training import foundation_family
from utils.checkpoint import load_checkpoint, load_tensors, save_checkpoint
from utils.errors import UserError

TINY = ["--d_model", "16", "--n_heads", "2", "--dim_feedforward", "16", "--layers", "1",
        "--local_layers", "1"]  # fmt: skip


def run(*words, store: Path, project: Path) -> None:
    foundation_training.main(
        [
            *words,
            "--data_path",
            str(store),
            "--project_path",
            str(project),
            "--logger",
            "csv",
        ]
    )


@pytest.fixture(scope="module")
def trained(role_store, tmp_path_factory):
    """A project with a pretrained encoder, a probe and a fine-tuned model."""
    project = tmp_path_factory.mktemp("foundation")
    where = {"store": role_store, "project": project}
    run("--n_epochs", "2", "--batch_size", "2", *TINY, **where)
    run("--stage", "probe", "--n_epochs", "3", **where)
    run(
        "--stage",
        "finetune",
        "--head",
        "mlp",
        "--n_epochs",
        "1",
        "--focal_gamma",
        "2",
        "--weights",
        "balanced",
        "--trim_wake",
        "2",
        **where,
    )
    return project


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_three_stages(trained):
    pretrained = trained / "foundation_pretrain_both_fold4_seed0"
    rows = rows_of(pretrained / "metrics.jsonl")
    assert len(rows) == 2
    assert {"train_signal", "train_spectrum", "train_grad_norm", "val_loss", "lr"} <= set(rows[0])
    probe = trained / "foundation_probe_linear_fold4_seed0"
    assert "val_kappa" in rows_of(probe / "metrics.jsonl")[0]
    before = load_checkpoint(pretrained / "checkpoints" / "best.pt").state
    after = load_checkpoint(probe / "checkpoints" / "best.pt").state
    for name, value in before.items():  # the encoder is frozen
        if name.startswith("encoder."):
            assert torch.equal(value, after[name]), name
    tuned = load_checkpoint(
        trained / "foundation_finetune_mlp_fold4_seed0" / "checkpoints" / "best.pt"
    )
    moved = [
        not torch.equal(v, tuned.state[n])
        for n, v in before.items()
        if n.startswith("encoder.") and v.is_floating_point() and v.dim() > 1
    ]
    assert any(moved)
    assert len(list((probe / "encoded").rglob("*.npz"))) == 7  # all but the held-out


def test_steps_taken_are_steps_planned(trained):
    """F4: two passes of six nights, two at a time; the last rate is the lowest."""
    last = load_checkpoint(
        trained / "foundation_pretrain_both_fold4_seed0" / "checkpoints" / "last.pt"
    )
    assert last.progress["schedule"]["last_epoch"] == 2 * 3
    assert last.progress["schedule"]["_last_lr"][0] == pytest.approx(1e-5)


def interrupted(monkeypatch, objective: type, *words: str, store: Path, project: Path) -> None:
    """Train, stop at the fifth batch as if killed, and train again by the same command."""
    original, calls = objective.__call__, []

    def interrupt(self, model, batch):
        calls.append(1)
        if len(calls) == 5:
            raise MemoryError
        return original(self, model, batch)

    monkeypatch.setattr(objective, "__call__", interrupt)
    with pytest.raises(MemoryError):
        run(*words, store=store, project=project)
    monkeypatch.undo()
    run(*words, store=store, project=project)


def test_interrupted_is_uninterrupted(role_store, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    words = ["--n_epochs", "2", "--batch_size", "1", *TINY, "--crop_hours", "0.1"]
    run(*words, store=role_store, project=whole)
    interrupted(monkeypatch, Denoising, *words, store=role_store, project=stopped)
    name = "foundation_pretrain_both_fold4_seed0/checkpoints/last.pt"
    one, other = (load_checkpoint(project / name).state for project in (whole, stopped))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.fixture(scope="module")
def evaluated(trained, role_store) -> tuple[Path, str]:
    """The folder of a fine-tuned run, evaluated on two stores, and what that printed."""
    run_folder = trained / "foundation_finetune_mlp_fold4_seed0"
    words = ["--data_path", str(role_store), "--other_stores", str(role_store.with_name("mesa"))]
    words += ["--project_path", str(trained), "--is_interpret", "--embed", "--seeds", "0"]
    words += ["--model_path", str(run_folder / "checkpoints" / "best.pt"), "--contexts", "1,whole"]
    with redirect_stdout(StringIO()) as out:
        foundation_evaluate.main(words)
    return run_folder, out.getvalue()


def cohort_rows(run_folder: Path) -> list[dict]:
    return list(csv.DictReader((run_folder / "cohorts.csv").read_text().splitlines()))


def test_evaluation_scores_every_labelled_epoch_under_missing_roles(evaluated, role_store):
    run_folder, out = evaluated
    assert "trained on synthetic-shhs, untrimmed nights" in out
    metrics = json.loads((run_folder / "evaluation" / "metrics.json").read_text())
    held_out = load_checkpoint(run_folder / "checkpoints" / "best.pt").training.subjects
    store = Store(role_store)
    labelled = sum(
        int(store.recordings[r]["n_epochs"]) - int(store.recordings[r]["unscored"])
        for r in store.of_subjects(held_out["held_out"])
    )
    assert metrics["epochs"] == labelled  # F7: nothing is trimmed
    rows = cohort_rows(run_folder)
    assert {row["cohort"] for row in rows} == {"synthetic-shhs", "synthetic-mesa"}
    patterns = [row["pattern"] for row in rows if row["cohort"] == "synthetic-mesa"]
    assert patterns[0] == "all"
    assert {f"without {role}" for role in ("EEG", "EOG")} <= set(patterns)
    for name in ("evaluation/missing_roles.png", "evaluation_mesa/missing_roles.json"):
        assert (run_folder / name).stat().st_size > 500
    arrays = embeddings.load(run_folder / "embeddings")
    assert arrays["held_out"]["z"].shape[1] == 4 * 16


def test_the_whole_night_by_windows_is_the_night_as_it_was_staged(evaluated):
    run_folder, out = evaluated
    assert "a fair comparison has a model trained at each length" in out
    table = (run_folder / "evaluation_mesa" / "context.csv").read_text().splitlines()
    contexts = list(csv.DictReader(table))
    assert [row["context"] for row in contexts] == ["1", "10", "whole"] * 2
    rows = cohort_rows(run_folder)
    staged = next(float(row["kappa"]) for row in rows if row["cohort"] == "synthetic-mesa")
    for row in contexts[2::3]:
        assert float(row["kappa"]) == pytest.approx(staged)
    for name in ("evaluation/context.png", "evaluation/context.pdf"):
        assert (run_folder / name).stat().st_size > 500


def test_contexts_are_compared_with_the_model_that_is_named(trained, role_store, tmp_path):
    store, cpu = Store(role_store), torch.device("cpu")
    best = {kind: trained / f"foundation_{kind}_fold4_seed0/checkpoints/best.pt"
            for kind in ("finetune_mlp", "probe_linear", "pretrain_both")}  # fmt: skip
    checkpoint = load_checkpoint(best["finetune_mlp"])
    subjects = checkpoint.training.subjects

    def named(kind: str, who: list[str]) -> Reference:
        flags = SimpleNamespace(context_reference=best[kind])
        return foundation_evaluate.reference_of(flags, store, who, cpu)

    reference = named("probe_linear", subjects["held_out"])
    about = {}
    for name, model in (("own", load_model(checkpoint)), ("theirs", reference.model)):
        (tmp_path / name).mkdir()
        write_contexts(tmp_path / name, model, reference.view, reaches(["1"]), "", reference)
        about[name] = json.loads((tmp_path / name / "context.json").read_text())
    assert about["own"]["reference"] == "±10 epochs by foundation_probe_linear_fold4_seed0"
    own, theirs = (about[name]["rows"] for name in about)
    assert [row["context"] for row in own] == ["1", "10"] * 2
    at_ten = {row["centred_by"]: row for row in theirs if row["context"] == "10"}
    assert all(row["kappa_more"] == 0 for row in at_ten.values())
    assert any(row["kappa_more"] for row in own)
    for row in own:
        less = row["kappa"] - at_ten[row["centred_by"]]["kappa"]
        assert row["kappa_more"] == pytest.approx(less)
    with pytest.raises(UserError, match="--context_reference is a model that stages"):
        named("pretrain_both", subjects["held_out"])
    with pytest.raises(UserError, match="train it on the folds that the model was trained on"):
        named("probe_linear", subjects["train"])


def test_nights_are_explained_by_roles_and_attention(evaluated, role_store):
    run_folder, _ = evaluated
    for explained in (run_folder / "interpretations_mesa", run_folder / "interpretations"):
        (entry,) = check_index(explained)
        assert set(entry["methods"]) == {"role_importance", "role_attention"}
        assert entry["recording"] in entry["methods"]["role_importance"]["file"]
    recording = next(explained.glob("*_roles.csv")).name.removesuffix("_roles.csv")
    assert (explained / f"{recording}_attention.png").read_bytes()[:4] == b"\x89PNG"
    with np.load(explained / f"{recording}_attention.npz") as file:
        assert file["time"].shape[2] == int(Store(role_store).recordings[recording]["n_epochs"])


def test_a_second_store_of_a_cohort_is_named_by_its_path():
    """Was: by its folder, which may be the first one's cohort, whose rows were then lost."""
    stores = [SimpleNamespace(cohort="mesa", path=Path(p)) for p in ("/a/mesa", "/b/mesa", "/c/x")]
    known: dict[str, str] = {}
    for store in stores:
        known[foundation_evaluate.name_of(store, known)] = store
    assert list(known) == ["mesa", "/b/mesa", "/c/x"]


def test_pretrained_encoders_are_probed_beside_controls(trained, role_store, capsys):
    pretrained = trained / "foundation_pretrain_both_fold4_seed0"
    foundation_evaluate.main(
        [
            "--data_path",
            str(role_store),
            "--project_path",
            str(trained),
            "--seeds",
            "0",
            "--model_path",
            str(pretrained / "checkpoints" / "best.pt"),
            "--fractions",
            "1.0",
            "--other_stores",
            str(role_store.with_name("mesa")),
        ]
    )
    out = capsys.readouterr().out
    assert "nothing is established by fewer than two subjects" in out.splitlines()[-2]
    assert "latent_space_evaluator.py --runs foundation_pretrain_both_fold4_seed0" in out
    rows = json.loads((pretrained / "evaluation" / "probes.json").read_text())["rows"]
    spaces = ["majority", "band powers", "random encoder", "supervised encoder", "pretrained"]
    assert list(dict.fromkeys(row["space"] for row in rows)) == spaces
    moved = json.loads((pretrained / "evaluation" / "transfer.json").read_text())["rows"]
    assert [(row["space"], row["probe"]) for row in moved] == [
        (row["space"], row["probe"]) for row in rows
    ]
    assert {row["cohort"] for row in moved} == {"synthetic-mesa"}
    assert all(row["subjects"] == 3 for row in moved)
    compared = (pretrained / "evaluation" / "differences.csv").read_text()
    assert compared.count("supervised encoder") == 2 * 4  # both cohorts, four probes
    cleaned = json.loads((pretrained / "evaluation" / "cleaning.json").read_text())["rows"]
    assert [row["role"] for row in cleaned] == ["EOG", "EEG", "SPO2", "ABDO", "all"]
    assert all(row["linear_autoencoder"] is not None for row in cleaned)


def test_what_cannot_be_is_one_line(trained, role_store, tmp_path):
    where = {"store": role_store, "project": trained}
    with pytest.raises(UserError, match="pretraining has seen"):
        run("--stage", "probe", "--train_data_list", "1,2,3,4", **where)
    with pytest.raises(UserError, match="--d_model has no effect on a pretrained encoder"):
        run("--stage", "finetune", "--d_model", "8", **where)
    for words in (
        ["--head", "gru"],
        ["--stage", "probe", "--crop_hours", "1"],
        ["--stage", "finetune", "--mask_ratio", "0.3"],
        ["--pretrained", "none"],
        ["--stage", "probe", "--init", "autoencoder"],
    ):
        with pytest.raises(UserError, match="has no effect with --stage"):
            run(*words, **where)
    with pytest.raises(UserError, match="no trained run foundation_pretrain"):
        run("--stage", "probe", store=role_store, project=tmp_path)
    with pytest.raises(UserError, match="hides nothing or everything"):
        run("--mask_ratio", "1.5", store=role_store, project=tmp_path)
    with pytest.raises(UserError, match="linear computes no spectra"):
        run("--tokeniser", "linear", "--target", "spectrum", store=role_store, project=tmp_path)
    with pytest.raises(UserError, match="reads and predicts samples"):
        run("--init", "autoencoder", store=role_store, project=tmp_path)
    with pytest.raises(UserError, match="do not fill 30 s"):
        run("--patch_seconds", "7", store=role_store, project=tmp_path)
    with pytest.raises(UserError, match="--role_dropout takes a share below 1"):
        run("--role_dropout", "1", store=role_store, project=tmp_path)
    checkpoint = trained / "foundation_probe_linear_fold4_seed0/checkpoints/best.pt"
    with pytest.raises(UserError, match="not of --stage pretrain"):
        run("--stage", "probe", "--pretrained", str(checkpoint), **where)
    with pytest.raises(UserError, match="trained on another store"):
        foundation_evaluate.main(
            [
                "--data_path",
                str(role_store.with_name("mesa")),
                "--model_path",
                str(trained / "foundation_pretrain_both_fold4_seed0/checkpoints/best.pt"),
            ]
        )


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_share_a_pass(role_store, tmp_path, strategy):
    script = Path(foundation_training.__file__)
    words = [
        "--data_path",
        str(role_store),
        "--project_path",
        str(tmp_path),
        "--n_epochs",
        "1",
        "--batch_size",
        "2",
        "--devices",
        "2",
        "--accelerator",
        "cpu",
        "--strategy",
        strategy,
        "--logger",
        "csv",
        *TINY,
    ]
    process = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    last = load_checkpoint(
        tmp_path / "foundation_pretrain_both_fold4_seed0" / "checkpoints" / "last.pt"
    )
    assert last.progress["schedule"]["last_epoch"] == 3
    assert not any(value.isnan().any() for value in last.state.values())
    if strategy == "ddp":
        return
    # the same command, for a pass more, resumes from what was saved whole
    words[words.index("--n_epochs") + 1] = "2"
    process = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "resuming after pass 1, step 0" in process.stdout


def test_the_published_sizes_by_one_flag(role_store):
    args = foundation_training.parse_args(["--published", "--data_path", str(role_store)])

    class Described:
        channels = Store(role_store).channels[:1]
        fs = 125.0

    settings = foundation_family.model_settings(args.model, Described())
    assert settings["d_model"] == 512 and settings["mixing"] == "none"


def test_the_generator_and_the_script_agree_on_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = ["--jobs", "1"]  # another test's processes would still work in that test's folder
    generate_demo_data.main(
        ["--format", "nsrr", "--subjects", "2", "--nights", "1", "--hours", "0.3", *here]
    )
    preprocess_nsrr.main(["--resample", "25", "--roles", "EEG", *here])
    assert len(Store(tmp_path / "data" / "shhs").recordings) == 2


def test_what_somebody_added_to_an_evaluation_is_kept(trained, role_store, tmp_path):
    """Tables that were edited, notes in a folder: refused before anything is staged."""
    probe, pretrained = (
        tmp_path / f"foundation_{name}_fold4_seed0" for name in ("probe_linear", "pretrain_both")
    )
    for run_folder in (probe, pretrained):
        shutil.copytree(trained / run_folder.name, run_folder)
    (probe / "cohorts.csv").write_text("mine")
    words = ["--data_path", role_store, "--model_path", probe / "checkpoints" / "best.pt"]
    refused(foundation_evaluate.main, *words, match="cohorts.csv: is there already", keeps=tmp_path)
    (probe / "cohorts.csv").unlink()
    shutil.rmtree(probe / "evaluation", ignore_errors=True)
    (probe / "evaluation").mkdir()
    (probe / "evaluation" / "notes.txt").write_text("mine")
    refused(foundation_evaluate.main, *words, match="holds notes.txt", keeps=tmp_path)
    shutil.rmtree(pretrained / "evaluation", ignore_errors=True)
    (pretrained / "evaluation").mkdir()
    (pretrained / "evaluation" / "probes.csv").write_text("mine")
    words[-1] = pretrained / "checkpoints" / "best.pt"
    refused(foundation_evaluate.main, *words, match="probes.csv: is there already", keeps=tmp_path)
    # nor are the weights that a training starts from
    before = [path.read_bytes() for path in sorted(probe.rglob("*.pt"))]
    with pytest.raises(UserError, match="holds an input of this command"):
        run(
            "--stage",
            "probe",
            "--n_epochs",
            "1",
            "--resume",
            "False",
            "--model_path",
            str(probe / "checkpoints" / "best.pt"),
            store=role_store,
            project=tmp_path,
        )
    assert [path.read_bytes() for path in sorted(probe.rglob("*.pt"))] == before


def test_who_was_pretrained_on_is_seen_for_ever(trained, role_store, tmp_path, capsys):
    """Was: another store's guard knew nothing of pretraining, and nothing of simulated subjects."""
    path = trained / "foundation_finetune_mlp_fold4_seed0" / "checkpoints" / "best.pt"
    earlier = load_checkpoint(path).training.pretraining
    assert earlier.subjects["train"] and earlier.cohort == "synthetic-shhs"
    mesa = role_store.with_name("mesa")
    someone = sorted(Store(mesa).subjects)[0]
    for cohort, is_refused in (("synthetic-mesa", True), ("mesa", False)):
        raw = load_tensors(path)
        subjects = {"train": [someone], "validation": []}
        raw["trained"]["pretraining"] |= {"cohort": cohort, "subjects": subjects}
        save_checkpoint(tmp_path / "changed.pt", raw, overwrite=True)
        words = [
            "--data_path",
            role_store,
            "--model_path",
            tmp_path / "changed.pt",
            "--other_stores",
            mesa if is_refused else mesa.with_name("mesa50"),
            "--missing",
            "False",
            "--pictures",
            "0",
        ]
        if is_refused:
            with pytest.raises(UserError, match=f"pretraining has seen {someone}; leave it out"):
                foundation_evaluate.main([str(word) for word in words])
        else:
            foundation_evaluate.main([str(word) for word in words])
            line = "mesa50: signals of 50 Hz are brought to the 25 Hz of the checkpoint"
            assert line in capsys.readouterr().out


def test_tables_of_probes_hold_no_dictionary(trained, role_store):
    """Was: confusion counts by subject, printed into a cell of ``probes.csv``."""
    run_folder = trained / "foundation_pretrain_both_fold4_seed0"
    table = run_folder / "evaluation" / "probes.csv"
    if not table.exists():
        foundation_evaluate.main(
            [
                "--data_path",
                str(role_store),
                "--seeds",
                "0",
                "--model_path",
                str(run_folder / "checkpoints" / "best.pt"),
            ]
        )
    assert "{" not in table.read_text() and "kappa" in table.read_text()
