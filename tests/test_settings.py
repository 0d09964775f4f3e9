"""Flags as frozen settings, and the command line that settings came from."""

from __future__ import annotations

import json
import shlex
from dataclasses import FrozenInstanceError, asdict, dataclass, is_dataclass
from pathlib import Path

import pytest

import cmt_evaluate
import cmt_training
import foundation_evaluate
import foundation_training
import generate_demo_data
import preprocess_dreem
import preprocess_nsrr
import preprocess_sleepedf
import preprocess_ucddb
import ssl_evaluate
import ssl_training
import staging_evaluate
import staging_training
from training.train import NOT_SETTINGS, recorded
from utils.arguments import (
    ScriptParser,
    add_flag,
    add_list,
    by_flag,
    changed,
    command_of,
    settings_from,
)


@dataclass(frozen=True)
class Inner:
    rate: float
    names: list[str]


@dataclass(frozen=True)
class Outer:
    inner: Inner
    keep: bool
    where: Path | None


def make_parser() -> ScriptParser:
    parser = ScriptParser("test", script="/somewhere/script.py")
    parser.add_argument("-r", "--rate", type=float, default=1.0, help="a number")
    add_list(parser, "--names", default=["a"], help="a list")
    add_flag(parser, "--keep", default=True, help="a boolean")
    parser.add_argument("--where", type=Path, help="a path")
    return parser


def test_settings_are_made_by_the_names_of_their_fields():
    settings = settings_from(make_parser().parse(["-r", "2", "--no-keep"]), Outer)
    assert settings == Outer(Inner(2.0, ["a"]), keep=False, where=None)
    with pytest.raises(FrozenInstanceError):
        settings.inner.rate = 3.0
    assert by_flag(settings) == {"rate": 2.0, "names": ["a"], "keep": False, "where": None}


def test_other_values_make_other_settings():
    settings = settings_from(make_parser().parse([]), Outer)
    other = changed(settings, rate=5.0, keep=False)
    assert (other.inner.rate, other.inner.names, other.keep) == (5.0, ["a"], False)
    assert (settings.inner.rate, settings.keep) == (1.0, True)
    with pytest.raises(TypeError, match="nothing"):
        changed(settings, nothing=1)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-r", "0.1"],
        ["-r", "1e-7"],
        ["-r", "123456789.25"],
        ["-r", "-3"],
        ["--names", "[]"],
        ["--names", "EEG Fpz-Cz", "it's"],
        ["--names=[-a,b]"],
        ["--no-keep"],
        ["--names", "-1"],
        ["--config", "c.json"],
    ],
)
def test_the_command_gives_the_settings_again(words, tmp_path, monkeypatch):
    (tmp_path / "c.json").write_text('{"rate": 7, "names": ["x", "y"], "keep": false}')
    monkeypatch.chdir(tmp_path)
    args = make_parser().parse(words)
    script, *again = shlex.split(command_of(make_parser(), args, leave_out=()))
    assert script == "script.py" and "--config" not in again
    assert settings_from(make_parser().parse(again), Outer) == settings_from(args, Outer)


def test_what_the_command_leaves_out():
    parser = make_parser()
    args = parser.parse(["--where", "/home/somebody/roles", "--keep", "False"])
    command = command_of(parser, args, leave_out=["names"])
    assert command == "script.py --rate 1 --keep False --where roles"


COMMANDS = {
    preprocess_sleepedf: [
        [], ["--keep_all"], ["--protocol", "cmt"], ["--protocol", "cmt", "--bandpass", "0.3", "35"],
        ["--channels", "EEG Fpz-Cz", "--resample", "64.5", "--dtype", "float16"],
        ["--preset", "equalised", "--version", "2013", "--study", "both", "--jobs", "3"],
    ],
    preprocess_dreem: [
        [], ["--version", "dodo", "--channels", "EEG", "EOG1-EOG2"], ["--preset", "dreem"],
        ["--bandpass", "0.3,35", "--resample", "64", "--allow_length_mismatch"],
        ["--scorers", "scorers", "--records", "3", "--raw_path", "elsewhere", "--download"],
    ],
    preprocess_nsrr: [
        [], ["--cohort", "MrOS", "--roles", "eeg,eog", "--required", "eeg", "--no-exclusions"],
        ["--cohort", "cfs", "--channel_map", "cfs.json", "--person", "cfs-visit.-(.+)"],
        ["--cohort", "cfs", "--channel_map", "cfs.json", "--person=-(.+)"],
        ["--annotation", "nsrr", "--max_mismatch", "0", "--unlabelled", "keep", "--keep_suspect",
         "--skip_faulty", "--folds", "kfold:4:0", "--dask", "tcp://a:1"],
    ],
    preprocess_ucddb: [
        [], ["--channels", "all", "--bandpass", "0.3", "35", "--resample", "100"],
    ],
}  # fmt: skip


def stored_command(script, flags):
    """As the script writes it into dataset.json."""
    if script is preprocess_sleepedf:
        return script.stored_command(flags)
    return command_of(script.make_parser(), flags, leave_out=script.NO_TRACE)


@pytest.mark.parametrize(
    ("script", "words"),
    [(script, words) for script, several in COMMANDS.items() for words in several],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value.__name__,
)
def test_the_command_of_a_store_gives_its_settings_again(script, words):
    flags = script.parse_args(words)
    name, *again = shlex.split(stored_command(script, flags))
    assert name == f"{script.__name__}.py"
    wanted, repeated = asdict(flags), asdict(script.parse_args(again))
    no_trace = set(script.NO_TRACE)
    assert no_trace < set(wanted)
    for flag in set(wanted) - no_trace:
        assert repeated[flag] == wanted[flag], flag
    assert not [word for word in again if word.startswith(tuple(f"--{n}" for n in no_trace))]


def test_the_commands_of_stores_are_worded_as_before():
    """They are part of what a store is known by, so runs on a store made again can be resumed."""
    usual = "--version 2018 --study cassette --protocol tinysleepnet --channels EEG EOG"
    assert stored_command(preprocess_sleepedf, preprocess_sleepedf.parse_args([])) == (
        f"preprocess_sleepedf.py {usual} --dtype float32"
    )
    assert stored_command(preprocess_nsrr, preprocess_nsrr.parse_args(["--roles", "EEG"])) == (
        "preprocess_nsrr.py --cohort shhs --roles EEG --required EEG --resample 125 --annotation "
        "both --max_mismatch 5 --unlabelled skip"
    )
    assert stored_command(preprocess_dreem, preprocess_dreem.parse_args([])) == (
        "preprocess_dreem.py --version dodh --channels EEG EOG --resample 100"
    )
    assert stored_command(preprocess_ucddb, preprocess_ucddb.parse_args(["--resample", "64"])) == (
        "preprocess_ucddb.py --channels EEG --resample 64"
    )


@pytest.mark.parametrize("script", [*COMMANDS, generate_demo_data], ids=lambda s: s.__name__)
def test_what_a_script_asked_for_stays_as_it_was(script):
    flags = script.parse_args([])
    with pytest.raises(FrozenInstanceError):
        flags.jobs = 1


@pytest.fixture
def parsers(monkeypatch) -> list[ScriptParser]:
    """Those that parse, in turn."""
    used, parse = [], ScriptParser.parse

    def kept(self, argv):
        used.append(self)
        return parse(self, argv)

    monkeypatch.setattr(ScriptParser, "parse", kept)
    return used


@pytest.mark.parametrize(
    "script",
    [cmt_training, staging_training, ssl_training, foundation_training],
    ids=lambda s: s.__name__,
)
def test_a_run_keeps_every_flag_that_decides_it(script, parsers):
    """All but a named few, under the flags' own names: runs begun before compare them to resume."""
    settings = script.parse_args([])
    every = {action.dest for action in parsers[0]._actions} - {"help"}
    assert set(recorded(settings)) == every - NOT_SETTINGS
    json.dumps(recorded(settings))
    assert "{}" not in parsers[0].format_help()
    with pytest.raises(FrozenInstanceError):
        settings.optimiser.lr = 1.0


@pytest.mark.parametrize(
    "script",
    [cmt_evaluate, staging_evaluate, ssl_evaluate, foundation_evaluate],
    ids=lambda s: s.__name__,
)
def test_an_evaluation_has_every_flag_and_changes_none(script, parsers):
    settings = script.parse_args(["--data_path", "elsewhere", "--device", "cpu"])
    values = by_flag(settings)
    assert set(values) == {a.dest for a in parsers[0]._actions} - {"help", "config"}
    assert (values["data_path"], values["device"]) == (Path("elsewhere"), "cpu")
    for part in [settings, *(p for p in vars(settings).values() if is_dataclass(p))]:
        with pytest.raises(FrozenInstanceError):
            setattr(part, next(iter(vars(part))), None)
