"""A worker's end, wherever it runs: it builds the network once and counts tasks; it knows no image's verdict."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bench.runs.execution.environment import device_name, package_version
from bench.runs.image_state import Counted, Unit
from bench.types.plugins import told_apart


class Counter(Protocol):
    """What counts units on one device."""

    batch: int  # copies a forward pass
    compile: str  # what came of torch.compile

    def count(self, units: Sequence[Unit]) -> list[Counted]:
        """The votes on each."""


Maker = Callable[[str, int | None], Counter]  # (device, batch) -> counter; picklable, its paths absolute


@dataclass(slots=True)
class Worker:
    """One worker: empty until it is started, so that what goes wrong then is told and does not kill it."""

    maker: Maker
    device: str  # "cpu" or "cuda:0": schedulers show a worker its own GPU alone
    asked_batch: int | None
    _counter: Counter | None = None

    def start(self) -> dict[str, Any]:
        """Build the network; who this worker is.

        Raises: what the maker raises.
        """
        with told_apart():  # on this side: an exception comes to the driver without its frames
            self._counter = self.maker(self.device, self.asked_batch)
        return {
            "host": platform.node(),
            "device": device_name(self.device),
            "batch": self._counter.batch,
            "torch": package_version("torch"),
            "compile": self._counter.compile,
        }

    def count(self, units: Sequence[Unit]) -> tuple[list[Counted], int]:
        """The votes on each unit, and the batch that they were counted in.

        Raises: what the counter raises.
        """
        assert self._counter is not None  # noqa: S101  a pool starts its workers before it hands them tasks
        with told_apart():
            return self._counter.count(units), self._counter.batch
