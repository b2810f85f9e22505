"""`rrcm-bench compare`: two runs image by image; `rrcm-bench claims`: a paper's own tables against its claims."""

from __future__ import annotations

from typing import Annotated

from bench.cli import options
from bench.cli.output import doubt_lengths, print_json, remark, stdout


def compare(
    run_a: options.RunFolder,
    run_b: options.RunFolder,
    radii: Annotated[
        str | None, options.certificate(help="l2 radii, comma-separated: 0,0.5,1.", show_default="those of the tables")
    ] = None,
    bound: options.CompareBound = "pa",
    alpha: options.CompareAlpha = None,
    overlap: Annotated[
        bool, options.images("--overlap", help="Pair what two different subsets share, and report how much that is.")
    ] = False,
    votes: Annotated[
        bool, options.output("--votes", help="Only count the votes that differ: one spec, two devices or precisions.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Pair two runs image by image: exact McNemar, bootstrap intervals, Holm over the radii."""
    from bench.cli.requests import numbers
    from bench.published.logs.store import FILE
    from bench.report.compare import compare as compare_runs
    from bench.report.compare import comparison_table
    from bench.report.formats.terminal import terminal
    from bench.runs.store import read_run
    from bench.types.errors import ReportError

    chosen = None if radii is None else numbers(radii, "--radii", "0,0.5,1.0")
    for path in (run_a, run_b):
        if (path / FILE).is_file():
            raise ReportError(f"{str(path)!r} is an imported log, whose images are not known; give two run folders")
    if votes:
        from dataclasses import asdict

        from bench.report.moved_votes import doubts, moved_votes

        pair = read_run(run_a), read_run(run_b)
        found = moved_votes(*pair)
        for line in doubts(*pair):
            remark(f"! {line}")
        if json:
            print_json({"a": str(run_a), "b": str(run_b), **asdict(found)})
            return
        stdout().print(
            f"{found.moved:,} of {found.votes:,} votes differ ({found.moved / found.votes:.3%}), "
            f"in {found.images_moved} of {found.images} images; {found.labels_moved} images get another class"
            + (f"; {found.only_a} images are in a alone, {found.only_b} in b" if found.only_a or found.only_b else "")
        )
        return
    doubt_lengths([], chosen or [])
    made = compare_runs(read_run(run_a), read_run(run_b), chosen, bound=bound, alpha=alpha, overlap=overlap)
    if json:
        print_json(made.as_json())
        return
    stdout().print(terminal(comparison_table(made), intervals=True))


def claims(json: options.Json = False) -> None:
    """Derive each headline claim of the rRCM paper from its tables, and set it beside what others publish."""
    from bench.report.claims.check import as_json, claims_table, findings
    from bench.report.claims.field import as_json as field_json
    from bench.report.claims.field import survival_table, survivals
    from bench.report.formats.terminal import terminal

    found, beside = findings(), survivals()
    if json:
        print_json({**as_json(found), "field": field_json(beside)})
        return
    stdout().print(terminal(claims_table(found)))
    stdout().print(terminal(survival_table(beside)))
