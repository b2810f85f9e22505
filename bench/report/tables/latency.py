"""What latency records say of the runs in a table: in columns of their own, by how the seconds were come by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.published.tables import PublishedTable
from bench.report.envelope import envelope, in_common
from bench.report.figures.tradeoff import Timed
from bench.report.grouping import Group, variants
from bench.report.tables.published_rows import misfit
from bench.report.tables.table import Cell, Column, Line, Table
from bench.runs import registry
from bench.runs.store import Run
from bench.timing.latency import paper
from bench.timing.latency.request import LatencyRequest, paper_items, prepare
from bench.timing.records import LatencyRecord, certificate_seconds
from bench.types import RunSpec

KINDS = ("measured", "extrapolated")
_SAME = ("method", "params", "dataset", "shape", "precision")  # what the time of a copy depends on; weights it does not


@dataclass(frozen=True, slots=True)
class Seconds:
    """Of one certificate with a run's own number of samples."""

    value: float
    kind: str  # out of KINDS
    record: LatencyRecord


def seconds_of(run: Run, records: Sequence[LatencyRecord]) -> Seconds | None:
    """What the records of that method and setting give for this run; None where none fits.

    In proportion to the samples, and then extrapolated, where the record is of another n or the run's images stop.
    """
    spec = run.spec.as_json()
    fitting = [r for r in records if all(_plain(r.spec.get(key)) == _plain(spec[key]) for key in _SAME)]
    return _best(fitting, _samples(run)) if fitting else None


def _best(records: Sequence[LatencyRecord], samples: float) -> Seconds:
    """The newest of those that measured a certificate of so many samples whole; else of all, in proportion."""
    whole = [r for r in records if r.kind == "measured" and r.n0 + r.n == samples]
    record = max(whole or records, key=lambda r: r.created)
    seconds = certificate_seconds(record) * samples / (record.n0 + record.n)
    return Seconds(seconds, KINDS[0] if whole else KINDS[1], record)


def seconds_of_rows(published: PublishedTable | None, records: Sequence[LatencyRecord]) -> dict[str, Seconds]:
    """What records give for the networks behind published rows, by their titles; none for other tables than 1 and 2."""
    number = next((k for k, name in paper.TABLES.items() if published and published.name == name), None)
    if number is None or published is None or not records:
        return {}
    found = {}
    for row in paper_items(number):
        request = LatencyRequest(dataset=published.dataset, n=row.n, random_weights=True)
        spec = prepare(request, row, registry.method(row.method))[0].as_json()
        same = [key for key in _SAME if key != "precision"]
        fitting = [r for r in records if row.key and all(_plain(r.spec.get(key)) == _plain(spec[key]) for key in same)]
        if fitting:
            # Of one arithmetic, the newest record's: seconds of two do not compare.
            precision = max(fitting, key=lambda r: r.created).spec["precision"]
            fitting = [r for r in fitting if r.spec["precision"] == precision]
            found[row.title] = _best(fitting, request.n0 + row.n)
    return found


def device_of_most(rows: Mapping[str, int]) -> str:
    """The device that has most rows; of several, the first by name; of none, no name."""
    return min(rows, key=lambda device: (-rows[device], device), default="")


def of_one_device(
    records: Sequence[LatencyRecord], runs: Sequence[Run], published: PublishedTable | None = None
) -> tuple[list[LatencyRecord], str]:
    """The records of the device that times most of the rows, the first by name of several; and what is left out.

    Seconds of two devices compare the devices, not the methods.
    """
    by_device: dict[str, list[LatencyRecord]] = {}
    for record in records:
        by_device.setdefault(record.device.name, []).append(record)
    if len(by_device) < 2:
        return list(records), ""
    fitting = {
        name: sum(seconds_of(run, own) is not None for run in runs) + len(seconds_of_rows(published, own))
        for name, own in by_device.items()
    }
    if not any(fitting.values()):
        return list(records), ""
    kept = device_of_most(fitting)
    others = ", ".join(sorted(name for name, rows in fitting.items() if rows and name != kept))
    said = f"! latencies on {others} are left out, for those on {kept}: seconds of two devices do not compare"
    return by_device[kept], said if others else ""


def timed_tables(
    tables: Sequence[Table],
    runs: Sequence[Run],
    records: Sequence[LatencyRecord],
    published: PublishedTable | None = None,
    left_out: str = "",
) -> list[Table]:
    """The tables with the runs' latencies: measured and extrapolated ones in columns of their own.

    Of published rows too, whose networks were timed here: in a row of their own below the published one.
    `left_out`: what `of_one_device` says.
    """
    by_digest = {run.spec.digest(): found for run in runs if (found := seconds_of(run, records))}
    by_title = seconds_of_rows(published, records)
    if records and not by_digest and not by_title:
        timed = sorted({"{method} on {dataset}, {precision}".format_map(defaultdict(str, r.spec)) for r in records})
        said = f"! no latency record fits a row: they are of {'; '.join(timed)}, perhaps with other settings or code"
        return [replace(table, notes=(*table.notes, said)) for table in tables]
    made = [_with_latency(table, by_digest, by_title) for table in tables]
    return [
        replace(new, notes=(*new.notes, left_out)) if left_out and new is not old else new
        for new, old in zip(made, tables, strict=True)
    ]


def timed_methods(
    groups: Iterable[Group], records: Sequence[LatencyRecord], published: PublishedTable
) -> tuple[Timed, ...]:
    """The methods certified on images like the published ones and timed here, for the figure beside them."""
    made = []
    for group in groups:
        if misfit(group, published):
            continue
        for variant in variants(group):
            found = seconds_of(variant.runs[0], records)
            if found is None or not in_common(variant.runs)[1]:
                continue
            best = envelope(variant.runs, published.radii, group.bound, group.alpha)
            made.append(
                Timed(
                    title=variant.title + ("" if found.kind == KINDS[0] else " (extrapolated)"),
                    seconds=found.value,
                    values=tuple(winner.certified / best.images for winner in best.best),
                    params_millions=None,
                    device=found.record.device.name,
                    n=variant.runs[0].spec.n,
                    method=variant.runs[0].spec.method,
                )
            )
    return tuple(made)


def timed_rows(published: PublishedTable, records: Sequence[LatencyRecord]) -> tuple[Timed, ...]:
    """Published rows whose networks were timed here, for the figure: seconds of here at the published accuracies."""
    found = seconds_of_rows(published, records)
    return tuple(
        Timed(
            title=f"{row.title}, here" + ("" if found[row.title].kind == KINDS[0] else " (extrapolated)"),
            seconds=found[row.title].value,
            values=row.values,
            params_millions=row.params_millions,
            device=f"{found[row.title].record.device.name}, {found[row.title].record.spec['precision']}",
            n=row.n,
            method=row.method,
            quoted=True,
        )
        for row in published.rows
        if row.title in found
    )


def _with_latency(table: Table, found: Mapping[str, Seconds], by_title: Mapping[str, Seconds]) -> Table:
    keys = [column.key for column in table.columns]
    if "images" not in keys:
        return table
    lines: list[tuple[Line, Seconds | None]] = []
    named = []
    for row in table.rows:
        lines.append((row, _of_row(row, found) if row[0].source == "measured" else None))
        if row[0].source == "quoted" and (timed := by_title.get(_title(row, keys))):
            # A row of its own: none mixes what was measured with what was quoted.
            lines.append((_timed_here(row, keys, timed), timed))
            named.append(timed)
    kinds = [kind for kind in KINDS if any(each and each.kind == kind for _, each in lines)]
    if not kinds:
        return table
    place = keys.index("images") + 1
    columns = tuple(Column(f"latency-{kind}", f"latency, {kind}") for kind in kinds)
    return replace(
        table,
        columns=(*table.columns[:place], *columns, *table.columns[place:]),
        rows=tuple((*row[:place], *_cells(row, each, kinds), *row[place:]) for row, each in lines),
        notes=(*table.notes, *_notes([each for _, each in lines if each]), *_notes_on_quoted(named)),
    )


def _title(row: Line, keys: Sequence[str]) -> str:
    return str(row[keys.index("method")].value) if "method" in keys else ""


def _timed_here(row: Line, keys: Sequence[str], timed: Seconds) -> Line:
    """A line below a quoted one, for seconds of here: what else the quoted one says is not of here."""
    device = f"{timed.record.device.name}, {timed.record.spec['precision']}"
    said: dict[str, str | int | float | None] = {
        "source": "timed here",
        "method": f"{_title(row, keys)}, on {device}",
        "n": row[keys.index("n")].value if "n" in keys else None,
    }
    cells = zip(keys, row, strict=True)
    return tuple(Cell(value=said.get(key), unit=cell.unit, source="measured") for key, cell in cells)


def _notes_on_quoted(named: Sequence[Seconds]) -> list[str]:
    if not named:
        return []
    how = ", ".join(sorted({f"{each.record.device.name}, {each.record.spec['precision']}" for each in named}))
    random = any("random" in each.record.spec["weights"].values() for each in named)
    networks = "the same networks with random weights" if random else "the same networks"
    return [f"rows timed here: {networks} as in the quoted row above; seconds alone, no accuracy ({how})"]


def _of_row(row: Line, found: Mapping[str, Seconds]) -> Seconds | None:
    """A row of the best of several runs costs what its slowest does."""
    named = next((cell.origin for cell in row if cell.origin), "")
    known = [found[digest] for digest in named.split() if digest in found]
    return max(known, key=lambda each: each.value) if known else None


def _cells(row: Line, seconds: Seconds | None, kinds: Sequence[str]) -> list[Cell]:
    origin = "" if seconds is None else f"latency record of {seconds.record.created} on {seconds.record.device.name}"
    return [
        Cell(
            value=seconds.value if seconds and seconds.kind == kind else None,
            unit="seconds",
            source=row[0].source,
            origin=origin if seconds and seconds.kind == kind else "",
            note=_doubted(seconds.record) if seconds and seconds.kind == kind else "",
        )
        for kind in kinds
    ]


def _doubted(record: LatencyRecord) -> str:
    count = len(record.doubts)
    return f"{count} doubt{'s' * (count > 1)}" if count else ""


def _how(record: LatencyRecord) -> str:
    replayed = ", passes replayed from CUDA graphs" if record.replayed else ""
    return f"{record.device.name}, batch {record.batch}{replayed}"


def _notes(found: Sequence[Seconds]) -> list[str]:
    devices = ", ".join(sorted({_how(each.record) for each in found}))
    notes = [f"latency: seconds per certified image, the median of repeats by `rrcm-bench latency` ({devices})"]
    if any(each.kind == KINDS[1] for each in found):
        notes.append("latency, extrapolated: from a part, or from another number of samples, in proportion to them")
    doubts = dict.fromkeys(
        f"! latency of {each.record.spec['method']}: {doubt}" for each in found for doubt in each.record.doubts
    )
    return [*notes, *doubts]


def _samples(run: Run) -> float:
    """Mean samples an image."""
    spec: RunSpec = run.spec
    if not spec.stops or not run.rows:
        return spec.n0 + spec.n
    return sum(row.samples for row in run.rows) / len(run.rows)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
