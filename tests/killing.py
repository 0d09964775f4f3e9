"""Commands in processes of their own, ended at any instant, and what they leave behind.

``python -m tests.killing killed 40 predict train`` kills each of these 40 times and prints counts,
``python -m tests.killing together 20`` starts each command eight times at once, in 20 rounds;
``unshare -rm python -m tests.killing full 5`` and ``readonly 1`` take disks from them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.same_results import contents_of
from utils import manifest

QUICK = ["--logger", "csv", "--accelerator", "cpu"]
ON = ["--data_path", "store", "--project_path", "runs"]
TRAIN = ["staging_training", "-e", "chambon2018", *ON, *QUICK, "--first_epochs", "0",
         "--channels", "EEG", "--train_data_list", "0", "1"]  # fmt: skip
PRETRAIN = ["ssl_training", *ON, *QUICK, "--objective", "masked", "--encoder", "transformer",
            "--batch_size", "32"]  # fmt: skip
PREPARE = ["preprocess_sleepedf", "--raw_path", "raw", "--save_path", "store", "--figures", "0"]
PREDICT = ["predict", "--edf", "raw", "--model", "runs/chambon2018_fold2/checkpoints/best.pt"]
TABLES = ["reproduce_tables", *ON[:2], "--project_path", "tables", "--models", "chambon2018",
          "--folds", "kfold:3:0", "--fold_list", "0", "--device", "cpu", "--flags",
          "--n_epochs 1 --first_epochs 0 --logger csv --accelerator cpu"]  # fmt: skip
# by name: the command, and what it works on
COMMANDS = {
    "prepare": ([*PREPARE, "--jobs", "1"], ("raw",)),
    "prepare by two": ([*PREPARE, "--jobs", "2"], ("raw",)),
    "predict": ([*PREDICT, "-o", "out", "--is_interpret", "True", "--explain", "2"],
                ("raw", "runs")),
    "predict files": ([*PREDICT, "-o", "out/{}.csv", "out/{}.tsv", "out/{}.edf"], ("raw", "runs")),
    "train": ([*TRAIN, "--n_epochs", "4"], ("store",)),
    "pretrain": ([*PRETRAIN, "--n_epochs", "3"], ("store",)),
    "probe": (["ssl_evaluate", *ON, "--tuned", "False", "--seeds", "0", "--fractions", "0.5,1",
               "--device", "cpu"], ("store", "runs")),
    "tables": (TABLES, ("store",)),
}  # fmt: skip
_SECONDS: dict[str, float] = {}  # that a command takes when left alone
_CONTEXT = get_context("forkserver")
# imported once, so that a process begins with its work
_CONTEXT.set_forkserver_preload(
    [__name__, "predict", "preprocess_sleepedf", "staging_training", "ssl_training",
     "ssl_evaluate", "reproduce_tables", "matplotlib.pyplot", "yasa", "captum.attr"]
)  # fmt: skip


def run_here(folder: Path, words: list[str], output: Path) -> None:
    """Run a script as its own process would, and end with its exit code."""
    import torch

    from utils.errors import run_script

    os.chdir(folder)
    torch.set_num_threads(1)
    sys.argv = [f"{words[0]}.py", *words[1:]]
    with (
        output.open("a") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        code = run_script(lambda: importlib.import_module(words[0]).main())
    os._exit(code)  # nothing of the parent's is to be ended here


def start(folder: Path, words: list[str], output: Path) -> BaseProcess:
    """A script in ``folder``, which writes what it prints into ``output``."""
    process = _CONTEXT.Process(target=run_here, args=(folder, words, output))
    process.start()
    return process


def finish(folder: Path, words: list[str], output: Path) -> float:
    """Run to the end, which has to be a good one; seconds."""
    began = time.monotonic()
    process = start(folder, words, output)
    process.join()
    assert process.exitcode == 0, f"exit {process.exitcode}: {output.read_text()[-2000:]}"
    return time.monotonic() - began


def make_inputs(folder: Path) -> None:
    """Recordings, a store of them, and a run of each kind, for all commands."""
    raw = ["generate_demo_data", "--subjects", "3", "--nights", "1", "--hours", "0.4"]
    log = folder / "log"
    finish(folder, [*raw, "--jobs", "1", "--output", "raw"], log)
    finish(folder, [*PREPARE, "--jobs", "1"], log)
    finish(folder, [*TRAIN, "--n_epochs", "1"], log)
    finish(folder, [*PRETRAIN, "--n_epochs", "1"], log)


def _copy_into(inputs: Path, names: tuple[str, ...], folder: Path) -> None:
    """Copy what a command works on into an empty folder."""
    folder.mkdir(exist_ok=True)
    for name in names:
        shutil.copytree(inputs / name, folder / name)


def contents(folder: Path) -> dict[str, object]:
    """Bytes and path of every file that results are in, and of every folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else b"", path)
        for path in sorted(folder.rglob("*"))
        # lists have checksums of files that hold times; logs are of every attempt, and submitit's
        # files are named after processes
        if path.name != manifest.NAME and path.suffix not in (".log", ".pid")
        if "submitted" not in path.parts
    }


def differences(one: Path, two: Path) -> list[str]:
    """Files that differ, times apart, and those that only one of the folders has."""
    first, second = contents(one), contents(two)
    wrong = [f"{name} in one alone" for name in first.keys() ^ second.keys()]
    for name in first.keys() & second.keys():
        (bytes_1, path_1), (bytes_2, path_2) = first[name], second[name]
        if bytes_1 != bytes_2:
            is_prose = path_1.suffix in (".png", ".pdf", ".html", ".txt")
            if is_prose or list(contents_of(path_1)) != list(contents_of(path_2)):
                wrong.append(name)
    return wrong


def listed_wrongly(folder: Path) -> list[str]:
    """Files of ours that the lists do not know, or know otherwise; submitit's own are none."""
    names = ("out", "runs", "store", "tables")
    return [str(p) for name in names if (folder / name).exists()
            for p in manifest.strangers(folder / name) if "submitted" not in p.parts]  # fmt: skip


def killed_and_resumed(name: str, inputs: Path, reference: Path, rng: random.Random) -> list[str]:
    """Kill a command at one to three random instants, run it to the end: what is wrong then."""
    words, needed = COMMANDS[name]
    with tempfile.TemporaryDirectory() as scratch:
        folder, log = Path(scratch) / "work", Path(scratch) / "log"
        _copy_into(inputs, needed, folder)
        for _ in range(rng.choice((1, 1, 2, 3))):
            process = start(folder, words, log)
            process.join(rng.uniform(0, _SECONDS[name]))
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.join()
        finish(folder, words, log)
        return differences(reference, folder) + listed_wrongly(folder)


def together(name: str, inputs: Path, reference: Path, rng: random.Random) -> list[str]:
    """Start a command eight times at once in one folder: what is wrong afterwards.

    All end well, but for trainings, of which those that come while another trains stop in a line.
    """
    words, needed = COMMANDS[name]
    with tempfile.TemporaryDirectory() as scratch:
        folder, logs = Path(scratch) / "work", [Path(scratch) / f"log{k}" for k in range(8)]
        _copy_into(inputs, needed, folder)
        started = []
        for k, log in enumerate(logs):
            # some for one recording alone, as the jobs of a cluster have it
            one = f"raw/SC40{k % 3}*PSG.edf" if rng.random() < 0.5 and "raw" in words else "raw"
            mine = [one if word == "raw" and name.startswith("predict") else word for word in words]
            started.append(start(folder, mine, log))
            time.sleep(rng.choice((0, 0, 0.1)))
        wrong = []
        for process, log in zip(started, logs, strict=True):
            process.join()
            stopped = process.exitcode == 2 and "is training already" in log.read_text()
            if process.exitcode and not (stopped and "train" in name):
                wrong.append(f"exit {process.exitcode}: {log.read_text()[-500:]}")
        return wrong + differences(reference, folder) + listed_wrongly(folder)


def on_a_full_disk(name: str, inputs: Path, reference: Path, rng: random.Random) -> list[str]:
    """Run a command on a disk with too little space, then with enough: what is wrong."""
    with _disk() as folder:
        _copy_into(inputs, COMMANDS[name][1], folder)
        least, most = _used(folder), _used(reference)
        _remount(folder, f"size={rng.randint(least, most) + 4096}")
        wrong = _refused(folder, COMMANDS[name][0], "no space left on the disk", is_sure=False)
        wrong += listed_wrongly(folder)
        _remount(folder, "size=1g")
        finish(folder, COMMANDS[name][0], folder.parent / "log")
        return wrong + differences(reference, folder)


def in_a_read_only_folder(
    name: str, inputs: Path, reference: Path, rng: random.Random
) -> list[str]:
    """Run a command where nothing can be written, then where it can: what is wrong."""
    with _disk() as folder:
        _copy_into(inputs, COMMANDS[name][1], folder)
        _remount(folder, "ro")
        wrong = _refused(folder, COMMANDS[name][0], "Read-only file system", is_sure=True)
        _remount(folder, "rw")
        finish(folder, COMMANDS[name][0], folder.parent / "log")
        return wrong + differences(reference, folder)


@contextlib.contextmanager
def _disk() -> Iterator[Path]:
    """A disk of its own; only as root of a mount namespace, as ``unshare -rm`` makes one."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "disk"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def _remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def _used(folder: Path) -> int:
    """Bytes of a folder's files, in whole pages as such a disk counts them."""
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in folder.rglob("*") if p.is_file())


def _refused(folder: Path, words: list[str], why: str, *, is_sure: bool) -> list[str]:
    """What is wrong with how a command stops: one line and exit code 2 are right.

    Unless it ``is_sure`` to stop, a good end is right as well.
    """
    log = folder.parent / "refusal"
    log.unlink(missing_ok=True)
    process = start(folder, words, log)
    process.join()
    text = log.read_text()
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    if process.exitcode == 0 and not is_sure:
        return []
    if process.exitcode == 2 and len(errors) == 1 and why in errors[0] and "Traceback" not in text:
        return []
    return [f"exit {process.exitcode}: {text[-1500:]}"]


WAYS = {"killed": killed_and_resumed, "together": together, "full": on_a_full_disk,
        "readonly": in_a_read_only_folder}  # fmt: skip


def rounds(way: str, name: str, inputs: Path, n: int, seed: int) -> list[str]:
    """What is wrong after a command was treated so ``n`` times, each with its seed."""
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / "reference"
        _copy_into(inputs, COMMANDS[name][1], reference)
        _SECONDS[name] = finish(reference, COMMANDS[name][0], Path(scratch) / "log")
        wrong = []
        for k in range(seed, seed + n):
            try:
                faults = WAYS[way](name, inputs, reference, random.Random(k))
            except AssertionError as error:  # the same command did not end well
                faults = [str(error)]
            wrong += [f"{name}, seed {k}: {one}" for one in faults]
        return wrong


def main() -> None:
    """Treat the commands of ``sys.argv`` in one of the ways, and print what is wrong."""
    way, n, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:] or list(COMMANDS)
    faults = 0
    with tempfile.TemporaryDirectory() as scratch:
        make_inputs(Path(scratch))
        for name in names:
            began, seed = time.monotonic(), int(os.environ.get("SEED", time.time()))
            wrong = rounds(way, name, Path(scratch), n, seed)
            seconds, faults = time.monotonic() - began, faults + len(wrong)
            print(f"{name}: {n} times {way}, {len(wrong)} faults, seed {seed}, {seconds:.0f} s")
            print(*wrong, sep="\n", end="\n" * bool(wrong), flush=True)
    raise SystemExit(min(faults, 1))


if __name__ == "__main__":
    main()
