"""What others publish of themselves: apart from every run, with its sources; and what it leaves of the claims."""

from __future__ import annotations

import json
from statistics import fmean

import pytest
from report_runs import run
from typer.testing import CliRunner

from bench.cli.app import app
from bench.published.tables import load
from bench.report.build import build
from bench.report.claims.field import gaps, survival_table, survivals

FOUND = {each.key: each for each in survivals()}


@pytest.mark.parametrize(
    ("key", "value", "survives"),
    [
        # By hand from the printed percentages.
        ("ahead-imagenet", 51.2 - 67.0, False),
        ("gain-5.3-dds", fmean((62.6 - 71.1, 45.2 - 54.3, 33.8 - 38.1, 27.0 - 29.5)), False),
        ("gain-11.6-dds", 27.0 - 29.5, False),
        ("state-of-the-art-dmae-b", min(64.0 - 69.6, 51.2 - 57.9, 40.0 - 47.8, 32.6 - 35.4), False),
        ("state-of-the-art-dmae-l", min(64.0 - 73.6, 51.2 - 64.6, 40.0 - 53.7, 32.6 - 41.5), False),
        ("state-of-the-art-cat-rs", min(77.4 - 43.6, 64.0 - 38.2, 51.2 - 35.2, 40.0 - 30.8, 32.6 - 26.8), True),
        ("gain-6.4-cifar10", 39.2 - 35.5, False),
        ("ahead-cifar10", 73.4 - 79.3, False),
        ("state-of-the-art-cifar10", 73.4 - 80.8, False),
    ],
)
def test_a_claim_beside_the_field_is_what_hand_arithmetic_gives(key: str, value: float, survives: bool) -> None:
    found = FOUND[f"field-{key}"]
    assert 100 * found.value == pytest.approx(value, abs=1e-6)
    assert found.survives is survives


def test_dmae_is_ahead_of_the_deep_network_at_each_common_radius() -> None:
    found = gaps("table1", ("rrcm-b-deep",), "field_imagenet", ("dmae-b",))
    assert [gap.radius for gap in found] == [0.5, 1.0, 1.5, 2.0]
    assert all(gap.value < 0 for gap in found)


def test_each_claim_names_rows_that_exist_and_says_what_differs() -> None:
    for each in FOUND.values():
        for name in each.rows:
            table, _, row = name.partition("/")
            assert load(table).row(row).key == row
        assert "N, images, networks and training data differ" in each.how
    assert len(survival_table(tuple(FOUND.values())).rows) == len(FOUND)


def test_every_row_has_a_source_of_its_own_and_its_n_and_images() -> None:
    for name in ("field_imagenet", "field_cifar10"):
        for row in load(name).rows:
            assert row.source != "each row's own"
            assert row.n in (10_000, 100_000)
            assert row.images in (100, 500, 1_000, 10_000)
            assert not row.bold


def test_no_run_stands_beside_the_field_and_nothing_is_bold() -> None:
    imagenet = run([100_000] * 9, dataset="imagenet", shape=(3, 224, 224), n=100_000)
    made = build([imagenet], table="field", bold="best").tables
    assert [table.name for table in made] == ["field-imagenet", "field-cifar10", "published-lipschitz"]
    cells = [cell for table in made for row in table.rows for cell in row]
    assert {cell.source for cell in cells} == {"quoted"}
    assert not any(cell.bold for cell in cells)
    assert all(cell.origin for cell in cells)
    words = " ".join(note for table in made for note in table.notes)
    assert all(name in words for name in ("FT-CADIS", "MDDS", "BRONet"))  # left out, and said so


def test_the_command_prints_both_and_its_json_has_both() -> None:
    shown = CliRunner().invoke(app, ["claims"])
    assert shown.exit_code == 0
    assert "beside what others publish of themselves" in shown.stdout
    record = json.loads(CliRunner().invoke(app, ["claims", "--json"]).stdout)
    assert {each["key"]: each["survives"] for each in record["field"]} == {k: e.survives for k, e in FOUND.items()}
