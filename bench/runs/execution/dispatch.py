"""One driver for workers anywhere: it cuts tasks of units, counts come back in any order, rows leave when decided.

Workers hold no result: one that dies costs its tasks' time, one that joins is handed some. The last hard images are
cut over all workers, a piece of the same look each: noise is keyed by copy, so that the pieces' votes add up.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Protocol

from bench.runs.image_state import Counted, ImageState, Unit, started
from bench.types import Row, RunSpec
from bench.types.errors import DataError, DeviceError

MAX_ASKED = 2  # tasks a worker has: one in the making and one that waits, so that none idles
# Long beside a task's way to a worker and back (milliseconds), short beside the patience of a user.
TASK_SECONDS = 2.0
# Of the driver for a task: cut, sent, heard. Tasks of many workers must not come in faster than it sees to them.
DRIVER_SECONDS = 1e-3
ATTEMPTS = 4  # workers that a task may lose before it is held to be what kills them


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is handed at a time."""

    number: int
    units: tuple[Unit, ...]
    lost: int = 0  # workers that died on it

    @property
    def copies(self) -> int:
        """Of all its units."""
        return sum(unit.copies for unit in self.units)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What became of a task: its units' votes, or None where its worker is gone."""

    number: int
    counted: tuple[Counted, ...] | None


class Pool(Protocol):
    """Workers somewhere, which come and go."""

    @property
    def workers(self) -> int:
        """How many are ready now."""

    @property
    def batch(self) -> int:
        """Copies that their passes take; a task below that would leave a pass half empty."""

    def room(self) -> int:
        """How many more tasks they would take now."""

    def send(self, task: Task) -> None:
        """Hand a task to one of them."""

    def receive(self) -> list[TaskResult]:
        """What has come back; waits a little where nothing has.

        Raises: what a worker raised; DeviceError where no worker is left and none can be had.
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

    def heard(self, copies: int, seconds: float) -> None:
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


def dispatch(
    spec: RunSpec,
    indices: Iterable[int],
    pool: Pool,
    identity: Callable[[int], tuple[int, str]],
    given: Mapping[int, Row] = MappingProxyType({}),
) -> Iterator[Row]:
    """Rows of the images, in any order, each as soon as it is decided.

    `identity` gives an image's label and the sha256 of its file on this machine: workers elsewhere must see the same.
    `given`: rows of fewer copies, whose votes are taken over.
    Raises: what a worker raises; DataError where a worker sees other images; DeviceError where workers die of a task.
    """
    states: dict[int, ImageState] = {}

    def begun(index: int) -> ImageState:
        return states.setdefault(index, started(spec, index, given))

    queue, estimate, numbers = WorkQueue(map(begun, indices)), ThroughputEstimate(), count()
    seen: dict[int, tuple[int, str, str]] = {}  # an image under way -> label, stored, fingerprint
    out: dict[int, Task] = {}
    lost: list[Task] = []
    while True:
        for _ in range(pool.room()):
            if lost:
                task = lost.pop()
            elif units := cut_for(queue, estimate, pool.workers, pool.batch):
                task = Task(next(numbers), units)
            else:
                break
            out[task.number] = task
            pool.send(task)
        if queue.exhausted and not states:
            return
        for result in pool.receive():
            handed = out.pop(result.number, None)
            if handed is None:  # it was given up, and another worker has counted it
                continue
            if result.counted is None:
                lost.append(_again(handed, next(numbers)))
                continue
            estimate.heard(handed.copies, sum(each.seconds for each in result.counted))
            for each in result.counted:
                index = each.unit.index
                _same(seen, each, identity)
                state = states[index]
                state.add(each.unit, each.counts, each.seconds)
                if not state.complete:
                    continue
                reason = state.decide(each.label)
                if reason is None:
                    queue.ask(state)
                    continue
                queue.end(state)
                del states[index], seen[index]
                yield state.row(each.fingerprint, each.label, reason)


def _again(task: Task, number: int) -> Task:
    """The same units under another number, for another worker."""
    if task.lost + 1 >= ATTEMPTS:
        images = ", ".join(str(index) for index in sorted({unit.index for unit in task.units})[:5])
        raise DeviceError(
            f"{ATTEMPTS} workers died while they counted the same copies (images {images}); the rows so far are kept: "
            "the same command goes on from them, with a smaller --batch if it was memory"
        )
    return Task(number, task.units, task.lost + 1)


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
