"""A whole report: which tables and figures some runs give, and their files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.certificate import BOUNDS
from bench.errors import ReportError
from bench.published import PublishedTable
from bench.report.cells import Table, numbered, slug
from bench.report.grouping import Group, groups, variants
from bench.report.quoted import published_table
from bench.report.render import as_csv, as_json, markdown
from bench.report.tables import by_sigma_tables, envelope_tables
from bench.store import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.logs.archive import Imported

FORMATS = ("md", "csv", "json", "tex", "html", "png", "pdf")
_TITLE = "rrcm-bench report"


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure that is drawn when a format asks for it."""

    name: str  # of its file, without the ending
    title: str
    draw: Callable[[], Figure]


@dataclass(frozen=True, slots=True)
class Report:
    """Tables and pictures of some runs, in the order of reading."""

    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]


def build(
    runs: Sequence[Run],
    *,
    imports: Sequence[Imported] = (),
    table: int | None = None,
    bound: str = "pa",
    alpha: float | None = None,
) -> Report:
    """The report of some runs: best sigma per radius, each sigma by itself, and the figures.

    `imports`: published logs, in tables of their own; their bound is "pa", so that they are left out of "papb".
    `table`: 1 or 2, to stand beside that published table; runs of other datasets are then left out, and said to be.
    `bound`: "pa", "papb", or "both", in tables of their own. `alpha`: other than the runs' own, from the same votes.
    Raises: ReportError for nothing to report, or runs that cannot stand in a table.
    """
    if bound not in (*BOUNDS, "both"):
        raise ReportError(f"expected the bound {', '.join(BOUNDS)} or both, got {bound!r}")
    published = None if table is None else published_table(table)
    started = [run for run in runs if run.rows]  # a run that has just begun has nothing to say yet
    logs = [i for i in imports if bound != "papb" and (published is None or i.origin.dataset == published.dataset)]
    if not started and not logs and published is None:
        state = f"no certified image yet (runs found: {len(runs)})" if runs else "no runs"
        raise ReportError(
            f"{state}: expected run folders with rows, run `rrcm-bench run` first, or give --table 1 or 2"
        )
    own = [run for run in started if published is None or run.spec.dataset == published.dataset]
    tables: list[Table] = []
    pictures: list[Picture] = []
    for each in BOUNDS if bound == "both" else (bound,):
        # The published rows stand in the report once, beside the bound that is theirs.
        with_table = each == "pa" or bound != "both"
        # Where every method has one run, the best of one would repeat the table by sigma.
        if (with_table and published) or any(len(v.runs) > 1 for g in groups(own, each, alpha) for v in variants(g)):
            tables += envelope_tables(started if with_table else own, table if with_table else None, each, alpha)
        tables += by_sigma_tables(own, each, alpha)
        for number, group in enumerate(groups(own, each, alpha), start=1):
            name = f"accuracy-{slug(group.dataset)}-{each}" + (f"-{number}" if number > 1 else "")
            title = f"{group.dataset}: certified accuracy over the radius, bound {each}"
            pictures.append(Picture(name, title, partial(_curves, group)))
    if logs:
        from bench.report.imported import imported_tables

        tables += imported_tables(logs, alpha)
    if published is not None:
        name = f"latency-{slug(published.dataset)}"
        pictures.append(Picture(name, f"{published.title}: accuracy over latency", partial(_latency, published)))
    return Report(numbered(tables), tuple(pictures))


def write(report: Report, out: Path, formats: Sequence[str]) -> list[Path]:
    """The report's files in that folder: report.md, .csv, .json, .tex, .html, and each figure as png or pdf.

    Each file appears whole or not at all; one of the same name is replaced.
    Raises: ReportError for a format that is not known, or a folder that cannot be written.
    """
    unknown = [each for each in formats if each not in FORMATS]
    if unknown or not formats:
        raise ReportError(
            f"expected formats out of {', '.join(FORMATS)}, got {', '.join(map(repr, unknown)) or 'none'}"
        )
    made: list[Path] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for each in dict.fromkeys(formats):
            if each in ("png", "pdf"):
                for picture in report.pictures:
                    made.append(out / f"{picture.name}.{each}")
                    _replace(made[-1], _drawn(picture, each))
            else:
                made.append(out / f"report.{each}")
                _replace(made[-1], _text(report, each).encode())
    except OSError as error:
        raise ReportError(f"cannot write {str(out)!r}: {error.strerror}; give --out another folder") from error
    return made


def _text(report: Report, form: str) -> str:
    match form:
        case "md":
            return markdown(report.tables)
        case "csv":
            return as_csv(report.tables)
        case "json":
            return as_json(report.tables)
        case "tex":
            from bench.report.latex import latex

            return latex(report.tables)
    from bench.report.html import page

    return page(_TITLE, report.tables, {p.title: _drawn(p, "png") for p in report.pictures})


def _drawn(picture: Picture, form: str) -> bytes:
    from bench.report.figures import as_bytes

    return as_bytes(picture.draw(), form)


def _curves(group: Group) -> Figure:
    from bench.report.figures import curve_figure

    return curve_figure(group)


def _latency(published: PublishedTable) -> Figure:
    from bench.report.tradeoff import latency_figure

    return latency_figure(published)


def _replace(path: Path, data: bytes) -> None:
    """A reader sees the old file or the new one, never half of either."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)  # mkstemp lets nobody else read
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
