"""utils/files.py: whole or absent, ours or left alone, one process at a time."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.listing import below
from utils import locks, manifest
from utils.errors import UserError
from utils.files import (
    append_text,
    check_file,
    check_folder,
    claim,
    is_ours,
    is_safe,
    refuse_inputs,
    remove_ours,
    safe_name,
    sha256,
    sweep,
    write_array,
    write_arrays,
    write_json,
    write_text,
    written_folder,
    written_whole,
)
from utils.locks import locked

ROOT = Path(__file__).parents[1]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), written_whole(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and below(tmp_path) == ["a.txt"]
    assert is_ours(target)


def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path):
    target = tmp_path / "night"
    with written_folder(target, "a kind") as folder:
        write_text(folder / "a.txt", "old")
    with pytest.raises(RuntimeError), written_folder(target, "a kind") as folder:
        write_text(folder / "b.txt", "half")
        raise RuntimeError
    assert below(tmp_path) == ["night", "night/a.txt"]


def test_a_folder_replaces_a_folder(tmp_path):
    target = tmp_path / "night"
    for content in ("one", "two"):
        with written_folder(target, "a kind") as folder:
            (folder / "below").mkdir()
            (folder / "below" / content).touch()  # by a library: listed all the same
            assert not manifest.read(folder).files
    assert below(target) == ["below", "below/two"]
    assert is_ours(target / "below" / "two")


@pytest.mark.parametrize("where", ["notes.txt", "below/notes.txt", ".hidden", "below/a.txt"])
def test_a_folder_with_a_strangers_file_is_never_replaced(tmp_path, where):
    """New, hidden or edited; the program's own edited file is a stranger's too."""
    target = tmp_path / "night"
    with written_folder(target, "a kind") as folder:
        write_text(folder / "below" / "a.txt", "ours")
    (target / where).write_text("mine")
    with pytest.raises(UserError, match=f"holds {where}, which this program did not write"):
        check_folder(target, "a kind")
    with pytest.raises(UserError), written_folder(target, "a kind") as folder:
        raise AssertionError("computed before it was refused")
    assert (target / where).read_text() == "mine" and (target / "below" / "a.txt").exists()


def test_a_strangers_file_that_comes_while_the_folder_is_made_is_kept(tmp_path):
    target = tmp_path / "night"
    with written_folder(target, "a kind") as folder:
        write_text(folder / "a.txt", "ours")
    with pytest.raises(UserError, match="late"), written_folder(target, "a kind") as folder:
        (target / "late.txt").write_text("mine")
    assert below(target) == ["a.txt", "late.txt"]


def test_links_in_a_folder_are_strangers(tmp_path):
    with written_folder(tmp_path / "night", "a kind") as folder:
        write_text(folder / "a.txt", "ours")
    (tmp_path / "mine").mkdir()
    (tmp_path / "night" / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="holds link"):
        check_folder(tmp_path / "night", "a kind")


def test_a_folder_of_another_kind_is_not_replaced(tmp_path):
    """All files in ``results`` are ours; a report still does not take their place."""
    write_text(tmp_path / "results" / "run" / "run.json", "{}")
    with pytest.raises(UserError, match="holds other files of this program, which the report"):
        check_folder(tmp_path / "results", "report")
    with written_folder(tmp_path / "evaluation", "evaluation") as folder:
        write_text(folder / "a.txt", "ours")
    with pytest.raises(UserError, match=r"\(evaluation\), which the report does not replace"):
        check_folder(tmp_path / "evaluation", "report")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").touch()
    check_folder(tmp_path / "absent", "report")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a file is there"):
        check_folder(tmp_path / "file", "report")
    with written_folder(tmp_path / "absent", "report"):
        pass
    (tmp_path / "bare").mkdir()
    with written_folder(tmp_path / "bare", "report") as folder:
        write_text(folder / "a.txt", "ours")
    assert below(tmp_path / "bare") == ["a.txt"]


def test_single_files_need_to_be_ours(tmp_path):
    target = tmp_path / "night.csv"
    target.write_text("mine")
    with pytest.raises(UserError, match=r"night\.csv: is there already.*choose another name$"):
        write_text(target, "ours")
    with pytest.raises(UserError, match="--overwrite"):
        write_text(target, "ours", overwrite=False)
    assert target.read_text() == "mine" and below(tmp_path) == ["night.csv"]
    write_text(target, "ours", overwrite=True)
    write_text(target, "ours again")
    target.write_text("ours again, edited")
    with pytest.raises(UserError, match="changed since"):
        write_text(target, "third")
    (tmp_path / manifest.NAME).unlink()
    write_text(tmp_path / "other.csv", "ours")
    target.write_text("ours again")  # the bytes are ours, but no list holds them
    with pytest.raises(UserError, match="did not write it"):
        write_text(target, "third")


def test_a_file_is_replaced_by_its_own_kind_only(tmp_path):
    write_text(tmp_path / "run.json", "{}")
    with pytest.raises(UserError), written_whole(tmp_path / "run.json", what="statistics"):
        raise AssertionError("not refused")
    check_file(tmp_path / "run.json")
    with pytest.raises(UserError, match="a folder is there"):
        check_file(tmp_path)


def test_links_are_not_ours_and_what_they_lead_to_is_left(tmp_path):
    write_text(tmp_path / "a" / "x.csv", "ours")
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "a" / "x.csv")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for path in (link, tmp_path / "broken"):
        with pytest.raises(UserError, match="did not write it"):
            write_text(path, "new")
    write_text(link, "new", overwrite=True)
    assert (tmp_path / "a" / "x.csv").read_text() == "ours" and link.read_text() == "new"


def test_a_folder_is_not_written_through_a_link_out_of_its_own(tmp_path):
    for name in ("elsewhere", "out", "out/inside"):
        (tmp_path / name).mkdir()
    (tmp_path / "out" / "night").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "gone").symlink_to(tmp_path / "nowhere")
    for name in ("night", "gone"):
        with (
            pytest.raises(UserError, match=f"{name}: a link out of its folder"),
            written_folder(tmp_path / "out" / name, "night"),
        ):
            raise AssertionError("not refused")
    assert below(tmp_path / "elsewhere") == [] and not (tmp_path / "nowhere").exists()
    # one that stays within is a user's own order
    (tmp_path / "out" / "link").symlink_to(tmp_path / "out" / "inside")
    with written_folder(tmp_path / "out" / "link", "night") as folder:
        (folder / "a.txt").write_text("ours")
    assert (tmp_path / "out" / "inside" / "a.txt").read_text() == "ours"
    # and the folder that a user names may be a link itself
    (tmp_path / "mine").symlink_to(tmp_path / "elsewhere")
    with written_folder(tmp_path / "mine" / "night", "night") as folder:
        (folder / "a.txt").write_text("ours")
    assert (tmp_path / "elsewhere" / "night" / "a.txt").read_text() == "ours"


def test_a_list_of_somebody_else_is_never_written_over(tmp_path):
    (tmp_path / manifest.NAME).write_text('{"made_by": "another"}')
    with pytest.raises(UserError, match="not a list of this program's files"):
        write_text(tmp_path / "a.txt", "ours")
    assert below(tmp_path) == []


def test_the_list_holds_what_was_written_and_nothing_of_when(tmp_path):
    for folder in ("a", "b"):
        write_text(tmp_path / folder / "x.txt", "first" if folder == "a" else "other")
        write_text(tmp_path / folder / "x.txt", "content")
        write_text(tmp_path / folder / "empty", "")
    one, other = ((tmp_path / name / manifest.NAME).read_bytes() for name in "ab")
    assert one == other
    entry = json.loads(one)["files"]["x.txt"]
    assert entry == {"bytes": 7, "sha256": sha256(tmp_path / "a" / "x.txt")}
    assert is_ours(tmp_path / "a" / "empty")


def test_removing_takes_what_is_ours_alone(tmp_path):
    write_text(tmp_path / "ours", "1")
    (tmp_path / "mine").write_text("1")
    for name in ("ours", "mine", "absent"):
        remove_ours(tmp_path / name)
    assert below(tmp_path) == ["mine"]
    assert not manifest.read(tmp_path).files


def test_appended_files_stay_ours_until_somebody_edits_them(tmp_path):
    log = tmp_path / "metrics.jsonl"
    append_text(log, "1\n")
    append_text(log, "2\n")
    assert log.read_text() == "1\n2\n" and is_ours(log)
    log.write_text("1\nmine\n")
    append_text(log, "3\n")  # adding to it loses nothing
    assert log.read_text() == "1\nmine\n3\n" and not is_ours(log)


def test_names_that_libraries_fill_are_claimed_first(tmp_path):
    claim(tmp_path / "log.txt").write_text("anything")
    assert is_ours(claim(tmp_path / "log.txt"))
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="did not write it"):
        claim(tmp_path / "mine.txt")


def killed(code: str, folder: Path) -> None:
    """Run code in a process that is killed by the exception it must end in."""
    lines = f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n"
    lines += f"from utils import files, manifest\nfolder = Path({str(folder)!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, check=False
    )
    assert done.returncode == 9, done.stderr


DIE = "lambda *a, **k: os._exit(9)"


@pytest.mark.parametrize("instant", ["while writing", "before the rename", "after the rename"])
def test_killed_at_any_instant_the_file_stays_ours(tmp_path, instant):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    killed(
        {
            "while writing": "with files.written_whole(folder / 'a.txt') as t:"
            " t.touch(); os._exit(9)",
            "before the rename": f"Path.replace, kept = {DIE}, Path.replace\n"
            "manifest.write = lambda f, m, w=manifest.write: "
            "(setattr(Path, 'replace', kept), w(f, m),"
            f" setattr(Path, 'replace', {DIE}))\nfiles.write_text(folder / 'a.txt', 'new')",
            "after the rename": "files.manifest.update = lambda f, n, e, u=manifest.update: "
            "u(f, n, e) if e.former else os._exit(9)\nfiles.write_text(folder / 'a.txt', 'new')",
        }[instant],
        tmp_path,
    )
    assert target.read_text() == ("new" if instant == "after the rename" else "old")
    assert is_ours(target)
    write_text(target, "third")
    assert below(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("written", ["0", "3", "6"])
def test_killed_while_appending_the_file_stays_ours(tmp_path, written):
    log = tmp_path / "log.jsonl"
    append_text(log, "1\n")
    killed(
        "import io\nclass Cut(io.FileIO):\n"
        f" def write(self, data): super().write(data[:{written}]); os._exit(9)\n"
        "Path.open = lambda p, mode='r', *a, o=Path.open, **k: "
        "Cut(str(p), mode) if mode == 'ab' else o(p, mode, *a, **k)\n"
        "files.append_text(folder / 'log.jsonl', 'second\\n')",
        tmp_path,
    )
    assert log.read_text() == "1\n" + "second\n"[: int(written)]
    assert is_ours(log)


@pytest.mark.parametrize("instant", ["while writing", "between the renames", "before clearing"])
def test_killed_at_any_instant_the_folder_is_the_old_or_the_new_one(tmp_path, instant):
    target = tmp_path / "night"
    with written_folder(target, "a kind") as folder:
        write_text(folder / "old", "1")
    begin = "with files.written_folder(folder / 'night', 'a kind') as t: (t / 'new').touch(); "
    killed(
        {
            "while writing": f"{begin}os._exit(9)",
            "between the renames": "def rename(p, q, r=Path.rename):\n"
            " r(p, q) if p.name == 'night' else os._exit(9)\n"
            f"Path.rename = rename\n{begin}pass",
            "before clearing": f"files._discard = {DIE}\nfiles._heal = lambda t: None\n{begin}pass",
        }[instant],
        tmp_path,
    )
    sweep(tmp_path)
    assert below(tmp_path) == [
        "night",
        f"night/{'new' if instant == 'before clearing' else 'old'}",
    ]
    check_folder(target, "a kind")


def test_sweep_takes_leftovers_of_dead_processes_alone(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".x.{dead.pid}.unfinished").mkdir()
    (tmp_path / f".x.{dead.pid}.unfinished" / "y").touch()
    kept = {
        f".x.{os.getpid()}.unfinished",
        ".x.1.unfinished",
        ".keep",
        ".mine.unfinished",
        ".a.lock",
    }
    for name in kept:
        (tmp_path / name).touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / f".z.{dead.pid}.unfinished").touch()
    (tmp_path / ".left.staging-unfinished").touch()
    (tmp_path / ".left.staging-lock").touch()
    sweep(tmp_path)
    sweep(tmp_path / "absent")
    assert {p.name for p in tmp_path.iterdir()} == kept | {"below"}
    assert list((tmp_path / "below").iterdir())
    sweep(tmp_path, depth=1)
    assert not list((tmp_path / "below").iterdir())


def held_elsewhere(path: Path, seconds: float) -> threading.Thread:
    """Another holder of a lock: threads do not share them."""
    begun = threading.Event()

    def hold() -> None:
        with locked(path):
            begun.set()
            time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    return thread


def test_what_a_living_process_is_writing_is_not_swept(tmp_path):
    thread = held_elsewhere(tmp_path / "a", 0.3)
    (tmp_path / ".a.staging-unfinished").touch()
    sweep(tmp_path)
    assert (tmp_path / ".a.staging-unfinished").exists()
    with locked(tmp_path / "a", wait=False) as is_held:
        assert not is_held
    thread.join()
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_second_waits_for_the_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("utils.locks._SILENT_SECONDS", 0.05)
    thread = held_elsewhere(tmp_path / "a.txt", 0.4)
    began = time.monotonic()
    write_text(tmp_path / "a.txt", "second")
    assert time.monotonic() - began > 0.2
    assert f"waiting: process {os.getpid()} on " in capsys.readouterr().err
    thread.join()
    with locked(tmp_path / "a.txt"), locked(tmp_path / "a.txt"):  # its holder may take it again
        write_text(tmp_path / "a.txt", "third")
    assert below(tmp_path) == ["a.txt"]


def test_a_lock_ends_with_its_holder(tmp_path):
    killed("with files.locked(folder / 'a'): os._exit(9)", tmp_path)
    assert (tmp_path / ".a.staging-lock").exists()
    with locked(tmp_path / "a", wait=False) as is_held:
        assert is_held
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", sorted(locks._NO_LOCKS), ids=errno.errorcode.get)
def test_file_systems_without_locks_have_markers(tmp_path, monkeypatch, number):
    """Some network file systems know no ``flock``."""

    def missing(descriptor, operation):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", missing)
    thread = held_elsewhere(tmp_path / "a", 0.3)
    assert [p.name for p in tmp_path.iterdir()] == [f".a{locks.SOFT_SUFFIX}"]
    sweep(tmp_path)
    with locked(tmp_path / "a", wait=False) as is_held:
        assert not is_held
    with locked(tmp_path / "a"), locked(tmp_path / "a"):
        assert not thread.is_alive()
    write_text(tmp_path / "a", "x")
    assert below(tmp_path) == ["a"]
    # one of a process that died
    (tmp_path / f".b{locks.SOFT_SUFFIX}").write_bytes(marker_of_the_dead(tmp_path))
    sweep(tmp_path)
    assert below(tmp_path) == ["a"]


def marker_of_the_dead(folder: Path) -> bytes:
    code = (
        "import os, sys, filelock; lock = filelock.SoftFileLock(sys.argv[1]); lock.acquire(); "
        "os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, folder / "dead"], check=False)
    content = (folder / "dead").read_bytes()
    (folder / "dead").unlink()
    return content


def test_a_lock_file_that_was_removed_meanwhile_counts_for_nothing(tmp_path, monkeypatch):
    """On a network file system it still has a link, so that the library cannot tell."""
    hidden, taken = tmp_path / f".a{locks.SUFFIX}", []
    remember = locks._remember

    def removed_once(descriptor):
        remember(descriptor)
        if not taken:
            hidden.unlink()
        taken.append(hidden)

    monkeypatch.setattr(locks, "_remember", removed_once)
    with locked(tmp_path / "a"):
        assert len(taken) == 2 and hidden.exists()
    assert not list(tmp_path.iterdir())


def test_work_that_nobody_waits_for_names_who_is_at_it(tmp_path, monkeypatch):
    monkeypatch.setattr("utils.locks._INSTANT_SECONDS", 0.05)
    thread = held_elsewhere(tmp_path / "run", 0.3)
    with (
        pytest.raises(UserError, match=f"process {os.getpid()} on .* is training already"),
        locks.locked_alone(tmp_path / "run", "training"),
    ):
        pass
    thread.join()
    with locks.locked_alone(tmp_path / "run", "training"):
        write_text(tmp_path / "run" / "x", "")
    assert below(tmp_path) == ["run", "run/x"]


def test_many_processes_write_into_one_folder(tmp_path):
    """Every file is on the list, none is lost."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n"
        "from utils.files import write_text\n"
        f"for k in range(20): write_text(Path({str(tmp_path)!r}) / f'{{sys.argv[1]}}_{{k}}', 'x')"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(k)]) for k in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert len(manifest.read(tmp_path).files) == 60 == len(below(tmp_path))


def test_an_output_that_is_an_input_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    edf = tmp_path / "in" / "night.edf"
    edf.touch()
    (tmp_path / "soft.edf").symlink_to(edf)
    (tmp_path / "hard.edf").hardlink_to(edf)
    (tmp_path / "door").symlink_to(tmp_path / "in")
    same = (
        "in/night.edf",
        "soft.edf",
        "hard.edf",
        "in/../in/night.edf",
        "door/night.edf",
        "in/NIGHT.edf",
        "IN/night.EDF",
    )
    for name in same:
        with pytest.raises(UserError, match=r"is an input of this command"):
            refuse_inputs([tmp_path / "other.edf", tmp_path / name], [None, edf])
    for name in ("in", "", "door", "In"):
        with pytest.raises(UserError, match=r"holds an input of this command"):
            refuse_inputs([tmp_path / name], [edf])
    refuse_inputs([tmp_path / "in" / "night.csv", tmp_path / "other"], [edf, tmp_path / "absent"])


@pytest.mark.parametrize("name", ["", ".", "..", "...", ". .", "a/b", "a\\b", "a\0", "a\n"])
def test_names_that_lead_elsewhere(name):
    assert not is_safe(name)
    with pytest.raises(UserError, match="cannot be the name of results; rename it"):
        safe_name(name, "x.edf")


def test_ordinary_names_are_kept():
    for name in ("night", "night.1", "..a", "Nacht 1 µV", ".hidden"):
        assert safe_name(name, "x.edf") == name


def test_written_arrays_are_plain_npy(tmp_path):
    for array in (np.arange(12.0).reshape(3, 4)[:, ::2], np.zeros((0, 3), np.int8)):
        write_array(tmp_path / "x.npy", array)
        loaded = np.load(tmp_path / "x.npy")
        assert loaded.dtype == array.dtype
        np.testing.assert_array_equal(loaded, array)
        write_arrays(tmp_path / "x.npz", {"a": array, "b": array})
        with np.load(tmp_path / "x.npz") as both:
            np.testing.assert_array_equal(both["a"], array)


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_sha256_of_a_known_file(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_explanations_from_before_are_known_by_their_names_and_others_are_kept(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"settings": {}, "versions": {}}))
    folder = tmp_path / "interpretations"
    (folder / "night_e0004").mkdir(parents=True)
    for name in ("index.json", "bands.csv", "night.html", "night_e0004/ig.npz"):
        (folder / name).write_text("ours")
    check_folder(folder, "explanations")
    for name in ("notes.html", "mine.csv", "figure.png"):
        (folder / name).write_text("mine")
        with pytest.raises(UserError, match=name):
            check_folder(folder, "explanations")
        (folder / name).unlink()


def test_exports_from_before_are_those_of_evaluated_recordings(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"settings": {}, "versions": {}}))
    folder = tmp_path / "evaluation"
    names = ("predictions/a.csv", "events/a_events.tsv", "edf/a-Hypnogram.edf", "nights/a.png")
    for name in names:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("ours")
    (folder / "sleep_statistics.csv").write_text("recording,statistic\na,TST\n")
    check_folder(folder, "evaluation")
    for name in ("predictions/mine.csv", "nights/mine.png"):
        (folder / name).write_text("mine")
        with pytest.raises(UserError, match=name):
            check_folder(folder, "evaluation")
        (folder / name).unlink()
