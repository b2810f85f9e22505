"""One driver for workers anywhere: it cuts tasks of units, counts come back in any order, rows leave when decided.

Workers hold no result: one that dies costs its tasks' time, one that joins is handed some. The last hard images are
cut over all workers, a piece of the same look each: noise is keyed by copy, so that the pieces' votes add up. One pool
serves many jobs: `bench.runs.schedule` says which of them has the next task.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from bench.runs.image_state import Counted, ImageState, Unit, started
from bench.types import Row, RunSpec, errors
from bench.types.errors import BenchError, DataError, DeviceError

MAX_ASKED = 2  # tasks a worker has: one in the making and one that waits, so that none idles
# Long beside a task's way to a worker and back (milliseconds), short beside the patience of a user.
TASK_SECONDS = 2.0
# Of the driver for a task: cut, sent, its result read; tasks of many workers must not come in faster than that.
DRIVER_SECONDS = 1e-3
ATTEMPTS = 4  # workers that a task may lose before it is held to be what kills them


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is handed at a time; without units, to build the job's network and to say who it is."""

    number: int
    units: tuple[Unit, ...]
    lost: int = 0  # workers that died on it
    job: int = 0  # whose images they are

    @property
    def copies(self) -> int:
        """Of all its units."""
        return sum(unit.copies for unit in self.units)


@dataclass(frozen=True, slots=True)
class Failure:
    """What a worker raised, in words: an exception itself may not be readable elsewhere, nor be safe to read."""

    kind: str  # the exception's type
    message: str
    trace: str = ""  # its traceback, as text

    def error(self) -> BenchError:
        """The exception, where a worker raised it on purpose; else one that says its first line."""
        kind = getattr(errors, self.kind, None)
        if isinstance(kind, type) and issubclass(kind, BenchError):
            return kind(self.message)
        return DeviceError(f"a worker failed ({self.kind}: {self.message}); `rrcm-bench check` the method")


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What became of a task: its units' votes, or what went wrong, or None of both where its worker is gone."""

    number: int
    counted: tuple[Counted, ...] | None
    worker: Mapping[str, Any] | None = None  # host, device, batch and torch of whoever counted
    failure: Failure | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class WorkerTasks:
    """What one worker was asked."""

    tasks: dict[Any, int] = field(default_factory=dict)  # awaited -> number of the task
    jobs: set[int] = field(default_factory=set)  # those that it has been told how to build
    last: int | None = None  # the job of its last task


WorkerT = TypeVar("WorkerT", bound=WorkerTasks)


def choose(ready: Iterable[WorkerT], task: Task) -> tuple[WorkerT, bool]:
    """The worker with the fewest tasks, of equals one that is at the same job; and whether the job is new to it."""
    worker = min(ready, key=lambda each: (len(each.tasks), each.last != task.job))
    new = task.job not in worker.jobs
    worker.jobs.add(task.job)
    worker.last = task.job
    return worker, new


class Pool(Protocol):
    """Workers somewhere, which come and go."""

    @property
    def workers(self) -> int:
        """How many are ready now."""

    def room(self) -> int:
        """How many more tasks they would take now."""

    def send(self, task: Task) -> None:
        """Hand a task to one of them."""

    def receive(self) -> list[TaskResult]:
        """What has come back; waits a little where nothing has.

        Raises: DeviceError where no worker is left and none can be had.
        """


class PendingImage(Protocol):
    """What is asked of an image under way by those who only cut its work."""

    @property
    def pending(self) -> int:
        """Copies asked for and not yet taken."""

    def take(self, room: int) -> list[Unit]:
        """At most `room` of them, which are then no longer asked for."""


@dataclass(slots=True)
class WorkQueue:
    """Images that ask for copies, the oldest first: what is begun is ended before more is begun."""

    waiting: Iterator[PendingImage]  # images that are not begun
    pending: int = 0  # copies that the begun ones ask for
    exhausted: bool = False  # all are begun
    _asking: list[tuple[int, PendingImage]] = field(default_factory=list)  # a heap, by order of beginning
    _order: Iterator[int] = field(default_factory=count)
    _places: dict[int, int] = field(default_factory=dict)  # id of a begun image -> its place in that order

    def ask(self, state: PendingImage) -> None:
        """A begun image asks for more copies."""
        self.pending += state.pending
        heapq.heappush(self._asking, (self._places[id(state)], state))

    def end(self, state: PendingImage) -> None:
        """A begun image asks for nothing more."""
        del self._places[id(state)]

    def cut(self, *, workers: int, batch: int, copies: int, least: int = 0) -> tuple[Unit, ...]:
        """The next task: about `copies`, fewer where few are left for all workers, none where nobody asks.

        Source: Polychronopoulos & Kuck 1987, guided self-scheduling: a share of what is left, at least so many.
        """
        copies = max(copies, batch)
        while self.pending < MAX_ASKED * workers * copies:
            state = next(self.waiting, None)
            if state is None:
                self.exhausted = True
                break
            self._places[id(state)] = next(self._order)
            self.ask(state)
        share = min(copies, -(-self.pending // max(MAX_ASKED * workers, 1)))
        room = max(1, -(-max(share, least) // batch)) * batch  # whole passes
        units: list[Unit] = []
        while self._asking and room:
            _, state = self._asking[0]
            taken = state.take(room)
            units += taken
            room -= sum(unit.copies for unit in taken)
            if not state.pending:
                heapq.heappop(self._asking)
        self.pending -= sum(unit.copies for unit in units)
        return tuple(units)


@dataclass(slots=True)
class ThroughputEstimate:
    """How many copies a worker counts in the time of a task; learnt from the tasks so far."""

    rate: float = 0.0  # copies a second of one worker

    def update(self, copies: int, seconds: float) -> None:
        """A task took so long."""
        if seconds > 0:
            self.rate = 0.8 * self.rate + 0.2 * copies / seconds if self.rate else copies / seconds

    @property
    def copies(self) -> int:
        """For a task of the wanted length; 0 while nothing is known."""
        return int(self.rate * TASK_SECONDS)

    def least(self, workers: int) -> int:
        """The fewest copies with which the driver keeps up with so many workers."""
        return int(self.rate * min(workers * DRIVER_SECONDS, TASK_SECONDS))


def cut_for(queue: WorkQueue, estimate: ThroughputEstimate, workers: int, batch: int) -> tuple[Unit, ...]:
    """The next task for so many workers of that pace."""
    return queue.cut(workers=workers, batch=batch, copies=estimate.copies, least=estimate.least(workers))


@dataclass(slots=True)
class JobDispatch:
    """One job's images under way: it cuts the next task, and takes the votes that come back.

    `identity` gives an image's label and the sha256 of its file on this machine: workers elsewhere must see the same.
    """

    spec: RunSpec
    identity: Callable[[int], tuple[int, str]]
    queue: WorkQueue
    batch: int  # copies of a forward pass, of the worker with the largest
    estimate: ThroughputEstimate = field(default_factory=ThroughputEstimate)
    _states: dict[int, ImageState] = field(default_factory=dict)
    _seen: dict[int, tuple[int, str, str]] = field(default_factory=dict)  # under way -> label, stored, fingerprint

    @classmethod
    def of(
        cls,
        spec: RunSpec,
        indices: Iterable[int],
        identity: Callable[[int], tuple[int, str]],
        batch: int,
        given: Mapping[int, Row] = MappingProxyType({}),
    ) -> JobDispatch:
        """For these images; `given`: rows of fewer copies, whose votes are taken over."""
        states: dict[int, ImageState] = {}

        def begun(index: int) -> ImageState:
            return states.setdefault(index, started(spec, index, given))

        return cls(spec, identity, WorkQueue(map(begun, indices)), batch, _states=states)

    def cut(self, workers: int) -> tuple[Unit, ...]:
        """The next task's units for so many workers; none where no image asks for more now."""
        return cut_for(self.queue, self.estimate, workers, self.batch)

    @property
    def done(self) -> bool:
        """Whether every image has its row."""
        return self.queue.exhausted and not self._states

    def take_result(self, task: Task, result: TaskResult) -> Iterator[Row]:
        """Rows of the images that the votes decide.

        Raises: DataError where a worker sees other images.
        """
        counted = result.counted or ()
        self.batch = max(self.batch, (result.worker or {}).get("batch", 1))
        self.estimate.update(task.copies, sum(each.seconds for each in counted))
        for each in counted:
            index = each.unit.index
            _same(self._seen, each, self.identity)
            state = self._states[index]
            state.add(each.unit, each.counts, each.seconds)
            if not state.complete:
                continue
            reason = state.decide(each.label)
            if reason is None:
                self.queue.ask(state)
                continue
            self.queue.end(state)
            del self._states[index], self._seen[index]
            yield state.row(each.fingerprint, each.label, reason)


@dataclass(slots=True)
class Dispatcher:
    """A pool's tasks: those of the first job that has any to give, and of the next where that leaves workers idle."""

    pool: Pool
    _jobs: dict[int, JobDispatch | None] = field(default_factory=dict)  # the oldest first; None: it is being built
    _waiting: list[Task] = field(default_factory=list)  # handed out before anything else
    _out: dict[int, Task] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    def begin(self, job: int) -> None:
        """Let a worker build the job's network; its answer has no votes."""
        self._jobs[job] = None
        self._waiting.append(Task(next(self._numbers), (), job=job))

    def open(self, job: int, images: JobDispatch) -> None:
        """The job's images may be handed out."""
        self._jobs[job] = images

    def drop(self, job: int) -> None:
        """Nothing more of the job: it is done, or failed."""
        self._jobs.pop(job, None)
        self._waiting = [task for task in self._waiting if task.job != job]

    def hand_out(self) -> None:
        """Give the workers what they have room for."""
        for _ in range(self.pool.room()):
            task = self._waiting.pop() if self._waiting else self._cut()
            if task is None:
                return
            self._out[task.number] = task
            self.pool.send(task)

    def receive(self) -> Iterator[tuple[Task, TaskResult]]:
        """Answers to tasks of the jobs that are here, each once; a task whose worker is gone goes to another.

        Raises: DeviceError where no worker is left and none can be had.
        """
        for result in self.pool.receive():
            task = self._out.pop(result.number, None)
            if task is None or task.job not in self._jobs:  # it was given up, and another worker has counted it
                continue
            if result.counted is not None or result.failure:
                yield task, result
                continue
            try:
                self._waiting.append(again(task, next(self._numbers)))
            except DeviceError as error:
                yield task, TaskResult(task.number, None, failure=Failure(type(error).__name__, str(error)))

    def _cut(self) -> Task | None:
        for job, images in self._jobs.items():
            if images and (units := images.cut(self.pool.workers)):
                return Task(next(self._numbers), units, job=job)
        return None


def again(task: Task, number: int) -> Task:
    """The same units under another number, for another worker.

    Raises: DeviceError where too many have died of them.
    """
    if task.lost + 1 >= ATTEMPTS:
        images = ", ".join(str(index) for index in sorted({unit.index for unit in task.units})[:5])
        what = f"counted the same copies (images {images})" if task.units else "built the network"
        raise DeviceError(
            f"{ATTEMPTS} workers died while they {what}: out of memory, or killed; the rows so far are kept: "
            "the same command goes on from them, with a smaller --batch or fewer --workers if it was memory"
        )
    return Task(number, task.units, task.lost + 1, task.job)


def _same(seen: dict[int, tuple[int, str, str]], counted: Counted, identity: Callable[[int], tuple[int, str]]) -> None:
    """Refuse votes on another image than this machine's, or than another worker's, of that index."""
    index, found = counted.unit.index, (counted.label, counted.stored, counted.fingerprint)
    if seen.get(index) == found:
        return
    here = identity(index)
    if here != found[:2]:
        raise DataError(
            f"a worker's image {index} is not the one of that index here (label {here[0]}, its {found[0]}); "
            "expected the same files on every machine: give --data-root a folder that all of them share"
        )
    if seen.setdefault(index, found) != found:
        raise DataError(
            f"two workers read image {index} differently (pixels {seen[index][2][:10]} and {found[2][:10]}); expected "
            "the same versions on every machine: install from constraints.txt on all of them"
        )
