"""Latency records as tables: measured, extrapolated, projected and published seconds each in a column of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.report import units
from bench.timing.latency.calibration import LeftOut, Pair, rates, worst
from bench.timing.latency.devices import Profile
from bench.timing.latency.paper import Claim, PaperRow, claims, rederived
from bench.timing.latency.projection import Projection
from bench.timing.records import STAGES, LatencyRecord, certificate_seconds, offline_rate, utilisation

BASES = ("rrcm-b-10k", "rrcm-b")  # rows that ratios are to: of equal N


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table of words, ready to be laid out."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One row of a session: what it is, and what came of it."""

    title: str
    key: str  # of a published row; "" for none
    record: LatencyRecord | None
    projection: Projection | None = None  # at the record's precision
    in_half: Projection | None = None  # in bf16, where the record is of another and the device has it
    refusal: str = ""


def measured(rows: Sequence[Timed]) -> Grid:
    """What this device took, with every doubt beneath."""
    body, notes = [], []
    for row in rows:
        if (r := row.record) is None:
            body.append((row.title, *["" for _ in range(11)]))
            notes.append(f"{row.title} not timed: {row.refusal}")
            continue
        seconds, p90 = (units.duration(certificate_seconds(r, q)) for q in (0.5, 0.9))
        used = utilisation(r)
        body.append(
            (
                row.title + (" (random weights)" if r.random_weights else ""),
                ", ".join(f"{count} {network}" for network, count in r.calls.items()),
                f"{r.work.total_flops / 2e9:.4g}" if r.work else "not countable",
                str(r.batch),
                seconds if r.kind == "measured" else "",
                seconds if r.kind == "extrapolated" else "",
                p90,
                f"{offline_rate(r):.3g}",
                f"{r.copies / sorted(r.seconds)[len(r.seconds) // 2]:.4g}",
                _stages(r),
                units.percent(used) if used is not None else units.MISSING,
                f"{r.peak_bytes / 2**30:.2f}" if r.peak_bytes else units.MISSING,
            )
        )
        if r.kind == "extrapolated":
            notes.append(
                f"{row.title}: extrapolated from {len(r.seconds)} repeats of {r.copies} copies to {r.n0 + r.n}"
            )
        if r.replayed:
            notes.append(f"{row.title}: passes replayed from CUDA graphs; the split by stages is of launched ones")
        if r.energy_j is not None:
            notes.append(f"{row.title}: {r.energy_j:.4g} J a certificate, idle power included")
        notes += [f"! {row.title}: {doubt}" for doubt in r.doubts]
    first = next((row.record for row in rows if row.record), None)
    where = f" on {first.device.name}, {first.device.threads} threads" if first else ""
    how = f"; {_what(first)}" if first else ""
    return Grid(
        title=f"seconds of one certificate{where}{how}",
        columns=(
            "method", "calls a copy", "GMAC a copy", "batch", "MEASURED", "EXTRAPOLATED", "90th pct.", "images/s",
            "copies/s", "/".join(STAGES), "MFU", "peak GiB",
        ),
        rows=tuple(body),
        notes=tuple(notes),
    )  # fmt: skip


def projected(rows: Sequence[Timed], target: Profile) -> Grid:
    """What each row would take on a device that is not here, each over a row of what the device could do at most."""
    body: list[tuple[str, ...]] = []
    notes: list[str] = []
    for row in rows:
        if row.projection is None:
            notes.append(f"{row.title} not projected: {row.refusal}")
            continue
        r = row.record
        here = units.duration(certificate_seconds(r)) if r else ""
        kinds = [here if r and r.kind == kind else "" for kind in ("measured", "extrapolated")]
        for p, timed in ((row.projection, kinds), *(((row.in_half, ["", ""]),) if row.in_half else ())):
            title = f"{row.title}, {p.precision}"
            span = f"{units.duration(p.low)} to {units.duration(p.high)}"
            body.append((title, *timed, units.duration(p.seconds), span, ""))
            body.append((f"{title}, limit by {p.limits.name}", "", "", "", "", units.duration(p.limit)))
            notes.append(f"{title}: {p.how}")
            notes.append(
                f"{title}: limits are {units.duration(p.limits.arithmetic)} by arithmetic and "
                f"{units.duration(p.limits.traffic)} by compulsory traffic"
            )
    notes.append("intervals: the extremes of `rrcm-bench latency --backtest` for the kind of network, no level")
    notes.append(
        "limits: FLOP at the peak; weights, copies and labels passing the memory once; neither can be undercut"
    )
    notes.append(f"{target.name}: {target.source}")
    first = next((row.record for row in rows if row.record), None)
    here = first.device.name if first else "shapes alone"
    return Grid(
        title=f"PROJECTED from {here} to {target.name}: not measured; {_what(first) if first else ''}",
        columns=(
            "method", "MEASURED here", "EXTRAPOLATED here", f"PROJECTED {target.key}", "interval", "LIMIT",
        ),
        rows=tuple(body),
        notes=tuple(notes),
    )  # fmt: skip


def beside_published(rows: Sequence[Timed], plan: Sequence[PaperRow], target: Profile | None) -> Grid:
    """Published against own seconds, and the ratios to rRCM-B at the same N, which a change of device moves least."""
    quoted = {row.key: row for row in plan if row.key and row.seconds}
    own = {row.key: row for row in rows if row.key}
    body = []
    for row in rows:
        paper = quoted.get(row.key)
        base = next((k for k in BASES if k in quoted and paper and quoted[k].n == paper.n), None)
        r = row.record
        here = units.duration(certificate_seconds(r)) if r else ""
        ratio = theirs = away = ""
        if paper and base and paper.seconds:
            theirs = f"{paper.seconds / (quoted[base].seconds or 1):.1f}"
            other = own.get(base)
            if r and other and other.record:
                ratio = f"{certificate_seconds(r) / certificate_seconds(other.record):.1f}"
                ratio += "" if r.kind == other.record.kind == "measured" else " (extrapolated)"
            if row.projection and other and other.projection:
                away = f"{row.projection.seconds / other.projection.seconds:.1f}"
        body.append(
            (
                row.title,
                units.count(paper.n) if paper else (units.count(r.n) if r else ""),
                units.duration(paper.seconds) if paper and paper.seconds else "",
                here if r and r.kind == "measured" else "",
                here if r and r.kind == "extrapolated" else "",
                units.duration(row.projection.seconds) if row.projection else "",
                theirs,
                ratio,
                away,
            )
        )
    hardware = plan[0].hardware if plan else ""
    return Grid(
        title=f"published ({hardware}) beside this device",
        columns=(
            "row", "N", "PUBLISHED", "MEASURED", "EXTRAPOLATED", f"PROJECTED {target.key if target else ''}".strip(),
            "x rRCM-B, published", "x rRCM-B, here", "x rRCM-B, projected",
        ),
        rows=tuple(body),
        notes=("ratios are to rRCM-B at the same N; those of one device are the robust quantity",),
    )  # fmt: skip


def claimed(rows: Sequence[Timed] = ()) -> Grid:
    """The paper's claims of speed, from its own rows, and from ours where all that a claim needs were timed."""
    own = {row.key: certificate_seconds(row.record) for row in rows if row.record and row.key}
    kinds = {row.key: row.record.kind for row in rows if row.record}
    body = []
    for claim in claims():
        again = rederived(claim, own)
        partly = any(kinds.get(key) == "extrapolated" for key in (*claim.over, claim.base))
        body.append(
            (
                f"{claim.times:g}x",
                claim.where,
                _needs(claim),
                ", ".join(f"{ratio:.1f}" for ratio in claim.ratios),
                f"{claim.derived:.1f}x",
                "" if again is None else f"{again:.1f}x" + (" (extrapolated)" if partly else ""),
                claim.note,
            )
        )
    return Grid(
        title="claims of speed, re-derived",
        columns=("claim", "where", "rows needed", "published ratios", "their mean", "here", "note"),
        rows=tuple(body),
    )


def backtest(pairs: Sequence[Pair], left_out: Sequence[LeftOut]) -> tuple[Grid, Grid, Grid]:
    """All rates; the published ones each predicted from each other; and each predicted by the rest of its family."""
    known = Grid(
        title="rates of networks, published and our own, and their share of the device's dense peak",
        columns=("device", "network", "kind", "precision", "copies/s", "share of peak", "stack", "source"),
        rows=tuple(
            (
                r.device,
                r.network,
                r.kind,
                r.precision,
                f"{r.images_s:g}",
                units.percent(r.efficiency),
                r.stack,
                r.source,
            )
            for r in rates()
        ),
    )
    each = Grid(
        title="one device from another, by an equal share of the peak: predicted over published rate",
        columns=("from", "to", "precision", "error", "families"),
        rows=tuple(
            (p.source, p.target, p.precision, f"{p.error:+.0%}", "same" if p.same_family else "mixed: never done")
            for p in sorted(pairs, key=lambda p: (not p.same_family, p.target, p.source))
        ),
    )
    rest = Grid(
        title="leave-one-out: each rate of a datacentre device from the nearest others of its kind",
        columns=("device", "network", "kind", "precision", "error"),
        rows=tuple((row.device, row.network, row.kind, row.precision, f"{row.error:+.0%}") for row in left_out),
        notes=(
            f"largest error {worst(left_out):.0%} over {len(left_out)} rates",
            "a projection's interval takes the extremes of its kind of network, at about its FLOP a copy",
        ),
    )
    return known, each, rest


def as_json(rows: Sequence[Timed]) -> list[Mapping[str, object]]:
    """Records as stored, each with its projection, if any, beside it and never inside."""
    from dataclasses import asdict

    return [
        {
            "title": row.title,
            "record": row.record.as_json() if row.record else None,
            "projection": asdict(row.projection) if row.projection else None,
            "projection_bf16": asdict(row.in_half) if row.in_half else None,
            "refusal": row.refusal or None,
        }
        for row in rows
    ]


def _needs(claim: Claim) -> str:
    return f"({', '.join(claim.over)}) / {claim.base}"


def _what(record: LatencyRecord) -> str:
    spec = record.spec
    return (
        f"{spec['dataset']} {'x'.join(map(str, spec['shape']))}, n0 + n {record.n0} + {record.n}, {spec['precision']}"
    )


def _stages(record: LatencyRecord) -> str:
    total = sum(record.stages.values())
    if total <= 0:
        return units.MISSING
    return "/".join(f"{100 * record.stages.get(stage, 0.0) / total:.0f}" for stage in STAGES) + " %"
