"""Certified accuracy over the radius as a picture, and what all pictures share: colours, legend, file formats.

Colours and line styles are chosen to be told apart by colour-blind readers and in grey. Nothing here touches pyplot.
"""

from __future__ import annotations

import io
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

from bench.report import units
from bench.report.accuracy import Curve, curve, digest
from bench.report.formats.escaping import terminal
from bench.report.grouping import Group, variants
from bench.report.statistics import CONFIDENCE, wilson
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008, without the yellow: it vanishes on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 1.5, 1, 1.5)), (0, (8, 2, 1, 2, 1, 2)))
DPI = 200
ACCURACY = "certified accuracy (%)"
INTERVALS = {"wilson": "Wilson", "exact": "Clopper-Pearson"}
_HANDLE, _LETTER = 0.9, 0.07  # inches that a legend's line sample, and one letter at 8 points, take at most


def curve_figure(group: Group, interval: Literal["wilson", "exact"] = "wilson") -> Figure:
    """Certified accuracy over the radius: one panel a sigma, one line a method, shaded by its interval.

    `interval`: "wilson", or "exact" for Clopper-Pearson's, which is never too narrow.
    Raises: ReportError for runs that cannot be certified as asked, or another interval.
    """
    if interval not in INTERVALS:
        raise ReportError(f"expected an interval out of {', '.join(INTERVALS)}, got {interval!r}")
    drawn = variants(group)
    sigmas = sorted({run.spec.sigma for run in group.runs})
    columns = 2 if len(sigmas) == 4 else min(3, len(sigmas))
    lines = math.ceil(len(sigmas) / columns)
    # One narrow panel would leave the words no room.
    figure = blank(max(2.9 * columns, 4.8) + 0.5, 2.7 * lines + 1.1)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    last = 0.0
    number = 0  # of the line's style
    for variant in drawn:
        seen: Counter[float] = Counter()
        twins = len({run.spec.sigma for run in variant.runs}) < len(variant.runs)
        for run in variant.runs:
            steps = curve(run, group.bound, group.alpha)
            last = max((last, *steps.steps[-1:]))
            label = f"{variant.title} [{digest(run)}]" if twins else variant.title
            label += "" if run.done else f", {len(run.rows)} of {run.spec.images} images"
            label += ", at least (verdicts at its radii only)" if run.spec.stops else ""
            handles[label] = _draw(axes[sigmas.index(run.spec.sigma)], steps, number + seen[run.spec.sigma], interval)
            seen[run.spec.sigma] += 1
        number += max(seen.values())
    for k, axis in enumerate(axes):
        if k >= len(sigmas):
            axis.set_visible(False)
            continue
        axis.set_title(f"sigma {units.noise_level(sigmas[k])}", fontsize=9)
        axis.set_xlim(0, 1.05 * last or 1.0)
        axis.set_ylim(0, 100)
        axis.grid(color="0.9", linewidth=0.6)
        axis.tick_params(labelsize=8)
        if k + columns >= len(sigmas):
            axis.tick_params(labelbottom=True)  # shared axes label the last line only, which may be shorter
            axis.set_xlabel("l2 radius r (pixels in [0, 1])", fontsize=8.5)
    figure.supylabel(ACCURACY, fontsize=9)
    spec = group.runs[0].spec
    figure.suptitle(
        f"{spec.dataset}: {units.count(spec.images)} images, N={units.count(spec.n)}, "
        f"alpha={units.level(group.alpha)}, bound {group.bound}; "
        f"{units.percent(CONFIDENCE, 0)} {INTERVALS[interval]} bands",
        fontsize=9,
        parse_math=False,
    )
    put_legend(figure, list(handles.values()), list(handles))
    return figure


def as_bytes(figure: Figure, form: str) -> bytes:
    """The figure as a PNG, PDF or SVG file; the same bytes for the same figure.

    Raises: ReportError for another format.
    """
    # Dates and versions would make two equal pictures differ.
    unsaid = {
        "png": ("Software",),
        "pdf": ("CreationDate", "Producer", "Creator"),
        "svg": ("Date", "Creator"),
    }
    if form not in unsaid:
        raise ReportError(f"expected a figure as {', '.join(unsaid)}, got {form!r}")
    from matplotlib import rc_context
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if (shown := terminal(text.get_text())) != text.get_text():  # no font has a letter for a control
            text.set_text(shown)
    out = io.BytesIO()
    # Type 42 is embedded TrueType: journals refuse Type 3. SVG names its parts by a hash, salted at random by default.
    with rc_context({"pdf.fonttype": 42, "svg.hashsalt": "rrcm-bench"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in another script is drawn as boxes
        figure.savefig(out, format=form, dpi=DPI, metadata=dict.fromkeys(unsaid[form]))
    return out.getvalue()


def blank(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, which belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style(number: int) -> dict[str, Any]:
    """Colour and dashes of the k-th line; the two repeat after 7 and 5, so that 35 lines differ."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}


def bounds(successes: int, images: int, interval: str = "wilson") -> tuple[float, float]:
    """Two-sided interval on a proportion over the choice of images: Wilson's, or the exact one.

    Source: Wilson 1927; Clopper & Pearson 1934.
    """
    if interval == "wilson":
        return wilson(successes, images)
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, images, alpha=1 - CONFIDENCE, method="beta")
    return float(low), float(high)


def _draw(axis: Axes, steps: Curve, number: int, interval: str) -> Any:
    """One step curve with its band; accuracy on (r_k, r_{k+1}] is what it is at r_{k+1}."""
    xs = sorted({0.0, *steps.steps})
    counts = [steps.count(x) for x in xs]
    xs.append(xs[-1])
    counts.append(0)
    bands = [bounds(k, steps.images, interval) for k in counts]
    look = style(number)
    axis.fill_between(
        xs, [100 * low for low, _ in bands], [100 * high for _, high in bands],
        step="pre", color=look["color"], alpha=0.12, linewidth=0,
    )  # fmt: skip
    return axis.plot(
        xs,
        [100 * k / steps.images for k in counts],
        drawstyle="steps-pre",
        linewidth=1.4,
        **look,
    )[0]


def put_legend(figure: Figure, handles: Sequence[Any], titles: Sequence[str]) -> None:
    """Below the panels, where it covers no line, in as many columns as its longest title allows."""
    width = float(figure.get_figwidth())
    folded = ["\n".join(wrap(title, int((width - _HANDLE) / _LETTER)) or [title]) for title in titles]
    longest = max(len(line) for title in folded for line in title.splitlines() or [""])
    columns = max(1, min(4, len(titles), int(width / (_HANDLE + _LETTER * longest))))
    legend = figure.legend(
        handles, folded, loc="outside lower center", ncols=columns, fontsize=8, handlelength=4, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name with two $ is no formula
    extra = sum(len(title.splitlines()) for title in folded) / columns - 2
    figure.set_figheight(figure.get_figheight() + 0.17 * max(0.0, extra))  # the panels keep their height
