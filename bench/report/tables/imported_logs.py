"""Imported logs as tables of their own: rows marked `imported`, never beside measured ones."""

from __future__ import annotations

from collections.abc import Sequence

from bench.data.installed import natural_radii
from bench.published.logs.scores import Score, score
from bench.published.logs.store import Imported
from bench.report import units
from bench.report.grouping import BOUND_WORDS
from bench.report.method_titles import printed
from bench.report.statistics import CONFIDENCE
from bench.report.tables.table import Cell, Column, Line, Table, Unit, counted, numbered, slug

_Scored = tuple[Imported, Score]


def imported_tables(logs: Sequence[Imported], alpha: float | None = None) -> tuple[Table, ...]:
    """Certified accuracies of imported logs, one table for each set of images, N and alpha.

    `alpha`: other than the logs' own, from the counts behind their radii; logs made at a smaller one are left out, for
    the votes of their abstentions are not known.
    """
    groups: dict[tuple[object, ...], list[Imported]] = {}
    left_out = []
    for log in logs:
        o = log.origin
        if alpha not in (None, o.alpha) and o.bound != "pa":
            left_out.append(f"! {log.name} is left out: radii of two bounds are not read at another alpha")
            continue
        if alpha is not None and alpha > o.alpha:
            left_out.append(f"! {log.name} is left out: made at alpha={units.level(o.alpha)}, below the one asked for")
            continue
        key = (o.dataset, o.split, o.subset, o.order, o.n, o.bound, o.alpha if alpha is None else alpha)
        groups.setdefault(key, []).append(log)
    made: list[Table] = []
    for members in groups.values():
        radii = natural_radii(members[0].origin.dataset)
        scored = [(log, _score(log, radii, alpha)) for log in members]
        methods = dict.fromkeys(log.origin.method for log in members)
        several = {m: [pair for pair in scored if pair[0].origin.method == m] for m in methods}
        if any(len(pairs) > 1 for pairs in several.values()):
            made.append(_table(scored, [_best_line(m, pairs) for m, pairs in several.items()], left_out, best=True))
        made.append(_table(scored, [_line(log, each) for log, each in scored], left_out, best=False))
    return numbered(made)


def _score(log: Imported, radii: Sequence[float], alpha: float | None) -> Score:
    own = log.origin
    return score(log.rows, radii, own.sampling, None if alpha is None or alpha == own.alpha else alpha)


def _table(scored: Sequence[_Scored], rows: Sequence[Line], left_out: Sequence[str], *, best: bool) -> Table:
    log, first = scored[0]
    origin = log.origin
    what = "best sigma per radius" if best else "by sigma"
    single = () if best else (Column("abstain", "abstain %"), Column("acr", "ACR"))
    notes = [
        "imported rows: read from published logs, not measured here; votes are not known, radii are as printed",
        f"images: {units.percent(CONFIDENCE, 0)} Wilson intervals",
        *(
            ("best of k: per radius the best of k logs, chosen on these same images, so biased upwards",)
            if best
            else ()
        ),
        *(note for pair in scored for note in _notes(*pair)),
        *left_out,
    ]
    return Table(
        name=f"imported-{'envelope' if best else 'by-sigma'}-{slug(origin.dataset)}",
        title=f"{origin.dataset}: certified accuracy (%) at l2 radius r, {what}, imported from published logs",
        caption="; ".join(
            filter(
                None,
                (
                    f"{origin.dataset} {origin.split}, subset {origin.subset}",
                    origin.order,
                    f"N={units.count(origin.n)}",
                    f"alpha={units.level(first.alpha or origin.alpha)}",
                    BOUND_WORDS[origin.bound],
                ),
            )
        ),
        columns=(
            *(Column("source", "source"), Column("method", "method")),
            *(() if best else (Column("sigma", "sigma"),)),
            *(Column("n", "N"), Column("images", "images"), *single),
            *(Column(f"r={t}", f"r={t}", r) for r, t in zip(first.radii, units.grid(first.radii), strict=True)),
        ),
        rows=tuple(rows),
        notes=tuple(dict.fromkeys(notes)),
        short=("read from published logs", f"brackets: {units.percent(CONFIDENCE, 0)} Wilson intervals"),
    )


def _line(log: Imported, each: Score) -> Line:
    origin = log.origin.digest()
    return (
        _cell("imported", "text", origin),
        _cell(log.origin.method, "text", origin, method=log.origin.method),
        _cell(units.noise_level(log.origin.sigma), "text", origin),
        _cell(log.origin.n, "count", origin),
        _cell(each.images, "count", origin, note=_of(log)),
        _cell(None if each.abstained is None else each.abstained / each.images, "fraction", origin),
        _cell(each.acr, "l2", origin),
        *(_accuracy(log, each, k) for k in range(len(each.radii))),
    )


def _best_line(method: str, pairs: Sequence[_Scored]) -> Line:
    """One method's best at each radius; a log that lacks images competes, as in published rows; its cell says so."""
    ordered = sorted(pairs, key=lambda pair: (pair[0].origin.sigma, pair[0].origin.digest()))
    origin = " ".join(log.origin.digest() for log, _ in ordered)
    cells = []
    for k in range(len(ordered[0][1].radii)):
        log, each = max(ordered, key=lambda pair: pair[1].fractions[k])  # the first of those that tie
        words = ", ".join(filter(None, (f"σ={units.noise_level(log.origin.sigma)}", _of(log) and _share(log))))
        cells.append(_accuracy(log, each, k, note=words if each.certified[k] else ""))
    most = max(each.images for _, each in ordered)
    return (
        _cell("imported", "text", origin),
        _cell(method, "text", origin, note=f"best of {len(ordered)}" * (len(ordered) > 1), method=method),
        _cell(ordered[0][0].origin.n, "count", origin),
        _cell(most, "count", origin),
        *cells,
    )


def _notes(log: Imported, each: Score) -> list[str]:
    own = log.origin
    how = "as stated on import" + (", and its radii fit" if own.bound == "pa" else ", not held against its radii")
    how = "read off its radii" if own.sampling_by == "radii" else how
    notes = [f"{log.name}: {own.source}; N={units.count(own.n)}, alpha={units.level(own.alpha)} {how}"]
    if each.alpha is not None and each.alpha != own.alpha:
        notes.append(f"{log.name}: read at alpha={units.level(each.alpha)} from the counts behind its printed radii")
    if _of(log):
        notes.append(f"! {log.name} is incomplete: {_share(log)} images")
    open_cells = [
        f"r={r:g} {low} to {high}"
        for r, low, high in zip(each.radii, each.least, each.most, strict=True)
        if low != high
    ]
    if open_cells:
        notes.append(f"{log.name}: digits not printed leave open how many images count: {', '.join(open_cells)}")
    return [*notes, *(f"! {log.name}: {text}" for text in own.findings)]


def _of(log: Imported) -> str:
    expected = log.origin.expected
    return f"of {units.count(expected)}" if expected is not None and expected != log.origin.rows else ""


def _share(log: Imported) -> str:
    return f"{log.origin.rows} of {log.origin.expected}"


def _accuracy(log: Imported, each: Score, k: int, note: str = "") -> Cell:
    own = log.origin
    return counted(each.certified[k], each.images, source="imported", origin=own.digest(), n=own.n, note=note)


def _cell(value: str | int | float | None, unit: Unit, origin: str, note: str = "", method: str = "") -> Cell:
    name = printed(str(value), method) if method else ""
    return Cell(value=value, unit=unit, source="imported", origin=origin, note=note, printed=name)
