"""Remove what a map puts first from all nights, train anew: does the network miss it?

python -m benchmarks.retraining --output results/retraining.csv
python -m benchmarks.retraining --subjects 12 --passes 3 --shares 0.3

After Hooker et al., A Benchmark for Interpretability Methods in Deep Neural Networks, NeurIPS 2019
(ROAR). A network that never saw a signal without pieces may fail on one for that reason alone; one
that is trained on such signals fails only where the pieces held what it needs. Kappa of held-out
subjects, the lower the better the order; differences from the order by energy, paired by subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import models
from datasets.synthetic.night import draw_night
from datasets.synthetic.subject import Difficulty, draw_subject
from interpret.faithfulness import UNIT_SECONDS, unit_scores
from interpret.question import Plan, Question
from interpret.registry import method_named
from interpret.target import EpochTarget
from utils.arguments import ScriptParser, add_list, count, positive, settings_from
from utils.errors import run_script
from utils.files import write_table
from utils.intervals import of_values
from utils.metrics import confusion, kappa
from utils.stages import EPOCH_SECONDS

FS = 100.0
CHANNELS = ("EEG Fpz-Cz", "EOG horizontal")
COMPARED = "total_energy"


@dataclass(frozen=True)
class RetrainingFlags:
    """How many nights, trainings and orders."""

    subjects: int
    hours: float
    passes: int
    shares: list[float]
    methods: list[str]
    seed: int
    output: Path | None


@dataclass(frozen=True)
class Night:
    """Signals (n, m, t) of a subject's night, standardised, and its stages (n,)."""

    signals: Tensor
    stages: Tensor


def parse_args(argv: list[str] | None) -> RetrainingFlags:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser("Remove what maps put first, train again, and measure what is lost.")
    parser.add_argument(
        "--subjects", type=positive, default=30, help="one night each; a third of them held out"
    )
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--passes", type=positive, default=6)
    add_list(parser, "--shares", item=float, default=[0.1, 0.3, 0.5], help="of pieces removed")
    add_list(
        parser,
        "--methods",
        default=["ig", "ixg", "occlusion", "random", "band_energy"],
        help="whose orders are tried",
    )
    parser.add_argument("--seed", type=count, default=0)
    parser.add_argument("--output", type=Path, help="table to write")
    return settings_from(parser.parse(argv), RetrainingFlags)


def main(argv: list[str] | None = None) -> None:
    """Train, remove, train again; print kappas and differences by method and share."""
    flags = parse_args(argv)
    nights = [night_of(flags, number) for number in range(flags.subjects)]
    held_out = flags.subjects - flags.subjects // 3
    model = trained(nights[:held_out], flags)
    whole = kappas(model, nights[held_out:])
    print(f"{len(whole)} held-out subjects; kappa with all pieces {whole.mean():.3f}")
    orders = {
        name: [order_of(model, night, name, flags.seed) for night in nights]
        for name in dict.fromkeys((COMPARED, *flags.methods))
    }
    rows = []
    for share in flags.shares:
        left = {}
        for name, ranks in orders.items():
            changed = [without(n, r, share) for n, r in zip(nights, ranks, strict=True)]
            left[name] = kappas(trained(changed[:held_out], flags), changed[held_out:])
            rows.append(row_of(name, share, left[name], left[COMPARED]))
            print("  " + "   ".join(f"{key} {value}" for key, value in rows[-1].items()))
    if flags.output:
        write_table(flags.output, rows)


def night_of(flags: RetrainingFlags, number: int) -> Night:
    """A simulated night with distractors, its scored epochs alone."""
    drawn = draw_night(
        draw_subject(flags.seed, number, Difficulty(1)), 1, hours=flags.hours, distractors=True
    )
    signals = np.stack([drawn.render(name, FS) for name in CHANNELS])
    signals -= signals.mean(axis=1, keepdims=True)
    signals /= signals.std(axis=1, keepdims=True)
    epochs = signals.reshape(len(CHANNELS), -1, round(FS * EPOCH_SECONDS)).transpose(1, 0, 2)
    labels = drawn.timeline.labels.astype(np.int64)
    scored = labels >= 0
    return Night(torch.from_numpy(epochs[scored]), torch.from_numpy(labels[scored]))


def trained(nights: Sequence[Night], flags: RetrainingFlags) -> Any:
    """A small network of single epochs, always from the same weights and in the same order."""
    torch.manual_seed(flags.seed)
    model = models.build("chambon2018", n_channels=len(CHANNELS), num_seq=1)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    signals, stages = (torch.cat([vars(n)[k] for n in nights]) for k in ("signals", "stages"))
    weights = len(stages) / (5 * torch.bincount(stages, minlength=5).clamp_min(1))
    model.train()
    for _ in range(flags.passes):
        for rows in torch.randperm(len(stages)).split(128):
            logits = model(signals[rows][:, None])[:, 0]
            loss = nn.functional.cross_entropy(logits, stages[rows], weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def kappas(model: Any, nights: Sequence[Night]) -> np.ndarray:
    """Cohen's kappa of every night, (k,)."""
    staged = [model.stage_night(night.signals).argmax(dim=1) for night in nights]
    counts = [
        confusion(night.stages.numpy(), stages.numpy())
        for night, stages in zip(nights, staged, strict=True)
    ]
    return kappa(np.stack(counts))


def order_of(model: Any, night: Night, method: str, seed: int) -> Tensor:
    """Rank of every piece of every epoch by a method's map, 0 first: (n, m * pieces)."""
    # of the predicted stage: by the scorer's, pieces would tell the label
    classes = model.stage_night(night.signals).argmax(dim=1)
    plan = Plan((method,), seed=seed, steps=20)
    target, epochs = EpochTarget(model, night.signals), torch.arange(len(classes))
    question = replace(Question(target, epochs, classes, plan), quick=True)
    maps = method_named(method).compute(question).attributions
    scores = unit_scores(maps, round(EPOCH_SECONDS / UNIT_SECONDS))
    return scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def without(night: Night, ranks: Tensor, share: float) -> Night:
    """The night with the first ``share`` of each epoch's pieces at the recording's mean, 0."""
    gone = ranks < share * ranks.shape[1]
    pieces = ranks.shape[1] // len(CHANNELS)
    width = night.signals.shape[2] // pieces
    mask = gone.unflatten(1, (len(CHANNELS), pieces)).repeat_interleave(width, dim=2)
    return replace(night, signals=night.signals.masked_fill(mask, 0.0))


def row_of(name: str, share: float, own: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Kappa after the removal, and what it has less than after that by energy: of subjects (k,)."""
    difference = of_values(own - other)
    return {
        "order": name,
        "removed": share,
        "kappa": round(float(own.mean()), 3),
        "less_than_by_energy": round(float((own - other).mean()), 3),
        "low": round(difference.low, 3),
        "high": round(difference.high, 3),
        "subjects": difference.subjects,
    }


if __name__ == "__main__":
    raise SystemExit(run_script(main))
