"""The custom model of docs/models.md, run as it stands there."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

import models
from interpret.registry import explain
from interpret.target import EpochTarget
from models.base import StagingModel
from tests.test_staging_scripts import evaluate, train
from utils.stages import STAGES

MODELS = Path(__file__).parents[1] / "docs" / "models.md"


def test_the_readmes_model_is_trained_staged_and_explained(store, tmp_path, monkeypatch):
    code = re.search(r"```python\n(class BandPowers.*?)```", MODELS.read_text(), re.S)[1]
    assert len(code.splitlines()) <= 30
    names = {
        "torch": torch,
        "nn": nn,
        "pairwise": pairwise,
        "STAGES": STAGES,
        "StagingModel": StagingModel,
    }
    exec(code, names)
    torch.manual_seed(0)
    model = names["BandPowers"](num_seq=5)
    night = torch.randn(12, 1, 3000)
    assert model(night[None]).shape == (8, 5, 5)
    assert model.eval().stage_night(night).shape == (12, 5)
    # one line in the registry, and the scripts know it
    monkeypatch.setitem(models._BUILDERS, "bandpowers", names["BandPowers"])
    run = train(store, tmp_path, "bandpowers")
    evaluate(store, tmp_path, "-e", "bandpowers")
    assert (run / "evaluation" / "metrics.json").exists()
    explanation = explain(EpochTarget(model, night), torch.tensor([3, 8]), torch.tensor([2, 2]))
    assert explanation.attributions.shape == (2, 1, 3000) and (explanation.attributions != 0).any()
