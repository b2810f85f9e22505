"""The code of a stranger's file: itself, and the modules of its own folder that it imports; none of it is run."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.types.errors import MethodError

_OURS = {"bench", "methods", "rrcm_bench"}


def code_sha256(file: Path) -> str:
    """sha256 of a file's code; where it imports modules that lie beside it, of theirs too, by their names.

    Raises: MethodError for a file that cannot be read.
    """
    try:
        own = file.read_bytes()
        beside = {name: path.read_bytes() for name, path in modules_beside(file).items()}
    except OSError as error:
        raise MethodError(f"{str(error.filename or file)!r} cannot be read: {error.strerror}") from None
    if not beside:
        return hashlib.sha256(own).hexdigest()
    parts = {"": own, **beside}
    lines = [f"{name} {hashlib.sha256(parts[name]).hexdigest()}\n" for name in sorted(parts)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def modules_beside(file: Path) -> dict[str, Path]:
    """Files of the modules of the same folder that a file imports, by name, those that these import among them."""
    folder = file.parent
    found: dict[str, Path] = {}
    todo = [("", file)]
    while todo:
        importer, path = todo.pop()
        for name in _imported(path, importer):
            if name.partition(".")[0] in _OURS | sys.stdlib_module_names or name in found:
                continue
            place = folder.joinpath(*name.split("."))
            module = next((p for p in (place / "__init__.py", place.with_suffix(".py")) if p.is_file()), None)
            if module is not None and module.resolve() != file.resolve():
                found[name] = module
                todo.append((name, module))
    return found


def _imported(path: Path, importer: str) -> Iterator[str]:
    """Names that a file's imports may mean, with those of the packages around them."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):  # its import says what is wrong
        return
    package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            around = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            stem = ".".join(filter(None, [*around, node.module or ""]))
            names = [stem, *(f"{stem}.{alias.name}" if stem else alias.name for alias in node.names)]
        else:
            continue
        for name in filter(None, names):
            parts = name.split(".")
            yield from (".".join(parts[:k]) for k in range(1, len(parts) + 1))
