"""One process a device on this machine, for runs on several; a single device needs none of this."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.runs.execution.dispatch import MAX_ASKED, Task, TaskResult, WorkerTasks, choose
from bench.runs.execution.numa import bind_cores
from bench.runs.execution.worker import Maker, Worker
from bench.types import Execution
from bench.types.errors import DeviceError

WAIT_SECONDS = 0.2
STARTS = 3  # of a process that dies before it can count


@dataclass(slots=True, eq=False)
class DeviceProcess(WorkerTasks):
    """One worker process and what it was asked."""

    device: str
    executor: ProcessPoolExecutor
    started: Future[Any]

    @property
    def ready(self) -> bool:
        """Whether it can count."""
        return self.started.done() and self.started.exception() is None


@dataclass(slots=True)
class LocalPool:
    """A process for each device; one that dies is started again."""

    devices: tuple[str, ...]
    asked_batch: int | None
    processes: list[DeviceProcess] = field(default_factory=list)
    makers: dict[int, Maker] = field(default_factory=dict)
    died: int = 0  # before they could count

    def __post_init__(self) -> None:
        self.processes = [self._process(device) for device in self.devices]

    @property
    def workers(self) -> int:
        """How many are ready now."""
        return sum(process.ready for process in self.processes)

    def add(self, job: int, maker: Maker) -> None:
        """Say how a job's network is built, before its first task."""
        self.makers[job] = maker

    def room(self) -> int:
        """How many more tasks they would take now."""
        return sum(MAX_ASKED - len(process.tasks) for process in self.processes if process.ready)

    def send(self, task: Task) -> None:
        """Hand a task to the one with the fewest; of equals to one that is at the same job."""
        process, new = choose((process for process in self.processes if process.ready), task)
        maker = self.makers[task.job] if new else None
        try:
            process.tasks[process.executor.submit(_count, task, maker)] = task.number
        except BrokenProcessPool:  # it has died meanwhile, which its next answer would tell
            lost: Future[TaskResult] = Future()
            lost.set_exception(BrokenProcessPool())
            process.tasks[lost] = task.number

    def receive(self) -> list[TaskResult]:
        """What has come back; waits a little where nothing has.

        Raises: DeviceError where processes die before they can count.
        """
        awaited: list[Future[Any]] = []
        for process in self.processes:
            awaited += list(process.tasks) if process.started.done() else [process.started]
        if not awaited:
            time.sleep(WAIT_SECONDS)
        wait(awaited, WAIT_SECONDS, FIRST_COMPLETED)
        results: list[TaskResult] = []
        for process in list(self.processes):
            results += self._results(process)
        return results

    def close(self) -> None:
        """End the processes; whatever they are at is drawn again."""
        # An image may take an hour: nobody waits for what is in hand.
        for child in multiprocessing.active_children():
            child.terminate()
        for process in self.processes:
            process.executor.shutdown(wait=True, cancel_futures=True)
        self.processes = []

    def _process(self, device: str) -> DeviceProcess:
        # spawn, not fork: CUDA and torch's thread pools do not survive a fork.
        context = multiprocessing.get_context("spawn")
        threads = max(1, (os.cpu_count() or 1) // len(self.devices))
        executor = ProcessPoolExecutor(
            1, mp_context=context, initializer=_start, initargs=(device, self.asked_batch, threads)
        )
        with _sigint_blocked():
            return DeviceProcess(device, executor, executor.submit(_started))

    def _results(self, process: DeviceProcess) -> list[TaskResult]:
        try:
            if process.started.done():
                process.started.result()
            done = [future for future in process.tasks if future.done()]
            results = [future.result() for future in done]
        except BrokenProcessPool:
            return self._replace_dead(process)
        for future in done:
            del process.tasks[future]
        return results

    def _replace_dead(self, process: DeviceProcess) -> list[TaskResult]:
        logging.getLogger(__name__).warning(
            "! the worker process on %s died (out of memory, or killed): another counts what it was at, which moves no "
            "vote",
            process.device,
        )
        if not process.ready:
            self.died += 1
            if self.died > STARTS * len(self.devices):
                raise DeviceError(
                    f"{self.died} worker processes died before they could count (out of memory, or killed); the rows "
                    "so far are kept: the same command goes on from them, with fewer --device entries if it was memory"
                )
        process.executor.shutdown(wait=False, cancel_futures=True)
        self.processes[self.processes.index(process)] = self._process(process.device)
        answered = [f for f in process.tasks if f.done() and not f.cancelled() and f.exception() is None]
        results = [future.result() for future in answered]
        return results + [TaskResult(number, None) for f, number in process.tasks.items() if f not in answered]


@contextmanager
def local_pool(execution: Execution) -> Iterator[LocalPool]:
    """A process for each device of an execution, until the block ends."""
    pool = LocalPool(execution.devices, execution.batch)
    try:
        yield pool
    finally:
        pool.close()


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """What is started inside hears no Ctrl-C: it imports for seconds before it can say what that is to do."""
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


_worker: Worker | None = None  # of this worker process


def _start(device: str, batch: int | None, threads: int) -> None:
    import threading

    import torch

    # A killed parent takes its workers along; they would wait for it forever, with the device's memory.
    threading.Thread(target=_follow_parent, daemon=True).start()

    # Ctrl-C reaches the whole process group: the parent ends the workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    near = bind_cores(device)
    torch.set_num_threads(min(threads, near or threads))
    global _worker  # a process's own, set once by its initializer
    _worker = Worker(device, batch)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _started() -> dict[str, Any]:
    if _worker is None:
        raise RuntimeError("a worker process was used before its initializer ran")
    return _worker.start()


def _count(task: Task, maker: Maker | None) -> TaskResult:
    if _worker is None:
        raise RuntimeError("a worker process was used before its initializer ran")
    return _worker.count(task, maker)
