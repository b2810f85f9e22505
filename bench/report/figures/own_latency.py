"""Seconds and accuracies of the runs of one group, for a figure without a published table; no drawing of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from bench.report.envelope import envelope, in_common
from bench.report.figures.canvas import SCREEN, Style
from bench.report.figures.tradeoff import Timed, own_latency_figure
from bench.report.grouping import Group, Variant, variants
from bench.report.method_titles import printed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.runs.store import Run
    from bench.timing.records import LatencyRecord

# Each kind of seconds is drawn with its like alone.
RECORDED = "median of repeats by `rrcm-bench latency` on {devices}"
PASSING = "median over the images of a run on {devices}, beside whatever else the machine did: no latency measurement"


def timed_here(group: Group, records: Sequence[LatencyRecord] = ()) -> tuple[tuple[Timed, ...], str, tuple[str, ...]]:
    """Each method of the group at its best sigma per radius; what its seconds are; and the methods without any.

    From the records where any fits; only where none does, what the runs themselves took. Of one device, that of most
    methods: seconds of two compare devices.
    """
    known = [variant for variant in variants(group) if in_common(variant.runs)[1]]
    recorded = {variant.title: one for variant in known if (one := _recorded(group, variant, records))}
    found = list(recorded.values())
    missing = [_title(variant) for variant in known if variant.title not in recorded] if found else []
    if found:
        how, device = RECORDED, commonest(one.device for one in found)
    else:
        how, device = PASSING, commonest(on for each in known for on in {device_of([run]) for run in each.runs})
        found = [_passing(group, each, device) for each in known]
    elsewhere = [f"{one.title} ({one.device or 'device not recorded'})" for one in found if one.device != device]
    timed = tuple(one for one in found if one.device == device)
    return timed, how.format(devices=device or "a device that is not recorded"), (*missing, *elsewhere)


def device_of(runs: Sequence[Run]) -> str:
    """The device of some runs by its name, or all, where they are of several."""
    named = [run.environment.get("devices", {}) for run in runs]
    return ", ".join(
        sorted({str(one) for each in named for one in (each.values() if isinstance(each, Mapping) else (each,))})
    )


def commonest(devices: Iterable[str]) -> str:
    """The device that most have, as tables choose it."""
    from bench.report.tables.latency import device_of_most

    return device_of_most(Counter(devices))


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


def _passing(group: Group, variant: Variant, device: str) -> Timed:
    """By the rows that the device drew; by all, where there are none."""
    on_it = [run for run in variant.runs if device_of([run]) == device] or variant.runs
    return _timed(group, variant, median(row.seconds for run in on_it for row in run.rows), device_of(on_it))


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
