"""Which cells of a table are bold: those not significantly worse than the best, or the best alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import median
from typing import TYPE_CHECKING

from bench.report import units
from bench.report.hypothesis_tests import LEVEL, POWER, Discordance, detectable, holm, mcnemar, two_proportions
from bench.report.per_image import Verdicts, common, of_log, of_run
from bench.report.tables.accuracy import FROM_BELOW
from bench.report.tables.table import Cell, Source, Table
from bench.runs.store import Run
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from bench.published.logs.store import Imported

MODES = ("significant", "best", "none")


_Judge = Callable[[str, tuple[float, ...]], "Verdicts | None"]  # a cell's origin, all radii of its table


@dataclass(frozen=True, slots=True)
class _Rivalry:
    """The best cell of a column against another one."""

    row: int
    column: int
    p: float
    discordance: float | None  # None: unpaired
    images: int


def emphasise(
    tables: Sequence[Table],
    runs: Sequence[Run],
    imports: Sequence[Imported] = (),
    *,
    mode: str = "significant",
    bound: str = "pa",
    alpha: float | None = None,
    counts: Callable[[str], bool] | None = None,
) -> tuple[Table, ...]:
    """The tables with bold cells, and notes on what bold means and which difference could be seen.

    "significant": per column all that are not significantly worse than the best; exact McNemar on common images where
    both have their verdicts, two proportions elsewhere; Holm over all such comparisons of a table. "best": the largest
    alone, as papers do. Rows of one source are ranked among themselves: measured, imported and quoted rows are never of
    the same images. `counts`: which fingerprints the cells are of, where not all.
    Raises: ReportError for another mode.
    """
    if mode not in MODES:
        raise ReportError(f"expected bold {', '.join(MODES)}, got {mode!r}")
    if mode == "none":
        return tuple(tables)
    by_run = {run.spec.digest(): run for run in runs}
    by_log = {log.origin.digest(): log for log in imports}

    @cache
    def verdicts(origin: str, radii: tuple[float, ...]) -> Verdicts | None:
        if origin in by_run:
            return of_run(_kept(by_run[origin], counts), radii, bound, alpha)
        # Another alpha than the log's own is read from counts that are near, not known: no verdicts to pair.
        if origin in by_log and alpha in (None, by_log[origin].origin.alpha):
            return of_log(by_log[origin], radii)
        return None

    return tuple(_table(table, mode, verdicts) for table in tables)


def _kept(run: Run, counts: Callable[[str], bool] | None) -> Run:
    return run if counts is None else replace(run, rows=tuple(row for row in run.rows if counts(row.fingerprint)))


def _table(table: Table, mode: str, verdicts: _Judge) -> Table:
    bold: set[tuple[int, int]] = set()
    rivalries: list[_Rivalry] = []
    unknown = False
    radii = tuple(column.radius for column in table.columns if column.radius is not None)
    sources: dict[Source, list[int]] = {}
    for number, row in enumerate(table.rows):
        sources.setdefault(row[0].source, []).append(number)
    for k, column in enumerate(table.columns):
        if column.radius is None:
            continue
        for rows in sources.values():
            cells = {number: table.rows[number][k] for number in rows}
            # A lower bound can be neither best nor worse than the best.
            values = {i: cell for i, cell in cells.items() if cell.value is not None and cell.note != FROM_BELOW}
            best = max(values, key=lambda number: (_value(values[number]), -number), default=None)
            # Where nothing is certified nothing is best, and one row has no rival.
            if best is None or not _value(values[best]) or len(rows) < 2:
                continue
            tied = {(number, k) for number, cell in values.items() if _value(cell) == _value(values[best])}
            bold |= tied
            if mode == "best":
                continue
            others = [number for number in values if (number, k) not in tied]
            tested = [_against(values[best], values[i], (i, k), column.radius, radii, verdicts) for i in others]
            unknown |= None in tested
            rivalries += [each for each in tested if each is not None]
    if mode == "significant":
        corrected = holm([each.p for each in rivalries])
        bold |= {(r.row, r.column) for r, p in zip(rivalries, corrected, strict=True) if p > LEVEL}
    if not bold:
        return table
    rows_made = tuple(
        tuple(replace(cell, bold=True) if (i, k) in bold else cell for k, cell in enumerate(row))
        for i, row in enumerate(table.rows)
    )
    short = "bold: " + ("the largest" if mode == "best" else "not significantly worse than the best")
    notes = (*table.notes, *_notes(mode, rivalries, unknown=unknown))
    return replace(table, rows=rows_made, notes=notes, short=(short, *table.short))


def _against(
    best: Cell, other: Cell, place: tuple[int, int], radius: float, radii: tuple[float, ...], verdicts: _Judge
) -> _Rivalry | None:
    """The test of two cells; None where nothing says of how many images they are."""
    one, two = verdicts(best.origin, radii), verdicts(other.origin, radii)
    if one is not None and two is not None and (shared := common(one, two)):
        at = radii.index(radius)
        pair = Discordance.of(*([v.by_image[key].certified[at] for key in shared] for v in (one, two)))
        # The best cell's lead over another set of images (of an incomplete run) is no lead on the common ones.
        return _Rivalry(*place, mcnemar(pair) if pair.difference > 0 else 1.0, pair.share, pair.images)
    if best.images is None or other.images is None:
        return None
    p = two_proportions(_value(best) * best.images, best.images, _value(other) * other.images, other.images)
    return _Rivalry(*place, p, None, min(best.images, other.images))


def _value(cell: Cell) -> float:
    return float(cell.value) if isinstance(cell.value, int | float) else 0.0


def _notes(mode: str, rivalries: Sequence[_Rivalry], *, unknown: bool) -> list[str]:
    if mode == "best":
        return ["bold: the largest of its column among rows of one source, however small its lead"]
    paired = [each for each in rivalries if each.discordance is not None]
    apart = [each for each in rivalries if each.discordance is None]
    how = " and ".join(
        filter(
            None,
            (
                f"{len(paired)} exact McNemar tests on common images" if paired else "",
                f"{len(apart)} unpaired tests, for their images are not known to be common" if apart else "",
            ),
        )
    )
    notes = [
        "bold: not significantly worse than the best of its column among rows of one source"
        + (f" ({how}; Holm over all {len(rivalries)} at {LEVEL:g})" if how else "")
    ]
    if unknown:
        notes.append("bold: rows whose number of images is not stated cannot be tested; only their best is bold")
    for kind, name in ((paired, "paired"), (apart, "unpaired")):
        if not kind:
            continue
        shares = [each.discordance for each in kind if each.discordance]
        typical = median(shares) if shares else None
        images = min(each.images for each in kind)
        if kind is paired and typical is None:
            continue
        least = detectable(images, typical)
        words = f"at the median discordance of {units.points(typical)} %, " if typical else ""
        found = f"{units.points(least)} points" if least is not None else "none, whatever the truth"
        notes.append(
            f"smallest difference that one {name} test finds with power {POWER:g}: {found} "
            f"({words}{units.count(images)} images, before Holm)"
        )
    return notes
