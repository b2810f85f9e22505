"""Clocks: how a piece of work on a device is timed, and cross-checked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Reading:
    """One piece of work on the clock."""

    seconds: float  # by the device's own clock where it has one
    wall: float


class Clock(Protocol):
    """Times work on one device."""

    name: str

    def now(self) -> float:
        """Seconds since some moment, by the wall."""

    def time(self, work: Callable[[], object]) -> Reading:
        """The whole of the work, with one synchronisation at its end."""

    def mark(self) -> Any:
        """A moment in the device's order of work; waits for nothing."""

    def between(self, earlier: Any, later: Any) -> float:
        """Seconds from one mark to another; waits for the later one."""


class WallClock:
    """A CPU's: work is over when the call returns."""

    name = "perf_counter"
    _read = staticmethod(time.perf_counter)

    def now(self) -> float:
        """Seconds since some moment, by this clock."""
        return self._read()

    def time(self, work: Callable[[], object]) -> Reading:
        """By perf_counter alone; the cross-check is trivially equal."""
        started = time.perf_counter()
        work()
        seconds = time.perf_counter() - started
        return Reading(seconds, seconds)

    def mark(self) -> float:
        """Now."""
        return self._read()

    def between(self, earlier: float, later: float) -> float:
        """Their difference."""
        return later - earlier


class ThreadClock(WallClock):
    """A CPU's, for work of one thread: its own seconds, in which no other program has a part."""

    name = "thread_time"
    _read = staticmethod(time.thread_time)

    def time(self, work: Callable[[], object]) -> Reading:
        """The thread's seconds, and those by the wall."""
        started, own = time.perf_counter(), time.thread_time()
        work()
        return Reading(time.thread_time() - own, time.perf_counter() - started)


class CudaClock:
    """A CUDA device's: events in its stream around the whole work, beside the wall clock."""

    name = "CUDA events"

    def __init__(self, device: str) -> None:
        self._device = device

    def now(self) -> float:
        """Seconds since some moment, when all queued work is over."""
        import torch

        torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def time(self, work: Callable[[], object]) -> Reading:
        """Between two events; the wall clock from an idle device to an idle device."""
        started = self.now()
        first = self.mark()
        work()
        last = self.mark()
        wall = self.now() - started
        return Reading(self.between(first, last), wall)

    def mark(self) -> Any:
        """An event in the current stream."""
        import torch

        with torch.cuda.device(self._device):
            event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
        return event

    def between(self, earlier: Any, later: Any) -> float:
        """By the device's clock, to half a microsecond."""
        later.synchronize()
        return float(earlier.elapsed_time(later)) / 1000


def clock_for(device: str) -> Clock:
    """The clock of a device."""
    return CudaClock(device) if device.startswith("cuda") else WallClock()


def overhead(clock: Clock, rounds: int = 20) -> float:
    """Seconds that the clock itself adds to a piece of work: the fastest of some empty ones."""
    return fastest(clock, lambda: None, rounds)


def fastest(clock: Clock, work: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest of some rounds, by the wall: what else runs here only ever slows one."""
    return min(clock.time(work).wall for _ in range(rounds))
