"""Tables as LaTeX to \\input into a paper whose text is 5.5 in wide, as those of NeurIPS and ICLR are.

A table too wide for that is cut into several below each other, by an estimate of its width.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.report.formats.escaping import latex as escape
from bench.report.tables.table import Cell, Table
from bench.types.errors import ReportError

NOTES = ("short", "full", "none")
TEXT_WIDTH = 5.5 * 72.27  # pt
_HEAD = """\
% needs \\usepackage{booktabs} and \\usepackage{graphicx}; all else is in the LaTeX kernel
% made for a text 5.5 in wide at 10 pt (NeurIPS, ICLR); give \\input this file
"""
_GAP = 6.0  # pt between columns: twice \tabcolsep
# Widths of Computer Modern at 8 pt, in em, rounded up; at 5 pt the same letters are wider for their size.
_EM = {
    letter: width
    for letters, width in (
        *(("il.,:;!|'[]", 0.31), (" fjI-", 0.37), ("rst()", 0.43), ("cez", 0.49), ("ago0123456789", 0.54)),
        ("mwMW%", 0.98),
    )
    for letter in letters
}
_UPPER, _OTHER, _TINY = 0.80, 0.60, 0.80
_MATH = (
    (r"\bl2\b", r"$\\ell_2$"),
    (r"p\\_([AB]) = 1 - p\\_([AB])", r"$p_\1 = 1 - p_\2$"),
    (r"\bp\\_([AB])\b", r"$p_\1$"),
    (r"\bN=([\d ]*\d)", lambda found: f"$N = {_grouped(found[1])}$"),
    (r"\bN\\textless\{\}=([\d ]*\d)", lambda found: rf"$N \le {_grouped(found[1])}$"),
    (r"\bn0=([\d ]*\d)", lambda found: f"$n_0 = {_grouped(found[1])}$"),
    (r"\balpha=([\d.e-]*\d)", r"$\\alpha = \1$"),
    (r"\br=([\d.]*\d)", r"$r = \1$"),
    (r"(?<![\\-])\b(alpha|sigma)\b", r"$\\\1$"),
    (r"\bradius r\b", "radius $r$"),
    (r"^N$", "$N$"),
)


def latex(tables: Sequence[Table], notes: str = "short") -> str:
    """The tables as LaTeX floats; rows that were not measured stand in a block of their own, in italics.

    `notes`: one line below each table, all of them, or none. Doubts (a `!` before them) are comments above the float.
    Raises: ReportError for other notes.
    """
    if notes not in NOTES:
        raise ReportError(f"expected notes {', '.join(NOTES)}, got {notes!r}")
    return _HEAD + "\n".join(_float(table, notes) for table in tables)


def _float(table: Table, notes: str) -> str:
    kept = _kept(table)
    doubts = [note for note in table.notes if note.startswith("!")]
    lines = [
        *(f"% {escape(doubt)}" for doubt in doubts),
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{_prose(table.title)}. {_prose('; '.join((table.caption, *_same(table, kept))))}.}}",
        rf"\label{{tab:{table.name}}}",
    ]
    blocks = _blocks(table, kept)
    for number, columns in enumerate(blocks):
        lines += [r"\par\medskip"] * bool(number) + _tabular(table, columns)
    said: Iterable[str] = ()
    if notes == "short" and table.short:
        said = (_one_line(table.short),)
    elif notes == "full":
        said = (note for note in table.notes if not note.startswith("!"))
    size = r"\scriptsize " if notes == "short" else ""
    lines += [rf"\par\smallskip{{{size}\raggedright {_prose(note)}\par}}" for note in said]
    lines += [r"\end{table}", ""]
    return "\n".join(lines)


def _tabular(table: Table, columns: Sequence[int]) -> list[str]:
    spec = "".join("l" if table.text_column(k) else "r" for k in columns)
    at = [i for i, k in enumerate(columns, 1) if table.columns[k].radius is not None]
    lines = [
        # Only where the estimate was too small: a narrow table keeps its size.
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
    ]
    if len(at) > 1:
        lines.append("& " * (at[0] - 1) + rf"\multicolumn{{{len(at)}}}{{c}}{{radius $r$}} \\")
        lines.append(rf"\cmidrule(l){{{at[0]}-{at[-1]}}}")
    lines.append(" & ".join(_title(table, k, alone=len(at) < 2) for k in columns) + r" \\")
    block, shown = None, table.shown_bold()
    for number, row in enumerate(table.rows):
        if row[0].source != block:
            block = row[0].source
            lines.append(r"\midrule")
            if block in ("quoted", "imported"):
                lines.append(rf"\multicolumn{{{len(spec)}}}{{l}}{{\textit{{{block}, not measured here}}}} \\")
        elif any(_below(row[k]) for k in columns):
            lines.append(r"\addlinespace[2pt]")
        # {}: the \\ of the row above would take a leading [ for its optional argument.
        cells = (_cell(row[k], bold=(number, k) in shown, left=table.text_column(k)) for k in columns)
        lines.append("{}" + " & ".join(cells) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}}"]


def _kept(table: Table) -> list[int]:
    """The columns, but for the source, which the blocks say, and numbers of copies or images that all rows share."""
    return [
        k
        for k, column in enumerate(table.columns)
        if column.key != "source" and not (column.key in ("n", "images") and _shared(table, k))
    ]


def _shared(table: Table, k: int) -> bool:
    return len({(row[k].value, row[k].note) for row in table.rows}) == 1 and table.rows[0][k].value is not None


def _same(table: Table, kept: Sequence[int]) -> list[str]:
    """What the columns left out would have said, where the caption does not."""
    said = []
    for k, column in enumerate(table.columns):
        if k in kept or column.key == "source":
            continue
        value = table.rows[0][k].main()
        words = f"N={value}" if column.key == "n" else f"{value} images"
        if words not in table.caption:
            said.append(words)
    return said


def _blocks(table: Table, kept: Sequence[int]) -> list[list[int]]:
    """The columns as they fit, each time with the words that name a row."""
    width = {k: _GAP + max(_wide(table, k), *(map(_cell_wide, (row[k] for row in table.rows))), 0.0) for k in kept}
    number = next((i for i, k in enumerate(kept) if not table.text_column(k)), len(kept))
    keys, rest = list(kept[:number]), kept[number:]
    blocks = [keys[:]]
    for k in rest:
        if len(blocks[-1]) > len(keys) and sum(width[j] for j in (*blocks[-1], k)) > TEXT_WIDTH:
            blocks.append(keys[:])
        blocks[-1].append(k)
    return blocks


def _wide(table: Table, k: int) -> float:
    column = table.columns[k]
    return estimated_width(column.title if column.radius is None else f"{column.radius:g}00")


def _cell_wide(cell: Cell) -> float:
    return max((estimated_width(cell.printed or cell.main()), *(_TINY * estimated_width(t) for t in _below(cell))))


def estimated_width(text: str) -> float:
    """The width of a text at 8 pt, in pt, from above."""
    return 8 * sum(_EM.get(letter, _UPPER if letter.isupper() else _OTHER) for letter in text)


def _one_line(parts: Sequence[str]) -> str:
    """As many of the parts as fit one line of 7 pt, the most needed first."""
    said = parts[0]
    for part in parts[1:]:
        if estimated_width(f"{said}; {part}") * 7 / 8 <= TEXT_WIDTH:
            said = f"{said}; {part}"
    return said


def _title(table: Table, k: int, *, alone: bool) -> str:
    column = table.columns[k]
    return _prose(column.title) if column.radius is None or alone else column.title.removeprefix("r=")


def _below(cell: Cell) -> list[str]:
    """What stands in small letters below the value; doubts of a time are comments."""
    return [line for line in (cell.interval(), "" if cell.unit == "seconds" else cell.note) if line]


def _cell(cell: Cell, *, bold: bool, left: bool) -> str:
    first = escape(cell.printed or cell.main())
    if cell.unit == "count" and cell.value is not None:
        first = first.replace(" ", r"\,")
    text = rf"\textbf{{{first}}}" if bold else first
    text = text if cell.source not in ("quoted", "imported") else rf"\textit{{{text}}}"
    rest = _below(cell)
    if not rest:
        return text
    # \shortstack is in the LaTeX kernel: a paper need not load makecell.
    stack = "".join(rf" \\ {{\tiny {escape(line)}}}" for line in rest)
    return rf"\shortstack[{'l' if left else 'r'}]{{{text}{stack}}}"


def _prose(text: str) -> str:
    """Our own words, with the letters of the papers as such."""
    made = escape(text)
    for pattern, letters in _MATH:
        made = re.sub(pattern, letters, made)
    return made


def _grouped(number: str) -> str:
    return number.replace(" ", r"\,")
