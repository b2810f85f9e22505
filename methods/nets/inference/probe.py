"""Seconds of a piece of work, for choices made by trying; bench.runs.clock is out of reach of a method."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

ROUNDS = 10


def fastest(work: Callable[[], object], device: str) -> float:
    """Seconds of the fastest of some rounds: what else runs here only ever slows one."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
