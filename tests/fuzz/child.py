"""One command in a process of its own, forked from one that has imported everything; and what became of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

MEMORY = 4 << 30  # bytes more than the parent has: a mutant that asks for more is told so
FILE = 100 << 20  # bytes
FINE = ("ok", "told")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command, and the words by which one fault is told from another."""

    kind: str  # ok, told (one line, and 1, 2 or 3), or what is wrong: internal error, crash, hang, ...
    detail: str = ""

    @property
    def fine(self) -> bool:
        return self.kind in FINE


def start(body: Callable[[], int], folder: Path) -> int:
    """Fork; run the body there, its output in files beside the folder; the child's process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY, own + MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder.parent / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = body()
    except BaseException:  # whatever it is, it must not climb into the parent's own stack
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def main(words: Sequence[str]) -> int:
    """The command line as the script's entry runs it; its exit code."""
    from bench.cli import main as enter

    sys.argv = ["rrcm-bench", *words]
    try:
        enter()
    except SystemExit as left:
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
            return 1
        return left.code or 0
    return 0


def finish(pid: int) -> None:
    """End a child and all that it has started."""
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            end(pid, signal.SIGKILL)


def judge(status: int, folder: Path, words: Sequence[str], *, refuse: bool) -> Outcome:
    """What became of a command that has ended."""
    out, err = ((folder.parent / name).read_bytes() for name in ("out", "err"))
    told = err.decode(errors="replace")
    if os.WIFSIGNALED(status):
        return Outcome("crash", signal.Signals(os.WTERMSIG(status)).name)
    code = os.WEXITSTATUS(status)
    last = (told.strip().splitlines() or [""])[-1]
    if "internal error" in told:
        return Outcome("internal error", last.partition("a bug: ")[2].partition(" (RRCM_BENCH")[0])
    if "Traceback (most recent" in told or code == 70:
        return Outcome("traceback", last)
    if code not in (0, 1, 2, 3, 130):
        return Outcome("exit code", f"{code} {last}")
    if (folder / "imported-by-name").exists():
        return Outcome("code", "a file was imported, or a pickle's code run")
    asked = any(".." in word for word in words)
    if not asked and [p.name for p in folder.parent.iterdir() if p.name not in ("out", "err", folder.name)]:
        return Outcome("outside", "something was written outside the folder")
    if re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", out + err):
        return Outcome("escape", "a control character was printed")
    if code in (1, 2) and not last:
        return Outcome("silent", f"exit code {code} without a word")
    # Of a plan whose other runs went on: each that failed, a line.
    listed = last.startswith("! ") and re.search(r"^\d+ of \d+ runs failed:$", told, re.MULTILINE)
    if code == 1 and not last.startswith("rrcm-bench: ") and not listed:
        return Outcome("not one line", last)
    if code == 0 and refuse:
        return Outcome("accepted", "it should have been refused")
    if code == 0 and "--json" in words and b"--json" not in out:
        try:
            json.loads(out, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
        except ValueError as error:
            return Outcome("json", f"not one JSON document: {error}")
    return Outcome("ok") if code == 0 else Outcome("told", last)


def threads() -> list[str]:
    """Names of this process's threads other than its first: what is forked from a process with threads may hang."""
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    own = Path("/proc/self/comm").read_text().strip()
    names.remove(own)
    return [name for name in names if not name.startswith("jemalloc")]  # pyarrow's allocator is ready for a fork


def copy(base: Path, folder: Path) -> None:
    """The sound files in a folder of their own."""
    folder.parent.mkdir(parents=True)
    shutil.copytree(base, folder)


def wait(pid: int, limit: float) -> int | None:
    """The status of a child that ends in time, or None; it is then ended."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    finish(pid)
    os.waitpid(pid, 0)
    return None
