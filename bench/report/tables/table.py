"""What a table is made of: cells that know their unit and where they come from; no layout, no file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from bench.report import units
from bench.report.statistics import wilson

# "extrapolated", "projected": computed from what was measured or quoted; "stated": of a catalogue or this program.
Source = Literal["measured", "imported", "quoted", "extrapolated", "projected", "stated"]
# "share": a fraction whose cell bears the sign; "number": one in the words that people read, in a text.
Unit = Literal["text", "count", "fraction", "share", "l2", "seconds", "number"]
_UNSTORED = ("printed",)  # of a cell, in JSON


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
    printed: str = ""  # the value as a paper prints it, where that is another: "SmoothAdv" of smoothadv

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
            case "share", float(value):
                return units.percent(value)
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


def counted(successes: int, images: int, *, source: Source, origin: str, n: int, note: str = "") -> Cell:
    """A share of images, with its Wilson interval."""
    low, high = wilson(successes, images)
    return Cell(
        value=successes / images,
        unit="fraction",
        source=source,
        low=low,
        high=high,
        note=note,
        origin=origin,
        successes=successes,
        images=images,
        n=n,
    )


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its key in CSV and JSON, its title elsewhere."""

    key: str
    title: str
    radius: float | None = None  # l2, of certified accuracies
    source: Source | None = None  # of its cells, whatever the row's is, where the column's title says it


def radius_columns(radii: Sequence[float]) -> tuple[Column, ...]:
    """One column of certified accuracies a radius."""
    return tuple(
        Column(f"r={text}", f"r={text}", radius) for radius, text in zip(radii, units.grid(radii), strict=True)
    )


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
    short: tuple[str, ...] = ()  # what one line below a paper's table must say, in a few words each

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells does not fit {len(self.columns)} columns")
            own = {cell.source for cell, column in zip(row, self.columns, strict=True) if column.source is None}
            named = all(
                cell.source == (column.source or cell.source) for cell, column in zip(row, self.columns, strict=True)
            )
            if len(own) != 1 or not named:
                raise ValueError("a row must not mix what was measured with what was quoted")

    def text_column(self, k: int) -> bool:
        """Whether the column holds words, to stand left; numbers stand right."""
        return any(row[k].unit == "text" for row in self.rows)

    def shown_bold(self) -> frozenset[tuple[int, int]]:
        """Row and column of the cells to be printed bold: none in a column where all rows of a source would be."""
        shown: set[tuple[int, int]] = set()
        for k in range(len(self.columns)):
            for source in {row[0].source for row in self.rows}:
                own = [i for i, row in enumerate(self.rows) if row[0].source == source and row[k].value is not None]
                marked = [i for i in own if self.rows[i][k].bold]
                if len(marked) < len(own):
                    shown |= {(i, k) for i in marked}
        return frozenset(shown)

    def as_json(self) -> dict[str, Any]:
        """Plain values at full precision."""
        return {
            "name": self.name,
            "title": self.title,
            "caption": self.caption,
            "columns": [{"key": c.key, "title": c.title, "radius": c.radius} for c in self.columns],
            "rows": [[{k: v for k, v in asdict(c).items() if k not in _UNSTORED} for c in row] for row in self.rows],
            "notes": list(self.notes),
        }


def stated(
    title: str,
    columns: Iterable[str],
    rows: Iterable[Iterable[str]],
    *,
    words: int | None = None,
    caption: str = "",
    notes: Sequence[str] = (),
) -> Table:
    """A list as a table: texts, of which the first `words` columns (all without it) are words and the rest numbers.

    A second line of a text stands below the first.
    """
    titles = tuple(columns)
    lines = []
    for row in rows:
        parts = [text.partition("\n") for text in row]
        units_of = ["text" if words is None or k < words else "number" for k in range(len(parts))]
        lines.append(
            tuple(
                Cell(value=first, unit=unit, source="stated", note=rest)  # type: ignore[arg-type]
                for (first, _, rest), unit in zip(parts, units_of, strict=True)
            )
        )
    return Table(
        name=slug(title),
        title=title,
        caption=caption,
        columns=tuple(Column(slug(each), each) for each in titles),
        rows=tuple(lines),
        notes=tuple(notes),
    )


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
