"""Contexts for explaining a model: it is frozen, random generators are seeded and restored."""

from __future__ import annotations

import warnings
from contextlib import contextmanager

import numpy as np
import torch

from interpret.target import EpochTarget


@contextmanager
def frozen(target: EpochTarget):
    """Freeze the model of ``target``: evaluation mode, no gradients of parameters, no cuDNN."""
    model = target.model
    training = model.training
    # one by one: some may have been frozen before, and stay so
    asked = [parameter.requires_grad for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        # cuDNN refuses to differentiate a recurrent layer in evaluation mode; Captum warns at every
        # call that the input did not require gradients, and sets it itself
        with torch.backends.cudnn.flags(enabled=False), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="captum")
            yield
    finally:
        model.train(training)
        for parameter, wanted in zip(model.parameters(), asked, strict=True):
            parameter.requires_grad_(wanted)


@contextmanager
def seeded(seed: int):
    """Seed torch's and numpy's global generators, which Captum draws from, and restore them."""
    # numpy's old interface, because GradientShap draws from that very generator
    state = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
