"""Every kind of table at 60, 80, 100 and 200 columns: as text that is kept, and whole.

After a change that is meant, write them by RRCM_BENCH_GOLDEN=write in the environment, and read them.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import GOLDEN_FILES
from report_runs import run
from rich.cells import cell_len
from rich.console import Console

from bench.cli.catalogue import methods_table, weights_table
from bench.cli.runs import runs_table
from bench.published.tables import load
from bench.report.claims.check import claims_table, findings
from bench.report.formats.terminal import terminal
from bench.report.paper import paper_tables
from bench.report.tables.accuracy import by_sigma_tables, envelope_tables
from bench.report.tables.forecast import forecast_tables
from bench.report.tables.latency_claims import Timed, claimed, measured
from bench.report.tables.table import Table, stated
from bench.timing.forecast.forecast import costs_of_the_paper, forecast, given_cost
from bench.timing.forecast.sample_demand import known
from bench.timing.records import DeviceFacts, LatencyRecord, Work
from bench.weights.catalogue import Entry

WIDTHS = (60, 80, 100, 200)
GOLDEN = GOLDEN_FILES / "terminal"
VOTES = [1000, 1000, 990, 960, 930, 800, 700, 480, 0]
CIFAR = {"dataset": "cifar10", "shape": (3, 32, 32), "subset": "skip:20"}


def several(**changes: object) -> list:
    return [
        run([max(0, v - loss) for v in VOTES], method=method, sigma=sigma, **changes)
        for method, loss in (("gaussian", 40), ("consistency", 20), ("boosting", 0))
        for sigma in (0.25, 0.5)
    ]


def timed() -> list[Timed]:
    device = DeviceFacts(
        name="a device", kind="cuda", profile="", threads=1, peak_flops_s=1e14, peak_bytes_s=1e12, peak_origin="made up"
    )
    made = LatencyRecord(
        spec_digest="0" * 64, spec=run([1000]).spec.as_json(), created="2026-01-01T00:00:00Z", device=device,
        environment={}, clock="CUDA events", batch=100, batch_from="searched", curve=(), n0=100, n=9900, copies=10_000,
        seconds=(4.0, 4.1, 4.2, 4.1), wall=(4.0, 4.1, 4.2, 4.1), warmup=(1.0,), steady=True, setup_s=0.0,
        stages={"noise": 1e-5, "classify": 4e-4}, calls={"classifier": 1, "denoiser": 5}, peak_bytes=3 * 2**30,
        work=Work(flops={"classify": 3.5e10}, bytes={}, pass_bytes={}, convolution={"classify": 0.0}),
    )  # fmt: skip
    part = replace(made, copies=2000, extrapolated_from=((1000, 0.4), (2000, 0.8)))
    return [
        Timed(title="gaussian", key="", record=made),
        Timed(title="consistency", key="", record=part),
        Timed(title="dds", key="", record=None, refusal="needs weights"),
    ]


def hours() -> list:
    mine = given_cost("mine=0.002", 64)
    rows = [cost for cost in costs_of_the_paper() if cost.key in ("rrcm-b", "densepure-k5")]
    return forecast(
        [*rows, mine], known(), sigmas=(0.5, 1.0), n=10_000, images=200, devices=(1, 8), split=("rrcm-b", "mine")
    )


def records() -> list:
    names = (("consistency", "Consistency regularisation"), ("denoised", "Denoised smoothing"))
    return [
        {"name": name, "title": title, "cite": "Salman, Sun, Yang, Kapoor & Kolter 2020, Denoised Smoothing: A "
         "Provable Defense",          "trains": ["classifier", "denoiser"], "roles": [{"name": "network"}]}
        for name, title in names
    ]  # fmt: skip


def entries() -> list:
    made = Entry(
        name="consistency/cifar10/0.25", method="consistency", role="network", dataset="cifar10", sigma=0.25,
        sha256="5af8920bc7920" + "0" * 51, licence="Apache-2.0", source="Jeong & Shin 2020, their published files",
    )  # fmt: skip
    return [(made, "missing", None), (replace(made, name="mine", sigma=None, sha256=None, licence=""), "ok", None)]


KINDS: dict[str, Callable[[], tuple[Table, ...]]] = {
    "by-sigma": lambda: by_sigma_tables(several()),
    "best-of": lambda: envelope_tables(several(**CIFAR), table=2),
    "latency": lambda: (measured(timed()), claimed()),
    "ablation": lambda: (replace((t := paper_tables("table9", [])[0]), rows=t.rows[:4], notes=t.notes[:1]),),
    "claims": lambda: (replace((t := claims_table(findings())), rows=t.rows[:3]),),
    "forecast": lambda: forecast_tables(hours()),
    "methods": lambda: (methods_table(records(), [e for e, *_ in entries()]),),
    "weights": lambda: (weights_table(entries(), "weights"),),
    "runs": lambda: (runs_table(several(), "results/runs"),),
}


@cache
def made(kind: str) -> tuple[Table, ...]:
    return KINDS[kind]()


def shown(table: Table, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(terminal(table))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_table_looks_as_it_was_looked_at(kind: str) -> None:
    text = "\n".join(f"##### {width} columns\n" + "\n".join(shown(t, width) for t in made(kind)) for width in WIDTHS)
    if os.environ.get("RRCM_BENCH_GOLDEN") == "write":
        (GOLDEN / f"{kind}.txt").write_text(text, encoding="utf-8")
    assert text == (GOLDEN / f"{kind}.txt").read_text(encoding="utf-8")


def check_whole(table: Table, width: int) -> None:
    """Nothing wider than the terminal, every column named, every number and word of every row there and unbroken."""
    text = shown(table, width)
    assert max(map(cell_len, text.splitlines())) <= width
    there = set(re.split(r"[\s(),:]+", text))
    named = next((c for k, c in enumerate(table.columns) if table.text_column(k) and c.key != "source"), None)
    for column in table.columns:
        if column is named and f"\n{column.title} " not in text:  # rows by name: it is what they are named by
            continue
        assert set(re.split(r"[\s(),:]+", column.title)) <= there
    for row in table.rows:
        for cell in row:
            words = re.split(r"[\s(),:]+", f"{cell.main()} {cell.note}")
            assert {word for word in words if len(word) <= 40} <= there, cell
    numbers = [cell.main() for row in table.rows for cell in row if cell.unit != "text" and cell.value is not None]
    assert all(number in text for number in numbers)


@pytest.mark.parametrize("width", [*WIDTHS, 48, 79, 120])
@pytest.mark.parametrize("kind", KINDS)
def test_no_column_is_lost_and_no_word_or_number_cut(kind: str, width: int) -> None:
    for table in made(kind):
        check_whole(table, width)


WORD = st.text("abcd-/字", min_size=1, max_size=12)


@given(
    rows=st.lists(st.lists(st.lists(WORD, max_size=6), min_size=4, max_size=4), max_size=4),
    words=st.integers(1, 4),
    width=st.integers(90, 200),
)
def test_any_list_is_shown_whole(rows: list[list[list[str]]], words: int, width: int) -> None:
    texts = [[" ".join(cell) for cell in row] for row in rows]
    check_whole(stated("a list", ("one", "two words", "three", "four"), texts, words=words), width)


def test_published_rows_stay_below_a_rule_of_their_own() -> None:
    text = shown(made("best-of")[0], 200)
    rules = [k for k, line in enumerate(text.splitlines()) if line.strip("─ ") == "" and "─" in line]
    assert len(rules) == 2
    assert all("quoted" in line for line in text.splitlines()[rules[1] + 1 : rules[1] + 1 + len(load("table2").rows)])
