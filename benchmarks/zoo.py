"""Encoding every epoch once beside encoding it again for every window, for each model of the zoo.

python -m benchmarks.zoo                  # this machine's processor
python -m benchmarks.zoo --device cuda    # a GPU

A training step sees the same windows both ways: as runs of epochs whose encodings all windows
share, and as windows of their own. A night is staged by ``stage_night``, and window by window.
"""

from __future__ import annotations

import argparse
from functools import partial
from inspect import signature

import torch
from torch import Tensor, nn

import models
from benchmarks.side_by_side import seconds
from models.base import average_windows, windows_of
from training.recipes import recipe_of

WINDOWS, PER_RUN, NIGHT, SAMPLES = 16, 8, 240, 3000
ZOO = (
    "chambon2018",
    "tinysleepnet",
    "simplesleepnet",
    "seqsleepnet",
    "sequence_cmt",
    "sleeptransformer",
    "deepsleepnet",
    "mobilenet_v3_small",
    "resnet18",
)


def built(name: str, device: torch.device) -> nn.Module:
    """The model in its published shape, one channel."""
    length = {k: value for k, value in recipe_of(name).flags.items() if k == "num_seq"}
    if name == "epoch_cmt":  # stages single epochs
        length = {}
    # a cross-modal transformer calls its channels modalities
    channels = {"n_modalities": 1} if name.endswith("_cmt") else {"n_channels": 1}
    torch.manual_seed(0)
    return models.build(name, **length, **channels).to(device)


def step(model: nn.Module, x: Tensor) -> None:
    """Forward and backward over runs (b, n, c, t), every window of them."""
    model.zero_grad()
    # any loss: what gradients cost does not depend on it
    model(x).square().mean().backward()


def window_by_window(model: nn.Module, night: Tensor, at_once: int = 16) -> Tensor:
    """A night with every window encoded on its own: (n, c, t) -> (n, 5)."""
    windows = windows_of(night[None], model.num_seq)
    first = torch.arange(len(windows), device=night.device)
    # some models encode where an epoch lies in the night, which a window alone does not hold
    takes_place = "first" in signature(model.forward).parameters
    with torch.no_grad():
        logits = [
            model(part, first=place) if takes_place else model(part)
            for part, place in zip(windows.split(at_once), first.split(at_once), strict=True)
        ]
    probabilities = torch.cat(logits).softmax(dim=-1)
    # a model that stages a window's middle epoch alone has one output per window
    return probabilities[:, 0] if probabilities.shape[1] == 1 else average_windows(probabilities)


def measure(name: str, device: torch.device, repeats: int) -> tuple[dict[str, float], ...]:
    """Seconds of both ways, of a training step (empty where windows share nothing) and a night."""
    model = built(name, device)
    length = model.num_seq
    # tens of uV, as some models read signals unstandardised; runs hold PER_RUN windows each
    run = 20 * torch.randn(WINDOWS // PER_RUN, length + PER_RUN - 1, 1, SAMPLES, device=device)
    steps: dict[str, float] = {}
    if not models.is_stateful(name):
        apart = windows_of(run, length)
        model.train()
        ways = {"apart": partial(step, model, apart), "once": partial(step, model, run)}
        steps = seconds(ways, repeats)
    model.eval()
    night = 20 * torch.randn(NIGHT, 1, SAMPLES, device=device)
    ways = {
        "apart": lambda: window_by_window(model, night),
        "once": lambda: model.stage_night(night),
    }
    return steps, seconds(ways, repeats)


def main() -> None:
    """Print one row per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=ZOO)
    args = parser.parse_args()
    device = torch.device(args.device)
    print(f"{device}, {torch.get_num_threads()} threads, medians of {args.repeats}, one channel")
    print(f"step: {WINDOWS} windows, {PER_RUN} per run; night: {NIGHT} epochs; milliseconds")
    head = ("model", "epochs", "step apart", "once", "ratio", "night apart", "once", "ratio")
    print("{:<20}{:>7}{:>12}{:>9}{:>7}{:>13}{:>9}{:>7}".format(*head))
    for name in args.models:
        cells = [name, recipe_of(name).flags["num_seq"]]
        for taken in measure(name, device, args.repeats):
            cells += (
                [f"{1e3 * taken[way]:.0f}" for way in ("apart", "once")]
                + [f"{taken['apart'] / taken['once']:.1f}x"]
                if taken  # stateful models train on chunks that share no epoch
                else ["–"] * 3
            )
        print("{:<20}{:>7}{:>12}{:>9}{:>7}{:>13}{:>9}{:>7}".format(*cells), flush=True)


if __name__ == "__main__":
    main()
