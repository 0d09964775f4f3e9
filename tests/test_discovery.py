"""The one search for recordings: what lies beside them, links, capitals, other programs."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from datasets.readers import discovery, dreem, expert_annotations, nsrr
from datasets.readers.any_file import SUFFIXES
from datasets.readers.discovery import files_below, is_hidden, named_recordings, recordings_among
from datasets.readers.profiles import cohort_nights, profile
from tests.edf_files import sleepedf_in
from tests.odd_edf import Chan, eeg, note, write_odd
from utils.errors import UserError

STAGES = {0: note(0, "Sleep stage W", 30) + note(30, "Sleep stage R", 30)}


def names(paths) -> list[str]:
    return sorted(path.name for path in paths)


@pytest.mark.parametrize(
    "name",
    ["._n.edf", ".hidden/n.edf", "__MACOSX/n.edf", "__MACOSX/a/._n.edf", ".git/annex/x.edf",
     ".n.edf", ".Trashes/501/n.edf", ".AppleDouble/n.edf", ".ipynb_checkpoints/n.edf"],
)  # fmt: skip
def test_what_other_programs_hide_is_passed_over(tmp_path, name):
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\0\5\x16\7" + b"\0" * 500)
    assert is_hidden(name)
    assert files_below(tmp_path / "in") == []
    with pytest.raises(UserError, match="no EDF, BDF or Dreem file there"):
        named_recordings(str(tmp_path / "in"), SUFFIXES)
    with pytest.raises(UserError, match="no EDF, BDF or Dreem file there"):
        named_recordings(str(tmp_path / "in" / "**" / "*.edf"), SUFFIXES)


@pytest.mark.parametrize(
    "name", ["a.EDF", "a.Bdf", "a.REC", "a.H5", "..b.edf", "a.b.edf", "-x.edf"]
)
def test_suffixes_count_in_any_case(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    expected = [] if name.startswith(".") else [name]
    assert names(files_below(tmp_path, SUFFIXES)) == expected


def test_links_are_followed_once_and_by_their_own_names(tmp_path):
    """A DataLad clone: files are links into a hidden store, one of them not fetched."""
    store = tmp_path / "ds" / ".git" / "annex" / "objects"
    store.mkdir(parents=True)
    write_odd(store / "MD5E-s1--abc.edf", [eeg()])
    folder = tmp_path / "ds" / "sub-01" / "eeg"
    folder.mkdir(parents=True)
    (folder / "sub-01_eeg.edf").symlink_to(store / "MD5E-s1--abc.edf")
    (folder / "sub-02_eeg.edf").symlink_to(store / "absent.edf")
    (folder / "up").symlink_to(tmp_path / "ds", target_is_directory=True)  # a circle
    (tmp_path / "ds" / "again").symlink_to(folder, target_is_directory=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_odd(elsewhere / "other.edf", [eeg()])
    (tmp_path / "ds" / "linked").symlink_to(elsewhere, target_is_directory=True)
    files, faults = named_recordings(str(tmp_path / "ds"), SUFFIXES)
    assert names(files) == ["other.edf", "sub-01_eeg.edf", "sub-02_eeg.edf"] and not faults
    assert files[1].parent == folder


def test_folders_that_cannot_be_read_are_reported_and_the_others_are(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_odd(tmp_path / name / f"{name}.edf", [eeg()])
    scan = os.scandir

    def refused(place):
        if Path(place).name == "a":
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(discovery.os, "scandir", refused)
    files, faults = named_recordings(str(tmp_path), SUFFIXES)
    assert names(files) == ["b.edf"]
    assert faults == [f"{tmp_path / 'a'}: cannot be read (Permission denied)"]
    with pytest.raises(UserError, match=r"a: cannot be read \(Permission denied\)"):
        files_below(tmp_path)  # a store lacks no night in silence


@pytest.mark.parametrize(
    "beside", ["n_sleepscoring.edf", "n-Hypnogram.edf", "whatever.edf", "N.BDF", "events.rec"]
)
def test_files_of_annotations_alone_are_no_recordings(tmp_path, beside):
    write_odd(tmp_path / "n.edf", [eeg()])
    write_odd(tmp_path / beside, [], kind="EDF+C", seconds=0, notes=STAGES)
    recordings, others = recordings_among(files_below(tmp_path))
    assert names(recordings) == ["n.edf"] and names(others) == [beside]


def heart(path: Path) -> None:
    write_odd(path, [Chan(f"chan {k}", np.arange(12_000), 100) for k in (1, 2)])


@pytest.mark.parametrize(
    ("name", "is_recording"),
    [("n_lifecard.edf", False), ("n-holter.edf", False), ("N_LIFECARD.EDF", False),
     ("m_lifecard.edf", True), ("other.edf", True), ("nn.edf", True)],
)  # fmt: skip
def test_a_holter_belongs_to_the_recording_that_it_is_named_after(tmp_path, name, is_recording):
    write_odd(tmp_path / "n.rec", [eeg("C3A2")])
    heart(tmp_path / name)
    recordings, _ = recordings_among(files_below(tmp_path))
    assert (name in names(recordings)) == is_recording and "n.rec" in names(recordings)


def test_what_cannot_be_read_stays_a_recording_and_a_file_that_is_named_is_taken(tmp_path):
    (tmp_path / "broken.edf").write_bytes(b"nothing")
    write_odd(tmp_path / "h.edf", [], kind="EDF+C", seconds=0, notes=STAGES)
    assert names(named_recordings(str(tmp_path), SUFFIXES)[0]) == ["broken.edf"]
    assert names(named_recordings(str(tmp_path / "*.edf"), SUFFIXES)[0]) == ["broken.edf"]
    assert names(named_recordings(str(tmp_path / "h.edf"), SUFFIXES)[0]) == ["h.edf"]
    (tmp_path / "gone.edf").symlink_to("nowhere")
    assert names(named_recordings(str(tmp_path / "gone.edf"), SUFFIXES)[0]) == ["gone.edf"]


def test_every_store_finds_its_files_so(tmp_path):
    raw = tmp_path / "raw"
    (raw / "__MACOSX").mkdir(parents=True)
    for name in ("ucddb002", "ucddb003"):
        write_odd(raw / f"{name}.rec", [eeg("C3A2")])
        heart(raw / f"{name}_lifecard.edf")
        (raw / f"{name}_stage.txt").write_text("0\n" * 4)
    assert [pair.id for pair in cohort_nights.find(raw, profile.load("ucddb"))] == [
        "ucddb002",
        "ucddb003",
    ]
    for folder in (raw, raw / "__MACOSX"):
        for name in ("SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf", "shhs1-200001.EDF", "a.H5"):
            (folder / name).write_bytes(b"x")
            (folder / f"._{name}").write_bytes(b"x")
    assert [pair.id for pair in sleepedf_in(raw)] == ["SC4001E0"]
    sources = nsrr.find(raw, "shhs", nsrr.Options({}, ()))
    assert [source.id for source in sources] == ["shhs1-200001"]
    assert [record.id for record in dreem.find_records(raw)] == ["a"]
    with zipfile.ZipFile(tmp_path / "dodh.ZIP", "w") as archive:
        for name in ("dodh/a.h5", "dodh/b.H5", "__MACOSX/dodh/._a.h5", "dodh/._b.h5"):
            archive.writestr(name, b"x")
    assert [record.id for record in dreem.find_records(tmp_path / "dodh.ZIP")] == ["a", "b"]


@pytest.mark.parametrize("finder", [sleepedf_in, dreem.find_records])
def test_a_folder_that_does_not_exist_is_one_line(tmp_path, finder):
    with pytest.raises(UserError, match="absent"):
        finder(tmp_path / "absent")


def test_a_search_scans_each_folder_once(tmp_path, monkeypatch):
    for k in range(30):
        (tmp_path / f"f{k % 5}").mkdir(exist_ok=True)
        (tmp_path / f"f{k % 5}" / f"n{k}.h5").touch()
    scanned, scan = [], os.scandir
    monkeypatch.setattr(discovery.os, "scandir", lambda place: scanned.append(place) or scan(place))
    assert len(named_recordings(str(tmp_path), SUFFIXES)[0]) == 30
    assert len(scanned) == 6


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*", ["a.edf", "b.BDF", "c.h5"]),
        ("*.*", ["a.edf", "b.BDF", "c.h5"]),
        ("a*", ["a.edf"]),
        ("*.txt", ["a.txt"]),  # a suffix that is spelt out is meant
        ("sub-*", ["sub-1/d.edf", "sub-2/e.rec"]),
        ("sub-?/*", ["sub-1/d.edf", "sub-2/e.rec"]),
    ],
)
def test_patterns_are_of_recordings_and_their_folders(tmp_path, pattern, wanted):
    for name in ("a.edf", "a.txt", "a.tsv", "a.json", "a.edf.part", "b.BDF", "c.h5", "Thumbs.db",
                 "sub-1/d.edf", "sub-1/d.csv", "sub-2/e.rec"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    files, faults = named_recordings(str(tmp_path / pattern), SUFFIXES)
    assert [str(path.relative_to(tmp_path)) for path in files] == wanted and not faults


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.edf")
    (tmp_path / "a.edf").write_bytes(b"x")
    for spec in (tmp_path, tmp_path / "*.edf"):
        assert named_recordings(str(spec), SUFFIXES)[0] == [tmp_path / "a.edf"]
    with pytest.raises(UserError, match=r"pipe.edf: is no file but a pipe"):
        named_recordings(str(tmp_path / "pipe.edf"), SUFFIXES)


@pytest.mark.parametrize(
    ("recording", "scoring"),
    [
        ("n.edf", "n.txt"), ("n.edf", "n.TXT"), ("N.EDF", "N.CSV"),
        ("n[1].edf", "n[1]_hypno.txt"), ("SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf"),
        ("SC4001E0-PSG.edf", "SC4001E0-PSG.txt"), ("n.edf", "n-hypnogram.EDF"),
        ("sub-1_eeg.edf", "sub-1_events.tsv"), ("ST7011J0-PSG.edf", "ST7011JP-Hypnogram.edf"),
        ("n.edf", "n.edf.XML"),
    ],
)  # fmt: skip
def test_a_scoring_is_looked_up_by_name_and_no_folder_is_listed(
    tmp_path, monkeypatch, recording, scoring
):
    for name in (recording, scoring, "other.txt"):
        (tmp_path / name).write_text("W\n")

    def listed(*args):
        raise AssertionError("a folder of n recordings would be listed n times")

    monkeypatch.setattr(os, "scandir", listed)
    monkeypatch.setattr(os, "listdir", listed)
    assert expert_annotations.find(tmp_path / recording) == tmp_path / scoring
