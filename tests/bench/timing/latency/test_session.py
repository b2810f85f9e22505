"""Latency end to end on the CPU: the split moves no vote, the count fits the network, the command says what it did."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from places import PROJECT
from torch import nn
from typer.testing import CliRunner

from bench.cli.app import app
from bench.report.tables.latency_claims import Timed, measured
from bench.runs.clock import CudaClock, WallClock
from bench.runs.execution.cuda_graphs import RECORD_AFTER, Recording, Replayed, Untouched, replayed
from bench.runs.registry import method
from bench.timing.flops import count
from bench.timing.latency import batch_search, store
from bench.timing.latency.batch_search import ProbePlan, measure
from bench.timing.latency.request import Item, LatencyRequest, check, items, prepare
from bench.timing.latency.session import _refuse_company, run
from bench.timing.records import LatencyRecord, Telemetry
from bench.timing.stages import denoisers
from bench.timing.telemetry import NvmlSensor, sensor_for
from bench.timing.workload import Certification
from bench.types import BaseClassifier, RunSpec
from bench.types.errors import BenchError, DataError, DeviceError, SpecError, UsageError, WeightsError
from methods.training.rng import seeded_globals

SMALL = LatencyRequest(dataset="digits", n=120, n0=10, budget_s=3.0, repeats=2, batch="32", random_weights=True)


@pytest.fixture(autouse=True)
def _soon_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_search, "WARM_SHARE", 0.05)  # of the budget: no test here is of a steady clock


def built(name: str, device: str = "cpu") -> tuple[RunSpec, BaseClassifier]:
    spec, setting = prepare(SMALL, Item(method=name, title=name, n=120), method(name))
    return spec, method(name).build(replace(setting, device=device))


# ---- stages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gaussian", "dds", "densepure"])
def test_splitting_the_time_by_stage_moves_no_vote(name: str) -> None:
    spec, classifier = built(name)
    work = Certification(classifier, spec, torch.rand(spec.shape, generator=torch.Generator().manual_seed(0)))
    seconds, votes = work.split_votes(WallClock(), batch=8, repeats=3)
    assert votes == work.draw(classifier, 24, 8)
    assert seconds["noise"] > 0
    assert seconds["classify"] > 0
    assert (seconds["denoise"] > 0) == (name != "gaussian")


@seeded_globals(1)
def test_the_denoiser_is_found_by_what_it_does_and_leaves_no_hook_behind() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front = nn.Sequential(nn.Conv2d(3, 9, 1), nn.Conv2d(9, 3, 1))
            self.scale = nn.Identity()  # an image from an image, but no network
            self.back = nn.Linear(48, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.back(self.scale(self.front(x)).flatten(1))

    network = Both()
    found = denoisers(lambda: network(torch.zeros(1, 3, 4, 4)), (3, 4, 4))
    assert found == (network.front,)
    assert not network.front._forward_hooks
    assert not nn.modules.module._global_forward_hooks


# ---- replays ---------------------------------------------------------------------------------------------------------


@dataclass
class Recorder:
    """Records as CUDA does, but replays by another pass; `full`: there is no memory for it."""

    full: bool = False
    sizes: list[int] = field(default_factory=list)  # of what was recorded
    replays: list[int] = field(default_factory=list)

    def __call__(self, classifier: BaseClassifier, x: torch.Tensor) -> Recording:
        if self.full:
            raise torch.OutOfMemoryError("CUDA out of memory")
        buffer, labels = x.clone(), torch.empty(len(x), dtype=torch.int64)
        self.sizes.append(len(x))

        def replay() -> None:
            self.replays.append(len(x))
            labels.copy_(classifier.predict(buffer, Untouched()))

        return Recording(buffer, labels, replay)


class Quiet:
    def start(self) -> None: ...

    def stop(self) -> Telemetry:
        return Telemetry()


def certification(recorder: Recorder) -> Certification:
    spec, classifier = built("gaussian")
    return Certification(
        classifier,
        spec,
        torch.rand(spec.shape, generator=torch.Generator().manual_seed(0)),
        replayer=lambda inner, _device: Replayed(inner, recorder),
    )


PLAN = ProbePlan(n0=10, n=120, batch=32, repeats=3, budget_s=60.0)


def test_what_is_timed_is_replayed_as_in_a_run_and_what_is_split_is_launched() -> None:
    recorder = Recorder()
    work = certification(recorder)
    timing = measure(work, WallClock(), Quiet(), PLAN)
    assert (timing.replayed, timing.unreplayed) == (True, "")
    # The batch, and the end of an image: 10 + 120 copies are four batches and 2.
    assert recorder.sizes == [32, 2]
    certificates = len(timing.readings) + len(timing.discarded)
    tried, warmed = len(recorder.sizes), len(timing.warmup) - RECORD_AFTER
    assert len(recorder.replays) == tried + warmed + 5 * certificates
    assert recorder.replays[-5 * certificates :] == [32, 32, 32, 32, 2] * certificates  # every pass of every repeat
    assert timing.stages["classify"] > 0
    assert work.launch() == (False, "")  # nothing recorded is kept


def test_replayed_votes_are_those_of_the_certifier() -> None:
    recorder = Recorder()
    work, plain = certification(recorder), certification(recorder)
    work.settle()
    for first in range(0, 160, 20):
        votes = work.draw(work._timed, 20, 20, first=first)
        assert votes == plain.draw(plain.classifier, 20, 20, first=first)
    assert recorder.replays == [20] * (1 + 8 - RECORD_AFTER)


def test_a_pass_that_could_not_be_recorded_is_timed_as_it_is_and_says_why() -> None:
    timing = measure(certification(Recorder(full=True)), WallClock(), Quiet(), PLAN)
    assert (timing.replayed, timing.unreplayed) == (False, "CUDA out of memory")


def test_a_cpu_launches_all_its_passes_and_has_nothing_to_rehearse() -> None:
    work = replace(certification(Recorder()), replayer=replayed)
    work.settle()
    work.rehearse(0)  # no pass of that size could be made
    assert work.launch() == (False, "")


def test_a_record_says_that_its_passes_were_replayed() -> None:
    path = PROJECT / "results" / "latency" / "cpu-digits.jsonl"
    old = store.read(path)[0]
    assert "replayed" not in json.loads(path.read_text().splitlines()[0])
    assert not old.replayed  # made before there was such a field
    new = replace(old, replayed=True)
    assert [LatencyRecord.from_json(json.loads(json.dumps(r.as_json()))) for r in (old, new)] == [old, new]
    notes = [set(measured([Timed(title="gaussian", key="", record=r)]).notes) for r in (old, new)]
    assert notes[1] - notes[0] == {
        "gaussian: passes replayed from CUDA graphs; the split by stages is of launched ones"
    }


# ---- work ------------------------------------------------------------------------------------------------------------


class OneProduct:
    num_classes = 10

    def __init__(self, device: str) -> None:
        self.weight = torch.zeros(64, 10, device=device)

    def predict(self, x, noise):
        return (x.flatten(1) @ self.weight).argmax(dim=1)


def test_flop_and_bytes_of_one_product_are_those_of_a_closed_form() -> None:
    work = count(OneProduct("meta"), (1, 8, 8), "meta", "fp32")
    assert work.flops == {"noise": 0.0, "denoise": 0.0, "classify": 2 * 64 * 10, "count": 0.0}
    # A copy: 64 values in and 10 logits out, the logits read again, one int64 label; the weights once a pass.
    assert work.bytes["classify"] == 4 * 64 + 4 * 10 + 4 * 10 + 8
    assert work.pass_bytes["classify"] == 4 * 64 * 10
    assert work.at_batch("classify", 10)[1] == 4 * 64 + 80 + 8 + 4 * 64
    half = count(OneProduct("meta"), (1, 8, 8), "meta", "bf16")
    assert half.bytes["classify"] == work.bytes["classify"] / 2


def test_counting_without_numbers_gives_what_counting_with_them_gives() -> None:
    for name in ("gaussian", "dds"):
        (spec, there), (_, here) = built(name, "meta"), built(name)
        assert count(there, spec.shape, "meta", "fp32").flops == count(here, spec.shape, "cpu", "fp32").flops


# ---- GPU, by fakes ---------------------------------------------------------------------------------------------------


class FakeNvml:
    NVML_CLOCK_SM = NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception): ...

    def __init__(self, pids: tuple[int, ...] = (), reasons: int = 0, energy: bool = True) -> None:
        self.pids, self.reasons, self.energy, self.joules = pids, reasons, energy, 0.0

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetClockInfo(self, *_: int) -> int:
        return 1400

    def nvmlDeviceGetMaxClockInfo(self, *_: int) -> int:
        return 1410

    def nvmlDeviceGetTemperature(self, *_: int) -> int:
        return 60

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _: int) -> int:
        return self.reasons

    def nvmlDeviceGetEnforcedPowerLimit(self, _: int) -> int:
        return 400_000

    def nvmlDeviceGetTotalEnergyConsumption(self, _: int) -> int:
        if not self.energy:
            raise self.NVMLError
        self.joules += 50.0
        return int(1000 * self.joules)

    def nvmlDeviceGetComputeRunningProcesses(self, _: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid) for pid in self.pids]


def test_a_gpu_that_slows_down_is_seen_and_energy_is_the_counters_difference() -> None:
    sensor = NvmlSensor(FakeNvml(reasons=0x4 | 0x40 | 0x1), 0)
    sensor.start()
    watch = sensor.stop()
    assert watch.energy_j == 50.0
    assert watch.throttled == ("software power cap", "hardware thermal slowdown")
    assert (watch.clocks_mhz, watch.clock_limit_mhz, watch.power_cap_w) == ((1400, 1400), 1410, 400.0)
    assert watch.others == 0


def test_what_a_driver_does_not_answer_is_left_open() -> None:
    sensor = NvmlSensor(FakeNvml(energy=False), 0)
    sensor.start()
    assert sensor.stop().energy_j is None


def test_a_gpu_that_others_use_is_refused_unless_said_otherwise() -> None:
    sensor = sensor_for("cuda:0", 1, FakeNvml(pids=(1,)))  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match=r"used by 1 other processes.*--shared"):
        _refuse_company(sensor, "cuda:0", shared=False)
    _refuse_company(sensor, "cuda:0", shared=True)


@pytest.mark.gpu
def test_events_and_the_wall_clock_agree_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    clock, a = CudaClock("cuda:0"), torch.ones(4096, 4096, device="cuda:0")
    clock.time(lambda: a @ a)
    reading = clock.time(lambda: [a @ a for _ in range(100)])
    assert reading.seconds == pytest.approx(reading.wall, rel=0.01)


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"budget_s": 0.0}, UsageError, "--budget 0: expected seconds above 0"),
        ({"repeats": 1}, UsageError, "--repeats 1: expected at least 2"),
        ({"batch": "many"}, UsageError, "--batch 'many': expected auto, paper"),
        ({"precision": "int4"}, SpecError, "no precision 'int4'"),
        ({"n": 2}, SpecError, "can never certify"),
    ],
)
def test_what_cannot_be_timed_is_refused_at_the_border(change: dict, error: type[BenchError], words: str) -> None:
    with pytest.raises(error, match=words):
        check(replace(SMALL, **change))


def test_missing_weights_are_refused_with_the_way_round() -> None:
    request = replace(SMALL, dataset="imagenet", random_weights=False)
    with pytest.raises(WeightsError, match="or --random-weights: the time does not depend on them"):
        prepare(request, items(request, ("rrcm",))[0], method("rrcm"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"params": ("nonsense=3",)}, "--set 'nonsense=3': no method of this run has 'nonsense'"),
        ({"params": ("gaussian.nonsense=3",)}, "gaussian has no 'nonsense'; expected one of: arch, normaliser"),
        ({"params": ("rrcm.size=S",)}, "'rrcm.size=S' is for 'rrcm', which is not in this run"),
        ({"weights": ("gaussian.teacher=a.pt",)}, "gaussian has no 'teacher'; expected one of: network"),
        ({"weights": ("network=a.pt",)}, "--random-weights and --weights network exclude each other"),
    ],
)
def test_a_word_that_no_row_can_use_is_refused_before_the_first_is_timed(change: dict, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        next(run(replace(SMALL, **change), items(SMALL, ("gaussian",)), "cpu"))


def test_a_word_for_one_method_leaves_the_others_alone() -> None:
    request = replace(SMALL, params=("rrcm.grid=21",))
    beside = {name: method(name) for name in ("gaussian", "rrcm")}
    first, second = (prepare(request, item, beside[item.method], beside)[0] for item in items(request, tuple(beside)))
    assert "grid" not in first.params
    assert second.params["grid"] == 21


def test_a_dataset_of_no_shape_is_refused() -> None:
    with pytest.raises(DataError, match="'folder' has no shape of its own to time; expected one of"):
        prepare(replace(SMALL, dataset="folder"), items(SMALL, ("gaussian",))[0], method("gaussian"))


def test_a_row_that_is_hopeless_on_this_device_is_refused_before_it_is_built() -> None:
    request = replace(SMALL, dataset="imagenet", budget_s=1e-6)
    (outcome,) = run(request, items(request, ("vit_gaussian",)), "cpu")
    assert outcome.record is None
    assert "budget of 1e-06 s is too small" in str(outcome.refusal)
    assert "288 copies of 18 GMAC take at least" in str(outcome.refusal)  # ViT-B/16: 17.56


# ---- the command -----------------------------------------------------------------------------------------------------

FEW = ["--dataset", "digits", "--random-weights", "--n", "120", "--n0", "10", "--batch", "32", "--repeats", "2"]


def test_the_command_keeps_what_it_prints_and_shares_no_column_between_kinds(tmp_path: Path) -> None:
    out = tmp_path / "latency.jsonl"
    words = ["latency", "--methods", "gaussian,dds", *FEW, "--budget", "30", "--gpu", "a800", "--out", str(out)]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    kept = store.read(out)
    assert [row["record"]["spec"]["method"] for row in rows] == ["gaussian", "dds"]
    assert [row["record"]["derived"]["single_stream_s"] for row in rows] == [
        json.loads(json.dumps(r.as_json()))["derived"]["single_stream_s"] for r in kept
    ]
    for row, r in zip(rows, kept, strict=True):
        assert r.random_weights
        assert r.spec["weights"]
        assert r.doubts  # two repeats, a short run: never without a word
        assert (row["projection"]["target"], row["projection"]["precision"]) == ("a800", "fp32")
        assert row["projection_bf16"]["seconds"] < row["projection"]["seconds"]
        assert "projection" not in row["record"]
        assert row["record"]["derived"]["mfu"] > 0


def test_the_table_names_each_kind_in_a_column_of_its_own(tmp_path: Path) -> None:
    words = ["latency", "--methods", "gaussian", *FEW, "--budget", "30", "--gpu", "a800"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "x.jsonl")], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    for column in ("MEASURED", "EXTRAPOLATED", "PROJECTED a800", "LIMIT", "limit by arithmetic", "random weights"):
        assert column in done.stdout
    assert "PROJECTED from" in done.stdout
    assert "! gaussian: " in done.stdout


def test_a_row_too_slow_to_be_timed_here_is_projected_by_its_shapes(tmp_path: Path) -> None:
    words = ["latency", "--methods", "rrcm", "--dataset", "imagenet", "--random-weights", "--budget", "1e-6"]
    done = CliRunner().invoke(app, [*words, "--gpu", "h200", "--out", str(tmp_path / "x.jsonl"), "--json"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert row["record"] is None
    assert "too small" in row["refusal"]
    half = row["projection_bf16"]
    assert half["limit"] < half["low"] < 7.8 < half["high"]  # as measured on an H200
    assert half["seconds"] == pytest.approx(7.8, rel=0.05)


def test_strict_refuses_to_project() -> None:
    done = CliRunner().invoke(app, ["latency", *FEW, "--gpu", "a800", "--strict"])
    assert isinstance(done.exception, DeviceError)
    assert "--strict: expected a measurement on NVIDIA A800" in str(done.exception)


def test_an_unknown_gpu_ends_the_command_before_anything_is_timed() -> None:
    done = CliRunner().invoke(app, ["latency", "--gpu", "a801"])
    assert isinstance(done.exception, DeviceError)
    assert "Did you mean 'a800'" in str(done.exception)


def test_networks_whose_weights_are_held_in_half_are_timed_and_split(tmp_path: Path) -> None:
    out = tmp_path / "l.jsonl"
    words = ["latency", "--methods", "dds", *FEW, "--budget", "5", "--precision", "bf16", "--out", str(out), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert row["spec"]["precision"] == "bf16"
    assert row["stages"]["denoise"] > row["stages"]["count"] > 0
    assert row["work"]["flops"]["denoise"] > 0


def test_the_back_test_and_the_claims_need_no_clock() -> None:
    done = CliRunner().invoke(app, ["latency", "--backtest", "--claims", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert {claim["times"] for claim in document["claims"]} == {85, 46, 39, 171}
    left_out = document["leave_one_out"]
    assert {row["kind"] for row in left_out} == {"vit", "resnet", "unet"}
    assert sum(row["device"] == "h200" for row in left_out) == 18
