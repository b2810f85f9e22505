"""Latency records on disk: JSON lines, only ever appended to; a torn last line is no record."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bench.timing.records import FORMAT, LatencyRecord
from bench.types.errors import StoreError


def append(path: Path, records: Sequence[LatencyRecord]) -> None:
    """Add records at the end, each one line in one write.

    A writer that was killed may have left half a line: a new one starts on a line of its own.
    Raises: StoreError where the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        with path.open("a", encoding="utf-8") as file:
            for record in records:
                line = json.dumps(record.as_json(), separators=(",", ":"), allow_nan=False) + "\n"
                file.write(("\n" if torn else "") + line)
                torn = False
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(f"cannot write {str(path)!r}: {error.strerror}; give --out another file") from error


def read(path: Path, told: Callable[[str], None] | None = None) -> tuple[LatencyRecord, ...]:
    """The file's records, in the order they were made; half a line, which a killed writer left, is passed over.

    `told`: hears of each whole line that is no record, which is then left out; without it, the first is an error.
    Raises: StoreError for a file that is not there, or that holds lines and no record.
    """
    try:
        if path.exists() and not path.is_file():
            raise StoreError(f"{str(path)!r} is no file; expected one made by `rrcm-bench latency`")
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise StoreError(
            f"no latency records in {str(path)!r}: {error.strerror}; expected a file made by `rrcm-bench latency`"
        ) from error
    found, refused = [], []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            found.append(_record(line))
        except (ValueError, RecursionError) as error:
            if number == len(lines) or _torn(line):
                continue
            refused.append(f"{str(path)!r} line {number} {error}; delete that line and measure again")
            if told is None:
                raise StoreError(refused[0]) from error
            told(f"left out  {refused[-1]}")
    if refused and not found:
        raise StoreError(refused[0])
    return tuple(found)


def _record(line: bytes) -> LatencyRecord:
    """The record of a line.

    Raises: ValueError with what else it is.
    """
    try:
        record = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise ValueError(f"is not JSON ({error})") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        came = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise ValueError(f"has format {came!r}, expected {FORMAT}: use the version that wrote it")
    try:
        return LatencyRecord.from_json(record)
    except ValueError as error:
        raise ValueError(f"is no latency record ({error})") from error


def _torn(line: bytes) -> bool:
    """Whether a line ends in the middle: a killed writer leaves such, and the next begins on a line of its own."""
    return not line.rstrip().endswith(b"}")
