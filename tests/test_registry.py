"""The registry of explanations: the one place that knows all methods, the one that writes."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from interpret import registry

ROOT = Path(__file__).parents[1]


def test_what_a_model_does_not_allow_is_left_out():
    class Blind:
        shows_attention = reads_images = reads_spectrograms = False

    allowed = {method.name for method in registry.METHODS if method.allows(Blind())}
    assert set(registry.names()) - allowed == {"eg", "gradcam", "attention", "rollout"}
    assert [method.name for method in registry.METHODS if method.control] == ["random"]


def test_methods_are_named_in_their_own_files_only():
    """Elsewhere a method is known by what it declares; defaults of flags may name some."""
    own = {inspect.getfile(type(method)) for method in registry.METHODS}
    names = set(registry.names())
    for folder in ("interpret", "evaluation"):
        for path in sorted((ROOT / folder).glob("*.py")):
            if str(path) in own:
                continue
            tree = ast.parse(path.read_text())
            defaults = [part for node in ast.walk(tree) for part in default_parts(node)]
            named = {
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant)
                and node.value in names
                and id(node) not in defaults
            }
            assert not named, (path, named)


def default_parts(node: ast.AST) -> list[int]:
    """Identities of the constants in a node's defaults: of functions, fields and flags."""
    given: list[ast.AST] = []
    if isinstance(node, ast.FunctionDef):
        given = [d for d in (*node.args.defaults, *node.args.kw_defaults) if d]
    elif is_default(node):
        given = [node.value]
    return [id(part) for value in given for part in ast.walk(value)]


def is_default(node: ast.AST) -> bool:
    """Whether a node gives a field or a flag its default."""
    if isinstance(node, ast.AnnAssign):
        return node.value is not None
    return isinstance(node, ast.keyword) and node.arg == "default"
