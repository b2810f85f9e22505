"""`rrcm-bench report`: tables and figures from stored votes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.output import remark, stdout

RUNS = Path("results/runs")


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Option(help="Run folders, imported logs, or folders of them; repeatable.", show_default=str(RUNS)),
    ] = None,
    table: Annotated[
        int | None, typer.Option(help="1 (ImageNet) or 2 (CIFAR-10): beside the published rows.", show_default="none")
    ] = None,
    bound: Annotated[str, typer.Option(help="pa (the field's) | papb (runner-up bounded too) | both, apart.")] = "pa",
    alpha: Annotated[
        float | None, typer.Option(help="Re-read the same votes at another alpha.", show_default="the runs' own")
    ] = None,
    latex: Annotated[bool, typer.Option("--latex", help="LaTeX tables (booktabs).")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Markdown tables.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="One line a cell, full precision.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Tables as one JSON document.")] = False,
    html: Annotated[bool, typer.Option("--html", help="One self-contained page, to --out.")] = False,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Show 95 % Wilson intervals on the terminal too.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for files and figures (PNG, PDF).", show_default="stdout, no figures")
    ] = None,
) -> None:
    """Print certified-accuracy tables, or write them with their figures to a folder."""
    from bench.errors import UsageError
    from bench.logs.archive import find_imports
    from bench.report.build import build, write
    from bench.report.render import as_csv, as_json, terminal
    from bench.report.render import markdown as as_markdown
    from bench.store import find_runs

    chosen = [
        form for form, on in (("tex", latex), ("md", markdown), ("csv", csv), ("json", json), ("html", html)) if on
    ]
    if out is None and len(chosen) > 1:
        raise UsageError("several formats on one stdout; give one of them, or --out FOLDER")
    if out is None and html:
        raise UsageError("--html is a page with pictures; give --out FOLDER")
    # Without --runs an absent default folder is no mistake: --table 1 alone shows the published rows.
    paths = runs or ([RUNS] if RUNS.is_dir() else [])
    made = build(find_runs(paths), imports=find_imports(paths), table=table, bound=bound, alpha=alpha)
    if out is not None:
        for path in write(made, out, [*(chosen or ["md", "csv", "json", "tex"]), "png", "pdf"]):
            remark(f"wrote {path}")
        return
    match chosen:
        case ["tex"]:
            from bench.report.latex import latex as as_latex

            sys.stdout.write(as_latex(made.tables))
        case ["md"]:
            sys.stdout.write(as_markdown(made.tables))
        case ["csv"]:
            sys.stdout.write(as_csv(made.tables))
        case ["json"]:
            sys.stdout.write(as_json(made.tables))
        case _:
            console = stdout()
            for each in made.tables:
                console.print(terminal(each, intervals=intervals))
