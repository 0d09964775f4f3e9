"""Names and words as users and files have them: printed, chosen, written, pasted."""

from __future__ import annotations

import csv
import io
import os
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import predict
from datasets.readers.any_file import opened
from datasets.readers.channels import match
from datasets.store import folds, splits
from datasets.store.folds import Fold, FoldTable
from evaluation.night_summary import title_of
from evaluation.prediction_files import add_to_summary
from evaluation.stagers.vote import check_keys
from tests.odd_edf import Chan, eeg, write_odd
from utils import figures
from utils.arguments import nearest, next_command, pairs
from utils.errors import UserError, run_script
from utils.files import write_json, write_table
from utils.text import harmless, shown, unmarked

EEG = [("EEG Fpz-Cz", "EEG")]


class Reads:
    """A stager of three roles."""

    roles = ("EEG Fpz-Cz", "EEG", "EOG", "EMG")


@pytest.mark.parametrize(
    ("key", "meant"),
    [("eeg", "EEG"), ("EEG1", "EEG"), ("eog", "EOG"), ("emg", "EMG"), ("xyz", None),
     ("EEG fpz-cz", "EEG Fpz-Cz"), ("Eeg", "EEG")],
)  # fmt: skip
def test_an_unknown_key_is_refused_with_the_nearest(key, meant):
    with pytest.raises(UserError, match=f"the model reads no {key}") as caught:
        check_keys([Reads()], {key: ("C3",)})
    assert str(caught.value).endswith(f"did you mean {meant}?") == (meant is not None)
    assert "did you mean" in str(caught.value) or meant is None


def test_what_is_nearest():
    assert nearest("colour", ["color", "size"]) == "; did you mean color?"
    assert nearest("q", ["color", "size"]) == ""


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["EEG=C4-M1"], {"EEG": ("C4-M1",)}),
        (["EEG =C3-M2"], {"EEG": ("C3-M2",)}),
        (["EEG=C4", "EEG=C3"], {"EEG": ("C4", "C3")}),
        (["EEG=C4,EOG=E1 - E2"], {"EEG": ("C4",), "EOG": ("E1 - E2",)}),
        (["EEG=EEG A, filtered"], {"EEG": ("EEG A, filtered",)}),
        (["EEG=EEG[1]"], {"EEG": ("EEG[1]",)}),
        (["EEG=a=b"], {"EEG": ("a=b",)}),
    ],
)
def test_pairs_of_key_and_value_are_taken_letter_by_letter(words, values):
    assert pairs(words, "--channels", "ROLE=label") == values


@pytest.mark.parametrize("word", ["EEG", "=C4", "EEG=", "=", " = "])
def test_half_a_pair_is_refused(word):
    with pytest.raises(UserError, match="give ROLE=label"):
        pairs([word], "--channels", "ROLE=label")


@pytest.mark.parametrize("label", ["C4 - M1", "A - B - C", "E1 - E2", "C4 -  M1", "x - y, z"])
def test_a_label_that_holds_a_spaced_hyphen_can_be_chosen(tmp_path, label):
    names = ["C4", "M1", "E1", "E2", "A", "B", label]
    channels = [eeg(name, seed=k) for k, name in enumerate(names)]
    file = opened(write_odd(tmp_path / "a.edf", channels))
    chosen = pairs([f"EEG={label}"], "--channels", "ROLE=label")["EEG"][0]
    (one,) = match(file, EEG, {"EEG": chosen}).values()
    assert one.parts == (label,)
    np.testing.assert_array_equal(one.signal.read(0, 30), file.read(label, 0, 30))


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("night.edf", "night.edf"), ("夜 µ", "夜 µ"), ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb", r"a\nb"), ("\udce9t\udce9", r"\udce9t\udce9"), ("\x07", r"\x07"),
        ("\u202eexe", r"\u202eexe"),
    ],
)  # fmt: skip
def test_what_is_printed_is_text(text, printed):
    assert shown(text) == printed


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=cmd()", "'=cmd()"), ("@sum", "'@sum"), ("+x", "'+x"), ("-x", "'-x"), ("\tx", "'\tx"),
        ("-0.5", "-0.5"), ("+1e-3", "+1e-3"), ("-.5", "-.5"), ("-inf", "-inf"), ("N2", "N2"),
        ("", ""), (None, None), (-3, -3), ("a=b", "a=b"), ("'a", "'a"), ("'=a", "''=a"),
        ("''+a", "'''+a"), ("'-5", "'-5"),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula(tmp_path, cell, written):
    assert harmless(cell) == written
    assert cell is None or unmarked(str(written)) == str(cell)
    write_table(tmp_path / "t.csv", [{"a": cell}])
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["a"] == str("" if written is None else written)


def test_names_that_are_no_text_are_written_all_the_same(tmp_path):
    write_table(tmp_path / "t.csv", [{"file": "n\udce9.edf"}])
    write_json(tmp_path / "t.json", {"file": "n\udce9 夜"})
    assert rb"n\udce9.edf" in (tmp_path / "t.csv").read_bytes()
    assert "夜" in (tmp_path / "t.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_console_of_any_code_page_prints_every_name(monkeypatch, encoding):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding))

    def main() -> None:
        print("夜 \udce9")
        raise UserError("a_夜.edf: \x1b[31m no")

    assert run_script(main) == 2
    sys.stdout.flush()
    sys.stderr.flush()
    assert sys.stdout.buffer.getvalue().count(b"\n") == 1
    assert rb"\x1b[31m no" in sys.stderr.buffer.getvalue()


@pytest.mark.parametrize(
    "words",
    [
        ["python", "x.py", "--data_path", "my store"],
        ["python", "a'b.py", "$HOME", "*", "two  gaps"],
    ],
)
def test_a_printed_command_can_be_pasted(words):
    assert shlex.split(next_command(*words).removeprefix("next: ")) == words


def test_empty_lists_of_folds_name_the_flag():
    table = folds.make("kfold:4:0", list("abcd"))
    with pytest.raises(UserError, match=r"held-out list is empty.* --train_data_list 0 1 2$"):
        splits.held_out_folds(table, [0, 1, 2, 3], None)
    assert isinstance(table, FoldTable) and isinstance(table.folds[0], Fold)


@pytest.mark.parametrize(("n", "name"), [(0, None), (1, None), (2, "kfold:2:0"), (4, "kfold:4:0"),
                                         (5, "kfold:5:0"), (9, "kfold:5:0")])  # fmt: skip
def test_few_subjects_have_a_fold_each(n, name):
    table = folds.for_few([f"s{k}" for k in range(n)])
    assert (table.name if table else None) == name


# ---------------------------------------------------------------- predict.py


def staged(*words: str) -> None:
    predict.main([*words, "--model", "default-spectra", "--is_interpret", "False"])


def test_one_odd_file_does_not_cost_the_others(tmp_path, capsys):
    folder = tmp_path / "my nights, 2024"
    folder.mkdir()
    names = ["a_夜.edf", os.fsdecode(b"b\xe9.edf"), "c$x_.edf", "=cmd().EDF"]
    odd = eeg(fs=199.99, epochs=7, seconds=100)  # 19,999 samples a record
    write_odd(folder / names[0], [odd], seconds=100)
    for name in names[1:]:
        write_odd(folder / name, [eeg()])
    (folder / "d.edf").symlink_to("nowhere.edf")
    (folder / "e.edf").write_bytes(b"\0" * 300)
    write_odd(folder / "f.edf", [eeg()], n_records=-1)
    (folder / "._a.edf").write_bytes(b"x")
    out = tmp_path / "out [1], all"
    with pytest.raises(SystemExit) as end:
        staged("--edf", str(folder), "-o", str(out / "{}.csv"))
    assert end.value.code == 1
    printed = capsys.readouterr().out
    assert "5 staged, 2 not" in printed, printed
    assert "link to nowhere.edf" in printed and r"b\udce9.edf: 4 epochs" in printed
    assert "the file holds 120.0: the first 120 are read" in printed
    expected = {Path(name).stem for name in (*names, "f.edf")}
    assert {path.stem for path in out.glob("[!.]*.csv")} == expected


def test_any_name_is_the_title_of_a_picture(tmp_path):
    night = SimpleNamespace(recording="夜 \udce9 $x_ \x1b", headline="model")
    picture = figures.draw_prediction(
        np.full((4, 5), 0.2), [""] * 4, title=title_of(night), stages=np.array([0, -1, 2, 4])
    )
    figures.save(picture, tmp_path / "n.png")
    rows = [{"file": name, "epochs": 1} for name in ("=a.edf", "b\udce9.edf")]
    for _ in range(2):  # the second replaces the rows of the first
        add_to_summary(tmp_path / "summary.csv", rows, overwrite=False)
    table = (tmp_path / "summary.csv").read_text("utf-8").splitlines()
    assert table == ["file,epochs", "'=a.edf,1", r"b\udce9.edf,1"]


@pytest.mark.parametrize("target", ["my study, 24/x.csv", "out[1].csv", "a 'b'.json", "[x]/y.tsv"])
def test_outputs_are_names_and_no_lists(tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    write_odd(tmp_path / "n.edf", [eeg()])
    staged("--edf", "n.edf", "-o", target)
    assert (tmp_path / target).is_file()


def test_epochs_without_a_signal_are_unscored_unless_everything_is_asked_for(tmp_path, capsys):
    channel = eeg(epochs=12)
    channel.digital[3000 * 4 : 3000 * 6] = 0
    path = write_odd(tmp_path / "n.edf", [channel])
    (tmp_path / "n.txt").write_text("W\nN1\nN2\nN3\nREM\nW\n" * 2)
    outputs = [str(tmp_path / f"n{end}") for end in (".csv", ".json", "_events.tsv", "_h.edf")]
    staged("--edf", str(path), "-o", *outputs)
    printed = capsys.readouterr().out
    assert "2 epochs lack a signal: unscored" in printed
    assert "of 12 scored epochs; in" in printed and "of 10 with a signal (83.3%)" in printed
    with (tmp_path / "n.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [k for k, row in enumerate(rows) if row["stage"] == "?"] == [4, 5]
    assert rows[4]["quality_flag"] == "EEG C4-M1 flat"
    summary = predict.read_json(tmp_path / "n.json")
    assert summary["unscored_epochs"] == 2 and summary["scored"] == 12
    assert summary["believed"]["scored"] == 10 and summary["coverage"] == pytest.approx(10 / 12)
    stages = ("W", "N1", "N2", "N3", "REM")
    assert sum(summary[stage] for stage in stages) == pytest.approx(5.0)  # of ten epochs
    assert (tmp_path / "n_events.tsv").read_text().count("\t?\t") == 2
    assert b"Sleep stage ?" in (tmp_path / "n_h.edf").read_bytes()
    staged("--edf", str(path), "-o", outputs[0], "--score_everything")
    assert "?" not in (tmp_path / "n.csv").read_text() and "unscored" not in capsys.readouterr().out


def test_a_night_without_any_signal_has_statistics_of_nothing(tmp_path):
    channel = Chan("EEG C4-M1", np.zeros(36_000, int), 100)
    channel.digital[:100] = np.arange(100) * 50
    staged("--edf", str(write_odd(tmp_path / "n.edf", [channel])), "-o", str(tmp_path / "n.json"))
    summary = predict.read_json(tmp_path / "n.json")
    assert summary["unscored_epochs"] == 12 and summary["TST"] is None  # nobody knows
