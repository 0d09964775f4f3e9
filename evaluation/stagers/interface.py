"""Staging from Python: one function for files and for what MNE has opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.readers.any_file import opened
from datasets.readers.raw_file import RawFile
from datasets.readers.scorings.scoring import Wishes
from evaluation.stage import pick_device
from evaluation.staged_file import StagedFile
from evaluation.stagers import catalogue
from evaluation.stagers.bundled import DEFAULT
from evaluation.stagers.stager import Asked
from evaluation.stagers.vote import stage_file
from utils.errors import UserError


def stage(
    recording: Path | str | Any,
    model: str | Sequence[str] = DEFAULT,
    *,
    channels: Mapping[str, str | Sequence[str]] | None = None,
    expert: str | Mapping[str, str] | None = None,
    age: int | None = None,
    sex: str | None = None,
    device: str = "auto",
) -> StagedFile:
    """Stage a recording, as ``predict.py`` does, without writing anything.

    Args:
        recording: path of an EDF, BDF or Dreem file, or an ``mne.io.Raw``, which stays unchanged.
        model: name of a stager or path of a checkpoint (``predict.py --list_models``); the answers
            of several are averaged.
        channels: the recording's channel, or several, for each role: ``{"EEG": "C4-M1"}``; "all"
            for every one of the role. Chosen by name if left out.
        expert: file of an expert's stages, "none" for none; ``None`` takes one beside the file.
            Where its numbers or columns need a word: ``{"file": "a.txt", "vocabulary": "rk",
            "table": "time=2,stage=5"}``, as the flags of ``predict.py``.
        age: years, for stagers that use it.
        sex: female or male, with ``age``.
        device: auto, cpu, cuda or cuda:1.

    Returns:
        The staged night: ``scored`` (the hypnogram, -1 where there is no signal), ``stages`` (of
        every epoch), ``probabilities`` (n, 5), ``annotations()``, ``hypnogram()``,
        ``explain(epochs)``, ``page(path)``.

    Raises:
        UserError: the recording cannot be read, lacks a channel that the model needs, or the
            model is not here.
    """
    names = [model] if isinstance(model, (str, Path)) else list(model)
    file = opened(Path(recording)) if isinstance(recording, (str, Path)) else RawFile(recording)
    named = {k: (v,) if isinstance(v, str) else tuple(v) for k, v in (channels or {}).items()}
    stagers = [catalogue.load(str(name), pick_device(device)) for name in names]
    about = dict(expert) if isinstance(expert, Mapping) else {"file": expert}
    if unknown := sorted(set(about) - {"file", "vocabulary", "table"}):
        raise UserError(f"expert: no {unknown[0]!r}; it takes file, vocabulary, table")
    scoring = Wishes(about.get("vocabulary"), about.get("table"))
    asked = Asked(named, about.get("file"), age, sex, scoring)
    return stage_file(file, stagers, asked)
