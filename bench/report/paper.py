"""The paper's tables by the names that --table takes; which of them there are, and how each is laid out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.published.tables import load
from bench.report.class_probability import NAME as PROBABILITY
from bench.report.tables.class_probability import probability_tables
from bench.report.tables.compare_published import beside
from bench.report.tables.field_rows import field_tables
from bench.report.tables.pairs import NAME as PAIRS
from bench.report.tables.pairs import pair_tables
from bench.report.tables.sigma_grid import GRID, grid_tables, own_grid_tables, raw_tables, trained_at
from bench.report.tables.specification import sheet_table
from bench.report.tables.table import Table
from bench.runs.store import Run
from bench.types.errors import ReportError

SHEETS = ("table3", "table4", "table5", "table6")
GRIDS = {
    "table7": ("table7",),
    "table8": ("table8",),
    "table9": ("table9",),
    "rebuttal2": ("rebuttal2_025", "rebuttal2_100"),
}
RAW = "raw"
FIELD = "field"  # what others publish of themselves
OWN = (GRID, PAIRS)  # nothing quoted in them
WORDS = f"1 to 9, rebuttal1, rebuttal2, raw, {GRID}, {PAIRS}, {FIELD} or {PROBABILITY}"


def table_name(table: int | str) -> str:
    """The published table's own name: "1" -> "table1".

    Raises: ReportError for one that the paper does not have.
    """
    text = str(table)
    name = f"table{text}" if text.isdecimal() else text
    if name not in (*SHEETS, *GRIDS, RAW, GRID, PAIRS, FIELD, PROBABILITY, "table1", "table2", "rebuttal1"):
        raise ReportError(
            f"expected --table 1 (imagenet), 2 (cifar10), or another of {WORDS}, got {text!r}; "
            "leave it out for your runs alone"
        )
    return name


def paper_tables(
    name: str, runs: Sequence[Run], paths: Sequence[Path] = (), bound: str = "pa", alpha: float | None = None
) -> tuple[Table, ...]:
    """A table that is no envelope over sigma: of the paper, of its field, or of own runs alone.

    Raises: ReportError as the tables' own.
    """
    if name in SHEETS:
        return (sheet_table(name, paths),)
    if name == FIELD:
        return field_tables()
    if name == PAIRS:
        return pair_tables(runs, bound, alpha)
    if name == PROBABILITY:
        return probability_tables(runs, alpha)
    if name == RAW:
        return raw_tables(runs, load(RAW), bound, alpha)
    trained = trained_at(runs)
    if name == GRID:
        return own_grid_tables(runs, trained, bound, alpha)
    made: list[Table] = []
    for each in GRIDS[name]:
        published = load(each)
        made += beside(grid_tables(runs, published, trained, bound, alpha), published, runs, trained=trained)
    return tuple(made)
