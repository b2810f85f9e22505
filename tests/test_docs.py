"""What the documents show is what this version does: their commands and code run, in order, page by page.

A block whose note says "parsed only" needs data, a cluster or hours: its options must exist, its Python must compile.
The words of "in tests" are added to a block's commands, to be quick ("setup ..." is a command before it). A text whose
note says "output of" is compared letter by letter, as far as its last line "...".
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import typer.main
from documented import IN_TESTS, OUTPUT_OF, PARSED_ONLY, Block, blocks, commands, parsed, spans
from places import PROJECT

from bench.cli.app import app
from methods.training.rng import seeded_globals

DOCS = PROJECT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
SIZED = ("run", "latency", "plan")  # commands that the words of a note are added to
NOTEBOOK = DOCS / "notebooks" / "digits.ipynb"


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_are_of_this_version(page: str) -> None:
    text = text_of(page)
    assert all(map(parsed, spans(text)))
    for block in blocks(text):
        if block.kind == "bash":
            assert all(map(parsed, commands(block.text)))
        if block.kind == "python":
            compile(block.text, page, "exec")


def filled(line: str, here: Path) -> list[str]:
    """The words of a command, RUN and WEIGHTS as what earlier blocks have left, globs as what they match."""
    line = line.replace("WEIGHTS", next((path.name for path in sorted(here.glob("trained/*.safetensors"))), "WEIGHTS"))
    line = line.replace("/RUN", f"/{next((path.name for path in sorted(here.glob('results/runs/*-s*'))), 'RUN')}")
    words: list[str] = []
    for word in shlex.split(line):
        matched = sorted(map(str, here.glob(word))) if "*" in word else []
        for k, path in enumerate(matched):
            words += ["--runs", path][0 if k else 1 :]
        words += [] if matched else [word]
    return words


def run_bash(block: Block, cli, here: Path) -> None:
    more = shlex.split(block.told(IN_TESTS) or "")
    if more[:1] == ["setup"]:
        assert cli(*more[1:]).code == 0
        more = []
    for line in commands(block.text):
        words = filled(line, here)
        kept = [each for each in more if each != "WEIGHTS"] if words[0] in SIZED else []
        found = cli(*words, *kept)
        assert found.code == 0, f"{line}: {found.err}"


def shown(words: list[str], cli, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    found = cli(*words)
    return "\n".join(line.rstrip() for line in (found.out + found.err).strip().splitlines()) + "\n"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(text_of(page))])
@seeded_globals(1)
def test_what_a_page_shows_runs(page: str, cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, names, printed = text_of(page), {"__name__": "__main__"}, StringIO()
    if "results/digits" in text:
        shutil.copytree(PROJECT / "results" / "digits", tmp_path / "results" / "digits")
    for block in blocks(text):
        if block.told(PARSED_ONLY) is not None:
            continue
        if block.title:
            (tmp_path / block.title).write_text(block.text)
        elif block.kind == "bash":
            run_bash(block, cli, tmp_path)
        elif block.kind == "python":
            with redirect_stdout(StringIO()) as printed:
                exec(compile(block.text, page, "exec"), names)
        elif block.told(OUTPUT_OF) == "the code above":
            assert block.text == printed.getvalue()
        elif (words := block.told(OUTPUT_OF)) is not None:
            found = shown(filled(words, tmp_path), cli, monkeypatch)
            start = block.text.removesuffix("\n...\n")
            assert found == block.text if start == block.text else found.startswith(f"{start}\n")


def evaluated(source: str, names: dict[str, object]) -> object:
    """A cell run, and the value of its last line where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


@seeded_globals(1)
def test_the_numbers_of_the_notebook_are_those_that_its_cells_give(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, object] = {}
    compared = 0
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        value = evaluated("".join(cell["source"]), names)
        printed = capsys.readouterr().out
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                assert "".join(output["text"]) == printed
                compared += 1
            elif output["output_type"] == "execute_result":
                assert "".join(output["data"]["text/plain"]) == repr(value)
                compared += 1
    assert compared >= 3
    assert NOTEBOOK.stat().st_size < 300_000


def test_every_page_is_in_the_sites_list_of_pages() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (PROJECT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert set(PAGES) <= listed


def test_the_page_of_the_command_line_has_every_option_of_every_command() -> None:
    spec = importlib.util.spec_from_file_location("site_pages", DOCS / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    sections = made.command_line().split("\n## ")[1:]
    commands_there = dict(made.commands(typer.main.get_command(app)))
    assert [section.partition("\n")[0] for section in sections] == sorted(commands_there)
    for section in sections:
        command = commands_there[section.partition("\n")[0]]
        for parameter in command.params:
            if parameter.name != "help" and not parameter.hidden:
                names = [parameter.name.upper()] if parameter.param_type_name == "argument" else parameter.opts
                assert all(f"| `{name}`" in section or f" `{name}`" in section for name in names)


def test_the_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_text(encoding="utf-8").splitlines()) < 130
