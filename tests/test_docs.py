"""README and docs: short, linked, drawn from the code, and every command of theirs runs."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from docs import draw_diagrams
from evaluation.stagers import catalogue

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# in the order in which their commands build on each other
RUN = ("README.md", *(f"docs/{name}.md" for name in (
    "staging", "models", "explanations", "pretraining", "foundation", "store", "tables",
)))  # fmt: skip
BLOCK = re.compile(r"(?:<!-- needs: (?P<needs>[^>]*) -->\n)?```bash\n(?P<lines>.*?)```", re.S)
# what comes beside scripts in the docs: cloning, and targets that CI runs
OTHER_COMMANDS = {"git", "make", "dask", "podman"}
LAUNCHERS = {"torchrun", "sbatch"}  # which are followed by a script and its flags
TRAINING = "--n_epochs 1 --logger csv --accelerator cpu"
# the docs' commands on two cores within minutes: added where a command lacks the flag
SHORTER = {
    "cmt_training.py": TRAINING,
    "cmt_evaluate.py": "--n_random 2 --n_untrained 1 --interpret_select per_stage:1",
    "staging_training.py": TRAINING,
    "staging_evaluate.py": "--n_random 2 --n_untrained 1 --interpret_select per_stage:1",
    "ssl_training.py": TRAINING,
    "ssl_evaluate.py": "--seeds 0 --fractions 1 --tuning_steps 2",
    "latent_space_evaluator.py": "--parts 3 --maps False",
    "foundation_training.py": TRAINING,
    "foundation_evaluate.py": "--seeds 0",
    "generate_demo_data.py": "--subjects 5 --nights 1 --hours 0.7",
    "reproduce_tables.py": "--flags '--n_epochs 1 --logger csv'",
    "tune.py": "--n_trials 1",
    "bands_training.py": TRAINING,
}


def blocks(page: Path) -> list[tuple[str | None, list[list[str]]]]:
    """What each block of commands needs, if anything, and its commands as words."""
    parsed = []
    for block in BLOCK.finditer(page.read_text()):
        commands = [
            shlex.split(part, comments=True)
            for line in block["lines"].splitlines()
            for part in line.split("&&")
        ]
        parsed.append((block["needs"], [words for words in commands if words]))
    return parsed


def scripts_of(page: Path, *, runnable: bool) -> list[list[str]]:
    """Commands of our scripts as words from the script's name on."""
    return [
        words[1:] if words[0].endswith("python") else launched(words)
        for needs, commands in blocks(page)
        if needs is None or not runnable
        for words in commands
        if words[0].endswith("python") or words[0] in LAUNCHERS
    ]


def launched(words: list[str]) -> list[str]:
    """What a launcher starts: one of our scripts, with its flags."""
    first = next(k for k, word in enumerate(words) if word.endswith(".py"))
    assert all((ROOT / word).exists() for word in words[:first] if word.endswith(".sh"))
    return words[first:]


def test_the_readme_fits_and_begins_with_what_one_wants_to_know():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 180
    first = "\n".join(lines[:25])
    for wanted in ("sleep researchers", "predict.py --edf", ".jpg)", "n = 1"):
        assert wanted in first


def test_every_block_is_of_known_commands():
    for page in PAGES:
        for _, commands in blocks(page):
            for words in commands:
                known = words[0] in OTHER_COMMANDS | LAUNCHERS | {"cd"}
                known = known or words[0].endswith("python")
                assert known, f"{page.name}: {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_accepted_by_its_script(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for script, *flags in scripts_of(page, runnable=False):
        if script == "-m" or script.startswith("docs/"):
            assert (ROOT / (f"{flags[0].replace('.', '/')}.py" if flags else script)).exists()
            continue
        importlib.import_module(script.removesuffix(".py")).parse_args(flags)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{page.name}: {target}"


def test_symptoms_are_what_the_code_prints():
    """The quoted beginnings of troubleshooting's table are in the source, between their gaps."""
    source = "\n".join(
        path.read_text() for path in [*ROOT.rglob("*.py"), ROOT / "Makefile"]
        if ".venv" not in path.parts and "tests" not in path.parts
    )  # fmt: skip
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # literals that continue in the next line
    rows = (ROOT / "docs" / "troubleshooting.md").read_text().splitlines()
    for row in (row for row in rows if row.startswith("| `")):
        for quoted in re.findall(r"`([^`]+)`", row.split(" | ")[0]):
            for part in quoted.split("…"):
                assert part.strip() in source, f"nothing prints {part.strip()!r}"


def test_the_table_of_stagers_is_the_catalogue():
    text = (ROOT / "docs" / "staging.md").read_text()
    table = text.partition("| name | reads |")[2].partition("\n\n")[0]
    licences = {}
    for row in table.splitlines()[2:]:
        names, *_, licence = row.strip("| ").split(" | ")
        first, *others = re.findall(r"`([^`]+)`", names)
        for name in (first, *others):
            # "-mros" beside a longer name stands for that name with another ending
            whole = first.rpartition("-")[0] + name if name.startswith("-") else name
            licences[whole] = licence.partition(";")[0]
    assert licences == {one.name: one.licence for one in catalogue.listed()}


def test_diagrams_are_drawn_from_the_code_as_it_is():
    for name, drawing in draw_diagrams.drawings().items():
        committed = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert drawing == committed, "run python docs/draw_diagrams.py"


def test_what_is_handed_on_is_known_at_both_ends():
    for start, end, handed in draw_diagrams.HANDED_ON:
        home, _, kind = handed.rpartition(".")
        assert hasattr(importlib.import_module(home), kind)
        for module in (start, end):
            path = ROOT / module.replace(".", "/")
            files = path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]
            known = {name for file in files for name in draw_diagrams.imported(file)}
            assert module == home or handed in known, f"{module} does not know {handed}"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A folder with the demo's store and its cross-modal transformer, small."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "configs").symlink_to(ROOT / "configs")
    for command in (
        "generate_demo_data.py --subjects 10 --nights 1 --hours 0.7",
        "preprocess_sleepedf.py",
        "cmt_training.py --model_type Seq",
    ):
        run(folder, shlex.split(command))
    return folder


def run(folder: Path, words: list[str]) -> str:
    """What one command printed in ``folder``, made shorter where it leaves room for that."""
    script, *flags = words
    shorter = shlex.split(SHORTER.get(script, ""))
    for flag, value in zip(shorter[::2], shorter[1::2], strict=True):
        if flag not in flags:
            flags += [flag, value]
    place = [ROOT / script] if script.endswith(".py") else [script]
    done = subprocess.run(
        [sys.executable, *place, *flags], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_the_commands_run_as_they_stand(name, workspace):
    commands = scripts_of(ROOT / name, runnable=True)
    assert commands, f"{name} has no command that runs without data"
    printed = "".join(
        run(workspace, words) for words in commands if not words[0].startswith(("-m", "docs/"))
    )
    # what a script proposes to run next runs, too
    for proposed in sorted(set(re.findall(r"^next: python (.*)$", printed, re.M))):
        run(workspace, shlex.split(proposed))


@pytest.mark.slow
def test_the_stores_example_runs(workspace, monkeypatch):
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "store.md").read_text(), re.S)[1]
    monkeypatch.chdir(workspace)
    exec(code, {})
