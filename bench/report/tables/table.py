"""What a table is made of: cells that know their unit and where they come from; no layout, no file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from bench.report import units

Source = Literal["measured", "imported", "quoted"]
Unit = Literal["text", "count", "fraction", "l2", "seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One entry of a table, in plain units."""

    value: str | int | float | None  # None: not reported
    unit: Unit
    source: Source
    low: float | None = None  # Wilson interval over the choice of images
    high: float | None = None
    note: str = ""  # shown below the value: "σ=0.50" of the winner, "37 of 100 images"
    origin: str = ""  # digest of the run, or published table and row
    successes: int | None = None  # the fraction as counted, where it was counted here
    images: int | None = None
    n: int | None = None  # samples per image behind it
    bold: bool = False  # of the set not significantly worse than the best, or the best, as the table's notes say
    against: float | None = None  # the published value that it stands for, where there is one
    against_row: str = ""  # whose: "table1/rrcm-b"

    def lines(self) -> tuple[str, ...]:
        """The cell as printed: the value, then its interval, then its note; certified radii rounded down."""
        return tuple(line for line in (self.main(), self.interval(), self.note) if line)

    def main(self) -> str:
        """The value alone; fractions in points, the column's title has the sign."""
        match self.unit, self.value:
            case _, None:
                return units.MISSING
            case "fraction", float(value):
                return units.points(value)
            case "l2", float(value):
                return units.certified_radius(value)
            case "seconds", (float() | int()) as value:
                return units.duration(value)
            case "count", int(value):
                return units.count(value)
        return str(self.value)

    def interval(self) -> str:
        """The interval in points, or nothing."""
        return "" if self.low is None or self.high is None else units.interval(self.low, self.high)


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its key in CSV and JSON, its title elsewhere."""

    key: str
    title: str
    radius: float | None = None  # l2, of certified accuracies


Line = tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Comparable rows under one caption; runs of other images or another n stand in other tables."""

    name: str  # unique in a report: "by-sigma-digits-1"
    title: str
    caption: str  # what is held fixed: images, n, alpha, bound, precision
    columns: tuple[Column, ...]
    rows: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells does not fit {len(self.columns)} columns")
            if len({cell.source for cell in row}) != 1:
                raise ValueError("a row must not mix what was measured with what was quoted")

    def text_column(self, k: int) -> bool:
        """Whether the column holds words, to stand left; numbers stand right."""
        return any(row[k].unit == "text" for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Plain values at full precision."""
        return {
            "name": self.name,
            "title": self.title,
            "caption": self.caption,
            "columns": [asdict(column) for column in self.columns],
            "rows": [[asdict(cell) for cell in row] for row in self.rows],
            "notes": list(self.notes),
        }


def slug(text: str) -> str:
    """The text as part of a file's name or a LaTeX label."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def numbered(tables: Sequence[Table]) -> tuple[Table, ...]:
    """The tables with names made unique: a second one of the same name ends in -2."""
    seen: dict[str, int] = {}
    unique = []
    for table in tables:
        seen[table.name] = seen.get(table.name, 0) + 1
        again = seen[table.name]
        unique.append(table if again == 1 else replace(table, name=f"{table.name}-{again}"))
    return tuple(unique)
