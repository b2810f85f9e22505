"""Records of options as commands."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from bench.cli.app import app
from bench.cli.options import of_record


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    name: Annotated[str, typer.Argument(help="A name.")]
    level: Annotated[float, typer.Option(help="A level.")] = 0.5
    weights: Annotated[list[str] | None, typer.Option(help="Several.")] = None
    passes: Annotated[bool, typer.Option("--compile", help="A flag.")] = False


def test_each_field_of_a_record_is_an_argument_or_option_with_its_default() -> None:
    came: list[Words] = []

    def command(given: Words) -> None:
        came.append(given)

    single = typer.Typer()
    single.command()(of_record(command))
    for words in (["x"], ["x", "--level", "2", "--weights", "a=b", "--weights", "c=d", "--compile"]):
        assert CliRunner().invoke(single, words).exit_code == 0
    assert (came[0].name, came[0].level, came[0].passes) == ("x", 0.5, False)
    assert not came[0].weights
    assert came[1] == Words(name="x", level=2.0, weights=["a=b", "c=d"], passes=True)
    assert CliRunner().invoke(single, []).exit_code == 2


def test_no_command_takes_more_than_ten_parameters() -> None:
    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    for found in (info.callback for group in groups if group for info in group.registered_commands):
        assert found is not None
        assert len(inspect.signature(inspect.unwrap(found)).parameters) <= 10, found
