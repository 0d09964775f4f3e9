"""Who trains, who selects, who is held out."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest

from datasets.store import folds, splits
from datasets.store.folds import Fold, FoldTable
from utils.errors import UserError

SUBJECTS = [f"S{k}" for k in range(10)]
TABLE = folds.make("kfold:5:0", SUBJECTS)


def test_by_default_all_other_folds_are_held_out():
    assert splits.held_out_folds(TABLE, [0, 1, 2, 3], None) == [4]
    assert splits.held_out_folds(TABLE, [4, 1], None) == [0, 2, 3]


@pytest.mark.parametrize(
    ("train", "held_out", "message"),
    [
        ([0, 1], [1], "fold 1 is both trained on and held out"),
        ([0, 5], None, "no fold 5 for the training list; there are 0 to 4"),
        ([0], [-1], "no fold -1 for the held-out list"),
        ([0, 0], None, "repeats a fold"),
        ([], None, "training list is empty"),
        ([0, 1, 2, 3, 4], None, "held-out list is empty"),
    ],
)
def test_lists_that_leak_or_do_not_exist(train, held_out, message):
    with pytest.raises(UserError, match=message):
        splits.held_out_folds(TABLE, train, held_out)


@pytest.mark.parametrize("train", [[0, 1, 2, 3], [0, 2], [3, 4, 1]])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_subject_is_in_two_parts(train, seed):
    held_out = splits.held_out_folds(TABLE, train, None)
    split = splits.split(TABLE, train, held_out, share=0.25, seed=seed)
    parts = [set(split.train), set(split.validation), set(split.held_out)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(SUBJECTS)
    assert parts[2] == {s for k in held_out for s in TABLE.folds[k].test}
    assert parts[1]


def test_published_validation_subjects_are_used_where_they_apply():
    split = splits.split(TABLE, [0, 1, 2, 4], [3], share=0.5, seed=0)
    assert split.validation == TABLE.folds[3].val
    drawn = splits.split(TABLE, [0, 1, 2], [3], share=0.5, seed=0)
    assert len(drawn.validation) == 3
    other = splits.split(TABLE, [0, 1, 2], [3], share=0.5, seed=5)
    assert drawn.validation != other.validation


def test_one_training_subject_cannot_be_split():
    table = FoldTable("two", "", [Fold(["b"], [], ["a"]), Fold(["a"], [], ["b"])])
    with pytest.raises(UserError, match="one more, to validate on"):
        splits.split(table, [0], [1], share=0.1, seed=0)


def stored(tmp_path, *names):
    for name in names:
        folds.write(tmp_path / "folds", FoldTable(name, "", TABLE.folds))
    return SimpleNamespace(path=tmp_path)


def test_cmt5_is_preferred(tmp_path):
    assert splits.find_table(stored(tmp_path, "other"), None).name == "other"
    assert splits.find_table(stored(tmp_path, "kfold:5:0"), None).name == "kfold:5:0"
    assert splits.find_table(stored(tmp_path, "cmt5"), None).name == "cmt5"
    assert splits.find_table(stored(tmp_path), "kfold:5:0").name == "kfold:5:0"
    with pytest.raises(UserError, match="no folds 'none'; there are cmt5, kfold-5-0, other"):
        splits.find_table(stored(tmp_path), "none")
    with pytest.raises(UserError, match="no fold tables"):
        splits.find_table(stored(tmp_path / "b"), None)


def test_nights_are_drawn_so_that_fewer_are_among_more():
    nights = [f"S{k}N{n}" for k in range(4) for n in (1, 2)]
    store = SimpleNamespace(of_subjects=lambda names: [n for n in nights if n[:2] in names])
    subjects = ["S0", "S1", "S3"]
    everything = splits.drawn_nights(store, subjects, None, 0)
    assert everything == [n for n in nights if n[:2] != "S2"]
    for seed in range(5):
        drawn = [splits.drawn_nights(store, subjects, n, seed) for n in range(1, 7)]
        assert [len(each) for each in drawn] == list(range(1, 7))
        assert all(set(few) < set(more) for few, more in pairwise(drawn))
        assert all(each == sorted(each) for each in drawn) and drawn[-1] == everything
    firsts = {tuple(splits.drawn_nights(store, subjects, 1, seed)) for seed in range(20)}
    assert len(firsts) > 1
    with pytest.raises(UserError, match="--n_nights 7: the training subjects have 6"):
        splits.drawn_nights(store, subjects, 7, 0)
