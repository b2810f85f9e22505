"""One job alone, as the schedule of many jobs has it: computed, or its rows by a pool of a test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.runs.certify import ImageCertifier, Job
from bench.runs.execution.dispatch import Dispatcher, JobDispatch
from bench.runs.schedule import Listener, certify_all
from bench.runs.store import Run
from bench.types import Execution, Row, RunSpec


def certify(
    job: Job,
    execution: Execution,
    out: Path,
    on_start: Callable[[Run, ImageCertifier], None],
    on_row: Callable[[Row], None],
) -> Run:
    """As `certify_all`, of one job and without a look at it."""
    listener = Listener(
        look=lambda _job, _worker: (),
        start=lambda _job, run, worker, _warnings: on_start(run, worker),
        row=lambda _job, row: on_row(row),
        end=lambda _job, _run: None,
        fail=lambda _failed: None,
    )
    made = certify_all([job], execution, out, listener, keep_going=False)[0]
    assert isinstance(made, Run)  # a failure was raised
    return made


def dispatch(
    spec: RunSpec,
    indices: Iterable[int],
    pool: Any,
    identity: Callable[[int], tuple[int, str]],
    given: Mapping[int, Row] = MappingProxyType({}),
) -> Iterator[Row]:
    """Rows of the images, in any order; the pool says what batch its workers take now."""
    driver, images = Dispatcher(pool), JobDispatch.of(spec, indices, identity, pool.batch, given)
    driver.open(0, images)
    while True:
        images.batch = pool.batch
        driver.hand_out()
        if images.done:
            return
        for task, result in driver.receive():
            if result.failure:
                raise result.failure.error()
            yield from images.take_result(task, result)
