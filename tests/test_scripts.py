"""Every script as a user runs it: help, no flags, wrong flags, broken files, pictures."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.edf_files import write_pair
from utils.errors import run_script

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))


def run(script: str, *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / script), *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def one_line(result: subprocess.CompletedProcess) -> str:
    """The error line of a refused command: exit code 2, no traceback, nothing else but progress."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_explains_every_flag(script, capsys):
    with pytest.raises(SystemExit) as end:
        importlib.import_module(Path(script).stem).main(["--help"])
    assert end.value.code == 0
    assert "default:" in capsys.readouterr().out


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_wrong_flag_is_one_line(script, capsys):
    main = importlib.import_module(Path(script).stem).main
    assert run_script(partial(main, ["--no_such_flag"])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "--help" in line


def test_demo_data_to_store_without_any_flag(tmp_path):
    # as in make demo, but short
    generate = run("generate_demo_data.py", "--subjects", "5", "--hours", "0.5", cwd=tmp_path)
    assert generate.returncode == 0, generate.stderr
    assert "next: python preprocess_sleepedf.py" in generate.stdout
    prepare = run("preprocess_sleepedf.py", cwd=tmp_path)
    assert prepare.returncode == 0, prepare.stderr
    store = tmp_path / "data/demo/store"
    assert f"store: {store.relative_to(tmp_path)}" in prepare.stdout
    assert "9 nights of 5 subjects" in prepare.stdout
    assert (store / "folds" / "kfold-5-0.json").is_file()
    picture = store / "figures" / "SC4001E0.png"
    assert picture.read_bytes()[:4] == b"\x89PNG"
    manifest = json.loads((tmp_path / "data/demo/sleepedf/manifest.json").read_text())
    assert 0.7 < manifest["latent_agreement"] <= 1
    assert "synthetic" in manifest["note"]


def test_without_data_it_prints_the_one_command(tmp_path):
    line = one_line(run("preprocess_sleepedf.py", cwd=tmp_path))
    assert "generate_demo_data.py" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bandpass", "0.3"], "two frequencies"),
        (["--resample", "0"], "above 0"),
        (["--resample", "inf"], "invalid float value"),
        (["--figures", "-1"], "--figures"),
        (["--jobs", "0"], "--jobs"),
        (["--channels", "ECG"], "no channel 'ECG'; it has: EEG Fpz-Cz"),
        (["--folds", "tiny20"], "lacks 19 of their subjects"),
        (["--folds", "nothing"], "unknown folds"),
        (["--bandpass", "0.3,60"], "band-pass 0.3-60 Hz"),
        (["--verify"], "SHA256SUMS.txt"),
        (["--download", "--raw_path", "data/demo/sleepedf"], "--raw_path of its own"),
        (["--study", "telemetry"], "no recording is called ST7*; there are SC4001E0: ask for"),
        (["--dask", "moon://here"], "--dask"),
    ],
)
def test_wrong_settings_are_one_line_and_leave_nothing(tmp_path, words, message):
    write_pair(tmp_path / "raw", [("W", 3), ("2", 4)], 7)
    paths = ["--raw_path", str(tmp_path / "raw"), "--save_path", str(tmp_path / "s")]
    assert message in one_line(run("preprocess_sleepedf.py", *paths, *words))
    assert not list(tmp_path.rglob("*.npy"))
    assert not (tmp_path / "s" / "dataset.json").exists()


def test_a_broken_file_is_one_line(tmp_path):
    write_pair(tmp_path, [("W", 3), ("2", 4)], 7)
    psg = tmp_path / "SC4001E0-PSG.edf"
    psg.write_bytes(psg.read_bytes()[:-1])
    paths = ["--raw_path", str(tmp_path), "--save_path", str(tmp_path / "s")]
    line = one_line(run("preprocess_sleepedf.py", *paths, "--jobs", "2"))
    assert "SC4001E0-PSG.edf: is truncated" in line


def test_verify_compares_with_the_published_list(tmp_path):
    import hashlib

    write_pair(tmp_path, [("W", 3), ("2", 4)], 7)
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()} sleep-cassette/{p.name}"
        for p in tmp_path.glob("*.edf")
    ]
    (tmp_path / "SHA256SUMS.txt").write_text("\n".join(lines) + "\n")
    words = ["--raw_path", str(tmp_path), "--save_path", str(tmp_path / "s"), "--verify"]
    assert run("preprocess_sleepedf.py", *words).returncode == 0
    (tmp_path / "SHA256SUMS.txt").write_text("\n".join(lines).replace("a", "b"))
    assert "differs from its checksum" in one_line(run("preprocess_sleepedf.py", *words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--subjects", "0"], "--subjects"),
        (["--hours", "0.01"], "--hours"),
        (["--omit", "unicorn"], "unicorn"),
        (["--seed", "-1"], "--seed"),
        (["--jobs", "0"], "--jobs"),
    ],
)
def test_demo_generator_refuses_in_one_line(tmp_path, words, message):
    assert message in one_line(run("generate_demo_data.py", *words, cwd=tmp_path))
    assert not list(tmp_path.iterdir())


def test_demo_generator_does_not_mix_cohorts(tmp_path):
    write_pair(tmp_path / "x", [("W", 3)], 3, name="SC4771G0")
    line = one_line(
        run("generate_demo_data.py", "--profile", "tiny", "--output", str(tmp_path / "x"))
    )
    assert "SC4771G" in line


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_has_each_default_once_and_no_path_of_this_machine(script, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module(Path(script).stem).main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for flag in text.split(" --")[1:]:
        assert flag.count("(default") <= 1, flag
    assert str(ROOT) not in text
