"""The command line: commands parse, call one function, print. Heavy libraries wait until a command needs them."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """The script's entry: every failure becomes one line on stderr and an exit code."""
    # Before torch is loaded: its threads spin while they wait for each other, by default for so long that two are 2 to
    # 15 times slower than one as soon as another program wants a core. A short spin is as fast on an idle machine
    # (64 000 samples/s against 66 000, tiny net, 2 cores; no spin at all: 37 000).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from bench.cli.app import app
    from bench.errors import BenchError

    try:
        app(prog_name="rrcm-bench")
    except BenchError as error:
        fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except BrokenPipeError:  # `rrcm-bench ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f" {error.filename!r}" if error.filename else ""
        fail(f"the system refused{where}: {error.strerror or error}", 1)
    except Exception as error:  # the last door: a bug, which a user can only report
        if os.environ.get("RRCM_BENCH_TRACEBACK"):
            raise
        text = " ".join(str(error).split())
        fail(f"internal error, a bug: {type(error).__name__}: {text[:300]} (RRCM_BENCH_TRACEBACK=1 shows where)", 1)


def fail(message: str, code: int) -> None:
    """One line on stderr, and out."""
    print(f"rrcm-bench: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
