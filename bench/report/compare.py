"""Two runs on the images that both have certified: where they differ, and whether it could be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.report import units
from bench.report.accuracy import name, table_radii
from bench.report.grouping import BOUND_WORDS, remarks
from bench.report.hypothesis_tests import (
    DRAWS,
    LEVEL,
    POWER,
    Discordance,
    benjamini_hochberg,
    bootstrap,
    detectable,
    holm,
)
from bench.report.hypothesis_tests import mcnemar as mcnemar_p
from bench.report.per_image import common, discordance, of_run
from bench.report.tables.table import Cell, Column, Line, Table, Unit
from bench.runs.store import Run
from bench.types.errors import ReportError
from bench.types.limits import ALPHA


@dataclass(frozen=True, slots=True, kw_only=True)
class RadiusComparison:
    """One radius."""

    radius: float
    counts: Discordance
    low: float  # paired bootstrap interval on the difference, fraction
    high: float
    p: float  # exact McNemar
    p_holm: float  # over the radii compared: the declared family
    p_bh: float  # the same radii, for exploration
    detectable: float | None  # smallest difference that one test finds with power 0.8 at this discordance; None: none


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs, on their common images."""

    a: Run
    b: Run
    images: int
    only_a: int  # images of a that b has not certified
    only_b: int
    radii: tuple[RadiusComparison, ...]
    acr: tuple[float, float]  # average certified radius on the common images, l2
    acr_interval: tuple[float, float]  # paired bootstrap, on a minus b
    bound: str
    alpha: float
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values at full precision."""
        return {
            "format": 1,
            "a": {"run": self.a.spec.digest(), "spec": self.a.spec.as_json()},
            "b": {"run": self.b.spec.digest(), "spec": self.b.spec.as_json()},
            "images": {"common": self.images, "only_a": self.only_a, "only_b": self.only_b},
            "bound": self.bound,
            "alpha": self.alpha,
            "level": LEVEL,
            "radii": [{**asdict(r), "counts": asdict(r.counts), "difference": r.counts.difference} for r in self.radii],
            "acr": {"a": self.acr[0], "b": self.acr[1], "low": self.acr_interval[0], "high": self.acr_interval[1]},
            "notes": list(self.notes),
        }


def compare(
    a: Run,
    b: Run,
    radii: Sequence[float] | None = None,
    *,
    bound: str = "pa",
    alpha: float | None = None,
    overlap: bool = False,
) -> Comparison:
    """Paired comparison at some radii, those of the dataset's tables where none are given.

    `overlap`: pair what two different subsets share, and say how much that is; refused without.
    Raises: ReportError for runs whose radii are not in the same pixels, of two alphas, or without a common image.
    """
    _check(a, b, alpha, overlap)
    chosen = _radii(a, b, radii)
    left, right = of_run(a, chosen, bound, alpha), of_run(b, chosen, bound, alpha)
    shared = common(left, right)
    if not shared:
        raise ReportError(
            f"{name(a)} and {name(b)} have no image in common ({len(left.by_image)} and {len(right.by_image)} images); "
            "certify both on one --subset"
        )
    if clash := next((k for k in shared if left.by_image[k].label != right.by_image[k].label), None):
        raise ReportError(
            f"image {clash[:10]} has label {left.by_image[clash].label} in {name(a)} and {right.by_image[clash].label} "
            f"in {name(b)}; expected one; certify one of them again"
        )
    counts = [discordance(left, right, shared, k) for k in range(len(chosen))]
    p_values = [mcnemar_p(each) for each in counts]
    rows = [
        RadiusComparison(
            radius=radius,
            counts=each,
            low=interval[0],
            high=interval[1],
            p=p,
            p_holm=by_holm,
            p_bh=by_bh,
            detectable=detectable(len(shared), each.share),
        )
        for radius, each, p, by_holm, by_bh, interval in zip(
            chosen, counts, p_values, holm(p_values), benjamini_hochberg(p_values), map(_interval, counts), strict=True
        )
    ]
    own = [[v.by_image[key].radius for key in shared] for v in (left, right)]
    return Comparison(
        a=a,
        b=b,
        images=len(shared),
        only_a=len(left.by_image) - len(shared),
        only_b=len(right.by_image) - len(shared),
        radii=tuple(rows),
        acr=(sum(own[0]) / len(shared), sum(own[1]) / len(shared)),
        acr_interval=bootstrap([x - y for x, y in zip(*own, strict=True)]),
        bound=bound,
        alpha=a.spec.alpha if alpha is None else alpha,
        notes=tuple(_notes(a, b, len(shared), len(left.by_image), len(right.by_image))),
    )


def comparison_table(made: Comparison) -> Table:
    """The comparison laid out, one row a radius."""
    origin = f"{made.a.spec.digest()} {made.b.spec.digest()}"

    def cell(value: str | int | float | None, unit: Unit, low: float | None = None, high: float | None = None) -> Cell:
        return Cell(value=value, unit=unit, source="measured", low=low, high=high, origin=origin, images=made.images)

    rows: list[Line] = []
    for text, r in zip(units.grid(x.radius for x in made.radii), made.radii, strict=True):
        c = r.counts
        rows.append(
            (
                cell(text, "text"),
                cell((c.both + c.only_a) / c.images, "fraction"),
                cell((c.both + c.only_b) / c.images, "fraction"),
                cell(c.difference, "fraction", r.low, r.high),
                cell(c.only_a, "count"),
                cell(c.only_b, "count"),
                *(cell(units.p_value(p), "text") for p in (r.p, r.p_holm, r.p_bh)),
                cell(r.detectable, "fraction"),
                cell(_winner(r), "text"),
            )
        )
    acr = " against ".join(units.certified_radius(x) for x in made.acr)
    low, high = made.acr_interval
    return Table(
        name="compare",
        title=f"a = {name(made.a)} against b = {name(made.b)}, on {units.count(made.images)} common images",
        caption=(
            f"{made.a.spec.dataset} {made.a.spec.split}; alpha={units.level(made.alpha)}; {BOUND_WORDS[made.bound]}"
        ),
        columns=tuple(
            Column(key, title)
            for key, title in (
                *(("radius", "r"), ("a", "a %"), ("b", "b %"), ("difference", "a - b, points")),
                *(("only_a", "only a"), ("only_b", "only b"), ("p", "p"), ("p_holm", "p Holm"), ("p_bh", "p BH")),
                *(("detectable", "detectable"), ("better", "better")),
            )
        ),
        rows=tuple(rows),
        notes=(
            f"average certified radius {acr}; a - b within [{low:+.4f}, {high:+.4f}] (95 % paired bootstrap)",
            f"p: exact McNemar, two-sided; Holm over these {len(made.radii)} radii decides at {LEVEL:g}; BH explores",
            f"a - b: 95 % paired bootstrap over the images, {units.count(DRAWS)} draws",
            f"detectable: the least difference, in points, that one test at {LEVEL:g} finds with power {POWER:g}",
            f"detectable {units.MISSING}: they differ on too few images for any test",
            *made.notes,
        ),
    )


def _radii(a: Run, b: Run, radii: Sequence[float] | None) -> tuple[float, ...]:
    """The radii asked for, or those of the tables; only such as both runs have verdicts at."""
    settled = [frozenset(run.spec.radii) for run in (a, b) if run.spec.stops]
    if radii is None:
        chosen = tuple(r for r in table_radii(a) if all(r in own for own in settled))
    else:
        chosen = tuple(sorted(set(radii)))
    # Elsewhere a run that stops early has lower bounds, which can be neither paired nor ranked.
    if not chosen or (off := [r for r in chosen if any(r not in own for own in settled)]):
        asked = "the tables' radii" if not chosen else f"r = {', '.join(f'{r:g}' for r in off)}"
        known = "; ".join(
            f"{name(run)} at {', '.join(f'{r:g}' for r in run.spec.radii)}" for run in (a, b) if run.spec.stops
        )
        raise ReportError(f"no verdict of both runs at {asked}; known: {known or 'any radius'}; give others by --radii")
    return chosen


def _check(a: Run, b: Run, alpha: float | None, overlap: bool) -> None:
    if a.spec.digest() == b.spec.digest():
        raise ReportError(f"{name(a)} was given twice; expected two runs")
    for what in ("shape", "preprocessing"):
        one, other = getattr(a.spec, what), getattr(b.spec, what)
        if one != other:
            raise ReportError(
                f"{name(a)} has {what} {one!r}, {name(b)} {other!r}: their l2 radii are in other pixels; "
                "expected one; certify both in the same"
            )
    if alpha is not None and not ALPHA <= alpha < 0.5:
        raise ReportError(f"alpha must lie in [{ALPHA:g}, 0.5), got {alpha!r}; the field uses 0.001")
    if alpha is None and a.spec.alpha != b.spec.alpha:
        raise ReportError(
            f"{name(a)} has alpha={a.spec.alpha:g}, {name(b)} {b.spec.alpha:g}; expected one; "
            "give --alpha to re-read both"
        )
    if a.spec.subset_fingerprint != b.spec.subset_fingerprint and not overlap:
        raise ReportError(
            f"{name(a)} is of subset {a.spec.subset!r} of {a.spec.dataset}, {name(b)} of {b.spec.subset!r} of "
            f"{b.spec.dataset}, other images: they can neither be paired nor ranked; "
            "give --overlap to pair what they share"
        )


def _interval(counts: Discordance) -> tuple[float, float]:
    return bootstrap([1.0] * counts.only_a + [-1.0] * counts.only_b + [0.0] * (counts.both + counts.neither))


def _winner(r: RadiusComparison) -> str:
    if r.p_holm > LEVEL:
        return "undecided"
    return "a" if r.counts.difference > 0 else "b"


def _notes(a: Run, b: Run, shared: int, images_a: int, images_b: int) -> list[str]:
    notes = []
    if a.spec.subset_fingerprint != b.spec.subset_fingerprint:
        notes.append(
            f"! different subsets: {units.count(shared)} images are common, {units.count(images_a - shared)} only of "
            f"a, {units.count(images_b - shared)} only of b; nothing here is of those"
        )
    for run in (a, b):
        notes += remarks(run)
        if run.spec.stops:
            notes.append(f"! {name(run)} stops at its verdicts: its average certified radius is a lower bound")
    for what in ("n", "certifier", "precision", "dataset"):
        one, other = getattr(a.spec, what), getattr(b.spec, what)
        if one != other:
            shown = (units.count(one), units.count(other)) if what == "n" else (one, other)
            notes.append(f"! {what} differs: {shown[0]} in a, {shown[1]} in b; the comparison is of the two together")
    return notes
