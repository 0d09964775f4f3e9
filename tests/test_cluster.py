"""More than one machine: nights prepared by Dask's workers, a training on two nodes of Slurm."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import prepare
from tests.test_distributed import metrics

ROOT = Path(__file__).parents[1]
# each node is a group of processes that meets the other through the loopback device
SRUN = """#!/bin/bash
for k in $(seq 0 $((SLURM_NNODES - 1))); do SLURM_NODEID=$k "$@" & started="$started $!"; done
for pid in $started; do wait $pid || exit 1; done
"""
TINY = [
    "--model_type", "Seq", "--num_seq", "5", "--d_model", "16", "--dim_feedforward", "16",
    "--window_size", "150", "--n_epochs", "1", "--train_data_list", "[0,1]", "--dropout", "0",
    "--logger", "csv", "--accelerator", "cpu", "--lr", "1e-4",
]  # fmt: skip
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow
def test_two_nodes_of_slurm_train_as_one(store, tmp_path):
    """``configs/slurm/train.sh`` as sbatch would run it, on two groups of two processes."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "srun").write_text(SRUN)
    (commands / "srun").chmod(0o755)
    folders = [str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]
    slurm = {
        "PATH": os.pathsep.join(folders),
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "2",
        "SLURM_JOB_ID": "1",
        "MEETING": f"127.0.0.1:{free_port()}",
    }
    alone = [sys.executable, "cmt_training.py", "--devices", "4"]
    nodes = ["bash", "configs/slurm/train.sh", "cmt_training.py"]
    figures = []
    for command, environment in ((alone, {}), (nodes, slurm)):
        project = tmp_path / command[0].rpartition("/")[2]
        words = ["--data_path", str(store.path), "--project_path", str(project), *TINY]
        done = subprocess.run(
            [*command, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | ONE_THREAD | environment,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert done.stdout.count("best pass") == 1  # the first of all processes writes
        figures.append(metrics(project))
    for one, two in zip(*figures, strict=True):
        assert one == pytest.approx(two, rel=1e-6)


@pytest.mark.slow
def test_dask_workers_prepare_the_same_bytes(raw, store, tmp_path):
    """A scheduler and two workers, started as the docs start them."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    quiet = ["--no-dashboard"]
    cluster = [
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), *quiet],
        *2 * [[*dask, "worker", address, "--nthreads", "1", *quiet]],
    ]
    started = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            stderr=subprocess.DEVNULL,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT)},
        )
        for command in cluster
    ]
    try:
        words = ["--channels", "EEG", "EEG2", "EOG", "EMG", "--dask", address]
        prepare(raw, tmp_path / "store", *words)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()
    signals = sorted(store.path.glob("nights/*/*.npy"))  # stages, too
    assert len({path.parent for path in signals}) == 5
    for path in signals:
        made = tmp_path / "store" / path.relative_to(store.path)
        assert made.read_bytes() == path.read_bytes()
