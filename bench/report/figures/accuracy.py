"""Certified accuracy over the radius as a picture: one panel a sigma, one line a method."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bench.report import units
from bench.report.accuracy import Curve, curve, digest
from bench.report.figures.canvas import ACCURACY, DASHES, RADIUS, SCREEN, Style, blank, dress, put_legend
from bench.report.figures.method_looks import EMPHASISED, Look, looks
from bench.report.grouping import Group, variants
from bench.report.method_titles import printed
from bench.report.statistics import CONFIDENCE, wilson
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INTERVALS = {"wilson": "Wilson", "exact": "Clopper-Pearson"}
_NARROW = 2.4  # inches of a panel, in which a unit has no room
MOST_BANDS = 3  # of a panel: more lie over each other and none can be read
Interval = Literal["wilson", "exact"]


@dataclass(frozen=True, slots=True)
class _Line:
    label: str
    steps: Curve
    look: Look
    number: int  # among the lines of its method: their dashes differ, and all but the first have hollow markers
    sigma: float
    emphasised: bool


def curve_figure(group: Group, interval: Interval = "wilson", style: Style = SCREEN) -> Figure:
    """Certified accuracy over the radius: one panel a sigma, cut where all its lines are 0; one line a method.

    Markers stand at the radii of the tables. `interval`: of the bands, which are drawn where no panel has more than 3
    lines; "wilson", or "exact" for Clopper-Pearson's, which is never too narrow.
    Raises: ReportError for runs that cannot be certified as asked, or another interval.
    """
    if interval not in INTERVALS:
        raise ReportError(f"expected an interval out of {', '.join(INTERVALS)}, got {interval!r}")
    lines = _lines(group)
    sigmas = sorted({line.sigma for line in lines})
    banded = max(Counter(line.sigma for line in lines).values()) <= MOST_BANDS
    columns = 2 if len(sigmas) == 4 else min(3, len(sigmas))
    rows = math.ceil(len(sigmas) / columns)
    # One narrow panel would leave the words no room.
    figure = blank(max(2.9 * columns, 4.8) + 0.5, 2.7 * rows + 1.1, style)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    for line in sorted(lines, key=lambda each: each.emphasised):  # the emphasised one lies above the others
        bands = interval if banded else None
        handles[line.label] = _draw(axes[sigmas.index(line.sigma)], line, group.radii, bands, style)
    for axis in axes[len(sigmas) :]:
        axis.set_visible(False)
    for axis, sigma in zip(axes, sigmas, strict=False):
        own = [line.steps for line in lines if line.sigma == sigma]
        last = max((0.0, *(x for each in own for x in each.steps[-1:])))
        _finish(axis, sigma, last, float(figure.get_figwidth()) / columns, style)
    figure.supylabel(ACCURACY, fontsize=style.text)
    if style.titled:
        spec = group.runs[0].spec
        said = f"; {units.percent(CONFIDENCE, 0)} {INTERVALS[interval]} bands" if banded else ""
        figure.suptitle(
            f"{spec.dataset}: {units.count(spec.images)} images, N={units.count(spec.n)}, "
            f"alpha={units.level(group.alpha)}, bound {group.bound}{said}",
            fontsize=style.text,
            parse_math=False,
        )
    labels = list(dict.fromkeys(line.label for line in sorted(lines, key=lambda each: not each.emphasised)))
    legend = put_legend(figure, [handles[label] for label in labels], labels, style)
    loud = {line.label for line in lines if line.emphasised}
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_fontweight("bold" if label in loud and len(loud) < len(labels) else "normal")
    return figure


def _lines(group: Group) -> list[_Line]:
    found = []
    drawn = looks(run.spec.method for run in group.runs)
    numbers: Counter[str] = Counter()  # lines of a method so far
    for variant in variants(group):
        method = variant.runs[0].spec.method
        seen: Counter[float] = Counter()
        twins = len({run.spec.sigma for run in variant.runs}) < len(variant.runs)
        for run in variant.runs:
            label = printed(variant.title, method) + (f" [{digest(run)}]" if twins else "")
            label += "" if run.done else f", {len(run.rows)} of {run.spec.images} images"
            label += ", at least (verdicts at its radii only)" if run.spec.stops else ""
            number = numbers[method] + seen[run.spec.sigma]
            steps = curve(run, group.bound, group.alpha)
            found.append(_Line(label, steps, drawn[method], number, run.spec.sigma, method == EMPHASISED))
            seen[run.spec.sigma] += 1
        numbers[method] += max(seen.values())
    return found


def _draw(axis: Axes, line: _Line, radii: Sequence[float], interval: Interval | None, style: Style) -> Any:
    """One step curve with its band; accuracy on (r_k, r_{k+1}] is what it is at r_{k+1}."""
    steps, colour = line.steps, line.look.colour
    # At the radii of the tables too, for their markers: there the curve has no step of its own.
    marked = {float(radius) for radius in radii if steps.count(radius)}
    xs = sorted({0.0, *steps.steps, *marked})
    counts = [steps.count(x) for x in xs]
    xs.append(xs[-1])
    counts.append(0)
    if interval:
        bands = [bounds(k, steps.images, interval) for k in counts]
        axis.fill_between(
            xs, [100 * low for low, _ in bands], [100 * high for _, high in bands],
            step="pre", color=colour, alpha=0.13, linewidth=0,
        )  # fmt: skip
    size = 4.0 if style.width is not None else 5.0
    return axis.plot(
        xs,
        [100 * k / steps.images for k in counts],
        drawstyle="steps-pre",
        color=colour,
        linestyle=DASHES[line.number % len(DASHES)],
        linewidth=2.0 if line.emphasised else 1.2,
        zorder=4 if line.emphasised else 3,
        marker=line.look.marker,
        markevery=[k for k, x in enumerate(xs[:-1]) if x in marked],
        markersize=size + 3.5 if line.look.marker == "*" else size,  # a star fills little of its box
        markerfacecolor="white" if line.number else colour,
        markeredgecolor=colour if line.number else "white",
        markeredgewidth=0.9 if line.number else 0.4,
    )[0]


def _finish(axis: Axes, sigma: float, last: float, inches: float, style: Style) -> None:
    from matplotlib.ticker import MaxNLocator

    dress(axis, style)
    words = f"sigma {units.noise_level(sigma)}"
    if style.titled:
        axis.set_title(words, fontsize=style.text)
    else:  # accuracies fall: the upper right corner is the emptiest
        axis.text(0.97, 0.96, words, transform=axis.transAxes, ha="right", va="top", fontsize=style.text)
    axis.set_xlim(0, 1.03 * last or 1.0)
    axis.set_ylim(0, 100)
    axis.xaxis.set_major_locator(MaxNLocator(4 if style.width is not None else 6))
    axis.set_xlabel(RADIUS if inches > _NARROW else RADIUS.partition(" (")[0], fontsize=style.text)


def bounds(successes: int, images: int, interval: str = "wilson") -> tuple[float, float]:
    """Two-sided interval on a proportion over the choice of images: Wilson's, or the exact one.

    Source: Wilson 1927; Clopper & Pearson 1934.
    """
    if interval == "wilson":
        return wilson(successes, images)
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, images, alpha=1 - CONFIDENCE, method="beta")
    return float(low), float(high)
