"""A worker's end, wherever it runs: it builds each job's network once and counts tasks; it knows no image's verdict."""

from __future__ import annotations

import logging
import platform
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.runs.execution.dispatch import Failure, Task, TaskResult
from bench.runs.execution.environment import device_name, package_version
from bench.runs.image_state import Counted, Unit
from bench.types.errors import BenchError
from bench.types.plugins import kind_and_words, plugin_errors

# Networks that a worker holds: that of the job that ends and that of the next, whose tasks may come in turns.
HELD = 2


class Counter(Protocol):
    """What counts units on one device."""

    batch: int  # copies a forward pass
    compile: str  # what came of torch.compile

    def count(self, units: Sequence[Unit]) -> list[Counted]:
        """The votes on each."""


Maker = Callable[[str, int | None], Counter]  # (device, batch) -> counter; picklable, its paths absolute


@dataclass(slots=True)
class Worker:
    """One worker: empty until it has its first task, so that what goes wrong then is told and does not kill it."""

    device: str  # "cpu" or "cuda:0": schedulers show a worker its own GPU alone
    asked_batch: int | None
    _makers: dict[int, Maker] = field(default_factory=dict)
    _built: dict[int, tuple[Counter, int]] = field(default_factory=dict)  # job -> network, threads; the last used last
    _threads: int = 0  # of this process, before a network has chosen its own

    def start(self) -> dict[str, Any]:
        """Who this worker is."""
        import torch

        self._threads = torch.get_num_threads()
        return self._told()

    def knows(self, job: int) -> bool:
        """Whether it has been told how to build the job's network."""
        return job in self._makers

    def count(self, task: Task, maker: Maker | None = None) -> TaskResult:
        """The votes on each unit, or what went wrong; `maker` with the first task of a job."""
        import torch

        try:
            with plugin_errors():  # on this side: an exception comes to the driver without its frames
                if maker is not None:
                    self._makers[task.job] = maker
                counter, threads = self._counter(task.job)
                torch.set_num_threads(threads)
                counted = tuple(counter.count(task.units)) if task.units else ()
        except Exception as error:  # one job's fault must not end the others: the driver tells it
            self._built.pop(task.job, None)
            return TaskResult(task.number, None, failure=failure_of(error))
        return TaskResult(task.number, counted, {**self._told(), "batch": counter.batch, "compile": counter.compile})

    def _told(self) -> dict[str, Any]:
        return {"host": platform.node(), "device": device_name(self.device), "torch": package_version("torch")}

    def _counter(self, job: int) -> tuple[Counter, int]:
        import torch

        built = self._built.pop(job, None)
        if built is None:
            while len(self._built) >= HELD:
                del self._built[next(iter(self._built))]
            torch.set_num_threads(self._threads or torch.get_num_threads())
            try:
                made = self._makers[job](self.device, self.asked_batch)
            except (BenchError, RuntimeError, MemoryError) as error:  # of memory, perhaps
                if not self._built:
                    raise
                reason = kind_and_words(error)
            else:
                reason = ""
            if reason:  # not in the handler: its traceback keeps the failed network alive
                logging.getLogger(__name__).info("built again alone, after: %s", reason)
                self._built.clear()
                if self.device.startswith("cuda"):
                    torch.cuda.empty_cache()
                made = self._makers[job](self.device, self.asked_batch)
            built = made, torch.get_num_threads()
        self._built[job] = built
        return built


def failure_of(error: BaseException) -> Failure:
    """An exception in words."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, BenchError):
        return Failure(type(error).__name__, " ".join(str(error).split()), trace)
    kind, _, words = kind_and_words(error).partition(": ")
    return Failure(kind, words, trace)
