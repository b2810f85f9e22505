"""The command line: commands parse, call one function, print. Heavy libraries wait until a command needs them."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

TYPE_CHECKING = False  # typing takes 10 ms, in which Ctrl-C would show a traceback
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any, NoReturn


def main() -> None:
    """The script's entry: every failure becomes one line on stderr and an exit code."""
    asked: list[int] = []  # signals that have come
    deaf = _listen(asked)
    # Before torch is loaded: its threads spin while they wait for each other, by default for so long that two are 2 to
    # 15 times slower than one as soon as another program wants a core. A short spin is as fast on an idle machine
    # (64 000 samples/s against 66 000, tiny net, 2 cores; no spin at all: 37 000).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # A name may hold half a letter, and a terminal may not know all: neither is worth a failure.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if any("\0" in word for word in sys.argv):
            fail("a word of the command holds a zero byte, which no name of a file may", 2)
        code = _run()
        sys.exit(128 + asked[0] if asked else code)
    except KeyboardInterrupt:
        fail("interrupted", 128 + (asked or [2])[0])
    except Exception as error:
        # An import that a signal came into may fail with anything.
        if asked:
            fail("interrupted", 128 + asked[0])
        _tell(error)
    finally:
        deaf()


def _run() -> int:
    """The command; its exit code."""
    from bench.cli.app import app

    code: Any
    try:
        code = app(prog_name="rrcm-bench", standalone_mode=False)
    except Exception as error:
        # Wrong words. Their class has no public name: it is click's, of which typer may hold a copy of its own.
        told: Any = error
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            told.show()
            sys.exit(2)
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "rrcm-bench"
        fail(f"{told.format_message().rstrip('.')}; see {command} --help", 2)
    return code if isinstance(code, int) else 0


def _tell(error: Exception) -> NoReturn:
    """What went wrong, in one line, and out."""
    from bench.types.errors import BenchError
    from bench.types.plugins import in_use, kind_and_words

    if os.environ.get("RRCM_BENCH_TRACEBACK") and not (isinstance(error, BenchError) and error.__cause__ is None):
        raise error
    if isinstance(error, BenchError):
        fail(str(error), error.exit_code)
    if isinstance(error, BrokenPipeError):  # `rrcm-bench ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if isinstance(error, OSError):
        where = f" {error.filename!r}" if error.filename else ""
        fail(f"the system refused{where}: {error.strerror or error}", 1)
    if isinstance(error, MemoryError):
        fail("this machine has not enough memory for that; what is stored so far is kept", 1)
    if type(error).__name__ == "OutOfMemoryError":  # torch's own, which is not imported for its name
        reason = str(error).partition(". ")[0]
        fail(f"not enough memory for that ({reason}); what is stored so far is kept; expected a smaller --batch", 1)
    said, shown = kind_and_words(error), "(RRCM_BENCH_TRACEBACK=1 shows where)"
    # The last door: a bug, which a user can only report, or what a plug-in gave where the protocol has something else.
    if plugins := in_use():
        fail(f"{said}: the plug-in {plugins} breaks the protocol, or this is a bug of rrcm-bench {shown}", 1)
    fail(f"internal error, a bug: {said} {shown}", 1)


def fail(message: str, code: int) -> NoReturn:
    """One line on stderr, and out."""
    from bench.report.formats.escaping import one_line

    print(f"rrcm-bench: {one_line(message)}", file=sys.stderr)
    sys.exit(code)


def _listen(asked: list[int]) -> Callable[[], None]:
    """Let Ctrl-C and SIGTERM end the command in order, and never in a traceback; how to stop listening.

    `asked` gets the signals that come.
    """

    def quiet(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)

    def unraisable(lost: Any) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(lost)

    def stop(number: int, _frame: FrameType | None) -> None:
        if asked:  # the first one was lost in an import, or cleaning up takes too long
            os._exit(128 + number)
        asked.append(number)
        raise KeyboardInterrupt(number)

    hooks = sys.excepthook, sys.unraisablehook
    sys.excepthook, sys.unraisablehook = quiet, unraisable
    import signal
    import threading

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # The main thread alone hears signals.
    numbers = [n for n, handler in before.items() if handler is not signal.SIG_IGN] * (
        threading.current_thread() is threading.main_thread()
    )
    for number in numbers:
        signal.signal(number, stop)

    def deaf() -> None:
        for number in numbers:
            signal.signal(number, before[number])
        if hooks != (sys.__excepthook__, sys.__unraisablehook__):  # a caller's own; else quiet to the very end
            sys.excepthook, sys.unraisablehook = hooks

    return deaf
