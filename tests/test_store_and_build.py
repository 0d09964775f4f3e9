"""The store: what is on disk, what makes it again byte for byte, what is refused."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import preprocess_ucddb
import utils.files
from datasets.readers.profiles import declared_night
from datasets.store import splits
from datasets.store.store import Store
from tests.conftest import prepare
from tests.edf_files import sleepedf_in, write_pair, write_psg
from tests.listing import names
from utils import manifest
from utils.errors import UserError, run_script

ROOT = Path(__file__).parents[1]


def tree(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` and the checksum of its bytes."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_what_is_on_disk(store, raw):
    assert list(store.recordings) == ["SC4001E0", "SC4002E0", "SC4011F0", "SC4021G0", "SC4022G0"]
    assert store.subjects == ["SC400", "SC401", "SC402"]
    assert store.of_subjects(["SC402", "SC400"]) == ["SC4001E0", "SC4002E0", "SC4021G0", "SC4022G0"]
    with (store.path / "recordings.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, pair in zip(rows, sleepedf_in(raw), strict=True):
        night = store.night(row["recording"])
        truth = declared_night.read(pair)
        np.testing.assert_array_equal(
            night.stages, truth.stages[night.first_epoch : night.first_epoch + night.n_epochs]
        )
        assert night.signals().shape == (night.n_epochs, 3, 3000)
        assert night.signals(1.0).shape == (night.n_epochs, 1, 30)
        assert row["source"] == pair.path.name
        assert row["sha256"] == hashlib.sha256(pair.path.read_bytes()).hexdigest()
        assert int(row["unscored"]) == (night.stages == -1).sum() > 0
        assert sum(int(row[s]) for s in ("W", "N1", "N2", "N3", "REM", "unscored")) == int(
            row["n_epochs"]
        )
        assert night.start.startswith("19")


def test_ids_that_a_spreadsheet_would_compute_stay_themselves(tmp_path):
    """As in a table of formulas, so in the store: marked in the file, and read back as they are."""
    ids = ["=cmd()", "+a", "@b", "-c", "'=d", "'e", "-5"]
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ids:
        write_psg(raw / f"{name}.edf", 2, {"C3A2": 128})
        (raw / f"{name}_stage.txt").write_text("0\n2\n")
    words = ["--raw_path", str(raw), "--save_path", str(tmp_path / "store"), "--jobs", "1"]
    preprocess_ucddb.main(words)
    store = Store(tmp_path / "store")
    assert sorted(store.recordings) == sorted(ids) == store.subjects
    assert all(store.night(name).stages.tolist() == [0, 1] for name in ids)
    with (tmp_path / "store" / "recordings.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert [cell for cell in cells if cell[:1] in "=+@" and cell] == []
    assert cells.count("'=cmd()") == 2 and cells.count("'=cmd().edf") == 1


def test_the_description_holds_how_it_was_made(store):
    facts = json.loads((store.path / "dataset.json").read_text())
    assert facts["settings"]["protocol"] == "tinysleepnet"
    assert [(c["label"], c["fs"]) for c in facts["channels"]] == [
        ("EEG Fpz-Cz", 100),
        ("EEG Pz-Oz", 100),
        ("EOG horizontal", 100),
        ("EMG submental", 1),
    ]
    assert facts["command"].startswith("preprocess_sleepedf.py --version 2018")


def test_order_and_workers_do_not_change_a_byte(raw, tmp_path):
    prepare(raw, tmp_path / "a")
    shuffled = tmp_path / "raw"
    for path in sorted(raw.glob("*.edf"), reverse=True):
        (shuffled / path.name[5]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, shuffled / path.name[5])
    prepare(shuffled, tmp_path / "b", "--jobs", "2")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_finished_nights_are_not_prepared_again(raw, tmp_path):
    prepare(raw, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("signals.npy")}
    prepare(raw, tmp_path)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("signals.npy")}


def test_an_edited_hypnogram_is_prepared_again(tmp_path):
    write_pair(tmp_path / "raw", [("W", 3), ("2", 4), ("W", 3)], 10)
    prepare(tmp_path / "raw", tmp_path / "s")
    hypnogram = next((tmp_path / "raw").glob("*Hypnogram*"))
    hypnogram.write_bytes(hypnogram.read_bytes().replace(b"Sleep stage 2", b"Sleep stage R"))
    prepare(tmp_path / "raw", tmp_path / "s")
    store = Store(tmp_path / "s")
    assert store.night("SC4001E0").stages.tolist() == [0] * 3 + [4] * 4 + [0] * 3
    assert store.recordings["SC4001E0"]["REM"] == "4"


def test_a_recording_replaced_by_one_of_the_same_size_is_prepared_again(tmp_path):
    raw = tmp_path / "raw"
    write_pair(raw, [("W", 400), ("2", 400)], 800)
    prepare(raw, tmp_path / "s")
    psg = raw / "SC4001E0-PSG.edf"
    data = bytearray(psg.read_bytes())
    assert len(data) > 4 << 20
    data[-60_000:] = bytes(60_000)
    psg.write_bytes(data)
    prepare(raw, tmp_path / "s")
    prepare(raw, tmp_path / "fresh")
    assert tree(tmp_path / "s") == tree(tmp_path / "fresh")


def test_other_settings_need_another_folder(raw, tmp_path):
    prepare(raw, tmp_path)
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"other settings \(bandpass\); choose another --save_path"):
        prepare(raw, tmp_path, "--bandpass", "0.3", "35")
    assert tree(tmp_path) == before


def test_a_store_holds_the_recordings_of_one_folder(raw, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for path in raw.glob("SC400*.edf"):
        shutil.copy(path, few)
    prepare(raw, tmp_path / "s")
    with pytest.raises(UserError, match=r"holds SC4011F0, which is not among .*\(3 such\)"):
        prepare(few, tmp_path / "s")
    prepare(few, tmp_path / "t")
    prepare(raw, tmp_path / "t")  # more recordings of the same folder are welcome
    assert tree(tmp_path / "s") == tree(tmp_path / "t")


def test_nights_of_different_rates_do_not_share_a_store(tmp_path):
    bouts = [("W", 2), ("2", 4)]
    write_pair(tmp_path / "raw", bouts, 6, name="SC4001E0", channels={"EEG Fpz-Cz": 100})
    write_pair(tmp_path / "raw", bouts, 6, name="SC4011E0", channels={"EEG Fpz-Cz": 50})
    with pytest.raises(UserError, match=r"SC4011E0.*50 Hz.*--resample"):
        prepare(tmp_path / "raw", tmp_path / "a", "--channels", "EEG")
    assert not (tmp_path / "a" / "dataset.json").exists()
    prepare(tmp_path / "raw", tmp_path / "b", "--channels", "EEG", "--resample", "100")
    assert len(Store(tmp_path / "b").recordings) == 2


def test_a_failing_night_leaves_the_others_and_no_store(raw, tmp_path):
    broken = tmp_path / "raw"
    shutil.copytree(raw, broken)
    psg = broken / "SC4021G0-PSG.edf"
    psg.write_bytes(psg.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"SC4021G0-PSG\.edf.*truncated"):
        prepare(broken, tmp_path / "s")
    kept = names(tmp_path / "s" / "nights")
    assert kept == ["SC4001E0", "SC4002E0", "SC4011F0", "SC4022G0"]
    with pytest.raises(UserError, match="did not finish"):
        Store(tmp_path / "s")
    shutil.copy(raw / psg.name, psg)
    prepare(broken, tmp_path / "s")
    prepare(raw, tmp_path / "whole")
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_failing_nights_are_named_and_the_others_prepared(tmp_path, capsys, jobs):
    raw, path = tmp_path / "raw", tmp_path / "s"
    for subject in range(6):
        write_pair(raw, [("W", 20), ("2", 20)], 40, name=f"SC4{subject:02d}1E0")
    for name in ("SC4011E0", "SC4031E0"):
        psg = raw / f"{name}-PSG.edf"
        psg.write_bytes(psg.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"SC4031E0-PSG\.edf: is truncated"):
        prepare(raw, path, "--jobs", jobs, "--keep_all")
    assert "error: " in (printed := capsys.readouterr().err)
    assert "SC4011E0-PSG.edf: is truncated" in printed and "SC4031E0" not in printed
    assert names(path / "nights") == ["SC4001E0", "SC4021E0", "SC4041E0", "SC4051E0"]
    assert not list(path.rglob(".*staging-*"))
    assert not (path / "dataset.json").exists()


def test_what_fails_for_every_night_is_not_tried_for_all(tmp_path, capsys):
    for subject in range(30):
        write_pair(tmp_path, [("W", 2), ("2", 2)], 4, name=f"SC4{subject:02d}1E0")
        psg = tmp_path / f"SC4{subject:02d}1E0-PSG.edf"
        psg.write_bytes(psg.read_bytes()[:-2])
    with pytest.raises(UserError, match="is truncated"):
        prepare(tmp_path, tmp_path / "s", "--keep_all")
    assert capsys.readouterr().err.count("error: ") == 19


@pytest.mark.parametrize("fails_at", range(1, 11))  # two arrays per night, five nights
def test_a_full_disk_leaves_nothing_half_written(raw, tmp_path, monkeypatch, capsys, fails_at):
    calls = {"n": 0}
    real = utils.files.write_array

    def full(path, array):
        calls["n"] += 1
        if calls["n"] == fails_at:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, array)

    monkeypatch.setattr("datasets.store.store.write_array", full)
    assert run_script(lambda: prepare(raw, tmp_path)) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "no space left on the disk" in errors[0]
    nights = list((tmp_path / "nights").glob("*"))
    assert len(nights) == (fails_at - 1) // 2
    assert all(len(names(night)) == 3 for night in nights)
    assert not (tmp_path / "dataset.json").exists()
    monkeypatch.undo()
    prepare(raw, tmp_path)
    assert len(Store(tmp_path).recordings) == 5


def kill_while_writing(command: list[str], store: Path, delay: float) -> bool:
    """Start, wait for the first new array, kill the whole process group; False if it finished."""
    before = count_arrays(store)
    nothing = subprocess.DEVNULL
    with subprocess.Popen(
        command, stderr=nothing, stdout=nothing, start_new_session=True
    ) as process:
        while process.poll() is None and count_arrays(store) <= before:
            time.sleep(0.001)
        time.sleep(delay)
        finished = process.poll() is not None
        if not finished:
            os.killpg(process.pid, signal.SIGKILL)
    return not finished


def count_arrays(folder: Path) -> int:
    """Arrays below a folder that others write to; ``rglob`` fails on what is renamed under it."""
    return sum(name.endswith(".npy") for *_, names in os.walk(folder) for name in names)


def test_killed_at_random_instants_and_resumed_is_byte_identical(tmp_path):
    raw, path = tmp_path / "raw", tmp_path / "s"
    for subject in range(10):
        bouts = [("W", 150), ("2", 100 + subject), ("W", 150 - subject)]
        write_pair(raw, bouts, 400, name=f"SC4{subject:02d}1E0")
    options = ["--bandpass", "0.3", "35", "--keep_all", "--folds", "kfold:2:0"]
    prepare(raw, tmp_path / "whole", *options)
    rng = random.Random(0)
    command = [
        sys.executable,
        str(ROOT / "preprocess_sleepedf.py"),
        "--raw_path",
        str(raw),
        "--save_path",
        str(path),
        "--figures",
        "0",
        *options,
    ]
    killed = 0
    for attempt in range(20):
        jobs = ["--jobs", str(1 + attempt % 2)]
        if kill_while_writing(command + jobs, path, rng.uniform(0, 0.1)):
            killed += 1
        else:  # it was faster than the blow: start over
            shutil.rmtree(path)
        if killed == 5:
            break
        for night in (path / "nights").glob("[!.]*"):
            assert tree(night) == tree(tmp_path / "whole" / "nights" / night.name)
    assert killed == 5
    prepare(raw, path, *options)
    assert tree(path) == tree(tmp_path / "whole")


def edit_description(path: Path, **changes) -> None:
    facts = json.loads((path / "dataset.json").read_text())
    (path / "dataset.json").write_text(json.dumps(facts | changes))


def test_opening_what_is_no_store_is_one_line(store, tmp_path):
    with pytest.raises(UserError, match="there is no store"):
        Store(tmp_path / "absent")
    with pytest.raises(UserError, match="did not finish"):
        Store(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(store.path, copy)
    edit_description(copy, format=99)
    with pytest.raises(UserError, match="store format 99, this code reads 1"):
        Store(copy)
    edit_description(copy, format=1, channels=[{"label": "EEG"}])
    with pytest.raises(UserError, match=r"not a description of a store \(it lacks 'role'"):
        Store(copy)
    (copy / "dataset.json").write_text("{")
    with pytest.raises(UserError, match="not a description"):
        Store(copy)


def test_damaged_nights_are_one_line(store, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(store.path, copy)
    nights = copy / "nights"
    signals = nights / "SC4001E0" / "signals.npy"
    signals.write_bytes(signals.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"signals\.npy: cannot be read.*delete"):
        Store(copy).night("SC4001E0").signals()
    np.save(nights / "SC4002E0" / "stages.npy", np.zeros(3, np.int8))
    with pytest.raises(UserError, match=r"stages\.npy: holds int8 \(3,\)"):
        _ = Store(copy).night("SC4002E0").stages
    (nights / "SC4011F0" / "night.json").unlink()
    with pytest.raises(UserError, match="not a stored night"):
        Store(copy).night("SC4011F0")
    with pytest.raises(UserError, match="no recording 'SC4999E0'"):
        Store(copy).night("SC4999E0")


def test_arrays_that_would_execute_code_are_not_loaded(store, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(store.path, copy)
    np.save(copy / "nights/SC4001E0/stages.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UserError, match="holds object"):
        _ = Store(copy).night("SC4001E0").stages


@pytest.mark.parametrize("change", ["version", "source", "one source less", "nothing"])
def test_a_night_is_prepared_again_when_anything_changed(raw, tmp_path, monkeypatch, change):
    source = tmp_path / "raw"
    source.mkdir()
    for path in raw.glob("SC40?1E*.edf"):
        shutil.copy(path, source)
    prepare(source, tmp_path / "s")
    facts = tmp_path / "s" / "nights" / "SC4001E0" / "night.json"
    before = facts.stat().st_ino, splits.fingerprint(Store(tmp_path / "s"))
    if change == "version":
        monkeypatch.setattr("datasets.store.store.VERSION", "0.0.1")
    if change == "source":
        hypnogram = next(source.glob("*Hypnogram.edf"))
        hypnogram.write_bytes(hypnogram.read_bytes().replace(b"Sleep stage 2", b"Sleep stage 1"))
    if change == "one source less":
        known = json.loads(facts.read_text())
        known["sources"]["more.xml"] = {"bytes": 1, "sha256": "0"}
        facts.write_text(json.dumps(known))
        manifest.write_for_tree(facts.parent, "stored night")
        before = facts.stat().st_ino, before[1]
    prepare(source, tmp_path / "s")
    assert (facts.stat().st_ino != before[0]) == (change != "nothing")
    # a store of another version is another store to trainings, whatever is in it
    if change == "version":
        assert splits.fingerprint(Store(tmp_path / "s")) != before[1]
