"""The page on a laboratory's own cohort: its profile is short, its command makes the store."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

import preprocess
from datasets.readers.profiles import draft
from datasets.store.store import Store
from tests.cohort_files.written import assert_stages, edf, prepared, telling
from utils.errors import UserError

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


def test_a_draft_of_a_folder_becomes_a_profile(tmp_path, monkeypatch, capsys):
    """What files show is filled in; whoever answers the rest can prepare them."""
    monkeypatch.chdir(tmp_path)
    for n in (1, 2, 12):
        path = tmp_path / "Our nights" / f"p{n:03d}_psg.edf"
        own = telling(STAGES, 128)
        edf(path, dict.fromkeys(("EEG C4-M1", "EOG LOC", "Chin EMG", "Flow"), (128, own)))
        path.with_suffix(".txt").write_text("\n".join(["W", "N1", "N2", "N3", "N3", "R", "?"]))
    preprocess.main(["--write_profile", str(tmp_path / "Our nights")])
    assert "answer its '?': title, access, licence, page, cite[0]" in capsys.readouterr().out
    path = tmp_path / "our_nights.json"
    fields = json.loads(path.read_text())
    assert fields["signals"] == [{"file": "p(?P<person>\\d+)_psg\\.edf", "format": "edf"}]
    assert fields["stages"] == [{"file": "{stem}.txt", "format": "auto"}]
    assert fields["roles"] == {"EEG": ["EEG C4-M1"], "EOG": ["EOG LOC"], "EMG": ["Chin EMG"]}
    with pytest.raises(UserError, match=r"our_nights.json: still '\?': title, access"):
        prepared(path, tmp_path / "Our nights", tmp_path / "store")
    with pytest.raises(UserError, match=r"our_nights.json: is there already"):
        preprocess.main(["--write_profile", str(tmp_path / "Our nights")])
    path.write_text(path.read_text().replace('"?"', '"none"'))
    store = prepared(path, tmp_path / "Our nights", tmp_path / "store")
    assert store.subjects == ["our-nights-001", "our-nights-002", "our-nights-012"]
    assert_stages(store, "p012_psg", STAGES)


def test_what_a_draft_cannot_know_stays_open(tmp_path):
    edf(tmp_path / "a" / "s1_n1.edf", {"Signal": (128, telling(STAGES, 128))})
    edf(tmp_path / "a" / "s2_n2.edf", {"EEG C3": (128, telling(STAGES, 128))})
    (tmp_path / "a" / "s1_n1.txt").write_text("\n".join("2" * len(STAGES)))
    fields = draft.of_folder(tmp_path / "a")
    assert fields["signals"][0]["file"] == r"s(?P<person>\d+)_n(?P<night>\d+)\.edf"
    assert fields["person"] == {"key": "?"}
    assert fields["stages"] == [{"file": "{stem}.txt", "format": "auto", "vocabulary": "?"}]
    assert fields["roles"]["EMG"] == ["?"]
    with pytest.raises(UserError, match="nowhere: no such folder"):
        draft.of_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no recordings there; read are \.edf"):
        draft.of_folder(tmp_path / "empty")
