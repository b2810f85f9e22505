"""One process a device on this machine, for a run on several; a single device needs none of this."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol

from bench.runs.execution.numa import keep_near
from bench.types import Execution, Row
from bench.types.errors import DeviceError
from bench.types.plugins import told_apart

MAX_ASKED = 2  # one row in the making and one more asked for: no process idles, little is lost by Ctrl-C


class Worker(Protocol):
    """What computes images on one device, as many at a time as it likes."""

    def rows(self, indices: Iterable[int]) -> Iterator[Row]:
        """One row an image, in any order."""


Maker = Callable[[str, int | None], Worker]  # (device, batch) -> worker; picklable


def processes(maker: Maker, indices: Sequence[int], execution: Execution) -> Iterator[Row]:
    """Rows of the images from one process a device, in any order, each as soon as it is there.

    A process takes images when it has room for them, so that the fast ones take more.
    Raises: what a worker raises; DeviceError if a worker process dies.
    """
    # spawn, not fork: CUDA and torch's thread pools do not survive a fork.
    context = multiprocessing.get_context("spawn")
    workers = len(execution.devices)
    threads = max(1, (os.cpu_count() or 1) // workers)
    taken = context.Value("q", 0)  # images that have been handed out, to any process
    # A pool of one for each device: what is asked of a process must not be answered by another that has run out.
    pools = [
        ProcessPoolExecutor(
            1,
            mp_context=context,
            initializer=_start,
            initargs=(maker, device, execution.batch, threads, tuple(indices), taken),
        )
        for device in execution.devices
    ]
    ended = False
    asked: dict[Future[Row | None], ProcessPoolExecutor] = {}
    try:
        with _unheard():
            for pool in pools * MAX_ASKED:
                asked[pool.submit(_next)] = pool
        while asked:
            for future in wait(asked, return_when=FIRST_COMPLETED).done:
                pool, row = asked.pop(future), future.result()
                if row is not None:
                    asked[pool.submit(_next)] = pool
                    yield row
        ended = True
    except BrokenProcessPool:
        raise DeviceError(
            f"a worker process of {workers} died (out of memory, or killed); the rows so far are kept: "
            "the same command goes on from them, with fewer --device entries or a smaller --batch if it was memory"
        ) from None
    finally:
        if not ended:
            # An image may take an hour: nobody waits for the ones in hand, their votes are drawn again.
            for child in multiprocessing.active_children():
                child.terminate()
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _unheard() -> Iterator[None]:
    """What is started inside hears no Ctrl-C: it imports for seconds before it can say what that is to do."""
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


_rows: Iterator[Row] | None = None  # of this worker process, for as long as there are images


def _start(maker: Maker, device: str, batch: int | None, threads: int, indices: tuple[int, ...], taken: Any) -> None:
    import threading

    import torch

    # A killed parent takes its workers along; they would wait for it forever, with the device's memory.
    threading.Thread(target=_follow_parent, daemon=True).start()

    # Ctrl-C reaches the whole process group: the parent ends the workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    near = keep_near(device)
    torch.set_num_threads(min(threads, near or threads))
    global _rows  # a process's own, set once by its initializer
    _rows = _made(maker, device, batch, _shared(indices, taken))


def _made(maker: Maker, device: str, batch: int | None, indices: Iterator[int]) -> Iterator[Row]:
    """The worker's rows; it is built with the first, for what an initializer raises is told to nobody."""
    yield from maker(device, batch).rows(indices)


def _shared(indices: tuple[int, ...], taken: Any) -> Iterator[int]:
    """Images that no other process has taken."""
    while True:
        with taken.get_lock():
            place = taken.value
            taken.value += 1
        if place >= len(indices):
            return
        yield indices[place]


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _next() -> Row | None:
    """This process's next row; None when no image is left for it."""
    if _rows is None:
        raise RuntimeError("a worker process was used before its initializer ran")
    with told_apart():  # here, for no frame of an exception crosses to the process that waits for it
        return next(_rows, None)
