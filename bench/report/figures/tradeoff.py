"""Accuracy over latency as published, and beside it what was timed here: the two never look alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.published.tables import PublishedRow, PublishedTable
from bench.report import units
from bench.report.figures.canvas import ACCURACY, SCREEN, Style, blank, dress, folded, put_legend
from bench.report.figures.label_placement import Box, Point, nearest, place
from bench.report.figures.method_looks import EMPHASISED, Look, looks
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "0.45"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A method that was timed and certified here."""

    title: str
    seconds: float  # per certified image
    values: tuple[float | None, ...]  # certified accuracies as fractions, at the radii of the figure
    params_millions: float | None
    device: str
    n: int | None
    method: str = ""  # whose colour and marker it has; "" for one of no method
    quoted: bool = False  # the accuracies are the published ones: seconds alone are from here


@dataclass(frozen=True, slots=True)
class _Mark:
    title: str
    method: str
    seconds: float
    height: float  # certified accuracy in percent
    millions: float | None
    measured: bool


def latency_figure(
    published: PublishedTable, radius: float | None = None, measured: Sequence[Timed] = (), style: Style = SCREEN
) -> Figure:
    """Certified accuracy over seconds per image; marker area by parameters, white where these are not stated.

    A method's colour and marker are the same everywhere; pale ones are as published, full ones were `measured` here,
    and the device of each is named.
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
            drawn.append(_Mark(title, row.method, row.latency_s, 100 * height, row.params_millions, False))
    for one in measured:
        height = _height(one.values, published.radii, radius)
        if height is None:
            missing.append(one.title)
        else:
            drawn.append(_Mark(one.title, one.method, one.seconds, 100 * height, one.params_millions, True))
    if not drawn:
        raise ReportError(f"{published.title!r} has no row with both a latency and an accuracy; give another table")
    quoted = ", ".join(sorted({row.hardware for row in published.rows if row.hardware and row.latency_s}))
    here = ", ".join(sorted({one.device for one in measured}))
    remarks = _remarks(published, measured, missing)
    words = f"as published, {published.source} ({quoted})"
    remarks.insert(0, f"pale: {words}; full: measured here ({here})" if here else f"{words}, not measured here")
    return _scatter(drawn, _words(published.radii, radius), published.title, remarks, style)


def own_latency_figure(
    timed: Sequence[Timed], radii: Sequence[float], title: str, how: str, missing: Sequence[str], style: Style = SCREEN
) -> Figure:
    """The same of methods certified and timed here alone, averaged over the radii at which any is certified.

    `how`: what the seconds are. `missing`: methods that have none.
    Raises: ReportError for no method, or accuracies at other radii.
    """
    if not timed:
        raise ReportError("expected methods with seconds per image, got none; run `rrcm-bench run` first")
    kept = [k for k in range(len(radii)) if k == 0 or any(one.values[k] for one in timed)]
    drawn = []
    for one in timed:
        height = _height([one.values[k] for k in kept], kept, None)
        if height is not None:
            drawn.append(_Mark(one.title, one.method, one.seconds, 100 * height, one.params_millions, True))
    remarks = [how, f"samples per image N: {_counts({one.n for one in timed})}"]
    if missing:
        remarks.append(f"not drawn, for want of seconds on that device: {', '.join(missing)}")
    return _scatter(drawn, _words([radii[k] for k in kept], None), title, remarks, style)


def _scatter(drawn: Sequence[_Mark], what: str, title: str, remarks: Sequence[str], style: Style) -> Figure:
    from matplotlib.ticker import LogLocator

    figure = blank(7.2, 5.2, style)
    axis = figure.subplots()
    drawn_as = looks(mark.method for mark in drawn)
    sized = any(mark.millions is not None for mark in drawn)
    for mark in drawn:
        face, edge = _colours(drawn_as[mark.method], mark.measured, known=mark.millions is not None or not sized)
        axis.scatter(
            [mark.seconds], [mark.height], s=_area(mark.millions, drawn_as[mark.method]), linewidths=1.1,
            zorder=4 if mark.method == EMPHASISED else 3, facecolors=[face], edgecolors=[edge],
            marker=drawn_as[mark.method].marker,
        )  # fmt: skip
    axis.set_xscale("log")
    _margins(axis, [mark.seconds for mark in drawn], [mark.height for mark in drawn])
    if max(mark.seconds for mark in drawn) < 30 * min(mark.seconds for mark in drawn):  # few powers of ten lie within
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.minorticks_off()
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    dress(axis, style)
    width = float(figure.get_figwidth())
    axis.set_ylabel(f"{ACCURACY},\n{what}", fontsize=style.text)
    if style.titled:
        axis.set_title(folded(title, width - 0.6, style.text), fontsize=style.text)
    lines = ["seconds per certified image (log scale)", *remarks]
    axis.set_xlabel("\n".join(folded(line, width, style.text) for line in lines), fontsize=style.text)
    kinds = {mark.measured for mark in drawn}
    keys = {
        ("measured here" if full else "as published"): _key(None, full=full)
        for full in sorted(kinds)
        if sized or len(kinds) > 1
    }
    sizes = sorted({mark.millions for mark in drawn if mark.millions is not None})
    keys |= {units.parameters(size): _key(size) for size in sizes[:1] + sizes[len(sizes) // 2 :][:1] + sizes[-1:]}
    if sized and any(mark.millions is None and not mark.measured for mark in drawn):
        keys["parameters not stated"] = _key(None, white=True)
    if keys:
        put_legend(figure, list(keys.values()), list(keys), style, apart=1.2)
    _label(figure, axis, drawn, [math.sqrt(_area(mark.millions, drawn_as[mark.method])) / 2 for mark in drawn], style)
    return figure


def _words(radii: Sequence[float], radius: float | None) -> str:
    grid = units.grid(radii)
    if radius is not None or len(grid) == 1:
        return f"at r={radii[0] if radius is None else radius:g}"
    return f"mean over the {len(grid)} radii {grid[0]} to {grid[-1]}"


def _counts(sizes: set[int | None]) -> str:
    return ", ".join(units.count(n) for n in sorted(n for n in sizes if n is not None))


def _remarks(published: PublishedTable, measured: Sequence[Timed], missing: Sequence[str]) -> list[str]:
    rows = [row for row in published.rows if row.latency_s is not None and row.title not in missing]
    counts = _counts({*(row.n for row in rows), *(one.n for one in measured)})
    words = [f"samples per image N, by row: {counts}"]
    if any(_taken_over(row) for row in rows):
        words.append("* the authors took the latency over from another row")
    if any(one.quoted for one in measured):
        words.append("full markers at the published accuracies: the same networks, their seconds alone are from here")
    if any(one.params_millions is None for one in measured):
        words.append("full markers of one size: parameters not known")
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


def _area(millions: float | None, look: Look | None = None) -> float:
    """The square of the marker's box in points: in proportion to the parameters, but never too small to see."""
    area = 40.0 if millions is None else max(0.5 * millions, 12.0)
    return 2.2 * area if look and look.marker == "*" else area  # a star fills so much less of its box than a circle


def _colours(look: Look, measured: bool, *, known: bool) -> tuple[Any, str]:
    from matplotlib.colors import to_rgba

    if measured:  # of whatever size: full is what tells it from a published one
        return look.colour, look.colour
    return (to_rgba(look.colour, 0.3) if known else "white"), look.colour


def _key(millions: float | None, *, full: bool = False, white: bool = False) -> Any:
    from matplotlib.lines import Line2D

    size = math.sqrt(_area(millions))
    face = "white" if white else _GREY if full else "0.85"
    return Line2D([], [], linestyle="", marker="o", markersize=size, markerfacecolor=face, markeredgecolor=_GREY)


def _margins(axis: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    """Room for labels beyond the outermost points."""
    spread = max(math.log(max(xs) / min(xs)), math.log(1.5))
    axis.set_xlim(min(xs) * math.exp(-0.15 * spread), max(xs) * math.exp(0.2 * spread))
    tall = (max(ys) - min(ys)) or 1.0
    axis.set_ylim(max(0.0, min(ys) - 0.15 * tall), min(100.0, max(ys) + 0.15 * tall))


def _label(figure: Figure, axis: Axes, drawn: Sequence[_Mark], rims: Sequence[float], style: Style) -> None:
    """Names beside their points, none over another, with a thin line where one had to move away."""
    size = style.small if style.width is not None else style.small - 0.5
    texts = [
        axis.text(
            0, 0, mark.title, fontsize=size, zorder=5, parse_math=False,
            fontweight="bold" if mark.method == EMPHASISED else "normal",
        )
        for mark in drawn
    ]  # fmt: skip
    figure.draw_without_rendering()  # settles the layout, which turns data into pixels
    figure.set_layout_engine("none")
    boxes = [text.get_window_extent() for text in texts]
    spots = []
    for mark, rim, box in zip(drawn, rims, boxes, strict=True):
        px, py = axis.transData.transform((mark.seconds, mark.height))
        spots.append(Point(float(px), float(py), rim * figure.dpi / 72, float(box.width) + 4, float(box.height) + 2))
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
