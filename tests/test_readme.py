"""README's commands and code are what this version takes: all are parsed, and what can be run offline is."""

from __future__ import annotations

import re
import shlex

import documented
import pytest
import torch
import typer.main
from places import PROJECT

from bench.cli.app import app
from bench.cli.requests import numbers
from methods.training.rng import seeded_globals

README = (PROJECT / "README.md").read_text(encoding="utf-8")
BLOCKS = documented.blocks(README)


def commands() -> list[str]:
    """Every command of the fenced blocks and of the text."""
    fenced = [line for each in BLOCKS if each.kind == "bash" for line in documented.commands(each.text)]
    return fenced + documented.spans(README)


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_readme_is_one_of_this_version(line: str) -> None:
    params = documented.parsed(line).params
    for name in ("sigma", "radii"):
        if isinstance(params.get(name), str):
            assert numbers(params[name])


def test_the_readme_has_commands() -> None:
    assert {line.split()[0] for line in commands()} >= {"run", "plan", "latency", "report", "check", "weights"}


def test_the_table_of_commands_names_them_all_and_no_other() -> None:
    cells = re.findall(r"^\| (`.*?) \| ", README, re.MULTILINE)
    named = {word for cell in cells for span in re.findall(r"`([^`]*)`", cell) for word in span.split()[:1]}
    named |= {"weights"} if {"list", "verify"} & named else set()
    known = set(typer.main.get_command(app).commands)
    assert known <= named
    assert named - known <= {"add", "remove", "convert", "show", "export", "import"}  # of `weights` and `runs`


@pytest.mark.parametrize(
    ("start", "more"),
    [
        ("run ... --certifier sequential", "--methods gaussian --n 200 --limit 2 --sigma 0.5"),
        ("plan --gpus", "--images 20"),
    ],
)
def test_a_command_of_the_readme_runs_at_a_small_size(cli, start: str, more: str) -> None:
    (line,) = (line for line in commands() if line.startswith(start))
    assert cli(*[word for word in shlex.split(line) if word != "..."], *more.split()).code == 0


@seeded_globals(1)
def test_the_method_of_the_readme_passes_the_checks_and_is_certified(cli, tmp_path) -> None:
    block, _ = [each.text for each in BLOCKS if each.kind == "python"]
    (tmp_path / "mine.py").write_text(block)
    weights = {"1.weight": torch.randn(10, 64, generator=torch.Generator().manual_seed(6)), "1.bias": torch.zeros(10)}
    torch.save(weights, tmp_path / "FILE")
    check, run = (
        next(line for line in (*commands(), *told()) if line.startswith(start))
        for start in ("check", "run --methods mine")
    )
    assert cli(*shlex.split(check)).code == 0
    found = cli(*shlex.split(run), "--n", "100", "--limit", "2", "--sigma", "0.5", "--json")
    assert found.code == 0
    assert found.json["runs"][0]["images"] == 2


@seeded_globals(1)
def test_the_python_of_the_readme_runs(cli) -> None:
    made = cli(
        "run",
        "--methods",
        "gaussian",
        "--dataset",
        "digits",
        *["--sigma", "0.5", "--n", "100", "--limit", "1", "--json"],
    )
    _, block = [each.text for each in BLOCKS if each.kind == "python"]
    block = block.replace("sigma=0.5", "sigma=0.5, n=100")
    block = block.replace("results/runs/NAME", made.json["runs"][0]["path"])
    names = {"model": lambda x: x.flatten(1)[:, :2], "images": torch.zeros(2, 1, 8, 8)}
    exec(block, names)
    assert len(names["certificates"]) == 2


def told() -> list[str]:
    """What the text calls a command without the program's name."""
    return re.findall(r"`(run --methods mine[^`]*)`", README.replace("\n", " "))
