"""A run's votes depend on its spec alone: not on batch, order, workers, interruption or company."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from one_job import certify
from places import SUPPORT
from plane_runs import timeless

from bench.runs import registry
from bench.runs.certify import Job, open_dataset
from bench.runs.method_settings import assigned_roles
from bench.runs.request import RunRequest, plan
from bench.runs.store import RowWriter, Run, find_runs
from bench.timing.dry_run import probe
from bench.types import Dataset, Execution, Row
from bench.types.errors import DataError, MethodError, SpecError, StoreError, UsageError

TOY = f"{(SUPPORT / 'toy_method.py')}:TOY"
REQUEST = RunRequest(methods=(TOY,), dataset="digits", sigmas=(0.5,), n0=20, n=200, subset="first:6")


def compute(job: Job, out: Path, *, batch: int | None = 50) -> Run:
    return certify(job, Execution(("cpu",), batch), out, lambda run, worker: None, lambda row: None)


@pytest.fixture(scope="module")
def job() -> Job:
    return plan(REQUEST)[0]


@pytest.fixture(scope="module")
def reference(job: Job, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    run = compute(job, tmp_path_factory.mktemp("reference"))
    assert run.done
    return timeless(run)


@pytest.mark.parametrize("batch", [None, 1, 7, 200])
def test_the_batch_moves_no_vote(job: Job, reference: list[Row], tmp_path: Path, batch: int | None) -> None:
    assert timeless(compute(job, tmp_path, batch=batch)) == reference


def test_the_order_of_images_moves_no_vote(job: Job, reference: list[Row], tmp_path: Path) -> None:
    assert timeless(compute(replace(job, indices=job.indices[::-1]), tmp_path)) == reference


def test_the_plan_and_its_runs_open_a_dataset_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source, opened = registry.dataset("digits"), []

    def open_digits(root: Path | None, size: int | None, split: str) -> Dataset:
        opened.append((root, size, split))
        return source.open(root, size, split)

    registry.open_dataset.cache_clear()
    monkeypatch.setattr(registry, "dataset", lambda name: replace(source, open=open_digits))
    for job in plan(replace(REQUEST, sigmas=(0.25, 0.5))):
        open_dataset(job)
    registry.open_dataset.cache_clear()
    assert len(opened) == 1


def test_the_company_of_an_image_moves_no_vote_of_it(reference: list[Row], tmp_path: Path) -> None:
    alone = plan(replace(REQUEST, subset="3:4"))[0]
    assert timeless(compute(alone, tmp_path)) == [row for row in reference if row.index == 3]


def test_an_interrupted_run_resumes_where_it_was(job: Job, reference: list[Row], tmp_path: Path) -> None:
    computed = []

    def stop(row: Row) -> None:
        computed.append(row.index)
        if len(computed) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        certify(job, Execution(("cpu",), 50), tmp_path, lambda run, worker: None, stop)
    certify(job, Execution(("cpu",), 50), tmp_path, lambda run, worker: None, lambda row: computed.append(row.index))
    assert sorted(computed) == [0, 1, 2, 3, 4, 5]  # nothing twice
    assert timeless(find_runs([tmp_path])[0]) == reference


def test_a_killed_run_takes_its_worker_processes_along_and_ends_with_the_rows_of_one(tmp_path: Path) -> None:
    words = f"run --methods {TOY} --dataset digits --sigma 0.5 --n0 20 --n 200 --subset first:6 --set pause=0.1"
    command = [sys.executable, "-m", "bench", *words.split(), "--batch", "10", "--device", "cpu,cpu"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 90
    while not any(b"\n" in each.read_bytes() for each in tmp_path.glob("*/rows*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while group_lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not group_lives(process.pid)
    assert 0 < len(find_runs([tmp_path])[0].rows) < 6  # it was killed in the middle
    (slow,) = plan(replace(REQUEST, params=("pause=0.1",)))
    whole = compute(slow, tmp_path / "whole", batch=200)
    assert timeless(compute(slow, tmp_path, batch=200)) == timeless(whole)
    assert len(find_runs([tmp_path])) == 1  # it went on in the folder of the killed one


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_finished_run_is_not_computed_again(job: Job, tmp_path: Path) -> None:
    compute(job, tmp_path)
    certify(job, Execution(("cpu",), 50), tmp_path, lambda run, worker: None, lambda row: pytest.fail("computed again"))


def test_another_seed_is_another_draw(job: Job, reference: list[Row], tmp_path: Path) -> None:
    other = compute(plan(replace(REQUEST, seed=1))[0], tmp_path)
    assert timeless(other) != reference


def test_a_job_that_cannot_be_built_leaves_nothing_behind(tmp_path: Path) -> None:
    request = replace(REQUEST, methods=(f"{Path(__file__)}:BROKEN",))
    with pytest.raises(MethodError, match="has 3 classes, digits has 10"):
        compute(plan(request)[0], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_strangers_file_is_named_with_the_hash_of_its_code(job: Job) -> None:
    assert job.spec.method.startswith("toy@")


def test_the_probe_counts_every_forward_pass(job: Job) -> None:
    assert probe(job, "cpu", 50, seconds=0.01).passes == 6 * 220


def test_a_bare_word_for_weights_serves_one_method() -> None:
    methods = {name: registry.method(name) for name in ("gaussian", "consistency", "rrcm", "dds")}
    with pytest.raises(
        UsageError, match=r"gaussian, consistency, rrcm each .* --weights gaussian\.network=a\.pth"
    ) as told:
        assigned_roles(("network=a.pth",), methods)
    assert "consistency.network=PATH" in str(told.value)
    words = ("network=a.pth", "consistency.network=b.pth", "rrcm.network=c.pth", "denoiser=d.pt")
    given = assigned_roles(words, methods)
    assert [given[name].get("network") for name in methods] == ["a.pth", "b.pth", "c.pth", None]
    assert given["dds"] == {"denoiser": "d.pt"}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"methods": ("gausian",)}, MethodError, "Did you mean 'gaussian'"),
        ({"dataset": "digit"}, DataError, "Did you mean 'digits'"),
        ({"methods": ("nowhere.py:X",)}, MethodError, "no file 'nowhere.py'"),
        ({"sigmas": (-1.0,)}, SpecError, "sigma must be a positive"),
        ({"n": 5}, SpecError, "smallest n that can is 10"),
        ({"precision": "fp4"}, SpecError, "fp32, tf32, bf16, fp16"),
        ({"params": ("pause=soon",)}, UsageError, "expected a float"),
        ({"params": ("speed=1",)}, UsageError, "no method of this run has 'speed'"),
        ({"params": ("gaussian.arch=x",)}, UsageError, "'gaussian', which is not in this run"),
        ({"weights": ("network=x.pth",)}, UsageError, "no method of this run has 'network'"),
        ({"weights": ("network",)}, UsageError, "expected .METHOD..KEY=VALUE"),
        ({"limit": 0}, UsageError, "at least 1 image"),
        ({"sigmas": (0.5, 0.5)}, UsageError, "each noise level once"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        plan(replace(REQUEST, **change))
    assert "\n" not in str(caught.value)


def _three_classes(setting):
    class Three:
        num_classes = 3

    return Three()


from bench.types import Method  # noqa: E402 - beside its only use

BROKEN = Method(name="broken", title="", cite="", build=_three_classes)


def test_a_stored_row_with_another_label_is_refused_before_the_run_goes_on(job: Job, tmp_path: Path) -> None:
    run = compute(replace(job, indices=(0, 1)), tmp_path)
    for rows in run.path.glob("rows*"):
        rows.unlink()
    with RowWriter(run.path) as writer:
        writer.append(replace(run.rows[0], label=(run.rows[0].label + 1) % 10))
    with pytest.raises(StoreError, match=r"image 0 with label \d, the dataset has label \d"):
        compute(job, tmp_path)
    assert len(find_runs([tmp_path])[0].rows) == 1  # no row was added
