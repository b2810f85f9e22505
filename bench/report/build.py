"""A whole report: which tables and figures some runs give, and their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.certification.bounds import BOUNDS
from bench.published.tables import PublishedTable
from bench.report.envelope import chooses
from bench.report.figures.canvas import SCREEN, Style
from bench.report.figures.registry import Drawing, drawings
from bench.report.formats.markdown import as_csv, as_json, markdown
from bench.report.grouping import Group, groups, variants
from bench.report.paper import OWN, RAW, paper_tables, table_name
from bench.report.tables.accuracy import by_sigma_tables, envelope_tables
from bench.report.tables.compare_published import beside
from bench.report.tables.published_rows import ENVELOPES, published_table
from bench.report.tables.significance import emphasise
from bench.report.tables.table import Table, numbered
from bench.runs.store import Run
from bench.types.atomic_file import atomic_write
from bench.types.errors import ReportError
from bench.types.limits import ALPHA

if TYPE_CHECKING:
    from bench.published.logs.store import Imported
    from bench.report.figures.tradeoff import Timed
    from bench.report.formats.page_data import PageData
    from bench.timing.records import LatencyRecord

FORMATS = ("md", "csv", "json", "tex", "html", "png", "pdf", "svg")
_DRAWN = ("png", "pdf", "svg")
_TITLE = "rrcm-bench report"


@dataclass(frozen=True, slots=True)
class Report:
    """Tables and pictures of some runs, in the order of reading."""

    tables: tuple[Table, ...]
    pictures: tuple[Drawing, ...]
    explore: Callable[[], PageData] | None = None  # what the page lets a reader explore, made when it is asked for


def build(
    runs: Sequence[Run],
    *,
    imports: Sequence[Imported] = (),
    table: int | str | None = None,
    bound: str = "pa",
    alpha: float | None = None,
    bold: str = "significant",
    disjoint: bool = False,
    paths: Sequence[Path] = (),
    figures: Sequence[str] | None = None,
    roots: Mapping[str, Path] | None = None,
    latencies: Sequence[LatencyRecord] = (),
    style: Style = SCREEN,
) -> Report:
    """The report of some runs: best sigma per radius, each sigma by itself, and the figures.

    `imports`: published logs, in tables of their own; their bound is "pa", so that they are left out of "papb".
    `table`: one of the paper's, to stand beside it; runs of other datasets are then left out. 1 to 9, rebuttal1,
    rebuttal2, raw; grid, of sigma in training; pairs, of every two runs; field, of what others publish; probability.
    `bold`: the set not significantly worse than the best, the best alone, or none. `disjoint`: sigma is chosen on other
    images than reported on. `paths`: folders of feature probes, for Table 6.
    `figures`: by name, see bench.report.figures.registry; None draws those that the runs give. `roots`: each dataset's
    folder, for the pictures of the page. `latencies`: records of `rrcm-bench latency`, for the rows that they fit.
    `style`: of the figures, see bench.report.figures.canvas.
    `bound`: "pa", "papb", or "both", in tables of their own. `alpha`: other than the runs' own, from the same votes.
    Raises: ReportError for nothing to report, or runs that cannot stand in a table.
    """
    if bound not in (*BOUNDS, "both"):
        raise ReportError(f"expected the bound {', '.join(BOUNDS)} or both, got {bound!r}")
    if alpha is not None and not ALPHA <= alpha < 0.5:
        raise ReportError(f"alpha must lie in [{ALPHA:g}, 0.5), got {alpha!r}; the field uses 0.001")
    started = [run for run in runs if run.rows]  # a run that has just begun has nothing to say yet
    if table is not None and table_name(table) not in ENVELOPES:
        kind = table_name(table)
        # Rows of the table of raw accuracies are of one method at several radii: no rivals.
        mode = "none" if kind == RAW else bold
        # Published rows stand once, beside the bound that is theirs.
        both = BOUNDS if kind in OWN else ("pa",)
        marked: list[Table] = []
        for each in both if bound == "both" else (bound,):
            made = paper_tables(kind, started, paths, each, alpha)
            marked += emphasise(made, started, mode=mode, bound=each, alpha=alpha)
        asked = () if figures is None else drawings(groups(started, "pa", alpha), None, figures)
        return Report(numbered(marked), asked)
    published = None if table is None else published_table(table_name(table))
    logs = [i for i in imports if bound != "papb" and (published is None or i.origin.dataset == published.dataset)]
    if not started and not logs and published is None:
        state = f"no certified image yet (runs found: {len(runs)})" if runs else "no runs"
        raise ReportError(
            f"{state}: expected run folders with rows, run `rrcm-bench run` first, or give --table 1 or 2"
        )
    own = [run for run in started if published is None or run.spec.dataset == published.dataset]
    tables: list[Table] = []
    found: list[Group] = []
    for each in BOUNDS if bound == "both" else (bound,):
        # The published rows stand in the report once, beside the bound that is theirs.
        with_table = each == "pa" or bound != "both"
        # Where every method has one run, the best of one would repeat the table by sigma.
        if (with_table and published) or any(len(v.runs) > 1 for g in groups(own, each, alpha) for v in variants(g)):
            chosen = envelope_tables(
                *(started if with_table else own, published.name if with_table and published else None, each, alpha),
                disjoint=disjoint,
            )
            if published is not None and with_table:
                chosen = beside(chosen, published, own)
            reported = (lambda key: not chooses(key)) if disjoint else None
            tables += emphasise(chosen, own, mode=bold, bound=each, alpha=alpha, counts=reported)
        tables += emphasise(by_sigma_tables(own, each, alpha), own, mode=bold, bound=each, alpha=alpha)
        found += groups(own, each, alpha)
    if logs:
        from bench.report.tables.imported_logs import imported_tables

        read = imported_tables(logs, alpha)
        if published is not None:
            read = tuple(beside([t], published, (), logs)[0] if "envelope" in t.name else t for t in read)
        tables += emphasise(read, (), logs, mode=bold, alpha=alpha)
    timed: tuple[Timed, ...] = ()
    if latencies:
        from bench.report.tables.latency import of_one_device, timed_methods, timed_rows, timed_tables

        latencies, left_out = of_one_device(latencies, own, published)
        tables = timed_tables(tables, own, latencies, published, left_out)
        if published is not None:
            timed = (*timed_methods(found, latencies, published), *timed_rows(published, latencies))
    first = "pa" if bound == "both" else bound
    return Report(
        numbered(tables),
        drawings(found, published, figures, timed, latencies, style),
        partial(_page_data, own, first, alpha, published, roots, latencies),
    )


def write(report: Report, out: Path, formats: Sequence[str], notes: str = "short") -> list[Path]:
    """The report's files in that folder: report.md, .csv, .json, .tex, .html, and each figure as png, pdf or svg.

    Each file appears whole or not at all; one of the same name is replaced. `notes`: below LaTeX tables: short, full
    or none.
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
            if each in _DRAWN:
                for picture in report.pictures:
                    made.append(out / f"{picture.name}.{each}")
                    atomic_write(made[-1], _drawn(picture, each))
            else:
                made.append(out / f"report.{each}")
                # What JSON may hold and UTF-8 may not, half a pair of surrogates, is written as its escape.
                atomic_write(made[-1], _text(report, each, notes).encode(errors="backslashreplace"))
    except OSError as error:
        raise ReportError(f"cannot write {str(out)!r}: {error.strerror}; give --out another folder") from error
    return made


def _text(report: Report, form: str, notes: str) -> str:
    match form:
        case "md":
            return markdown(report.tables)
        case "csv":
            return as_csv(report.tables)
        case "json":
            return as_json(report.tables)
        case "tex":
            from bench.report.formats.latex import latex

            return latex(report.tables, notes)
    from bench.report.formats.html import page

    shown = report.explore() if report.explore else None
    return page(_TITLE, report.tables, {p.title: _drawn(p, "png") for p in report.pictures}, shown)


def _drawn(picture: Drawing, form: str) -> bytes:
    from bench.report.figures.canvas import as_bytes

    return as_bytes(picture.draw(), form)


def _page_data(
    runs: Sequence[Run],
    bound: str,
    alpha: float | None,
    published: PublishedTable | None,
    roots: Mapping[str, Path] | None,
    latencies: Sequence[LatencyRecord],
) -> PageData:
    from bench.report.formats.page_data import page_data

    return page_data(runs, bound=bound, alpha=alpha, published=published, roots=roots, latencies=latencies)
