"""Where words go: results to stdout, remarks and progress to stderr, JSON alone on stdout when asked for."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import typer
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment

from bench.report.formats.escaping import terminal
from bench.types.plugins import plugin_errors

if TYPE_CHECKING:
    from bench.report.formats.terminal import TerminalTable

P = ParamSpec("P")

WIDE = 200  # columns where there is no terminal: in a file or a pipe lines may be long


@dataclass(frozen=True, slots=True)
class _Neutral:
    """Something to print, without what the terminal would obey in a stranger's words."""

    item: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.item, options):
            yield segment if segment.control else Segment(terminal(segment.text), segment.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self.item)


@dataclass(frozen=True, slots=True)
class Screen:
    """Where results are printed: text and tables as they are, with neither [markup] nor :emoji: nor escapes in them."""

    console: Console

    def print(self, *items: RenderableType) -> None:
        """Print them, as rich does."""
        self.console.print(*map(_Neutral, items))


def stdout() -> Screen:
    """The screen of results; as wide as the terminal, and wide enough for a table where there is none."""
    console = Console(highlight=False, markup=False, emoji=False)
    # Where there is no terminal COLUMNS says how wide it is to be, as it does where there is one.
    if console.is_terminal or os.environ.get("COLUMNS", "").isdecimal():
        return Screen(console)
    return Screen(Console(highlight=False, markup=False, emoji=False, width=WIDE))


def stderr() -> Console:
    """The console of progress."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def listing(
    title: str,
    columns: Iterable[str],
    rows: Iterable[Iterable[str]],
    *,
    words: int | None = None,
    caption: str = "",
) -> TerminalTable:
    """A list of texts as a table; its first `words` columns (all without it) stand left, numbers right."""
    from bench.report.formats.terminal import terminal as laid_out
    from bench.report.tables.table import stated

    return laid_out(stated(title, columns, rows, words=words, caption=caption))


def pairs(title: str, record: Mapping[str, Any]) -> TerminalTable:
    """Keys and values."""
    return listing(title, ("", ""), ((str(key), str(value)) for key, value in record.items()))


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    json.dump(document, sys.stdout, indent=1, allow_nan=False)
    sys.stdout.write("\n")


def remark(text: str) -> None:
    """A plain line on stderr."""
    print(terminal(text), file=sys.stderr, flush=True)


def doubt_lengths(sigmas: Iterable[float], radii: Iterable[float] = ()) -> None:
    """A loud line on each length that may be meant in pixels of 0 to 255."""
    from bench.certification.bounds import off_scale

    for line in off_scale(sigmas, radii):
        remark(f"! {line}")


def left_out(problem: Exception) -> None:
    """Say what of many things is passed over, and why."""
    remark(f"! left out  {problem}")


@contextmanager
def resumable(hint: str) -> Iterator[None]:
    """Ctrl-C or SIGTERM inside becomes the signal's exit code and a line that says how to go on."""
    try:
        with plugin_errors():
            yield
    except KeyboardInterrupt as error:
        raise interrupted(error, f"; {hint}") from None


def command(function: Callable[P, None]) -> Callable[P, None]:
    """The function as a command: what a plug-in raises is told as the plug-in's, and a signal ends it in one line."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with plugin_errors():
                function(*args, **kwargs)
        except KeyboardInterrupt as error:
            raise interrupted(error) from None

    return run


def interrupted(error: KeyboardInterrupt, hint: str = "") -> typer.Exit:
    """The end of a command by the signal that the exception names, said on stderr."""
    remark(f"rrcm-bench: interrupted{hint}")
    return typer.Exit(128 + (error.args[0] if error.args else signal.SIGINT))
