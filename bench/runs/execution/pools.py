"""Pools of workers by the name of their executor; each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from bench.runs.execution import dispatch
from bench.runs.execution.worker import Maker
from bench.types import EXECUTORS, RAY, SLURM, Execution
from bench.types.errors import UsageError


class WorkerPool(dispatch.Pool, Protocol):
    """A pool that can be waited for."""

    def ready(self) -> Sequence[Mapping[str, Any]]:
        """What its workers say of themselves, as soon as the first can count.

        Raises: what a worker raised; DeviceError where none can be had.
        """


@contextmanager
def pool(maker: Maker, execution: Execution, folder: Path) -> Iterator[WorkerPool]:
    """The workers that an execution asks for, until the block ends; `folder` is shared by all machines.

    Raises: UsageError for an executor that there is not; DeviceError where it cannot be used.
    """
    if execution.executor == RAY:
        from bench.runs.execution.ray import ray_pool

        with ray_pool(maker, execution) as workers:
            yield workers
    elif execution.executor == SLURM:
        from bench.runs.execution.slurm import slurm_pool

        with slurm_pool(maker, execution, folder) as jobs:
            yield jobs
    else:
        raise UsageError(f"no executor {execution.executor!r}; expected one of: {', '.join(EXECUTORS)}")
