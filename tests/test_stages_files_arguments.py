"""utils: stages, files that are whole or absent, the command line's spellings."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest

from utils.arguments import ScriptParser, add_flag, add_list
from utils.errors import UserError, run_script
from utils.files import remove, sha256, sweep, write_array, write_json, write_text, written_whole
from utils.stages import COLOURS, PLOT_ORDER, STAGES, stage_counts


def test_stage_facts_are_consistent():
    assert STAGES == ("W", "N1", "N2", "N3", "REM")
    assert sorted(PLOT_ORDER) == sorted(STAGES)
    assert set(COLOURS) == {*STAGES, "unscored"}


def test_stage_counts():
    stages = np.array([0, 0, 1, 4, -1, -1, -1, 3], np.int8)
    assert stage_counts(stages) == {"W": 2, "N1": 1, "N2": 0, "N3": 1, "REM": 1, "unscored": 3}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), written_whole(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_replaces_a_folder(tmp_path):
    target = tmp_path / "night"
    for content in ("one", "two"):
        with written_whole(target) as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    assert [p.name for p in target.iterdir()] == ["two"]


def test_sweep_takes_only_leftovers(tmp_path):
    (tmp_path / ".x.123.unfinished").mkdir()
    (tmp_path / ".x.123.unfinished" / ".y.123.unfinished").touch()
    (tmp_path / ".keep").touch()
    sweep(tmp_path)
    sweep(tmp_path / "absent")
    assert [p.name for p in tmp_path.iterdir()] == [".keep"]
    remove(tmp_path / "absent")


def test_written_arrays_are_plain_npy(tmp_path):
    for array in (np.arange(12.0).reshape(3, 4)[:, ::2], np.zeros((0, 3), np.int8)):
        write_array(tmp_path / "x.npy", array)
        loaded = np.load(tmp_path / "x.npy")
        assert loaded.dtype == array.dtype
        np.testing.assert_array_equal(loaded, array)


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_sha256_of_a_known_file(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def make_parser() -> ScriptParser:
    parser = ScriptParser("test")
    add_flag(parser, "--is_interpret", help="a boolean")
    add_list(parser, "--folds", item=int, default=[0], help="a list")
    add_list(parser, "--names", help="a list of names")
    parser.add_argument("--rate", type=float, default=1.0, help="a number")
    return parser


@pytest.mark.parametrize(
    ("words", "value"),
    [([], False), (["--is_interpret"], True), (["--is_interpret", "True"], True),
     (["--is_interpret", "False"], False), (["--is_interpret", "false"], False)],
)  # fmt: skip
def test_boolean_spellings(words, value):
    assert make_parser().parse(words).is_interpret is value


@pytest.mark.parametrize("words", [["0", "1", "2"], ["0,1,2"], ["[0,1,2]"], ["[0,", "1,", "2]"]])
def test_list_spellings(words):
    assert make_parser().parse(["--folds", *words]).folds == [0, 1, 2]


def test_names_with_spaces_stay_whole():
    words = ["--names", "EEG Fpz-Cz", "EOG horizontal"]
    assert make_parser().parse(words).names == ["EEG Fpz-Cz", "EOG horizontal"]
    words = ["--names", "['EEG Fpz-Cz','EOG']"]
    assert make_parser().parse(words).names == ["EEG Fpz-Cz", "EOG"]


def test_config_sets_defaults_and_flags_win(tmp_path):
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"folds": [3, 4], "rate": 2.5, "is_interpret": True}))
    args = make_parser().parse(["--config", str(config), "--rate", "7"])
    assert (args.folds, args.rate, args.is_interpret) == ([3, 4], 7.0, True)


@pytest.mark.parametrize(
    "content", ['{"rat": 1}', "[1]", "{", '{"rate": "fast"}', '{"is_interpret": "perhaps"}']
)
def test_a_bad_config_is_one_line(tmp_path, content):
    config = tmp_path / "c.json"
    config.write_text(content)
    with pytest.raises(UserError):
        make_parser().parse(["--config", str(config)])


@pytest.mark.parametrize(
    "words", [["--nothing"], ["--folds", "a"], ["--rate", "x"], ["--fold", "1"]]
)
def test_wrong_flags_are_user_errors(words):
    with pytest.raises(UserError, match="--help"):
        make_parser().parse(words)


def test_exit_codes_and_single_lines(capsys):
    def raising(error):
        def main():
            raise error

        return main

    assert run_script(lambda: None) == 0
    assert run_script(raising(UserError("x.edf: broken\nin two lines"))) == 2
    assert capsys.readouterr().err == "error: x.edf: broken in two lines\n"
    assert run_script(raising(OSError(errno.ENOSPC, "No space left", "a/b"))) == 2
    assert capsys.readouterr().err.startswith("error: a/b: no space left on the disk")
    assert run_script(raising(PermissionError(errno.EACCES, "Permission denied", "a"))) == 2
    assert run_script(raising(KeyboardInterrupt())) == 130
    with pytest.raises(ZeroDivisionError):
        run_script(raising(ZeroDivisionError()))
