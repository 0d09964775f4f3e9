"""A model held still while it is explained: no training, and random generators put back."""

from __future__ import annotations

import warnings
from contextlib import contextmanager

import numpy as np
import torch

from interpret.target import EpochTarget


@contextmanager
def frozen(target: EpochTarget):
    """Evaluation mode, no gradients of parameters, no cuDNN: it cannot go back through an LSTM."""
    model = target.model
    training = model.training
    asked = [parameter.requires_grad for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        with torch.backends.cudnn.flags(enabled=False), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="captum")
            yield
    finally:
        model.train(training)
        for parameter, wanted in zip(model.parameters(), asked, strict=True):
            parameter.requires_grad_(wanted)


@contextmanager
def seeded(seed: int):
    """Torch's and numpy's global generators, which Captum draws from, seeded and put back."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
