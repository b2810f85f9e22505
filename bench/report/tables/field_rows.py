"""Numbers that others publish of themselves: quoted rows alone, in tables in which no run of ours ever stands."""

from __future__ import annotations

from bench.published.specification import load_sheet
from bench.published.tables import PublishedTable, load
from bench.report import units
from bench.report.tables.table import Cell, Column, Line, Table, Unit

SMOOTHED = ("field_imagenet", "field_cifar10")
SHEETS = ("lipschitz",)


def field_tables() -> tuple[Table, ...]:
    """Certified accuracies of smoothed classifiers, each row with its source, N and images; and deterministic ones."""
    return (*(_smoothed(load(name)) for name in SMOOTHED), *map(quoted_sheet, SHEETS))


def quoted_sheet(name: str) -> Table:
    """A published sheet by itself."""
    sheet = load_sheet(name)

    def cells(row: Line) -> Line:
        return (Cell(value="quoted", unit="text", source="quoted", origin=sheet.source), *row)

    rows = [
        tuple(Cell(value=row[c.key], unit=c.unit, source="quoted", origin=sheet.source) for c in sheet.columns)
        for row in sheet.rows
    ]
    return Table(
        name=f"published-{sheet.name}",
        title=f"{sheet.title} ({sheet.source})",
        caption="quoted, not measured here",
        columns=(Column("source", "source"), *(Column(c.key, c.title) for c in sheet.columns)),
        rows=tuple(map(cells, rows)),
        notes=sheet.notes,
    )


def _smoothed(published: PublishedTable) -> Table:
    rows = []
    for row in published.rows:
        words: tuple[tuple[str | int | None, Unit], ...] = (
            ("quoted", "text"),
            (row.title, "text"),
            ("best" if row.sigma is None else units.noise_level(row.sigma), "text"),
            (row.n, "count"),
            (row.images, "count"),
            (row.subset or "not stated", "text"),
            ("not stated" if row.params_millions is None else f"{row.params_millions:g}M", "text"),
        )
        fractions = (
            Cell(value=value, unit="fraction", source="quoted", origin=row.source, n=row.n, images=row.images)
            for value in row.values
        )
        rows.append(
            (
                *(Cell(value=value, unit=unit, source="quoted", origin=row.source) for value, unit in words),
                *fractions,
                Cell(
                    value=f"{row.source}{f'; {row.note}' if row.note else ''}",
                    unit="text",
                    source="quoted",
                    origin=row.source,
                ),
            )
        )
    titles = (("source", "source"), ("method", "method"), ("sigma", "sigma"), ("n", "N"), ("images", "images"))
    return Table(
        name=published.name.replace("_", "-"),
        title=published.title,
        caption=f"quoted, not measured here; n0={published.n0}, alpha={units.level(published.alpha or 0.0)}",
        columns=(
            *(Column(key, title) for key, title in titles),
            *(Column("subset", "which images"), Column("params", "parameters")),
            # No radius: these columns are never made bold, checked or compared with a run's.
            *(Column(f"r={text}", f"r={text}") for text in units.grid(published.radii)),
            Column("where", "where"),
        ),
        rows=tuple(rows),
        notes=published.notes,
    )
