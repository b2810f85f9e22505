"""Accuracy over latency as published, and beside it what was timed here: the two never look alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.published.tables import PublishedRow, PublishedTable
from bench.report import units
from bench.report.figures.accuracy import ACCURACY, COLOURS, blank, put_legend
from bench.report.figures.label_placement import Box, Point, nearest, place
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A method that was timed and certified here."""

    title: str
    seconds: float  # per certified image
    values: tuple[float | None, ...]  # certified accuracies as fractions, at the radii of the published table
    params_millions: float | None
    device: str
    n: int | None
    quoted: bool = False  # the accuracies are the published ones: seconds alone are from here


@dataclass(frozen=True, slots=True)
class _Mark:
    title: str
    seconds: float
    height: float  # certified accuracy in percent
    millions: float | None
    measured: bool


def latency_figure(published: PublishedTable, radius: float | None = None, measured: Sequence[Timed] = ()) -> Figure:
    """Certified accuracy over seconds per image; marker area by parameters, hollow where unknown.

    Circles are as published, squares were `measured` here, and the device of each is named.
    `radius`: which column; None averages over all. Rows without a latency or such an accuracy are named, not drawn.
    Source: the form of Lei et al., ICLR 2025, Figure 1.
    Raises: ReportError for a radius that the table does not have, or a table with nothing to draw.
    """
    if radius is not None and radius not in published.radii:
        raise ReportError(f"expected a radius of {published.radii!r}, got {radius!r}")
    drawn: list[_Mark] = []
    missing = []
    for row in published.rows:
        height = _height(row.values, published.radii, radius)
        if height is None or row.latency_s is None:
            missing.append(row.title)
        else:
            title = row.title + "*" * _taken_over(row)
            drawn.append(_Mark(title, row.latency_s, 100 * height, row.params_millions, False))
    for one in measured:
        height = _height(one.values, published.radii, radius)
        if height is None:
            missing.append(one.title)
        else:
            drawn.append(_Mark(one.title, one.seconds, 100 * height, one.params_millions, True))
    if not drawn:
        raise ReportError(f"{published.title!r} has no row with both a latency and an accuracy; give another table")
    figure = blank(7.2, 5.2)
    axis = figure.subplots()
    for mark in drawn:
        face, edge = _colours(mark.millions, mark.measured)
        axis.scatter(
            [mark.seconds], [mark.height], s=_area(mark.millions), zorder=3, linewidths=1.1, alpha=0.85,
            facecolors=face, edgecolors=edge, marker=_shape(mark.measured),
        )  # fmt: skip
    axis.set_xscale("log")
    _margins(axis, [mark.seconds for mark in drawn], [mark.height for mark in drawn])
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.tick_params(labelsize=8)
    axis.grid(color="0.9", linewidth=0.6, which="major")
    grid = units.grid(published.radii)
    what = f"at r={radius:g}" if radius is not None else f"mean over the {len(grid)} radii {grid[0]} to {grid[-1]}"
    axis.set_ylabel(f"{ACCURACY}, {what}", fontsize=9)
    axis.set_title(_heading(published, measured), fontsize=9)
    axis.set_xlabel("\n".join(_remarks(published, measured, missing)), fontsize=8.5)
    sizes = sorted({mark.millions for mark in drawn if mark.millions is not None})
    keys = {units.parameters(size): _marker(size) for size in sizes[:1] + sizes[len(sizes) // 2 :][:1] + sizes[-1:]}
    if any(mark.millions is None for mark in drawn):
        keys["parameters not known"] = _marker(None)
    if measured:
        keys["measured here"] = _marker(sizes[0] if sizes else None, measured=True)
    put_legend(figure, list(keys.values()), list(keys))
    _label(figure, axis, [(mark.title, mark.seconds, mark.height, _area(mark.millions)) for mark in drawn])
    return figure


def _heading(published: PublishedTable, measured: Sequence[Timed]) -> str:
    hardware = ", ".join(sorted({row.hardware for row in published.rows if row.hardware and row.latency_s}))
    if not measured:
        return f"{published.title}\n{published.source}: latencies as published ({hardware}), not measured here"
    devices = ", ".join(sorted({one.device for one in measured}))
    return f"{published.title}\ncircles: {published.source} ({hardware}); squares: measured here ({devices})"


def _remarks(published: PublishedTable, measured: Sequence[Timed], missing: Sequence[str]) -> list[str]:
    rows = [row for row in published.rows if row.latency_s is not None and row.title not in missing]
    sizes = {n for n in (*(row.n for row in rows), *(one.n for one in measured)) if n is not None}
    counts = ", ".join(units.count(n) for n in sorted(sizes))
    words = ["latency (s per certified image, log scale)", f"samples per image N, by row: {counts}"]
    if any(_taken_over(row) for row in rows):
        words.append("* the authors took the latency over from another row")
    if any(one.quoted for one in measured):
        words.append("squares at the published accuracies: the same networks, their seconds alone are from here")
    if missing:
        words.append(f"not drawn, for want of a latency or an accuracy: {', '.join(missing)}")
    return words


def _height(values: Sequence[float | None], radii: Sequence[float], radius: float | None) -> float | None:
    if len(values) != len(radii):
        raise ReportError(f"expected an accuracy at each of {len(radii)} radii, got {len(values)}; certify at those")
    chosen = values if radius is None else (values[list(radii).index(radius)],)
    known = [value for value in chosen if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(chosen) else None


def _taken_over(row: PublishedRow) -> bool:
    """Whether the published latency is not the row's own."""
    return row.latency_measured.startswith("not measured")


def _area(millions: float | None) -> float:
    """The square of the marker's diameter in points: in proportion to the parameters, but never too small to see."""
    return 40.0 if millions is None else max(0.8 * millions, 16.0)


def _colours(millions: float | None, measured: bool = False) -> tuple[str, str]:
    colour = COLOURS[1 if measured else 0]
    return ("white", "0.35") if millions is None else (colour, colour)


def _shape(measured: bool) -> str:
    return "s" if measured else "o"


def _marker(millions: float | None, *, measured: bool = False) -> Any:
    from matplotlib.lines import Line2D

    face, edge = _colours(millions, measured)
    size = math.sqrt(_area(millions))
    return Line2D(
        [], [], linestyle="", marker=_shape(measured), markersize=size, markerfacecolor=face, markeredgecolor=edge
    )


def _margins(axis: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    """Room for labels beyond the outermost points."""
    spread = math.log(max(xs) / min(xs)) or 1.0
    axis.set_xlim(min(xs) * math.exp(-0.15 * spread), max(xs) * math.exp(0.2 * spread))
    tall = (max(ys) - min(ys)) or 1.0
    axis.set_ylim(max(0.0, min(ys) - 0.15 * tall), min(100.0, max(ys) + 0.15 * tall))


def _label(figure: Figure, axis: Axes, points: Sequence[tuple[str, float, float, float]]) -> None:
    """Names beside their points, none over another, with a thin line where one had to move away."""
    texts = [axis.text(0, 0, title, fontsize=7.5, zorder=4, parse_math=False) for title, _, _, _ in points]
    figure.draw_without_rendering()  # settles the layout, which turns data into pixels
    figure.set_layout_engine("none")
    boxes = [text.get_window_extent() for text in texts]
    spots = []
    for (_, x, y, area), box in zip(points, boxes, strict=True):
        px, py = axis.transData.transform((x, y))
        rim = math.sqrt(area) / 2 * figure.dpi / 72
        spots.append(Point(float(px), float(py), rim, float(box.width) + 4, float(box.height) + 2))
    window = axis.get_window_extent()
    frame = Box(float(window.x0) + 4, float(window.y0) + 4, float(window.x1) - 4, float(window.y1) - 4)
    back = axis.transData.inverted()
    for text, spot, place_of in zip(texts, spots, place(spots, frame), strict=True):
        x, y = back.transform((place_of.left + 2, place_of.bottom + 1))
        text.set_position((float(x), float(y)))
        text.set_verticalalignment("bottom")
        end = nearest(spot, place_of)
        if math.hypot(end[0] - spot.x, end[1] - spot.y) > spot.radius + spot.height:
            start, stop = back.transform((spot.x, spot.y)), back.transform(end)
            axis.plot([start[0], stop[0]], [start[1], stop[1]], color="0.6", linewidth=0.5, zorder=2)
