"""Tables as text: Markdown, CSV, JSON. Terminal, LaTeX and HTML have their own modules."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from bench.report.formats import escaping
from bench.report.formats.escaping import markdown as _markdown_text
from bench.report.tables.table import Cell, Table

FORMAT = 1  # of the CSV and JSON records
CSV_FIELDS = (
    *("table", "row", "column", "radius", "value", "unit", "source", "low", "high"),
    *("successes", "images", "n", "note", "row_note", "run", "published", "bold", "against", "against_row"),
)


def markdown(tables: Sequence[Table]) -> str:
    """Tables in GitHub's Markdown; rows that were not measured in italics."""
    from tabulate import tabulate

    parts = []
    for table in tables:
        shown = table.shown_bold()
        body = [
            [_markdown_cell(cell, bold=(i, k) in shown) for k, cell in enumerate(row)]
            for i, row in enumerate(table.rows)
        ]
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


def _markdown_cell(cell: Cell, *, bold: bool) -> str:
    first, *rest = (_markdown_text(line) for line in cell.lines())
    text = f"**{first}**" if bold else first
    text = text if cell.source == "measured" else f"*{text}*"
    return " ".join((text, *(f"<sub>{line}</sub>" for line in rest)))
