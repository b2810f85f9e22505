"""Progress of a training run on stderr: a bar with rate and time left in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

EVERY = 30.0  # seconds between two plain lines


class Progress:
    """Shows how far a run is; holds the terminal while it is open."""

    def __init__(self, steps: int, done: int, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._steps = steps
        self._first = done
        self._began = time.monotonic()
        self._printed = float("-inf")
        self._bar: Any = None
        self._bar_task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and not self._quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._bar.start()
            self._bar_task = self._bar.add_task("", total=self._steps, completed=self._first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, step: int, parts: Mapping[str, float]) -> None:
        """Show a step, its loss, the rate since the start of this process, and the seconds left."""
        if self._quiet:
            return
        now = time.monotonic()
        rate = (step - self._first) / max(now - self._began, 1e-9)
        words = f"loss {parts['loss']:.4f}  {rate:.1f} steps/s"
        if self._bar is not None:
            self._bar.update(self._bar_task, completed=step, description=words)
        elif now - self._printed >= EVERY or step == self._steps:
            left = (self._steps - step) / max(rate, 1e-9)
            print(f"  step {step}/{self._steps}  {words}  {left:.0f} s left", file=sys.stderr)
            self._printed = now
