"""The page on a laboratory's own cohort: its profile is short, its command makes the store."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import preprocess
from datasets.store.store import Store
from tests.cohort_files.written import assert_stages, edf, telling

PAGE = (Path(__file__).parents[1] / "docs" / "own_cohort.md").read_text()
STAGES = [0, 1, 2, 3, 3, 4, -1]
WORDS = ["W", "S1", "S2", "S3", "S4", "R", "MT"]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The folder that the page describes, with its profile beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "our_lab.json").write_text(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    for stem in ("p017/night1", "p017/night2", "p003/night1"):
        path = tmp_path / "recordings" / f"{stem}.edf"
        own = telling(STAGES, 128)
        labels = {"C4": own, "A1": 0 * own, "LOC": own, "ROC": -own, "Chin": own}
        edf(path, {label: (128, values) for label, values in labels.items()})
        rows = [f"{30 * k};30;{word}" for k, word in enumerate(WORDS)]
        rows.insert(3, "65;4;arousal, spontaneous")
        path.with_suffix(".csv").write_text("\n".join(["seconds;length;stage", *rows]))
    return tmp_path


def test_the_profile_is_at_most_thirty_lines():
    assert len(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()) <= 30


def test_the_command_prepares_the_cohort(lab, capsys):
    command = re.search(r"```bash\n(.*?)```", PAGE, re.DOTALL)[1]
    python, script, *flags = shlex.split(command)
    assert (python, script) == ("python", "preprocess.py")
    preprocess.main([*flags, "--jobs", "1"])
    store = Store(lab / "data" / "our-lab")
    assert list(store.recordings) == ["p017-1", "p017-2"]
    assert [store.night(name).subject for name in store.recordings] == ["our-lab-p017"] * 2
    assert_stages(store, "p017-2", STAGES)
    assert_stages(store, "p017-1", STAGES, role="EOG", factor=2)
    assert store.night("p017-1").derivations == ("C4 - A1", "LOC - ROC", "Chin")
    assert "p003-1: electrodes fell off" in capsys.readouterr().out
