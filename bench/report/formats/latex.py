"""Tables as LaTeX to \\input into a paper: needs the packages booktabs and graphicx."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.formats.escaping import latex as escape
from bench.report.tables.table import Cell, Table

_HEAD = "% needs \\usepackage{booktabs,graphicx}; give \\input this file\n"


def latex(tables: Sequence[Table]) -> str:
    """The tables as LaTeX floats; rows that were not measured stand in a block of their own, in italics."""
    return _HEAD + "\n".join(_float(table) for table in tables)


def _float(table: Table) -> str:
    # The blocks' own lines say measured or quoted; the column that repeats it would not fit a page.
    kept = [k for k, column in enumerate(table.columns) if column.key != "source"]
    spec = "".join("l" if table.text_column(k) else "r" for k in kept)
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{escape(table.title)}. {escape(table.caption)}.}}",
        rf"\label{{tab:{table.name}}}",
        # Too wide a table shrinks to the line; a narrow one keeps its size.
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        " & ".join(escape(table.columns[k].title) for k in kept) + r" \\",
    ]
    block = None
    for row in table.rows:
        if row[0].source != block:
            block = row[0].source
            lines.append(r"\midrule")
            if block != "measured":
                lines.append(rf"\multicolumn{{{len(spec)}}}{{l}}{{\textit{{{block}, not measured here}}}} \\")
        # {}: the \\ of the row above would take a leading [ for its optional argument.
        lines.append("{}" + " & ".join(_cell(row[k]) for k in kept) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [rf"\par\smallskip{{\raggedright {escape(note)}\par}}" for note in table.notes]
    lines += [r"\end{table}", ""]
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    first, *rest = (escape(line) for line in cell.lines())
    text = rf"\textbf{{{first}}}" if cell.bold else first
    text = text if cell.source == "measured" else rf"\textit{{{text}}}"
    if not rest:
        return text
    # \shortstack is in the LaTeX kernel: a paper need not load makecell.
    return rf"\shortstack{{{text}" + "".join(rf" \\ {{\tiny {line}}}" for line in rest) + "}"
