"""A few settings against each other: ablation panels and scaling plots, measured and quoted told apart.

What differs between two series is said by their labels; whether they may be compared is their maker's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.published.tables import PublishedRow, load
from bench.report import units
from bench.report.accuracy import certified_accuracy, digest
from bench.report.figures.canvas import ACCURACY, RADIUS, SCREEN, Style, blank, dress, line_style
from bench.report.grouping import Group
from bench.report.statistics import CONFIDENCE, wilson
from bench.report.tables.table import Source
from bench.runs.store import Run
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vP*X"
_SIGMA = 1.0  # at which the paper compares sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Certified accuracies of one setting at some radii."""

    label: str
    radii: tuple[float, ...]  # l2, pixels in [0, 1]
    values: tuple[float | None, ...]  # fractions; None where none is known
    source: Source
    images: int | None = None  # that the fractions are counted over; None: unknown, no interval
    size: float | None = None  # what a scaling plot is drawn over: parameters, batch size


@dataclass(frozen=True, slots=True)
class Panel:
    """Series that differ in one thing."""

    title: str  # the thing: "tau"
    series: tuple[Series, ...]


def measured_series(
    run: Run,
    label: str,
    radii: Sequence[float],
    bound: str = "pa",
    alpha: float | None = None,
    size: float | None = None,
) -> Series:
    """A run as a series.

    Raises: ReportError as `certified_accuracy`.
    """
    score = certified_accuracy(run, radii, bound, alpha)
    return Series(
        label=label, radii=score.radii, values=score.fractions, source="measured", images=score.images, size=size
    )


def quoted_series(row: PublishedRow, radii: Sequence[float], label: str) -> Series:
    """A published row as a series; its size is its parameters."""
    return Series(label=label, radii=tuple(radii), values=row.values, source="quoted", size=row.params_millions)


def ablations(group: Group) -> tuple[Panel, ...]:
    """One panel for each method, sigma and setting in which some of its runs differ and in nothing else.

    Raises: ReportError as `certified_accuracy`.
    """
    made = []
    settings = {id(run): _settings(run) for run in group.runs}
    keys = sorted({key for own in settings.values() for key in own})
    for key in keys:
        sets: dict[tuple[Any, ...], list[Run]] = {}
        for run in group.runs:
            own = settings[id(run)]
            # Another setting of a network is another training: its weights differ too, and are no second difference.
            rest = frozenset((k, v) for k, v in own.items() if k not in (key, "weights"))
            sets.setdefault((run.spec.method, run.spec.sigma, rest), []).append(run)
        for (method, sigma, fixed), runs in sets.items():
            if len({settings[id(run)].get(key) for run in runs}) < 2:
                continue
            series = tuple(
                measured_series(run, _value(run, key, settings[id(run)], runs), group.radii, group.bound, group.alpha)
                for run in sorted(runs, key=lambda r: _order(settings[id(r)].get(key)))
            )
            # Where several sets of runs try the same setting, what each holds fixed tells them apart.
            twins = [other for other in sets if other[:2] == (method, sigma) and other != (method, sigma, fixed)]
            told = {k for other in twins for k, _ in other[2] ^ fixed}
            words = "".join(f", {k} {v}" for k, v in sorted(fixed) if k in told)
            made.append(Panel(f"{method}, sigma {units.noise_level(sigma)}{words}: {key}", series))
    return tuple(made)


def published_sizes() -> tuple[Series, ...]:
    """rRCM-B and rRCM-B-Deep on ImageNet, trained and certified at sigma 1.0, as published.

    Source: Lei et al., ICLR 2025, Tables 7 and 8; no number of rRCM-S is printed.
    """
    made = []
    for name, label in (("table7", "rRCM-B"), ("table8", "rRCM-B-Deep")):
        table = load(name)
        row = next(r for r in table.rows if r.sigma_train == r.sigma == _SIGMA)
        made.append(quoted_series(row, table.radii, label))
    return tuple(made)


def ablation_figure(panels: Sequence[Panel], title: str, style: Style = SCREEN) -> Figure:
    """One panel a setting: certified accuracy over the radius, one line a value.

    Source: the form of Lei et al., ICLR 2025, Figures 9 to 11.
    Raises: ReportError for no panel, or a panel of no series.
    """
    if not panels or not all(panel.series for panel in panels):
        raise ReportError(
            "expected runs of one method and sigma that differ in one setting, got none; "
            "run `rrcm-bench run` again with another --set"
        )
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = blank(max(3.3 * columns, 4.8), 3.0 * lines + 0.7, style)
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        _over_radius(axis, panel.series, style)
        axis.set_title(panel.title, fontsize=style.text, parse_math=False)
        _inside(axis, 1, style)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.supylabel(ACCURACY, fontsize=style.text)
    if style.titled:
        words = f"{title}; bars: {units.percent(CONFIDENCE, 0)} Wilson"
        figure.suptitle(words, fontsize=style.text, parse_math=False)
    return figure


def scaling_figure(series: Sequence[Series], what: str, title: str, style: Style = SCREEN) -> Figure:
    """Two panels: certified accuracy over the radius, and over the size.

    `what`: the size, with its unit, such as "parameters (millions)". Hollow markers are quoted.
    Source: the form of Lei et al., ICLR 2025, Figures 3 and 4.
    Raises: ReportError for fewer than two sizes, or series of other radii.
    """
    sizes = {one.size for one in series}
    if None in sizes or len(sizes) < 2:
        raise ReportError(f"expected at least two sizes to draw a scaling over, got {len(sizes - {None})}")
    if len({one.radii for one in series}) > 1:
        raise ReportError("expected series at the same radii, got others; certify them on one data set")
    figure = blank(7.4, 4.1, style)
    left, right = figure.subplots(1, 2, sharey=True)
    ordered = sorted(series, key=lambda one: one.size or 0.0)
    _over_radius(left, ordered, style)
    radii = units.grid(ordered[0].radii)
    for k, radius in enumerate(radii):
        points = [(one.size, one.values[k]) for one in ordered if one.values[k] is not None]
        right.plot(
            [x for x, _ in points],
            [100 * y for _, y in points if y is not None],
            marker=_MARKERS[k % len(_MARKERS)],
            markerfacecolor="white" if ordered[0].source == "quoted" else None,
            markersize=5,
            linewidth=1.2,
            label=f"r={radius}",
            **line_style(k),
        )
    right.set_xscale("log")
    right.set_xticks(sorted(size for size in sizes if size is not None), minor=False)
    right.minorticks_off()
    right.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}" if value < 1000 else units.count(round(value)))
    right.set_xlabel(what, fontsize=style.text)
    dress(right, style)
    figure.supylabel(ACCURACY, fontsize=style.text)
    if style.titled:
        bars = f"; bars: {units.percent(CONFIDENCE, 0)} Wilson" if any(one.images for one in series) else ""
        figure.suptitle(title + bars, fontsize=style.text, parse_math=False)
    for axis, columns in ((left, 1), (right, 2 if style.width is not None else 3)):
        _inside(axis, columns, style)
    return figure


def _over_radius(axis: Axes, series: Sequence[Series], style: Style) -> None:
    step = min((b - a for one in series for a, b in zip(one.radii, one.radii[1:], strict=False)), default=1.0)
    for k, one in enumerate(series):
        # Side by side, or the bars of equal accuracies would hide each other.
        shift = 0.08 * step * (k - (len(series) - 1) / 2)
        known = [(r, v) for r, v in zip(one.radii, one.values, strict=True) if v is not None]
        xs, ys = [r + shift for r, _ in known], [100 * v for _, v in known]
        look = line_style(k)
        # No steps: between two radii nothing was read off here.
        axis.plot(
            xs, ys, marker=_MARKERS[k % len(_MARKERS)], markersize=5, linewidth=1.3, label=_label(one),
            markerfacecolor="white" if one.source == "quoted" else look["color"], **look,
        )  # fmt: skip
        if one.images is not None:
            spans = [wilson(round(v * one.images), one.images) for _, v in known]
            below = [y - 100 * low for y, (low, _) in zip(ys, spans, strict=True)]
            above = [100 * high - y for y, (_, high) in zip(ys, spans, strict=True)]
            axis.errorbar(
                xs, ys, yerr=[_positive(below), _positive(above)], fmt="none", ecolor=look["color"], elinewidth=0.8,
                capsize=2,
            )  # fmt: skip
    axis.set_ylim(-2, 103)
    axis.locator_params(axis="x", steps=[1, 2.5, 5, 10])  # ticks at quarters, as radii are
    dress(axis, style)
    axis.set_xlabel(RADIUS, fontsize=style.text)


def _inside(axis: Axes, columns: int, style: Style) -> None:
    """A panel's own legend; the upper right corner is the emptiest: accuracies fall."""
    legend = axis.legend(fontsize=style.small, loc="upper right", handlelength=2.5, framealpha=0.9, ncols=columns)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _label(one: Series) -> str:
    return one.label if one.source == "measured" else f"{one.label} ({one.source})"


def _positive(lengths: Sequence[float]) -> list[float]:
    """At 0 and 100 % the interval ends on the value itself, up to rounding."""
    return [max(0.0, length) for length in lengths]


def _settings(run: Run) -> dict[str, str]:
    spec = run.spec
    own = {key: str(value) for key, value in spec.params.items()}
    return own | {"precision": spec.precision, "n0": str(spec.n0), "seed": str(spec.seed), "weights": _weights(run)}


def _value(run: Run, key: str, own: dict[str, str], siblings: Sequence[Run]) -> str:
    """The setting as said in a legend; with the run's digest where two runs share it."""
    shared = sum(_settings(other).get(key) == own.get(key) for other in siblings) > 1
    return f"{key} = {own.get(key, 'none')}" + (f" [{digest(run)}]" if shared else "")


def _weights(run: Run) -> str:
    return " ".join(_short(said) for _, said in sorted(run.spec.weights.items())) or digest(run)


def _order(value: str | None) -> tuple[float, str]:
    """Numbers by value, words after them."""
    try:
        return float(value or ""), ""
    except ValueError:
        return math.inf, value or ""


def _short(said: str) -> str:
    """The beginning of a hash, with the key of the network where the file has several."""
    sha256, mark, key = said.partition("#")
    return f"{sha256[:8]}{mark}{key}"
