"""Copies a forward pass: what fits the memory, and of that what is fastest on this device. Moves no vote."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from bench.runs.clock import Clock, ThreadClock, WallClock, fastest
from bench.smoothing.noise import SELECT, NoiseKey
from bench.smoothing.voting import draw, fitted
from bench.types import BaseClassifier, RunSpec

if TYPE_CHECKING:
    from torch import Tensor

CPU_BATCHES = (8, 4096)  # between which a CPU's best is looked for: past its cache, larger is slower
CPU_SEARCH_SECONDS = 0.3  # a pass that takes longer ends the search
CUDA_BATCH_VALUES = 512 * 3 * 224 * 224  # where the search for a batch that fits begins
CUDA_HALVINGS = 4  # of the batch that fits: a smaller one may stay in a GPU's cache
# A pass that takes longer fills a GPU several times over: of what fits, such a batch is no faster than its half, and
# leaves no room for anything beside it.
CUDA_SEARCH_SECONDS = 1.0
CUDA_LONG_SECONDS = 0.25  # a pass that takes longer is timed once
AS_FAST = 1.03  # of equals the smaller batch is taken
CLOCK = WallClock()  # on any device: a draw ends with its votes on the host


def auto_batch(spec: RunSpec, classifier: BaseClassifier, device: str) -> int:
    """The batch to take on a device; a CPU's threads are set to the number that goes with it.

    Raises: DeviceError where a single copy does not fit.
    """
    import torch

    x = torch.zeros(spec.shape, device=device)
    key = NoiseKey(spec.seed, "batch search", spec.sigma, SELECT)
    draws = partial(draw, classifier, x, key=key, precision=spec.precision)
    if device.startswith("cuda"):
        start = min(8192, 1 << max(3, (CUDA_BATCH_VALUES // x.numel()).bit_length() - 1))
        best = fastest_below(draws, largest_batch(classifier, x, key=key, start=start, precision=spec.precision))
        torch.cuda.empty_cache()  # what the largest took is of no use to smaller ones, and wanted for what is recorded
        return best
    # One thread beside all: on a machine that others use too, two threads that wait for each other are slower than one.
    threads = torch.get_num_threads()
    found: list[tuple[float, int, int]] = []
    for count in dict.fromkeys((1, threads)):
        torch.set_num_threads(count)
        # By the wall a busy machine gave a batch of 16 to a network that is three times as fast with 4096.
        own = count == 1 and os.name == "posix"  # Windows counts a thread's seconds in steps of 16 ms
        found.append((*fastest_on_cpu(draws, ThreadClock() if own else CLOCK), count))
    _, batch, best = max(found)
    torch.set_num_threads(best)
    return batch


def largest_batch(classifier: BaseClassifier, x: Tensor, *, key: NoiseKey, start: int, precision: str) -> int:
    """`start`, halved until one forward pass fits the device's memory.

    Raises: DeviceError when a single copy does not.
    """
    found, batch = None, start
    while found is None:
        tried = partial(draw, classifier, x, key=key, n=batch, batch=batch, precision=precision)
        found, batch = fitted(tried, batch, x)
    return batch


def fastest_below(draws: Callable[..., object], largest: int) -> int:
    """Of a batch that fits and its halves the smallest that is as fast as any.

    Raises: torch.OutOfMemoryError where not even a single copy fits any more.
    """
    import torch

    rates: dict[int, float] = {}
    batch = largest
    while batch and batch << CUDA_HALVINGS >= largest:
        try:
            draws(n=batch, batch=batch)  # its first pass may choose algorithms
            seconds = CLOCK.time(partial(draws, n=batch, batch=batch)).wall
            if seconds <= CUDA_LONG_SECONDS:
                seconds = fastest(CLOCK, partial(draws, n=2 * batch, batch=batch), 2) / 2
        except torch.OutOfMemoryError:  # it fitted once, and only just
            if batch == 1:
                raise
            seconds = math.inf
        if seconds > CUDA_SEARCH_SECONDS and batch > 1:
            largest = batch // 2
        else:
            rates[batch] = batch / seconds
        batch //= 2
    return min(batch for batch, rate in rates.items() if AS_FAST * rate >= max(rates.values()))


def fastest_on_cpu(draws: Callable[..., object], clock: Clock) -> tuple[float, int]:
    """Copies a second of the clock, and the batch that gives them; doubled until it no longer pays."""
    one = partial(draws, n=1, batch=1)
    one()  # warm-up
    first = clock.time(one)
    if first.seconds < first.wall / 2 and all(2 * again.seconds < again.wall for again in map(clock.time, [one] * 2)):
        clock, first = CLOCK, CLOCK.time(one)  # nothing holds up each of three: others than this thread do the work
    if first.wall > 10 * CPU_SEARCH_SECONDS:  # a network that fills the CPU by itself
        return 1 / first.seconds, 1
    best, best_rate, copies = CPU_BATCHES[0], 0.0, CPU_BATCHES[0]
    draws(n=copies, batch=copies)
    while copies <= CPU_BATCHES[1]:
        reading = clock.time(partial(draws, n=copies, batch=copies))
        if copies / reading.seconds > 1.05 * best_rate:
            best, best_rate = copies, copies / reading.seconds
        elif copies >= 4 * best:
            break
        if reading.wall > CPU_SEARCH_SECONDS:
            break
        copies *= 2
    return best_rate, best
