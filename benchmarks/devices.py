"""Training on every device that is here, in every way it can be asked to: what ran, what could not.

python -m benchmarks.devices                # all devices, 8 minutes at most
python -m benchmarks.devices --device cuda --minutes 4

One model is trained in float32, bf16 and fp16, resident and streamed, compiled and not; the others
in float32 and in the device's own format. The baseline, float32 as it is, is in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

import foundation_training
import ssl_training
import staging_training
from benchmarks.training import store_of
from utils import devices
from utils.errors import UserError
from utils.json_values import parsed

PLAIN = "32-true"
PRECISIONS = (PLAIN, "bf16-mixed", "16-mixed")
# kind: nights, epochs of each, and the model that is trained in every way
SIZES = {"cpu": (5, 60, "chambon2018"), "cuda": (20, 1000, "sequence_cmt")}
SIZES["mps"] = (5, 200, "sequence_cmt")
OTHERS = {
    "seqsleepnet": (staging_training.main, "-e seqsleepnet --val_check_interval 0"),
    "tinysleepnet": (staging_training.main, "-e tinysleepnet --batch_size 4"),
    "resnet18": (staging_training.main, "-e resnet18"),
    "contrastive": (ssl_training.main, "--objective contrastive --encoder cnn"),
    "foundation": (foundation_training.main, "--stage pretrain --channels EEG EOG"),
}
LEAST_GAIN = 2.0


@dataclass(frozen=True)
class Way:
    """A model trained in one number format, from memory or from disk, compiled or not."""

    model: str
    precision: str = PLAIN
    streamed: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        source = "streamed" if self.streamed else "resident"
        return f"{self.model:<13}{self.precision:<11}{source:<9}{'compiled' * self.compiled:<9}"

    def why_not(self, kind: str) -> str:
        """Why it cannot be trained so; "" if it can."""
        if kind == "cpu" and self.precision == "16-mixed":
            return "a CPU has no such numbers"
        if kind == "mps" and (self.compiled or self.precision != PLAIN):
            return "not supported by torch in full"
        if kind == "cpu" and self.compiled and shutil.which("c++") is None:
            return "no compiler of C++"
        return ""


def ways_of(kind: str) -> list[Way]:
    """The baseline of each model first, then all that is compared with it."""
    model = SIZES[kind][2]
    # streamed, compiled: neither comes first, the dearest last
    every = [Way(model, p, s, c) for c, s, p in product((False, True), (False, True), PRECISIONS)]
    own = dict.fromkeys((PLAIN, devices.precision_of(kind)))
    return every + [Way(name, precision) for name in OTHERS for precision in own]


def trained(way: Way, kind: str, store: Path) -> tuple[float, float]:
    """Seconds of the second of two passes, and its loss."""
    main, words = OTHERS.get(way.model, (staging_training.main, f"-e {way.model}"))
    first = " --first_epochs 0" if main is staging_training.main else ""
    words += f"{first} --n_epochs 2 --logger csv --accelerator {kind} --precision {way.precision}"
    words += f" --compile {way.compiled}" + " --budget_gb 0" * way.streamed
    with tempfile.TemporaryDirectory() as project, contextlib.redirect_stdout(io.StringIO()):
        main(["--data_path", str(store), "--project_path", project, *words.split()])
        lines = next(Path(project).glob("*/metrics.jsonl")).read_text().splitlines()
    row = parsed(lines[-1])
    return row["seconds"], row["train_loss"]


def measure(kind: str, until: float) -> tuple[list[str], list[str]]:
    """Train in every way; prints a line for each, and returns what ran and what did not."""
    n_nights, n_epochs, _ = SIZES[kind]
    ran, skipped, baseline = [], [], {}
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), n_nights, n_epochs)
        for way in ways_of(kind):
            why = way.why_not(kind) or ("out of time" if time.monotonic() > until else "")
            if not why:
                try:
                    seconds, loss = trained(way, kind, store)
                except UserError as error:
                    why = str(error)
            if why:
                skipped.append(f"{kind} {way}: {why}")
                continue
            gain = baseline.setdefault(way.model, seconds) / seconds
            mark = "" if gain >= LEAST_GAIN or way == Way(way.model) else f"  below {LEAST_GAIN:g}x"
            rate = n_nights * n_epochs * 4 / 5 / seconds  # four folds of five train
            print(f"{kind} {way}{rate:10,.0f} epochs/s {gain:6.2f}x  loss {loss:.3f}{mark}")
            ran.append(f"{kind} {way}")
    return ran, skipped


def main() -> None:
    """Train on every device that is here, then list what ran and what did not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=tuple(SIZES), help="this kind alone (default: all)")
    parser.add_argument("--minutes", type=float, default=8.0, help="begin nothing after so many")
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.minutes
    ran, skipped = [], []
    # GPUs first: they are what may be lent for minutes
    for kind in reversed(SIZES) if args.device is None else [args.device]:
        if reason := devices.missing()[kind]:
            skipped.append(f"{kind}, everything: {reason}")
            continue
        print(devices.described(torch.device(kind)))
        for done, part in zip((ran, skipped), measure(kind, until), strict=True):
            done += part
    print(f"\nexercised ({len(ran)}):", *ran, f"skipped ({len(skipped)}):", *skipped, sep="\n  ")


if __name__ == "__main__":
    main()
