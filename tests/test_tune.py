"""tune.py on a training that takes no time: it finds, stops early, survives, and draws."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

import tune
from experiments import search, search_report, search_space
from utils.arguments import by_flag
from utils.errors import UserError

ROOT = Path(__file__).parents[1]
# a hill over x and kind; every pass gets nearer to it
TOY = """
import argparse, json, pathlib, sys, time
p = argparse.ArgumentParser()
p.add_argument("--x", type=float, default=0.9)
p.add_argument("--kind", default="a")
p.add_argument("--slow", type=float, default=0.0)
p.add_argument("--project_path", type=pathlib.Path)
a = p.parse_args()
if a.kind == "broken":
    sys.exit("error: broken")
run = a.project_path / "toy"
run.mkdir(exist_ok=True)
top = 1 - (a.x - 0.3) ** 2 - (a.kind == "a")
for k in range(1, 4):
    time.sleep(a.slow)
    with (run / "metrics.jsonl").open("a" if k > 1 else "w") as file:
        file.write(json.dumps({"pass": k, "val_kappa": top - 0.1 / k}) + "\\n")
"""


@pytest.fixture
def toy(tmp_path):
    """Flags of a search over the toy."""
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "space.json").write_text(
        json.dumps({"x": {"low": 0.0, "high": 1.0}, "kind": ["a", "b"]})
    )
    return [
        "--script",
        str(tmp_path / "toy.py"),
        "--space",
        str(tmp_path / "space.json"),
        "--output",
        str(tmp_path / "out"),
    ]


def table_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))


def test_a_better_setting_than_the_default_within_twenty_trials(toy, tmp_path, capsys):
    tune.main([*toy, "--n_trials", "20"])
    out = tmp_path / "out"
    summary = json.loads((out / "search.json").read_text())
    assert summary["default"] == pytest.approx(1 - 0.36 - 1 - 0.1 / 3)
    assert summary["best"] > 0.95
    assert summary["setting"]["kind"] == "b"
    assert abs(summary["setting"]["x"] - 0.3) < 0.15
    assert json.loads((out / "best.json").read_text()) == summary["setting"]
    rows = table_of(out)
    states = summary["trials"]
    assert states["complete"] + states["pruned"] == 20 == len(rows)
    for name in ("history", "slices", "parallel", "importances"):
        assert (out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert "best val_kappa" in capsys.readouterr().out
    tune.main([*toy, "--n_trials", "20"])  # nothing left to do
    assert len(table_of(out)) == 20
    with pytest.raises(UserError, match="holds a search with another metric"):
        tune.main([*toy, "--metric", "val_loss"])


def test_it_resumes_after_being_killed(toy, tmp_path):
    slow = [*toy, "--n_trials", "6", "--fixed", "--slow 0.25", "--prune", "False"]
    command = [sys.executable, str(ROOT / "tune.py"), *slow]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("trial 1"):
                break
        time.sleep(0.3)  # in the middle of the next
        os.kill(process.pid, signal.SIGKILL)
    tune.main(slow)
    summary = json.loads((tmp_path / "out" / "search.json").read_text())
    assert summary["trials"]["complete"] == 6
    assert summary["trials"]["running"] == 0
    assert summary["trials"]["fail"] <= 1


def test_two_workers_share_a_study(toy, tmp_path):
    tune.main([*toy, "--n_trials", "6", "--workers", "2"])
    summary = json.loads((tmp_path / "out" / "search.json").read_text())
    assert 6 <= summary["trials"]["complete"] + summary["trials"]["pruned"] <= 7
    assert settings_are_unlike(tmp_path / "out")


def settings_are_unlike(folder: Path) -> bool:
    rows = table_of(folder)
    return len({row["folder"] for row in rows}) == len(rows)


@pytest.mark.slow
def test_equal_commands_begun_together_share_a_study(toy, tmp_path):
    """Was: both made the study, one of them with a traceback; later both drew the same settings."""
    command = [sys.executable, str(ROOT / "tune.py"), *toy, "--n_trials", "4"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    states = json.loads((tmp_path / "out" / "search.json").read_text())["trials"]
    assert 4 <= states["complete"] <= 5 and not states["fail"]
    assert settings_are_unlike(tmp_path / "out")


def test_a_search_that_is_continued_draws_what_one_would_have_drawn(toy, tmp_path):
    """Was: its sampler was seeded anew, and drew the first settings again; pictures differed."""
    space = search_space.read_space(tmp_path / "space.json")
    whole = search.Search(
        tmp_path / "toy.py", (), space, "val_kappa", True, tmp_path / "whole", 4, True, 0
    )
    one, other = (replace(whole, output=tmp_path / "out", n_trials=n) for n in (2, 4))
    search.run(one)
    studies = [search.run(asked) for asked in (other, whole)]
    settings = [[(trial.params, trial.state) for trial in study.trials] for study in studies]
    assert settings[0] == settings[1]
    for asked, study in zip((other, whole), studies, strict=True):
        search_report.report(asked, study)
    results = [
        {path.name: path.read_bytes() for end in ("png", "csv") for path in folder.glob(f"*.{end}")}
        for folder in (tmp_path / "out", tmp_path / "whole")
    ]
    assert len(results[0]) > 3 and results[0] == results[1]


def test_a_trial_that_is_tried_again_is_counted_once():
    import optuna

    space = {"x": {"low": 0.0, "high": 1.0}}

    def drawn(killed: int | None) -> list[float]:
        study = optuna.create_study(sampler=search.sampler_of(0))
        for number in range(4):
            trial = study.ask()
            search_space.suggest(trial, space)
            if number == killed:
                trial.set_user_attr("worker", [socket.gethostname(), 2**22 + 1])  # no process has
                search.abandon_dead(study)
                trial = study.ask()
                search_space.suggest(trial, space)
            study.tell(trial, number)
        return [t.params["x"] for t in study.trials if t.value is not None]

    assert drawn(1) == drawn(None)


def test_whether_a_trial_is_pruned_does_not_depend_on_when_it_is_looked_at(toy, tmp_path):
    """Was: a training that had ended before the first look counted as complete."""
    import optuna

    class Falling:
        """A trial that has fallen behind at its first pass."""

        def report(self, value: float, step: int) -> None: ...

        def should_prune(self) -> bool:
            return True

    wanted = search.Search(
        tmp_path / "toy.py", (), {}, "val_kappa", True, tmp_path / "out", 1, True, 0
    )
    with pytest.raises(optuna.TrialPruned):  # its three passes take less than a look
        search.train(wanted, {"x": 0.5}, Falling())


def test_broken_settings_are_left_behind_and_broken_defaults_refused(toy, tmp_path):
    (tmp_path / "space.json").write_text(json.dumps({"kind": ["broken", "b"]}))
    tune.main([*toy, "--n_trials", "3"])
    summary = json.loads((tmp_path / "out" / "search.json").read_text())
    assert summary["trials"]["complete"] + summary["trials"]["pruned"] == 3
    with pytest.raises(UserError, match=r"toy.py ended with 1: error: broken"):
        tune.main([*toy[:-1], str(tmp_path / "other"), "--fixed", "--kind broken"])
    with pytest.raises(UserError, match="wrote no val_f1 into metrics"):
        tune.main([*toy[:-1], str(tmp_path / "third"), "--metric", "val_f1"])


def test_a_grid_is_trained_whole_and_what_cannot_be_is_listed(toy, tmp_path, capfd):
    grid = {"x": [0.1, 0.3], "kind": ["a", "b", "broken"]}
    (tmp_path / "space.json").write_text(json.dumps(grid))
    words = [*toy, "--grid", "--prune", "False"]
    tune.main(words)
    rows = table_of(tmp_path / "out")
    assert {(row["x"], row["kind"]) for row in rows} == set(product(["0.1", "0.3"], grid["kind"]))
    assert [row["state"] for row in rows if row["kind"] == "broken"] == ["fail", "fail"]
    printed = "".join(capfd.readouterr())
    assert printed.count("toy.py ended with 1: error: broken") == 2  # and no traceback
    assert "Traceback" not in printed
    summary = json.loads((tmp_path / "out" / "search.json").read_text())
    assert summary["setting"] == {"x": 0.3, "kind": "b"}
    tune.main(words)  # nothing left to do
    assert len(table_of(tmp_path / "out")) == len(rows) == 6
    (tmp_path / "space.json").write_text(json.dumps({"x": {"low": 0.0, "high": 1.0}}))
    with pytest.raises(UserError, match="--grid: x is a range"):
        tune.main([*toy[:-1], str(tmp_path / "other"), "--grid"])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{", "not a search space"),
        ("{}", "empty search space"),
        ('{"x": {"low": "0.001", "high": "0.01"}}', "which are numbers"),
        ('{"x": {"low": 0.001, "high": "0.01"}}', "which are numbers"),
        ('{"x": {"low": null, "high": 1}}', "which are numbers"),
        ('{"x": {"low": [1], "high": [2]}}', "which are numbers"),
        ('{"x": {"low": true, "high": 2}}', "which are numbers"),
        ('{"x": {"low": NaN, "high": 2}}', "which are numbers"),
        ('{"x": {"low": 1, "high": Infinity}}', "which are numbers"),
        ('{"x": {"low": 0, "high": 2.5, "log": true}}', "above 0"),
        ('{"x": {"low": 1, "high": 2, "log": "yes"}}', "above 0"),
        ('{"x": {"low": 1, "high": 2, "step": 0}}', "above 0"),
        ('{"x": {"low": 1, "high": 8, "step": 0.5}}', "above 0"),
        ('{"x": {"low": 1, "high": 2, "step": "1"}}', "above 0"),
        ('{"x": {"low": 1}}', "give"),
        ('{"x": []}', "give"),
        ('{"x": [[1, 2]]}', "give"),
        ('{"x": [{"a": 1}]}', "give"),
        ('{"x": "low"}', "give"),
        ("[]", "empty search space"),
        ("3", "not a search space"),
        ("null", "not a search space"),
        ("[" * 100_000, "nested without end"),
        ('{"x": ' * 300 + "3" + "}" * 300, "nested without end"),
        ('{"x": 3}', "x is 3; give"),
        ('{"x": {"low": 2, "high": 1}}', "low must be below"),
    ],
)
def test_spaces_that_are_none(tmp_path, space, message):
    (tmp_path / "space.json").write_text(space)
    with pytest.raises(UserError, match=message):
        search_space.read_space(tmp_path / "space.json")


def test_the_spaces_shipped_name_flags_that_exist():
    import cmt_training
    import foundation_training

    scripts = {"cmt": cmt_training, "foundation": foundation_training}
    for path in (ROOT / "configs" / "tune").glob("*.json"):
        known = by_flag(scripts[path.stem.partition("_")[0]].parse_args([]))
        assert set(search_space.read_space(path)) <= set(known)
