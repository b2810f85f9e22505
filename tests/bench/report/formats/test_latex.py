"""LaTeX that a paper takes unedited: letters, titles, notes, bold, and a width of 5.5 in by the fonts' own metrics."""

from __future__ import annotations

import re
from functools import cache

import pytest
from report_runs import run

from bench.report.build import build
from bench.report.formats.latex import TEXT_WIDTH, estimated_width, latex
from bench.report.method_titles import title_of
from bench.report.tables.table import Table
from bench.types.errors import ReportError

VOTES = [1000, 1000, 990, 960, 930, 800, 700, 480, 0]
CIFAR = {"dataset": "cifar10", "shape": (3, 32, 32), "subset": "skip:20"}
IMAGENET = {"dataset": "imagenet", "shape": (3, 224, 224), "subset": "skip:100"}


def tables(table: str | None = None, **changes: object) -> tuple[Table, ...]:
    runs = [
        run([max(0, v - loss) for v in VOTES], method=method, sigma=sigma, **changes)
        for method, loss in (("smoothadv", 700), ("vit_gaussian", 20), ("boosting", 0))
        for sigma in (0.25, 0.5)
    ]
    return build(runs, table=table).tables


@cache
def font(points: float):
    import matplotlib as mpl
    from matplotlib.ft2font import FT2Font

    found = FT2Font(f"{mpl.get_data_path()}/fonts/ttf/cmr10.ttf")
    found.set_size(points, 72)
    return found


def real_width(text: str, points: float) -> float:
    """The width in pt, by Computer Modern's metrics at 10 pt, wider for the small sizes as its digits are there."""
    from matplotlib.ft2font import LoadFlags

    optical = {8: 0.531 / 0.5, 7: 0.569 / 0.5, 5: 0.681 / 0.5}[round(points)]
    advance = sum(font(points).load_char(ord(c), flags=LoadFlags.NO_HINTING).linearHoriAdvance for c in text)
    return advance / 65536 * optical


def bare(cell: str) -> str:
    """A cell as printed: without commands and braces."""
    return re.sub(r"\\[a-z]+\b ?|[{}$]|\\", "", cell.replace(r"\,", " ").replace(r"\%", "%").replace(r"\_", "_"))


def widths(text: str) -> list[float]:
    """Of each tabular: what its widest cells take, with 3 pt on either side of each."""
    found = []
    for body in re.findall(r"\\begin\{tabular\}\{\w+\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        columns: dict[int, float] = {}
        for line in body.splitlines():
            if "&" not in line or "multicolumn" in line:
                continue
            for k, cell in enumerate(re.split(r"(?<!\\)&", line.removesuffix(r" \\"))):
                parts = re.sub(r"\\shortstack\[\w\]", "", cell).split(r" \\ ")
                taken = [real_width(bare(parts[0]).strip(), 8), *(real_width(bare(p).strip(), 5) for p in parts[1:])]
                columns[k] = max(columns.get(k, 0.0), *taken)
        found.append(sum(columns.values()) + 6 * len(columns))
    return found


@pytest.mark.parametrize(
    "made",
    [
        tables,
        lambda: tables(**CIFAR),
        lambda: tables("2", **CIFAR),
        lambda: tables("1", **IMAGENET),
        lambda: tables("7"),
    ],
    ids=["digits", "cifar10", "table2", "table1", "table7"],
)
def test_a_table_fits_a_text_of_5_5_inches_at_its_own_size(made) -> None:
    found = widths(latex(made()))
    assert found
    assert max(found) <= TEXT_WIDTH


def test_the_estimate_of_a_width_is_from_above() -> None:
    words = ["100 000", "[72.9, 80.3]", "SmoothAdv", "rRCM-B, trained at sigma 0.25, certified at 0.50", "abstain %"]
    for text in words:
        assert real_width(text, 8) <= estimated_width(text) <= 1.4 * real_width(text, 8)


def test_methods_stand_by_the_titles_of_papers() -> None:
    assert [title_of(m) for m in ("smoothadv", "gaussian", "dds", "rrcm", "densepure", "lab.py:MINE", "none")] == [
        "SmoothAdv", "Gaussian", "DDS", "rRCM", "DensePure", "lab.py:MINE", "none"
    ]  # fmt: skip
    text = latex(tables())
    assert "SmoothAdv" in text
    assert "smoothadv" not in text
    assert "SmoothAdv (t 1)" in latex(build([run([1000], params={"t": t}, method="smoothadv") for t in (1, 2)]).tables)


def test_letters_of_the_papers_are_set_as_such() -> None:
    text = latex(tables())
    for letters in (r"$\ell_2$ radius $r$", r"$\alpha = 0.001$", r"$p_B = 1 - p_A$", r"$N = 1\,000$", r"$n_0 = 100$"):
        assert letters in text
    assert not re.search(r"\bl2\b|p\\_A|alpha=", text)


def test_stacked_rows_have_space_between_them() -> None:
    for body in re.findall(r"\\midrule\n(.*?)\\bottomrule", latex(tables()[1:]), re.DOTALL):
        lines = body.splitlines()
        assert [line.startswith("{}") for line in lines] == [k % 2 == 0 for k in range(2 * 6 - 1)]
        assert set(lines[1::2]) == {r"\addlinespace[2pt]"}


def test_each_package_that_is_needed_is_named() -> None:
    text = latex(tables("2", **CIFAR))
    needed = {"booktabs": r"\toprule", "graphicx": r"\resizebox"}
    head = text.partition(r"\begin")[0]
    assert {name for name, command in needed.items() if command in text} == set(re.findall(r"usepackage\{(\w+)", head))


def test_notes_are_a_line_or_all_or_none_and_doubts_never_in_the_table() -> None:
    made = build([run([1000] * 3, images=7), run([900] * 7, method="rrcm")]).tables
    doubts = [note for table in made for note in table.notes if note.startswith("!")]
    assert doubts
    floats = {
        notes: re.findall(r"\\begin\{table\}.*?\\end\{table\}", latex(made, notes), re.DOTALL)
        for notes in ("short", "full", "none")
    }
    for notes, bodies in floats.items():
        assert all(f"% {doubt}" in latex(made, notes) for doubt in doubts)
        assert not any("! " in body or "is incomplete" in body for body in bodies)
    assert [body.count(r"\smallskip") for body in floats["short"]] == [1]
    assert [body.count(r"\smallskip") for body in floats["none"]] == [0]
    assert [body.count(r"\smallskip") for body in floats["full"]] == [
        sum(not note.startswith("!") for note in table.notes) for table in made
    ]
    with pytest.raises(ReportError, match="expected notes short, full, none, got 'long'"):
        latex(made, "long")


@pytest.mark.parametrize("table", [None, "2"])
def test_the_short_note_is_one_line(table: str | None) -> None:
    for line in re.findall(r"\\scriptsize \\raggedright (.*)\\par\}", latex(tables(table, **CIFAR))):
        assert real_width(bare(line), 7) <= TEXT_WIDTH


def test_a_column_in_which_none_differ_has_no_bold() -> None:
    same = build([run([1000] * 20, method=m) for m in "ab"]).tables  # equal everywhere, and 0 beyond
    assert r"\textbf" not in latex(same)
    apart = build([run([1000] * k + [0] * (60 - k), method=m) for m, k in (("a", 60), ("b", 10))]).tables
    assert r"\textbf{100.0}" in latex(apart)


def test_a_best_of_one_is_not_called_so() -> None:
    some = [run(VOTES, sigma=0.25), run(VOTES, sigma=0.5), run(VOTES, method="rrcm")]
    text = latex(build(some).tables)
    assert "best of 2" in text
    assert "best of 1" not in text
