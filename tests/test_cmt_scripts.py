"""``cmt_training.py`` and ``cmt_evaluate.py`` as users run them, flag by flag."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cmt_evaluate
import cmt_training
from datasets.store.store import Store
from tests.conftest import prepare
from tests.test_scripts import one_line, run
from tests.test_training import TINY, train
from training.loggers import open_logger
from utils.arguments import by_flag
from utils.checkpoint import load_checkpoint, load_tensors, save_checkpoint
from utils.errors import UserError
from utils.runs import Run

ROOT = Path(__file__).parents[1]


def parsed(*words: str) -> SimpleNamespace:
    """Values of all flags side by side."""
    return SimpleNamespace(**by_flag(cmt_training.parse_args(list(words))))


# the flags of the published training script, each with the fault it had


@pytest.mark.parametrize("spelling", ["0 1 2 3", "0,1,2,3", "[0,1,2,3]", "[0, 1, 2, 3]"])
def test_fold_lists_in_every_spelling(spelling):
    words = spelling.split()
    # published: the defaults raise TypeError, and "0 1 2 3" silently trains on fold 0 alone
    assert parsed("--train_data_list", *words).train_data_list == [0, 1, 2, 3]
    assert parsed("--val_data_list", *words).val_data_list == [0, 1, 2, 3]
    assert parsed("--test_data_list", *words).val_data_list == [0, 1, 2, 3]
    assert parsed().train_data_list == [0, 1, 2, 3]


def test_folds_from_ten_on_are_numbers():
    # published: read digit by digit
    assert parsed("--train_data_list", "[10,11]").train_data_list == [10, 11]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], True),
        (["--is_retrain"], True),
        (["--is_retrain", "False"], False),  # published: True
        (["--is_retrain", "false"], False),
        (["--no-is_retrain"], False),
        (["--resume", "True"], True),
        (["--no-resume"], False),
    ],
)
def test_booleans_mean_what_they_say(words, expected):
    assert parsed(*words).resume is expected


@pytest.mark.parametrize("flag", ["--weights", "--weigths"])
@pytest.mark.parametrize("value", [["1,2,1,2,2"], ["[1, 2, 1, 2, 2]"], ["1", "2", "1", "2", "2"]])
def test_weights_can_be_set(flag, value):
    # published: type=list cannot be set at all
    assert parsed(flag, *value).weights == [1, 2, 1, 2, 2]
    assert parsed().weights == [1, 2, 1, 2, 2]


def test_defaults_are_the_published_ones():
    args = parsed()
    expected = {
        "model_type": "Epoch",
        "d_model": 128,
        "dim_feedforward": 512,
        "window_size": 50,
        "num_seq": 15,
        "batch_size": 32,
        "lr": 1e-3,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "eps": 1e-9,
        "weight_decay": 1e-4,
        "n_epochs": 200,
        "step_size": 30,
        "gamma": 0.5,
        "save_model_freq": 50,
        "project_path": Path("results"),
        "is_neptune": False,
        "seq_loss": "sum",
        "train_stride": 1,
        "grad_clip": 0.0,
        "select_on": "validation",
    }
    assert {name: getattr(args, name) for name in expected} == expected
    assert isinstance(args.step_size, int)


def test_presets_and_flags_beside_them():
    assert parsed("--preset", "paper_epoch").dim_feedforward == 128
    assert parsed("--preset", "paper_seq").encoder == "per_position"
    args = parsed("--preset", "paper_seq", "--encoder", "shared", "--patience", "3")
    assert (args.model_type, args.encoder, args.patience) == ("Seq", "shared", 3)


@pytest.mark.parametrize(
    ("words", "parameters"),
    [
        (["--preset", "paper_epoch"], 323_973),
        (["--model_type", "Epoch"], 521_349),
        (["--model_type", "Seq"], 455_045),
        (["--preset", "paper_seq"], 4_049_867),
        (["--preset", "paper_seq", "--num_seq", "5"], 1_482_137),
        (["--model_type", "Seq", "--num_seq", "21"], 455_045),  # published: never reaches the model
        (["--model_type", "Seq", "--epoch_position", "learned"], 455_045 + 15 * 128),
        (["--channels", "EEG", "EEG2", "EOG"], 521_349 + 94_848 + 131_968 + 128 * 5),
        (["--window_size", "25"], 521_349 - 2 * 3_872),  # published: only 50 works
        (["--channels", "EEG"], 521_349 - 94_848 - 131_968 - 128 * 5),
    ],
)
def test_flags_reach_the_model(store, tmp_path, capsys, words, parameters):
    paths = ["--data_path", str(store.path), "--project_path", str(tmp_path), "--logger", "csv"]
    cmt_training.main([*paths, "--train_data_list", "0,1", "--n_epochs", "0", *words])
    assert f"{parameters:,} parameters" in capsys.readouterr().out


def test_every_setting_of_the_optimiser_reaches_it(store, tmp_path):
    words = ["--lr", "0.002", "--beta_1", "0.8", "--beta_2", "0.99", "--eps", "1e-7"]
    words += ["--weight_decay", "0.01", "--step_size", "7", "--gamma", "0.3", "--n_epochs", "1"]
    checkpoint = load_checkpoint(train(store, tmp_path, *words) / "checkpoints" / "last.pt")
    group = checkpoint.progress["optimizer"]["param_groups"][0]
    assert group["lr"] == 0.002 and tuple(group["betas"]) == (0.8, 0.99)
    assert (group["eps"], group["weight_decay"]) == (1e-7, 0.01)
    assert (
        checkpoint.progress["schedule"]["step_size"],
        checkpoint.progress["schedule"]["gamma"],
    ) == (7, 0.3)


@pytest.mark.parametrize("batch_size", ["1", "7", "16", "31"])
@pytest.mark.parametrize("model_type", ["Seq", "Epoch"])
def test_any_batch_size_trains(store, tmp_path, batch_size, model_type):
    # published: a batch or a last batch of one raises
    words = ["--batch_size", batch_size, "--n_epochs", "1", "--model_type", model_type]
    run_folder = train(store, tmp_path, *words, "--train_stride", "9")
    assert np.isfinite(Run(run_folder).rows()[0]["train_loss"])


@pytest.mark.parametrize(
    "words",
    [
        ["--encoder", "per_position"],
        ["--seq_loss", "mean"],
        ["--weigths", "1,1,1,1,1"],
        ["--chunk_epochs", "20"],
        ["--train_stride", "3"],
        ["--grad_clip", "0.1"],
        ["--accumulate", "2"],
        ["--dropout", "0"],
    ],
)
def test_flags_that_change_the_training(store, tmp_path, words):
    # one pass of plain settings against one with the flag: nothing is ignored
    plain = Run(train(store, tmp_path / "a", "--n_epochs", "1")).rows()[0]
    other = Run(train(store, tmp_path / "b", "--n_epochs", "1", *words)).rows()[0]
    assert plain["train_loss"] != other["train_loss"]


def test_selecting_on_the_test_fold_is_written_everywhere(store, tmp_path, capsys):
    run_folder = train(store, tmp_path, "--select_on", "test", "--n_epochs", "1")
    assert "the figures will be too good" in capsys.readouterr().out
    assert json.loads((run_folder / "run.json").read_text())["select_on"] == "test"
    evaluate(store, tmp_path)
    result = json.loads((run_folder / "evaluation" / "metrics.json").read_text())
    assert result["about"]["select_on"] == "test"
    assert "SELECTED ON THE TEST FOLD" in result["about"]["headline"]


def test_neptune_takes_no_token_from_the_command_line(tmp_path, monkeypatch):
    # published: --is_neptune True raises AttributeError, and a token lay in the source
    with pytest.raises(UserError, match="NEPTUNE_API_TOKEN"):
        parsed("--is_neptune", "True", "--nep_api", "secret")
    assert parsed("--is_neptune", "True").logger == "neptune"
    assert parsed("--is_neptune", "False").logger == "tensorboard"
    for name in ("neptune", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError, match=f"pip install {name}"):
            open_logger(name, tmp_path, {}, "project")


class FakeService:
    """Stands in for the wandb and neptune modules."""

    def __init__(self):
        self.seen = []

    def init(self, **settings):
        self.settings = settings
        return self

    init_run = init

    def log(self, figures, step):
        self.seen.append((figures, step))

    def __setitem__(self, name, value):
        self.settings[name] = value

    def __getitem__(self, name):
        return [] if name == "none" else self

    def append(self, value, step):
        self.seen.append((value, step))


@pytest.mark.parametrize(
    ("name", "expected"), [("wandb", [({"a": 1.0}, 3)]), ("neptune", [(1.0, 3)])]
)
def test_loggers_get_every_figure(monkeypatch, tmp_path, name, expected):
    service = FakeService()
    monkeypatch.setitem(sys.modules, name, service)
    open_logger(name, tmp_path, {"lr": 1}, "sleep")({"a": 1.0}, 3)
    assert service.seen == expected and service.settings["project"] == "sleep"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_holds_the_curve(store, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_folder = train(store, tmp_path, "--logger", "tensorboard")
    events = EventAccumulator(str(run_folder / "tensorboard")).Reload()
    values = [event.value for event in events.Scalars("val_kappa")]
    assert values == pytest.approx([row["val_kappa"] for row in Run(run_folder).rows()])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data_path", "nowhere"], "nowhere: there is no store; run the preprocess script"),
        (["--train_data_list", "0,1", "--val_data_list", "1"], "both trained on and held out"),
        (["--train_data_list", "0,7"], "no fold 7 for the training list; there are 0 to 2"),
        (["--train_data_list", "0,0"], "repeats a fold"),
        (["--train_data_list", "0,x"], "is not a list of whole numbers"),
        (["--folds", "cmt5"], "no folds 'cmt5'; there are kfold-3-0"),
        (["--channels", "ECG"], "no channel 'ECG'; it has EEG Fpz-Cz (EEG)"),
        (["--channels", "EEG", "EMG"], "cannot share a batch"),
        (["--weights", "1,2"], "--weights takes five numbers"),
        (["--window_size", "60"], "window_size 60 must be a multiple of 25"),
        (["--d_model", "20"], "d_model 20 must be a multiple of 8"),
        (["--num_seq", "0"], "--num_seq"),
        (["--num_seq", "500"], "no recording has 500 epochs"),
        (["--chunk_epochs", "3"], "holds no window of 5 epochs"),
        (["--batch_size", "0"], "--batch_size"),
        (["--lr", "-1"], "--lr"),
        (["--beta_1", "1"], "--beta_1"),
        (["--accelerator", "cuda"], "--accelerator cuda"),
        (["--model_path", "absent.pt"], "absent.pt: no such checkpoint"),
        (["--devices", "2", "--strategy", "nonsense"], "--strategy nonsense"),
        (["--dropout", "2"], "dropout probability"),
    ],
)
def test_what_cannot_work_is_one_line_and_leaves_nothing(store, tmp_path, words, message):
    if torch.cuda.is_available() and "cuda" in words:
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError) as refused:
        train(store, tmp_path, *words)
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert not list(tmp_path.rglob("*"))


# evaluation


def evaluate(store: Store, project: Path, *words: str) -> None:
    paths = ["--data_path", str(store.path), "--project_path", str(project)]
    cmt_evaluate.main([*paths, "--device", "cpu", *words])


@pytest.fixture(scope="module")
def project(store, tmp_path_factory) -> Path:
    """A Seq and an Epoch run, the Seq one trained last."""
    folder = tmp_path_factory.mktemp("project")
    train(store, folder, "--model_type", "Epoch", "--n_epochs", "1")
    train(store, folder, "--n_epochs", "1")
    return folder


def result_of(run_folder: Path) -> dict:
    return json.loads((run_folder / "evaluation" / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("words", "run_name"),
    [
        ([], "cmt_seq_fold2"),
        (["--model_type", "Seq", "--val_data_list", "[2]"], "cmt_seq_fold2"),
        (["--model_type", "Epoch"], "cmt_epoch_fold2"),
        (["--model_type", "Seq", "--num_seq", "5", "--train_data_list", "0 1"], "cmt_seq_fold2"),
        (["--is_best_kappa", "False"], "cmt_seq_fold2"),
    ],
)
def test_the_run_meant_is_evaluated(store, project, capsys, words, run_name):
    words = [part for word in words for part in word.split()]
    evaluate(store, project, *words)
    out = capsys.readouterr().out
    assert f"written: {project / run_name / 'evaluation'}" in out
    about = result_of(project / run_name)["about"]
    wanted = "best_accuracy.pt" if "--is_best_kappa" in words else "best.pt"
    assert about["checkpoint"] == wanted
    held_out = set(about["trained"]["subjects"]["held_out"])
    assert {r["subject"] for r in result_of(project / run_name)["recordings"]} == held_out


@pytest.mark.parametrize("batch_size", ["1", "7"])
def test_the_batch_size_changes_no_figure(store, project, batch_size):
    # published: sequences work with batches of one only
    evaluate(store, project)
    before = result_of(project / "cmt_seq_fold2")
    evaluate(store, project, "--batch_size", batch_size)
    after = result_of(project / "cmt_seq_fold2")
    assert after["confusion"] == before["confusion"]


def test_every_kept_epoch_is_staged_once(store, project):
    evaluate(store, project)
    folder = project / "cmt_seq_fold2" / "evaluation"
    for row in result_of(folder.parent)["recordings"]:
        lines = (folder / "predictions" / f"{row['recording']}.csv").read_text().splitlines()
        assert len(lines) - 1 == int(store.recordings[row["recording"]]["n_epochs"])


def test_a_missing_best_checkpoint_is_said_and_replaced(store, project, tmp_path, capsys):
    copy = tmp_path / "p" / "cmt_seq_fold2"
    shutil.copytree(project / "cmt_seq_fold2", copy)
    (copy / "checkpoints" / "best.pt").unlink()
    evaluate(store, tmp_path / "p", "--pictures", "0")
    assert "no best.pt, taking best_accuracy.pt" in capsys.readouterr().out
    (copy / "checkpoints" / "best_accuracy.pt").unlink()
    evaluate(store, tmp_path / "p", "--pictures", "0")
    assert "taking last.pt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model_path", "absent.pt"], "no such checkpoint"),
        (["--val_data_list", "9", "--model_type", "Seq"], "no trained run cmt_seq_fold9"),
        (["--num_seq", "15"], "--num_seq 15, but it was trained with 5"),
        (["--train_data_list", "0,2"], "trained on folds [0, 1], not on [0, 2]"),
        (["--channels", "EEG"], "the checkpoint reads 2: EEG Fpz-Cz, EOG horizontal"),
        (["--channels", "EEG", "ECG"], "no channel 'ECG'"),
        (["--device", "tpu9"], "--device tpu9"),
        (["--folds", "tiny20"], "no folds 'tiny20'"),
        (["--data_path", "nowhere"], "there is no store"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(store, project, words, message):
    with pytest.raises(UserError) as refused:
        evaluate(store, project, *words)
    assert message in str(refused.value)


def changed(project: Path, tmp_path: Path, **changes) -> list[str]:
    checkpoint = load_tensors(project / "cmt_seq_fold2" / "checkpoints" / "best.pt")
    save_checkpoint(tmp_path / "changed.pt", checkpoint | changes)
    return ["--model_path", str(tmp_path / "changed.pt")]


def test_another_kind_of_checkpoint_is_one_line(store, project, tmp_path):
    best = str(project / "cmt_seq_fold2" / "checkpoints" / "best.pt")
    with pytest.raises(UserError, match="--model_type Epoch, but it holds a Seq"):
        evaluate(store, project, "--model_path", best, "--model_type", "Epoch")
    with pytest.raises(UserError, match="a tinysleepnet checkpoint, not of cmt_training"):
        evaluate(store, project, *changed(project, tmp_path, model="tinysleepnet"))
    with pytest.raises(UserError, match="do not fit together"):
        evaluate(store, project, *changed(project, tmp_path, model="epoch_cmt"))
    with pytest.raises(UserError, match="128 Hz and its epochs of 3000 samples do not fit"):
        evaluate(store, project, *changed(project, tmp_path, fs=128.0))
    with pytest.raises(UserError, match="no channel 'ECG'"):
        channels = [["ECG II", "ECG"], ["EOG horizontal", "EOG"]]
        evaluate(store, project, *changed(project, tmp_path, channels=channels))


def test_a_role_stands_in_for_a_label_the_store_lacks(store, project, tmp_path, capsys):
    channels = [["EEG C3-A2", "EEG"], ["EOG horizontal", "EOG"]]
    evaluate(store, project, *changed(project, tmp_path, channels=channels), "--pictures", "0")
    assert "no channel 'EEG C3-A2', taking its first EEG" in capsys.readouterr().out


def test_subjects_seen_in_training_are_refused(store, project):
    best = str(project / "cmt_seq_fold2" / "checkpoints" / "best.pt")
    with pytest.raises(UserError, match="training has seen"):
        evaluate(store, project, "--model_path", best, "--val_data_list", "0")


@pytest.mark.parametrize(
    ("cohort", "refused"), [("synthetic-sleepedf-2013", True), ("sleepedf-2018", False)]
)
def test_the_same_subjects_under_another_cohorts_name(store, project, tmp_path, cohort, refused):
    # sleepedf-2013 is part of sleepedf-2018; synthetic and real subjects share ids by chance
    best = load_checkpoint(project / "cmt_seq_fold2" / "checkpoints" / "best.pt")
    words = changed(project, tmp_path, trained={**best.training.facts, "cohort": cohort})
    words += ["--val_data_list", "0", "--pictures", "0"]
    if not refused:
        evaluate(store, project, *words)
        return
    with pytest.raises(UserError, match="training has seen"):
        evaluate(store, project, *words)


def test_a_checkpoint_that_would_run_code_is_refused_by_the_script(store, tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'executed'}",))

    torch.save({"state": Trap()}, tmp_path / "trap.pt")
    words = ["--data_path", str(store.path), "--model_path", str(tmp_path / "trap.pt")]
    assert "could run code" in one_line(run("cmt_evaluate.py", *words))
    assert not (tmp_path / "executed").exists()


def test_another_store_is_evaluated_beside(raw, store, project, tmp_path):
    prepare(raw, tmp_path / "other", "--keep_all", "--folds", "kfold:3:0")
    best = project / "cmt_seq_fold2" / "checkpoints" / "best.pt"
    words = ["--model_path", str(best), "--pictures", "0", "--is_interpret", "--n_random", "1"]
    words += ["--interpret_select", "3", "--interpret_methods", "saliency", "--folds", "kfold-3-0"]
    evaluate(Store(tmp_path / "other"), project, *words)
    result = project / "cmt_seq_fold2" / "evaluation_other" / "metrics.json"
    assert json.loads(result.read_text())["about"]["folds"] == "kfold-3-0"
    assert (project / "cmt_seq_fold2" / "interpretations_other" / "index.json").exists()
    assert not (project / "cmt_seq_fold2" / "interpretations").exists()


def test_scripts_without_a_store_or_a_run_say_the_next_step(tmp_path):
    assert "there is no store; run the preprocess script" in one_line(
        run("cmt_training.py", cwd=tmp_path)
    )
    assert "no trained run" in one_line(run("cmt_evaluate.py", cwd=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # .ci/run does the same with make demo
def test_train_and_evaluate_as_after_make_demo(tmp_path):
    # published: the confusion matrix lands in the current folder
    for script, *words in (
        ("generate_demo_data.py", "--subjects", "5", "--hours", "0.5"),
        ("preprocess_sleepedf.py",),
        (
            "cmt_training.py",
            "--model_type",
            "Seq",
            "--train_data_list",
            "[0,1,2,3]",
            "--n_epochs=1",
        ),
        ("cmt_evaluate.py", "--model_type", "Seq", "--val_data_list", "[4]"),
    ):
        done = run(script, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "results"]
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["cmt_seq_fold4"]
    result = result_of(tmp_path / "results" / "cmt_seq_fold4")
    assert result["about"]["cohort"] == "synthetic-sleepedf-2018"
    assert "protocol tinysleepnet" in result["about"]["headline"]


def test_ctrl_c_keeps_last_and_leaves_with_130(store, tmp_path):
    words = ["--data_path", str(store.path), "--project_path", str(tmp_path), *TINY]
    command = [sys.executable, "cmt_training.py", *words, "--n_epochs", "500", "--patience", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob("metrics.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "the same command continues" in errors and "Traceback" not in errors
    run_folder = next(tmp_path.glob("cmt_*"))
    position = load_checkpoint(run_folder / "checkpoints" / "last.pt").progress["position"]
    assert position["passes"] >= 1
    assert len(Run(run_folder).rows()) == position["passes"]
