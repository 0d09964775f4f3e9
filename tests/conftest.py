"""Shared fixtures: a tiny synthetic cohort, made once a session, and its store."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

import generate_demo_data
import preprocess_dreem
import preprocess_nsrr
import preprocess_sleepedf
from datasets.store.store import Store

torch.set_num_threads(1)  # tiny models: threads would only wait, the more so on a busy machine


def pytest_addoption(parser):
    cases = int(os.environ.get("FUZZ_CASES", "800"))
    parser.addoption("--fuzz-cases", type=int, default=cases, help="damaged files to try")


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    """Figures of pyplot live until they are closed, and a long run would fill the memory."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) and (left := pyplot.get_fignums()):
        pyplot.close("all")
        raise AssertionError(f"figures {left} stay open")


@pytest.fixture(scope="session")
def raw(tmp_path_factory) -> Path:
    """Three subjects, five nights of 0.7 h."""
    folder = tmp_path_factory.mktemp("raw")
    options = ["--subjects", "3", "--nights", "2", "--hours", "0.7", "--jobs", "1"]
    generate_demo_data.main(["--output", str(folder), *options])
    return folder


@pytest.fixture(scope="session")
def store(raw, tmp_path_factory) -> Store:
    """The cohort of ``raw`` with all four signals the staging models may use."""
    path = tmp_path_factory.mktemp("store")
    prepare(raw, path, "--channels", "EEG", "EEG2", "EOG", "EMG")
    return Store(path)


@pytest.fixture(scope="session")
def dreem_raw(tmp_path_factory) -> Path:
    """Five subjects, one night of 0.6 h each, in Dreem's layout with five scorers."""
    folder = tmp_path_factory.mktemp("dreem")
    words = ["--format", "dreem", "--subjects", "5", "--nights", "1", "--hours", "0.6"]
    generate_demo_data.main(["--output", str(folder), *words, "--jobs", "1"])
    return folder


@pytest.fixture(scope="session")
def dreem_cohort(dreem_raw, tmp_path_factory) -> tuple[Path, Store]:
    """``dreem_raw`` and its store by the scorers' consensus."""
    path = tmp_path_factory.mktemp("dreem_store")
    words = ["--raw_path", str(dreem_raw), "--save_path", str(path), "--jobs", "1"]
    preprocess_dreem.main([*words, "--scorers", str(dreem_raw / "scorers")])
    return dreem_raw, Store(path)


@pytest.fixture(scope="session")
def role_store(tmp_path_factory) -> Path:
    """A store by role of five subjects of a synthetic SHHS, 25 Hz, PLETH absent in all of them.

    Beside it a MESA of three subjects and two roles, and the same at 50 Hz.
    """
    folder = tmp_path_factory.mktemp("roles")
    table = folder / "map.json"
    table.write_text('{"PLETH": ["Pleth"]}')
    for cohort, n_subjects in (("shhs", "5"), ("mesa", "3")):
        generate_demo_data.main(
            [
                "--format",
                "nsrr",
                "--cohort",
                cohort,
                "--subjects",
                n_subjects,
                "--hours",
                "0.3",
                "--jobs",
                "1",
                "--output",
                str(folder / f"raw_{cohort}"),
            ]
        )
    roles = {"shhs": ["EOG", "EEG", "SPO2", "ABDO", "PLETH"], "mesa": ["EEG", "EOG"]}
    for name, cohort, rate in (("shhs", "shhs", 25), ("mesa", "mesa", 25), ("mesa50", "mesa", 50)):
        preprocess_nsrr.main(
            [
                "--cohort",
                cohort,
                "--raw_path",
                str(folder / f"raw_{cohort}"),
                "--save_path",
                str(folder / name),
                "--roles",
                *roles[cohort],
                "--channel_map",
                str(table),
                "--resample",
                str(rate),
                "--jobs",
                "1",
            ]
        )
    return folder / "shhs"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real files, or a skip."""
    folder = os.environ.get("SLEEP_REAL_DATA")
    if not folder:
        pytest.skip("SLEEP_REAL_DATA is not set")
    return Path(folder)


def prepare(raw: Path, path: Path, *options: str) -> None:
    """``preprocess_sleepedf.py`` in this process, without pictures."""
    paths = ["--raw_path", str(raw), "--save_path", str(path)]
    preprocess_sleepedf.main([*paths, "--jobs", "1", "--figures", "0", *options])
