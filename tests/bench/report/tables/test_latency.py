"""Latency records beside accuracies: which fits which run, and that no column mixes how seconds were come by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from places import PROJECT
from report_runs import run

from bench.report.build import build
from bench.report.grouping import groups
from bench.report.tables.latency import of_one_device, seconds_of, seconds_of_rows, timed_methods, timed_rows
from bench.report.tables.published_rows import published_table
from bench.runs.store import Run
from bench.timing.latency.store import read
from bench.timing.records import DeviceFacts, LatencyRecord

HERE = DeviceFacts(
    name="a device", kind="cuda", profile="", threads=1, peak_flops_s=1e12, peak_bytes_s=1e12, peak_origin="made up"
)


def record(of: Run, seconds: float = 2.0, **changes: Any) -> LatencyRecord:
    spec = of.spec
    made = LatencyRecord(
        spec_digest="0" * 64, spec=spec.as_json(), created="2026-01-01T00:00:00Z", device=HERE, environment={},
        clock="CUDA events", batch=100, batch_from="searched", curve=(), n0=spec.n0, n=spec.n, copies=spec.n0 + spec.n,
        seconds=(seconds,) * 3, wall=(seconds,) * 3, warmup=(1.0,), steady=True, setup_s=0.0,
    )  # fmt: skip
    return replace(made, **changes)


def test_a_record_of_the_runs_own_samples_is_a_measurement() -> None:
    one = run([900, 990])
    found = seconds_of(one, [record(one)])
    assert found is not None
    assert (found.value, found.kind) == (2.0, "measured")


def test_another_number_of_samples_is_an_extrapolation_in_proportion() -> None:
    one = run([900, 990])
    found = seconds_of(one, [record(one, n0=0, n=550, copies=550)])
    assert found is not None
    assert (found.value, found.kind) == (4.0, "extrapolated")


def test_a_part_of_a_certificate_is_an_extrapolation() -> None:
    one = run([900, 990])
    found = seconds_of(one, [record(one, 0.3, copies=110, extrapolated_from=((55, 0.15), (110, 0.3)))])
    assert found is not None
    assert found.kind == "extrapolated"
    assert found.value == pytest.approx(3.0)


@pytest.mark.parametrize(
    "changes", [{"method": "rrcm"}, {"params": {"arch": "other"}}, {"precision": "bf16"}, {"shape": (1, 16, 16)}]
)
def test_a_record_of_another_network_shape_or_precision_fits_no_run(changes: dict[str, Any]) -> None:
    one = run([900])
    assert seconds_of(one, [record(run([900], **changes))]) is None


def test_weights_and_noise_level_do_not_matter_and_the_newest_record_counts() -> None:
    one = run([900])
    other = run([900], weights={"network": "random"}, sigma=0.25)
    found = seconds_of(one, [record(other, 5.0, created="2026-02-01T00:00:00Z"), record(one, 2.0)])
    assert found is not None
    assert found.value == 5.0


def test_a_certificate_that_was_measured_whole_goes_before_a_newer_part() -> None:
    one = run([900, 990])
    part = record(one, 0.3, copies=110, extrapolated_from=((55, 0.15), (110, 0.3)), created="2026-02-01T00:00:00Z")
    for fewer in (part, record(one, 0.5, n=500, created="2026-02-01T00:00:00Z")):
        found = seconds_of(one, [record(one, 2.0), fewer])
        assert found is not None
        assert (found.value, found.kind) == (2.0, "measured")


def test_measured_and_extrapolated_seconds_stand_in_columns_of_their_own() -> None:
    whole, scaled, untimed = run([900, 990]), run([900, 990], method="rrcm"), run([900, 990], method="macer")
    records = [record(whole), record(scaled, n0=0, n=550, copies=550, doubts=("the clock was not steady",))]
    (table,) = build([whole, scaled, untimed], latencies=records).tables
    titles = [column.title for column in table.columns]
    assert titles.count("latency, measured") == titles.count("latency, extrapolated") == 1
    measured, scaled_up = titles.index("latency, measured"), titles.index("latency, extrapolated")
    shown = {row[0].value: (row[measured].value, row[scaled_up].value) for row in table.rows}
    assert shown == {"gaussian": (2.0, None), "rrcm": (None, 4.0), "macer": (None, None)}
    assert any("not steady" in note for note in table.notes)


def test_seconds_of_two_devices_do_not_stand_in_one_table() -> None:
    runs = [run([900, 990], method=method) for method in ("gaussian", "macer", "rrcm")]
    there = replace(HERE, name="A faster GPU")
    newer = {"created": "2026-02-01T00:00:00Z", "device": there}
    records = [*(record(one) for one in runs[:2]), record(runs[0], 0.1, **newer), record(runs[2], 0.2, **newer)]
    kept, said = of_one_device(records, runs)  # two rows each: the first by name
    assert [one.device.name for one in kept] == ["A faster GPU"] * 2
    assert "latencies on a device are left out" in said
    report = build([*runs, run([900, 990], method="smoothadv")], latencies=[*records, record(runs[2], 4.0)])
    table = report.tables[0]  # three rows against two
    at = [column.key for column in table.columns].index("latency-measured")
    assert [row[at].value for row in table.rows] == [2.0, 2.0, 4.0, None]
    assert sum("latencies on A faster GPU are left out" in note for note in table.notes) == 1
    assert of_one_device(records[:2], runs) == (records[:2], "")
    none = run([900, 990], method="consistency")
    assert of_one_device(records, [none]) == (records, "")


def test_without_a_record_that_fits_a_table_stays_as_it_was_and_says_so() -> None:
    one = run([900, 990])
    tables = build([one], latencies=[record(run([900], method="rrcm"))]).tables
    assert all("no latency record fits a row" in table.notes[-1] for table in tables)
    assert all("rrcm on digits" in table.notes[-1] for table in tables)
    assert tuple(replace(table, notes=table.notes[:-1]) for table in tables) == build([one]).tables


def test_a_timed_method_stands_beside_the_published_ones() -> None:
    one = run([900, 990, 100], dataset="cifar10", shape=(3, 32, 32), params={}, subset="skip:20")
    small = run([900, 990, 100])
    (timed,) = timed_methods(groups([one, small], "pa"), [record(one), record(small)], published_table(2))
    assert (timed.title, timed.seconds, timed.device) == ("gaussian", 2.0, "a device")
    assert timed.values[0] == pytest.approx(2 / 3)


def test_published_rows_have_the_seconds_of_a_gpu_beside_the_published_ones() -> None:
    records = [r for name in ("bf16", "diffusion") for r in read(PROJECT / f"results/latency/h200-{name}.jsonl", print)]
    published = published_table("table1")
    found = {title: (each.value, each.kind) for title, each in seconds_of_rows(published, records).items()}
    # Seconds as results/h200/README.md states them.
    assert found == {
        "Gaussian": (pytest.approx(2.7, abs=0.05), "measured"),
        "rRCM-B": (pytest.approx(7.8, abs=0.05), "measured"),
        "rRCM-B (N=10k)": (pytest.approx(0.78, abs=0.005), "extrapolated"),
        "DDS": (pytest.approx(38, abs=0.5), "extrapolated"),
        "DensePure K=1": (pytest.approx(183, abs=0.5), "extrapolated"),
        **{
            f"DiffSmooth m={m}": (pytest.approx(seconds, abs=0.5), "extrapolated")
            for m, seconds in {5: 42, 10: 48, 15: 54}.items()
        },
    }
    (table, *_) = build([], table=1, latencies=records).tables
    keys = [column.key for column in table.columns]
    rows = {row[1].value: dict(zip(keys, row, strict=True)) for row in table.rows}
    here = "rRCM-B, on NVIDIA H200, bf16"
    assert list(rows).index(here) == list(rows).index("rRCM-B") + 1
    assert rows["rRCM-B"]["latency"].value == 53
    assert rows["rRCM-B"]["latency-measured"].value is None
    assert rows[here]["latency-measured"].value == pytest.approx(7.8, abs=0.05)
    assert (rows[here]["latency"].value, rows[here]["r=0.0"].value, rows[here]["n"].value) == (None, None, 100_000)
    assert "NVIDIA H200" in rows[here]["latency-measured"].origin
    assert {cell.source for cell in rows[here].values()} == {"measured"}
    assert len(table.rows) == len(published.rows) + len(found)
    assert rows["DDS, on NVIDIA H200, bf16"]["latency-extrapolated"].value == pytest.approx(38, abs=0.5)
    assert any("with random weights as in the quoted row above" in note for note in table.notes)

    timed = timed_rows(published, records)
    assert {(one.title, one.quoted) for one in timed} == {
        *((title, True) for title in ("Gaussian, here", "rRCM-B, here")),
        *((f"{title}, here (extrapolated)", True) for title, (_, kind) in found.items() if kind == "extrapolated"),
    }
    older = [replace(r, spec={**r.spec, "precision": "fp32"}, created="2020-01-01T00:00:00Z") for r in records]
    assert seconds_of_rows(published, [*older, *records]) == seconds_of_rows(published, records)
    # Of another table's dataset, and of settings that no row has, nothing.
    assert seconds_of_rows(published_table("table2"), records) == {}
    other = [replace(r, spec={**r.spec, "params": {**r.spec["params"], "arch": "x", "size": "L"}}) for r in records]
    assert seconds_of_rows(published, other) == {}


def test_the_page_draws_the_seconds_of_the_record_and_none_of_the_runs_own_beside_them() -> None:
    timed, untimed = run([900, 990]), run([900, 990], method="smoothadv")
    made = build([timed, untimed], latencies=[record(timed, n0=0, n=550, copies=550)])
    assert made.explore is not None
    page = made.explore()
    (group,) = page.record["groups"]
    shown = {one["method"]: (one["seconds"], one["timed"]) for one in group["runs"]}
    assert shown == {
        "Gaussian": (4.0, "extrapolated here by rrcm-bench latency (a device)"),
        "SmoothAdv": (None, ""),
    }
    assert not any("no latency measurement" in doubt for doubt in page.doubts)
    alone = build([timed, untimed]).explore
    assert alone is not None
    assert all("median over the run's images" in one["timed"] for one in alone().record["groups"][0]["runs"])
