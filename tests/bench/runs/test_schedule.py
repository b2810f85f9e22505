"""Many jobs on one pool: it is asked once, the rows are those of each job alone, and a failing job takes none along."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from places import SUPPORT
from plane_runs import REQUEST, compute, timeless

from bench.runs import certify, schedule
from bench.runs.certify import Job
from bench.runs.execution.dispatch import MAX_ASKED, Task, TaskResult
from bench.runs.execution.worker import HELD, Worker
from bench.runs.failures import failures_in
from bench.runs.image_state import ImageState
from bench.runs.locks import drawing
from bench.runs.request import plan
from bench.runs.schedule import Failed, Listener, certify_all
from bench.runs.status import DONE, FAILED, PENDING, RUNNING, Reader, count, seconds_left
from bench.runs.store import Run, folder_name
from bench.types import Execution, Row
from bench.types.errors import DeviceError, PluginError

FAULTY = f"{SUPPORT / 'faulty_method.py'}:FAULTY"
ONE_DEVICE = Execution(("cpu",), 50)
TWO = Execution(("cpu", "cpu"), 50)


@dataclass
class InProcess:
    """Workers in this process, which answer the latest task first, and die of a job's tasks if told to."""

    deadly: int | None = None
    workers: int = 3
    handed: list[Task] = field(default_factory=list)
    _worker: Worker = field(default_factory=lambda: Worker("cpu", 50))
    _makers: dict = field(default_factory=dict)
    _held: list[Task] = field(default_factory=list)

    def add(self, job: int, maker) -> None:
        self._makers[job] = maker

    def room(self) -> int:
        return MAX_ASKED * self.workers - len(self._held)

    def send(self, task: Task) -> None:
        self.handed.append(task)
        self._held.append(task)

    def receive(self) -> list[TaskResult]:
        if not self._held:
            return []
        task = self._held.pop()
        if task.job == self.deadly:
            return [TaskResult(task.number, None)]
        return [self._worker.count(task, None if self._worker.knows(task.job) else self._makers[task.job])]


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[InProcess]:
    asked: list[InProcess] = []

    @contextmanager
    def pool(_execution: Execution, _folder: Path) -> Iterator[InProcess]:
        asked.append(InProcess())
        yield asked[-1]

    monkeypatch.setattr(schedule, "pool", pool)
    return asked


def listener(told: list[str] | None = None) -> Listener:
    said = [] if told is None else told
    return Listener(
        look=lambda _job, _worker: (),
        start=lambda job, _run, _worker, _warnings: said.append(f"start {job.spec.sigma:g}"),
        row=lambda _job, _row: None,
        end=lambda job, _run: said.append(f"end {job.spec.sigma:g}"),
        fail=lambda failed: said.append(f"fail {failed.job.spec.sigma:g}"),
    )


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    return plan(replace(REQUEST, sigmas=(0.25, 0.5, 1.0), n=500))


@pytest.fixture(scope="module")
def alone(jobs: list[Job], tmp_path_factory: pytest.TempPathFactory) -> list:
    out = tmp_path_factory.mktemp("alone")
    return [timeless(compute(job, out, ONE_DEVICE)) for job in jobs]


def faulty(**settings: str) -> Job:
    words = tuple(f"{key}={value}" for key, value in settings.items())
    request = replace(REQUEST, methods=(FAULTY,), certifier="cohen", radii=(), n=100, params=words)
    return plan(request)[0]


def test_one_pool_is_asked_for_all_jobs_and_each_has_the_rows_of_one_alone(
    jobs: list[Job], alone: list, pools: list[InProcess], tmp_path: Path
) -> None:
    made = certify_all(jobs, TWO, tmp_path, listener(), keep_going=False)
    assert len(pools) == 1
    assert [timeless(run) for run in made if isinstance(run, Run)] == alone
    order = [task.job for task in pools[0].handed]
    assert sorted(set(order)) == [0, 1, 2]
    assert certify_all(jobs, TWO, tmp_path, listener(), keep_going=False) == made
    assert len(pools) == 1  # of a complete plan nobody is asked


def test_the_next_job_begins_while_the_last_ends(jobs: list[Job], pools: list[InProcess], tmp_path: Path) -> None:
    told: list[str] = []
    certify_all(jobs, TWO, tmp_path, listener(told), keep_going=False)
    assert told.index("start 0.5") < told.index("end 0.25")
    order = [task.job for task in pools[0].handed]
    first_of_next, last_of_first = order.index(1), len(order) - 1 - order[::-1].index(0)
    assert first_of_next < last_of_first


def test_processes_of_two_devices_serve_all_jobs_and_one_that_is_killed_costs_no_row(
    jobs: list[Job], alone: list, tmp_path: Path
) -> None:
    killed: list[int] = []

    def strike(_job: Job, _row: object) -> None:
        if not killed:
            killed.extend(child.pid or 0 for child in multiprocessing.active_children()[:1])
            os.kill(killed[0], signal.SIGKILL)

    made = certify_all(jobs[:2], TWO, tmp_path, replace(listener(), row=strike), keep_going=False)
    assert killed
    assert [timeless(run) for run in made if isinstance(run, Run)] == alone[:2]


@pytest.mark.parametrize("execution", [ONE_DEVICE, TWO], ids=["here", "by workers"])
def test_a_failing_job_is_told_as_its_own_and_the_others_are_computed(
    execution: Execution, jobs: list[Job], alone: list, pools: list[InProcess], tmp_path: Path
) -> None:
    told: list[str] = []
    bad = faulty(fails="in predict")
    made = certify_all([jobs[0], bad, jobs[1]], execution, tmp_path, listener(told), keep_going=True)
    failed = made[1]
    assert isinstance(failed, Failed)
    assert "faulty_method.py" in failed.line
    assert "ValueError: my own fault" in failed.line
    assert "\n" not in failed.line
    assert failed.log is not None
    assert 'raise ValueError("my own fault")' in failed.log.read_text()
    assert [timeless(run) for run in made if isinstance(run, Run)] == alone[:2]
    assert told.count("fail 0.5") == 1
    assert failures_in(tmp_path) == {folder_name(bad.spec): (failed.line, failed.log)}
    with pytest.raises(PluginError if execution is TWO else ValueError, match="my own fault"):
        certify_all([bad, jobs[2]], execution, tmp_path, listener(), keep_going=False)
    assert not (tmp_path / folder_name(jobs[2].spec)).exists()


def test_a_run_that_ends_well_after_all_leaves_no_log(jobs: list[Job], tmp_path: Path) -> None:
    bad = faulty(fails="until it is mended", marker=str(tmp_path / "mended"))
    (first,) = certify_all([bad], ONE_DEVICE, tmp_path / "runs", listener(), keep_going=True)
    assert isinstance(first, Failed)
    assert first.log is not None
    (tmp_path / "mended").touch()
    (second,) = certify_all([bad], ONE_DEVICE, tmp_path / "runs", listener(), keep_going=True)
    assert isinstance(second, Run)
    assert second.done
    assert not first.log.parent.exists()


def test_a_job_that_kills_its_workers_fails_alone(
    jobs: list[Job], alone: list, pools: list[InProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def pool(_execution: Execution, _folder: Path) -> Iterator[InProcess]:
        yield InProcess(deadly=0)

    monkeypatch.setattr(schedule, "pool", pool)
    made = certify_all(jobs[:2], TWO, tmp_path, listener(), keep_going=True)
    assert isinstance(made[0], Failed)
    assert "workers died" in made[0].line
    assert isinstance(made[1], Run)
    assert timeless(made[1]) == alone[1]
    with pytest.raises(DeviceError, match="workers died while they built the network"):
        certify_all(jobs[:1], TWO, tmp_path / "other", listener(), keep_going=False)


def test_ctrl_c_unlocks_every_run(jobs: list[Job], pools: list[InProcess], tmp_path: Path) -> None:
    def stop(_job: Job, _row: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        certify_all(jobs, TWO, tmp_path, replace(listener(), row=stop), keep_going=True)
    (folder,) = (path.parent for path in tmp_path.glob("*/run.json"))
    with drawing(folder, wait=False) as waited:
        assert not waited
    assert not (tmp_path / "failures").exists()


def test_a_run_that_another_process_draws_does_not_stop_the_others(
    jobs: list[Job], alone: list, pools: list[InProcess], tmp_path: Path
) -> None:
    compute(jobs[0], tmp_path, ONE_DEVICE)
    folder = tmp_path / folder_name(jobs[1].spec)
    rows: list[Row] = []

    def stop(_job: Job, row: Row) -> None:
        rows.append(row)
        if len(rows) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        certify_all([jobs[1]], ONE_DEVICE, tmp_path, replace(listener(), row=stop), keep_going=False)
    ended, holding = threading.Event(), drawing(folder)
    holding.__enter__()
    told: list[str] = []

    def end(job: Job, _run: Run) -> None:
        told.append(f"end {job.spec.sigma:g}")
        if not ended.is_set() and job is jobs[0]:
            ended.set()
            holding.__exit__(None, None, None)

    made = certify_all(jobs[:2], TWO, tmp_path, replace(listener(), end=end), keep_going=False)
    assert [timeless(run) for run in made if isinstance(run, Run)] == alone[:2]
    assert told == ["end 0.25", "end 0.5"]


def test_a_worker_of_several_jobs_counts_each_in_its_own_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    set_: list[str] = []
    monkeypatch.setattr(certify, "ready_process", set_.append)
    requests = [replace(REQUEST, precision=precision) for precision in ("fp32", "tf32")]
    both = [plan(request)[0] for request in requests]
    worker = Worker("cpu", 8)
    for number, job in enumerate(both):
        answer = worker.count(Task(number, (), job=number), lambda d, b, job=job: certify.make_worker(job, d, b))
        assert answer.failure is None
    set_.clear()
    unit = Task(9, tuple(ImageState(both[0].spec, both[0].indices[0]).take(10)), job=0)
    worker.count(unit)
    worker.count(replace(unit, job=1))
    worker.count(unit)
    assert set_ == ["fp32", "tf32", "fp32"]


def test_a_worker_holds_no_more_networks_than_it_should() -> None:
    built: list[int] = []

    class Counter:
        batch, compile = 4, "never"

        def count(self, units):
            return []

    worker = Worker("cpu", None)
    for job in (0, 1, 0, 1, 2, 1, 0):
        maker = None if worker.knows(job) else (lambda _d, _b, job=job: (built.append(job), Counter())[1])
        assert worker.count(Task(0, (), job=job), maker).counted == ()
    assert HELD == 2
    assert built == [0, 1, 2, 0]


# ---- status ----------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_the_status_of_a_plan_is_what_its_runs_are_and_writes_nothing(jobs: list[Job], tmp_path: Path) -> None:
    bad = faulty(fails="in predict")
    certify_all([jobs[0], bad], ONE_DEVICE, tmp_path, listener(), keep_going=True)
    specs = [job.spec for job in (*jobs, bad)]
    before, reader = contents(tmp_path), Reader(tmp_path, specs)
    found = reader.read()
    assert [each.state for each in found] == [DONE, PENDING, PENDING, FAILED]
    assert found[0].images == 10
    assert "my own fault" in (found[3].reason or "")
    assert contents(tmp_path) == before
    assert count(found) == {DONE: 1, RUNNING: 0, PENDING: 2, FAILED: 1}

    def look(job: Job, _run: Run, _worker: object, _warnings: object) -> None:
        seen = reader.read()
        assert [each.state for each in seen] == [DONE, RUNNING, PENDING, FAILED]

    certify_all([jobs[1]], ONE_DEVICE, tmp_path, replace(listener(), start=look), keep_going=False)
    assert [each.state for each in reader.read()] == [DONE, DONE, PENDING, FAILED]
    assert Reader(tmp_path / "nowhere", specs).read()[0].state == PENDING


def test_a_killed_process_draws_nothing_any_more(jobs: list[Job], tmp_path: Path) -> None:
    run = compute(jobs[0], tmp_path, ONE_DEVICE)
    for path in run.path.glob("rows*"):
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    holder = run.path / ".holder"
    for pid, state in ((2**22 + 12345, PENDING), (1, RUNNING)):
        holder.write_text(json.dumps({"host": platform.node(), "pid": pid}))
        (found,) = Reader(tmp_path).read()
        assert (found.state, found.images) == (state, 3)


def test_the_time_left_goes_by_the_pace_of_the_same_method(jobs: list[Job], tmp_path: Path) -> None:
    run = compute(jobs[0], tmp_path, ONE_DEVICE)
    (rows,) = run.path.glob("rows-*")
    began = rows.rename(rows.with_name(f"rows-{time.strftime('%Y%m%dT%H%M%S', time.localtime(10**9))}-1-aaaaaa.jsonl"))
    os.utime(began, (10**9 + 20, 10**9 + 20))
    found = Reader(tmp_path, [job.spec for job in jobs]).read()
    samples = sum(row.samples for row in run.rows)
    assert found[0].rate == pytest.approx(samples / 20)
    most = 10 * (jobs[1].spec.n0 + jobs[1].spec.n)
    assert found[1].seconds_left == pytest.approx(most * 20 / samples)
    left, unknown = seconds_left(found)
    assert left == pytest.approx(2 * most * 20 / samples)
    assert unknown == 0
