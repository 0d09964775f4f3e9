"""The table of models: trained by the scripts, pooled over folds, published numbers beside ours."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import reproduce_tables
from experiments import cells, model_table, reproducing
from utils import metrics
from utils.errors import UserError

ROOT = Path(__file__).parents[1]

QUICK = "--n_epochs 1 --first_epochs 0 --logger csv --accelerator cpu --batch_size 8"


@pytest.fixture(scope="module")
def made(store, tmp_path_factory) -> Path:
    """Two folds of one model."""
    folder = tmp_path_factory.mktemp("tables")
    reproduce_tables.main(words(store, folder))
    return folder


def words(store, folder: Path, *more: str) -> list[str]:
    paths = ["--data_path", str(store.path), "--project_path", str(folder), "--device", "cpu"]
    chosen = ["--models", "chambon2018", "--fold_list", "0,-1", "--jobs", "2"]
    chosen += ["--folds", "kfold:3:0"]
    return [*paths, *chosen, "--flags", QUICK, *more]


def test_one_command_makes_the_table(made, store):
    rows = json.loads((made / "staging.json").read_text())["rows"]
    assert [row["model"] for row in rows] == ["chambon2018"]
    row = rows[0]
    assert row["whose"] == "ours" and row["data"].startswith("synthetic-sleepedf-2018, ")
    assert row["parameters"] == 5_661 and row["runs"] == 2 and row["subjects"] == 2
    assert row["seconds_per_pass"] > 0 and row["seconds_per_night"] > 0
    # pooled over the epochs of both folds
    counts = np.zeros((5, 5), int)
    for path in made.glob("seed0/*/evaluation/metrics.json"):
        counts += np.array(json.loads(path.read_text())["confusion"])
    assert row["epochs"] == counts.sum()
    for name in model_table.FIGURES:
        assert row[name] == pytest.approx(float(metrics.SUMMARIES[name](counts)))
        mean = row[f"{name}_mean_of_subjects"]
        assert row[f"{name}_low"] <= mean <= row[f"{name}_high"]
        assert row[f"{name}_interval"] == "t, mean over subjects"
        assert (
            f"{row[name]:.3f}; mean of 2 subjects {mean:.3f} [" in (made / "staging.md").read_text()
        )
    text = (made / "staging.md").read_text()
    assert "| chambon2018 | ours |" in text and "Wake trimming" in text and "5,661" in text
    latex = (made / "staging.tex").read_text()
    assert latex.count(r"\\") == 2 and "synthetic-sleepedf-2018" in latex
    with (made / "staging.csv").open() as file:
        assert next(csv.DictReader(file))["kappa"] == str(row["kappa"])


def test_what_is_done_is_not_done_again(made, store, monkeypatch, capsys):
    def refuse(*words, **about):
        raise AssertionError("trained again")

    monkeypatch.setattr(cells, "executor_of", refuse)
    reproduce_tables.main(words(store, made))
    said = capsys.readouterr().out
    assert "2 trainings, 2 of them done" in said
    assert "has no published numbers: the table holds ours alone" in said


def test_one_folder_holds_one_question(made, store):
    """Other flags would be mixed up in one table."""
    with pytest.raises(UserError, match="holds runs of another flags; choose another"):
        reproduce_tables.main(words(store, made, "--flags", f"{QUICK} --lr 0.1"))


def test_synthetic_runs_never_stand_in_a_real_cohorts_row(made):
    runs = sorted(made.glob("seed0/*_fold*/"))
    model_table.check_cohort(runs, "synthetic-sleepedf-2018")
    with pytest.raises(UserError, match=r"measured on synthetic-sleepedf-2018; it cannot stand"):
        model_table.check_cohort(runs, "sleepedf-2018")


@pytest.mark.slow
def test_killed_and_started_again(store, tmp_path):
    """The training that a killed command left behind is ended, resumed, never doubled."""
    more = words(store, tmp_path, "--fold_list", "0", "--jobs", "1")
    more[more.index("--flags") + 1] = QUICK.replace("--n_epochs 1 ", "--n_epochs 3 ")
    command = [sys.executable, "reproduce_tables.py", *more]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        passes = tmp_path / "seed0" / "chambon2018_fold0" / "metrics.jsonl"
        until = time.monotonic() + 120
        while not passes.exists() and time.monotonic() < until:
            time.sleep(0.02)
        process.kill()
    first = passes.read_text().splitlines()[0]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(line) for line in passes.read_text().splitlines()]
    assert [row["pass"] for row in rows] == [1, 2, 3]
    assert json.loads(first) == rows[0]
    assert json.loads((tmp_path / "staging.json").read_text())["rows"][0]["passes"] == 3
    assert not list(tmp_path.rglob("*.pid"))


@pytest.mark.slow
def test_the_table_of_pretrained_encoders(store, tmp_path):
    """Folds pooled over subjects; the same encoder with random weights beside it."""
    reproduce_tables.main(
        [
            "--table",
            "ssl",
            "--models",
            "contrastive_cnn",
            "--fold_list",
            "0,1",
            "--data_path",
            str(store.path),
            "--project_path",
            str(tmp_path),
            "--folds",
            "kfold:3:0",
            "--flags",
            "--n_epochs 1 --logger csv --accelerator cpu --batch_size 32",
            "--device",
            "cpu",
        ]
    )
    rows = json.loads((tmp_path / "ssl.json").read_text())["rows"]
    by_model = {row["model"]: row for row in rows}
    assert set(by_model) == {"contrastive_cnn", "contrastive_cnn, random weights"}
    counts = np.zeros((5, 5), int)
    for path in tmp_path.glob("seed0/*/evaluation/probes.json"):
        for row in json.loads(path.read_text())["rows"]:
            if (row["space"], row["probe"], row["labels"]) == ("pretrained", "linear", "all"):
                counts += sum(np.array(matrix) for matrix in row["per_subject"].values())
    row = by_model["contrastive_cnn"]
    assert row["runs"] == row["subjects"] == 2 and row["epochs"] == counts.sum()
    assert row["kappa"] == pytest.approx(float(metrics.kappa(counts)))
    assert row["parameters"] == 1_142_973
    assert "30 min of Wake" in row["data"]


@dataclass(eq=False)
class CellJob:
    """Stands for a submitted cell, which has ended after so many ``polls``."""

    cell: cells.Cell
    polls: int
    fault: str
    cancelled: bool = False

    def done(self) -> bool:
        self.polls -= 1
        return self.polls < 0

    def result(self) -> str:
        return self.fault

    def cancel(self) -> None:
        self.cancelled = True


class Submitted:
    """Stands for submitit's executor; ``lasting`` are the polls at each cell before it ends."""

    def __init__(self, cluster: str, lasting: list[int], fault: str = "") -> None:
        self.cluster, self.lasting, self.fault = cluster, lasting, fault
        self.jobs: list[CellJob] = []

    def submit(self, function, cell) -> CellJob:
        self.jobs.append(CellJob(cell, self.lasting[len(self.jobs)], self.fault))
        return self.jobs[-1]


def cells_of(tmp_path, n: int) -> list[cells.Cell]:
    return [cells.Cell(f"cell {k}", [], tmp_path / f"{k}.log") for k in range(n)]


def test_cells_share_gpus_equally(monkeypatch, tmp_path):
    """Was: in turn, so that two trainings shared a GPU while another had none."""
    executor = Submitted("local", lasting=[9, 1, 1, 1])
    monkeypatch.setattr(cells, "executor_of", lambda folder, options: executor)
    monkeypatch.setattr(cells, "_POLL_SECONDS", 0)
    cells.run_cells(cells_of(tmp_path, 4), tmp_path, 2, gpus=(2, 5))
    seen = [job.cell.environment["CUDA_VISIBLE_DEVICES"] for job in executor.jobs]
    assert seen == ["2", "5", "5", "5"]  # the first still runs
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    executor.jobs.clear()
    cells.run_cells(cells_of(tmp_path, 1), tmp_path, 1)
    assert executor.jobs[0].cell.environment == {"CUDA_VISIBLE_DEVICES": "7"}
    executor.cluster = "slurm"
    with pytest.raises(UserError, match="--gpus: Slurm chooses GPUs"):
        cells.run_cells(cells_of(tmp_path, 1), tmp_path, 1, gpus=(2, 5))


def test_a_cell_that_fails_interrupts_the_others(monkeypatch, tmp_path):
    executor = Submitted("slurm", lasting=[9, 1, 9], fault="cell 1: broken (all of it: 1.log)")
    monkeypatch.setattr(cells, "executor_of", lambda folder, options: executor)
    monkeypatch.setattr(cells, "_POLL_SECONDS", 0)
    with pytest.raises(UserError, match="cell 1: broken"):
        cells.run_cells(cells_of(tmp_path, 3), tmp_path, 2)
    assert [job.cancelled for job in executor.jobs] == [True, False]
    assert executor.jobs[0].cell.environment is None  # Slurm's own


def test_what_submitit_does_not_know_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"--submit: .*moon"):
        cells.executor_of(tmp_path, {"moon": "1"})
    with pytest.raises(UserError, match="--submit moon: give name=value"):
        reproduce_tables.parse_args(["--submit", "moon"])


def test_no_two_trainings_have_one_folder(tmp_path):
    """Was: a model or a seed given twice, or folds among --flags, trained one run twice at once."""
    asked = reproduce_tables.parse_args(
        ["--models", "chambon2018,chambon2018", "--seeds", "1,1", "--flags", "--lr 0.1"]
    )
    assert asked.models == ["chambon2018"] and asked.seeds == [1]
    for words in ("--val_data_list 0", "--lr 1 --seed=3", "-e tinysleepnet"):
        with pytest.raises(UserError, match="this script sets it for each of its trainings"):
            reproduce_tables.parse_args(["--flags", words])
    with pytest.raises(UserError, match="--flags '--lr: No closing quotation"):
        reproduce_tables.parse_args(["--flags", "'--lr"])


def test_a_training_that_fails_is_one_line_and_names_its_log(store, tmp_path):
    with pytest.raises(UserError, match=r"2018, fold \d, seed 0: .*no channel 'XYZ'.*\.log\)"):
        reproduce_tables.main(words(store, tmp_path, "--flags", f"{QUICK} --channels XYZ"))


def test_published_numbers_stand_in_real_cohorts_only():
    wanted = ["tinysleepnet", "deepsleepnet"]
    published = model_table.published_rows(model_table.PUBLISHED, "sleepedf-2013", wanted)
    by_model = {row["model"]: row for row in published}
    assert (
        by_model["TinySleepNet"]["accuracy"] == 0.854 and by_model["TinySleepNet"]["kappa"] == 0.8
    )
    assert by_model["DeepSleepNet"]["macro_f1"] == 0.769
    assert all("wake +-30 min" in row["data"] for row in published)
    assert all(row["whose"].startswith("published") for row in published)
    wanted = [model_table.CALLED[name] for name in reproducing.PRETRAINED]
    rows = model_table.published_rows(model_table.PUBLISHED, "sleepedf-2018", wanted)
    assert len(rows) == 9 and rows[0]["model"] == "SSL contrastive, CNN"
    for cohort in ("synthetic-sleepedf-2013", "ucddb", "synthetic-dodh"):
        assert model_table.published_rows(model_table.PUBLISHED, cohort, wanted) == []


def test_models_are_sorted_and_missing_figures_are_dashes(tmp_path):
    def row(model, kappa):
        return {"model": model, "whose": "ours", "accuracy": 0.5, "macro_f1": None, "kappa": kappa}

    rows = [row("a", 0.2), row("b", None), row("c", 0.9)]
    model_table.write(tmp_path, "t", rows, "conditions", overwrite=False)
    lines = (tmp_path / "t.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| c", "| a", "| b"]
    assert lines[4].split(" | ")[4] == "–"


def test_folds_and_models_are_checked():
    assert reproducing.fold_numbers(["all"], 3) == [0, 1, 2]
    assert reproducing.fold_numbers(["-1", "0", "2"], 3) == [2, 0]
    for wrong in (["3"], ["x"]):
        with pytest.raises(UserError, match="--fold_list takes 0 to 2"):
            reproducing.fold_numbers(wrong, 3)
    with pytest.raises(UserError, match="there are chambon2018"):
        reproduce_tables.parse_args(["--models", "chambon"])
    with pytest.raises(UserError, match="masked_cnn: not of --table staging"):
        reproduce_tables.parse_args(["--models", "masked_cnn"])
    assert reproduce_tables.parse_args(["--table", "cmt"]).models == ["epoch_cmt", "sequence_cmt"]
