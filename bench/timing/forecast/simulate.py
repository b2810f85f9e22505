"""The scheduler on many devices, simulated: `bench.runs.execution.dispatch` cuts the tasks, a clock takes the time."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from bench.runs.execution.dispatch import DRIVER_SECONDS, MAX_ASKED, ThroughputEstimate, WorkQueue, cut_for
from bench.runs.image_state import Unit
from bench.smoothing.noise import ESTIMATE

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds of the parts of a run."""

    sample: float  # one copy through the method, in full batches
    batch: int  # copies a pass; the last pass of a task is paid whole
    # Of the one driver, which decides and writes. Measured without networks on one busy core of an AMD EPYC: 0.64 ms a
    # task of one unit through Ray, taken as 1; 0.04 ms a unit for its decision and row, 0.01 ms for its way in a
    # larger task.
    task: float = DRIVER_SECONDS
    unit: float = 5.0e-5


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a schedule takes."""

    seconds: float  # until the last row
    work: float  # device seconds of the copies that count
    driver: float  # busy seconds of the driver

    def efficiency(self, devices: int) -> float:
        """The share of the devices' time that went into copies that count."""
        return self.work / (self.seconds * devices) if self.seconds else 1.0


@dataclass(slots=True, eq=False)
class Paced:
    """An image of which only the number of looks is known."""

    index: int
    sizes: Sequence[int]  # copies of each look
    looks: int  # that it takes
    taken: int = 0  # looks asked for before the present one
    pending: int = 0
    out: int = 0

    def __post_init__(self) -> None:
        self.pending = self.sizes[0]

    def take(self, room: int) -> list[Unit]:
        """At most `room` of the copies asked for."""
        now = min(room, self.pending)
        self.pending -= now
        self.out += now
        return [Unit(self.index, ESTIMATE, 0, now)]

    def back(self, copies: int) -> bool | None:
        """Copies are counted: whether the image is decided; None while its look is not complete."""
        self.out -= copies
        if self.out or self.pending:
            return None
        self.taken += 1
        if self.taken == self.looks:
            return True
        self.pending = self.sizes[self.taken]
        return False


@dataclass(slots=True)
class Clock:
    """Devices and the driver at work."""

    costs: Costs
    free_at: list[float]  # a device: when it has done what it has
    room: list[int]  # a device: tasks that it would take
    roomy: set[int]
    driver_at: float = 0.0
    driver_busy: float = 0.0
    events: list[tuple[float, int, int, tuple[Unit, ...]]] = field(default_factory=list)
    sent: int = 0

    def send(self, units: tuple[Unit, ...]) -> None:
        """Hand a task to the device with the most room."""
        device = max(self.roomy, key=lambda d: self.room[d]) if len(self.roomy) > 1 else next(iter(self.roomy))
        copies = sum(unit.copies for unit in units)
        passes = -(-copies // self.costs.batch)
        start = max(self.driver_at, self.free_at[device])
        self.free_at[device] = start + passes * self.costs.batch * self.costs.sample
        self.sent += 1
        heapq.heappush(self.events, (self.free_at[device], self.sent, device, units))
        self.room[device] -= 1
        if not self.room[device]:
            self.roomy.discard(device)

    def hear(self) -> tuple[Unit, ...]:
        """The next answer, once the driver has seen to it."""
        at, _, device, units = heapq.heappop(self.events)
        took = self.costs.task + self.costs.unit * len(units)
        self.driver_at = max(at, self.driver_at) + took
        self.driver_busy += took
        self.room[device] += 1
        self.roomy.add(device)
        return units


def by_look(looks: np.ndarray, sizes: Sequence[int], devices: int, costs: Costs) -> Simulated:
    """This package's schedule: any device counts any piece of any look.

    Shapes: looks (images,), how many each image takes; sizes: copies of each look.
    """
    if devices == 1:  # nobody to wait for, and the driver works meanwhile
        work = float(_samples(looks, sizes).sum()) * costs.sample
        return Simulated(work, work, 0.0)
    states = [Paced(index, sizes, int(taken)) for index, taken in enumerate(looks)]
    queue, estimate = WorkQueue(iter(states)), ThroughputEstimate()
    clock = Clock(costs, [0.0] * devices, [MAX_ASKED] * devices, set(range(devices)))
    copies = 0
    while True:
        while clock.roomy and (units := cut_for(queue, estimate, devices, costs.batch)):
            clock.send(units)
        if not clock.events:
            break
        result = clock.hear()
        counted = sum(unit.copies for unit in result)
        copies += counted
        estimate.update(counted, counted * costs.sample)
        for unit in result:
            decided = states[unit.index].back(unit.copies)
            if decided is False:
                queue.ask(states[unit.index])
            elif decided:
                queue.end(states[unit.index])
    return Simulated(clock.driver_at, copies * costs.sample, clock.driver_busy)


def by_image(looks: np.ndarray, sizes: Sequence[int], devices: int, costs: Costs) -> Simulated:
    """Whole images to whichever device is free first: the last hard ones are not shared."""
    each = _samples(looks, sizes) * costs.sample
    free = [0.0] * devices
    for seconds in each:
        heapq.heapreplace(free, free[0] + float(seconds))
    return Simulated(max(free), float(each.sum()), 0.0)


def by_share(looks: np.ndarray, sizes: Sequence[int], devices: int, costs: Costs) -> Simulated:
    """An equal share of the images for each device, fixed beforehand: a job array without a queue."""
    each = _samples(looks, sizes) * costs.sample
    return Simulated(max(float(each[k::devices].sum()) for k in range(devices)), float(each.sum()), 0.0)


def of_fixed_n(images: int, n: int, devices: int, costs: Costs) -> Simulated:
    """Every image with n samples: equal tasks, which all devices have until the last."""
    passes = -(-images * n // costs.batch)
    return Simulated(-(-passes // devices) * costs.batch * costs.sample, images * n * costs.sample, 0.0)


def _samples(looks: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    import numpy as np

    return np.asarray(np.array(list(accumulate(sizes)))[looks - 1])
