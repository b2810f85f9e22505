"""Many jobs, one pool of workers: it is asked once, and the next job begins where the last leaves workers idle.

While one job is drawn the next is built here and looked at, in a thread. A job that fails is told to the listener, and
the others go on, where that is wanted.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from bench.runs.certify import (
    ImageCertifier,
    Job,
    certify_here,
    check_row,
    make_remote,
    missing,
    note_origin,
    portable,
    sealed,
    tried_here,
)
from bench.runs.execution.dispatch import Dispatcher, Failure, JobDispatch, Task, TaskResult
from bench.runs.execution.environment import environment
from bench.runs.execution.pools import WorkerPool, pool
from bench.runs.failures import forget, one_line, write_failure
from bench.runs.locks import drawing
from bench.runs.seals import seal_rows, untouched
from bench.runs.store import RUN_FILE, RowWriter, Run, folder_name, open_run, read_run, sweep
from bench.types import LOCAL, Execution, Row
from bench.types.errors import BenchError, PluginError
from bench.types.plugins import blame, plugin_errors

AT_ONCE = 2  # jobs whose images are handed out: the one that ends and the next
WAIT_SECONDS = 0.2
JOIN_SECONDS = 2.0  # that an interrupted look has to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A job that could not be computed whole."""

    job: Job
    line: str  # in one line, what went wrong
    log: Path | None  # where the rest stands; None where it could not be written


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who is told of each job: it may be looked at before its first row, from any thread; the rest comes in order."""

    look: Callable[[Job, ImageCertifier], tuple[str, ...]]  # warnings
    start: Callable[[Job, Run, ImageCertifier, tuple[str, ...]], None]
    row: Callable[[Job, Row], None]
    end: Callable[[Job, Run], None]
    fail: Callable[[Failed], None]


def certify_all(
    jobs: Sequence[Job], execution: Execution, out: Path, listener: Listener, *, keep_going: bool
) -> list[Run | Failed]:
    """What the jobs' folders under `out` lack is computed; the runs as they then stand, in the order of the jobs.

    Raises: what the first job raises, unless `keep_going`; DeviceError where no worker can be had.
    """
    made: dict[int, Run | Failed] = {}

    def failed(number: int, error: BaseException, trace: str = "") -> None:
        if not keep_going or not (told := _as_jobs(error)):
            raise error
        made[number] = _told(jobs[number], told, trace, out, listener)

    def ended(number: int, run: Run) -> None:
        forget(run.path)
        made[number] = run
        listener.end(jobs[number], run)

    if execution.executor == LOCAL and len(execution.devices) == 1:
        _one_by_one(jobs, execution, out, listener, ended, failed)
    else:
        with ExitStack() as held:
            driver = _Driver(jobs, execution, out, listener, ended, failed, held)
            driver.run()
    return [made[number] for number in range(len(jobs))]


def _as_jobs(error: BaseException) -> Exception | None:
    """The error as a job's own, told as its plug-in's where it is; None for what ends all, as Ctrl-C does."""
    if isinstance(error, BenchError | KeyboardInterrupt):
        return error if isinstance(error, BenchError) else None
    if said := blame(error):
        made = PluginError(said)
        made.__cause__ = error
        return made
    return error if isinstance(error, Exception) else None


def _told(job: Job, error: Exception, trace: str, out: Path, listener: Listener) -> Failed:
    line = one_line(error)
    log = write_failure(out / folder_name(job.spec), line, trace or "".join(traceback.format_exception(error)))
    found = Failed(job=job, line=line, log=log)
    listener.fail(found)
    return found


Ended = Callable[[int, Run], None]
Failing = Callable[..., None]


def _one_by_one(
    jobs: Sequence[Job], execution: Execution, out: Path, listener: Listener, ended: Ended, failed: Failing
) -> None:
    """Each job in this process, after the other."""
    import torch

    threads = torch.get_num_threads()  # a network chooses a number that is its own
    for number, job in enumerate(jobs):
        torch.set_num_threads(threads)

        def begin(run: Run, worker: ImageCertifier, job: Job = job) -> None:
            listener.start(job, run, worker, () if run.rows else listener.look(job, worker))

        try:
            run = certify_here(job, execution, out, begin, partial(listener.row, job))
        except BaseException as error:  # a job's fault, whatever it is, must not end the others
            failed(number, error)
        else:
            ended(number, run)


@dataclass(slots=True)
class _Prepared:
    """A job that this machine could build, or what it raised."""

    number: int
    worker: ImageCertifier | None = None
    warnings: tuple[str, ...] = ()
    complete: Run | None = None  # nothing is missing of it
    held: ExitStack = field(default_factory=ExitStack)  # the right to draw it, where its folder was there
    locked: bool = False
    error: Exception | None = None


@dataclass(slots=True)
class _Drawn:
    """A job whose images are handed out."""

    prepared: _Prepared
    workers: list[Mapping[str, Any]] = field(default_factory=list)
    run: Run | None = None
    images: JobDispatch | None = None
    writer: RowWriter | None = None


@dataclass(slots=True)
class _Driver:
    """It decides and writes, and counts nothing."""

    jobs: Sequence[Job]
    execution: Execution
    out: Path
    listener: Listener
    ended: Ended
    failed: Failing
    held: ExitStack
    drawn: dict[int, _Drawn] = field(default_factory=dict)
    dispatcher: Dispatcher | None = None
    pool: WorkerPool | None = None
    _asked: Queue[int | None] = field(default_factory=Queue)  # None: no more
    _ready: Queue[_Prepared] = field(default_factory=Queue)
    _ahead: int = 0  # jobs asked of the thread and not yet taken from it
    _over: bool = False

    def run(self) -> None:
        """All jobs, to their end."""
        # Not one that the end of this process waits for: it may be in a look, or wait for another process's run.
        thread = Thread(target=self._prepare_all, daemon=True)
        thread.start()
        self.held.callback(self._leave, thread)
        numbers = iter(range(len(self.jobs)))
        left = len(self.jobs)
        while True:
            if not self._ahead and left:
                self._asked.put(next(numbers))
                self._ahead, left = 1, left - 1
            if self._ahead and self._has_room():
                with suppress(Empty):
                    prepared = self._ready.get(timeout=0 if self.drawn else WAIT_SECONDS)
                    self._ahead -= 1
                    self._begin(prepared)
            if not self._ahead and not left and not self.drawn:
                return
            if self.dispatcher is not None:
                self._work(self.dispatcher)

    def _has_room(self) -> bool:
        """Whether the last of the jobs under way has no image left to begin, so that workers may become idle."""
        last = next(reversed(self.drawn.values()), None)
        return last is None or (len(self.drawn) < AT_ONCE and last.images is not None and last.images.queue.exhausted)

    def _work(self, dispatcher: Dispatcher) -> None:
        dispatcher.hand_out()
        for task, result in dispatcher.receive():
            drawn = self.drawn.get(task.job)
            if drawn is None:
                continue
            try:
                if result.failure is not None:
                    self._fail(task.job, result.failure.error(), result.failure)
                    continue
                self._store(dispatcher, drawn, task, result)
            except Exception as error:
                if task.job not in self.drawn:  # it was told, and nothing else is to go on
                    raise
                self._fail(task.job, error)

    def _store(self, dispatcher: Dispatcher, drawn: _Drawn, task: Task, result: TaskResult) -> None:
        job = self.jobs[task.job]
        if drawn.images is None:
            drawn.workers.append(result.worker or {})
            if not self._open(dispatcher, drawn, job):
                return
        assert drawn.images is not None  # noqa: S101  it is open
        assert drawn.writer is not None  # noqa: S101
        assert drawn.run is not None  # noqa: S101
        for row in drawn.images.take_result(task, result) if task.units else ():
            check_row(job, drawn.run, row)
            drawn.writer.append(row)
            self.listener.row(job, row)
        if drawn.images.done:
            drawn.writer.close()
            whole = seal_rows(read_run(drawn.run.path))
            self._close(task.job)
            self.ended(task.job, whole)

    def _begin(self, prepared: _Prepared) -> None:
        """A job that this machine could build goes to the workers; they are asked for with the first."""
        number = prepared.number
        if prepared.error is not None:
            prepared.held.close()
            self.failed(number, prepared.error)
            return
        if prepared.complete is not None and prepared.worker is not None:
            prepared.held.close()
            self.listener.start(self.jobs[number], prepared.complete, prepared.worker, ())
            self.ended(number, prepared.complete)
            return
        self.drawn[number] = _Drawn(prepared)
        if self.pool is None or self.dispatcher is None:
            self.pool = self.held.enter_context(pool(self.execution, self.out.absolute()))
            self.dispatcher = Dispatcher(self.pool)
        many = len(self.execution.devices) if self.execution.executor == LOCAL else self.execution.workers or 1
        images = self.jobs[number].spec.images / many
        make = partial(make_remote, portable(self.jobs[number]), compiling=self.execution.compile, images=images)
        self.pool.add(number, make)
        self.dispatcher.begin(number)

    def _open(self, dispatcher: Dispatcher, drawn: _Drawn, job: Job) -> bool:
        """A worker has built the network: the run's folder is made; whether it may be drawn now."""
        from filelock import Timeout

        prepared = drawn.prepared
        assert prepared.worker is not None  # noqa: S101  it was built here before
        here = {**environment(("cpu",), job.spec.precision), "workers": list(drawn.workers)}
        classes = prepared.worker.dataset.num_classes
        opened = partial(open_run, self.out, job.spec, self.execution, here, classes, job.table_radii, job.made_from)
        run = opened()
        if not prepared.locked:
            try:
                prepared.held.enter_context(drawing(run.path, wait=False))
            except Timeout:  # another process began it meanwhile: the thread waits for that, and not the other jobs
                self._close(prepared.number)
                self._asked.put(prepared.number)
                self._ahead += 1
                return False
            run = opened()
        sweep(run.path)
        todo = missing(job, run)
        drawn.run = run
        note_origin(job, run)
        batch = drawn.workers[-1].get("batch", 1)
        drawn.images = JobDispatch.of(job.spec, todo, job.images.__getitem__, batch, job.given)
        drawn.images.queue.exhausted = not todo
        drawn.writer = prepared.held.enter_context(RowWriter(run.path, job.spec.digest()))
        self.listener.start(job, run, prepared.worker, () if run.rows else prepared.warnings)
        dispatcher.open(prepared.number, drawn.images)
        return True

    def _close(self, number: int) -> None:
        drawn = self.drawn.pop(number)
        if self.dispatcher is not None:
            self.dispatcher.drop(number)
        drawn.prepared.held.close()

    def _fail(self, number: int, error: Exception, failure: Failure | None = None) -> None:
        self._close(number)
        self.failed(number, error, failure.trace if failure else "")

    def _leave(self, thread: Thread) -> None:
        """Whatever ends it, no run stays locked."""
        self._over = True
        self._asked.put(None)
        for number in list(self.drawn):
            with suppress(Exception):  # what ended it says more
                self._close(number)
        thread.join(JOIN_SECONDS)
        with suppress(Empty):
            while True:
                self._ready.get_nowait().held.close()

    def _prepare_all(self) -> None:
        while (number := self._asked.get()) is not None:
            made = self._prepare(number)
            if self._over:
                made.held.close()
                return
            self._ready.put(made)

    def _prepare(self, number: int) -> _Prepared:
        """What this machine's CPU can refuse is refused before workers have it; and the job is looked at."""
        job, made = self.jobs[number], _Prepared(number)
        try:
            with plugin_errors():
                made.worker = tried_here(job, self.execution.batch)
                folder = self.out / folder_name(job.spec)
                there = untouched(read_run(folder)) if (folder / RUN_FILE).exists() else None
                if there and missing(job, there):
                    made.held.enter_context(drawing(folder))
                    made.locked = True
                    there = untouched(read_run(folder))
                if there and not missing(job, there):
                    made.complete = sealed(there)
                elif there is None or not there.rows:
                    made.warnings = self.listener.look(job, made.worker)
        except Exception as error:  # told where the job's turn is
            made.error = error
        return made
