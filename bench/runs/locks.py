"""One process at a time draws the rows of a run: another waits for it, and then draws what is missing."""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK, HOLDER = ".lock", ".holder"  # the second says who has the first
POLL_SECONDS = 0.5
REMIND_SECONDS = 600.0


@contextmanager
def drawing(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """The right to draw a run's rows, until the block ends or the process does; whether it had to be waited for.

    Without `wait` a filelock.Timeout is raised where another process has it. Any thread may end the block.

    A file system without locks is said, and drawn on without one: two processes may then draw the same images, of
    which one row counts. A folder that was removed meanwhile is there again, empty.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        waited = _acquire(lock, folder, wait=wait)
    except Timeout:  # an OSError by its class
        raise
    except (OSError, NotImplementedError) as error:
        logging.getLogger(__name__).warning(
            "! %s cannot be locked (%s): let no other process draw this run meanwhile", folder, error
        )
        yield False
        return
    try:
        with suppress(OSError):
            if (folder / HOLDER).exists() and not (folder / HOLDER).is_file():
                (folder / HOLDER).unlink()  # a pipe would be waited for
            (folder / HOLDER).write_text(json.dumps({"host": platform.node(), "pid": os.getpid()}), encoding="utf-8")
        yield waited
    finally:
        with suppress(OSError):
            (folder / HOLDER).unlink()
        lock.release()


def _acquire(lock: BaseFileLock, folder: Path, *, wait: bool) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise
    else:
        return False
    since, log = time.monotonic(), logging.getLogger(__name__)
    log.warning("! %s draws this run already: waiting until it ends (Ctrl-C ends this command alone)", _holder(folder))
    while True:
        try:
            lock.acquire(timeout=REMIND_SECONDS, poll_interval=POLL_SECONDS)
        except Timeout:
            log.warning("! %s still draws this run, after %d min", _holder(folder), (time.monotonic() - since) // 60)
        else:
            log.warning("! waited %d s for the other process: going on with what is missing", time.monotonic() - since)
            return True


def _holder(folder: Path) -> str:
    try:
        if not (folder / HOLDER).is_file():  # a pipe would be waited for
            return "another process"
        record = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"process {int(record['pid'])} on {str(record['host'])[:64]!r}"
    except (OSError, ValueError, TypeError, LookupError):
        return "another process"
