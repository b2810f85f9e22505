"""`rrcm-bench claims`: the paper's headline claims, derived again from its tables."""

from __future__ import annotations

from bench.cli import options
from bench.cli.output import print_json, stdout


def claims(json: options.Json = False) -> None:
    """Derive each headline claim of the rRCM paper from its published tables, and say whether it holds."""
    from bench.report.claims.check import as_json, claims_table, findings
    from bench.report.formats.markdown import terminal

    found = findings()
    if json:
        print_json(as_json(found))
        return
    stdout().print(terminal(claims_table(found)))
