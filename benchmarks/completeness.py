"""Completeness of the attributions of every model of the zoo: shares of epochs, by model.

python -m benchmarks.completeness                       # ig, eg and specgrad, all families
python -m benchmarks.completeness --models seqsleepnet --space samples --baseline zero

Every model is trained for a few steps on a simulated night, so that its normalisations know real
epochs, and explained on a night of another simulated subject, a few epochs of each stage.
"""

from __future__ import annotations

import argparse
import time
from functools import cache

import numpy as np
import torch
from scipy.signal import resample_poly
from torch import Tensor, nn

import models
from benchmarks.zoo import built
from datasets.synthetic.night import draw_night
from datasets.synthetic.subject import Difficulty, draw_subject
from interpret.baselines import AUTO
from interpret.baselines import NAMES as BASELINES
from interpret.explanation import INCOMPLETE, Explanation
from interpret.integrated_gradients import TOLERANCE
from interpret.question import MOST_STEPS, SPACES, SPECTROGRAM, Plan, Question
from interpret.registry import method_named
from interpret.target import EpochTarget
from training.recipes import recipe_of
from utils.stages import EPOCH_SECONDS, STAGES

HZ, HOURS, BATCH = 100, 2.0, 8
FAMILIES = (
    "chambon2018", "tinysleepnet", "deepsleepnet", "cnn", "cnn_attention", "transformer",
    "epoch_cmt", "sequence_cmt", "seqsleepnet", "sleeptransformer", "simplesleepnet",
    "robustsleepnet", "mobilenet_v3_small", "resnet18",
)  # fmt: skip


@cache
def rendered(subject: int) -> tuple[np.ndarray, np.ndarray]:
    """A simulated night's EEG (t,) in µV, and its stages (n,)."""
    night = draw_night(draw_subject(0, subject, Difficulty(0)), 1, hours=HOURS)
    return night.render("EEG Fpz-Cz", float(HZ)), np.asarray(night.timeline.stages)


def night_of(subject: int, hz: int, *, scaled: bool) -> tuple[Tensor, np.ndarray]:
    """A simulated night's EEG (n, 1, t) and stages (n,), in µV or scaled over the night."""
    signal, stages = rendered(subject)
    signal = resample_poly(signal, hz, HZ).astype(np.float32)
    if scaled:
        signal = (signal - signal.mean()) / signal.std()
    epochs = signal.reshape(-1, 1, hz * EPOCH_SECONDS)
    return torch.from_numpy(epochs), stages


def trained(name: str, steps: int) -> tuple[nn.Module, Tensor]:
    """A model after a few steps, and the night it is explained on."""
    hz = int(models.rate_of(name) or HZ)
    scaled = recipe_of(name).standardise != "none"
    (x, stages), (other, _) = (night_of(k, hz, scaled=scaled) for k in (0, 1))
    model = built(name, torch.device("cpu"))
    if model.spectrogram is not None:
        model.spectrogram.fit([x])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    draws, length = np.random.default_rng(0), model.num_seq
    model.train()
    for _ in range(steps):
        firsts = draws.integers(len(x) - length + 1, size=max(2, BATCH // length))
        members = firsts[:, None] + np.arange(length)
        logits = model(x[members])
        true = torch.from_numpy(stages[members]).long()
        if logits.shape[1] == 1:
            true = true[:, [model.middle or 0]]
        optimiser.zero_grad()
        nn.functional.cross_entropy(logits.flatten(0, 1), true.flatten()).backward()
        optimiser.step()
    return model.eval(), other


def report(name: str, method: str, explanation: Explanation, seconds: float) -> str:
    """One row: shares of the epochs within 1 % and 5 %, the largest error, seconds per epoch."""
    error = explanation.error.numpy()
    shares = [100 * (error <= limit).mean() for limit in (TOLERANCE, INCOMPLETE)]
    flagged = int((error > INCOMPLETE).sum())
    baseline = explanation.settings["baseline"]
    return (
        f"{name:<20}{method:<10}{baseline:<15}{len(error):>7}{shares[0]:>8.1f} %{shares[1]:>8.1f} %"
        f"{flagged:>9}{100 * error.max():>10.2f} %{seconds / len(error):>11.2f}"
    )


def main(argv: list[str] | None = None) -> None:
    """Print one row for each model and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=FAMILIES)
    parser.add_argument("--methods", nargs="+", default=("ig", "eg", "specgrad"))
    parser.add_argument("--space", choices=SPACES, default=SPECTROGRAM)
    parser.add_argument("--baseline", choices=BASELINES, default=AUTO)
    parser.add_argument("--steps", type=int, default=30, help="of training")
    parser.add_argument("--per_stage", type=int, default=8, help="epochs of every stage")
    parser.add_argument("--most_steps", type=int, default=MOST_STEPS, help="gradients per epoch")
    args = parser.parse_args(argv)
    print(f"{'model':<20}{'method':<10}{'baseline':<15}{'epochs':>7}{'<= 1 %':>10}{'<= 5 %':>10}"
          f"{'flagged':>9}{'largest':>12}{'s / epoch':>11}")  # fmt: skip
    _, stages = night_of(1, HZ, scaled=False)
    draws = np.random.default_rng(0)
    own = [np.flatnonzero(stages == k) for k in range(len(STAGES))]
    some = [draws.choice(k, min(args.per_stage, len(k)), replace=False) for k in own]
    chosen = torch.from_numpy(np.sort(np.concatenate(some)))
    for name in args.models:
        model, night = trained(name, args.steps)
        classes = model.stage_night(night).argmax(dim=1)[chosen]
        plan = Plan(
            tuple(args.methods),
            baseline=args.baseline,
            space=args.space,
            most_steps=args.most_steps,
        )
        question = Question(EpochTarget(model, night), chosen, classes, plan)
        for method in (m for m in map(method_named, args.methods) if m.allows(model)):
            started = time.perf_counter()
            explanation = method.compute(question)
            row = report(name, method.name, explanation, time.perf_counter() - started)
            print(row, flush=True)


if __name__ == "__main__":
    main()
