"""What a sample costs, counted without computing it; and a run that outgrows its memory half-way goes on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from diffusion_settings import setting
from one_job import certify

from bench.runs.certify import Job, build, make_worker, open_dataset
from bench.runs.request import RunRequest, plan
from bench.timing.dry_run import _flops, probe
from bench.timing.flops import count, total
from bench.types import Execution, Method, Row, Scalar
from bench.types.errors import DeviceError
from methods.dds import DDS
from methods.densepure import DENSEPURE
from methods.diffsmooth import DIFFSMOOTH
from methods.noise_trained import GAUSSIAN, VIT_GAUSSIAN

HERE = Path(__file__)
DIGITS = RunRequest(methods=("dds",), dataset="digits", sigmas=(0.5,), n=100, subset="first:2", random_weights=True)


# ---- cost ------------------------------------------------------------------------------------------------------------


def gmac(method: Method, dataset: str, **params: Scalar) -> float:
    made = replace(setting(method, dataset, **params), device="meta")
    flops = total(lambda: method.build(made), made.shape, "meta")
    assert flops is not None
    return flops / 2e9


@pytest.mark.parametrize(
    ("method", "dataset", "params", "expected"),
    [
        (GAUSSIAN, "imagenet", {}, 4.09),  # ResNet-50
        (VIT_GAUSSIAN, "imagenet", {}, 17.56),  # ViT-B/16
        (DDS, "cifar10", {}, 8.39 + 17.56),  # 50 M UNet at 32, ViT-B at 224
        (DDS, "imagenet", {}, 856.3 + 17.56),  # ADM at 224
        (DDS, "imagenet", {"geometry": "pad256"}, 1119.8 + 17.56),  # ADM at 256
    ],
)
def test_the_multiplications_of_published_networks_are_counted_without_their_weights(
    method: Method, dataset: str, params: dict[str, Scalar], expected: float
) -> None:
    assert gmac(method, dataset, **params) == pytest.approx(expected, rel=1e-3)


def test_a_samples_cost_is_the_sum_of_its_calls() -> None:
    one, five = gmac(DIFFSMOOTH, "digits", local_noises=1), gmac(DIFFSMOOTH, "digits", local_noises=5)
    classifier = (five - one) / 4
    unet = one - classifier
    assert gmac(DDS, "digits") == pytest.approx(unet + classifier)
    assert gmac(DENSEPURE, "digits", steps=4, votes=3) == pytest.approx(12 * unet + 3 * classifier)
    assert DENSEPURE.build(setting(DENSEPURE, steps=4, votes=3)).calls == {"unet": 12, "classifier": 3}  # type: ignore[attr-defined]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["gaussian", "rrcm", "denoised", "dds"])
def test_counting_by_shapes_gives_what_counting_a_real_pass_gives(
    method: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A product of another library's, which a busy machine may find faster, is seen by no counter of torch's.
    monkeypatch.setattr("methods.nets.inference.optimise.choose_linear_kernel", lambda network: None)
    job = plan(replace(DIGITS, methods=(method,), precision=precision))[0]
    dataset = open_dataset(job)
    exact = replace(job, spec=replace(job.spec, precision="fp32"))
    by_pass = count(build(exact, "cpu", dataset), job.spec.shape, "cpu", precision).total_flops
    assert _flops(dataset, job, "cpu") == by_pass != 0


@pytest.mark.parametrize(
    ("method", "calls"),
    [
        ("gaussian", {"classifier": 1}),
        ("rrcm", {"classifier": 1}),
        ("boosting", {"classifier": 5}),
        ("denoised", {"denoiser": 1, "classifier": 1}),
        ("densepure", {"unet": 9, "classifier": 3}),
    ],
)
def test_a_dry_run_tells_the_calls_of_every_method(method: str, calls: dict[str, int]) -> None:
    cost = probe(plan(replace(DIGITS, methods=(method,)))[0], "cpu", 8, seconds=0.01)
    assert cost.calls == calls
    assert cost.flops
    assert cost.passes == 2 * 200


def test_the_votes_of_random_networks_foretell_no_sequential_run() -> None:
    # The least n for a sequential design of three radii is some hundreds.
    asked = replace(DIGITS, methods=("gaussian",), n=2000)
    radii = (0.0, 0.25, 0.5)
    random = probe(plan(replace(asked, random_weights=True))[0], "cpu", 256, seconds=0.3, radii=radii)
    trained = probe(plan(replace(asked, random_weights=False))[0], "cpu", 256, seconds=0.3, radii=radii)
    assert random.sequential is None
    assert trained.sequential is not None
    assert 0 < trained.sequential < trained.fixed


# ---- memory ----------------------------------------------------------------------------------------------------------


@dataclass
class Cramped:
    """Votes by its own noise and the pixels; out of memory above `room` copies, which shrinks while it runs."""

    num_classes: int
    room: int
    calls_left: int  # until the room is halved
    batches: list[int]

    def predict(self, x, noise):
        self.calls_left -= 1
        if len(x) > (self.room if self.calls_left > 0 else self.room // 4):
            raise torch.OutOfMemoryError(f"no room for {len(x)} copies\nand a second line")
        self.batches.append(len(x))
        return (x.flatten(1).sum(1) + noise.randn(3).sum(1)).long() % 10


CRAMPED = Method(name="cramped", title="", cite="", build=lambda _setting: Cramped(10, 1 << 20, 1 << 20, []))


@pytest.fixture
def job() -> Job:
    request = RunRequest(methods=(f"{HERE}:CRAMPED",), dataset="digits", sigmas=(0.5,), n0=20, n=300, subset="first:3")
    return plan(request)[0]


def test_a_run_that_outgrows_its_memory_goes_on_with_half_the_batch_and_the_same_votes(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    roomy = make_worker(job, "cpu", 64)
    expected = [replace(roomy(index), seconds=0.0) for index in job.indices]
    worker = make_worker(job, "cpu", 64)
    cramped = Cramped(10, 64, 4, [])  # fails in the middle of the first image's second stage
    worker.classifier = cramped
    with caplog.at_level(logging.WARNING):
        rows = [replace(worker(index), seconds=0.0) for index in job.indices]
    assert rows == expected
    assert max(cramped.batches) == 64
    assert worker.batch == 16  # learned once, kept for the images that follow
    assert [record.getMessage() for record in caplog.records] == [
        f"! out of memory on cpu: going on with a batch of {batch}, which moves no vote" for batch in (32, 16)
    ]


def test_a_single_copy_that_does_not_fit_ends_the_run_in_one_line(job: Job) -> None:
    worker = make_worker(job, "cpu", 8)
    worker.classifier = Cramped(10, 0, 1 << 20, [])
    with pytest.raises(DeviceError, match=r"one copy of shape .* does not fit the memory of cpu") as caught:
        worker(job.indices[0])
    assert "\n" not in str(caught.value)


def test_a_run_in_a_worker_of_its_own_is_stored_with_the_same_votes(job: Job, tmp_path: Path) -> None:
    rows: list[Row] = []
    run = certify(job, Execution(("cpu",), 64), tmp_path, lambda _run, _worker: None, rows.append)
    worker = make_worker(job, "cpu", 64)
    worker.classifier = Cramped(10, 16, 1 << 20, [])
    assert all(row.same_votes(worker(row.index)) for row in run.rows)
