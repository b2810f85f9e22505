"""Words of strangers are shown, never obeyed, by each place that they are printed to."""

from __future__ import annotations

import csv
import io
import json

import pytest
from report_runs import run

from bench.cli.output import Screen
from bench.report.build import build
from bench.report.figures.canvas import as_bytes
from bench.report.figures.registry import drawings
from bench.report.formats.escaping import latex, markdown, one_line, spreadsheet, terminal
from bench.report.formats.html import page
from bench.report.formats.latex import latex as latex_tables
from bench.report.formats.markdown import as_csv, as_json
from bench.report.formats.markdown import markdown as as_markdown
from bench.report.grouping import groups

NASTY = "=a\x1b[2J[red]</script><b>|`\\x{$\\frac$}\u202e\ud800\x00&#60;](http://x)"


@pytest.mark.parametrize(
    "letter", [*map(chr, range(32)), "\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\ufeff", "\ud800"]
)
def test_no_letter_that_a_terminal_obeys_reaches_it(letter: str) -> None:
    for shown in (terminal(f"a{letter}b").replace("\n", ""), one_line(f"a{letter}b"), markdown(f"a{letter}b")):
        assert shown.isprintable()
        assert shown.encode()


def test_words_for_people_stay_as_they_are() -> None:
    for text in ("σ=0.50, Bären 字 [72.9, 80.3] – 100 000", "plain", ""):
        assert terminal(text) == text
        assert one_line(text) == text
        assert markdown(text) == text


def test_a_word_without_end_is_cut() -> None:
    assert len(one_line("9" * 5000)) < 100


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd|x", "@sum", "\t=1", "\r=1", "＝1", "-"])
def test_a_formula_becomes_text(text: str) -> None:
    assert spreadsheet(text) == f"'{terminal(text)}"


@pytest.mark.parametrize("text", ["-0.5", "+1e-3", "-inf", "a=b", "", "0.67"])
def test_numbers_and_words_are_no_formulas(text: str) -> None:
    assert spreadsheet(text) == text


def test_latex_has_no_control_letter() -> None:
    assert latex("a\x1bb\x00") == "a(U+001B)b(U+0000)"


def test_the_screen_obeys_neither_markup_nor_escapes() -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    file = io.StringIO()
    screen = Screen(Console(file=file, width=80, markup=False, emoji=False, force_terminal=True, color_system=None))
    table = Table(title="[red]t[/red]\x1b[2J")
    table.add_column("[/]")
    table.add_row(Text(f"x\x1b]0;y\x07{'z' * 30}"))
    screen.print(table)
    screen.print("[bold]:smile:\x1b[3J")
    shown = file.getvalue()
    assert "\x1b" not in shown
    assert "\x07" not in shown
    for text in ("[red]t[/red]\\x1b[2J", "[/]", "x\\x1b]0;yz", "[bold]:smile:\\x1b[3J"):
        assert text in shown


def test_a_nasty_name_passes_every_form_of_a_report_as_text() -> None:
    runs = [run([1000, 900, 400], method=NASTY, dataset=f"digits{NASTY}", subset=NASTY, preprocessing=NASTY)]
    report = build(runs)
    cells = [cell for line in csv.reader(io.StringIO(as_csv(report.tables))) for cell in line]
    assert f"'{terminal(NASTY)}" in cells
    document = as_json(report.tables)
    assert NASTY in {cell["value"] for table in json.loads(document)["tables"] for row in table["rows"] for cell in row}
    assert document.replace("\n", "").isprintable()
    text = as_markdown(report.tables)
    assert "\x1b" not in text
    assert "](" not in text
    html = page(NASTY, report.tables, {}, report.explore() if report.explore else None)
    assert "<b>|" not in html
    assert html.encode("utf-8", "backslashreplace")
    assert latex_tables(report.tables).encode()
    for picture in drawings(groups(runs, "pa", None)):
        assert as_bytes(picture.draw(), "svg")
