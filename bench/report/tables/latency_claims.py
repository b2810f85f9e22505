"""Latency records as tables: measured, extrapolated, projected and published seconds each in a column of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.report import units
from bench.report.tables.table import Cell, Column, Line, Source, Table, Unit, slug
from bench.timing.latency.calibration import LeftOut, Pair, rates, worst
from bench.timing.latency.devices import Profile
from bench.timing.latency.paper import Claim, PaperRow, claims, rederived
from bench.timing.latency.projection import Projection
from bench.timing.records import STAGES, LatencyRecord, certificate_seconds, offline_rate, utilisation

BASES = ("rrcm-b-10k", "rrcm-b")  # rows that ratios are to: of equal N


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One row of a session: what it is, and what came of it."""

    title: str
    key: str  # of a published row; "" for none
    record: LatencyRecord | None
    projection: Projection | None = None  # at the record's precision
    in_half: Projection | None = None  # in bf16, where the record is of another and the device has it
    refusal: str = ""


def measured(rows: Sequence[Timed]) -> Table:
    """What this device took, with every doubt beneath."""
    body: list[Line] = []
    notes: list[str] = []
    columns = (
        *(_column("method"), _column("calls a copy"), _column("GMAC a copy"), _column("batch")),
        *(_column("MEASURED"), _column("EXTRAPOLATED", "extrapolated")),
        *map(_column, ("90th pct.", "images/s", "copies/s", "/".join(STAGES), "MFU", "peak GiB")),
    )
    for row in rows:
        if (r := row.record) is None:
            body.append(_line(columns, "measured", (row.title, "text"), *((None, "number") for _ in columns[1:])))
            notes.append(f"{row.title} not timed: {row.refusal}")
            continue
        seconds, p90 = (certificate_seconds(r, q) for q in (0.5, 0.9))
        body.append(
            _line(
                columns,
                "measured",
                (row.title + (" (random weights)" if r.random_weights else ""), "text"),
                (", ".join(f"{count} {network}" for network, count in r.calls.items()), "text"),
                (f"{r.work.total_flops / 2e9:.4g}" if r.work else "not countable", "number"),
                (str(r.batch), "number"),
                (seconds if r.kind == "measured" else None, "seconds"),
                (seconds if r.kind == "extrapolated" else None, "seconds"),
                (p90, "seconds"),
                (f"{offline_rate(r):.3g}", "number"),
                (f"{r.copies / sorted(r.seconds)[len(r.seconds) // 2]:.4g}", "number"),
                (_stages(r), "number"),
                (utilisation(r), "share"),
                (f"{r.peak_bytes / 2**30:.2f}" if r.peak_bytes else None, "number"),
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
    where = f" on {first.device.name}, {_threads(first)}" if first else ""
    return Table(
        name="latency",
        title=f"seconds of one certificate{where}",
        caption=_what(first) if first else "",
        columns=columns,
        rows=tuple(body),
        notes=tuple(notes),
    )


def projected(rows: Sequence[Timed], target: Profile) -> Table:
    """What each row would take on a device that is not here, each over a row of what the device could do at most."""
    columns = (
        *(_column("method"), _column("MEASURED here", "measured"), _column("EXTRAPOLATED here", "extrapolated")),
        *(_column(f"PROJECTED {target.key}"), _column("interval"), _column("LIMIT")),
    )
    body: list[Line] = []
    notes: list[str] = []
    for row in rows:
        if row.projection is None:
            notes.append(f"{row.title} not projected: {row.refusal}")
            continue
        r = row.record
        kinds = [certificate_seconds(r) if r and r.kind == kind else None for kind in ("measured", "extrapolated")]
        for p, timed in ((row.projection, kinds), *(((row.in_half, [None, None]),) if row.in_half else ())):
            title = f"{row.title}, {p.precision}"
            span = f"{units.duration(p.low)} to {units.duration(p.high)}"
            cells: tuple[tuple[str | float | None, Unit], ...] = (
                *((title, "text"), (timed[0], "seconds"), (timed[1], "seconds")),
                *((p.seconds, "seconds"), (span, "number"), (None, "seconds")),
            )
            body.append(_line(columns, "projected", *cells))
            limit = (f"{title}, limit by {p.limits.name}", "text"), *((None, "seconds"),) * 4, (p.limit, "seconds")
            body.append(_line(columns, "projected", *limit))  # type: ignore[arg-type]
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
    return Table(
        name="latency-projected",
        title=f"PROJECTED from {here} to {target.name}: not measured",
        caption=_what(first) if first else "",
        columns=columns,
        rows=tuple(body),
        notes=tuple(notes),
    )


def beside_published(rows: Sequence[Timed], plan: Sequence[PaperRow], target: Profile | None) -> Table:
    """Published against own seconds, and the ratios to rRCM-B at the same N, which a change of device moves least."""
    columns = (
        *(_column("row"), _column("N"), _column("PUBLISHED", "quoted"), _column("MEASURED")),
        *(_column("EXTRAPOLATED", "extrapolated"), _column(f"PROJECTED {target.key if target else ''}", "projected")),
        *(_column("x rRCM-B, published", "quoted"), _column("x rRCM-B, here")),
        _column("x rRCM-B, projected", "projected"),
    )
    quoted = {row.key: row for row in plan if row.key and row.seconds}
    own = {row.key: row for row in rows if row.key}
    body: list[Line] = []
    for row in rows:
        paper = quoted.get(row.key)
        base = next((k for k in BASES if k in quoted and paper and quoted[k].n == paper.n), None)
        r = row.record
        here = certificate_seconds(r) if r else None
        ratio = theirs = away = None
        if paper and base and paper.seconds:
            theirs = f"{paper.seconds / (quoted[base].seconds or 1):.1f}"
            other = own.get(base)
            if r and other and other.record:
                ratio = f"{certificate_seconds(r) / certificate_seconds(other.record):.1f}"
                ratio += "" if r.kind == other.record.kind == "measured" else " (extrapolated)"
            if row.projection and other and other.projection:
                away = f"{row.projection.seconds / other.projection.seconds:.1f}"
        body.append(
            _line(
                columns,
                "measured",
                (row.title, "text"),
                (paper.n if paper else (r.n if r else None), "count"),
                (paper.seconds if paper else None, "seconds"),
                (here if r and r.kind == "measured" else None, "seconds"),
                (here if r and r.kind == "extrapolated" else None, "seconds"),
                (row.projection.seconds if row.projection else None, "seconds"),
                *((theirs, "number"), (ratio, "number"), (away, "number")),
            )
        )
    hardware = plan[0].hardware if plan else ""
    return Table(
        name="latency-published",
        title=f"published ({hardware}) beside this device",
        caption="",
        columns=columns,
        rows=tuple(body),
        notes=("ratios are to rRCM-B at the same N; those of one device are the robust quantity",),
    )


def claimed(rows: Sequence[Timed] = ()) -> Table:
    """The paper's claims of speed, from its own rows, and from ours where all that a claim needs were timed."""
    own = {row.key: certificate_seconds(row.record) for row in rows if row.record and row.key}
    kinds = {row.key: row.record.kind for row in rows if row.record}
    columns = (
        *map(_column, ("claim", "where", "rows needed", "published ratios", "their mean")),
        *(_column("here", "measured"), _column("note")),
    )
    body: list[Line] = []
    for claim in claims():
        again = rederived(claim, own)
        partly = any(kinds.get(key) == "extrapolated" for key in (*claim.over, claim.base))
        here = None if again is None else f"{again:.1f}x" + (" (extrapolated)" if partly else "")
        body.append(
            _line(
                columns,
                "quoted",
                *((f"{claim.times:g}x", "text"), (claim.where, "text"), (_needs(claim), "text")),
                (", ".join(f"{ratio:.1f}" for ratio in claim.ratios), "text"),
                *((f"{claim.derived:.1f}x", "number"), (here, "number"), (claim.note, "text")),
            )
        )
    return Table(
        name="latency-claims", title="claims of speed, re-derived", caption="", columns=columns, rows=tuple(body)
    )


def backtest(pairs: Sequence[Pair], left_out: Sequence[LeftOut]) -> tuple[Table, Table, Table]:
    """All rates; the published ones each predicted from each other; and each predicted by the rest of its family."""
    of_rates = tuple(
        map(_column, ("device", "network", "kind", "precision", "copies/s", "share of peak", "stack", "source"))
    )
    known = Table(
        name="rates",
        title="rates of networks, published and our own, and their share of the device's dense peak",
        caption="",
        columns=of_rates,
        rows=tuple(
            _line(
                of_rates,
                "stated",
                *((r.device, "text"), (r.network, "text"), (r.kind, "text"), (r.precision, "text")),
                *((f"{r.images_s:g}", "number"), (r.efficiency, "share"), (r.stack, "text"), (r.source, "text")),
            )
            for r in rates()
        ),
    )
    of_pairs = tuple(map(_column, ("from", "to", "precision", "error", "families")))
    each = Table(
        name="backtest-pairs",
        title="one device from another, by an equal share of the peak: predicted over published rate",
        caption="",
        columns=of_pairs,
        rows=tuple(
            _line(
                of_pairs,
                "projected",
                *((p.source, "text"), (p.target, "text"), (p.precision, "text"), (f"{p.error:+.0%}", "number")),
                ("same" if p.same_family else "mixed: never done", "text"),
            )
            for p in sorted(pairs, key=lambda p: (not p.same_family, p.target, p.source))
        ),
    )
    of_rest = tuple(map(_column, ("device", "network", "kind", "precision", "error")))
    rest = Table(
        name="backtest-rest",
        title="leave-one-out: each rate of a datacentre device from the nearest others of its kind",
        caption="",
        columns=of_rest,
        rows=tuple(
            _line(
                of_rest,
                "projected",
                *((row.device, "text"), (row.network, "text"), (row.kind, "text"), (row.precision, "text")),
                (f"{row.error:+.0%}", "number"),
            )
            for row in left_out
        ),
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


def _column(title: str, source: Source | None = None) -> Column:
    return Column(slug(title), title.strip(), source=source)


def _line(columns: Sequence[Column], source: Source, *cells: tuple[str | int | float | None, Unit]) -> Line:
    """A row of that source, but for the columns that name their own."""
    return tuple(
        Cell(value=value, unit=unit, source=column.source or source)
        for column, (value, unit) in zip(columns, cells, strict=True)
    )


def _needs(claim: Claim) -> str:
    return f"({', '.join(claim.over)}) / {claim.base}"


def _what(record: LatencyRecord) -> str:
    spec = record.spec
    return (
        f"{spec['dataset']} {'x'.join(map(str, spec['shape']))}, n0 + n {record.n0} + {record.n}, {spec['precision']}"
    )


def _threads(record: LatencyRecord) -> str:
    return f"{record.device.threads} thread{'s' * (record.device.threads != 1)}"


def _stages(record: LatencyRecord) -> str:
    total = sum(record.stages.values())
    if total <= 0:
        return units.MISSING
    return "/".join(f"{100 * record.stages.get(stage, 0.0) / total:.0f}" for stage in STAGES) + " %"
