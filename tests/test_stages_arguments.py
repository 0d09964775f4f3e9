"""utils: stages, the command line's spellings, exit codes."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest

from utils.arguments import ScriptParser, add_flag, add_list
from utils.errors import UserError, run_script
from utils.stages import COLOURS, PLOT_ORDER, STAGES, stage_counts


def test_stage_facts_are_consistent():
    assert STAGES == ("W", "N1", "N2", "N3", "REM")
    assert sorted(PLOT_ORDER) == sorted(STAGES)
    assert set(COLOURS) == {*STAGES, "unscored"}


def test_stage_counts():
    stages = np.array([0, 0, 1, 4, -1, -1, -1, 3], np.int8)
    assert stage_counts(stages) == {"W": 2, "N1": 1, "N2": 0, "N3": 1, "REM": 1, "unscored": 3}


def make_parser() -> ScriptParser:
    parser = ScriptParser("test")
    add_flag(parser, "--is_interpret", help="a boolean")
    add_list(parser, "--folds", item=int, default=[0], help="a list")
    add_list(parser, "--names", help="a list of names")
    parser.add_argument("--rate", type=float, default=1.0, help="a number")
    return parser


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], False),
        (["--is_interpret"], True),
        (["--is_interpret", "True"], True),
        (["--is_interpret", "False"], False),
        (["--is_interpret", "false"], False),
    ],
)
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


TYPES = {
    "rate": ["fast", [1], [1, 2], {}, {"a": 1}, True, [[1]], "nan", "inf", "", "1 2", "--names"],
    "folds": ["a", [0, "a"], {"a": 1}, [[0]], [True], True, [1.5], [None], "9" * 5000],
    "names": [{}, [["a"]], True, [{"a": 1}]],
    "is_interpret": [[True], {}, "perhaps", 2],
    "help": [True, False, None],
    "config": ["other.json"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("flag", "value"),
    [(flag, value) for flag, values in TYPES.items() for value in values],
    ids=lambda value: str(value)[:20],
)
def test_a_value_of_the_wrong_kind_in_a_config_is_one_line(tmp_path, flag, value):
    (tmp_path / "c.json").write_text(json.dumps({flag: value}))
    with pytest.raises(UserError, match=flag) as error:
        make_parser().parse(["--config", str(tmp_path / "c.json")])
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("text", ['{"rate": NaN}', '{"rate": Infinity}', '{"rate": 1e999}'])
@pytest.mark.parametrize("deep", ["[" * 100_000, '{"rate":' * 500 + "1" + "}" * 500])
def test_numbers_and_nesting_without_end(tmp_path, text, deep):
    for content in (text, deep):
        (tmp_path / "c.json").write_text(content)
        with pytest.raises(UserError):
            make_parser().parse(["--config", str(tmp_path / "c.json")])


def test_values_that_begin_with_a_dash_are_values(tmp_path):
    (tmp_path / "c.json").write_text('{"rate": -3, "names": ["-a", "b"], "folds": "-1,2"}')
    args = make_parser().parse(["--config", str(tmp_path / "c.json")])
    assert (args.rate, args.names, args.folds) == (-3.0, ["-a", "b"], [-1, 2])


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "NaN", "infinity"])
def test_flags_take_finite_numbers_alone(text):
    with pytest.raises(UserError, match="--rate"):
        make_parser().parse([f"--rate={text}"])
    parser = make_parser()
    add_list(parser, "--widths", item=float, help="a list")
    with pytest.raises(UserError, match="--widths"):
        parser.parse([f"--widths=1,{text}"])


@pytest.mark.parametrize(
    "words", [["--nothing"], ["--folds", "a"], ["--rate", "x"], ["--fold", "1"]]
)
def test_wrong_flags_are_user_errors(words):
    with pytest.raises(UserError, match="--help"):
        make_parser().parse(words)


def test_a_line_has_an_end_whatever_a_file_names():
    said = str(UserError(f"x.edf: {'a' * 10**6}; fetch it again"))
    assert len(said) < 2100 and said.startswith("x.edf: a") and said.endswith("; fetch it again")


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
