"""Latency records on disk: JSON lines, only ever appended to; a torn last line is no record."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from bench.errors import StoreError
from bench.latency.records import FORMAT, LatencyRecord


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


def read(path: Path) -> tuple[LatencyRecord, ...]:
    """The file's records, in the order they were made; half a line, which a killed writer left, is passed over.

    Raises: StoreError for a file that is not there, or a whole line that is no record.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise StoreError(
            f"no latency records in {str(path)!r}: {error.strerror}; expected a file made by `rrcm-bench latency`"
        ) from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            record = json.loads(line)
        except ValueError:
            continue  # torn: JSON that ends in the middle
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            came = record.get("format") if isinstance(record, dict) else type(record).__name__
            raise StoreError(
                f"{str(path)!r} line {number} has format {came!r}, expected {FORMAT}; use the version that wrote it"
            )
        try:
            found.append(LatencyRecord.from_json(record))
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{str(path)!r} line {number} is no latency record ({error}); delete that line and measure again"
            ) from error
    return tuple(found)
