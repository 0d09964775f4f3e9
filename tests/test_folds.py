"""Fold tables: the published lists, their rules, and what is refused."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from sklearn.model_selection import KFold

from datasets.store import folds, splits
from utils.errors import UserError

ABSENT = (39, 68, 69, 78, 79)
IDS = {20: list(range(20)), 78: [i for i in range(83) if i not in ABSENT]}


def key(number: int) -> str:
    return f"SC4{number:02d}"


def table(name: str) -> folds.FoldTable:
    return folds.load(folds.TABLES / f"{name}.json")


@pytest.mark.parametrize(("name", "n", "n_folds"), [("tiny20", 20, 20), ("tiny78", 78, 10)])
def test_tinysleepnet_tables_follow_their_rule(name, n, n_folds):
    ids = np.array(IDS[n])
    for number, (fold, test) in enumerate(
        zip(table(name).folds, np.array_split(ids, n_folds), strict=True)
    ):
        train = np.setdiff1d(ids, test)
        rng = np.random.RandomState(42 + number)
        val = rng.choice(train, round(0.1 * len(train)), replace=False)
        assert fold.test == [key(i) for i in test]
        assert sorted(fold.val) == sorted(key(i) for i in val)
        assert sorted(fold.train) == sorted(key(i) for i in np.setdiff1d(train, val))


def test_cmt_test_folds_follow_their_rule():
    # drawn over the 83 numbers, absent ones included
    split = KFold(5, shuffle=True, random_state=2).split(np.arange(83))
    for fold, (_, test) in zip(table("cmt5").folds, split, strict=True):
        assert fold.test == [key(i) for i in sorted(test) if i not in ABSENT]
        assert fold.val


def test_xsleep_positions_became_ids():
    # printed 1-based positions of the published file's fold 0; as ids they would test subject 39
    printed = [2, 10, 13, 39, 65, 67, 71, 76]
    assert table("xsleep78").folds[0].test == [key(IDS[78][k - 1]) for k in printed]
    assert [f.test for f in table("xsleep20").folds] == [[key(i)] for i in range(20)]
    assert all(len(f.val) in (4, 7) for n in ("xsleep20", "xsleep78") for f in table(n).folds)


def test_a_published_split_is_fold_0_of_a_table():
    """NeuroLM: SN001 to SN102 train, to SN127 validate, to SN154 test; three withdrawn."""
    published = table("hmc_neurolm")
    first = published.folds[0]
    assert [len(part) for part in (first.train, first.val, first.test)] == [100, 25, 26]
    ends = [(part[0], part[-1]) for part in (first.train, first.val, first.test)]
    assert ends == [("hmc-SN001", "hmc-SN102"), ("hmc-SN103", "hmc-SN127"),
                    ("hmc-SN128", "hmc-SN154")]  # fmt: skip
    assert splits.split(published, [1, 2], [0], share=0.1, seed=0) == splits.Split(
        first.train, first.val, first.test
    )


def test_isruc_is_split_as_cbramod_has_it():
    """By number, not by place in a listing: 1 to 80 train, to 90 validate, to 100 are tested."""
    first = table("isruc1_cbramod").folds[0]
    assert [len(part) for part in (first.train, first.val, first.test)] == [80, 10, 10]
    assert (first.train[0], first.train[-1]) == ("isruc-I-1", "isruc-I-80")
    assert first.test == [f"isruc-I-{n}" for n in range(91, 101)]


@pytest.mark.parametrize(("n", "n_val", "n_test"), [(3, 1, 1), (255, 26, 38), (2000, 50, 100)])
def test_usleeps_rule(n, n_val, n_test):
    subjects = [f"S{i}" for i in range(n)]
    made = folds.make("usleep:1", subjects)
    assert made == folds.make("usleep:1", subjects[::-1]) != folds.make("usleep:2", subjects)
    assert folds.fit(made, subjects) == made
    first = made.folds[0]
    assert (len(first.val), len(first.test)) == (n_val, n_test)
    assert splits.split(made, [1, 2], [0], share=0.5, seed=0) == splits.Split(
        first.train, first.val, first.test
    )
    with pytest.raises(UserError, match="2 subjects cannot be split in three"):
        folds.make("usleep:1", subjects[:2])


@pytest.mark.parametrize("name", [n for n in folds.published_names() if n != "dodh_loo"])
def test_published_tables_test_every_subject_once_without_leaks(name):
    loaded = table(name)
    subjects = [key(i) for i in IDS[20 if name.endswith("20") else 78]]
    if "_" in name:  # of another cohort than Sleep-EDF
        subjects = sorted(s for fold in loaded.folds for s in fold.test)
    assert folds.fit(loaded, subjects) == loaded
    for fold in loaded.folds:
        assert sorted((*fold.train, *fold.val, *fold.test)) == subjects


def test_kfold_is_reproducible_complete_and_by_subject():
    subjects = [f"S{i}" for i in range(13)]
    made = folds.make("kfold:5:3", subjects)
    assert made == folds.make("kfold:5:3", subjects[::-1])
    assert made != folds.make("kfold:5:4", subjects)
    assert sorted(s for f in made.folds for s in f.test) == sorted(subjects)
    assert {len(f.test) for f in made.folds} == {2, 3}
    for fold in made.folds:
        assert fold.val
        assert sorted((*fold.train, *fold.val, *fold.test)) == sorted(subjects)


@pytest.mark.parametrize("name", ["kfold:1:0", "kfold:9:0", "kfold:5", "tiny21", "../tiny20", ""])
def test_impossible_folds_are_refused(name):
    with pytest.raises(UserError, match="folds"):
        folds.make(name, ["a", "b", "c"])


def test_a_table_naming_absent_subjects_lists_them_unless_allowed():
    present = [key(i) for i in IDS[20] if i not in (3, 7)]
    with pytest.raises(UserError, match=r"lacks 2 .*SC403, SC407.*--allow_missing"):
        folds.make("tiny20", present)
    made = folds.make("tiny20", present, allow_missing=True)
    assert len(made.folds) == 20
    assert made.folds[3].test == []
    assert not {"SC403", "SC407"} & {s for f in made.folds for s in (*f.train, *f.val, *f.test)}


def test_a_table_that_leaves_subjects_untested_is_refused():
    with pytest.raises(UserError, match="not tested exactly once: SC420"):
        folds.make("tiny20", [key(i) for i in range(21)])


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        json.dumps({"name": "x", "source": "", "folds": [{"train": ["a"], "test": []}]}),
        json.dumps(
            {"name": "x", "source": "", "folds": [{"train": ["a"], "val": [], "test": ["a"]}]}
        ),
    ],
)
def test_broken_or_leaking_tables_are_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"x\.json"):
        folds.load(path)


def test_written_tables_read_back(tmp_path):
    made = folds.make("kfold:2:1", ["a", "b", "c"])
    path = folds.write(tmp_path, made)
    assert path.name == "kfold-2-1.json"
    assert folds.load(path) == made


def test_folds_of_ten_thousand_subjects_take_no_time():
    subjects = [f"S{k:05d}" for k in range(10_000)]
    started = time.perf_counter()
    made = folds.make("kfold:5:0", subjects)
    # half a minute where every subject was looked up in a set made anew
    assert time.perf_counter() - started < 2
    assert sorted(s for fold in made.folds for s in fold.test) == subjects
