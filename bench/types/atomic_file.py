"""Files written whole or not at all, safe from a power cut; and what killed processes left of such writes removed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PART = re.compile(r"\..*\.part-(.*)-([0-9]+)-[0-9a-f]{6}", re.DOTALL)  # host and process of whoever writes it
_NAME_LETTERS = 30  # of the file's own name: 255 bytes are allowed for all
STALE_SECONDS = 86400.0  # untouched for longer, a temporary of another machine is nobody's


@contextmanager
def atomic_path(path: Path, *, first_wins: bool = False, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, for a file or a folder, that takes its place when the block ends well.

    `first_wins`: what another writer has put there meanwhile stays. `durable`: on the disk before it takes its place,
    and leftovers of dead writers in that folder are removed; without it, a reader still never sees half a file.
    """
    if durable:
        sweep(path.parent)
    name = f".{path.name[:_NAME_LETTERS]}.part-{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    part = path.with_name(name)
    try:
        yield part
        if durable:
            for each in (part, *part.rglob("*")):
                _sync(each)
        if first_wins:
            _put_first(part, path)
        else:
            part.replace(path)
    finally:
        with suppress(OSError):  # what ended the block says more
            _remove(part)
    if durable:
        sync_folder(path.parent)


def atomic_write(path: Path, content: str | bytes, *, first_wins: bool = False, durable: bool = True) -> None:
    """Write a file whole or not at all, text as UTF-8; the options are those of `atomic_path`."""
    with atomic_path(path, first_wins=first_wins, durable=durable) as part:
        part.write_bytes(content if isinstance(content, bytes) else content.encode())


def sync_folder(folder: Path) -> None:
    """Let a power cut not take the names in a folder; where its file system cannot, nothing is lost but that."""
    with suppress(OSError):
        _sync(folder)


def sweep(folder: Path) -> None:
    """Remove temporaries in a folder whose writers are dead."""
    with suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208  names suffice, and a folder may hold many
            if (match := _PART.fullmatch(name)) and _is_left(folder / name, match[1], int(match[2])):
                _remove(folder / name)


def is_dead(host: object, pid: object) -> bool:
    """Whether a process is provably gone: of this machine, with a number that no process has."""
    if host != platform.node() or type(pid) is not int or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _is_left(part: Path, host: str, pid: int) -> bool:
    if is_dead(host, pid):
        return True
    return host != platform.node() and time.time() - part.stat().st_mtime > STALE_SECONDS


def _put_first(part: Path, path: Path) -> None:
    try:
        os.link(part, path)  # fails where another was first
    except OSError:  # or on a file system without hard links
        if not path.exists():
            part.replace(path)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
