"""Methods see of the harness only what `bench` allows them, whatever else it comes to hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import methods

FOLDER = Path(methods.__file__).parent
ALLOWED = ("bench.types", "bench.data", "bench.weights", "bench.smoothing.noise")


def imported(tree: ast.AST) -> Iterator[str]:
    """Names that a module imports anywhere in it, for its annotations too: "bench.types.Method"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what they import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("bench."):
            yield node.value  # as import_module takes it


def refused(tree: ast.AST) -> list[str]:
    ours = [name for name in imported(tree) if name == "bench" or name.startswith("bench.")]
    return [name for name in ours if not any(name == each or name.startswith(f"{each}.") for each in ALLOWED)]


def test_methods_import_of_the_harness_only_what_they_are_allowed() -> None:
    found = {path: refused(ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(FOLDER.rglob("*.py"))}
    assert len(found) > 50
    assert {str(path.relative_to(FOLDER)): names for path, names in found.items() if names} == {}


def test_an_import_that_is_not_allowed_is_found_wherever_it_stands() -> None:
    text = """
from bench.types import Method
from bench.smoothing import noise
if TYPE_CHECKING:
    import bench.runs.store
def build():
    from bench import api
    from bench.typesetting import x
    import_module("bench.report")
"""
    assert sorted(refused(ast.parse(text))) == ["bench.api", "bench.report", "bench.runs.store", "bench.typesetting.x"]
