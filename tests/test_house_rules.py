"""The rules of the house: who imports whom, quiet imports, no flag that nothing reads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    "utils", "models", "objectives", "datasets", "interpret", "probing", "training", "evaluation",
    "experiments",
)  # fmt: skip
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))
# rooms from the bottom up; imports run downwards only, those of one floor do not see each other
FLOORS = (
    {"utils"}, {"models", "objectives", "datasets"}, {"interpret", "probing"}, {"training"},
    {"evaluation"}, {"experiments"},
)  # fmt: skip
# these are handed models, arrays and views, so they know neither stores nor architectures
HANDED = {"interpret", "probing"}
# what a room may import beside the standard library and the rooms below it
ALLOWED = {
    "utils": {"numpy", "scipy", "torch"},
    "models": {"torch", "einops", "torchvision", "numpy"},
    "objectives": {"torch", "torchvision", "einops", "numpy"},
    "datasets": {"numpy", "scipy", "torch"},
    "interpret": {"numpy", "scipy", "torch", "captum"},
    "probing": {"numpy", "scipy", "torch"},
    "training": {"numpy", "torch", "einops"},
    "evaluation": {"numpy", "scipy", "torch"},
    "experiments": {"numpy", "torch"},
}
# of utils, models and objectives use the stages and sums over processes alone
LEAST_ONLY, LEAST = {"models", "objectives"}, ("utils.stages", "utils.collectives")
# libraries that one module alone may use, so that their quirks stay in one place
ONLY_IN = {
    "mne": {
        "datasets.readers.partial_night",
        "datasets.readers.signal_files",
        "evaluation.stagers.gssc_stager",
        "evaluation.stagers.yasa_stager",
        "evaluation.stagers.yasa_trees",
        "utils.staged_night",
    },
    "gssc": {"evaluation.stagers.gssc_stager"},
    "edfio": {
        "datasets.synthetic.nsrr_files",
        "datasets.synthetic.sleepedf_files",
        "evaluation.exports.edf_export",
    },
    "yasa": {
        "evaluation.agreement_report", "evaluation.sleep_statistics", "interpret.detected",
        "evaluation.stagers.yasa_trees", "utils.staged_night",
    },
    "pandas": {"evaluation.agreement_report", "utils.staged_night"},
    "lightning_fabric": {
        "training.loop", "training.resume", "training.fabric", "training.loggers",
        "training.precision", "training.sharding",
    },
    "wandb": {"training.loggers"},
    "neptune": {"training.loggers"},
    "joblib": {
        "datasets.store.build", "evaluation.stagers.yasa_trees",
    },
    "sklearn": {
        "interpret.concept_directions", "interpret.neighbours", "interpret.prototypes",
        "probing.probes", "probing.latent_report", "probing.latent_maps",
        "evaluation.stagers.yasa_trees",
    },
    "optuna": {"experiments.search", "experiments.search_report"},
    "submitit": {"experiments.cells"},
    "umap": {"probing.latent_maps"},
    "filelock": {"utils.locks"},
    "safetensors": {"evaluation.stagers.portable_encoder"},
    "dask": {"datasets.store.build"},
    "tqdm": {
        "datasets.store.build",
        "datasets.readers.profiles.cohort_download",
        "datasets.readers.cohort_listing",
        "training.loop",
        "probing.embeddings",
        "evaluation.foundation_evaluation",
        "evaluation.stage",
    },
    "matplotlib": {
        "utils.figure_style",
        "utils.figures",
        "evaluation.agreement_figures",
        "evaluation.context_figures",
        "experiments.study_figures",
        "interpret.concept_figures",
        "interpret.counterfactual_figures",
        "interpret.explanation_figures",
        "interpret.prototype_figures",
        "interpret.role_figures",
        "interpret.report_figures",
        "interpret.spectrogram_figures",
        "probing.latent_figures",
    },
    "h5py": {"datasets.readers.hdf5_file", "datasets.synthetic.dreem_files"},
    "wfdb": {"datasets.readers.wfdb_file"},
    "jinja2": {"evaluation.night_page", "probing.latent_page"},
    "markupsafe": {"evaluation.night_page"},
}  # fmt: skip
# heavy or optional: imported inside the function that needs them
LATE = {
    "mne",
    "gssc",
    "captum",
    "h5py",
    "wfdb",
    "yasa",
    "pandas",
    "umap",
    "optuna",
    "submitit",
    "dask",
    "matplotlib",
    "edfio",
    "wandb",
    "neptune",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_files() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imports(tree: ast.AST) -> list[str]:
    """Dotted names of everything a module imports; ``from a import b`` counts as ``a.b``."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def permitted(name: str, module: str) -> bool:
    top = name.split(".")[0]
    if top in sys.stdlib_module_names or module in ONLY_IN.get(top, ()):
        return True
    room = module.split(".")[0]
    if top not in ROOMS:
        return top in ALLOWED[room]
    if room in LEAST_ONLY and top == "utils":
        return name.startswith(LEAST)
    if room in HANDED and top in ("datasets", "models", "objectives"):
        return False
    return top == room or floor(top) < floor(room)


def floor(room: str) -> int:
    """How far up a room lies."""
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("path", room_files(), ids=module_name)
def test_who_imports_whom(path):
    tree = ast.parse(path.read_text())
    module = module_name(path)
    for name in imports(tree):
        assert name.split(".")[0] not in SCRIPTS, f"{module} imports the script {name}"
        assert permitted(name, module), f"{module} may not import {name}"


def test_the_rules_would_catch_a_breach():
    assert not permitted("datasets.store.store", "utils.figures")
    assert not permitted("matplotlib.pyplot", "datasets.store.store")
    assert not permitted("interpret.bands", "utils.files")
    assert not permitted("models.base", "interpret.target")
    assert not permitted("models.base", "datasets.store.views")
    assert not permitted("evaluation.score", "training.loop")
    assert not permitted("utils.files", "models.base")
    assert permitted("training.loop", "evaluation.score")
    assert permitted("utils.stages.STAGES", "models.base")
    assert imports(ast.parse("from utils.stages import STAGES, UNSCORED")) == [
        "utils.stages.STAGES",
        "utils.stages.UNSCORED",
    ]


def own_imports(path: Path) -> set[str]:
    """Modules of ours that a module imports."""
    known, own = {module_name(p) for p in room_files()}, set()
    for name in imports(ast.parse(path.read_text())):
        while name and name not in known:
            name = name.rpartition(".")[0]
        own |= {name} - {"", module_name(path)}
    return own


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Nodes that lead back to the first of them, if there are any."""
    done: set[str] = set()

    def walk(node: str, above: list[str]) -> list[str]:
        if node in above:
            return [*above[above.index(node) :], node]
        if node not in done:
            for inner in sorted(graph.get(node, ())):
                if nodes := walk(inner, [*above, node]):
                    return nodes
            done.add(node)
        return []

    return next((nodes for node in sorted(graph) if (nodes := walk(node, []))), [])


def test_imports_form_no_circle():
    files = {module_name(path): own_imports(path) for path in room_files()}
    homes = {module_name(path): path.parent.relative_to(ROOT).as_posix() for path in room_files()}
    folders: dict[str, set[str]] = {}
    for module, used in files.items():
        folders.setdefault(homes[module], set()).update(
            homes[name] for name in used if homes[name] != homes[module]
        )
    assert circle(files) == []
    assert circle(folders) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_no_two_modules_share_a_name():
    names = [path.stem for path in [*room_files(), *ROOT.glob("*.py")] if path.stem != "__init__"]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_folders_describe_what_belongs_in_them_in_one_sentence():
    for path in room_files():
        if path.stem == "__init__":
            text = ast.get_docstring(ast.parse(path.read_text()))
            assert text.endswith(".") and "\n" not in text and text.count(". ") == 0, path


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
    "evaluation.band_evaluation", "evaluation.concept_evaluation", "evaluation.evaluate_run",
    "evaluation.foundation_evaluation",
    "interpret.explained_run", "interpret.explanation_flags",
    "evaluation.probe_pretrained", "training.bands_family", "training.fabric",
    "training.foundation_arguments", "training.foundation_family", "training.foundation_flags",
    "training.frozen_encoder", "training.optimisers", "training.pretraining_nights",
    "training.ssl_family", "training.ssl_flags", "training.staging_family", "training.train",
)  # fmt: skip
FLAG_ADDERS = {"add_argument", "add_flag", "add_list"}


def flags_of(tree: ast.AST) -> set[str]:
    """Names of the flags a script defines, as attributes of the parsed arguments."""
    flags = set()
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
            flags |= set(dest) or named
    return flags


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


class Settings:
    """The dataclasses that ``settings_from`` makes in some trees, and which fields are read.

    Kinds follow annotations of parameters, fields and returned values, and assignments of names.
    """

    def __init__(self, trees: list[ast.AST]) -> None:
        nodes = [node for tree in trees for node in ast.walk(tree)]
        flag_groups = [node.name for node in nodes if isinstance(node, ast.ClassDef)]
        flag_groups = [name for name in flag_groups if name.endswith("Flags")]
        assert len(flag_groups) == len(set(flag_groups)), "two groups of flags share a name"
        self.classes = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
        self.returned = {
            node.name: last_name(node.returns)
            for node in nodes
            if isinstance(node, ast.FunctionDef) and node.returns is not None
        }
        self.bounds = {
            node.targets[0].id: last_name(keyword.value)
            for node in nodes
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
            for keyword in node.value.keywords
            if keyword.arg == "bound"
        }
        self.read: set[str] = set()
        for tree in trees:
            self._visit(tree, {})

    def fields(self, kind: str) -> dict[str, str]:
        """Fields of a class and of what it extends, and their kinds."""
        kind = self.bounds.get(kind, kind)
        if kind not in self.classes:
            return {}
        node, fields = self.classes[kind], {}
        for base in node.bases:
            fields |= self.fields(last_name(base))
        own = [line for line in node.body if isinstance(line, ast.AnnAssign)]
        return fields | {line.target.id: last_name(line.annotation) for line in own}

    def kind_of(self, node: ast.AST, kinds: dict[str, str]) -> str:
        """The class of an expression, as far as annotations say; else nothing."""
        if isinstance(node, ast.Name):
            return kinds.get(node.id, "")
        if isinstance(node, ast.Attribute):
            return self.fields(self.kind_of(node.value, kinds)).get(node.attr, "")
        if not isinstance(node, ast.Call):
            return ""
        name = last_name(node.func)
        if name in ("replace", "changed"):
            return self.kind_of(node.args[0], kinds)
        return last_name(node.args[1]) if name == "settings_from" else self.returned.get(name, "")

    def _visit(self, tree: ast.AST, kinds: dict[str, str]) -> None:
        if isinstance(tree, ast.FunctionDef):
            given = [*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs]
            kinds = kinds | {a.arg: last_name(a.annotation) for a in given}
        inside, functions = [], []
        waiting = list(ast.iter_child_nodes(tree))
        while waiting:
            node = waiting.pop(0)
            is_function = isinstance(node, ast.FunctionDef)
            (functions if is_function else inside).append(node)
            waiting += [] if is_function else ast.iter_child_nodes(node)
        for node in inside:
            for target, value in assigned(node):
                kinds = kinds | {last_name(target): self.kind_of(value, kinds)}
        self.read |= {
            node.attr
            for node in inside
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Load)
            and node.attr in self.fields(self.kind_of(node.value, kinds))
        }
        for function in functions:
            self._visit(function, kinds)


def assigned(node: ast.AST) -> list[tuple[ast.AST, ast.AST]]:
    """Names and their new values, those of ``a, b = c, d`` one by one."""
    if not isinstance(node, ast.Assign):
        return []
    target, value = node.targets[0], node.value
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)] if isinstance(target, ast.Name) else []


def last_name(node: ast.AST | None) -> str:
    """``DataFlags`` of ``flags.DataFlags``; nothing for what is no name."""
    return getattr(node, "attr", getattr(node, "id", ""))


def unread(trees: list[ast.AST], classes: list[ast.AST]) -> set[str]:
    """Flags that ``trees`` define and that nothing in them reads from ``args`` or from settings."""
    read = Settings([*trees, *classes]).read.union(*map(read_attributes, trees))
    return set().union(*map(flags_of, trees)) - read


def modules_of_flags(tree: ast.AST) -> list[ast.Module]:
    """Modules of shared flags that a script imports, and those that these import in turn."""
    modules, waiting = {}, [tree]
    while waiting:
        names = imports(waiting.pop())
        for name in {m for m in SHARED_FLAGS if any(n.startswith(m) for n in names)} - set(modules):
            modules[name] = ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text())
            waiting.append(modules[name])
    return list(modules.values())


def shared_groups(tree: ast.AST) -> list[ast.FunctionDef]:
    """Functions of ``training/flags.py`` that a script calls, and whole modules of shared flags."""
    modules = modules_of_flags(tree)
    called = {
        node.attr
        for part in (tree, *modules)
        for node in ast.walk(part)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "flags"
    }
    shared = ast.parse((ROOT / "training" / "flags.py").read_text()).body
    return modules + [n for n in shared if isinstance(n, ast.FunctionDef) and n.name in called]


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_flag_that_nothing_reads(script):
    tree = ast.parse((ROOT / f"{script}.py").read_text())
    trees = [tree, *shared_groups(tree)]
    assert set().union(*map(flags_of, trees)), "a script without flags?"
    shared = ast.parse((ROOT / "training" / "flags.py").read_text()).body
    classes = [node for node in shared if not isinstance(node, ast.FunctionDef)]
    assert not unread(trees, classes), f"{script}.py never reads them"


def test_a_flag_that_nothing_reads_would_be_caught():
    """Neither the settings' own field nor another object's attribute of that name reads it."""
    source = """
class Inner:
    a: int
    b: int

class Outer:
    inner: Inner
    c: int
    d: int

def parse_args(argv) -> Outer:
    group.add_argument("--a")
    group.add_argument("--b")
    add_flag(group, "--c")
    add_list(group, "--d")
    return settings_from(parser.parse(argv), Outer)

def main(argv):
    settings, other = parse_args(argv), something()
    print(settings.c, other.b, settings.b, settings.inner.c)

    def within(inner: Inner):
        print(inner.a)
"""
    assert unread([ast.parse(source)], []) == {"b", "d"}
    read = source.replace("settings.c,", "changed(settings, c=1).d, settings.c, settings.inner.b,")
    assert unread([ast.parse(read)], []) == set()


def takes_arguments(tree: ast.AST) -> list[int]:
    """Lines that import argparse, name a parameter ``args`` or read it as a dictionary."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            named = "argparse" in names or getattr(node, "module", "") == "argparse"
        elif isinstance(node, ast.arguments):
            named = any(a.arg == "args" for a in (*node.posonlyargs, *node.args, *node.kwonlyargs))
            node = (*node.posonlyargs, *node.args, *node.kwonlyargs, None)[0]  # has the line
        else:
            called = isinstance(node, ast.Call) and getattr(node.func, "id", "")
            named = called in ("vars", "getattr", "setattr") and bool(
                node.args and getattr(node.args[0], "id", "") == "args"
            )
        if named:
            lines.append(node.lineno)
    return sorted(lines)


def changes_arguments(tree: ast.AST) -> list[int]:
    """Lines that give an attribute of ``args`` another value."""
    return sorted(
        node.lineno
        for node in ast.walk(tree)
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, (ast.Store, ast.Del))
            and getattr(node.value, "id", "") == "args"
        )
        or (
            isinstance(node, ast.Call)
            and getattr(node.func, "id", "") == "setattr"
            and getattr(node.args[0], "id", "") == "args"
        )
    )


def test_parsed_arguments_stay_in_scripts():
    taking = {
        module_name(path) for path in room_files() if takes_arguments(ast.parse(path.read_text()))
    }
    assert taking == {"utils.arguments"}


def test_nothing_changes_parsed_arguments():
    changing = {
        module_name(path)
        for path in [*room_files(), *ROOT.glob("*.py")]
        if changes_arguments(ast.parse(path.read_text()))
    }
    assert not changing


def test_the_rules_of_arguments_would_catch_a_breach():
    for line in (
        "import argparse",
        "from argparse import Namespace",
        "def f(a, *, args): pass",
        "vars(args)",
        "getattr(args, 'lr')",
        "setattr(args, 'lr', 1)",
    ):
        assert takes_arguments(ast.parse(line)) == [1], line
    for line in ("def f(*args): pass", "vars(entry)", "parser.parse(argv)", "f(args=1)"):
        assert takes_arguments(ast.parse(line)) == [], line
    for line in ("args.lr = 1", "args.lr += 1", "a, args.lr = 1, 2", "setattr(args, 'lr', 1)"):
        assert changes_arguments(ast.parse(line)) == [1], line
    assert changes_arguments(ast.parse("other.lr = args.lr")) == []


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


def test_no_merge_is_left_half_done():
    """Was: marks of a conflict in a list of files, which no test opens."""
    marks = (b"<" * 7 + b" ", b">" * 7 + b" ")
    left = [path for path in tracked() if any(mark in path.read_bytes() for mark in marks)]
    assert not left


def test_no_recordings_and_no_large_files_are_tracked():
    for path in tracked():
        if path.exists():
            # of simulated nights, a part of the weights
            if path.name != "prototypes.npz":
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
    assert ast.get_docstring(tree), "a module describes what it is for"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module_name(path)}.{node.name}"


# calls that write, rename or remove; only utils/files.py and what serves it may use them freely
WRITING = {
    "write_text",
    "write_bytes",
    "unlink",
    "rename",
    "rmdir",
    "rmtree",
    "touch",
    "symlink_to",
    "hardlink_to",
    "savez",
    "savez_compressed",
    "savefig",
    "tofile",
    "to_csv",
    "to_json",
    "to_parquet",
    "copyfile",
    "copytree",
    "copy2",
    "copyfileobj",
    "move",
    "remove",
    "truncate",
    "removedirs",
    "open_memmap",
    "imsave",
}
OF_LISTS = {"remove", "copy"}  # also methods of lists, sets and hooks: counted on os and shutil
WRITERS = {"utils.files", "utils.manifest", "utils.locks"}
GUARDS = {"written_whole", "written_folder", "claim", "TemporaryDirectory", "BytesIO"}
# who else does, and why nothing can be lost by it
UNGUARDED = {
    "utils.checkpoint": "into a file that its caller has opened for it",
    "datasets.readers.remote_file": "appends to a .part that its caller has claimed",
    "datasets.readers.remote_zip": "_unpack writes a temporary",
    "utils.figures": "imsave into memory",
    "benchmarks.reading": "into a TemporaryDirectory of its main",
    "benchmarks.preparing": "into a TemporaryDirectory of its main",
}


def is_writing(call: ast.Call) -> bool:
    """Whether a call may change what is on the disk."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    owner = getattr(getattr(call.func, "value", None), "id", "")
    if name == "open":
        modes = [
            a.value
            for a in (*call.args, *(k.value for k in call.keywords if k.arg == "mode"))
            if isinstance(a, ast.Constant) and isinstance(a.value, str)
        ]
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
            for item in node.items
            for c in ast.walk(item.context_expr)
            if isinstance(c, ast.Call)
        ):
            guarded |= {id(inner) for inner in ast.walk(node)}
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and is_writing(node) and id(node) not in guarded
    ]


def own_files() -> list[Path]:
    return [*room_files(), *ROOT.glob("*.py"), *sorted((ROOT / "benchmarks").glob("*.py"))]


@pytest.mark.parametrize("path", own_files(), ids=module_name)
def test_one_place_writes(path):
    module, lines = module_name(path), unguarded_writes(ast.parse(path.read_text()))
    if module in WRITERS:
        return
    assert bool(lines) == (module in UNGUARDED), f"{module}: writes by itself in lines {lines}"


def test_the_rule_of_one_writer_would_catch_a_breach():
    for line in (
        "p.write_text('x')",
        "p.open('w')",
        "open(p, mode='ab')",
        "np.save(p, x)",
        "p.replace(q)",
        "os.remove(p)",
        "shutil.rmtree(p)",
        "p.unlink()",
    ):
        assert unguarded_writes(ast.parse(line)) == [1], line
    for line in (
        "a.replace('x', 'y')",
        "replace(a, b=1)",
        "p.open('rb')",
        "todo.remove(3)",
        "with written_whole(p) as t: t.write_bytes(b'')",
    ):
        assert unguarded_writes(ast.parse(line)) == [], line


def calls_of(name: str) -> set[str]:
    """``module.function`` of every place outside tests and benchmarks that calls ``name``."""
    places = set()
    for path in [*room_files(), *ROOT.glob("*.py")]:
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef) or function.name == name:
                continue
            for node in ast.walk(function):
                called = getattr(node, "func", None)
                if name == getattr(called, "attr", getattr(called, "id", None)):
                    places.add(f"{module_name(path)}.{function.name}")
    return places


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("stage_night", {"utils.staged_night.stage_signals"}),
        # of a training's own split, and for a checkpoint
        ("View", {"training.train.views_of", "evaluation.stage.open_view"}),
        ("seen", {"utils.checkpoint.refuse_seen"}),
        ("write_index", {"interpret.explain_nights.explain_nights"}),
        # intervals over subjects
        ("bootstrap", {"utils.intervals._bca"}),
        ("stdtrit", {"utils.intervals._t"}),
    ],
)
def test_one_path_for_one_job(name, places):
    assert calls_of(name) == places


def test_torch_loads_in_one_place():
    for path in [*room_files(), *ROOT.glob("*.py")]:
        loads = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
            and node.attr == "load"
            and getattr(node.value, "id", "") == "torch"
        ]
        assert bool(loads) == (module_name(path) == "utils.torch_files"), module_name(path)


# what files of anybody's are parsed by, each in one place that knows all its errors
PARSERS = {
    ("json", "loads"): "utils.json_values",
    ("json", "load"): "utils.json_values",
    ("ElementTree", "XMLParser"): "datasets.readers.scorings.xml_file",
    ("ElementTree", "parse"): "datasets.readers.scorings.xml_file",
    ("ElementTree", "fromstring"): "datasets.readers.scorings.xml_file",
    ("h5py", "File"): "datasets.readers.hdf5_file",
}
WRITES_HDF5 = "datasets.synthetic.dreem_files"


@pytest.mark.parametrize("path", [*room_files(), *ROOT.glob("*.py")], ids=module_name)
def test_what_comes_from_elsewhere_is_parsed_in_one_place(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            place = PARSERS.get((node.value.id, node.attr), module_name(path))
            assert module_name(path) in (place, WRITES_HDF5), f"line {node.lineno}"


# why something is asked for by name: modules of torch's own, which declare nothing
PROBING = {
    "interpret.random_weights": "torch modules with and without reset_parameters",
    "utils.arguments": "values of parsed flags, by their names",
}


@pytest.mark.parametrize("path", [*room_files(), *ROOT.glob("*.py")], ids=module_name)
def test_nothing_is_probed_for(path):
    """What callers may ask of models, objectives and readers is declared, with defaults."""
    module, tree = module_name(path), ast.parse(path.read_text())
    if module.split(".")[0] == "models":
        return
    asked = [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("hasattr", "getattr"))
        or (isinstance(node, ast.ExceptHandler) and "AttributeError" in ast.dump(node))
    ]
    assert bool(asked) == (module in PROBING), f"{module}: lines {asked}"
