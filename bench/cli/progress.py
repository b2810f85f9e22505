"""How far a run is: a bar on a terminal, plain lines elsewhere. On stderr."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bench.cli.output import remark, stderr
from bench.report.accuracy import right
from bench.report.formats.escaping import terminal
from bench.types import Row, RunSpec

LINE_SECONDS = 15.0  # at most one plain line in this time


class RunProgress:
    """Images, samples a second, time left and running certified accuracy of one run after another."""

    def __init__(self) -> None:
        self._console = stderr()
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("  {task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[accuracy]}"),
                console=self._console,
                transient=True,
            )
        self._task: TaskID | None = None

    def __enter__(self) -> RunProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def start(self, title: str, spec: RunSpec, there: tuple[Row, ...]) -> None:
        """A run begins, with the rows that it already has."""
        self._spec, self._title = spec, terminal(title)
        self._done, self._new, self._certified = len(there), 0, sum(right(spec, row) for row in there)
        self._drawn = 0
        self._started = self._printed = time.monotonic()
        if self._bar:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(self._title, total=spec.images, completed=self._done, rate="", accuracy="")

    def advance(self, row: Row) -> None:
        """One image more."""
        self._done, self._new = self._done + 1, self._new + 1
        self._certified += right(self._spec, row)
        self._drawn += row.samples
        elapsed = time.monotonic() - self._started
        rate = self._drawn / elapsed
        least = self._spec.radii[0] if self._spec.stops else 0.0
        accuracy = f"r={least:g} {100 * self._certified / self._done:.1f} %"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self._done, rate=f"{rate:,.0f} samples/s", accuracy=accuracy)
        elif time.monotonic() - self._printed > LINE_SECONDS:
            self._printed = time.monotonic()
            left = elapsed / self._new * (self._spec.images - self._done)
            where = f"{self._done}/{self._spec.images}"
            remark(f"  {self._title}  {where}  {rate:,.0f} samples/s  {left:.0f} s left  {accuracy}")
