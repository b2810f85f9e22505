"""One process a device on this machine, for a run on several; a single device needs none of this."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from bench.errors import DeviceError
from bench.types import Execution, Row

Worker = Callable[[int], Row]  # index of an image -> its row
Maker = Callable[[str, int | None], Worker]  # (device, batch) -> worker; picklable


def processes(maker: Maker, indices: Sequence[int], execution: Execution) -> Iterator[Row]:
    """Rows of the images from one process a device, in any order, each as soon as it is there.

    Raises: what a worker raises; DeviceError if a worker process dies.
    """
    # spawn, not fork: CUDA and torch's thread pools do not survive a fork.
    context = multiprocessing.get_context("spawn")
    devices = context.SimpleQueue()
    for device in execution.devices:
        devices.put(device)
    workers = len(execution.devices)
    threads = max(1, (os.cpu_count() or 1) // workers)
    waiting = iter(indices)
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(maker, devices, execution.batch, threads)
    )
    try:
        running: set[Future[Row]] = set()
        for index in waiting:
            running.add(pool.submit(_work, index))
            if len(running) < 2 * workers:  # one in hand and one waiting each: nobody idles, little is lost by Ctrl-C
                continue
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except (KeyboardInterrupt, GeneratorExit):
        # An image may take an hour: nobody waits for the ones in hand, their votes are drawn again.
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    except BrokenProcessPool:
        raise DeviceError(
            f"a worker process of {workers} died (out of memory, or killed); the rows so far are kept: "
            "the same command goes on from them, with fewer --device entries or a smaller --batch if it was memory"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: Worker | None = None  # of this worker process


def _start(maker: Maker, devices: Any, batch: int | None, threads: int) -> None:
    import signal
    import threading

    import torch

    # A killed parent takes its workers along; they would wait for it forever, with the device's memory.
    threading.Thread(target=_follow_parent, daemon=True).start()

    # Ctrl-C reaches the whole process group: the parent ends the workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    global _worker  # a process's own, set once by its initializer
    _worker = maker(devices.get(), batch)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(index: int) -> Row:
    if _worker is None:
        raise RuntimeError("a worker process was used before its initializer ran")
    return _worker(index)
