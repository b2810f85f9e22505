"""Logs of runs that failed: beside the run folders, for a run that could not begin has none."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from bench.types.errors import BenchError
from bench.types.plugins import kind_and_words

FAILURES = "failures"  # folder of the logs


def log_of(run_folder: Path) -> Path:
    """Where the log of a run that failed is, whether or not its folder was made."""
    return run_folder.parent / FAILURES / f"{run_folder.name}.log"


def forget(run_folder: Path) -> None:
    """A run is done: that it failed before is nobody's concern any more."""
    with suppress(OSError):
        log_of(run_folder).unlink()
        log_of(run_folder).parent.rmdir()  # where it was the last


def failures_in(out: Path) -> dict[str, tuple[str, Path]]:
    """Name of each run folder whose run failed and was not computed since -> its line and its log."""
    found = {}
    for log in sorted((out / FAILURES).glob("*.log")):
        with suppress(OSError):
            if log.is_file():
                with log.open(encoding="utf-8", errors="replace") as lines:
                    found[log.stem] = lines.readline().strip(), log
    return found


def write_failure(folder: Path, line: str, trace: str) -> Path | None:
    """The log of a run that failed: one line, and where it came from."""
    log = log_of(folder)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"{line}\n\n{trace}", encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None
    return log


def one_line(error: BaseException) -> str:
    """What went wrong, in one line; of what was not raised on purpose the kind, too."""
    return " ".join(str(error).split()) if isinstance(error, BenchError) else kind_and_words(error)
