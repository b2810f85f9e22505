"""How many samples the images of a run took, as a picture; all the same where the sample size is fixed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from bench.report import units
from bench.report.accuracy import digest
from bench.report.figures.canvas import DASHES, SCREEN, Style, blank, dress, put_legend
from bench.report.figures.method_looks import looks
from bench.report.method_titles import title_of
from bench.runs.store import Run
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def samples_taken(run: Run) -> tuple[int, ...]:
    """Noisy copies classified for each image, both stages, in the order of the rows."""
    return tuple(row.samples for row in run.rows)


def varies(runs: Sequence[Run]) -> bool:
    """Whether any image of a run took another number of samples than its neighbours."""
    return any(len(set(samples_taken(run))) > 1 for run in runs)


def samples_figure(runs: Sequence[Run], style: Style = SCREEN) -> Figure:
    """Share of the images that took more than that many samples; runs that took one number alike are one line.

    Raises: ReportError for runs without rows.
    """
    drawn: dict[tuple[int, ...], list[Run]] = {}
    for run in runs:
        if run.rows:
            taken = samples_taken(run)
            # One fixed number is one line, however many runs and images share it.
            key = (taken[0],) if len(set(taken)) == 1 else (*sorted(taken), len(drawn))
            drawn.setdefault(key, []).append(run)
    if not drawn:
        raise ReportError("expected runs with certified images, got none; run `rrcm-bench run` first")
    figure = blank(5.6, 4.0, style)
    axis = figure.subplots()
    handles: dict[str, Any] = {}
    drawn_as = looks(run.spec.method for run in runs)
    lowest, highest = min(min(samples_taken(r)) for r in _all(drawn)), max(max(samples_taken(r)) for r in _all(drawn))
    for number, members in enumerate(drawn.values()):
        ordered = sorted(samples_taken(members[0]))
        xs = [lowest / 2, *ordered]
        ys = [100.0, *(100 * (1 - (k + 1) / len(ordered)) for k in range(len(ordered)))]
        look = drawn_as[members[0].spec.method]
        handles[_title(members, ordered)] = axis.plot(
            xs, ys, drawstyle="steps-post", linewidth=1.5, color=look.colour, linestyle=DASHES[number % len(DASHES)],
            marker=look.marker, markersize=5, markevery=[0],
        )[0]  # fmt: skip
    axis.set_xscale("log")
    axis.set_xlim(lowest / 2, highest * 1.6)
    axis.set_ylim(0, 103)
    axis.xaxis.set_major_formatter(lambda value, _: units.count(round(value)))
    dress(axis, style)
    axis.set_xlabel("samples x per image, both stages (log scale)", fontsize=style.text)
    axis.set_ylabel("images that took more than x (%)", fontsize=style.text)
    if style.titled:
        axis.set_title("samples per image", fontsize=style.text)
    put_legend(figure, list(handles.values()), list(handles), style)
    return figure


def _all(drawn: dict[tuple[int, ...], list[Run]]) -> list[Run]:
    return [run for members in drawn.values() for run in members]


def _title(members: Sequence[Run], taken: Sequence[int]) -> str:
    first = members[0].spec
    if len(set(taken)) == 1:
        methods = ", ".join(dict.fromkeys(title_of(run.spec.method) for run in members))
        return f"{methods}: every image {units.count(taken[0])}"
    return (
        f"{title_of(first.method)}, sigma {units.noise_level(first.sigma)} [{digest(members[0])}]: "
        f"mean {units.count(round(fmean(taken)))}, median {units.count(round(median(taken)))}"
    )
