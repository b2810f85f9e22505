"""Where words go: results to stdout, remarks and progress to stderr, JSON alone on stdout when asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

JSON_OPTION = typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")


def stdout() -> Console:
    """The console of results; as wide as the terminal, and wide enough for a table where there is none."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def stderr() -> Console:
    """The console of remarks and progress."""
    return Console(stderr=True, highlight=False)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    json.dump(document, sys.stdout, indent=1, allow_nan=False)
    sys.stdout.write("\n")


def remark(text: str) -> None:
    """A plain line on stderr."""
    print(text, file=sys.stderr, flush=True)


def doubt_lengths(sigmas: Iterable[float], radii: Iterable[float] = ()) -> None:
    """A loud line on each length that may be meant in pixels of 0 to 255."""
    from bench.certificate import off_scale

    for line in off_scale(sigmas, radii):
        remark(f"! {line}")


def left_out(problem: Exception) -> None:
    """Say what of many things is passed over, and why."""
    remark(f"! left out  {problem}")


@contextmanager
def resumable(hint: str) -> Iterator[None]:
    """Ctrl-C inside becomes exit code 130 and a line that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        remark(f"rrcm-bench: interrupted; {hint}")
        raise typer.Exit(130) from None
