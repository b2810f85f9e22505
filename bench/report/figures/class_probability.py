"""The distribution of p_A as a picture: how many images have at least that probability of their true class."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from bench.report import units
from bench.report.accuracy import digest
from bench.report.class_probability import ClassProbabilities, at_least, class_probabilities, usable
from bench.report.figures.canvas import DASHES, SCREEN, Style, blank, dress, put_legend
from bench.report.figures.method_looks import EMPHASISED, Look, looks
from bench.report.grouping import Group, variants
from bench.report.method_titles import printed
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def probability_figure(group: Group, style: Style = SCREEN) -> Figure:
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
    figure = blank(max(2.9 * columns, 4.8) + 0.5, 2.7 * lines + 1.1, style)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    found_looks = looks(run.spec.method for run in group.runs)
    numbers: Counter[str] = Counter()  # lines of a method so far
    for variant, runs in drawn:
        method = variant.runs[0].spec.method
        seen: Counter[float] = Counter()
        twins = len({run.spec.sigma for run in runs}) < len(runs)
        for run in runs:
            label = printed(variant.title, method) + (f" [{digest(run)}]" if twins else "")
            label += "" if run.done else f", {len(run.rows)} of {run.spec.images} images"
            found = class_probabilities(run, group.alpha)
            number, axis = numbers[method] + seen[run.spec.sigma], axes[sigmas.index(run.spec.sigma)]
            handles[label] = _draw(axis, found, found_looks[method], number, loud=method == EMPHASISED)
            seen[run.spec.sigma] += 1
        numbers[method] += max(seen.values(), default=0)
    for k, axis in enumerate(axes):
        if k >= len(sigmas):
            axis.set_visible(False)
            continue
        dress(axis, style)
        axis.set_title(f"sigma {units.noise_level(sigmas[k])}", fontsize=style.text)
        axis.set_xlim(0.5, 1.0)
        axis.set_ylim(0, 100)
        if k + columns >= len(sigmas):
            axis.tick_params(labelbottom=True)
            axis.set_xlabel("probability t of the true class", fontsize=style.small)
    figure.supylabel("images with p_A of at least t (%)", fontsize=style.text)
    if style.titled:
        spec = group.runs[0].spec
        figure.suptitle(
            f"{spec.dataset}: {units.count(spec.images)} images; lines: votes / N, N={units.count(spec.n)}; "
            f"shaded down to the lower bound at alpha={units.level(group.alpha)}",
            fontsize=style.text,
            parse_math=False,
        )
    put_legend(figure, list(handles.values()), list(handles), style)
    return figure


def _draw(axis: Axes, found: ClassProbabilities, look: Look, number: int, *, loud: bool) -> Any:
    """The share of votes as a line, and down to the exact bound a band: images at t or above, so steps to the left."""
    xs = sorted({0.5, *(p for p in (*found.plug_in, *found.lower) if p >= 0.5), 1.0})
    estimated, proven = (
        [100 * at_least(values, x) / found.images for x in xs] for values in (found.plug_in, found.lower)
    )
    axis.fill_between(xs, proven, estimated, step="pre", color=look.colour, alpha=0.15, linewidth=0)
    return axis.plot(
        xs,
        estimated,
        drawstyle="steps-pre",
        color=look.colour,
        linestyle=DASHES[number % len(DASHES)],
        linewidth=2.0 if loud else 1.2,
        zorder=4 if loud else 3,
    )[0]
