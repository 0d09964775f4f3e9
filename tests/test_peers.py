"""The benchmark beside the peers, with a stand-in for their environment: nothing is installed."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.peer_loops import Task, Trained
from benchmarks.training import store_of
from datasets.store.store import Store
from utils.errors import UserError
from utils.runs import Run

ROOT = Path(__file__).parents[1]
TASK = Task("braindecode", "chambon2018", 3, 1, 4, peers.FLOAT32, 2, ("nights/N000",))
ANSWER = Trained((0.4, 0.2), (0.5, 0.25), 50, 150, 5661)


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    return store_of(folder, 5, 12)


def test_the_peers_are_no_requirements():
    names = [peer.split("==")[0] for peer in peers.PEERS]
    assert len(names) == 2
    for path in (*ROOT.glob("requirements*.txt"), ROOT / "pyproject.toml"):
        for name in (*names, "skorch"):
            assert not re.search(name, path.read_text(), re.IGNORECASE), f"{path.name}: {name}"


def test_the_peers_file_imports_nothing_of_ours():
    """It is run by an interpreter that does not see this folder."""
    text = (ROOT / "benchmarks" / "peer_loops.py").read_text()
    ours = {p.stem for p in ROOT.glob("*.py")} | {p.name for p in ROOT.iterdir() if p.is_dir()}
    imported = re.findall(r"^\s*(?:from|import) (\w+)", text, re.MULTILINE)
    assert "numpy" in imported and not ours & set(imported)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nights", "4"], "--nights 4: five at least"),
        (["--environment", "{full}"], "no environment with braindecode==.* name a new folder"),
    ],
)
def test_bad_arguments_are_one_line(words, message, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=message):
        peers.main([word.format(full=tmp_path) for word in words])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def environment(folder: Path, script: str) -> Path:
    """A folder with an interpreter that runs ``script``, whatever it is asked to."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!{sys.executable}\n{script}")
    python.chmod(0o755)
    return python


@pytest.mark.skipif(os.name == "nt", reason="a script that names its interpreter")
def test_an_environment_of_other_versions_is_refused(tmp_path):
    python = environment(tmp_path / "other", "print('1.7.0', '2.0.4')")
    with pytest.raises(UserError, match=r"name a new folder; this has 1\.7\.0 and 2\.0\.4"):
        peers.environment_at(tmp_path / "other")
    python.write_text(f"#!{sys.executable}\nprint('1.8.1', '2.0.4')")
    assert peers.environment_at(tmp_path / "other") == python


@pytest.mark.skipif(os.name == "nt", reason="a script that names its interpreter")
def test_the_peers_process_is_asked_line_by_line(tmp_path):
    script = f"import sys\nfor line in sys.stdin: print({json.dumps(asdict(ANSWER))!r}, flush=True)"
    with peers.peers_of(environment(tmp_path, script)) as train:
        assert train(TASK) == train(TASK) == ANSWER
    (tmp_path / "bin" / "python").write_text(f"#!{sys.executable}")  # ends without an answer
    with (
        pytest.raises(UserError, match="braindecode, chambon2018: no answer but ''"),
        peers.peers_of(tmp_path / "bin" / "python") as train,
    ):
        train(TASK)


@pytest.mark.parametrize(
    "line",
    ["", "Epoch 1", "[1]", '{"seconds": [1]}', json.dumps(asdict(ANSWER) | {"seconds": ["fast"]})],
)
def test_a_line_that_is_no_answer_is_refused(line):
    with pytest.raises(UserError, match="braindecode, chambon2018: no answer"):
        peers.answer(line, TASK)


def test_an_answer_has_every_pass():
    assert peers.answer(json.dumps(asdict(ANSWER)), TASK) == ANSWER
    with pytest.raises(UserError, match="2 passes were timed"):
        peers.answer(json.dumps(asdict(ANSWER)), replace(TASK, passes=3))


def test_the_first_pass_of_a_turn_is_not_counted():
    taken = peers.measure({"ours": lambda: ANSWER}, rounds=3)["ours"]
    assert taken.seconds == (0.2,) * 3 and taken.clock == (0.25,) * 3


def test_a_row_has_windows_and_epochs_per_second():
    slow = replace(ANSWER, seconds=(0.5,), clock=(1.0,), windows=100, epochs=300)
    fast = replace(slow, seconds=(0.1,), epochs=125)
    anew = replace(slow, seconds=(0.25,))
    lines = peers.rows(peers.CASES[1], {"ours": fast, peers.ANEW: anew, "braindecode": slow})
    cells = [[cell.strip() for cell in line.split("|")[2:-1]] for line in lines]
    assert cells[0] == ["ours", "5,661", "1,000", "1,250", "100", "", ""]
    assert cells[2] == ["braindecode", "5,661", "200", "600", "100", "5.0x", "2.0x"]


def test_ours_trains_on_the_nights_and_windows_that_the_peers_are_given(nights, monkeypatch):
    task, begun, begin = replace(TASK, nights=peers.nights_of(nights)), [], Run.begin
    monkeypatch.setattr(
        Run, "begin", lambda run, *facts, **how: begun.append(facts[1]) or begin(run, *facts, **how)
    )
    trained = peers.ours(task, "balanced", nights)
    of_subjects = Store(nights).of_subjects(begun[0]["subjects"]["train"])
    assert [Path(night).name for night in task.nights] == of_subjects
    assert len(trained.seconds) == len(trained.clock) == task.passes
    # a window per epoch that has its neighbours, all encoded for every window
    assert trained.windows == len(task.nights) * 10 and trained.epochs == 3 * trained.windows
    assert trained.parameters == 5661


def test_windows_that_share_epochs_are_counted_once_encoded(nights):
    """Runs of six epochs hold four windows of three."""
    words = peers.words_of(replace(TASK, nights=()), "all", nights, nights)
    windows, epochs, _ = peers.size_of_a_pass(words, ["N000", "N001"])
    assert windows / epochs == 4 / 6
