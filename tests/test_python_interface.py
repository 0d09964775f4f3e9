"""README's block of Python, run as it stands there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import mne
import yasa

README = Path(__file__).parents[1] / "README.md"


def test_the_readmes_python_stages_and_explains_a_night(raw, tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.S)[1]
    assert len([line for line in code.splitlines() if line]) <= 5
    shutil.copyfile(sorted(raw.glob("*-PSG.edf"))[0], tmp_path / "night.edf")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    night, reasons = names["night"], names["reasons"]
    assert isinstance(names["hypnogram"], yasa.Hypnogram)
    assert names["hypnogram"].n_epochs == len(names["annotations"]) == len(night.stages) == 84
    assert isinstance(names["annotations"], mne.Annotations)
    assert reasons["contributions"].shape == (len(reasons["groups"]), len(reasons["spans"]))
    assert sorted(path.name for path in tmp_path.glob("night*")) == ["night.edf", "night.html"]
    assert "slow waves" in (tmp_path / "night.html").read_text(encoding="utf-8")
