"""Training loops of braindecode and PhysioEx beside ours: same nights, same models, one run.

python -m benchmarks.peers                            # an environment of its own, then removed
python -m benchmarks.peers --environment ../peers     # made there by the first run, kept for others

The peers are no requirements of ours: pip puts them into an environment that borrows this one's
torch. A process of that environment trains by their loops, this one by ``staging_training.py``, on
one thread each; they take turns, and the first pass of every turn is not counted. Speeds are per
second of the processor, which other programs do not slow; by the clock they are printed too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial, wraps
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch import nn

import models
import staging_training
from benchmarks.peer_loops import CHANNEL, LEARNING_RATE, Stopwatch, Task, Trained
from benchmarks.training import store_of
from datasets.store import splits
from datasets.store.store import Store
from datasets.store.views import View
from training import loop, staging_family
from training.recipes import recipe_of
from utils.arguments import positive
from utils.errors import UserError, run_script
from utils.json_values import parsed

PEERS = ("braindecode==1.8.1", "physioex==2.0.4")
ROOT = Path(__file__).parents[1]
PASSES = 2  # of a turn: one that warms up and one that counts
ANEW = "ours, each window encoded anew"
FLOAT32, BF16 = "32-true", "bf16-mixed"
TIMES = ("seconds", "clock")
TRAIN_FOLDS, HELD_OUT_FOLDS = [0, 1, 2, 3], [4]


@dataclass(frozen=True)
class Case:
    """A model, its windows, and the peers that have it."""

    model: str
    length: int
    stride: int
    batch_size: int
    peers: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.model}, {self.length} epochs, {self.stride} apart, {self.batch_size} per step"
        )


CASES = (
    Case("chambon2018", 3, 3, 32, ("braindecode", "physioex")),
    Case("chambon2018", 3, 1, 128, ("braindecode", "physioex")),
    Case("seqsleepnet", 20, 1, 32, ("physioex",)),
    Case("tinysleepnet", 20, 20, 15, ("physioex",)),
)


def environment_at(folder: Path, packages: Sequence[str] = PEERS) -> Path:
    """The interpreter of an environment that has the peers' packages; a new folder becomes one.

    Raises:
        UserError: the folder holds something else, or pip cannot install into it.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not folder.exists() or not any(folder.iterdir()):
        print(f"{folder}: installing {' and '.join(packages)} by pip", file=sys.stderr)
        run([sys.executable, "-m", "venv", str(folder)], f"{folder}: cannot make an environment")
        # borrowed from ours: what both need, in the versions that ours has
        pinned = ["--constraint", str(ROOT / "requirements.txt")]
        pip = [str(python), "-m", "pip", "install", "--quiet", *packages, *pinned]
        run(pip, f"{folder}: pip cannot install {' and '.join(packages)}; remove the folder")
    names = [peer.split("==")[0] for peer in packages]
    script = "import sys; from importlib.metadata import version as v; print(*map(v, sys.argv[1:]))"
    what = f"{folder}: no environment with {' and '.join(packages)}; name a new folder"
    has = run([str(python), "-P", "-c", script, *names], what).split()
    if has != [peer.split("==")[1] for peer in packages]:
        raise UserError(f"{what}; this has {' and '.join(has)} of them")
    return python


def run(command: list[str], what: str) -> str:
    """What a command prints; where it fails, ``what`` went wrong and the last line it printed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=borrowing())
    except OSError as error:
        raise UserError(f"{what}: {error}") from error
    if done.returncode:
        raise UserError(f"{what}: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    return done.stdout


def borrowing(**more: str) -> dict[str, str]:
    """Variables under which another environment sees the packages of ours."""
    return os.environ | {"PYTHONPATH": sysconfig.get_path("purelib")} | more


@contextlib.contextmanager
def peers_of(python: Path) -> Iterator[Callable[[Task], Trained]]:
    """A process of the peers' interpreter, as a function that trains by one of their loops."""
    with tempfile.TemporaryDirectory() as cache:
        process = subprocess.Popen(
            [str(python), "-P", "-W", "ignore", str(ROOT / "benchmarks" / "peer_loops.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=borrowing(OMP_NUM_THREADS="1", PEERS_CACHE=cache),
        )
        with process:

            def train(task: Task) -> Trained:
                with contextlib.suppress(BrokenPipeError):  # then there is no answer either
                    process.stdin.write(json.dumps(asdict(task)) + "\n")
                    process.stdin.flush()
                return answer(process.stdout.readline(), task)

            yield train


def answer(line: str, task: Task) -> Trained:
    """What a peer's process answers to a task.

    Raises:
        UserError: no such answer.
    """
    try:
        fields = parsed(line)
        trained = Trained(**fields | {name: tuple(map(float, fields[name])) for name in TIMES})
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"{task.loop}, {task.model}: no answer but {line.strip()[:80]!r}; what its process "
            "printed before tells why"
        ) from None
    if not len(trained.seconds) == len(trained.clock) == task.passes:
        raise UserError(f"{task.loop}, {task.model}: {len(trained.seconds)} passes were timed")
    return trained


def ours(task: Task, sampling: str, store: Path) -> Trained:
    """Train by ``staging_training.py``: windows in runs encoded once ("all"), or each by itself."""
    nights = [Path(night).name for night in task.nights]
    with tempfile.TemporaryDirectory() as project:
        words = words_of(task, sampling, store, Path(project))
        with timed_passes() as watch, contextlib.redirect_stdout(io.StringIO()):
            staging_training.main(words)
        return watch.trained(*size_of_a_pass(words, nights))


@contextlib.contextmanager
def timed_passes() -> Iterator[Stopwatch]:
    """Times every pass of the loop, without its validation."""
    watch, train_pass = Stopwatch(), loop.train_pass

    @wraps(train_pass)
    def timed(*given: Any) -> bool:
        with watch.running():
            return train_pass(*given)

    with mock.patch.object(loop, "train_pass", timed):
        yield watch


def words_of(task: Task, sampling: str, store: Path, project: Path) -> list[str]:
    """The command line that trains a task, without what the peers' loops lack."""
    given = {
        "data_path": store, "project_path": project, "experiment": task.model,
        "num_seq": task.length, "train_stride": task.stride, "batch_size": task.batch_size,
        "n_epochs": task.passes, "precision": task.precision, "sampling": sampling,
        "lr": LEARNING_RATE, "weight_decay": 0, "grad_clip": 0, "first_epochs": 0,
        "night_shift": 0, "val_check_interval": 0, "patience": 0, "weights": "1,1,1,1,1",
        "channels": CHANNEL, "accelerator": "cpu",
        "train_data_list": ",".join(map(str, TRAIN_FOLDS)),
        "val_data_list": ",".join(map(str, HELD_OUT_FOLDS)),
    }  # fmt: skip
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def size_of_a_pass(words: list[str], nights: list[str]) -> tuple[int, int, nn.Module]:
    """Windows trained on in a pass, epochs encoded for them, and the model, untrained."""
    settings = staging_training.parse_args(words)
    experiment, data = settings.model.experiment, settings.data
    scaling = recipe_of(experiment).standardise
    view = View(Store(data.data_path), nights, channels=data.channels, standardise=scaling)
    batches = staging_family.batches_of(settings, view, 1)(view, 0, 0, 1)
    per_run = (batches.length - settings.model.num_seq) // settings.recipe.train_stride + 1
    model = models.build(experiment, **staging_family.settings_of(settings.model, view))
    n_runs = sum(batches.sizes)
    return n_runs * per_run, n_runs * batches.length, model


def nights_of(store: Path) -> tuple[str, ...]:
    """Folders of the nights that ours trains on."""
    opened = Store(store)
    table = splits.find_table(opened, None)
    split = splits.split(table, TRAIN_FOLDS, HELD_OUT_FOLDS, share=0.1, seed=0)
    return tuple(str(store / "nights" / name) for name in opened.of_subjects(split.train))


def ways_of(
    case: Case, store: Path, peers: Callable[[Task], Trained]
) -> dict[str, Callable[[], Trained]]:
    """Every way to train a case, by name; those in bf16 are compared with each other."""
    nights = nights_of(store)
    task = Task("", case.model, case.length, case.stride, case.batch_size, FLOAT32, PASSES, nights)
    ways = {"ours": partial(ours, task, "all", store)}
    if case.stride < case.length:
        ways[ANEW] = partial(ours, task, "balanced", store)
    ways |= {name: partial(peers, replace(task, loop=name)) for name in case.peers}
    if "physioex" in case.peers:  # its trainer chooses bf16 by itself
        half = replace(task, precision=BF16)
        ways["ours, bf16"] = partial(ours, half, "all", store)
        ways["physioex, bf16"] = partial(peers, replace(half, loop="physioex"))
    return ways


def measure(ways: dict[str, Callable[[], Trained]], rounds: int) -> dict[str, Trained]:
    """Every way by turns; ``seconds`` are those of the passes that count."""
    taken: dict[str, Trained] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            trained = way()
            before = taken.get(name, replace(trained, seconds=(), clock=()))
            taken[name] = replace(
                trained,
                seconds=before.seconds + trained.seconds[1:],
                clock=before.clock + trained.clock[1:],
            )
    return taken


def rows(case: Case, taken: dict[str, Trained]) -> list[str]:
    """Lines of the table; the last cells are how many times a peer's windows per second ours has.

    The first of them compares what either does by itself, the other ours made to encode every
    window anew, as the peers do.
    """
    speed = {name: trained.windows / median(trained.seconds) for name, trained in taken.items()}
    anew = speed.get(ANEW)
    lines = []
    for name, trained in taken.items():
        is_peer, is_half = not name.startswith("ours"), name.endswith("bf16")
        cells = [str(case), name, f"{trained.parameters:,}", f"{speed[name]:,.0f}"]
        cells.append(f"{trained.epochs / median(trained.seconds):,.0f}")
        cells.append(f"{trained.windows / median(trained.clock):,.0f}")
        ratio = speed["ours, bf16" if is_half else "ours"] / speed[name]
        cells.append(f"{ratio:.1f}x" if is_peer else "")
        cells.append(f"{anew / speed[name]:.1f}x" if is_peer and anew and not is_half else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def report(python: Path, n_nights: int, n_epochs: int, rounds: int) -> None:
    """Print the table of all cases."""
    torch.set_num_threads(1)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg()[:2])
    print(
        f"{', '.join(PEERS)}; torch {torch.__version__}, {platform.machine()}, one thread;"
        f"\n{n_nights} nights of {n_epochs} epochs, medians of {rounds} passes; load before {load}"
    )
    head = ("case", "loop", "parameters", "windows/s", "epochs/s", "by the clock", "ours", "anew")
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    with tempfile.TemporaryDirectory() as folder, peers_of(python) as peers:
        store = store_of(Path(folder), n_nights, n_epochs)
        for case in CASES:
            print("\n".join(rows(case, measure(ways_of(case, store, peers), rounds))), flush=True)


def main(argv: list[str] | None = None) -> None:
    """Time every loop in the environment that is named, or in one for this run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--environment", type=Path, help="folder of the peers (default: temporary)")
    parser.add_argument("--nights", type=positive, default=6, help="nights; five at least")
    parser.add_argument("--epochs", type=positive, default=240, help="epochs of each night")
    parser.add_argument("--rounds", type=positive, default=3, help="turns, one counted pass each")
    args = parser.parse_args(argv)
    if args.nights < 5:
        raise UserError(f"--nights {args.nights}: five at least, one for each fold")
    with tempfile.TemporaryDirectory() as folder:
        python = environment_at(args.environment or Path(folder))
        report(python, args.nights, args.epochs, args.rounds)


if __name__ == "__main__":
    raise SystemExit(run_script(main))
