"""A report as one HTML page that needs nothing else: tables, pictures and, of measured runs, plots to explore.

Its style, script and layout lie beside this module as page.css, page.js and page.html.j2. A policy in the page forbids
it to load anything, so that it shows the same without a network.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.report import units
from bench.report.formats.page_data import PageData
from bench.report.tables.table import Cell, Table
from bench.types.errors import ReportError


def page(title: str, tables: Sequence[Table], pictures: Mapping[str, bytes], page_data: PageData | None = None) -> str:
    """The page; `pictures` are PNG files by title, `page_data` what it lets a reader explore.

    Raises: ReportError where jinja2, or for its data plotly, is not installed.
    """
    try:
        from jinja2 import Environment
        from markupsafe import Markup
    except ImportError as error:
        raise ReportError(
            "an HTML report needs jinja2, which is not installed; `pip install 'rrcm-bench[html]'` or drop html"
        ) from error
    groups = page_data.record["groups"] if page_data else []
    return (
        Environment(autoescape=True, keep_trailing_newline=True, trim_blocks=True)
        .from_string(_beside("page.html.j2"))
        .render(
            title=title,
            tables=tables,
            pictures=[(name, base64.b64encode(data).decode("ascii")) for name, data in pictures.items()],
            page_data=page_data,
            groups=groups,
            origin=origin,
            style=Markup(_beside("page.css")),  # noqa: S704 our own files, not a user's words
            script=Markup(_beside("page.js")),  # noqa: S704
            plotly=Markup(_plotly() if groups else ""),  # noqa: S704
            record=Markup(_embedded(page_data.record) if page_data else ""),  # noqa: S704 escaped by _embedded
        )
    )


def origin(cell: Cell) -> str:
    """Where a number comes from, in a sentence."""
    # Runs are named by ten letters everywhere that people read.
    name = re.sub(r"\b([0-9a-f]{10})[0-9a-f]{54}\b", r"\1", cell.origin)
    words = [f"{cell.source}: {name}" if name else cell.source]
    if cell.successes is not None and cell.images is not None:
        words.append(f"{units.count(cell.successes)} of {units.count(cell.images)} images")
    if cell.interval():
        words.append(f"interval {cell.interval()}")
    if cell.n is not None:
        words.append(f"N={units.count(cell.n)}")
    return ", ".join(words)


def _embedded(record: Mapping[str, Any]) -> str:
    """JSON that no parser of HTML takes for markup."""
    text = json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _plotly() -> str:
    """The plotting library as one script."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ReportError(
            "an HTML report with plots needs plotly, which is not installed; "
            "`pip install 'rrcm-bench[html]'` or drop html"
        ) from error
    return str(get_plotlyjs())
