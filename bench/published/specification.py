"""Published tables that hold no certified accuracies: sizes, settings, probes; read and checked, not judged."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from bench.published.tables import ABSENT, text_of
from bench.types.errors import ReportError

_FOLDER = Path(__file__).with_name("sheets")
_KINDS: Mapping[str, type | tuple[type, ...]] = {"text": str, "count": int, "fraction": (int, float)}

Value = str | int | float | None
Unit = Literal["text", "count", "fraction"]


@dataclass(frozen=True, slots=True)
class SheetColumn:
    """One column."""

    key: str
    title: str
    unit: Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One table as published."""

    name: str  # "table3"
    title: str
    source: str
    facts: str  # what a method's own rows for it are called: "sizes"
    columns: tuple[SheetColumn, ...]
    rows: tuple[Mapping[str, Value], ...]  # by column; None where the paper prints nothing
    notes: tuple[str, ...]


def load_sheet(name: str) -> Sheet:
    """A published table by its name, such as "table3".

    Raises: as `text_of` and `parse_sheet`.
    """
    return parse_sheet(name, text_of(name, _FOLDER))


def parse_sheet(name: str, text: str) -> Sheet:
    """A table from its TOML, every cell checked.

    Raises: ReportError naming what is off.
    """
    try:
        record: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as problem:
        raise ReportError(f"published table {name!r} is not TOML: {problem}; mend its TOML file") from problem
    try:
        columns = tuple(SheetColumn(**each) for each in record["columns"])
        rows = tuple(record["rows"])
        made = Sheet(
            name=name,
            title=record["title"],
            source=record["source"],
            facts=record["facts"],
            columns=columns,
            rows=tuple(_row(name, row, columns) for row in rows),
            notes=tuple(record.get("notes", ())),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        raise ReportError(
            f"published table {name!r}: expected title, source, facts, [[columns]] and [[rows]], got {problem}; "
            "mend its TOML file"
        ) from problem
    return made


def _row(name: str, row: Mapping[str, Any], columns: tuple[SheetColumn, ...]) -> Mapping[str, Value]:
    keys = {column.key for column in columns}
    if not isinstance(row, dict) or set(row) != keys:
        raise ReportError(
            f"published table {name!r}: expected cells for {sorted(keys)}, got {list(row)}; mend its TOML file"
        )
    for column in columns:
        value = row[column.key]
        if value != ABSENT and (not isinstance(value, _KINDS[column.unit]) or isinstance(value, bool)):
            raise ReportError(
                f"published table {name!r}: expected a {column.unit} for {column.key}, got {value!r}; mend its TOML"
            )
    return {key: None if value == ABSENT else cast("Value", value) for key, value in row.items()}
