"""One driver, workers that come, die and answer in any order: the rows are those of one process."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
from one_job import certify, dispatch
from places import SUPPORT
from timeless import timeless

from bench.runs.certify import ImageCertifier, Job, make_remote, make_worker, portable, tried_here
from bench.runs.execution.dispatch import (
    ATTEMPTS,
    MAX_ASKED,
    Task,
    TaskResult,
    ThroughputEstimate,
    WorkQueue,
)
from bench.runs.execution.pools import pool
from bench.runs.image_state import Counted, ImageState, Unit
from bench.runs.request import RunRequest, plan
from bench.smoothing.noise import ESTIMATE
from bench.types import Counts, Execution
from bench.types.errors import BenchError, DataError, DeviceError, SpecError, UsageError, WeightsError
from methods.nets import hard_labels

RADII = (0.0, 0.25, 0.5, 0.75)
FIXED = RunRequest(
    methods=(f"{(SUPPORT / 'plane_method.py')}:PLANE",), dataset="digits", sigmas=(0.5,), n=1000, subset="first:10"
)
REQUESTS = {
    "fixed": FIXED,
    "early": replace(FIXED, early_stop=True, radii=RADII),
    "sequential": replace(FIXED, certifier="sequential", radii=RADII),
    "deploy": replace(FIXED, certifier="sequential", radii=RADII, mode="deploy"),
}


@dataclass
class Shaky:
    """Workers in this process: answers in a random order, some of them lost, some given twice."""

    worker: ImageCertifier
    workers: int = 3
    loses: float = 0.0
    repeats: bool = False
    batch: int = 64
    handed: list[Task] = field(default_factory=list)
    _held: list[Task] = field(default_factory=list)
    _late: deque[TaskResult] = field(default_factory=deque)
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    def room(self) -> int:
        return MAX_ASKED * self.workers - len(self._held)

    def send(self, task: Task) -> None:
        self.handed.append(task)
        self._held.append(task)

    def receive(self) -> list[TaskResult]:
        if self._late:
            return [self._late.popleft()]
        task = self._held.pop(self._random.randrange(len(self._held)))
        result = TaskResult(task.number, tuple(self.worker.count(task.units)))
        if self._random.random() < self.loses:
            self._late.append(result)  # it was only slow
            return [TaskResult(task.number, None)]
        return [result] * (1 + self.repeats)


@pytest.fixture(scope="module")
def jobs() -> dict[str, Job]:
    return {name: plan(request)[0] for name, request in REQUESTS.items()}


@pytest.fixture(scope="module")
def workers(jobs: dict[str, Job]) -> dict[str, ImageCertifier]:
    return {name: make_worker(job, "cpu", 100) for name, job in jobs.items()}


def identity(worker: ImageCertifier):
    return lambda index: (worker.dataset.label(index), worker.dataset.digest(index))


# ---- the same rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REQUESTS)
def test_workers_that_die_and_answers_in_any_order_move_no_row(
    name: str, jobs: dict[str, Job], workers: dict[str, ImageCertifier]
) -> None:
    job, worker = jobs[name], workers[name]
    reference = timeless(worker.rows(job.indices))
    assert len({row.estimation.n for row in reference}) > 1 or name == "fixed"
    for count, loses, repeats in ((1, 0.0, False), (5, 0.1, False), (3, 0.0, True)):
        shaky = Shaky(worker, count, loses, repeats)
        assert timeless(dispatch(job.spec, job.indices, shaky, identity(worker))) == reference
        assert any(task.lost for task in shaky.handed) == bool(loses)


def test_a_units_votes_are_those_of_its_copies_however_they_are_cut(workers: dict[str, ImageCertifier]) -> None:
    worker = workers["fixed"]
    (whole,) = worker.count([Unit(3, ESTIMATE, 40, 500)])
    parts = worker.count([Unit(3, ESTIMATE, 40, 17), Unit(5, ESTIMATE, 0, 30), Unit(3, ESTIMATE, 57, 483)])
    assert parts[0].counts + parts[2].counts == whole.counts
    assert parts[0].fingerprint == whole.fingerprint != parts[1].fingerprint
    assert whole.seconds > 0


def test_the_last_image_is_cut_over_all_workers_within_one_look(
    jobs: dict[str, Job], workers: dict[str, ImageCertifier]
) -> None:
    job, worker = jobs["sequential"], workers["sequential"]
    hard = max(worker.rows(job.indices), key=lambda row: row.estimation.n)
    shaky = Shaky(worker, workers=4, batch=16)
    rows = timeless(dispatch(job.spec, [hard.index], shaky, identity(worker)))
    assert rows == [replace(hard, seconds=0.0)]
    looks = dict(pairwise((0, *job.spec.looks)))
    pieces = [[p for p in shaky.handed if low <= p.units[0].first < high] for low, high in looks.items()]
    assert max(map(len, pieces)) >= 4
    for handed in shaky.handed:  # a task of one image never reaches into a look that is not asked for
        assert all(
            any(u.first >= low and u.first + u.copies <= high for low, high in looks.items()) for u in handed.units
        )


# ---- cutting ---------------------------------------------------------------------------------------------------------


def test_what_is_begun_is_ended_before_more_is_begun(jobs: dict[str, Job]) -> None:
    spec = jobs["fixed"].spec
    queue = WorkQueue(iter([ImageState(spec, 7), ImageState(spec, 8)]))
    taken = [unit for _ in range(30) for unit in queue.cut(workers=1, batch=150, copies=0)]
    assert [u.index for u in taken] == sorted(u.index for u in taken)
    assert sum(u.copies for u in taken) == 2 * (spec.n0 + spec.n)
    assert queue.exhausted
    assert queue.cut(workers=1, batch=150, copies=0) == ()


def test_parcels_shrink_to_a_share_of_what_is_left_but_not_below_a_batch(jobs: dict[str, Job]) -> None:
    queue = WorkQueue(iter([ImageState(jobs["fixed"].spec, 0)]))
    sizes = []
    while units := queue.cut(workers=4, batch=100, copies=10**6):
        sizes.append(sum(unit.copies for unit in units))
    assert sizes[0] == 200  # an eighth of 1100, in whole passes: two tasks for each
    assert sum(sizes) == 1100
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-4:] == [100] * 4


def test_a_parcel_grows_to_the_length_that_its_worker_needs(jobs: dict[str, Job]) -> None:
    estimate = ThroughputEstimate()
    assert estimate.copies == 0
    for _ in range(40):
        estimate.update(500, 0.25)
    assert estimate.copies == 4000


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_copies_that_kill_every_worker_end_the_run_in_one_line(
    jobs: dict[str, Job], workers: dict[str, ImageCertifier]
) -> None:
    shaky = Shaky(workers["fixed"], loses=1.0)
    with pytest.raises(DeviceError, match=f"{ATTEMPTS} workers died while they counted the same copies") as caught:
        list(dispatch(jobs["fixed"].spec, jobs["fixed"].indices, shaky, identity(workers["fixed"])))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": 7}, "is not the one of that index here"),
        ({"stored": "0" * 64}, "is not the one of that index here"),
        ({"fingerprint": "f" * 64}, "read image 0 differently"),
    ],
)
def test_a_worker_that_sees_other_images_is_refused(
    jobs: dict[str, Job], workers: dict[str, ImageCertifier], change: dict, words: str
) -> None:
    class Elsewhere(Shaky):
        def receive(self) -> list[TaskResult]:
            (result,) = super().receive()
            assert result.counted is not None
            if len(self.handed) > len(self._held) + 2:  # not at first
                return [TaskResult(result.number, tuple(replace(each, **change) for each in result.counted))]
            return [result]

    job, worker = jobs["fixed"], workers["fixed"]
    with pytest.raises(DataError, match=words) as caught:
        list(dispatch(job.spec, job.indices, Elsewhere(worker, 1), identity(worker)))
    assert "\n" not in str(caught.value)


def test_votes_on_another_number_of_copies_are_not_added(jobs: dict[str, Job]) -> None:
    state = ImageState(jobs["fixed"].spec, 0)
    (unit,) = state.take(50)
    with pytest.raises(ValueError, match="50 copies were asked for, 49 were counted"):
        state.add(unit, Counts.of([(0, 49)]), 0.0)


def test_a_worker_with_another_noise_or_other_weights_does_not_start(jobs: dict[str, Job], tmp_path: Path) -> None:
    job = jobs["fixed"]
    with pytest.raises(SpecError, match="install the same version"):
        make_remote(replace(job, spec=replace(job.spec, noise="other")), "cpu", 8)
    real = plan(RunRequest(methods=("gaussian",), dataset="digits", sigmas=(0.5,), n=100, subset="first:1"))[0]
    (role, file), *_ = real.weights.items()
    copy = tmp_path / "network.safetensors"
    copy.write_bytes(file.path.read_bytes())
    moved = replace(real, weights={role: replace(file, path=copy)})
    assert make_remote(moved, "cpu", 8).batch == 8
    copy.write_bytes(copy.read_bytes()[:-1] + b"\1")
    with pytest.raises(WeightsError, match="give a path that all machines share"):
        make_remote(moved, "cpu", 8)


def test_a_job_for_elsewhere_holds_no_relative_path(jobs: dict[str, Job], monkeypatch: pytest.MonkeyPatch) -> None:
    job = jobs["fixed"]
    file, _, name = job.method.rpartition(":")
    monkeypatch.chdir(Path(file).parent)
    sent = portable(replace(job, method=f"{Path(file).name}:{name}", data_root=Path("data")))
    assert sent.method == job.method
    assert sent.data_root == Path(file).parent / "data"
    assert portable(replace(job, method="gaussian")).method == "gaussian"


@pytest.mark.parametrize(
    ("execution", "error", "words"),
    [
        (Execution(("cpu",), None, "dask"), UsageError, "no executor 'dask'; expected one of: local, ray, slurm"),
        (Execution(("cpu",), None, "slurm"), BenchError, r"no sbatch on this machine|needs submitit, which is not"),
    ],
)
def test_an_executor_that_is_not_here_leaves_nothing_behind(
    jobs: dict[str, Job], tmp_path: Path, execution: Execution, error: type[BenchError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        certify(jobs["fixed"], execution, tmp_path, lambda _run, _worker: None, lambda _row: None)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_machine_without_the_runs_arithmetic_can_still_ask_others_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(_network: object, device: str, precision: str) -> None:
        if precision == "bf16":
            raise DeviceError(f"no bf16 products on {device}")

    monkeypatch.setattr(hard_labels, "optimise_for_inference", lacking)
    job = plan(RunRequest(methods=("rrcm",), dataset="digits", sigmas=(0.5,), n=100, limit=1, precision="bf16"))[0]
    with pytest.raises(DeviceError, match="no bf16 products on cpu"):
        make_worker(job, "cpu", 8)
    assert tried_here(job, None).classifier.num_classes == 10


@pytest.mark.parametrize("name", ["ray", "slurm"])
def test_a_missing_extra_is_named_with_its_command(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, {"ray": "ray", "slurm": "submitit"}[name], None)
    with (
        pytest.raises(DeviceError, match=rf"pip install 'rrcm-bench\[{name}\]'"),
        pool(Execution(("cpu",), None, name), tmp_path),
    ):
        pass


def test_a_counted_unit_says_whose_it_is(workers: dict[str, ImageCertifier]) -> None:
    worker = workers["fixed"]
    (counted,) = worker.count([Unit(4, ESTIMATE, 0, 5)])
    assert isinstance(counted, Counted)
    assert (counted.label, counted.stored) == identity(worker)(4)
