"""How often the intervals over subjects hold the true value, by number of subjects.

``python -m benchmarks.coverage`` draws subjects whose kappas are normal or skewed, stages their
nights at random to those kappas, and prints the table that ``docs/intervals.md`` holds (2 min).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from utils.intervals import BCA, Interval, left_out, over_subjects
from utils.metrics import kappa

SUBJECTS = (2, 3, 5, 7, 8, 10, 20, 50)
KINDS = ("normal", "skewed")
TRIALS = 1000
DOCS = Path(__file__).parents[1] / "docs" / "intervals.md"
HEADER = """\
| subjects | interval | normal kappas | width | jackknife | skewed kappas | width | jackknife |
|---|---|---|---|---|---|---|---|"""
_COMPOSITION = 30 * np.array([0.22, 0.08, 0.42, 0.14, 0.14])  # a night's stages vary around it
_MANY = 100_000  # subjects, whose kappa stands for the population's


def kappas(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """True kappas of ``n`` subjects: normal around .7, or skewed: most good, a few poor."""
    if kind == "normal":
        return np.clip(rng.normal(0.7, 0.1, n), 0, 1)
    return np.clip(0.88 - rng.gamma(1.2, 0.12, n), 0, 1)  # skewness -1.8


def nights(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Confusion counts (n, 5, 5) of one night per subject, 600 to 1000 epochs."""
    own = kappas(kind, n, rng)[:, None, None]
    stages = rng.dirichlet(_COMPOSITION, n)
    # an epoch is staged right with probability kappa, else by the night's shares of stages
    joint = own * stages[:, :, None] * np.eye(5) + (1 - own) * stages[:, :, None] * stages[:, None]
    epochs = rng.integers(600, 1001, n)
    return rng.multinomial(epochs, joint.reshape(n, 25)).reshape(n, 5, 5)


def truth(kind: str, rng: np.random.Generator) -> tuple[float, float]:
    """The population's pooled kappa, and the mean of its subjects' own."""
    many = nights(kind, _MANY, rng)
    return float(kappa(many.sum(axis=0))), float(kappa(many).mean())


def jackknife(counts: np.ndarray) -> Interval:
    """The interval of pooled kappa with each subject left out in turn."""
    total = counts.sum(axis=0)
    return left_out(float(kappa(total)), kappa(total - counts), len(counts))


def coverage(kind: str, n: int, trials: int) -> tuple[float, float, float]:
    """Shares of trials in which the interval and the jackknife's hold the true value.

    The third number is the median width of the first.
    """
    rng = np.random.default_rng([n, KINDS.index(kind)])
    pooled, mean = truth(kind, rng)
    held, left, widths = [], [], []
    for trial in range(trials):
        counts = nights(kind, n, rng)
        one = over_subjects(counts, [str(k) for k in range(n)], {"kappa": kappa}, seed=trial)
        interval, other = one["kappa"], jackknife(counts)
        held.append(interval.low <= (pooled if interval.kind == BCA else mean) <= interval.high)
        left.append(other.low <= pooled <= other.high)
        widths.append(interval.high - interval.low)
    return float(np.mean(held)), float(np.mean(left)), float(np.median(widths))


def row(n: int, trials: int = TRIALS) -> str:
    """A line of the table."""
    kind = over_subjects(np.eye(5)[None].repeat(n, 0), [str(k) for k in range(n)], {"": kappa})
    cells = [str(n), kind[""].kind]
    for each in KINDS:
        held, left, width = coverage(each, n, trials)
        cells += [f"{held:.3f}", f"{width:.2f}", f"{left:.3f}"]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print(HEADER)
    for n in map(int, sys.argv[1:] or SUBJECTS):
        print(row(n), flush=True)
