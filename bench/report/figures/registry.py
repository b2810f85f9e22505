"""Which figures some runs give, by name; each is drawn when a format asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.published.tables import PublishedTable
from bench.report.class_probability import usable
from bench.report.figures.sample_size import varies
from bench.report.grouping import Group
from bench.report.tables.table import slug
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.report.figures.tradeoff import Timed

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
) -> tuple[Drawing, ...]:
    """The figures of those runs.

    `names`: out of `NAMES`; None gives accuracy and samples where they vary, latency beside a published table.
    `timed`: methods that stand beside the published ones over their latency.
    Raises: ReportError for a name that is not known, or a figure asked for by name that these runs cannot give.
    """
    unknown = [name for name in names or () if name not in NAMES]
    if unknown:
        raise ReportError(f"expected figures out of {', '.join(NAMES)}, got {', '.join(map(repr, unknown))}")
    made: list[Drawing] = []
    for name in dict.fromkeys(names if names is not None else ("accuracy", "samples", "latency")):
        found = _named(name, groups, published, timed)
        if not found and names is not None:
            raise ReportError(f"no figure {name!r} from these runs: {_WANTS[name]}")
        made += found
    return tuple(made)


_WANTS = {
    "accuracy": "expected runs with rows; run `rrcm-bench run` first",
    "latency": "expected a published table to stand in; give --table 1 or 2",
    "schedule": "expected nothing",
    "scaling": "expected nothing",
    "ablation": "expected runs of one method and sigma that differ in one setting; run one again with another --set",
    "probability": "expected runs of a fixed n; run with --certifier cohen",
    "samples": "expected a run whose images took different numbers of samples; run with --certifier sequential",
}


def _named(
    name: str, groups: Sequence[Group], published: PublishedTable | None, timed: Sequence[Timed]
) -> list[Drawing]:
    match name:
        case "accuracy":
            return _each(groups, "accuracy", "certified accuracy over the radius", _curves)
        case "samples":
            return _each([g for g in groups if varies(g.runs)], "samples", "samples per image", _samples)
        case "probability":
            told = [group for group in groups if any(map(usable, group.runs))]
            return _each(told, "probability", "probability of the true class under the noise", _probability)
        case "ablation":
            from bench.report.figures.ablation import ablations

            return _each([g for g in groups if ablations(g)], "ablation", "settings compared", _ablation)
        case "latency" if published is not None:
            title = f"{published.title}: accuracy over latency"
            return [Drawing(f"latency-{slug(published.dataset)}", title, partial(_latency, published, timed))]
        case "schedule":
            return [Drawing("schedule", "EMA rate of the target network over pre-training", _schedule)]
        case "scaling":
            return [Drawing("scaling-published", "ImageNet: certified accuracy by model size, as published", _scaling)]
    return []


def _each(groups: Sequence[Group], name: str, words: str, draw: Callable[[Group], Figure]) -> list[Drawing]:
    """One drawing a group; the second of a data set and bound ends in -2."""
    made = []
    seen: dict[str, int] = {}
    for group in groups:
        stem = f"{name}-{slug(group.dataset)}-{group.bound}"
        seen[stem] = seen.get(stem, 0) + 1
        file = stem + (f"-{seen[stem]}" if seen[stem] > 1 else "")
        made.append(Drawing(file, f"{group.dataset}: {words}, bound {group.bound}", partial(draw, group)))
    return made


def _curves(group: Group) -> Figure:
    from bench.report.figures.accuracy import curve_figure

    return curve_figure(group)


def _samples(group: Group) -> Figure:
    from bench.report.figures.sample_size import samples_figure

    return samples_figure(group.runs)


def _probability(group: Group) -> Figure:
    from bench.report.figures.class_probability import probability_figure

    return probability_figure(group)


def _ablation(group: Group) -> Figure:
    from bench.report.figures.ablation import ablation_figure, ablations

    return ablation_figure(ablations(group), f"{group.dataset}, N={group.runs[0].spec.n}, alpha={group.alpha:g}")


def _latency(published: PublishedTable, timed: Sequence[Timed]) -> Figure:
    from bench.report.figures.tradeoff import latency_figure

    return latency_figure(published, measured=timed)


def _schedule() -> Figure:
    from bench.report.figures.ema_schedule import schedule_figure

    return schedule_figure()


def _scaling() -> Figure:
    from bench.report.figures.ablation import published_sizes, scaling_figure

    title = (
        "ImageNet, sigma 1.0 in training and certification: quoted, Lei et al., ICLR 2025, Tables 7 and 8\n"
        "(the paper prints no number of rRCM-S)"
    )
    return scaling_figure(published_sizes(), "parameters (millions)", title)
