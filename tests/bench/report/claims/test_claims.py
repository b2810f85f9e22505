from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.published.tables import load
from bench.report.claims.check import bold_statistics, findings
from bench.report.claims.derivations import bold_cells, largest_gain, mean_gain

FOUND = {each.key: each for each in findings()}


@pytest.mark.parametrize(
    ("key", "value", "holds"),
    [
        # By hand from the printed tables: seconds 232, 1028, 281 by 6; means of printed percentages.
        ("cost-85x", (232 + 1028 + 281) / 18, True),
        ("cost-85x-all", (232 + 1028 + 3140 + 281 + 310 + 335) / 36, False),
        ("cost-39x", 232 / 6, True),
        ("cost-171x", 1028 / 6, True),
        ("cost-46x", 335 / 6, False),
        ("gain-5.3", 0.0528889, True),
        ("gain-5.3-dds", 0.037, False),
        ("gain-11.6", 0.116, True),
        ("gain-11.6-dds", 0.058, False),
        ("gain-5.8", 0.058, True),
        ("gain-8.48", 0.0848333, True),
        ("gain-6.4-cifar10", 0.064, True),
        ("all-radii-imagenet", -0.006, False),
        ("all-radii-cifar10", 0.004, True),
        ("best-of-grid-table7", 0.0, True),
        ("best-of-grid-table8", 0.0, True),
        ("best-of-grid-table9", 0.0, True),
        ("raw-accuracies", 0.0, True),
    ],
)
def test_a_claim_is_what_hand_arithmetic_gives(key: str, value: float, holds: bool) -> None:
    assert FOUND[key].value == pytest.approx(value, abs=1e-6)
    assert FOUND[key].holds is holds


def test_each_claim_names_rows_that_exist() -> None:
    for each in FOUND.values():
        assert each.rows
        for name in each.rows:
            table, _, row = name.partition("/")
            assert load(table).row(row).key == row


def test_the_other_numbers_that_a_derivation_mentions_are_derived_too() -> None:
    for row, mean, most in (("rrcm-b", "4.30", "6.8"), ("rrcm-b-deep", "7.53", "12.0")):
        assert f"{100 * mean_gain('table1', row, ('dds',)).value:.2f}" == mean
        assert mean in FOUND["gain-5.3-dds"].how
        assert f"{100 * largest_gain('table1', row, ('dds',)).value:.1f}" == most
        assert most in FOUND["gain-11.6-dds"].how


def test_three_bold_cells_are_not_the_largest() -> None:
    wrong = [
        (c.table, c.row, c.radius, c.rival)
        for table in ("table1", "table2", "table7", "table8", "table9")
        for c in bold_cells(table)
        if not c.largest
    ]
    assert wrong == [
        ("table1", "rrcm-b-deep", 0.0, "densepure-k5"),
        ("table1", "rrcm-b-deep", 0.5, "densepure-k5"),
        ("table8", "rrcm-b-deep-1.00-1.00", 1.5, "rrcm-b-deep-1.00-0.50"),
    ]


def test_no_bold_cell_is_beyond_chance_unpaired() -> None:
    tested = bold_statistics()
    assert len(tested) == 11  # SmoothAdv and rRCM-B-Deep tie at r=2.5: one comparison
    assert min(p for _, p in tested) == pytest.approx(0.404, abs=0.002)
    assert not FOUND["bold-significance"].holds


def test_the_command_gives_one_document() -> None:
    done = CliRunner().invoke(app, ["claims", "--json"])
    assert done.exit_code == 0
    record = json.loads(done.stdout)
    assert {each["key"] for each in record["claims"]} == set(FOUND)
    assert len(record["bold"]) == 11
    plain = CliRunner().invoke(app, ["claims"]).stdout
    assert "does not" in plain  # "hold" may stand in the next line
