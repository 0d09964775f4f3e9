"""The rules of the house: who imports whom, quiet imports, no flag that nothing reads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("models", "objectives", "datasets", "interpret", "utils", "workflow")
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))
# what a room may import beside the standard library, at any depth
ALLOWED = {
    "models": {"torch", "einops", "torchvision", "numpy", "models", "utils.stages"},
    "objectives": {"torch", "torchvision", "einops", "objectives", "utils.stages"},
    "datasets": {
        "numpy", "scipy", "torch", "datasets", "utils.stages", "utils.signals", "utils.levelling",
        "utils.errors",
        "utils.files",
    },
    "interpret": {"numpy", "scipy", "torch", "captum", "interpret", "utils"},
    "utils": {"numpy", "scipy", "torch", "utils"},
    "workflow": {
        "numpy", "torch", "einops", "models", "objectives", "datasets", "interpret", "utils",
        "workflow",
    },
}  # fmt: skip
# libraries that one module alone may use, so that their quirks stay in one place
ONLY_IN = {
    "mne": {"datasets.sleepedf_download"},
    "edfio": {
        "datasets.synthetic.nsrr_files",
        "datasets.synthetic.sleepedf_files",
        "utils.exports",
    },
    "yasa": {"utils.sleep_statistics", "interpret.detected"},
    "lightning_fabric": {"utils.training", "utils.progress", "utils.flags", "utils.loggers"},
    "wandb": {"utils.loggers"},
    "neptune": {"utils.loggers"},
    "joblib": {"datasets.build", "workflow.reproducing"},
    "sklearn": {"utils.probing", "interpret.latent_report"},
    "optuna": {"workflow.search"},
    "umap": {"interpret.latent_report"},
    "filelock": {"utils.locks"},
    "dask": {"datasets.build"},
    "tqdm": {
        "datasets.build",
        "datasets.dreem_download",
        "datasets.sleepedf_download",
        "utils.training",
        "workflow.embedding",
        "workflow.foundation_evaluation",
        "workflow.evaluating",
    },
    "matplotlib": {
        "interpret.figures",
        "interpret.explanation_figures",
        "interpret.latent_figures",
        "interpret.role_figures",
    },
    "h5py": {"datasets.dreem", "datasets.synthetic.dreem_files"},
    "jinja2": {"interpret.page", "interpret.latent_page"},
    "markupsafe": {"interpret.page"},
}
# heavy or optional: imported inside the function that needs them
LATE = {
    "mne", "captum", "h5py", "yasa", "umap", "optuna", "dask", "matplotlib", "edfio", "wandb",
    "neptune",
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_files() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imports(tree: ast.AST) -> list[str]:
    """Dotted names of everything a module imports; ``from a import b`` counts as ``a.b``."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def permitted(name: str, module: str) -> bool:
    top = name.split(".")[0]
    if top in sys.stdlib_module_names or module in ONLY_IN.get(top, ()):
        return True
    allowed = ALLOWED[module.split(".")[0]]
    return any(name == a or name.startswith(a + ".") for a in allowed)


@pytest.mark.parametrize("path", room_files(), ids=module_name)
def test_who_imports_whom(path):
    tree = ast.parse(path.read_text())
    module = module_name(path)
    for name in imports(tree):
        assert name.split(".")[0] not in SCRIPTS, f"{module} imports the script {name}"
        assert permitted(name, module), f"{module} may not import {name}"


def test_the_rules_would_catch_a_breach():
    assert not permitted("datasets.store", "interpret.figures")
    assert not permitted("matplotlib.pyplot", "datasets.store")
    assert not permitted("interpret.figures", "utils.files")
    assert not permitted("utils.arguments", "datasets.store")
    assert permitted("utils.stages.STAGES", "models.base")
    assert imports(ast.parse("from utils.stages import STAGES, UNSCORED")) == [
        "utils.stages.STAGES", "utils.stages.UNSCORED"
    ]  # fmt: skip


def at_import_time(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run on import: not functions, nor what only type checkers read."""
    return [
        node
        for node in tree.body
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]


@pytest.mark.parametrize("path", [*room_files(), *ROOT.glob("*.py")], ids=module_name)
def test_heavy_libraries_are_imported_late(path):
    for node in at_import_time(ast.parse(path.read_text())):
        tops = {name.split(".")[0] for name in imports(node)}
        assert not tops & LATE, f"{module_name(path)} imports {tops & LATE} on import"


@pytest.fixture(scope="module")
def quiet_import():
    """Import every module in one fresh interpreter with warnings on."""
    names = [*(module_name(path) for path in room_files()), *SCRIPTS]
    lines = "; ".join(f"import {name}" for name in names)
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", lines],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_importing_prints_nothing_and_warns_nothing(quiet_import):
    assert quiet_import.returncode == 0, quiet_import.stderr
    assert quiet_import.stdout == ""
    assert quiet_import.stderr == ""


SHARED_FLAGS = (
    "interpret.command", "workflow.benchmark", "workflow.evaluating", "workflow.foundation",
    "workflow.foundation_evaluation", "workflow.frozen",
    "workflow.ssl", "workflow.training", "workflow.zoo",
)  # fmt: skip
FLAG_ADDERS = {"add_argument", "add_flag", "add_list"}


def flags_of(tree: ast.AST) -> set[str]:
    """Names of the flags a script defines, as attributes of the parsed arguments."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        if name in FLAG_ADDERS:
            words = [a.value for a in node.args if isinstance(a, ast.Constant)]
            # the first spelling names the attribute, the others are aliases
            dest = [k.value.value for k in node.keywords if k.arg == "dest"]
            named = {w.removeprefix("--") for w in words[:1] if str(w).startswith("--")}
            found |= set(dest) or named
    return found


def read_attributes(tree: ast.AST) -> set[str]:
    """Attributes read from ``args``."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "args"
        and isinstance(node.ctx, ast.Load)
    }


def shared_groups(tree: ast.AST) -> list[ast.FunctionDef]:
    """Functions of ``utils/flags.py`` that a script calls, and whole modules of shared flags."""
    used = [m for m in SHARED_FLAGS if any(name.startswith(m) for name in imports(tree))]
    modules = [ast.parse((ROOT / f"{m.replace('.', '/')}.py").read_text()) for m in used]
    called = {
        node.attr
        for part in (tree, *modules)
        for node in ast.walk(part)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "flags"
    }
    shared = ast.parse((ROOT / "utils" / "flags.py").read_text()).body
    return modules + [n for n in shared if isinstance(n, ast.FunctionDef) and n.name in called]


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_flag_that_nothing_reads(script):
    tree = ast.parse((ROOT / f"{script}.py").read_text())
    trees = [tree, *shared_groups(tree)]
    flags = set().union(*map(flags_of, trees))
    assert flags, "a script without flags?"
    assert not flags - set().union(*map(read_attributes, trees)), f"{script}.py never reads them"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_keep_the_same_shape(script):
    source = (ROOT / f"{script}.py").read_text()
    names = [n.name for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
    assert {"parse_args", "main"} <= set(names)
    assert source.endswith('if __name__ == "__main__":\n    raise SystemExit(run_script(main))\n')
    assert "def main(argv: list[str] | None = None) -> None:" in source


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_recordings_and_no_large_files_are_tracked():
    for path in tracked():
        if path.exists():
            assert path.suffix not in (".edf", ".bdf", ".h5", ".npy", ".npz")
            assert path.stat().st_size < 1_000_000, path


def test_dependencies_are_pinned():
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line and not line.startswith(("#", "-r")):
                assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line), line


@pytest.mark.parametrize("path", [*room_files(), *ROOT.glob("*.py")], ids=module_name)
def test_public_things_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module says what it is for"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module_name(path)}.{node.name}"


# calls that write, rename or remove; only utils/files.py and what serves it may use them freely
WRITING = {
    "write_text", "write_bytes", "unlink", "rename", "rmdir", "rmtree", "touch", "symlink_to",
    "hardlink_to", "savez", "savez_compressed", "savefig", "tofile", "to_csv", "to_json",
    "to_parquet", "copyfile", "copytree", "copy2", "copyfileobj", "move", "remove", "truncate",
    "removedirs", "open_memmap", "imsave",
}  # fmt: skip
OF_LISTS = {"remove", "copy"}  # also methods of lists, sets and hooks: counted on os and shutil
WRITERS = {"utils.files", "utils.manifest", "utils.locks"}
GUARDS = {"written_whole", "written_folder", "claim", "TemporaryDirectory", "BytesIO"}
# who else does, and why nothing can be lost by it
UNGUARDED = {
    "datasets.remote_zip": "appends to a .part it has claimed; _unpack writes a temporary",
    "interpret.figures": "imsave into memory",
    "benchmarks.reading": "into a TemporaryDirectory of its main",
    "benchmarks.preparing": "into a TemporaryDirectory of its main",
}


def is_writing(call: ast.Call) -> bool:
    """Whether a call may change what is on the disk."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    owner = getattr(getattr(call.func, "value", None), "id", "")
    if name == "open":
        modes = [a.value for a in (*call.args, *(k.value for k in call.keywords if k.arg == "mode"))
                 if isinstance(a, ast.Constant) and isinstance(a.value, str)]  # fmt: skip
        return any(set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes)
    if name == "save":
        return owner in ("np", "torch", "numpy")
    if name == "replace":  # text is replaced by two arguments, a path by one
        return isinstance(call.func, ast.Attribute) and len(call.args) == 1 and not call.keywords
    if name == "write_text":  # of a path; the function of utils.files is the guarded one
        return isinstance(call.func, ast.Attribute) and owner != "files"
    if name in OF_LISTS:
        return owner in ("os", "shutil")
    return name in WRITING


def unguarded_writes(tree: ast.AST) -> list[int]:
    """Lines of writing calls outside a block that gives them a temporary path."""
    guarded = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and any(
            getattr(c.func, "id", getattr(c.func, "attr", "")) in GUARDS
            for item in node.items for c in ast.walk(item.context_expr) if isinstance(c, ast.Call)
        ):  # fmt: skip
            guarded |= {id(inner) for inner in ast.walk(node)}
    return [
        node.lineno for node in ast.walk(tree)
        if isinstance(node, ast.Call) and is_writing(node) and id(node) not in guarded
    ]  # fmt: skip


def own_files() -> list[Path]:
    return [*room_files(), *ROOT.glob("*.py"), *sorted((ROOT / "benchmarks").glob("*.py"))]


@pytest.mark.parametrize("path", own_files(), ids=module_name)
def test_one_place_writes(path):
    module, lines = module_name(path), unguarded_writes(ast.parse(path.read_text()))
    if module in WRITERS:
        return
    assert bool(lines) == (module in UNGUARDED), f"{module}: writes by itself in lines {lines}"


def test_the_rule_of_one_writer_would_catch_a_breach():
    for line in ("p.write_text('x')", "p.open('w')", "open(p, mode='ab')", "np.save(p, x)",
                 "p.replace(q)", "os.remove(p)", "shutil.rmtree(p)", "p.unlink()"):  # fmt: skip
        assert unguarded_writes(ast.parse(line)) == [1], line
    for line in ("a.replace('x', 'y')", "replace(a, b=1)", "p.open('rb')", "todo.remove(3)",
                 "with written_whole(p) as t: t.write_bytes(b'')"):  # fmt: skip
        assert unguarded_writes(ast.parse(line)) == [], line
