"""A report as one HTML page that needs nothing else: tables and pictures inside, no script, no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from bench.errors import ReportError
from bench.report.cells import Table

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .3rem }
p.caption, ul.notes { color: #555; font-size: .85rem; margin: .3rem 0 }
div.wide { overflow-x: auto }
table { border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid; margin: .6rem 0 }
th, td { padding: .25rem .7rem; text-align: left; vertical-align: top }
th { border-bottom: 1px solid }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
td small { display: block; color: #777; white-space: nowrap }
tr.quoted td, tr.imported td { font-style: italic; color: #555; background: #f6f6f6 }
img { max-width: 100% }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for table in tables %}
<h2 id="{{ table.name }}">{{ table.title }}</h2>
<p class="caption">{{ table.caption }}</p>
<div class="wide">
<table>
<thead><tr>{% for column in table.columns %}<th>{{ column.title }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr class="{{ row[0].source }}">
{%- for cell in row %}
<td{% if cell.unit != "text" %} class="number"{% endif %} title="{{ cell.source }}: {{ cell.origin }}">
{{- cell.lines()[0] }}{% for line in cell.lines()[1:] %}<small>{{ line }}</small>{% endfor -%}
</td>
{%- endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
<ul class="notes">{% for note in table.notes %}<li>{{ note }}</li>{% endfor %}</ul>
{% endfor %}
{% for title, data in pictures %}
<h2>{{ title }}</h2>
<p><img alt="{{ title }}" src="data:image/png;base64,{{ data }}"></p>
{% endfor %}
</body>
</html>
"""


def page(title: str, tables: Sequence[Table], pictures: Mapping[str, bytes]) -> str:
    """The page; `pictures` are PNG files by title.

    Raises: ReportError where jinja2 is not installed.
    """
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise ReportError(
            "an HTML report needs jinja2, which is not installed; `pip install 'rrcm-bench[html]'` or drop html"
        ) from error
    encoded = [(name, base64.b64encode(data).decode("ascii")) for name, data in pictures.items()]
    template = Environment(autoescape=True, keep_trailing_newline=True).from_string(_PAGE)
    return template.render(title=title, tables=tables, pictures=encoded)
