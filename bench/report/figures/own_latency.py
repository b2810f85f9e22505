"""Seconds and accuracies of the runs of one group, for a figure without a published table; no drawing of its own."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from bench.report.envelope import envelope, in_common
from bench.report.figures.canvas import SCREEN, Style
from bench.report.figures.tradeoff import Timed, own_latency_figure
from bench.report.grouping import Group, Variant, variants
from bench.report.method_titles import printed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.timing.records import LatencyRecord

# Each kind of seconds is drawn with its like alone.
RECORDED = "median of repeats by `rrcm-bench latency` on {devices}"
PASSING = "median over the images of a run, beside whatever else the machine did: no latency measurement"


def timed_here(group: Group, records: Sequence[LatencyRecord] = ()) -> tuple[tuple[Timed, ...], str, tuple[str, ...]]:
    """Each method of the group at its best sigma per radius; what its seconds are; and the methods without any.

    From the records where any fits; only where none does, what the runs themselves took.
    """
    known = [variant for variant in variants(group) if in_common(variant.runs)[1]]
    recorded = {variant.title: one for variant in known if (one := _recorded(group, variant, records))}
    if recorded:
        missing = [_title(variant) for variant in known if variant.title not in recorded]
        devices = ", ".join(sorted({one.device for one in recorded.values()}))
        return tuple(recorded.values()), RECORDED.format(devices=devices), tuple(missing)
    passing = (_timed(group, each, median(r.seconds for run in each.runs for r in run.rows), "") for each in known)
    return tuple(passing), PASSING, ()


def own_figure(group: Group, records: Sequence[LatencyRecord] = (), style: Style = SCREEN) -> Figure:
    """Certified accuracy over seconds per image of one group.

    Raises: ReportError as `own_latency_figure`.
    """
    timed, how, missing = timed_here(group, records)
    title = f"{group.dataset}: accuracy over seconds per image, best sigma per radius"
    return own_latency_figure(timed, group.radii, title, how, missing, style)


def _recorded(group: Group, variant: Variant, records: Sequence[LatencyRecord]) -> Timed | None:
    from bench.report.tables.latency import KINDS, seconds_of

    found = seconds_of(variant.runs[0], records)
    if found is None:
        return None
    return _timed(group, variant, found.value, found.record.device.name, "" if found.kind == KINDS[0] else found.kind)


def _timed(group: Group, variant: Variant, seconds: float, device: str, kind: str = "") -> Timed:
    best = envelope(variant.runs, group.radii, group.bound, group.alpha)
    return Timed(
        title=_title(variant) + (f" ({kind})" if kind else ""),
        seconds=seconds,
        values=tuple(winner.certified / best.images for winner in best.best),
        params_millions=None,
        device=device,
        n=variant.runs[0].spec.n,
        method=variant.runs[0].spec.method,
    )


def _title(variant: Variant) -> str:
    return printed(variant.title, variant.runs[0].spec.method)
