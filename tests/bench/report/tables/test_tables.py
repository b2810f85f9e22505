from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from report_runs import cell, run

from bench.published.tables import load
from bench.report.build import FORMATS, build, write
from bench.report.formats.escaping import latex as escape
from bench.report.formats.latex import latex
from bench.report.formats.markdown import as_csv, as_json, markdown
from bench.report.formats.terminal import terminal
from bench.report.tables.accuracy import by_sigma_tables, envelope_tables
from bench.report.tables.table import Cell, Column, Table
from bench.runs.origin import made_from
from bench.types.errors import ReportError

CIFAR = {"dataset": "cifar10", "shape": (3, 32, 32), "subset": "skip:20"}


def shown(table: Table) -> str:
    from rich.console import Console

    console = Console(width=200, file=io.StringIO())
    console.print(terminal(table))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [
        {"subset_fingerprint": "cd" * 32},
        {"n": 2000},
        {"alpha": 0.01},
        {"shape": (1, 16, 16)},
        {"preprocessing": "resize16-crop16"},
        {"dataset": "folder"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_runs_that_do_not_compare_never_share_a_table(change: dict[str, object]) -> None:
    made = by_sigma_tables([run([1000]), run([1000], method="other", **change)])
    assert [len(table.rows) for table in made] == [1, 1]
    assert made[0].caption != made[1].caption
    assert len({table.name for table in made}) == 2


def test_runs_that_compare_share_one_table() -> None:
    made = by_sigma_tables([run([1000]), run([900], sigma=0.25), run([0], method="rrcm")])
    assert [len(table.rows) for table in made] == [3]


def test_one_index_with_two_pictures_is_refused() -> None:
    other = run([1000], method="rrcm")
    other = replace(other, rows=(replace(other.rows[0], fingerprint="another picture"),))
    with pytest.raises(ReportError, match="image 0 has other pixels or another label"):
        by_sigma_tables([run([1000]), other])


def test_the_caption_says_all_that_the_numbers_depend_on() -> None:
    (made,) = by_sigma_tables([run([1000] * 3)])
    for words in ("N=1 000", "n0=100", "alpha=0.001", "bound pa", "subset skip:5", "3 images", "fp32", "1x8x8"):
        assert words in made.caption


def test_the_caption_says_the_numbers_of_each_normaliser_and_runs_no_strangers_file(tmp_path: Path) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text("raise SystemExit('was run')")
    own, none = {"normaliser": "mean_std"}, {"normaliser": "none"}
    behind = {"normaliser": "by_classifier", "classifier": "by_track", "track": "size_matched"}
    (alone,) = by_sigma_tables([run([1000], params=own)])
    assert "; normaliser mean_std = 0.3059/0.3755; " in alone.caption
    (several,) = by_sigma_tables(
        [
            run([1000], params=own),
            run([900], method="dds", params=behind),
            run([900], method=f"{evil}:METHOD", params=none),
            run([900], method="macer", params={"normaliser": "a word of another version"}),
            run([900], method="rrcm"),
        ]
    )
    said = several.caption.partition("normalisers ")[2].partition(";")[0]
    assert f"none ({evil}:METHOD), by_classifier = 0.3059/0.3755 (dds), mean_std = 0.3059/0.3755 (gaussian), a " in said


def test_a_length_in_another_unit_is_doubted_below_the_table() -> None:
    (made,) = by_sigma_tables([run([1000], sigma=64.0)])
    assert sum(note.startswith("! sigma 64 ") and "0.251" in note for note in made.notes) == 1
    (made,) = by_sigma_tables([run([1000], sigma=2.0)])
    assert not any("l2 length" in note for note in made.notes)


def test_a_cell_holds_the_fraction_its_interval_and_its_run() -> None:
    some = run([1000, 900, 500, 0])
    (made,) = by_sigma_tables([some])
    entry = cell(made, 0, "r=0.50")
    assert (entry.value, entry.successes, entry.images, entry.n) == (0.5, 2, 4, 1000)
    assert entry.low is not None
    assert entry.high is not None
    assert entry.low < 0.5 < entry.high
    assert entry.origin == some.spec.digest()
    assert (cell(made, 0, "abstain").value, cell(made, 0, "sigma").value) == (0.25, "0.50")


def test_the_two_bounds_never_share_a_table() -> None:
    tables = build([run([1000, 800]), run([900, 0], sigma=1.0)], bound="both").tables
    assert sorted(t.name for t in tables) == [
        f"{k}-digits-{b}" for k in ("by-sigma", "envelope") for b in ("pa", "papb")
    ]
    for table in tables:
        assert ("bound papb" in table.caption) == table.name.endswith("papb")
        assert ("bound pa " in table.caption) == table.name.endswith("pa")


def test_a_variant_of_a_method_has_its_own_row_and_says_in_what_it_differs() -> None:
    small, large = run([1000], params={"arch": "b", "t": 1}), run([900], params={"arch": "deep", "t": 1})
    (made,) = envelope_tables([small, large])
    assert [cell(made, k, "method").value for k in (0, 1)] == ["gaussian (arch b)", "gaussian (arch deep)"]


def test_two_trainings_at_one_sigma_are_told_apart() -> None:
    twins = [run([1000], weights={"network": "aa"}), run([900], weights={"network": "bb"})]
    (made,) = by_sigma_tables(twins)
    assert {cell(made, k, "method").value for k in (0, 1)} == {f"gaussian [{t.spec.digest()[:10]}]" for t in twins}


def test_precision_is_named_where_it_differs() -> None:
    (made,) = by_sigma_tables([run([1000]), run([1000], method="rrcm", precision="bf16")])
    assert "precision bf16, fp32" in made.caption
    assert cell(made, 1, "method").value == "rrcm (precision bf16)"


def test_the_envelope_cell_names_its_sigma_and_is_called_an_oracle() -> None:
    (made,) = envelope_tables([run([1000, 900], sigma=0.25), run([1000, 500], sigma=1.0)])
    assert [cell(made, 0, f"r={r}").note for r in ("0.00", "0.50", "1.00")] == ["σ=0.25", "σ=0.25", "σ=1.00"]
    assert cell(made, 0, "method").note == "best of 2"
    assert "oracle" in " ".join(made.notes)


def test_no_run_wins_where_none_certifies() -> None:
    (made,) = envelope_tables([run([0], sigma=0.25)])
    assert (cell(made, 0, "r=0.00").value, cell(made, 0, "r=0.00").note) == (0.0, "")


def test_an_incomplete_run_says_so_in_every_format() -> None:
    some = [run([1000] * 3, images=7)]
    report = build(some)
    for text in (markdown(report.tables), as_csv(report.tables), as_json(report.tables), latex(report.tables)):
        assert text.count("3 of 7 images") >= 2
    for table in report.tables:
        assert "3 of 7 images" in shown(table)


def test_a_method_that_has_no_image_in_common_is_left_out_aloud() -> None:
    first, second = run([1000], sigma=0.25, images=2), run([1000, 900], sigma=0.5, images=2)
    second = replace(second, rows=second.rows[1:])
    (made,) = envelope_tables([first, second])
    assert not made.rows
    assert "! gaussian is left out: its runs have no certified image in common yet" in made.notes
    assert len(by_sigma_tables([first, second])[0].rows) == 2


def test_rows_that_were_certified_twice_with_other_votes_are_mentioned() -> None:
    (made,) = by_sigma_tables([replace(run([1000, 900]), conflicts=2)])
    assert any("2 images were certified twice with other votes" in note for note in made.notes)


def test_random_weights_are_marked() -> None:
    for table in build([run([1000], weights={"network": "random"})]).tables:
        assert "gaussian (random weights)" in shown(table)
        assert any("their accuracies mean nothing" in note for note in table.notes)


def test_a_run_found_twice_is_one_row() -> None:
    (made,) = by_sigma_tables([run([1000], images=2, folder="copy"), run([1000, 1000], folder="first")])
    assert [cell(made, 0, "images").value, len(made.rows)] == [2, 1]
    assert any("more than one folder" in note for note in made.notes)


@pytest.mark.parametrize("table", [None, 2])
def test_a_run_that_was_edited_says_so_in_every_table_and_format(table: int | None) -> None:
    changed = replace(run([1000, 900], dataset="cifar10", shape=(3, 32, 32)), edited="a seal does not fit")
    for bound in ("pa", "both") if table is None else ("pa",):
        made = build([changed], table=table, bound=bound)
        measured = [each for each in made.tables if any(line[0].source == "measured" for line in each.rows)]
        assert measured
        for each in measured:
            assert any("was edited after it was drawn: a seal does not fit" in note for note in each.notes)
            assert all(shown([each]).count("(edited)") for shown in (as_csv, as_json, markdown, latex))


def test_a_topped_up_run_says_so() -> None:
    base = run([1000])
    made_run = replace(run([1000]), made_from=made_from("top-up", [base]))
    (made,) = by_sigma_tables([made_run])
    assert any(f"topped up from run {base.spec.digest()[:10]}" in note for note in made.notes)


def test_rows_without_a_seal_are_noted_beside_sealed_ones() -> None:
    for unsealed, said in ((0, False), (1, True), (2, False)):  # all: a run from before seals, as it was published
        (made,) = by_sigma_tables([replace(run([1000, 1000]), unsealed=unsealed)])
        assert any("1 of 2 rows have no seal" in note for note in made.notes) == said


def test_published_cells_stay_quoted_beside_measured_ones() -> None:
    (made,) = envelope_tables([run([1000], **CIFAR)], table=2)
    published = load("table2")
    sources = [row[0].source for row in made.rows]
    assert sources == ["measured"] + ["quoted"] * len(published.rows)
    for line, row in zip(made.rows[1:], published.rows, strict=True):
        assert {entry.source for entry in line} == {"quoted"}
        assert [entry.value for entry in line[5:]] == list(row.values)
        assert all("Table 2" in entry.origin and entry.low is None for entry in line)
    by_cell = list(csv.DictReader(io.StringIO(as_csv([made]))))
    assert {(r["source"], bool(r["run"]), bool(r["published"])) for r in by_cell} == {
        ("measured", True, False),
        ("quoted", False, True),
    }
    assert "not measured here" in latex([made])
    assert "| quoted" in re.sub(r"[*]", "", markdown([made]))
    assert "quoted" in shown(made)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"shape": (3, 64, 64)}, "64x64 pixels"), ({"alpha": 0.01}, "alpha=0.01")],
    ids=["pixels", "alpha"],
)
def test_published_rows_stand_apart_from_what_does_not_compare(change: dict[str, object], words: str) -> None:
    own, published = envelope_tables([run([1000], **{**CIFAR, **change})], table=2)
    assert {row[0].source for row in own.rows} == {"measured"}
    assert {row[0].source for row in published.rows} == {"quoted"}
    assert any(words in note for note in own.notes)


def test_published_rows_stand_apart_from_the_other_bound() -> None:
    own, _ = envelope_tables([run([1000], **CIFAR)], table=2, bound="papb")
    assert {row[0].source for row in own.rows} == {"measured"}


def test_runs_of_another_dataset_are_left_out_of_a_published_table_aloud() -> None:
    report = build([run([1000])], table=1)
    assert [table.name for table in report.tables] == ["published-imagenet"]
    assert any("runs on digits left out: 1" in note for note in report.tables[0].notes)


def test_a_mixed_row_cannot_be_made() -> None:
    entries = (
        Cell(value="a", unit="text", source="measured"),
        Cell(value=0.5, unit="fraction", source="quoted"),
    )
    with pytest.raises(ValueError, match="must not mix"):
        Table(name="t", title="", caption="", columns=(Column("a", "a"), Column("b", "b")), rows=(entries,))


def test_csv_gives_back_the_exact_fractions() -> None:
    some = run([1000] * 2 + [0] * 5)
    tables = by_sigma_tables([some])
    lines = [r for r in csv.DictReader(io.StringIO(as_csv(tables))) if r["radius"]]
    assert len(lines) == 7
    for line, entry in zip(lines, tables[0].rows[0][6:], strict=True):
        assert (float(line["value"]), float(line["low"]), float(line["high"])) == (entry.value, entry.low, entry.high)
        assert Fraction(int(line["successes"]), int(line["images"])) in (Fraction(2, 7), Fraction(0))
        assert float(line["value"]) == int(line["successes"]) / int(line["images"])
        assert (line["n"], line["run"]) == ("1000", some.spec.digest())


def test_json_holds_what_csv_holds() -> None:
    tables = build([run([1000, 900]), run([1000, 0], sigma=1.0)]).tables
    record = json.loads(as_json(tables))
    values = [str(c["value"]) for t in record["tables"] for row in t["rows"] for c in row]
    assert values == [line["value"] for line in csv.DictReader(io.StringIO(as_csv(tables)))]


NASTY = "a_b & 100 % of $x^2$ {#1} ~\\ <|> [bold]c[/bold] *d* σ 字"


def test_latex_escapes_what_it_would_act_on() -> None:
    assert escape("a_b 5% c&d") == r"a\_b 5\% c\&d"
    assert escape("\\") == r"\textbackslash{}"
    assert escape("字").isascii()


def test_latex_balances_its_braces_and_environments() -> None:
    text = latex(build([run([1000], method=NASTY), run([900], sigma=1.0)], table=None).tables)
    text += latex(build([run([1000], method=NASTY, **CIFAR)], table=2).tables)
    bare = re.sub(r"\\[\\{}%]", "", re.sub(r"(?m)^%.*$", "", text))
    assert bare.count("{") == bare.count("}")
    opened: list[str] = []
    for word, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if word == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    for each in text.split(r"\begin{tabular}")[1:]:
        columns = len(each[1 : each.index("}")])
        rows = [line for line in each.splitlines() if line.startswith("{}")]
        assert rows
        assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {columns - 1}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    tables = latex(build([run([1000], method=NASTY, **CIFAR)], table=2).tables)
    page = (
        f"\\documentclass{{article}}\\usepackage{{booktabs,graphicx}}\\begin{{document}}\n{tables}\\end{{document}}\n"
    )
    (tmp_path / "page.tex").write_text(page)
    made = subprocess.run(["pdflatex", "-halt-on-error", "page.tex"], cwd=tmp_path, check=True, capture_output=True)
    assert b"Overfull" not in made.stdout  # nothing sticks out of the page


def test_a_nasty_name_survives_every_format(tmp_path: Path) -> None:
    report = build([run([1000], method=NASTY)])
    assert NASTY in re.sub(r"\s+", " ", shown(report.tables[0]))
    assert NASTY in as_csv(report.tables)
    write(report, tmp_path, ("html", "md"))
    from html import unescape

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<|>" not in page
    assert NASTY in unescape(page)


def test_nothing_to_report_says_what_to_run() -> None:
    with pytest.raises(ReportError, match=r"no runs: expected run folders .* run `rrcm-bench run` first"):
        build([])
    with pytest.raises(ReportError, match="no certified image yet"):
        build([run([], images=3)])


def test_a_published_table_needs_no_run() -> None:
    report = build([], table=1)
    assert {entry.source for table in report.tables for row in table.rows for entry in row} == {"quoted"}
    assert len(report.tables[0].rows) == len(load("table1").rows)


@pytest.mark.parametrize(
    ("request_", "words"), [({"table": 10}, "--table 1"), ({"bound": "pab"}, "bound pa, papb or both")]
)
def test_a_wrong_request_is_one_line(request_: dict[str, object], words: str) -> None:
    with pytest.raises(ReportError, match=words) as caught:
        build([run([1000])], **request_)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_report_is_written_whole_and_twice_the_same(tmp_path: Path) -> None:
    some = [run([1000, 900, 800, 0]), run([1000, 1000, 500, 0], sigma=1.0), run([700], method="rrcm", images=4)]
    first = write(build(some), tmp_path / "a", FORMATS)
    second = write(build(some), tmp_path / "b", FORMATS)
    assert [p.name for p in first] == [p.name for p in second]
    assert {p.suffix[1:] for p in first} == set(FORMATS)
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(p.name for p in first)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match=r"cannot write .* give --out another folder"):
        write(build([run([1000])]), tmp_path / "file" / "x", ("md",))
    with pytest.raises(ReportError, match="got 'docx'"):
        write(build([run([1000])]), tmp_path, ("docx",))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_best_of_one_is_not_repeated() -> None:
    one = build([run([90], sigma=0.25)])
    two = build([run([90], sigma=0.25), run([90], sigma=0.5)])
    assert [t.name.split("-")[0] for t in one.tables] == ["by"]
    assert [t.name.split("-")[0] for t in two.tables] == ["envelope", "by"]
