"""Tables as text: terminal, Markdown, CSV, JSON. LaTeX and HTML have their own modules."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.report.formats import escaping
from bench.report.formats.escaping import markdown as _markdown_text
from bench.report.tables.table import Cell, Table

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import TextType

FORMAT = 1  # of the CSV and JSON records
CSV_FIELDS = (
    *("table", "row", "column", "radius", "value", "unit", "source", "low", "high"),
    *("successes", "images", "n", "note", "row_note", "run", "published", "bold", "against", "against_row"),
)


def terminal(table: Table, *, intervals: bool = False) -> RichTable:
    """A table for a terminal; rows that were not measured dim, below a rule.

    `intervals`: show each cell's interval too, which asks for about 140 letters of width.
    """
    from rich.text import Text

    made = frameless(
        Text(escaping.terminal(table.title)), Text(escaping.terminal("\n".join((table.caption, *table.notes))))
    )
    for k, column in enumerate(table.columns):
        numeric = not table.text_column(k)
        title = Text(escaping.terminal(column.title))
        if numeric:  # never broken; where a terminal is too narrow even so, what is cut off is marked
            made.add_column(title, justify="right", no_wrap=True, overflow="ellipsis")
        else:  # gives way first, but never wholly
            made.add_column(title, justify="left", overflow="fold", min_width=6)
    for row, after in zip(table.rows, (*table.rows[1:], None), strict=True):
        # Text, not str: a method's title may hold [brackets], which rich would take for markup.
        made.add_row(
            *(
                Text("\n").join(
                    Text(escaping.terminal(line), style="bold" if c.bold and k == 0 else "")
                    for k, line in enumerate((c.main(), c.interval() if intervals else "", c.note))
                    if line
                )
                for c in row
            ),
            style="" if row[0].source == "measured" else "dim italic",
            end_section=after is not None and after[0].source != row[0].source,
        )
    return made


def frameless(title: TextType, caption: TextType | None = None) -> RichTable:
    """An empty table as results are printed: a rule below its head, no frame."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    return RichTable(
        title=title,
        caption=caption,
        caption_justify="left",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )


def markdown(tables: Sequence[Table]) -> str:
    """Tables in GitHub's Markdown; rows that were not measured in italics."""
    from tabulate import tabulate

    parts = []
    for table in tables:
        body = [[_markdown_cell(cell) for cell in row] for row in table.rows]
        align = ["left" if table.text_column(k) else "right" for k in range(len(table.columns))]
        text = tabulate(
            body,
            headers=[_markdown_text(column.title) for column in table.columns],
            tablefmt="github",
            disable_numparse=True,
            colalign=align if body else None,
        )
        notes = "\n".join(f"- {_markdown_text(note)}" for note in table.notes)
        parts.append(f"### {_markdown_text(table.title)}\n\n{_markdown_text(table.caption)}\n\n{text}\n\n{notes}\n")
    return "\n".join(parts)


def as_csv(tables: Sequence[Table]) -> str:
    """One line a cell, fractions at full precision, with source, interval, counts, n and the run's or log's digest."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for table in tables:
        for number, row in enumerate(table.rows):
            row_note = next((c.note for c, col in zip(row, table.columns, strict=True) if col.key == "method"), "")
            for column, cell in zip(table.columns, row, strict=True):
                quoted = cell.source == "quoted"
                writer.writerow(
                    "" if field is None else _csv_field(field)
                    for field in (
                        *(table.name, number, column.key, column.radius, cell.value, cell.unit, cell.source),
                        *(cell.low, cell.high, cell.successes, cell.images, cell.n, cell.note, row_note),
                        *(("", cell.origin) if quoted else (cell.origin, "")),
                        *("bold" if cell.bold else "", cell.against, cell.against_row),
                    )
                )
    return out.getvalue()


def as_json(tables: Sequence[Table]) -> str:
    """The tables as stored records, at full precision."""
    document = {"format": FORMAT, "tables": [t.as_json() for t in tables]}
    return escaping.json_text(json.dumps(document, indent=1, ensure_ascii=False)) + "\n"


def _csv_field(field: str | int | float) -> str:
    return escaping.spreadsheet(field) if isinstance(field, str) else repr(field)


def _markdown_cell(cell: Cell) -> str:
    first, *rest = (_markdown_text(line) for line in cell.lines())
    text = f"**{first}**" if cell.bold else first
    text = text if cell.source == "measured" else f"*{text}*"
    return " ".join((text, *(f"<sub>{line}</sub>" for line in rest)))
