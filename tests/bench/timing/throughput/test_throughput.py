"""The benchmark measures what it says: ratios follow from raw seconds, both sides do the same work, doubts are told."""

from __future__ import annotations

import gc
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from places import PROJECT
from scipy.stats import binom
from typer.testing import CliRunner

from bench.cli.app import app
from bench.runs import registry
from bench.runs.clock import clock_for
from bench.testing.fakes import HalfSpace
from bench.timing import device_peaks
from bench.timing.device_peaks import Peak
from bench.timing.latency.request import Item, LatencyRequest, prepare
from bench.timing.throughput import measurement
from bench.timing.throughput.baseline import plain_counts
from bench.timing.throughput.kernels import kernel_class
from bench.timing.throughput.measurement import measure
from bench.timing.throughput.records import FORMAT, Flips, Measurement, Series, document, held, remarks, save
from bench.timing.throughput.session import begin
from bench.timing.throughput.targets import build, targets
from bench.types import BaseClassifier, Setting
from bench.types.errors import BenchError, DeviceError, SpecError, StoreError, UsageError, WeightsError
from methods.training.rng import seeded_globals

RECORDS = PROJECT / "results" / "bench"
MEASURED = Measurement(
    name="n",
    method="m",
    dataset="d",
    device="cpu",
    params={},
    weights={"network": "0" * 64},
    shape=(1, 2, 2),
    sigma=0.5,
    precision="fp32",
    batch=8,
    threads=2,
    plain_batch=100,
    plain_curve=((10, 3e-3), (100, 2.2e-3)),
    flops=3e6,
    forward=Series((1.0e-3, 2.0e-3, 1.0e-3), (1e-3,) * 3),  # a slow second round, for both
    certifier=Series((1.1e-3, 2.2e-3, 1.5e-3), (1.02e-3,) * 3),
    plain=Series((2.2e-3, 2.2e-3, 2.2e-3), (4.08e-3, 3.06e-3, 4e-3)),
    row_s=1e-4,
    flips=(Flips("tuning", 0, 5000, 2e-3, 1e-3), Flips("bf16", 3, 5000, 2e-2, 1e-3)),
    flips_of="images of digits",
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products and a given batch: what is tested is not the machine."""
    monkeypatch.setattr(device_peaks, "SIDES", {"cpu": (32, 64)})
    monkeypatch.setattr(device_peaks, "ROUNDS_S", 0.01)
    monkeypatch.setattr(measurement, "auto_batch", lambda spec, classifier, device: 64)


# ---- the plain loop --------------------------------------------------------------------------------------------------


def test_the_plain_loop_smooths_as_the_certifier_does() -> None:
    # Two-sided at 1e-9: one false alarm in 10**9 versions of torch's generator.
    x, plane = torch.full((1, 4, 4), 0.5), HalfSpace(torch.ones(1, 4, 4), -8.3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        counts = plain_counts(plane, x, sigma=0.5, n=5000, batch=999)
    assert counts.sum() == 5000
    p = plane.probability(x, 0.5)
    low, high = binom.ppf([0.5e-9, 1 - 0.5e-9], 5000, p)
    assert low <= counts[plane.label(x)] <= high
    assert 0.5 < p < 0.9  # a noise of another size would show


# ---- what is measured ------------------------------------------------------------------------------------------------


@seeded_globals(1)
def test_a_network_is_measured_in_rounds_and_tuning_moves_no_vote(quick: None) -> None:
    threads = torch.get_num_threads()
    (target,) = targets("digits-resnet8")
    found = measure(target, device="cpu", sigma=0.5, precision="fp32", budget_s=1.5)
    assert torch.get_num_threads() == threads
    series = (found.forward, found.certifier, found.plain)
    assert [len(s.seconds) for s in series] == [len(s.cpu) for s in series] == [measurement.ROUNDS] * 3
    assert all(math.isfinite(s) and s > 0 for one in series for s in (*one.seconds, *one.cpu, found.row_s))
    assert found.plain_batch == min(found.plain_curve, key=lambda pair: pair[1])[0]
    tuning, half = found.flips
    assert tuning.flipped == 0
    assert tuning.copies >= 1 <= half.copies  # as many as there is time for: on a busy machine, few
    # 3x3 stem 1->16 at 4x4, six blocks' convolutions, two 1x1 projections, the head: MAC by hand.
    macs = 16 * 9 * 16 + 2 * 16 * 16 * 16 * 9 + 4 * (16 * 32 * 9 + 32 * 32 * 9 + 16 * 32)
    macs += 1 * (32 * 64 * 9 + 64 * 64 * 9 + 32 * 64) + 64 * 10
    assert found.flops == 2 * macs


@seeded_globals(1)
def test_a_batch_of_the_plain_loop_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Roomy:
        num_classes = 2

        def __init__(self, room: int) -> None:
            self.room = room

        def predict(self, x, noise):
            if len(x) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return torch.zeros(len(x), dtype=torch.int64)

    def curve(room: int) -> list[int]:
        plain = partial(measurement._plainly, Roomy(room), torch.zeros(1, 2, 2), 0.5, "fp32")
        return [batch for batch, _ in measurement._plain_curve(plain, clock_for("cpu"), 5.0, "cpu")]

    monkeypatch.setattr(measurement, "PLAIN_BATCHES", (10, 100, 1000))
    assert curve(1000) == [10, 100, 1000]
    assert curve(500) == [10, 100]
    assert curve(5) == [1]
    with pytest.raises(DeviceError, match="a copy of the plain loop does not fit the memory"):
        curve(0)

    # Memory that grows with the batch, 1 GB a copy: what cannot fit 141 GB is not begun.
    monkeypatch.setattr(measurement, "device_bytes", lambda _device: 141e9)
    begun: list[int] = []

    class Needy(Roomy):
        def predict(self, x, noise):
            begun.append(len(x))
            return super().predict(x, noise)

    monkeypatch.setattr(measurement, "_needed", lambda _device: begun[-1] * 1_000_000_000)
    plain = partial(measurement._plainly, Needy(10**6), torch.zeros(1, 2, 2), 0.5, "fp32")
    assert [batch for batch, _ in measurement._plain_curve(plain, clock_for("cpu"), 5.0, "cpu")] == [10, 100]
    assert set(begun) == {10, 100}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@seeded_globals(1)
def test_of_a_large_network_one_copy_is_held_at_a_time(
    precision: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[int] = []
    real = measurement.build

    def counting(*words, **named):
        built = real(*words, **named)
        kind, make = type(built.tuned), built.make

        def made(**changes):
            gc.collect()
            alive.append(sum(type(held) is kind for held in gc.get_objects()))
            return make(**changes)

        built.make = made
        return built

    monkeypatch.setattr(measurement, "build", counting)
    (target,) = targets("digits-resnet8")
    before = sum(type(held).__name__ == "HardLabels" for held in gc.get_objects())
    monkeypatch.setattr(measurement, "LARGE_BYTES", 0)
    found = measure(target, device="cpu", sigma=0.5, precision=precision, budget_s=0.5)
    # Each time that a network is built, for the plain loop and for every arithmetic, all others are gone.
    assert alive == [before] * 4
    assert len(found.plain.seconds) == len(found.certifier.seconds) == measurement.ROUNDS


def test_what_does_not_fit_is_refused_and_a_batch_of_labels_that_does_not_is_halved(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_words, **_named):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 24.50 GiB. GPU 0 has more to say")

    (target,) = targets("digits-resnet8")
    with monkeypatch.context() as patch:
        patch.setattr(measurement, "auto_batch", full)
        with pytest.raises(
            DeviceError,
            match=r"Tried to allocate 24\.50 GiB, in its search for a batch;",
        ):
            measure(target, device="cpu", sigma=0.5, precision="fp32", budget_s=0.5)

    sizes: list[int] = []

    def forward(_classifier, x, _device, _precision):
        if len(x) > 3:
            full()
        sizes.append(len(x))
        return torch.zeros(len(x), dtype=torch.int64)

    monkeypatch.setattr(measurement, "_forward", forward)
    labels, _ = measurement._labels(None, "fp32", lambda n, size: torch.zeros(size, 1), 64, clock_for("cpu"), 0.02)
    assert len(labels) == sum(sizes)
    assert set(sizes) <= {1, 2, 3}


def test_ratios_follow_from_the_raw_seconds() -> None:
    assert MEASURED.forward.rate == pytest.approx(1000)
    assert MEASURED.speedup == pytest.approx(2.0)
    assert MEASURED.default_speedup is None
    slow_loop = replace(MEASURED, plain_curve=((100, 2.2e-3), (1000, 5.5e-3)))
    assert slow_loop.default_speedup == pytest.approx(5.0)
    assert MEASURED.cpu_speedup == pytest.approx(3.0)
    assert MEASURED.cpu_overhead == pytest.approx(0.02)
    on_a_gpu = replace(MEASURED, device="cuda:0")  # whose time no core spends
    assert (on_a_gpu.cpu_speedup, on_a_gpu.cpu_overhead) == (None, None)
    # The median of 10 %, 10 % and 50 %, each from one round: a slow minute that hits both sides is no overhead.
    assert MEASURED.overhead == pytest.approx(0.1)
    assert MEASURED.flop_share((Peak("bf16", 1e9, 64, 2), Peak("fp32", 6e9, 64, 2))) == pytest.approx(0.5)
    assert replace(MEASURED, flops=None).flop_share((Peak("fp32", 6e9, 64, 2),)) is None
    assert MEASURED.flop_share((Peak("bf16", 1e9, 64, 2),)) is None


def test_what_speaks_against_the_numbers_is_said() -> None:
    calm = replace(MEASURED, forward=MEASURED.plain, certifier=MEASURED.plain)
    assert calm.doubts() == ()
    assert [doubt.split(":")[0] for doubt in MEASURED.doubts()] == ["forward", "certifier"]
    few = replace(calm, weights={"network": "random"}, flips=(Flips("bf16", 0, 30, 1.0, 1.0),))
    assert few.doubts() == (
        "flips by bf16: only 30 copies",
        "random weights: their flips say nothing of trained ones",
    )
    of_noise = replace(calm, flips_of="a random picture")
    assert of_noise.doubts() == ("flips are of copies of a random picture, most of which lie near a tie",)


def test_labels_that_flip_are_counted_on_images_of_the_dataset_where_it_is() -> None:
    random = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    test = registry.dataset("digits").open(None, None, "test")
    pictures, told = measurement._pictures("digits", (1, 8, 8), random)
    assert told == "images of digits"
    assert pictures.shape == (50, 1, 8, 8)
    assert torch.equal(pictures[3], torch.from_numpy(test[30].pixels))
    for name, shape in (("imagenet", (1, 8, 8)), ("digits", (1, 9, 9))):
        pictures, told = measurement._pictures(name, shape, random)
        assert told == "a random picture"
        assert torch.equal(pictures, random[None])


def test_a_machine_without_bf16_is_told_so() -> None:
    slow, fast = (
        (Peak("fp32", 100e9, 512, 2), Peak("bf16", 5e9, 256, 2)),
        (Peak("fp32", 1e9, 1, 1), Peak("bf16", 2e9, 1, 1)),
    )
    assert remarks(slow)[0].startswith("bf16 products are 20.0 times slower than fp32 here")
    assert remarks(fast) == ()


def test_a_share_of_the_peak_that_cannot_be_is_said_so() -> None:
    record = document({"cpu": "x"}, "2026-01-02T03:04:05Z", (Peak("fp32", 2e9, 64, 2),), (MEASURED,))
    assert record["remarks"] == ["n: 150% of the matrix product cannot be: the product was measured in a busier moment"]


def test_the_peaks_leave_the_arithmetic_as_it_was(quick: None) -> None:
    torch.set_float32_matmul_precision("high")
    try:
        found = device_peaks.peaks("cpu")
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert [peak.precision for peak in found] == ["fp32", "bf16"]
    assert all(peak.flops_s > 0 and peak.side in (32, 64) for peak in found)


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_every_network_to_be_measured_exists(target) -> None:
    method = registry.method(target.method)
    request = LatencyRequest(dataset=target.dataset, random_weights=True)
    item = Item(method=target.method, title=target.name, n=1000, params=target.params)
    spec, setting = prepare(request, item, method)
    assert set(target.params.items()) <= set(spec.params.items())
    assert method.build(replace(setting, device="meta")).num_classes in (10, 1000)


# ---- the record ------------------------------------------------------------------------------------------------------


def test_a_record_is_named_after_its_machine_and_moment(tmp_path: Path) -> None:
    record = document({"cpu": "x"}, "2026-01-02T03:04:05Z", (Peak("fp32", 6e9, 64, 2),), (MEASURED,))
    path = save(tmp_path / "new", record, "AMD EPYC, 2 cores")
    assert path.name == "amd-epyc-2-cores-20260102T030405Z.json"
    stored = json.loads(path.read_text())
    assert stored["networks"][0]["speedup"] == pytest.approx(2.0)
    assert stored["networks"][0]["plain"]["seconds"] == [2.2e-3] * 3
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="give --out another folder"):
        save(tmp_path / "file", record, "x")


def test_committed_records_hold_what_follows_from_their_seconds() -> None:
    found = sorted(RECORDS.glob("*.json"))
    if not found:
        pytest.skip("no records beside the tests")
    for path in found:
        record = json.loads(path.read_text())
        assert record["format"] == FORMAT
        assert record["machine"]["cpu"]
        for row in record["networks"]:
            assert row["speedup"] == pytest.approx(min(row["plain"]["seconds"]) / min(row["certifier"]["seconds"]))
            assert row["forward_copies_per_s"] == pytest.approx(1 / min(row["forward"]["seconds"]))


# ---- the command -----------------------------------------------------------------------------------------------------


@seeded_globals(1)
def test_the_command_prints_and_stores_the_record(quick: None, tmp_path: Path) -> None:
    words = ["bench", "--networks", "digits-resnet8", "--budget", "0.5", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0
    record = json.loads(done.stdout)
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text()) == record
    assert [row["name"] for row in record["networks"]] == ["digits-resnet8"]
    shown = CliRunner().invoke(app, words)
    assert "matrix product fp32" in shown.stdout
    assert "digits-resnet8" in shown.stdout
    assert f"record: {tmp_path}" in shown.stderr


@seeded_globals(1)
def test_the_record_is_kept_network_by_network_and_resumed(quick: None, tmp_path: Path, monkeypatch) -> None:
    words = ["bench", "--budget", "0.3", "--out", str(tmp_path), "--networks"]
    real = measurement.measure

    def cut_off(target, **how):
        if target.name == "digits-rrcm-tiny":
            raise KeyboardInterrupt
        return real(target, **how)

    monkeypatch.setattr("bench.timing.throughput.session.measure", cut_off)
    CliRunner().invoke(app, [*words, "digits-resnet8,digits-rrcm-tiny"])
    (path,) = tmp_path.glob("*")
    assert [row["name"] for row in json.loads(path.read_text())["networks"]] == ["digits-resnet8"]
    again = CliRunner().invoke(app, [*words, "digits-resnet8", "--resume"])
    assert again.exit_code == 0
    assert "digits-resnet8  is in" in again.stderr
    (tmp_path / "other.json").write_text("[]")
    machine = json.loads(path.read_text())["machine"]
    assert held(tmp_path, machine, {"precision": "fp32", "sigma": 0.5}) == {"digits-resnet8": path}
    assert held(tmp_path, machine, {"precision": "fp32", "sigma": 0.25}) == {}
    assert held(tmp_path, {**machine, "git_commit": "another"}, {"precision": "fp32", "sigma": 0.5}) == {}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nvjet_sm90_tst_192x192_64x4_2x1_v_bz_coopB_bias_TNN", "product"),
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc", "convolution"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop", "attention"),
        ("_convolve", "convolution"),
        ("_add_norm", "normalisation"),
        ("_gelu", "elementwise"),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy", "copy"),
        ("void at::native::reduce_kernel<128, 4, at::native::ReduceOp>", "elementwise"),
    ],
)
def test_kernels_have_a_class_by_name(name: str, kind: str) -> None:
    assert kernel_class(name) == kind


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ({"names": "digits-resnet9"}, UsageError, "Did you mean 'digits-resnet8'"),
        ({"precision": "fp4"}, SpecError, "expected one of fp32, tf32, bf16, fp16"),
        ({"sigma": 0.0}, SpecError, "expected a noise level above 0"),
        ({"budget_s": -1.0}, UsageError, "expected seconds above 0"),
        ({"device": "cuda:99"}, DeviceError, "no device 'cuda:99'"),
        ({"device": "cpu,cpu"}, UsageError, "expected one device, got 2"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(words: dict, error: type[BenchError], said: str) -> None:
    given = {"names": None, "device": "cpu", "precision": "fp32", "sigma": 0.5, "budget_s": 1.0, **words}
    names = given.pop("names")
    with pytest.raises(error, match=said) as caught:
        begin(names, **given)
    assert "\n" not in str(caught.value)


def test_a_target_is_the_network_that_it_is_named_after_whatever_weights_are_in_the_catalogue() -> None:
    # Of CIFAR-10 the catalogue's rRCM is a small one, which once was timed as rRCM-B.
    named = next(target for target in targets(None, "cuda") if target.name == "cifar-rrcm-b")
    unnamed = replace(named, params={})
    sizes = [
        build(target, sigma=0.5, precision="fp32", device="meta").spec.params["size"] for target in (named, unnamed)
    ]
    assert sizes == ["B", "XS"]
    assert all(target.params for target in targets(None, "cuda"))


def test_weights_that_do_not_fit_a_target_leave_it_random(monkeypatch: pytest.MonkeyPatch) -> None:
    # A file may say nothing of its network: then its tensors do, when it is built.
    gaussian = registry.method("gaussian")

    def particular(setting: Setting) -> BaseClassifier:
        if not setting.random_weights:
            raise WeightsError("other tensors")
        return gaussian.build(setting)

    monkeypatch.setattr(registry, "method", lambda _name: replace(gaussian, build=particular))
    digits = next(target for target in targets(None, "cpu") if target.name == "digits-resnet8")
    built = build(digits, sigma=0.5, precision="fp32", device="cpu")
    assert built.setting.random_weights
    assert set(built.spec.weights.values()) == {"random"}
