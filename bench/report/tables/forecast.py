"""A forecast as tables: device hours by both certifiers, and each schedule's time and efficiency over devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.report import units
from bench.report.tables.table import Cell, Column, Line, Source, Table, Unit, slug
from bench.timing.forecast.forecast import QUOTED, Forecast

SCHEDULES: Mapping[str, str] = {
    "by_look": "pieces of looks to any device (this package)",
    "by_image": "whole images to the device that is free",
    "by_share": "equal shares of the images, fixed beforehand",
}
NOTES = (
    (
        "seconds a sample are quoted from the paper or given by the user, never measured here; where they are quoted, "
        "a GPU is one of the paper's (A800)"
    ),
    (
        "samples an image: every method is taken to ask for those of the log's network; one that is more accurate at a "
        "radius asks for other ones"
    ),
    (
        "an image that is wrong or abstains in a log leaves its true class's probability open: taken evenly below its "
        "bound"
    ),
    (
        "the schedule is simulated with the driver's own code; reading and decoding images and building networks is "
        "not in it"
    ),
    "the two other schedules are priced without a driver and without half-filled passes: what they could reach at best",
)


def forecast_tables(forecasts: Sequence[Forecast]) -> tuple[Table, ...]:
    """The hours of every method, all its noise levels together; and, where any is split, the devices."""
    first = forecasts[0]
    sigmas = ", ".join(f"{s:g}" for s in sorted({each.sigma for each in forecasts}))
    demands = dict.fromkeys(each.demand for each in forecasts)
    hours = _table(
        "hours",
        f"GPU-hours of {units.count(first.images)} images, n = {units.count(first.n)}, sigma {sigmas} together",
        ("method", "a sample", "origin", "fixed n, GPU-h", "published n, GPU-h", "sequential, GPU-h", "times"),
        [_hours_line(forecasts, key) for key in dict.fromkeys(each.method.key for each in forecasts)],
        tuple(
            f"sigma {demand.sigma:g}: {units.count(round(demand.samples))} samples an image at radii "
            f"{', '.join(f'{r:g}' for r in demand.radii)}, from the {demand.images} images of {demand.network}"
            for demand in demands
        ),
    )
    split = _table(
        "devices",
        "over devices, simulated",
        (
            *("method", "sigma", "GPUs", "fixed n", "sequential"),
            *("efficiency, by look", "whole images", "fixed shares"),
        ),
        [_split_line(each, k) for each in forecasts for k in range(len(each.splits))],
        NOTES,
    )
    return (hours, split) if split.rows else (hours,)


def _hours_line(forecasts: Sequence[Forecast], key: str) -> Line:
    """A method: hours fixed, at its published n, and sequential; "a sample" is what its origin says."""
    own = [each for each in forecasts if each.method.key == key]
    method = own[0].method
    fixed, sequential = sum(e.fixed_hours for e in own), sum(e.sequential_hours for e in own)
    published = sum(e.own_hours for e in own if e.own_hours is not None)
    cells: tuple[tuple[str | int | float | None, Unit], ...] = (
        (method.title, "text"),
        (f"{1000 * method.seconds:.3g} ms", "number"),
        (method.origin, "text"),
        (_hours(fixed), "number"),
        (f"{_hours(published)} (n = {units.count(method.own_n)})" if method.own_n else None, "number"),
        (_hours(sequential), "number"),
        (f"{fixed / sequential:.1f}", "number"),
    )
    return _line(cells, method.source if method.origin == QUOTED else method.origin)


def _split_line(each: Forecast, k: int) -> Line:
    split = each.splits[k]
    return _line(
        (
            *((each.method.title, "text"), (units.noise_level(each.sigma), "text"), (str(split.devices), "text")),
            *((split.fixed.seconds, "seconds"), (split.by_look.seconds, "seconds")),
            *((getattr(split, name).efficiency(split.devices), "share") for name in SCHEDULES),
        ),
        "simulated",
    )


def _line(cells: Sequence[tuple[str | int | float | None, Unit]], origin: str) -> Line:
    source: Source = "projected"  # hours that nobody has spent
    return tuple(Cell(value=value, unit=unit, source=source, origin=origin) for value, unit in cells)


def _table(name: str, title: str, columns: Sequence[str], rows: Sequence[Line], notes: Sequence[str]) -> Table:
    return Table(
        name=f"forecast-{name}",
        title=title,
        caption="",
        columns=tuple(Column(slug(each), each) for each in columns),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _hours(hours: float) -> str:
    return units.count(round(hours)) if hours >= 10 else f"{hours:.2g}"
