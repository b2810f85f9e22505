"""Pools of workers by the name of their executor; each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bench.runs.execution import dispatch
from bench.runs.execution.worker import Maker
from bench.types import EXECUTORS, LOCAL, RAY, SLURM, Execution
from bench.types.errors import UsageError


class WorkerPool(dispatch.Pool, Protocol):
    """A pool that jobs can be added to."""

    def add(self, job: int, maker: Maker) -> None:
        """Say how a job's network is built, before its first task."""


@contextmanager
def pool(execution: Execution, folder: Path) -> Iterator[WorkerPool]:
    """The workers that an execution asks for, until the block ends; `folder` is shared by all machines.

    Raises: UsageError for an executor that there is not; DeviceError where it cannot be used.
    """
    if execution.executor == LOCAL:
        from bench.runs.execution.local import local_pool

        with local_pool(execution) as processes:
            yield processes
    elif execution.executor == RAY:
        from bench.runs.execution.ray import ray_pool

        with ray_pool(execution) as workers:
            yield workers
    elif execution.executor == SLURM:
        from bench.runs.execution.slurm import slurm_pool

        with slurm_pool(execution, folder) as jobs:
            yield jobs
    else:
        raise UsageError(f"no executor {execution.executor!r}; expected one of: {', '.join(EXECUTORS)}")
