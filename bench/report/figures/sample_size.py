"""How many samples the images of a run took, as a picture; all the same where the sample size is fixed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from bench.report import units
from bench.report.accuracy import digest
from bench.report.figures.accuracy import blank, put_legend, style
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


def samples_figure(runs: Sequence[Run]) -> Figure:
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
    figure = blank(5.6, 4.0)
    axis = figure.subplots()
    handles: dict[str, Any] = {}
    lowest, highest = min(min(samples_taken(r)) for r in _all(drawn)), max(max(samples_taken(r)) for r in _all(drawn))
    for number, members in enumerate(drawn.values()):
        ordered = sorted(samples_taken(members[0]))
        xs = [lowest / 2, *ordered]
        ys = [100.0, *(100 * (1 - (k + 1) / len(ordered)) for k in range(len(ordered)))]
        handles[_title(members, ordered)] = axis.plot(xs, ys, drawstyle="steps-post", linewidth=1.5, **style(number))[0]
    axis.set_xscale("log")
    axis.set_xlim(lowest / 2, highest * 1.6)
    axis.set_ylim(0, 103)
    axis.xaxis.set_major_formatter(lambda value, _: units.count(round(value)))
    axis.grid(color="0.9", linewidth=0.6)
    axis.tick_params(labelsize=8)
    axis.set_xlabel("samples x per image, both stages (log scale)", fontsize=8.5)
    axis.set_ylabel("images that took more than x (%)", fontsize=9)
    axis.set_title("samples per image", fontsize=9)
    put_legend(figure, list(handles.values()), list(handles))
    return figure


def _all(drawn: dict[tuple[int, ...], list[Run]]) -> list[Run]:
    return [run for members in drawn.values() for run in members]


def _title(members: Sequence[Run], taken: Sequence[int]) -> str:
    first = members[0].spec
    if len(set(taken)) == 1:
        methods = ", ".join(dict.fromkeys(run.spec.method for run in members))
        return f"{methods}: every image {units.count(taken[0])}"
    return (
        f"{first.method}, sigma {units.noise_level(first.sigma)} [{digest(members[0])}]: "
        f"mean {units.count(round(fmean(taken)))}, median {units.count(round(median(taken)))}"
    )
