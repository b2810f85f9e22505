"""The rows of one job by a pool of a test's own, as the schedule of many jobs has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from bench.runs.execution.dispatch import Dispatcher, JobDispatch
from bench.types import Row, RunSpec


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
