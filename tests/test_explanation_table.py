"""The command that makes the table of explanations: resumed, and whole at its smallest size."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import explanations, retraining
from utils.errors import UserError
from utils.files import write_json, write_table

ROW = {"measure": "deletion_below_random", "stage": "all"}


def finish(folder: Path, model: str, difference: float) -> None:
    """Files of a model that was explained."""
    place = folder / model / f"{model}_fold4" / "interpretations"
    means = {"ig": 0.1 + difference, "energy": 0.1}
    interval = {"low": 0.7, "high": 0.9, "subjects": 10}
    rows = [{"method": name, **ROW, "mean": value, **interval} for name, value in means.items()]
    rows.append(rows[0] | {"measure": "signs_of_first_baseline", "mean": 0.8})
    write_table(place / "summary.csv", rows)
    answers = {"ig": {"completeness_error": 0.004}, "attention": {"completeness_error": None}}
    write_json(place / "index.json", {"explanations": [{"methods": answers}] * 2})
    about = {"against": "energy", "difference": difference, "low": difference - 0.01}
    ahead = {"high": difference + 0.01, "subjects": 10, "ahead": difference > 0.01}
    write_table(place / "against_model_free.csv", [{"method": "ig", **ROW, **about, **ahead}])


def test_a_table_goes_on_where_it_stopped(tmp_path, monkeypatch):
    out, ran, failing = tmp_path / "out", [], ["seqsleepnet"]

    def run(cell):
        if cell.name in failing:
            return f"{cell.name}: killed"
        ran.append(cell.name)
        if cell.name == "nights":
            (out / "store").mkdir()
            (out / "store" / "dataset.json").write_text("{}")
        else:
            finish(out, cell.name, 0.05 if cell.name == "sequence_cmt" else -0.02)
        return ""

    monkeypatch.setattr(explanations, "run_cell", run)
    words = ["--output", str(out), "--table", str(tmp_path / "t.md")]
    words += ["--models", "sequence_cmt,seqsleepnet"]
    with pytest.raises(UserError, match="seqsleepnet: killed"):
        explanations.main(words)
    assert ran == ["nights", "sequence_cmt"] and not (tmp_path / "t.md").exists()
    failing.clear()
    explanations.main(words)
    assert ran == ["nights", "sequence_cmt", "seqsleepnet"]
    text = (tmp_path / "t.md").read_text()
    assert (
        "| sequence_cmt | ig | 0.150 | energy 0.100 | +0.050 [0.040, 0.060] | 10 | **yes** |"
        in text
    )
    assert "| seqsleepnet | ig | 0.080 | energy 0.100 | -0.020 [-0.030, -0.010] | 10 | no |" in text
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 3
    assert "| sequence_cmt | ig | signs_of_first_baseline | 0.800 [0.700, 0.900] | 10 |" in text
    assert "| sequence_cmt | ig | 2 | 100.0 % | 100.0 % | 0 |" in text
    with pytest.raises(UserError, match="made with another per_stage"):
        explanations.main([*words, "--per_stage", "3"])


def test_commands_explain_all_that_are_held_out(tmp_path):
    flags = explanations.parse_args(["--output", str(tmp_path), "--models", "simplesleepnet"])
    nights, model = list(explanations.cells(flags))
    assert "--distractors" in nights.commands[0]
    words = model.commands[1]
    assert words[words.index("--interpret_recordings") + 1] == "0"
    assert words[words.index("--interpret_select") + 1] == "per_stage:100"
    assert flags.subjects // 5 >= 10


@pytest.mark.slow
def test_the_table_at_its_smallest(tmp_path):
    words = ["--output", str(tmp_path / "out"), "--table", str(tmp_path / "table.md")]
    small = ["--subjects", "10", "--hours", "0.7", "--passes", "1", "--per_stage", "2"]
    methods = ["--models", "simplesleepnet", "--methods", "ixg", "--n_random", "2"]
    explanations.main([*words, *small, *methods])
    text = (tmp_path / "table.md").read_text()
    assert "## deletion_below_random_same_stage" in text and "| ixg |" in text
    table = (tmp_path / "table.csv").read_text()
    assert "ixg, random weights" in table and "from_wrong_shape" in table


@pytest.mark.slow
def test_retraining_at_its_smallest(capsys):
    words = ["--subjects", "6", "--hours", "0.7", "--passes", "1", "--shares", "0.3"]
    retraining.main([*words, "--methods", "ixg"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 held-out subjects")
    assert [line.split()[2] for line in lines[1:]] == ["total_energy", "ixg"]
