"""What is packaged is what the code needs: every import is declared, every dependency is imported, versions agree."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from places import PROJECT

import rrcm_bench

TOML = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
OURS = {"bench", "methods", "rrcm_bench"}
# Of a declared package's own: jinja2 is built on markupsafe, and CUDA's torch brings triton.
BROUGHT = {"markupsafe", "triton"}
IMPORTED_AS = {"pynvml": "nvidia-ml-py", "PIL": "pillow"}  # where the distribution may be absent here
NEVER_IMPORTED = {"xformers": "torch.compile's attention", "scikit-learn": "its file of the digits"}


def name_of(requirement: str) -> str:
    return re.split(r"[<>=\[;~! ]", requirement)[0].lower()


def declared() -> set[str]:
    project = TOML["project"]
    extras = project["optional-dependencies"]
    return {name_of(each) for each in (*project["dependencies"], *(r for e in extras.values() for r in e))}


def imported() -> set[str]:
    found = set()
    files = [
        PROJECT / "rrcm_bench.py",
        *(file for name in ("bench", "methods") for file in (PROJECT / name).rglob("*.py")),
    ]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - BROUGHT


def test_every_import_is_declared_and_every_dependency_imported() -> None:
    known = packages_distributions()
    theirs = imported() - OURS
    named = {IMPORTED_AS.get(name) or known.get(name, [name])[0].lower().replace("_", "-") for name in theirs}
    extras = TOML["project"]["optional-dependencies"]
    tools = {name_of(each) for extra in ("test", "dev", "docs") for each in extras[extra]}
    assert named - declared() == set()
    assert declared() - named - tools - set(NEVER_IMPORTED) == set()


def test_the_public_module_stands_above_all() -> None:
    assert "rrcm_bench" not in imported()


def test_what_a_user_installs_has_no_test_tools() -> None:
    first = {name_of(each) for each in TOML["project"]["dependencies"]}
    assert first.isdisjoint({"pytest", "hypothesis", "ray", "plotly", "pyarrow", "submitit"})
    commands = re.findall(r"pip install .* -e (\S+)", (PROJECT / "README.md").read_text(encoding="utf-8"))
    assert commands == [".", "'.[test]'"]


def test_the_citation_is_of_this_version() -> None:
    text = (PROJECT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {rrcm_bench.__version__}\n" in text
    assert f"\nlicense: {TOML['project']['license']}\n" in text


def test_the_command_says_the_version(cli) -> None:
    found = cli("--version")
    assert (found.code, found.out) == (0, f"rrcm-bench {rrcm_bench.__version__}\n")
