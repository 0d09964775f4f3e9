"""The three published trimming rules: by hand, and on the published counts."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.readers.recording import Bout, Recording, stages_from_bouts
from datasets.store import folds
from datasets.store.protocols import PROTOCOLS
from datasets.store.store import Store
from tests.conftest import prepare
from tests.published_cohort import (
    FOLD_EPOCHS,
    SLEEP_20,
    SLEEP_78,
    SLEEP_FOLD5,
    TOTAL,
    WAKE,
    write_cohort,
)
from utils.errors import UserError

LETTERS = {"W": 0, "1": 1, "2": 2, "3": 3, "R": 4, "?": -1, "M": -1}


def recording(bouts: list[tuple[str, int]], n_epochs: int | None = None, name="SC4001E0"):
    made, at = [], 0
    for letter, length in bouts:
        made.append(Bout(at, length, LETTERS[letter]))
        at += length
    stages = stages_from_bouts(tuple(made), n_epochs or at)
    return Recording(name, name[:5], 1, {}, tuple(made), stages, None)


def kept(night: Recording) -> dict[str, tuple[int, int, int]]:
    """Range and scored epochs under every protocol."""
    ranges = {}
    for name, rule in PROTOCOLS.items():
        start, stop = rule(night)
        ranges[name] = (start, stop, int((night.stages[start:stop] >= 0).sum()))
    return ranges


def test_a_regular_night_is_the_same_under_all_three():
    night = recording([("W", 500), ("1", 10), ("2", 90), ("W", 300), ("?", 50)], 900)
    ranges = kept(night)
    assert ranges.pop("keep_all") == (0, 900, 900)
    assert set(ranges.values()) == {(440, 660, 220)}


def test_a_night_with_unscored_epochs_differs_as_computed_by_hand():
    # 100 W | 5 N1, 3 ?, 40 N2, 2 M, 20 R | 10 W, 4 ?, 86 W, 10 ?
    night = recording(
        [
            ("W", 100),
            ("1", 5),
            ("?", 3),
            ("2", 40),
            ("M", 2),
            ("R", 20),
            ("W", 10),
            ("?", 4),
            ("W", 86),
            ("?", 10),
        ]
    )
    ranges = kept(night)
    # ends 60 after the last of anything not Wake, the final ?: the end of the recording
    assert ranges["tinysleepnet"] == (40, 280, 60 + 65 + 96)
    # ends after 60 scored epochs of Wake: 10, then 4 ? passed over, then 50
    assert ranges["deepsleepnet"] == (40, 234, 60 + 65 + 60)
    # ends 60 after the onset (184) of the last but one annotation
    assert ranges["cmt"] == (40, 244, 60 + 65 + 10 + 60)


def test_question_marks_at_both_ends():
    # 5 ?, 100 W | 5 N1, 50 N2 | 100 W, 10 ? of which 3 lie beyond the signal
    night = recording([("?", 5), ("W", 100), ("1", 5), ("2", 50), ("W", 100), ("?", 10)], 267)
    ranges = kept(night)
    assert ranges["tinysleepnet"] == (0, 267, 255)  # from the first ? to the last: everything
    assert ranges["deepsleepnet"] == (45, 220, 60 + 55 + 60)
    assert ranges["cmt"] == (0, 220, 100 + 55 + 60)  # starts before the second annotation, Wake


def test_margins_stop_at_the_ends_of_the_recording():
    night = recording([("W", 20), ("2", 30), ("W", 25), ("?", 1)], 75)
    assert kept(night)["tinysleepnet"] == (0, 75, 75)
    assert kept(night)["deepsleepnet"] == (0, 75, 75)


def test_a_night_without_sleep_is_kept_whole():
    night = recording([("W", 200)])
    assert {start_stop[:2] for start_stop in kept(night).values()} == {(0, 200)}


def test_cmt_is_for_cassettes_only():
    night = recording([("W", 100), ("2", 50), ("W", 100), ("?", 5)], name="ST7011J0")
    with pytest.raises(UserError, match=r"ST7011J0.*cassette.*--protocol tinysleepnet"):
        PROTOCOLS["cmt"](night)


def test_cmt_takes_annotations_literally():
    # without a final ? the last but one annotation is the last bout of sleep: 60 epochs from its
    # onset, of which 25 are Wake
    night = recording([("W", 100), ("1", 10), ("2", 35), ("W", 100)])
    assert PROTOCOLS["cmt"](night) == (40, 170)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    write_cohort(folder)
    return folder


def counted(store: Store, recordings=None) -> np.ndarray:
    rows = [store.recordings[r] for r in recordings or store.recordings]
    return np.array([[int(row[s]) for s in ("W", "N1", "N2", "N3", "REM")] for row in rows]).sum(0)


@pytest.mark.parametrize("version", ["2013", "2018"])
@pytest.mark.parametrize("protocol", ["deepsleepnet", "tinysleepnet", "cmt"])
def test_published_counts(published, tmp_path, version, protocol):
    options = ["--version", version, "--protocol", protocol, "--channels", "EEG"]
    prepare(published, tmp_path, *options)
    store = Store(tmp_path)
    assert (len(store.recordings), len(store.subjects)) == (
        (39, 20) if version == "2013" else (153, 78)
    )
    per_stage = counted(store)
    np.testing.assert_array_equal(per_stage[1:], SLEEP_20 if version == "2013" else SLEEP_78)
    if protocol in WAKE[version]:
        assert per_stage[0] == WAKE[version][protocol]
        assert per_stage.sum() == TOTAL[version][protocol]
    if (version, protocol) == ("2018", "cmt"):
        table = folds.load(tmp_path / "folds" / "cmt5.json")
        sums = [counted(store, store.of_subjects(fold.test)) for fold in table.folds]
        assert [int(s.sum()) for s in sums] == list(FOLD_EPOCHS.values())
        np.testing.assert_array_equal(sums[4], [12_530, *SLEEP_FOLD5])


def test_published_fold_tables_are_written_for_whole_cohorts(published, tmp_path):
    prepare(published, tmp_path / "78", "--channels", "EEG")
    prepare(published, tmp_path / "20", "--channels", "EEG", "--version", "2013")
    names = {n: set(folds.names_in(tmp_path / n / "folds")) for n in ("20", "78")}
    assert names["78"] == {"tiny78", "xsleep78", "cmt5", "kfold-5-0"}
    assert names["20"] == {"tiny20", "xsleep20", "kfold-5-0"}
