"""Which figures some runs give, by name; each is drawn when a format asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.published.tables import PublishedTable
from bench.report.class_probability import usable
from bench.report.envelope import in_common
from bench.report.figures.canvas import SCREEN, Style
from bench.report.figures.sample_size import varies
from bench.report.grouping import Group, variants
from bench.report.tables.table import slug
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.report.figures.tradeoff import Timed
    from bench.timing.records import LatencyRecord

NAMES = ("accuracy", "latency", "schedule", "scaling", "ablation", "samples", "probability")


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure that is drawn when a format asks for it."""

    name: str  # of its file, without the ending
    title: str
    draw: Callable[[], Figure]


def drawings(
    groups: Sequence[Group],
    published: PublishedTable | None = None,
    names: Sequence[str] | None = None,
    timed: Sequence[Timed] = (),
    latencies: Sequence[LatencyRecord] = (),
    style: Style = SCREEN,
) -> tuple[Drawing, ...]:
    """The figures of those runs.

    `names`: out of `NAMES`; None gives accuracy, samples where they vary, and latency beside a published table or of
    two methods. `timed`: methods that stand beside the published ones over their latency. `latencies`: records, for
    the figure of runs alone.
    Raises: ReportError for a name that is not known, or a figure asked for by name that these runs cannot give.
    """
    unknown = [name for name in names or () if name not in NAMES]
    if unknown:
        raise ReportError(f"expected figures out of {', '.join(NAMES)}, got {', '.join(map(repr, unknown))}")
    made: list[Drawing] = []
    for name in dict.fromkeys(names if names is not None else ("accuracy", "samples", "latency")):
        # One method alone shows no trade-off; it is drawn where it was asked for.
        own = [group for group in groups if names is not None or len(variants(group)) > 1]
        found = _named(name, own if name == "latency" else groups, published, timed, latencies, style)
        if not found and names is not None:
            raise ReportError(f"no figure {name!r} from these runs: {_WANTS[name]}")
        made += found
    return tuple(made)


_WANTS = {
    "accuracy": "expected runs with rows; run `rrcm-bench run` first",
    "latency": "expected runs with rows, or a published table; run `rrcm-bench run` first, or give --table 1 or 2",
    "schedule": "expected nothing",
    "scaling": "expected nothing",
    "ablation": "expected runs of one method and sigma that differ in one setting; run one again with another --set",
    "probability": "expected runs of a fixed n; run with --certifier cohen",
    "samples": "expected a run whose images took different numbers of samples; run with --certifier sequential",
}


def _named(
    name: str,
    groups: Sequence[Group],
    published: PublishedTable | None,
    timed: Sequence[Timed],
    latencies: Sequence[LatencyRecord],
    style: Style,
) -> list[Drawing]:
    match name:
        case "accuracy":
            return _each(groups, "accuracy", "certified accuracy over the radius", _curves, style)
        case "samples":
            return _each([g for g in groups if varies(g.runs)], "samples", "samples per image", _samples, style)
        case "probability":
            told = [group for group in groups if any(map(usable, group.runs))]
            return _each(told, "probability", "probability of the true class under the noise", _probability, style)
        case "ablation":
            from bench.report.figures.ablation import ablations

            return _each([g for g in groups if ablations(g)], "ablation", "settings compared", _ablation, style)
        case "latency" if published is not None:
            title = f"{published.title}: accuracy over latency"
            return [Drawing(f"latency-{slug(published.dataset)}", title, partial(_latency, published, timed, style))]
        case "latency":
            from bench.report.figures.own_latency import own_figure

            known = [group for group in groups if any(in_common(each.runs)[1] for each in variants(group))]
            draw = partial(own_figure, records=latencies)
            return _each(known, name, "certified accuracy over seconds per image", draw, style)
        case "schedule":
            return [Drawing("schedule", "EMA rate of the target network over pre-training", partial(_schedule, style))]
        case "scaling":
            title = "ImageNet: certified accuracy by model size, as published"
            return [Drawing("scaling-published", title, partial(_scaling, style))]
    return []


def _each(groups: Sequence[Group], name: str, words: str, draw: Callable[..., Figure], style: Style) -> list[Drawing]:
    """One drawing a group; the second of a data set and bound ends in -2."""
    made = []
    seen: dict[str, int] = {}
    for group in groups:
        stem = f"{name}-{slug(group.dataset)}-{group.bound}"
        seen[stem] = seen.get(stem, 0) + 1
        file = stem + (f"-{seen[stem]}" if seen[stem] > 1 else "")
        made.append(Drawing(file, f"{group.dataset}: {words}, bound {group.bound}", partial(draw, group, style=style)))
    return made


def _curves(group: Group, style: Style) -> Figure:
    from bench.report.figures.accuracy import curve_figure

    return curve_figure(group, style=style)


def _samples(group: Group, style: Style) -> Figure:
    from bench.report.figures.sample_size import samples_figure

    return samples_figure(group.runs, style)


def _probability(group: Group, style: Style) -> Figure:
    from bench.report.figures.class_probability import probability_figure

    return probability_figure(group, style)


def _ablation(group: Group, style: Style) -> Figure:
    from bench.report.figures.ablation import ablation_figure, ablations

    title = f"{group.dataset}, N={group.runs[0].spec.n}, alpha={group.alpha:g}"
    return ablation_figure(ablations(group), title, style)


def _latency(published: PublishedTable, timed: Sequence[Timed], style: Style) -> Figure:
    from bench.report.figures.tradeoff import latency_figure

    return latency_figure(published, measured=timed, style=style)


def _schedule(style: Style) -> Figure:
    from bench.report.figures.ema_schedule import schedule_figure

    return schedule_figure(style=style)


def _scaling(style: Style) -> Figure:
    from bench.report.figures.ablation import published_sizes, scaling_figure

    title = (
        "ImageNet, sigma 1.0 in training and certification: quoted, Lei et al., ICLR 2025, Tables 7 and 8\n"
        "(the paper prints no number of rRCM-S)"
    )
    return scaling_figure(published_sizes(), "parameters (millions)", title, style)
