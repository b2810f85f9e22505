"""Tables of single runs beside published ones: sigma in training by sigma in certification, and one sigma alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.published.tables import PublishedTable
from bench.report import units
from bench.report.accuracy import certified_accuracy, digest, name
from bench.report.envelope import envelope, in_common
from bench.report.grouping import Group, groups, remarks, variants
from bench.report.method_titles import printed
from bench.report.tables.accuracy import FROM_BELOW
from bench.report.tables.published_rows import misfit, quoted
from bench.report.tables.table import Cell, Column, Line, Table, Unit, counted, radius_columns, slug
from bench.runs.store import Run
from bench.types.errors import ReportError
from bench.weights.catalogue import catalogue

GRID = "grid"  # name of the table of own runs


def trained_at(runs: Sequence[Run]) -> Mapping[str, float]:
    """Run's digest -> sigma that its weights were trained at, as the catalogues know it by their method and sha256.

    Runs whose weights no catalogue knows, or of no sigma, or of several, are left out.
    """
    known: dict[tuple[str | None, str], set[float]] = {}
    for entry in catalogue():
        for sha256 in (entry.sha256, *entry.also):
            if sha256 is not None and entry.sigma is not None:
                known.setdefault((entry.method, sha256), set()).add(entry.sigma)
    found = {}
    for run in runs:
        files = [said.partition("#")[0] for said in run.spec.weights.values()]
        sigmas = {sigma for file in files for sigma in known.get((run.spec.method, file), ())}
        if len(sigmas) == 1:
            found[run.spec.digest()] = sigmas.pop()
    return found


def grid_tables(
    runs: Sequence[Run],
    published: PublishedTable,
    trained: Mapping[str, float],
    bound: str = "pa",
    alpha: float | None = None,
) -> tuple[Table, ...]:
    """One row a run beside the published rows, with the radii of those.

    Where the published rows have a sigma in training, only runs of their methods whose weights have one; where they
    have one sigma alone, only runs at that sigma.
    Raises: ReportError as `groups`.
    """
    by_training = any(row.sigma_train is not None for row in published.rows)
    sigmas = {row.sigma for row in published.rows}
    left_out, own = [], []
    for run in runs:
        spec = run.spec
        if spec.dataset != published.dataset or (by_training and not _of_method(run, published)):
            continue
        if by_training and spec.digest() not in trained:
            left_out.append(
                f"! {name(run)} is left out: no catalogue says at which sigma its weights were trained; "
                "tell by `rrcm-bench weights add --sigma`"
            )
        elif by_training or spec.sigma in sigmas:
            own.append(run)
    made = []
    beside = False
    for group in groups(own, bound, alpha):
        reason = misfit(group, published, any_radii=True)
        beside |= not reason
        made.append(_grid(group, published, trained, reason, left_out))
    if not beside:
        made.append(_grid(None, published, trained, "", left_out))
    return tuple(made)


def own_grid_tables(
    runs: Sequence[Run], trained: Mapping[str, float], bound: str = "pa", alpha: float | None = None
) -> tuple[Table, ...]:
    """One row a run by the sigma that its weights were trained at: the form of Tables 7 to 9, nothing quoted.

    Raises: ReportError as `groups`, and where no run's weights have a known sigma.
    """
    own = [run for run in runs if run.spec.digest() in trained and not run.spec.stops]
    if not own:
        raise ReportError(
            f"table {GRID} needs runs whose weights a catalogue lists with the sigma of their training, found none "
            f"among {len(runs)}; tell by `rrcm-bench weights add --sigma`"
        )
    left_out = f"{len(runs) - len(own)} runs are left out: no catalogue says at which sigma, or their images may stop"
    made = []
    for group in groups(own, bound, alpha):
        lines: list[Line] = []
        for variant in variants(group):
            for run in sorted(variant.runs, key=lambda r: (trained[r.spec.digest()], r.spec.sigma)):
                key = run.spec.digest()
                score = certified_accuracy(run, group.radii, group.bound, group.alpha)
                sigmas = (units.noise_level(trained[key]), units.noise_level(run.spec.sigma))
                told = (Cell(value=text, unit="text", source="measured", origin=key) for text in sigmas)
                _, method, n, images = _head(run, variant.title, key, score.images)
                cells = (_accuracy(run, k, score.images) for k in score.certified)
                lines.append((method, *told, n, images, *cells))
        made.append(
            Table(
                name=f"{GRID}-{slug(group.dataset)}",
                title=f"{group.dataset}: certified accuracy (%) by sigma in training and in certification",
                caption=group.caption(),
                columns=(
                    *(Column("method", "method"), Column("trained", "trained at"), Column("sigma", "certified at")),
                    *(Column("n", "N"), Column("images", "images")),
                    *radius_columns(group.radii),
                ),
                rows=tuple(lines),
                notes=(*_of_runs(group), *((left_out,) if len(own) < len(runs) else ()), *group.notes),
            )
        )
    return tuple(made)


def raw_tables(
    runs: Sequence[Run], published: PublishedTable, bound: str = "pa", alpha: float | None = None
) -> tuple[Table, ...]:
    """Per method the best certified accuracies, and the accuracy at r=0 of the run that gave each.

    Raises: ReportError as `groups` and `envelope`.
    """
    made = []
    beside = False
    stopping = [f"! {name(r)} is left out: it has verdicts at its own radii only" for r in runs if r.spec.stops]
    own = [run for run in runs if run.spec.dataset == published.dataset and not run.spec.stops]
    for group in groups(own, bound, alpha):
        reason = misfit(group, published, any_radii=True)
        beside |= not reason
        lines: list[Line] = []
        for variant in variants(group):
            if not in_common(variant.runs)[1]:
                continue
            best = envelope(variant.runs, published.radii, group.bound, group.alpha)
            certified, raw = [], []
            for each in best.best:
                keep = frozenset.intersection(*(frozenset(row.index for row in r.rows) for r in best.compared))
                zero = certified_accuracy(each.run, (0.0,), group.bound, group.alpha, only=keep)
                note = f"σ={units.noise_level(each.run.spec.sigma)}" if each.certified else ""
                certified.append(_accuracy(each.run, each.certified, best.images, note))
                raw.append(_accuracy(each.run, zero.certified[0], best.images, note))
            run, origin = best.compared[0], " ".join(r.spec.digest() for r in best.compared)
            for what, cells in (("certified at r", certified), ("at r=0", raw)):
                lines.append((*_head(run, f"{variant.title}, {what}", origin, best.images), *cells))
        made.append(_laid_out(group, published, tuple(lines), reason, stopping))
    if not beside:
        made.append(_laid_out(None, published, (), "", stopping))
    return tuple(made)


def _grid(
    group: Group | None,
    published: PublishedTable,
    trained: Mapping[str, float],
    reason: str,
    left_out: Sequence[str],
) -> Table:
    if group is None:
        return _laid_out(None, published, (), reason, left_out)
    lines = []
    for variant in variants(group):
        several = len({run.spec.sigma for run in variant.runs}) < len(variant.runs)
        for run in sorted(variant.runs, key=lambda r: (trained.get(r.spec.digest(), 0.0), r.spec.sigma)):
            key = run.spec.digest()
            score = certified_accuracy(run, published.radii, group.bound, group.alpha)
            known = trained.get(key)
            title = variant.title
            if known is not None:
                title += f", trained at {units.noise_level(known)}, certified at {units.noise_level(run.spec.sigma)}"
            elif several:
                title += f" [{digest(run)}]"
            below = score.at_least or (False,) * len(score.radii)
            cells = (
                _accuracy(run, k, score.images, FROM_BELOW * low) for k, low in zip(score.certified, below, strict=True)
            )
            lines.append((*_head(run, title, key, score.images), *cells))
    return _laid_out(group, published, tuple(lines), reason, left_out)


def _laid_out(
    group: Group | None, published: PublishedTable, lines: tuple[Line, ...], reason: str, left_out: Sequence[str]
) -> Table:
    """Measured lines, if any, above the quoted ones, unless there is a reason that they may not stand together."""
    notes = []
    if not reason:
        alpha = "" if published.alpha is None else f", alpha={units.level(published.alpha)}"
        notes.append(f"quoted rows: {published.source}{alpha}; not measured here: other images")
        notes += [f"quoted rows: {note}" for note in (*published.footnotes, *published.notes)]
    else:
        notes.append(f"the published rows stand in a table of their own: here are {reason}")
    notes += _of_runs(group) if group else ()
    # The line of a quoted row has a latency; these tables have none.
    quotes = [(*line[:4], *line[5:]) for line in quoted(published)] if not reason else []
    return Table(
        name=f"{slug(published.name)}-{slug(published.dataset)}",
        title=f"{published.title} ({published.source})",
        caption=("measured rows: " + group.caption()) if group else "quoted, not measured here",
        columns=(
            *(Column("source", "source"), Column("method", "method"), Column("n", "N"), Column("images", "images")),
            *radius_columns(published.radii),
        ),
        rows=(*lines, *quotes),
        notes=(*notes, *dict.fromkeys(left_out)),
    )


def _of_runs(group: Group) -> list[str]:
    """What is to be known of a group's runs."""
    return [note for run in group.runs for note in remarks(run)]


def _of_method(run: Run, published: PublishedTable) -> bool:
    return any(
        row.method == run.spec.method and all(str(run.spec.params.get(k)) == v for k, v in row.params.items())
        for row in published.rows
    )


def _head(run: Run, title: str, origin: str, images: int) -> Line:
    total = run.spec.images
    cells: tuple[tuple[str | int, Unit], ...] = (
        *(("measured", "text"), (title, "text"), (run.spec.n, "count")),
        (images, "count"),
    )
    line = [Cell(value=value, unit=unit, source="measured", origin=origin) for value, unit in cells]
    line[1] = replace(line[1], printed=printed(title, run.spec.method))
    note = "" if images == total else f"of {units.count(total)}"
    return (*line[:3], Cell(value=images, unit="count", source="measured", origin=origin, note=note))


def _accuracy(run: Run, certified: int, images: int, note: str = "") -> Cell:
    return counted(certified, images, source="measured", origin=run.spec.digest(), n=run.spec.n, note=note)
