"""Methods as papers call them: "SmoothAdv" of `smoothadv`."""

from __future__ import annotations

from functools import cache

from bench.published.tables import load
from bench.runs import registry
from bench.types.errors import BenchError

_TABLES = ("table1", "table2")  # where a row without settings stands for the method as such


def printed(text: str, method: str) -> str:
    """A row's title with the method's name as papers print it; the rest of it stays: settings, digest."""
    return title_of(method) + text.removeprefix(method) if text.startswith(method) else text


@cache
def title_of(method: str) -> str:
    """The title in published tables, else the method's own; a stranger's file, which no report runs, its name."""
    for table in _TABLES:
        for row in load(table).rows:
            if row.method == method and not row.params:
                return row.title
    if method not in registry.method_names():
        return method
    try:
        return registry.method(method).title
    except BenchError:  # of a plug-in that is broken here; its runs are there all the same
        return method
