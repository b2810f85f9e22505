"""Runs and published rows laid out as tables; one table for each set of runs that may be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from bench.published.tables import PublishedTable
from bench.report import units
from bench.report.accuracy import Accuracy, certified_accuracy, digest, name
from bench.report.envelope import Envelope, envelope, in_common
from bench.report.grouping import Group, groups, variants
from bench.report.method_titles import printed
from bench.report.statistics import CONFIDENCE, FAILURE, noise_correction
from bench.report.tables.published_rows import misfit, published_alone, published_notes, published_table, quoted
from bench.report.tables.table import Cell, Column, Line, Table, Unit, counted, numbered, radius_columns, slug
from bench.runs.store import Run

_ORACLE = "the best is an oracle's choice on these same images, so biased upwards; intervals are not corrected for it"
_DISJOINT = "sigma was chosen on the images whose hash says so, about half, and is reported on the others alone"
_INTERVALS = f"brackets: {units.percent(CONFIDENCE, 0)} Wilson intervals"

FROM_BELOW = "at least"  # a cell of a run that has no verdict at that radius


def by_sigma_tables(runs: Sequence[Run], bound: str = "pa", alpha: float | None = None) -> tuple[Table, ...]:
    """One row a run: abstentions, average certified radius, certified accuracies with their intervals.

    Raises: ReportError for rows that cannot be certified or images that contradict each other.
    """
    return numbered([_by_sigma(group) for group in groups(runs, bound, alpha)])


def envelope_tables(
    runs: Sequence[Run],
    table: int | str | None = None,
    bound: str = "pa",
    alpha: float | None = None,
    *,
    disjoint: bool = False,
) -> tuple[Table, ...]:
    """One row a method: the best sigma per radius, named; with `table`, beside the published rows of Table 1 or 2.

    Published rows stand alone where no run has their images' size or the bound is not theirs. `disjoint`: sigma is
    chosen on one half of the images and reported on the other.
    Raises: ReportError as `by_sigma_tables`, or for a published table of another layout.
    """
    if table is None:
        return numbered([_envelope(group, disjoint=disjoint) for group in groups(runs, bound, alpha)])
    published = published_table(table)
    own = [run for run in runs if run.spec.dataset == published.dataset]
    foreign = Counter(run.spec.dataset for run in runs if run.spec.dataset != published.dataset)
    made = []
    for group in groups(own, bound, alpha):
        reason = misfit(group, published)
        made.append(_envelope(group, None if reason else published, reason, disjoint=disjoint))
    if not any(row[0].source == "quoted" for each in made for row in each.rows):
        made.append(published_alone(published))
    left_out = tuple(
        f"! runs on {dataset} left out: {units.count(k)}; {published.source} is of {published.dataset}"
        for dataset, k in sorted(foreign.items())
    )
    return numbered([replace(each, notes=(*each.notes, *left_out)) for each in made])


def _by_sigma(group: Group) -> Table:
    columns = (
        *(Column("method", "method"), Column("sigma", "sigma"), Column("n", "N"), Column("images", "images")),
        *(Column("abstain", "abstain %"), Column("acr", "ACR"), *radius_columns(group.radii)),
    )
    rows, widths = [], [0.0]
    titled = [(variant, run) for variant in variants(group) for run in variant.runs]
    names = Counter((variant.title, run.spec.sigma) for variant, run in titled)
    for variant, run in titled:
        score = certified_accuracy(run, group.radii, group.bound, group.alpha)
        # Two trainings of one method at one sigma differ in nothing that is printed but the weights: the digest tells.
        twins = names[variant.title, run.spec.sigma] > 1
        title = f"{variant.title} [{digest(run)}]" if twins else variant.title
        origin = run.spec.digest()
        accuracies = [_accuracy(score, k, origin, run.spec.n) for k in range(len(group.radii))]
        widths += [(c.high or 0.0) - (c.low or 0.0) for c in accuracies]
        rows.append(
            (
                _measured(title, "text", origin, note=_share(score.images, run.spec.images), method=run.spec.method),
                _measured(units.noise_level(run.spec.sigma), "text", origin),
                _measured(run.spec.n, "count", origin),
                _measured(score.images, "count", origin, note=_of(score.images, run.spec.images)),
                _measured(score.abstention, "fraction", origin, successes=score.abstained, images=score.images),
                _measured(
                    score.acr, "l2", origin, note=FROM_BELOW * score.acr_at_least, images=score.images, n=run.spec.n
                ),
                *accuracies,
            )
        )
    return Table(
        name=f"by-sigma-{slug(group.dataset)}-{group.bound}",
        title=f"{group.dataset}: certified accuracy (%) at l2 radius r, by sigma",
        caption=group.caption(),
        columns=columns,
        rows=tuple(rows),
        notes=(
            *_notes(group, max(widths)),
            "ACR: average certified radius (l2), wrong and abstained images as 0, rounded down",
        ),
        short=(_INTERVALS, "ACR: average certified radius"),
    )


def _envelope(
    group: Group, published: PublishedTable | None = None, reason: str = "", *, disjoint: bool = False
) -> Table:
    columns = (
        *((Column("source", "source"),) if published else ()),
        *(Column("method", "method"), Column("n", "N"), Column("images", "images")),
        *((Column("latency", "latency"),) if published else ()),
        *radius_columns(group.radii),
    )
    rows: list[Line] = []
    left_out: list[str] = []
    for variant in variants(group):
        if not in_common(variant.runs)[1]:
            left_out.append(f"! {variant.title} is left out: its runs have no certified image in common yet")
            continue
        best = envelope(variant.runs, group.radii, group.bound, group.alpha, disjoint=disjoint)
        left_out += [
            f"! {name(r)} is left out of the best: {len(r.rows)} of {r.spec.images} images" for r in best.left_out
        ]
        rows.append(_envelope_line(variant.title, best, beside=published is not None))
    widths = [(cell.high or 0.0) - (cell.low or 0.0) for row in rows for cell in row]
    notes = [
        "best of k: per radius the best of k runs, its sigma in the cell (ties: the smaller)",
        _DISJOINT if disjoint else _ORACLE,
        *left_out,
        *_notes(group, max(widths, default=0.0)),
    ]
    if published:
        rows += quoted(published)
        notes += published_notes(published)
    if reason:
        notes.append(f"the published rows stand in a table of their own: here are {reason}")
    beside = f", beside {published.source}" if published else ""
    return Table(
        name=f"envelope-{slug(group.dataset)}-{group.bound}",
        title=f"{group.dataset}: certified accuracy (%) at l2 radius r, best sigma per radius{beside}",
        caption=("measured rows: " if published else "") + group.caption(),
        columns=columns,
        rows=tuple(rows),
        notes=tuple(notes),
        short=(
            f"sigma: best on {'other' if disjoint else 'these'} images",
            _INTERVALS,
        ),
    )


def _envelope_line(title: str, best: Envelope, *, beside: bool) -> Line:
    """One method's best at each radius; `beside`: in the columns that published rows need."""
    total = best.compared[0].spec.images
    n = best.compared[0].spec.n
    origin = " ".join(r.spec.digest() for r in best.compared)
    sigmas = Counter(r.spec.sigma for r in best.compared)
    chosen = f"chosen on {best.chosen_on} others" if best.chosen_on else ""
    several = f"best of {len(best.compared)}" if len(best.compared) > 1 else ""
    of = ", ".join(filter(None, (several, _share(best.images, total), chosen)))
    cells = []
    for winner in best.best:
        sigma = winner.run.spec.sigma
        which = f"σ={units.noise_level(sigma)}" + (f" [{digest(winner.run)}]" if sigmas[sigma] > 1 else "")
        cells.append(
            counted(
                winner.certified,
                best.images,
                source="measured",
                origin=winner.run.spec.digest(),
                n=n,
                note=which if winner.certified else "",  # where no run certifies an image, none has won
            )
        )
    return (
        *((_measured("measured", "text", origin),) if beside else ()),
        _measured(title, "text", origin, note=of, method=best.compared[0].spec.method),
        _measured(n, "count", origin),
        _measured(best.images, "count", origin, note=_of(best.images, total)),
        *((_measured(None, "seconds", origin),) if beside else ()),
        *cells,
    )


def _measured(
    value: str | int | float | None,
    unit: Unit,
    origin: str,
    *,
    note: str = "",
    successes: int | None = None,
    images: int | None = None,
    n: int | None = None,
    method: str = "",
) -> Cell:
    return Cell(
        value=value,
        unit=unit,
        source="measured",
        printed=printed(str(value), method) if method else "",
        note=note,
        origin=origin,
        successes=successes,
        images=images,
        n=n,
    )


def _accuracy(score: Accuracy, k: int, origin: str, n: int) -> Cell:
    note = FROM_BELOW * bool(score.at_least and score.at_least[k])
    return counted(score.certified[k], score.images, source="measured", origin=origin, n=n, note=note)


def _share(images: int, total: int) -> str:
    return "" if images == total else f"{images} of {total} images"


def _of(images: int, total: int) -> str:
    return "" if images == total else f"of {units.count(total)}"


def _notes(group: Group, width: float) -> list[str]:
    """What a reader of any table of the group must know."""
    copies = [Counter(row.fingerprint for row in run.rows) for run in group.runs]
    excess = units.points(max(noise_correction(list(each.values()), group.alpha) for each in copies), 2)
    notes = [
        f"images: {units.percent(CONFIDENCE, 0)} Wilson intervals, at most {units.points(width)} points wide",
        f"noise: a run's accuracies exceed the truth by more than {excess} points with probability at most {FAILURE:g}",
        *group.notes,
    ]
    for run in group.runs:
        if not run.done:
            notes.append(f"! {name(run)} is incomplete: {len(run.rows)} of {run.spec.images} images")
        if run.spec.stops:
            grid = ", ".join(f"{r:g}" for r in run.spec.radii)
            notes.append(
                f"! {name(run)} has verdicts at r = {grid} only, its images stop when these are settled; elsewhere its "
                "accuracies, and its ACR, are lower bounds"
                + ("" if run.spec.mode == "deploy" else "; it tests the true label, so a wrong class is no abstention")
            )
        if run.conflicts:
            notes.append(
                f"! {name(run)}: {run.conflicts} images were certified twice with other votes; the first counts"
            )
    if any(run.spec.random_weights for run in group.runs):
        notes.append("! random weights: never trained, their accuracies mean nothing")
    return notes
