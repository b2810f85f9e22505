"""`rrcm-bench report`: tables and figures from stored votes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options
from bench.cli.output import left_out, remark, stdout
from bench.cli.paths import RUNS, at_home

if TYPE_CHECKING:
    from bench.report.tables.table import Table

PROBES = Path("results/probes")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """The words of `rrcm-bench report`."""

    runs: Annotated[
        list[Path] | None,
        options.tables(
            help="Run folders, imported logs, or folders of them; repeatable.", show_default=str(RUNS), callback=at_home
        ),
    ] = None
    table: options.PaperTable = None
    bound: options.ReportBound = "pa"
    alpha: options.ReportAlpha = None
    select: Annotated[
        str,
        options.tables(
            help="How a best sigma is chosen: oracle (on the reported images) | disjoint (on other images)."
        ),
    ] = "oracle"
    bold: Annotated[str, options.tables(help="significant (not significantly worse than the best) | best | none.")] = (
        "significant"
    )
    check: Annotated[
        float | None,
        options.tables(
            help="Exit with 3 where a cell is more than that many points from its published one.",
            show_default="no check",
        ),
    ] = None
    latex: Annotated[bool, options.output("--latex", help="LaTeX tables (booktabs).")] = False
    notes: Annotated[
        str | None,
        options.output(
            help="Below the LaTeX tables: short (one line) | full | none. Doubts are comments.", show_default="short"
        ),
    ] = None
    markdown: Annotated[bool, options.output("--markdown", help="Markdown tables.")] = False
    csv: Annotated[bool, options.output("--csv", help="One line a cell, full precision.")] = False
    json: Annotated[bool, options.output("--json", help="Tables as one JSON document.")] = False
    html: Annotated[bool, options.output("--html", help="One self-contained page, to --out.")] = False
    intervals: Annotated[
        bool, options.output("--intervals", help="Show 95 % Wilson intervals on the terminal too.")
    ] = False
    figures: Annotated[
        str | None,
        options.tables(
            "--figures",
            "--figure",
            help="Comma-separated: accuracy, latency, schedule, scaling, ablation, samples, probability; or of the "
            "paper, by the settings of the runs' trainings: 3, 4, budget, 9, 10, 11.",
            show_default="those that the runs give",
        ),
    ] = None
    trained: Annotated[
        list[Path] | None,
        options.tables(
            help="Folders of trained weights, for figures 3, 4, budget, 9 to 11, and the titles of runs of one method; "
            "repeatable. What they say of their training is kept as training.json in --out.",
            show_default="training.json beside the runs",
            callback=at_home,
        ),
    ] = None
    style: Annotated[str, options.output(help="Of figures: screen | paper (8 point letters at --width, no title).")] = (
        "screen"
    )
    width: Annotated[
        float | None, options.output(help="Of figures in a paper, in inches.", show_default="5.5, the text's width")
    ] = None
    data_root: options.ReportDataRoot = None
    latency: Annotated[
        list[Path] | None,
        options.tables(
            help="Records of `rrcm-bench latency`, for the rows that they fit; repeatable.",
            show_default="none",
            callback=at_home,
        ),
    ] = None
    out: Annotated[
        Path | None,
        options.output(
            help="Folder for files and figures (PNG, PDF, SVG).", show_default="stdout, no figures", callback=at_home
        ),
    ] = None


def report(given: ReportOptions) -> None:
    """Print certified-accuracy tables, or write them with their figures to a folder."""
    from bench.published.logs.store import find_imports
    from bench.report.build import build, write
    from bench.report.figures.canvas import SCREEN, style_of
    from bench.report.figures.trained import by_number, training_drawings
    from bench.report.formats.latex import NOTES
    from bench.report.grouping import groups
    from bench.report.training_records import SIDECAR, list_text, read_records, with_training
    from bench.runs.store import find_runs
    from bench.timing.latency.store import read
    from bench.types.atomic_file import atomic_write
    from bench.types.errors import ReportError, UsageError

    chosen = [
        form
        for form, on in (
            *(("tex", given.latex), ("md", given.markdown), ("csv", given.csv), ("json", given.json)),
            ("html", given.html),
        )
        if on
    ]
    out, figures = given.out, given.figures
    of_training, others = by_number(figures.split(",") if figures else ())
    if out is None and len(chosen) > 1:
        raise UsageError("several formats on one stdout; give one of them, or --out FOLDER")
    if out is None and given.html:
        raise UsageError("--html is a page with pictures; give --out FOLDER")
    if out is None and figures is not None:
        raise UsageError("--figures are files; give --out FOLDER")
    style = style_of(given.style, given.width)
    if out is None and style != SCREEN:
        raise UsageError("--style is that of figures, which are files; give --out FOLDER")
    notes = given.notes or "short"
    if notes not in NOTES:
        raise UsageError(f"--notes must be one of {', '.join(NOTES)}, got {notes!r}")
    if given.notes and not given.latex and (chosen or out is None):
        raise UsageError("--notes are those of LaTeX tables; give --latex")
    if given.select not in ("oracle", "disjoint"):
        raise UsageError(f"--select must be oracle or disjoint, got {given.select!r}")
    # Without --runs an absent default folder is no mistake: --table 1 alone shows the published rows.
    paths = given.runs or [each for each in (PROBES if given.table == "6" else RUNS,) if each.is_dir()]
    found = find_runs(paths, left_out)
    try:
        records = read_records(paths, given.trained or ())
    except ReportError as problem:
        if of_training or given.trained:
            raise
        remark(f"! titles do not say how weights were trained: {problem}")
        records = {}
    found = with_training(found, records)
    bound = "pa" if given.bound == "both" else given.bound
    of_runs = groups([run for run in found if run.rows], bound, given.alpha) if of_training else ()
    pictures = training_drawings(of_training, of_runs, records, style)
    figures = None if figures is None else ",".join(others)
    made = build(
        found,
        imports=find_imports(paths, remark),
        table=given.table,
        bound=given.bound,
        alpha=given.alpha,
        bold=given.bold,
        disjoint=given.select == "disjoint",
        paths=paths,
        figures=None if figures is None else [name for name in figures.split(",") if name],
        latencies=[record for path in given.latency or () for record in read(path, remark)],
        roots=None if given.data_root is None else {run.spec.dataset: given.data_root for run in found},
        style=style,
    )
    made = replace(made, pictures=(*made.pictures, *pictures))
    if out is not None:
        forms = [*(chosen or ["md", "csv", "json", "tex"]), "png", "pdf", "svg"]
        for path in write(made, out, forms, notes):
            remark(f"wrote {path}")
        if records and given.trained:
            atomic_write(out / SIDECAR, list_text(records))
            remark(f"wrote {out / SIDECAR}")
    else:
        _print(made.tables, chosen, intervals=given.intervals, notes=notes)
    if given.check is not None:
        _check(made.tables, given.check)


def _check(tables: tuple[Table, ...], tolerance: float) -> None:
    """Say which cells are not as published, and leave with 3 where there are any."""
    from bench.report.tables.compare_published import differences
    from bench.types.errors import UsageError

    if not 0 <= tolerance <= 100:
        raise UsageError(f"--check expects a tolerance in points from 0 to 100, got {tolerance!r}")
    found, checked = differences(tables, tolerance / 100)
    for each in found:
        remark(f"! {each.words()}")
    remark(f"checked {checked} cells: {len(found)} differ from the published by more than {tolerance:g} points")
    if found:
        raise typer.Exit(3)


def _print(tables: tuple[Table, ...], chosen: list[str], *, intervals: bool, notes: str) -> None:
    from bench.report.formats.markdown import as_csv, as_json
    from bench.report.formats.markdown import markdown as as_markdown
    from bench.report.formats.terminal import terminal

    match chosen:
        case ["tex"]:
            from bench.report.formats.latex import latex as as_latex

            sys.stdout.write(as_latex(tables, notes))
        case ["md"]:
            sys.stdout.write(as_markdown(tables))
        case ["csv"]:
            sys.stdout.write(as_csv(tables))
        case ["json"]:
            sys.stdout.write(as_json(tables))
        case _:
            console = stdout()
            for each in tables:
                console.print(terminal(each, intervals=intervals))
