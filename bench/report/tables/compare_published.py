"""Which published value a cell stands for, and where the two differ by more than a tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.published.tables import PublishedRow, PublishedTable
from bench.report import units
from bench.report.accuracy import name
from bench.report.tables.accuracy import FROM_BELOW
from bench.report.tables.table import Table
from bench.runs.store import Run
from bench.types import Scalar
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from bench.published.logs.store import Imported


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A cell beside its published value."""

    table: str
    row: str  # the published row: "table1/rrcm-b"
    column: str
    source: str
    value: float  # fractions
    published: float

    @property
    def gap(self) -> float:
        """What the cell has more than the published one, as a fraction."""
        return self.value - self.published

    def words(self) -> str:
        """One line for a person."""
        return (
            f"{self.row} {self.column}: {self.source} {units.points(self.value)}, published "
            f"{units.points(self.published)} ({'+' if self.gap > 0 else ''}{units.points(round(self.gap, 9))} points)"
        )


def beside(
    tables: Sequence[Table],
    published: PublishedTable,
    runs: Sequence[Run],
    imports: Sequence[Imported] = (),
    trained: Mapping[str, float] | None = None,
) -> tuple[Table, ...]:
    """The tables with each measured or imported accuracy beside the published one that it stands for.

    A row stands for a published one of its method, settings, N, and, where the published row has them, its noise levels
    in certification and training (`trained`: run's digest -> sigma of its weights). A measured row without, or with two
    of them, stands for none; a note says why. Tables of quoted rows are left as they are.
    """
    by_run = {run.spec.digest(): run for run in runs}
    by_log = {log.origin.digest(): log for log in imports}
    return tuple(_beside(table, published, by_run, by_log, trained or {}) for table in tables)


def differences(tables: Sequence[Table], tolerance: float) -> tuple[tuple[Difference, ...], int]:
    """The cells that differ from their published values by more than the tolerance (a fraction), and how many have one.

    Raises: ReportError where none has: a check of nothing would pass whatever is wrong.
    """
    checked: dict[tuple[str, str, str], Difference] = {}
    for table in tables:
        for row in table.rows:
            for column, cell in zip(table.columns, row, strict=True):
                # A lower bound says nothing of a published value above it.
                if cell.against is not None and isinstance(cell.value, float) and cell.note != FROM_BELOW:
                    checked.setdefault(
                        (cell.against_row, column.key, cell.origin),
                        Difference(
                            table=table.name,
                            row=cell.against_row,
                            column=column.key,
                            source=cell.source,
                            value=cell.value,
                            published=cell.against,
                        ),
                    )
    if not checked:
        raise ReportError(
            "nothing to check: expected measured or imported rows of a published table's method, N and images; give "
            "--table with such --runs"
        )
    # 1e-9: 0.768 - 0.758 is 0.010000000000000009.
    return tuple(each for each in checked.values() if abs(each.gap) > tolerance + 1e-9), len(checked)


def _beside(
    table: Table,
    published: PublishedTable,
    by_run: Mapping[str, Run],
    by_log: Mapping[str, Imported],
    trained: Mapping[str, float],
) -> Table:
    rows, notes = [], []
    together = any(row[0].source == "quoted" for row in table.rows)
    for row in table.rows:
        origins = row[0].origin.split()
        runs = [by_run[origin] for origin in origins if origin in by_run]
        logs = [by_log[origin] for origin in origins if origin in by_log]
        # Measured rows that may not stand beside the quoted ones are not to be checked against them either.
        if row[0].source == "quoted" or not (logs or (runs and together)):
            rows.append(row)
            continue
        if runs:
            fitting = [each for each in published.rows if all(_stands(run, each, trained) for run in runs)]
            who = name(runs[0]) if len(runs) == 1 else f"{runs[0].spec.method} ({len(runs)} runs)"
            n = runs[0].spec.n
        else:
            fitting = [each for each in published.rows if all(_log_stands(log, each) for log in logs)]
            who, n = logs[0].origin.method, logs[0].origin.n
        if len(fitting) != 1:
            why = (
                f"fits several published rows: {', '.join(each.key for each in fitting)}"
                if fitting
                else f"has no published row of its method and settings at N={units.count(n)}"
            )
            notes.append(f"{who} {why}; nothing to check it against")
            rows.append(row)
            continue
        if logs and published.alpha is not None and logs[0].origin.alpha != published.alpha:
            notes.append(
                f"! {who} is of alpha={units.level(logs[0].origin.alpha)}; {published.source} states "
                f"{units.level(published.alpha)}"
            )
        values = dict(zip(published.radii, fitting[0].values, strict=True))
        label = f"{published.name}/{fitting[0].key}"
        rows.append(
            tuple(
                replace(cell, against=values[column.radius], against_row=label)
                if column.radius is not None and values.get(column.radius) is not None
                else cell
                for column, cell in zip(table.columns, row, strict=True)
            )
        )
    return replace(table, rows=tuple(rows), notes=(*table.notes, *dict.fromkeys(notes)))


def _stands(run: Run, row: PublishedRow, trained: Mapping[str, float]) -> bool:
    spec = run.spec
    return (
        row.method == spec.method
        and not spec.random_weights
        and all(_same(spec.params.get(key), value) for key, value in row.params.items())
        and row.n in (None, spec.n)
        and row.sigma in (None, spec.sigma)
        and (row.sigma_train is None or row.sigma_train == trained.get(spec.digest()))
    )


def _log_stands(log: Imported, row: PublishedRow) -> bool:
    origin = log.origin
    named = origin.method.lower().replace(" ", "-").replace("_", "-")
    own = {row.key, row.title.lower().replace(" ", "-")} | ({row.method} if not row.params else set())
    # A log does not say at which sigma its weights were trained.
    return named in own and row.n in (None, origin.n) and row.sigma in (None, origin.sigma) and row.sigma_train is None


def _same(own: Scalar | None, wanted: str) -> bool:
    return own is not None and str(own).lower() == wanted.lower()
