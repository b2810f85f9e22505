"""Quantities that the paper's headline claims are about, computed from published tables; no verdict, no wording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.published.tables import PublishedRow, PublishedTable, load
from bench.report.hypothesis_tests import two_proportions


@dataclass(frozen=True, slots=True)
class Derived:
    """A number and the rows that it took."""

    value: float
    rows: tuple[str, ...]  # "table1/dds"
    detail: str = ""


def latency_ratio(table: str, ours: str, theirs: Sequence[str]) -> Derived:
    """Mean over their rows of their seconds per image by ours."""
    source = load(table)
    own = source.row(ours)
    ratios = [_seconds(source.row(key)) / _seconds(own) for key in theirs]
    shown = ", ".join(f"{key} {ratio:.2f}" for key, ratio in zip(theirs, ratios, strict=True))
    return Derived(fmean(ratios), _rows(table, (ours, *theirs)), shown)


def mean_gain(table: str, ours: str, theirs: Sequence[str]) -> Derived:
    """Mean over their rows and all radii of our certified accuracy minus theirs, as a fraction."""
    source = load(table)
    gains = [gain for key in theirs for _, gain in _gains(source, ours, key)]
    return Derived(fmean(gains), _rows(table, (ours, *theirs)))


def largest_gain(table: str, ours: str, theirs: Sequence[str]) -> Derived:
    """The largest gain over one of their rows at one radius, and where."""
    source = load(table)
    gain, radius, key = max((g, -r, key) for key in theirs for r, g in _gains(source, ours, key))
    return Derived(gain, _rows(table, (ours, *theirs)), f"against {key} at r={-radius:g}")


def smallest_lead(table: str, ours: str | Sequence[str], theirs: Sequence[str]) -> Derived:
    """The least, over radii, of the best of ours minus the best of theirs; not positive: no lead at all radii."""
    source = load(table)
    own = (ours,) if isinstance(ours, str) else tuple(ours)
    leads = []
    for k, radius in enumerate(source.radii):
        best, mine = (max((_known(source.row(key), k), key) for key in keys) for keys in (theirs, own))
        leads.append((mine[0] - best[0], radius, best[1]))
    lead, radius, key = min(leads)
    behind = [f"{k} at r={r:g}" for lead_, r, k in leads if lead_ <= 0]
    detail = f"least over {key} at r={radius:g}" + (f"; not ahead of {', '.join(behind)}" if behind else "")
    return Derived(lead, _rows(table, (*own, *theirs)), detail)


def smallest_mean_lead(table: str, ours: str, theirs: Sequence[str]) -> Derived:
    """The least, over radii, of our accuracy minus the mean of theirs."""
    source = load(table)
    own = source.row(ours)
    leads = [
        (_known(own, k) - fmean(_known(source.row(key), k) for key in theirs), radius)
        for k, radius in enumerate(source.radii)
    ]
    lead, radius = min(leads)
    return Derived(lead, _rows(table, (ours, *theirs)), f"least at r={radius:g}")


def best_of_grid(table: str, row: str, grid: str) -> Derived:
    """The largest difference between a row and the best of a grid's cells per radius; 0: the row is that best."""
    own, cells = load(table).row(row), load(grid)
    best = [max(_known(each, k) for each in cells.rows) for k in range(len(cells.radii))]
    gap = max(abs(_known(own, k) - value) for k, value in enumerate(best))
    return Derived(gap, (f"{table}/{row}", *_rows(grid, [each.key for each in cells.rows])))


def raw_accuracies(table: str, certified: str, raw: str, grid: str) -> Derived:
    """Largest gap between printed raw accuracies and r=0 of the best cells of the grid, over radii and both rows."""
    source, cells = load(table), load(grid)
    gaps = []
    for k, radius in enumerate(source.radii):
        at = cells.radii.index(radius)
        top = max(_known(each, at) for each in cells.rows)
        # Where cells tie, any of them may be meant.
        zeros = [_known(each, 0) for each in cells.rows if _known(each, at) == top]
        gaps += [
            abs(_known(source.row(certified), k) - top),
            min(abs(_known(source.row(raw), k) - z) for z in zeros),
        ]
    return Derived(
        max(gaps), (*_rows(table, (certified, raw)), *_rows(grid, [r.key for r in cells.rows])), "ties: either cell"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BoldCell:
    """One cell that a table prints bold."""

    table: str
    row: str
    radius: float
    value: float
    best: float  # of the other rows of the column
    rival: str  # the row that has it
    p: float | None  # unpaired, on the stated number of images; None where that is not stated

    @property
    def largest(self) -> bool:
        """Whether nothing in the column is larger."""
        return self.value >= self.best


def bold_cells(table: str) -> tuple[BoldCell, ...]:
    """Each bold cell against the best row of another method."""
    source = load(table)
    found = []
    # One method's other rows are no rivals: bold says that the method wins. A grid is of one method alone.
    one_method = len({row.method for row in source.rows}) == 1
    for row in source.rows:
        for k in row.bold:
            rivals = [
                (value, each.key)
                for each in source.rows
                if each.key != row.key and (one_method or each.method != row.method)
                if (value := each.values[k]) is not None
            ]
            best, rival = max(rivals)
            value = _known(row, k)
            n = source.images
            p = None if n is None else two_proportions(value * n, n, best * n, n)
            found.append(
                BoldCell(table=table, row=row.key, radius=source.radii[k], value=value, best=best, rival=rival, p=p)
            )
    return tuple(sorted(found, key=lambda cell: (cell.radius, cell.row)))


def _gains(source: PublishedTable, ours: str, theirs: str) -> list[tuple[float, float]]:
    own, other = source.row(ours), source.row(theirs)
    return [(r, _known(own, k) - _known(other, k)) for k, r in enumerate(source.radii)]


def _known(row: PublishedRow, k: int) -> float:
    value = row.values[k]
    if value is None:
        raise ValueError(f"row {row.key!r} of {row.source} prints no value at position {k}")
    return value


def _seconds(row: PublishedRow) -> float:
    if row.latency_s is None:
        raise ValueError(f"row {row.key!r} of {row.source} prints no latency")
    return row.latency_s


def _rows(table: str, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{table}/{key}" for key in keys)
