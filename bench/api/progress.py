"""Progress of the images on stderr: a bar on a terminal or in a notebook, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.types import Row

LINE_SECONDS = 15.0  # at most one plain line in this time


def shown(rows: Iterator[Row], total: int, *, progress: bool) -> Iterator[Row]:
    """The same rows, told of as they come; `total` 0: not known."""
    console = Console(stderr=True)
    if not progress:
        yield from rows
    elif console.is_terminal:
        columns = (
            TextColumn("certify"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=total or None, rate="")
            for row, rate, _ in _timed(rows):
                bar.update(task, advance=1, rate=f"{rate:,.0f} samples/s")
                yield row
    else:
        said = time.monotonic()
        for row, rate, done in _timed(rows):
            if time.monotonic() - said > LINE_SECONDS:
                said = time.monotonic()
                print(f"certify  {done}{f'/{total}' if total else ''} images  {rate:,.0f} samples/s", file=sys.stderr)
            yield row


def _timed(rows: Iterator[Row]) -> Iterator[tuple[Row, float, int]]:
    """Each row with the samples a second so far, and the number of rows."""
    started, drawn = time.monotonic(), 0
    for done, row in enumerate(rows, start=1):
        drawn += row.samples
        yield row, drawn / max(time.monotonic() - started, 1e-9), done
