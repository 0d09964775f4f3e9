"""A night's page in headless Chromium: its size, seconds to the first paint, ms to another epoch.

python -m benchmarks.page               # ten hours of two channels at 256 Hz, and of three
python -m benchmarks.page --hours 8

Chromium and chromedriver have to be installed. An epoch's time is that from the key until the
browser has painted it; a loop of known work beside it tells how busy the machine is.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from datasets.readers.recording import Signal
from evaluation.night_page import write_page
from evaluation.page_channels import PageChannel
from interpret.explained_night import ExplainedNight
from tests import browser
from utils.staged_night import StagedNight

FS = 256
_MOVES = 60
# two frames: the second begins once the first is on the screen
_EPOCHS = """
window.moved = [];
const one = k => {
  if (k === %d) { window.done = true; return; }
  const began = performance.now();
  show((k * 37) %% n);
  requestAnimationFrame(() => requestAnimationFrame(() => {
    window.moved.push(performance.now() - began); one(k + 1); }));
};
one(0);
"""
_EMPTY_FRAMES = _EPOCHS.replace("show((k * 37) %% n);", "")
_WORK = """
const began = performance.now();
let sum = 0;
for (let k = 0; k < 3e7; k++) sum += k % 7;
return performance.now() - began;
"""


def night_of(hours: float, n_channels: int) -> ExplainedNight:
    """A night of noise, in which the stages follow one another."""
    rng, n = np.random.default_rng(0), round(hours * 120)
    samples = (20 * rng.standard_normal(n * 30 * FS)).astype(np.float32)

    def read(start: float, stop: float) -> np.ndarray:
        return samples[round(start * FS) : round(stop * FS)]

    signal = Signal(FS, "uV", n * 30, read)
    expert = (np.arange(n) // 40 % 5).astype(np.int8)
    staged = StagedNight("night", "night", rng.dirichlet(np.ones(5), n), expert, start="2026-01-01")
    roles = ("EEG", "EOG", *("EMG" for _ in range(2, n_channels)))
    return ExplainedNight(
        staged=staged,
        signals=torch.zeros(n, 1, 3000),
        mean=np.zeros(1),
        sd=np.ones(1),
        channels=("EEG",),
        roles=("EEG",),
        unit="µV",
        events={},
        recorded=[PageChannel(f"{role} {k}", role, signal) for k, role in enumerate(roles)],
    )


def measured(page: Path, profile: Path) -> tuple[float, list[float], list[float], float]:
    """Seconds to the first paint; ms to other epochs, and of two frames alone; ms of the work."""
    with browser.Browser(profile, 1440, 900) as window:
        window.open(page)
        paint = window.run("return performance.getEntriesByName('first-contentful-paint')[0]")
        times = []
        for script in (_EPOCHS, _EMPTY_FRAMES):
            window.run(f"window.done = false; {script % _MOVES}")
            while not window.run("return window.done"):
                time.sleep(0.2)
            times.append(sorted(window.run("return window.moved")))
        return paint["startTime"] / 1000, *times, window.run(_WORK)


def main(argv: list[str] | None = None) -> None:
    """Print a line for each number of channels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=10.0)
    args = parser.parse_args(argv)
    for n_channels in (2, 3):
        with tempfile.TemporaryDirectory() as folder:
            page, began = Path(folder) / "night.html", time.perf_counter()
            write_page(page, night_of(args.hours, n_channels), [], [], "noise")
            written = time.perf_counter() - began
            paint, moved, empty, work = measured(page, Path(folder) / "profile")
            print(
                f"{args.hours:g} h, {n_channels} channels: {page.stat().st_size / 1e6:.1f} MB, "
                f"written in {written:.1f} s; first paint {paint:.2f} s; another epoch "
                f"{moved[_MOVES // 2]:.0f} ms (95 %: {moved[_MOVES * 95 // 100]:.0f} ms), of which "
                f"two frames without anything are {empty[_MOVES // 2]:.0f} ms; 3e7 steps of a loop "
                f"{work:.0f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
