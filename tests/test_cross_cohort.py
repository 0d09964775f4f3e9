"""Training on some cohorts, testing on others: stores of any montage and rate, joined by role."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

import reproduce_tables
import staging_evaluate
import staging_training
from datasets.readers.recording import Recording, Signal, bouts_of
from datasets.store import folds, joined, splits
from datasets.store.build import Reader, build_store
from datasets.store.preparation import RolePreprocessing, Settings
from datasets.store.store import Store
from experiments import cross_cohort, model_table
from experiments.reproducing import Job
from utils.errors import UserError
from utils.stages import STAGES

N_EPOCHS = 24
QUICK = "--n_epochs 1 --logger csv --accelerator cpu --batch_size 8 --num_seq 3"


@dataclass(frozen=True)
class Made:
    """A night that is not in any file; ``files`` has what the store sums up."""

    id: str
    files: tuple[Path, ...]


def sine(hz: float, fs: float, unit: str, gain: float = 1.0) -> Signal:
    """30 µV at ``hz``, in ``unit``."""

    def read(start: float, stop: float) -> np.ndarray:
        seconds = np.arange(round(start * fs), round(stop * fs)) / fs
        return gain * 30 * np.sin(2 * np.pi * hz * seconds)

    return Signal(fs, unit, N_EPOCHS * 30.0, read)


def stages_of(number: int) -> np.ndarray:
    return np.roll(np.repeat([0, 1, 2, 2, 3, 4], N_EPOCHS // 6), number).astype(np.int8)


def make_store(path: Path, cohort: str, prefix: str, labels: dict, n: int = 3, **more) -> Store:
    """A store of ``n`` subjects; ``labels`` -> (rate, unit, gain) of sines at 3 Hz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.parent / f"{path.name}.source"
    file.write_text(cohort)

    def read(source: Made) -> Recording:
        number = int(source.id[-1])
        signals = {name: sine(3, *about) for name, about in labels.items()}
        stages, start = stages_of(number), datetime(2020, 1, 1, 22)
        derivations = {name: f"{name} of {source.id}" for name in more.get("by_role", ())}
        return Recording(
            source.id, source.id, 1, signals, bouts_of(stages), stages, start, None, derivations
        )

    kept = {r: RolePreprocessing("uV") for r in more["by_role"]} if "by_role" in more else None
    roles = {"EEG": ("EEG Fpz-Cz",), "EOG": ("EOG horizontal",), "EMG": ("EMG chin",)}
    settings = Settings(
        cohort, "keep_all", more.get("by_role", tuple(labels)), fs=more.get("fs"), kept=kept,
        preset=more.get("preset"), bandpass=more.get("bandpass"),
    )  # fmt: skip
    sources = [Made(f"{prefix}{k}", (file,)) for k in range(n)]
    return build_store(path, sources, Reader(read, roles), settings=settings, command="test")


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> list[Store]:
    """By label at 100 Hz with a slow EMG, by label in millivolt at 256 Hz, by role at 128 Hz."""
    folder = tmp_path_factory.mktemp("cohorts")
    slow = {"EEG Fpz-Cz": (100, "uV"), "EOG horizontal": (100, "uV"), "EMG chin": (1, "uV")}
    fast = {"EEG Fpz-Cz": (256, "mV", 1e-3), "EOG horizontal": (256, "mV", 1e-3)}
    roles = {"EEG_C4": (128, "uV"), "EOG": (128, "uV"), "EMG": (128, "uV")}
    return [
        make_store(folder / "a", "synthetic-a", "a", slow),
        make_store(folder / "b", "synthetic-b", "b", fast, bandpass=(0.3, 35.0)),
        make_store(folder / "c", "synthetic-c", "c", roles, by_role=tuple(roles), fs=128.0),
    ]


@pytest.fixture(scope="module")
def one(three, tmp_path_factory) -> Store:
    return joined.join(tmp_path_factory.mktemp("joined") / "store", three, [], None)


def test_roles_rates_and_units_are_reconciled(one):
    assert one.cohort == "synthetic-a+b+c"
    # no EMG: that of the first store is an envelope; the lowest rate, since none has more in it
    assert [(c.label, c.role, c.fs, c.unit) for c in one.channels] == [
        ("EEG", "EEG", 100.0, "uV"), ("EOG", "EOG", 100.0, "uV")
    ]  # fmt: skip
    expected = 30 * np.sin(2 * np.pi * 3 * np.arange(3000) / 100)
    for recording in ("a1", "b1", "c1"):
        night = one.night(recording)
        assert night.stages.tolist() == stages_of(1).tolist()
        middle = night.signals()[N_EPOCHS // 2]
        assert np.abs(middle - expected).max() < 0.1, recording
    assert one.night("a1").derivations == ("EEG Fpz-Cz", "EOG horizontal")
    assert one.night("c1").derivations == ("EEG_C4 of c1", "EOG of c1")


def test_folds_are_the_cohorts_and_every_other_one_validates(one):
    table = splits.find_table(one, joined.FOLDS)
    assert [fold.test for fold in table.folds] == [[f"{c}{k}" for k in range(3)] for c in "abc"]
    for fold, others in zip(table.folds, ("bc", "ac", "ab"), strict=True):
        assert sorted(s[0] for s in fold.val) == list(others)
        assert sorted(fold.val + fold.train) == [f"{c}{k}" for c in others for k in range(3)]
    folds.fit(table, one.subjects)


def test_a_cohort_of_one_subject_only_trains(three, tmp_path):
    lone = {"EEG Fpz-Cz": (100, "uV")}
    alone = make_store(tmp_path / "h", "synthetic-h", "h", lone, n=1)
    store = joined.join(tmp_path / "s", [three[0], alone], ["EEG"], None)
    first, second = splits.find_table(store, joined.FOLDS).folds
    assert (first.train, first.val, first.test) == (["h0"], [], ["a0", "a1", "a2"])
    assert len(second.val) == 1 and second.test == ["h0"]


def test_joined_again_only_what_changed_is_prepared(three, one, monkeypatch):
    monkeypatch.setattr("datasets.store.build.prepare", None)
    assert joined.join(one.path, three, [], None).subjects == one.subjects
    with pytest.raises(UserError, match=r"of other stores, roles or rates before.*--project_path"):
        joined.join(one.path, three[:2], [], None)
    with pytest.raises(UserError, match="of other stores, roles or rates before"):
        joined.join(one.path, three, [], 64)


def test_a_rate_and_roles_of_choice(three, tmp_path):
    store = joined.join(tmp_path / "s", three, ["EOG"], 64)
    assert [(c.label, c.fs) for c in store.channels] == [("EOG", 64.0)]
    emg = joined.join(tmp_path / "t", three[1:], [], None)  # which have 128 Hz at least
    assert [(c.label, c.fs) for c in emg.channels] == [("EEG", 128.0), ("EOG", 128.0)]


def test_nights_without_a_role_are_left_out_and_counted(three, tmp_path, capsys):
    def without(number: int) -> Store:
        """A store whose night ``number`` has no EOG."""
        folder = tmp_path / f"d{number}"
        roles = {"EEG": (100, "uV"), "EOG": (100, "uV")}
        store = make_store(folder, "synthetic-d", "d", roles, by_role=tuple(roles), fs=100.0)
        for k in range(3) if number < 0 else [number]:
            path = folder / "nights" / f"d{k}" / "night.json"
            facts = json.loads(path.read_text())
            facts["channels"][1] |= {"mean": None, "sd": None}
            path.write_text(json.dumps(facts))
        return store

    store = joined.join(tmp_path / "s", [three[0], without(1)], [], None)
    assert [r for r in store.recordings if r.startswith("d")] == ["d0", "d2"]
    assert "synthetic-d: 1 nights lack a role, and are left out" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"no night has all of EEG, EOG"):
        joined.join(tmp_path / "t", [three[0], without(-1)], [], None)


def test_what_cannot_be_compared_is_one_line(three, tmp_path):
    def refused(match: str, *stores: Store, roles=()) -> None:
        with pytest.raises(UserError, match=match):
            joined.join(tmp_path / "s", stores, roles, None)
        assert not (tmp_path / "s").exists()

    eeg = {"EEG Fpz-Cz": (100, "uV")}
    same = make_store(tmp_path / "e", "synthetic-e", "a", eeg)
    level = make_store(tmp_path / "f", "synthetic-f", "f", eeg, preset="equalised")
    cheek = make_store(tmp_path / "g", "synthetic-g", "g", {"EMG chin": (100, "uV")})
    refused("needs two stores or more", three[0])
    refused("synthetic-a, as .* is; name one of the two", three[0], three[0])
    refused(r"holds subject a0, as .* does \(3 such\)", three[0], same)
    refused("prepared with preset equalised", three[0], level)
    refused(
        "no waveform for EMG; it has EEG Fpz-Cz .*1 Hz.*--roles", three[0], three[2], roles=["EMG"]
    )
    refused("has no EEG, EOG or EMG that all other stores have", three[0], cheek)


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ([], [], ((), [(0,), (1,), (2,)])),
        ([], ["c", "synthetic-a"], ((), [(0,), (2,)])),
        (["a"], [], ((0,), [(1, 2)])),
        (["b", "a"], ["c"], ((0, 1), [(2,)])),
    ],
)
def test_which_cohorts_train_and_which_are_held_out(train, test, expected):
    cohorts = ["synthetic-a", "synthetic-b", "c"]
    assert cross_cohort.held_out(train, test, cohorts) == expected


@pytest.mark.parametrize(
    ("train", "test", "match"),
    [
        (["d"], [], "--train d: the stores hold a, b"),
        (["a"], ["x"], "--test x: the stores hold a, b"),
        (["a"], ["a"], "--test a: --train names it too"),
        (["a", "b"], [], "--train names every cohort"),
    ],
)
def test_wrong_cohorts_are_one_line(train, test, match):
    with pytest.raises(UserError, match=match):
        cross_cohort.held_out(train, test, ["a", "b"])


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--stores", "a", "b"], "--stores: of --table cross_cohort"),
        (["--table", "cross_cohort", "--folds", "tiny20"], "its folds are the cohorts"),
        (["--table", "cross_cohort", "--stagers", "yasa"], "its folds are the cohorts"),
        (["--table", "cross_cohort", "--models", "masked_cnn"], "not of --table cross_cohort"),
    ],
)
def test_flags_without_effect_are_refused(words, match):
    with pytest.raises(UserError, match=match):
        reproduce_tables.parse_args(words)


@pytest.fixture
def in_this_process(monkeypatch):
    """Trainings here, and without drawing; what was trained."""
    scripts, done = (
        {"staging_training.py": staging_training, "staging_evaluate.py": staging_evaluate},
        [],
    )

    def run(cells, *_, **__):
        for cell in cells:
            done.append(cell.name)
            for _, script, *words in cell.commands:
                scripts[Path(script).name].main(words)

    monkeypatch.setattr(reproduce_tables, "run_cells", run)
    monkeypatch.setattr("utils.figures.save", lambda figure, path, **_: path)
    return done


def command(folder: Path, stores: list[Store], *more: str) -> list[str]:
    paths = [str(store.path) for store in stores]
    words = ["--table", "cross_cohort", "--stores", *paths, "--project_path", str(folder)]
    return [*words, "--models", "chambon2018", "--device", "cpu", "--flags", QUICK, *more]


def test_one_command_makes_the_table(three, tmp_path, in_this_process, capsys):
    words = command(tmp_path, three[:2], "--test", "b")
    reproduce_tables.main(words)
    assert in_this_process == ["chambon2018, fold 1, seed 0"]
    (row,) = json.loads((tmp_path / "cross_cohort.json").read_text())["rows"]
    assert (row["tested"], row["trained"]) == ("synthetic-b", "synthetic-a")
    assert (row["subjects"], row["epochs"]) == (3, 3 * N_EPOCHS) and 0 <= row["accuracy"] <= 1
    with (tmp_path / "cohorts.csv").open() as file:
        about = {row["cohort"]: row for row in csv.DictReader(file)}
    assert [float(about["synthetic-a"][name]) for name in STAGES] == pytest.approx(
        [1 / 6, 1 / 6, 1 / 3, 1 / 6, 1 / 6], abs=1e-3
    )
    assert about["synthetic-b"]["montage"] == "EEG: EEG Fpz-Cz; EOG: EOG horizontal"
    assert (about["synthetic-a"]["hz"], about["synthetic-b"]["hz"]) == ("100", "256")
    assert about["synthetic-b"]["bandpass"] == "EEG: 0.3–35 Hz; EOG: 0.3–35 Hz"
    text = (tmp_path / "cross_cohort.md").read_text()
    assert "synthetic-b; trained on synthetic-a" in text and "N2 33.3%" in text
    reproduce_tables.main(words)  # nothing is trained again
    assert len(in_this_process) == 1 and "1 of them done" in capsys.readouterr().out


def test_trained_on_one_and_tested_on_two_by_one_training(three, tmp_path, monkeypatch):
    commands = []

    def run(cells, *_, **__):
        commands.extend(line for cell in cells for line in cell.commands)
        raise UserError("enough")

    monkeypatch.setattr(reproduce_tables, "run_cells", run)
    with pytest.raises(UserError, match="enough"):
        reproduce_tables.main(command(tmp_path, three, "--train", "b"))
    train, evaluate = (" ".join(line) for line in commands)
    assert "--folds cohorts --val_data_list 0,2 --train_data_list 1 --seed 0" in train
    assert "--channels EEG EOG --n_epochs 1" in train and "--val_data_list 0,2" in evaluate
    with pytest.raises(UserError, match="holds runs of another train"):
        reproduce_tables.main(command(tmp_path, three, "--train", "a"))


def test_a_row_for_every_cohort_of_one_training(three, tmp_path, monkeypatch):
    counts = np.stack([np.eye(5, dtype=int) * k for k in (1, 10, 100)])
    monkeypatch.setattr(model_table, "confusions", lambda runs: (["a0", "c1", "a1"], counts))
    monkeypatch.setattr(model_table, "own_row", lambda name, *_, **__: {"model": name})
    jobs = [Job("m", (1,), (0, 2), seed) for seed in (0, 1)]
    rows = cross_cohort.rows("m", jobs, tmp_path, None, three)
    assert [(row["tested"], row["trained"], row["epochs"]) for row in rows] == [
        ("synthetic-a", "synthetic-b", 505), ("synthetic-c", "synthetic-b", 50)
    ]  # fmt: skip


def test_figures_are_of_the_cohort_s_own_nights(three, monkeypatch):
    counts = np.stack([np.eye(5, dtype=int) * k for k in (1, 10, 100)])
    monkeypatch.setattr(model_table, "confusions", lambda runs: (["a0", "b1", "a1"], counts))
    about = cross_cohort.tested_on(three[0], [], ["synthetic-b"])
    assert about["epochs"] == 5 * 101 and about["subjects"] == 2 and about["accuracy"] == 1


def test_runs_are_named_after_what_is_held_out(tmp_path):
    job = Job("m", (0,), (1, 2), 3)
    assert job.run(tmp_path) == tmp_path / "seed3" / "m_fold1-2"
    assert replace(job, held_out=(2,)).folds == "2"
