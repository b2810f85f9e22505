"""Profiles, projections and the paper's claims, against published figures and closed forms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.timing.latency import paper, store
from bench.timing.latency.calibration import interval, leave_one_out, pairs, rates
from bench.timing.latency.devices import ceiling, observe, profile, profiles, recognise
from bench.timing.latency.projection import at_precision, counted, from_counts, kind_of, limits, project
from bench.timing.records import (
    DeviceFacts,
    LatencyRecord,
    Telemetry,
    Work,
    certificate_seconds,
    offline_rate,
    stage_seconds,
    utilisation,
)
from bench.types.errors import DeviceError, StoreError, UsageError

GIGA = 1e9
RRCM_B = Work(flops={"classify": 35.3 * GIGA}, bytes={}, pass_bytes={}, convolution={"classify": 0.0})
RESULTS = Path(__file__).parents[4] / "results"
A100 = DeviceFacts(
    name="NVIDIA A100-SXM4-80GB", kind="cuda", profile="a100", threads=1, peak_flops_s=312e12, peak_bytes_s=2.039e12,
    peak_origin="datasheet",
)  # fmt: skip
CPU = replace(A100, name="a processor", kind="cpu", profile="", peak_flops_s=2e11, peak_bytes_s=2e10)


def record(**changes: object) -> LatencyRecord:
    made = LatencyRecord(
        spec_digest="0" * 64,
        spec={"method": "rrcm", "precision": "bf16", "weights": {"network": "random"}},
        created="2026-01-01T00:00:00Z", device=A100, environment={}, clock="CUDA events", batch=100,
        batch_from="paper", curve=((100, 3000.0), (200, None)), n0=100, n=9900, copies=10_000,
        seconds=(4.0, 4.1, 4.2, 4.1), wall=(4.0, 4.1, 4.2, 4.1), warmup=(1.0,), steady=True, setup_s=1.0,
        stages={"noise": 1e-5, "classify": 4e-4}, work=RRCM_B, watch=Telemetry(clocks_mhz=(1, 2), throttled=("hot",)),
    )  # fmt: skip
    return replace(made, **changes)


# ---- devices ---------------------------------------------------------------------------------------------------------


def test_every_profile_has_a_source_and_rates_that_are_possible() -> None:
    assert {p.key for p in profiles()} >= {"a800", "a100", "h100", "h200", "rtx4090", "rtx5090", "l40s", "v100"}
    for p in profiles():
        assert p.source
        assert p.peak["fp32"] <= max(p.peak.values()) < 1e16
        assert 1e11 < p.bandwidth < 1e13


def test_an_unknown_gpu_is_refused_with_the_closest_names() -> None:
    with pytest.raises(DeviceError, match=r"no GPU named 'a801'. Did you mean 'a800' or 'a100'\? Known: a100, a800"):
        profile("a801")


def test_a_device_is_known_by_its_drivers_name() -> None:
    names = {
        "NVIDIA A800-SXM4-80GB": "a800", "NVIDIA A100 80GB PCIe": "a100", "NVIDIA H200": "h200",
        "NVIDIA H100 80GB HBM3": "h100", "NVIDIA H100 NVL": "h100-nvl", "NVIDIA GeForce RTX 4090": "rtx4090",
        "Tesla V100-SXM2-32GB": "v100",
    }  # fmt: skip
    assert {name: recognise(name).key for name in names} == names  # type: ignore[union-attr]
    assert recognise("AMD EPYC, 2 cores") is None


def test_a_precision_that_a_device_lacks_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"V100 SXM2 has no bf16 arithmetic; expected --precision fp32 or fp16"):
        ceiling(profile("v100"), "bf16")


def test_a_device_without_a_profile_shows_its_rates() -> None:
    top = observe("cpu", "fp32", rounds=2)
    assert 1e8 < top.flops_s < 1e14
    assert 1e8 < top.bytes_s < 1e13
    assert top.origin.startswith("measured")


# ---- projection ------------------------------------------------------------------------------------------------------


def test_the_limits_are_flop_over_peak_and_bytes_over_bandwidth() -> None:
    # 10 000 forward passes of 35.3 GFLOP at 312 TFLOP/s; labels of 8 bytes are all that must move.
    found = limits(counted(record()), ceiling(profile("a800"), "bf16"))
    assert found.arithmetic == pytest.approx(1.131, rel=1e-3)
    assert found.traffic == pytest.approx(10_000 * 8 / 2.039e12)
    assert (found.seconds, found.name) == (found.arithmetic, "arithmetic")
    heavy = Work(flops={"classify": 1.0}, bytes={"classify": 1e12}, pass_bytes={"classify": 2.039e12})
    one = limits(counted(record(work=heavy)), ceiling(profile("a800"), "bf16"))
    assert one.traffic == pytest.approx(1.0, rel=1e-6)  # what eager operators move besides is not compulsory
    assert (one.seconds, one.name) == (one.traffic, "compulsory traffic")


def _calibrated(rate: object, device: DeviceFacts = CPU) -> LatencyRecord:
    """A record from a CPU of the network of a rate."""
    stage = "denoise" if rate.kind == "unet" else "classify"  # type: ignore[attr-defined]
    flops = rate.flops  # type: ignore[attr-defined]
    work = Work({stage: flops}, {}, {}, {stage: 0.0 if rate.kind == "vit" else flops})  # type: ignore[attr-defined]
    made = record(work=work, device=device, batch_from="searched")
    return replace(made, spec={**made.spec, "precision": rate.precision, "shape": [1, 8, 8]})  # type: ignore[attr-defined]


def test_no_projection_is_below_its_limit_on_any_device() -> None:
    for rate in rates():
        for target in profiles():
            for precision in target.peak:
                try:
                    made = from_counts(at_precision(counted(_calibrated(rate)), precision), target)
                except DeviceError:  # nothing is known in this arithmetic
                    assert precision in ("tf32", "fp32")
                    continue
                assert made.limit == max(made.limits.arithmetic, made.limits.traffic) > 0
                assert made.limit <= made.low <= made.seconds <= made.high
    fast = record(seconds=(1e-3,) * 4, stages={"classify": 1e-7})  # faster here than its own ceiling allows
    made = project(fast, profile("h200"))
    assert made.limit == made.seconds == made.low


def test_every_rate_lies_in_the_interval_of_its_projection() -> None:
    for rate in rates():
        made = project(_calibrated(rate), profile(rate.device))
        assert made.low <= 10_000 / rate.images_s * (1 + 1e-9)
        assert 10_000 / rate.images_s <= made.high * (1 + 1e-9)
    for left in leave_one_out():  # and as if it had not been measured
        low, high = interval("datacentre", left.precision, left.kind, left.flops)
        assert low <= 1 + left.error <= high


def test_what_was_measured_on_an_h200_is_projected_to_it() -> None:
    for rate in rates():
        if rate.device == "h200":
            made = project(_calibrated(rate), profile("h200"))
            assert made.seconds == pytest.approx(10_000 / rate.images_s, rel=0.01)


def test_the_calibration_is_what_the_committed_records_say() -> None:
    own = [rate for rate in rates() if not rate.published]
    latency = store.read(RESULTS / "latency/h200-bf16.jsonl")
    for kind, kept in (("vit", latency[0]), ("resnet", latency[1])):
        rate = next(r for r in own if r.kind == kind and r.source.endswith("h200-bf16.jsonl"))
        parts = stage_seconds(kept)
        assert rate.images_s == pytest.approx(1 / (parts["classify"] + parts["denoise"]), rel=1e-5)
        assert kept.work is not None
        assert rate.flops == kept.work.total_flops
    networks = json.loads((RESULTS / "bench/nvidia-h200-20261126T072111Z.json").read_text())["networks"]
    benched = [r for r in own if r.source.startswith("results/bench")]
    assert len(benched) == len(networks) + len(networks) - len(latency)
    for rate in benched:
        key = "plain_copies_per_s" if rate.precision == "fp32" else "forward_copies_per_s"
        assert any(n["flops"] == rate.flops and n[key] == pytest.approx(rate.images_s, rel=1e-5) for n in networks)
    variants = json.loads((RESULTS / "h200/variants.json").read_text())["rows"]
    for rate in (r for r in own if r.kind == "unet"):
        assert any(row.get("rate") == pytest.approx(rate.images_s, rel=1e-5) for row in variants)


def test_a_network_of_unknown_kind_stands_between_all_of_them() -> None:
    old = replace(RRCM_B, convolution={})
    assert kind_of(old, "classify") == ""
    made = project(record(device=CPU, work=old), profile("h200"))
    assert "as all kinds of networks reach" in made.how
    assert made.high > 10 * made.seconds  # tiny networks among them


def test_the_kind_of_a_network_is_read_off_its_operators() -> None:
    from bench.runs import registry
    from bench.timing.flops import count
    from bench.timing.latency.request import Item, LatencyRequest, prepare

    found = {}
    for name in ("gaussian", "rrcm", "dds"):
        request = LatencyRequest(dataset="digits", random_weights=True)
        spec, setting = prepare(request, Item(method=name, title=name, n=100), registry.method(name))
        work = count(registry.method(name).build(replace(setting, device="meta")), spec.shape, "meta", "fp32")
        found[name] = [kind_of(work, stage) for stage in ("denoise", "classify")]
    assert found["gaussian"] == ["", "resnet"]
    assert found["rrcm"] == ["", "vit"]
    assert found["dds"] == ["unet", "resnet"]


def test_published_pairs_give_their_published_errors() -> None:
    error = {(p.source, p.target): p.error for p in pairs()}
    assert error["h100-nvl", "a100"] == pytest.approx(-0.13, abs=0.01)
    assert error["a100", "h100-nvl"] == pytest.approx(0.15, abs=0.01)
    assert error["v100", "a100"] == pytest.approx(0.24, abs=0.01)
    assert error["rtx4090", "a100"] > 0.9
    assert all(abs(p.error) > 0.3 for p in pairs() if not p.same_family)  # why families never mix


def test_no_device_predicts_itself_in_the_back_test() -> None:
    known = {(r.device, r.precision): r.efficiency for r in rates() if r.published}
    left = {(row.device, row.precision): row.error for row in leave_one_out()}
    a100 = (known["h100-nvl", "bf16"] + known["v100", "fp16"]) / 2 / known["a100", "bf16"] - 1
    assert left["a100", "bf16"] == pytest.approx(a100)


def test_a_projection_to_the_same_chip_is_the_measurement() -> None:
    made = project(record(stages={"classify": 4.1e-4}), profile("a800"))
    assert made.seconds == pytest.approx(4.1)
    assert made.low < made.seconds < made.high
    assert made.limit == pytest.approx(1.131, rel=1e-3)


def test_a_chip_of_thrice_the_peak_takes_a_third_and_the_hosts_noise_is_left_behind() -> None:
    made = project(record(stages={"classify": 4e-4, "noise": 1e-5}, noise_host=1e-5), profile("h200"))
    assert made.seconds == pytest.approx(4.0 * 312 / 989.4)


def test_a_devices_own_noise_takes_at_least_what_its_memory_does() -> None:
    values = 3 * 224 * 224
    work = replace(RRCM_B, bytes={**RRCM_B.bytes, "noise": 8.0 * values})
    one, with_noise = (project(record(device=CPU, work=each), profile("a800")) for each in (RRCM_B, work))
    assert with_noise.seconds - one.seconds == pytest.approx(10_000 * 8 * values / profile("a800").bandwidth)


def test_a_cpu_says_nothing_about_a_gpu_so_the_published_share_stands_in() -> None:
    made = project(record(device=CPU), profile("a800"))
    a100 = next(r for r in rates() if (r.device, r.precision) == ("a100", "bf16"))
    assert made.seconds == pytest.approx(10_000 * 35.3e9 / 312e12 / a100.efficiency)
    assert "as published of ViT-B/16 at 224 on a100" in made.how
    assert "another family" in made.how


def test_a_pass_of_little_work_is_said_to_be_bound_by_its_launches() -> None:
    small = replace(RRCM_B, flops={stage: value / 1e5 for stage, value in RRCM_B.flops.items()})
    assert "waits for its launches" in project(record(device=CPU, work=small), profile("a800")).how
    assert "launches" not in project(record(device=CPU), profile("a800")).how


def test_what_cannot_be_counted_or_computed_there_is_not_projected() -> None:
    with pytest.raises(DeviceError, match="cannot be counted"):
        project(record(work=None), profile("a800"))
    with pytest.raises(DeviceError, match="no bf16 arithmetic"):
        project(record(), profile("v100"))


def test_a_replayed_record_is_projected_from_its_repeats_and_not_from_launches() -> None:
    both = Work(flops={"noise": 1.0 * GIGA, "classify": 35.3 * GIGA}, bytes={}, pass_bytes={})
    honest = record(work=both, stages={"noise": 1e-5, "classify": 4e-4}, seconds=(4.1,) * 4)
    slow = replace(honest, replayed=True, stages={"noise": 2e-5, "classify": 8e-4})  # launched: twice as slow
    assert stage_seconds(honest) == honest.stages
    assert sum(stage_seconds(slow).values()) * 10_000 == pytest.approx(4.1)
    target = profile("h100")
    assert project(slow, target).seconds == pytest.approx(project(honest, target).seconds)
    assert project(replace(slow, replayed=False), target).seconds > 1.9 * project(slow, target).seconds


# ---- records ---------------------------------------------------------------------------------------------------------


def test_a_records_figures_follow_from_its_raw_seconds() -> None:
    made = record()
    assert certificate_seconds(made) == pytest.approx(4.1)
    assert offline_rate(made) == pytest.approx(4 / 16.4)
    assert utilisation(made) == pytest.approx(35.3e9 * 10_000 / 4.1 / 312e12)
    part = replace(made, copies=1000, extrapolated_from=((500, 2.0), (1000, 4.1)))
    assert (made.kind, part.kind) == ("measured", "extrapolated")
    assert certificate_seconds(part) == pytest.approx(41.0)


def test_records_come_back_as_they_were_kept_and_a_torn_line_is_none(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "latency.jsonl"
    first = record(extrapolated_from=((500, 2.0), (1000, 4.1)), doubts=("short run",))
    store.append(path, [first])
    with path.open("a") as file:
        file.write('{"format": 1, "spec_di')  # a writer was killed here
    assert store.read(path) == (first,)
    store.append(path, [record()])
    assert store.read(path) == (first, record())


def test_a_file_of_something_else_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "latency.jsonl"
    path.write_text(json.dumps({"format": 99}) + "\n")
    with pytest.raises(StoreError, match="line 1 has format 99, expected 1"):
        store.read(path)
    path.write_text(json.dumps({"format": 1}) + "\n")
    with pytest.raises(StoreError, match="line 1 is no latency record"):
        store.read(path)
    with pytest.raises(StoreError, match="no latency records"):
        store.read(tmp_path / "absent.jsonl")


def _with(value: object, *keys: str) -> bytes:
    line = record().as_json()
    inner = line
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return json.dumps(line).encode()


BROKEN = {
    "a text for seconds": _with("4.0", "seconds"),
    "no seconds": _with([], "seconds"),
    "seconds below 0": _with([-1.0] * 4, "seconds"),
    "seconds without end": _with([1e300] * 4, "seconds"),
    "a number of more than 64 bits": _with(10**30, "n"),
    "no copies": _with(0, "copies"),
    "nan": _with(float("nan"), "setup_s"),
    "a peak of nothing": _with(0.0, "device", "peak_flops_s"),
    "weights that are no table": _with([1], "spec", "weights"),
    "a method that is no text": _with(None, "spec", "method"),
    "stages of texts": _with({"noise": "x"}, "stages"),
    "a thousand brackets": b'{"format": 1, "spec": ' + b"[" * 100_000 + b"}",
    "half a letter": b'{"format": 1, "created": "\\ud800"}',
    "not UTF-8": b'{"format": 1, "created": "\xff"}',
    "a list": b"[{}]}",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_line_is_told_and_the_others_are_used(tmp_path: Path, what: str) -> None:
    path = tmp_path / "latency.jsonl"
    path.write_bytes(json.dumps(record().as_json()).encode() + b"\n" + BROKEN[what] + b"\n")
    said: list[str] = []
    assert store.read(path, said.append) == (record(),)
    (line,) = said
    assert f"{str(path)!r} line 2" in line
    with pytest.raises(StoreError, match="line 2"):
        store.read(path)


# ---- the paper -------------------------------------------------------------------------------------------------------


def test_each_claim_follows_from_the_published_rows_that_it_names() -> None:
    derived = {claim.times: claim.derived for claim in paper.claims()}
    assert derived.keys() == {85, 46, 39, 171}
    for times, ratio in derived.items():
        assert abs(ratio - times) < 1


def test_a_claim_is_re_derived_only_where_every_row_it_needs_is_there() -> None:
    claim = next(c for c in paper.claims() if c.times == 85)
    ours = {"dds": 20.0, "densepure-k1": 60.0, "diffsmooth-m5": 40.0, "rrcm-b-10k": 2.0}
    assert paper.rederived(claim, ours) == pytest.approx(20.0)
    assert paper.rederived(claim, {k: v for k, v in ours.items() if k != "dds"}) is None


def test_the_plan_has_every_row_that_the_paper_itself_timed() -> None:
    from bench.published.tables import load

    for table in (1, 2):
        timed = {row.key for row in load(f"table{table}").rows if row.latency_measured.startswith("measured")}
        assert {row.key for row in paper.rows(table)} - {""} == timed
    batches = {row.key: row.batch for row in paper.rows(1)}
    assert (batches["gaussian"], batches["rrcm-b"], batches["dds"]) == (4000, 100, 100)
    with pytest.raises(UsageError, match="--table 3: expected 1 or 2"):
        paper.rows(3)
    with pytest.raises(UsageError, match="not 'digits'; give --batch auto"):
        paper.batch("digits", "rrcm")
