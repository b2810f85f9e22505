"""Published rows as cells that say so, and when they may stand beside measured ones."""

from __future__ import annotations

from bench.data.installed import installed_dataset
from bench.published.tables import PublishedTable, load
from bench.report import units
from bench.report.grouping import Group
from bench.report.tables.table import Cell, Column, Line, Table, Unit, radius_columns, slug
from bench.types.errors import ReportError

# What --table names, besides the numbers: one row a method at its best sigma, as Tables 1 and 2.
ENVELOPES = ("table1", "table2", "rebuttal1")
_BOUND = "pa"  # the published rows' own


def published_table(table: int | str) -> PublishedTable:
    """The published Table 1 (ImageNet), 2 (CIFAR-10) or that of the first rebuttal (KatherColon).

    Raises: ReportError for another one.
    """
    name = f"table{table}" if str(table).isdecimal() else str(table)
    if name not in ENVELOPES:
        raise ReportError(
            f"expected --table 1 (imagenet), 2 (cifar10) or rebuttal1 (kathercolon), got {table!r}; "
            "leave it out for your runs alone"
        )
    return load(name)


def misfit(group: Group, published: PublishedTable, *, any_radii: bool = False) -> str:
    """Why the published rows may not stand beside the group's, or nothing where they may.

    `any_radii`: the group is scored at the published radii, whatever its dataset's own are.
    """
    spec = group.runs[0].spec
    # l2 radii in other pixels are other radii: rows of another size do not stand beside the published ones.
    if spec.shape != _shape(published):
        return f"images of {'x'.join(map(str, spec.shape))} pixels, whose l2 radii are other radii"
    if group.bound != _BOUND:
        return f"bound {group.bound}, while the published rows are of bound {_BOUND}"
    if published.alpha is not None and group.alpha != published.alpha:
        return f"alpha={units.level(group.alpha)}, while the published rows have {units.level(published.alpha)}"
    return "" if any_radii or published.radii == group.radii else "other radii"


def _shape(published: PublishedTable) -> tuple[int, int, int] | None:
    source = installed_dataset(published.dataset)
    return published.shape or (source.shape if source else None)


def quoted(published: PublishedTable) -> list[Line]:
    """One line a published row, in the columns of an envelope table; no interval, since their images are not known."""
    lines = []
    for row in published.rows:
        origin = f"{row.source}, row {row.title}"
        how = f"{origin}; latency {row.latency_measured}" if row.latency_measured else origin
        rest = (
            _quoted("quoted", "text", origin),
            _quoted(row.title, "text", origin),
            _quoted(row.n, "count", origin),
            _quoted(published.images, "count", origin),
            _quoted(row.latency_s, "seconds", how, n=row.n),
        )
        cells = (_quoted(value, "fraction", origin, n=row.n, images=published.images) for value in row.values)
        lines.append((*rest, *cells))
    return lines


def published_notes(published: PublishedTable) -> list[str]:
    """What keeps the published rows from being measured ones."""
    alpha = "" if published.alpha is None else f", alpha={units.level(published.alpha)}"
    return [
        f"quoted rows: {published.source}{alpha}; not measured here: other images, each row its own N",
        *(
            (f"latency: seconds per certified image as published ({published.hardware}); never measured here",)
            if any(row.latency_s is not None for row in published.rows)
            else ()
        ),
        *(f"quoted rows: {note}" for note in (*published.footnotes, *published.notes)),
    ]


def published_alone(published: PublishedTable) -> Table:
    """The published table by itself, for want of measured rows that may stand beside it."""
    return Table(
        name=f"published-{slug(published.dataset)}",
        title=f"{published.title} ({published.source})",
        caption="quoted, not measured here",
        columns=(
            *(Column("source", "source"), Column("method", "method"), Column("n", "N"), Column("images", "images")),
            Column("latency", "latency"),
            *radius_columns(published.radii),
        ),
        rows=tuple(quoted(published)),
        notes=tuple(published_notes(published)),
    )


def _quoted(
    value: str | int | float | None, unit: Unit, origin: str, n: int | None = None, images: int | None = None
) -> Cell:
    return Cell(value=value, unit=unit, source="quoted", origin=origin, n=n, images=images)
