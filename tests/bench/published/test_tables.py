"""Published numbers: every cell is the paper's, and the tables agree with one another as the paper says they do."""

from __future__ import annotations

import json

import pytest
from places import SHARED_FOLDER

from bench.published.tables import load, names, parse
from bench.types.errors import ReportError

PAPER = SHARED_FOLDER / "paper" / "paper_tables.json"

GOOD = """
title = "T"
dataset = "cifar10"
source = "S"
images = 500
radii = [0.0, 0.5]
[[rows]]
key = "a"
title = "A"
citation = "C"
group = "rrcm"
n = 1000
values = [76.8, "-"]
"""


def paper():
    if not PAPER.is_file():
        pytest.skip("../shared is absent: the tables cannot be compared with the paper's")
    return json.loads(PAPER.read_text(encoding="utf-8"))


def percent(values):
    return [None if value is None else round(100 * value, 9) for value in values]


@pytest.mark.parametrize(
    ("table", "key", "values", "seconds", "n"),
    [
        ("table1", "gaussian", (0.67, 0.49, 0.37, 0.29, 0.19, 0.15), 80.0, 100_000),
        ("table1", "denoised", (0.6, 0.33, 0.14, 0.06, None, None), None, 100_000),
        ("table1", "densepure-k5", (0.778, 0.646, 0.384, 0.23, 0.184, 0.14), 3140.0, 10_000),
        ("table1", "rrcm-b-10k", (0.766, 0.626, 0.452, 0.338, 0.27, 0.22), 6.0, 10_000),
        ("table1", "rrcm-b", (0.768, 0.63, 0.456, 0.348, 0.28, 0.226), 53.0, 100_000),
        ("table1", "rrcm-b-deep", (0.774, 0.64, 0.512, 0.4, 0.326, 0.25), 101.0, 100_000),
        ("table2", "boosting", (0.834, 0.706, 0.604, 0.524, 0.388), 40.0, 100_000),
        ("table2", "diffsmooth", (0.782, 0.672, 0.592, 0.47, 0.374), 214.0, 100_000),
        ("table2", "rrcm-b", (0.836, 0.734, 0.614, 0.48, 0.392), 16.0, 100_000),
    ],
)
def test_a_published_row_is_what_the_paper_prints(table, key, values, seconds, n):
    row = load(table).row(key)
    assert (row.values, row.latency_s, row.n) == (values, seconds, n)


def test_a_table_says_where_it_comes_from_and_what_it_was_certified_with():
    for name, source in (("table1", "Lei et al., ICLR 2025, Table 1"), ("table2", "Lei et al., ICLR 2025, Table 2")):
        table = load(name)
        assert table.source == source
        assert (table.images, table.n0, table.alpha, table.hardware) == (500, 100, 0.001, "NVIDIA A800 80GB")
        for row in table.rows:
            assert row.source == source
            assert (
                bool(row.hardware)
                == bool(row.latency_text)
                == bool(row.latency_measured)
                == (row.latency_s is not None)
            )


def test_a_latency_that_was_not_measured_says_so():
    for name, ensemble in (("table1", 3), ("table2", 10)):
        table = load(name)
        assert table.row("boosting").latency_s == ensemble * table.row("gaussian").latency_s
        told = {row.key for row in table.rows if row.latency_measured.startswith("not measured")}
        assert told == {"consistency", "smoothadv", "boosting", "macer", "smoothmix"}


def test_sizes_are_given_where_the_authors_give_them_and_nowhere_else():
    sizes = {row.key: row.params_millions for row in load("table1").rows}
    assert (sizes["gaussian"], sizes["rrcm-b"], sizes["rrcm-b-10k"], sizes["rrcm-b-deep"]) == (26, 90, 90, 177)
    assert {key for key, size in sizes.items() if size is None} == {"denoised"}
    # The review names the diffusion model of DDS, 552M, beside a ViT of rRCM-B's size; boosting is 3 networks, or 10.
    diffusion = {key for key, size in sizes.items() if size == 552 + sizes["rrcm-b"]}
    assert diffusion == {row.key for row in load("table1").rows if row.group == "diffusion"}
    for name, ensemble in (("table1", 3), ("table2", 10)):
        table = load(name)
        assert table.row("boosting").params_millions == ensemble * table.row("gaussian").params_millions


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_every_cell_of_the_main_tables_is_the_papers(name):
    ours, theirs = load(name), paper()[name]
    assert list(ours.radii) == theirs["radii"]
    assert len(ours.rows) == len(theirs["rows"])
    for row, printed in zip(ours.rows, theirs["rows"], strict=True):
        assert row.title == printed["method"]
        assert percent(row.values) == printed["values"], row.title
        assert row.latency_s == printed["latency_s"], row.title
        assert row.latency_text == printed["latency_text"].replace("-", ""), row.title
        assert (row.n, row.group) == (printed["n_samples"], printed["group"]), row.title


@pytest.mark.parametrize("name", ["table7", "table8", "table9"])
def test_every_cell_of_the_grids_is_the_papers(name):
    ours, theirs = load(name), paper()[name]
    assert list(ours.radii) == theirs["radii"]
    assert [(r.sigma_train, r.sigma, list(r.values), r.n) for r in ours.rows] == [
        (r["sigma_train"], r["sigma_eval"], r["values_fraction"], 100_000) for r in theirs["rows"]
    ]


def test_every_cell_of_the_review_is_the_reviews():
    theirs = paper()
    vit = theirs["rebuttal_table2"]
    for name, radii, rows in (
        ("rebuttal1", theirs["rebuttal_table1"]["radii"], [r["values"] for r in theirs["rebuttal_table1"]["rows"]]),
        ("rebuttal2_025", vit["sigma_0_25"]["radii"], [r["values"] for r in vit["sigma_0_25"]["rows"]]),
        ("rebuttal2_100", vit["sigma_1_0"]["radii"], [r["values"] for r in vit["sigma_1_0"]["rows"]]),
        ("raw", theirs["raw_accuracy"]["radii"], [theirs["raw_accuracy"]["certified"], theirs["raw_accuracy"]["raw"]]),
    ):
        assert list(load(name).radii) == radii
        assert [percent(row.values) for row in load(name).rows] == rows


@pytest.mark.parametrize(
    ("table", "key", "grid"),
    [("table1", "rrcm-b", "table7"), ("table1", "rrcm-b-deep", "table8"), ("table2", "rrcm-b", "table9")],
)
def test_the_main_rows_of_rrcm_are_the_best_of_their_nine_cells(table, key, grid):
    cells = load(grid).rows
    assert len(cells) == 9
    assert load(grid).radii == load(table).radii
    assert load(table).row(key).values == tuple(max(column) for column in zip(*(r.values for r in cells), strict=True))


def test_the_raw_accuracies_are_those_of_the_cells_that_give_the_certified_ones():
    raw, grid = load("raw"), load("table8")
    for i, radius in enumerate(raw.radii):
        best = raw.row("rrcm-b-deep").values[i]
        column = grid.radii.index(radius)
        assert raw.row("rrcm-b-deep-raw").values[i] in {r.values[0] for r in grid.rows if r.values[column] == best}


def test_the_speed_up_that_the_abstract_claims_follows_from_table_1():
    row = load("table1").row
    ratios = [row(key).latency_s / row("rrcm-b-10k").latency_s for key in ("dds", "densepure-k1", "diffsmooth-m5")]
    assert int(sum(ratios) / 3) == 85


def test_all_tables_read_and_an_unknown_one_is_named():
    assert {"table1", "table2", "table7", "table8", "table9"} <= set(names())
    for name in names():
        assert load(name).name == name
    with pytest.raises(ReportError, match=r"'table99'.*table1"):
        load("table99")
    with pytest.raises(ReportError, match=r"'dd'.*densepure-k1"):
        load("table1").row("dd")


def test_a_percentage_becomes_the_fraction_that_is_written():
    assert parse("t", GOOD).rows[0].values == (0.768, None)
    for tenths in range(1001):
        table = parse("t", GOOD.replace("76.8", f"{tenths / 10}"))
        assert table.rows[0].values[0] == float(f"{tenths / 1000:.3f}")


@pytest.mark.parametrize(
    ("good", "bad", "word"),
    [
        ("76.8", "176.8", "percentages"),
        ("76.8", "-1.0", "percentages"),
        ("76.8", "nan", "numbers"),
        ("76.8", "true", "numbers"),
        ('[76.8, "-"]', "[76.8]", "2 percentages"),
        ('"-"', "76.9", "do not rise"),
        ("[0.0, 0.5]", "[0.5, 0.0]", "radii that rise"),
        ("[0.0, 0.5]", "[]", "radii that rise"),
        ("[0.0, 0.5]", '[0.0, "-"]', "radii that rise"),
        ("n = 1000", "n = 1000.5", "whole number"),
        ("n = 1000", "n = 0", "positive number"),
        ("n = 1000", "latency_s = 'x'", "latency_s"),
        ("n = 1000", "typo = 1", "typo"),
        ('group = "rrcm"', 'group = "other"', "classical, diffusion, rrcm"),
        ('key = "a"', "", "text for key"),
        ('source = "S"', "source = 3", "text for source"),
        ("images = 500", "images = inf", "images"),
        ("[[rows]]", "[rows]", "[[rows]]"),
        ("[[rows]]", "[[rows", "not TOML"),
    ],
)
def test_a_slip_in_a_table_is_refused_with_its_field(good, bad, word):
    with pytest.raises(ReportError) as caught:
        parse("t", GOOD.replace(good, bad, 1))
    assert word in str(caught.value)
    assert "'t" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_key_stands_for_one_row():
    with pytest.raises(ReportError, match="each key once"):
        parse("t", GOOD + GOOD[GOOD.index("[[rows]]") :])
