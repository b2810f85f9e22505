"""Tables on a terminal: the one place that decides how a table is laid out in the width there is.

A grid where it fits; else the numbers in several grids below each other, each with the columns that name a row; else,
and where words would stand in tall narrow columns, one row below another with each value by its column's name.
No column is left out, no number is cut, and no word is broken that fits a line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.report.formats.escaping import terminal as neutral
from bench.report.tables.table import Cell, Table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.measure import Measurement
    from rich.table import Table as RichTable
    from rich.text import Text

_GAP = 2  # between columns
_TALL = 3  # lines of a cell of words; rows by name are easier to read than a grid with taller ones
_WORD = 40  # letters: a longer word may be broken
_KEYS = 3  # columns that name a row in each of several grids, at most
_DIM = ("imported", "quoted")
_RULES = "    \n    \n ── \n    \n ── \n    \n    \n    \n"  # rich's box: below the head, and where the source changes


@dataclass(frozen=True, slots=True)
class TerminalTable:
    """A table to be printed by rich, laid out as it is printed."""

    table: Table
    intervals: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.text import Text

        yield Text(neutral(self.table.title), style="bold")
        yield from _Layout(self.table, self.intervals, console, options.max_width).parts()
        yield ""
        for note in filter(None, (self.table.caption, *self.table.notes)):
            yield Text(neutral(note), style="" if note.startswith("!") else "dim")
        if self.table.caption or self.table.notes:
            yield ""

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(1, options.max_width)


def terminal(table: Table, *, intervals: bool = False) -> TerminalTable:
    """A table for a terminal; rows that were not measured dim, below a rule.

    `intervals`: show each cell's interval too.
    """
    return TerminalTable(table, intervals)


class _Layout:
    """One table in one width: what each column needs, and the first form in which all of them fit."""

    def __init__(self, table: Table, intervals: bool, console: Console, width: int) -> None:
        self.table, self.console, self.width = table, console, width
        self.cells = [[_lines(cell, intervals) for cell in row] for row in table.rows]
        self.titles = [neutral(column.title) for column in table.columns]
        self.words = [table.text_column(k) for k in range(len(self.titles))]
        self.natural, self.least = [], []
        for k, title in enumerate(self.titles):
            own = [line for row in self.cells for line in row[k]]
            self.natural.append(_widest([title, *own]))
            whole = own if not self.words[k] else [word[:_WORD] for line in own for word in line.split()]
            self.least.append(_widest([*title.split(), *whole]))

    def parts(self) -> Iterator[RenderableType]:
        """The table's grids, or its rows by name."""
        every = list(range(len(self.titles)))
        if self._fits(every):
            yield self._grid(every)
        elif (blocks := self._blocks()) is not None:
            for k, block in enumerate(blocks):
                if k:
                    yield ""
                yield self._grid(block)
        else:
            yield from self._rows_by_name()

    def _fits(self, columns: Sequence[int], width: int | None = None) -> bool:
        width = self.width if width is None else width
        if sum(self.least[k] for k in columns) + _GAP * (len(columns) - 1) > width:
            return False
        widths = self._widths(columns)
        return all(
            _height(row[k], widths[i]) <= _TALL + len(row[k]) - 1
            for i, k in enumerate(columns)
            if self.words[k]
            for row in self.cells
        )

    def _widths(self, columns: Sequence[int]) -> list[int]:
        """What is to spare goes, letter by letter, to the column that has the tallest cell."""
        widths = [self.least[k] for k in columns]
        spare = self.width - sum(widths) - _GAP * (len(columns) - 1)
        for _ in range(spare):
            # Columns whose title alone is folded come last.
            short = [i for i, k in enumerate(columns) if widths[i] < self.natural[k]]
            if not short:
                break
            widest = max(short, key=lambda i: self.natural[columns[i]] / widths[i])
            widths[widest] += 1
        return widths

    def _blocks(self) -> list[list[int]] | None:
        """The columns in several grids of about one width; None where words are most of them, or one does not fit."""
        leading = next((k for k, words in enumerate(self.words) if not words), len(self.words))
        for count in range(min(_KEYS, leading), 0, -1):
            keys, rest = list(range(count)), list(range(count, len(self.titles)))
            found = self._filled(keys, rest, self.width)
            if found is None or 2 * sum(self.words[k] for k in rest) > len(rest):
                continue
            for width in range(self.width // 2, self.width):  # as even as that number of grids allows
                even = self._filled(keys, rest, width)
                if even is not None and len(even) == len(found):
                    return even
            return found
        return None

    def _filled(self, keys: Sequence[int], rest: Sequence[int], width: int) -> list[list[int]] | None:
        blocks: list[list[int]] = []
        for k in rest:
            if blocks and self._fits([*blocks[-1], k], width):
                blocks[-1].append(k)
            elif self._fits([*keys, k], width):
                blocks.append([*keys, k])
            else:
                return None
        return blocks

    def _grid(self, columns: Sequence[int]) -> RichTable:
        from rich.box import Box
        from rich.table import Table as RichTable
        from rich.text import Text

        named = any(self.titles[k] for k in columns)  # pairs of key and value have no head
        made = RichTable(
            box=Box(_RULES), show_header=named, show_edge=False, padding=(0, _GAP - 1, 0, 0), pad_edge=False
        )
        for k, width in zip(columns, self._widths(columns), strict=True):
            justify = "left" if self.words[k] else "right"
            made.add_column(Text(self.titles[k]), justify=justify, width=width, overflow="fold")  # type: ignore[arg-type]
        shown = self.table.shown_bold()
        following = [row[0].source for row in self.table.rows[1:]]
        for number, (row, lines) in enumerate(zip(self.table.rows, self.cells, strict=True)):
            made.add_row(
                # Text, not str: a method's title may hold [brackets], which rich would take for markup.
                *(_text(lines[k], bold=(number, k) in shown) for k in columns),
                style="dim italic" if row[0].source in _DIM else "",
                end_section=following[number : number + 1] not in ([], [row[0].source]),
            )
        return made

    def _rows_by_name(self) -> Iterator[RenderableType]:
        from rich.text import Text

        head = next((k for k, column in enumerate(self.table.columns) if self.words[k] and column.key != "source"), 0)
        for row, lines in zip(self.table.rows, self.cells, strict=True):
            style = "dim italic" if row[0].source in _DIM else ""
            yield Text(_flat(lines[head]), style=f"bold {style}")
            shown = [
                f"{self.titles[k]}: {_flat(lines[k])}" for k in range(len(self.titles)) if k != head and any(lines[k])
            ]
            for line in _packed(shown, self.width - 2):
                first, *rest = Text(line, style=style).wrap(self.console, self.width - 4)
                yield Text("  ") + first
                yield from (Text("    ") + each for each in rest)


def _lines(cell: Cell, intervals: bool) -> list[str]:
    made = (cell.main(), cell.interval() if intervals else "", *cell.note.split("\n"))
    return [neutral(line) for line in made if line] or [""]


def _text(lines: Sequence[str], *, bold: bool) -> Text:
    from rich.text import Text

    return Text("\n").join(Text(line, style="bold" if bold and k == 0 else "") for k, line in enumerate(lines))


def _flat(lines: Sequence[str]) -> str:
    first, *rest = lines
    return f"{first} ({', '.join(rest)})" if rest else first


def _packed(fields: Sequence[str], width: int) -> Iterator[str]:
    """The fields in lines, as many in each as fit; one too long for a line has its own, which rich folds."""
    from rich.cells import cell_len

    line = ""
    for field in fields:
        longer = f"{line}   {field}" if line else field
        if line and cell_len(longer) > width:
            yield line
            longer = field
        line = longer
    if line:
        yield line


def _widest(lines: Sequence[str]) -> int:
    from rich.cells import cell_len

    return max((cell_len(line) for line in lines), default=1) or 1


def _height(lines: Sequence[str], width: int) -> int:
    from textwrap import wrap

    return sum(max(1, len(wrap(line, width))) for line in lines)
