"""The distribution of p_A beside the average certified radius: a row a run; and what was published of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from bench.report import units
from bench.report.accuracy import certified_accuracy, digest, name
from bench.report.class_probability import LEVELS, NAME, at_least, class_probabilities, quantiles, usable
from bench.report.grouping import Group, groups, variants
from bench.report.tables.field_rows import quoted_sheet
from bench.report.tables.table import Cell, Column, Line, Table, counted, slug
from bench.runs.store import Run

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
_QUOTED_ON = "cifar10"


def probability_tables(runs: Sequence[Run], alpha: float | None = None) -> tuple[Table, ...]:
    """One table for each set of runs that may be compared; the published one beside CIFAR-10's, or for want of any.

    Runs whose images may stop are left out, and the notes say so.
    Raises: ReportError for rows that cannot be certified.
    """
    told = [run for run in runs if usable(run)]
    left_out = tuple(f"! {name(run)} is left out: its images may stop before n" for run in runs if run.spec.stops)
    made = [_table(group, left_out) for group in groups(told, "pa", alpha)]
    if made and all(run.spec.dataset != _QUOTED_ON for run in told):
        return tuple(made)
    published = quoted_sheet(NAME)
    return (*made, published if made else replace(published, notes=(*published.notes, *left_out)))


def _table(group: Group, left_out: Sequence[str]) -> Table:
    columns = (
        *(Column("method", "method"), Column("sigma", "sigma"), Column("n", "N"), Column("images", "images")),
        Column("acr", "ACR"),
        *(Column(f"share_{level:g}", f"p_A>={level:g}") for level in LEVELS),
        *(Column(f"quantile_{share:g}", f"{100 * share:g} % below") for share in SHARES),
    )
    titled = [(variant.title, run) for variant in variants(group) for run in variant.runs]
    seen = Counter((title, run.spec.sigma) for title, run in titled)
    rows = []
    for title, run in titled:
        twins = seen[title, run.spec.sigma] > 1
        rows.append(_line(f"{title} [{digest(run)}]" if twins else title, run, group.alpha))
    return Table(
        name=f"probability-{slug(group.dataset)}",
        title=f"{group.dataset}: how likely the true class is under the noise (p_A, %), by sigma",
        caption=group.caption(),
        columns=columns,
        rows=tuple(rows),
        notes=(
            f"p_A>=t: images whose exact lower bound on p_A, at alpha={units.level(group.alpha)}, is at least t",
            "certified at r is p_A >= Phi(r / sigma), 0.5 at r = 0, but where the first n0 samples chose another class",
            "k % below: the k-th percentile of votes / N, an estimate and no bound",
            "ACR is carried by its easiest images and grows with N; p_A does neither (Sun et al., arXiv 2410.06895)",
            *left_out,
            *group.notes,
        ),
    )


def _line(title: str, run: Run, alpha: float) -> Line:
    found, origin, n = class_probabilities(run, alpha), run.spec.digest(), run.spec.n
    counts = [at_least(found.lower, level) for level in LEVELS]
    words = [("text", title), ("text", units.noise_level(run.spec.sigma)), ("count", n), ("count", found.images)]
    return (
        *(Cell(value=value, unit=unit, source="measured", origin=origin) for unit, value in words),  # type: ignore[arg-type]
        Cell(
            value=certified_accuracy(run, (), "pa", alpha).acr, unit="l2", source="measured", origin=origin,
            images=found.images, n=n,
        ),
        *(counted(k, found.images, source="measured", origin=origin, n=n) for k in counts),
        *(
            Cell(value=value, unit="fraction", source="measured", origin=origin, images=found.images, n=n)
            for value in quantiles(found.plug_in, SHARES)
        ),
    )  # fmt: skip
