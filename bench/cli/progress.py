"""Progress of runs on stderr: a bar for each on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bench.cli.output import remark, stderr
from bench.report.accuracy import right
from bench.report.formats.escaping import terminal
from bench.types import Row, RunSpec

LINE_SECONDS = 15.0  # at most one plain line in this time


@dataclass(slots=True)
class _Running:
    """A run under way."""

    spec: RunSpec
    title: str
    done: int  # rows
    certified: int
    new: int = 0  # rows of this process
    drawn: int = 0
    started: float = field(default_factory=time.monotonic)
    printed: float = field(default_factory=time.monotonic)
    task: TaskID | None = None


class RunProgress:
    """Images, samples a second, time left and running certified accuracy of the runs under way."""

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
        self._running: dict[int, _Running] = {}

    def __enter__(self) -> RunProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def start(self, run: int, title: str, spec: RunSpec, there: tuple[Row, ...]) -> None:
        """A run begins, with the rows that it already has."""
        made = _Running(spec, terminal(title), len(there), sum(right(spec, row) for row in there))
        self._running[run] = made
        if self._bar:
            made.task = self._bar.add_task(made.title, total=spec.images, completed=made.done, rate="", accuracy="")

    def advance(self, run: int, row: Row) -> None:
        """One image more."""
        made = self._running[run]
        made.done, made.new = made.done + 1, made.new + 1
        made.certified += right(made.spec, row)
        made.drawn += row.samples
        elapsed = time.monotonic() - made.started
        rate = made.drawn / elapsed
        least = made.spec.radii[0] if made.spec.stops else 0.0
        accuracy = f"r={least:g} {100 * made.certified / made.done:.1f} %"
        if self._bar and made.task is not None:
            self._bar.update(made.task, completed=made.done, rate=f"{rate:,.0f} samples/s", accuracy=accuracy)
        elif time.monotonic() - made.printed > LINE_SECONDS:
            made.printed = time.monotonic()
            left = elapsed / made.new * (made.spec.images - made.done)
            where = f"{made.done}/{made.spec.images}"
            remark(f"  {made.title}  {where}  {rate:,.0f} samples/s  {left:.0f} s left  {accuracy}")

    def end(self, run: int) -> float:
        """A run is over, well or not; seconds since it began."""
        made = self._running.pop(run, None)
        if made is None:
            return 0.0
        if self._bar and made.task is not None:
            self._bar.remove_task(made.task)
        return time.monotonic() - made.started
