"""The distribution of p_A as a picture: how many images have at least that probability of their true class."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from bench.report import units
from bench.report.accuracy import digest
from bench.report.class_probability import ClassProbabilities, at_least, class_probabilities, usable
from bench.report.figures.accuracy import blank, put_legend, style
from bench.report.grouping import Group, variants
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def probability_figure(group: Group) -> Figure:
    """Share of the images whose p_A is at least t: one panel a sigma, one line a method, shaded down to its bound.

    Source: the form of Sun et al., arXiv 2410.06895.
    Raises: ReportError for no run whose votes tell p_A.
    """
    drawn = [(variant, [run for run in variant.runs if usable(run)]) for variant in variants(group)]
    sigmas = sorted({run.spec.sigma for _, runs in drawn for run in runs})
    if not sigmas:
        raise ReportError("expected runs of a fixed n with rows, got none; run `rrcm-bench run --certifier cohen`")
    columns = 2 if len(sigmas) == 4 else min(3, len(sigmas))
    lines = math.ceil(len(sigmas) / columns)
    figure = blank(max(2.9 * columns, 4.8) + 0.5, 2.7 * lines + 1.1)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    number = 0
    for variant, runs in drawn:
        seen: Counter[float] = Counter()
        twins = len({run.spec.sigma for run in runs}) < len(runs)
        for run in runs:
            label = f"{variant.title} [{digest(run)}]" if twins else variant.title
            label += "" if run.done else f", {len(run.rows)} of {run.spec.images} images"
            found = class_probabilities(run, group.alpha)
            handles[label] = _draw(axes[sigmas.index(run.spec.sigma)], found, number + seen[run.spec.sigma])
            seen[run.spec.sigma] += 1
        number += max(seen.values(), default=0)
    for k, axis in enumerate(axes):
        if k >= len(sigmas):
            axis.set_visible(False)
            continue
        axis.set_title(f"sigma {units.noise_level(sigmas[k])}", fontsize=9)
        axis.set_xlim(0.5, 1.0)
        axis.set_ylim(0, 100)
        axis.grid(color="0.9", linewidth=0.6)
        axis.tick_params(labelsize=8)
        if k + columns >= len(sigmas):
            axis.tick_params(labelbottom=True)
            axis.set_xlabel("probability t of the true class", fontsize=8.5)
    figure.supylabel("images with p_A of at least t (%)", fontsize=9)
    spec = group.runs[0].spec
    figure.suptitle(
        f"{spec.dataset}: {units.count(spec.images)} images; lines: votes / N, N={units.count(spec.n)}; "
        f"shaded down to the lower bound at alpha={units.level(group.alpha)}",
        fontsize=9,
        parse_math=False,
    )
    put_legend(figure, list(handles.values()), list(handles))
    return figure


def _draw(axis: Axes, found: ClassProbabilities, number: int) -> Any:
    """The share of votes as a line, and down to the exact bound a band: images at t or above, so steps to the left."""
    xs = sorted({0.5, *(p for p in (*found.plug_in, *found.lower) if p >= 0.5), 1.0})
    estimated, proven = (
        [100 * at_least(values, x) / found.images for x in xs] for values in (found.plug_in, found.lower)
    )
    look = style(number)
    axis.fill_between(xs, proven, estimated, step="pre", color=look["color"], alpha=0.15, linewidth=0)
    return axis.plot(xs, estimated, drawstyle="steps-pre", linewidth=1.4, **look)[0]
