"""What this machine's matrix product reaches in each arithmetic: the ceiling that a network is held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.runs.clock import clock_for

PATIENCE_S = 1.0  # a product that takes longer is the last of its arithmetic
ROUNDS_S = 0.6  # of one size
SIDES = {"cpu": (256, 512, 1024, 2048), "cuda": (2048, 4096, 8192)}
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "bf16", "fp16")}


@dataclass(frozen=True, slots=True)
class Peak:
    """The best of one arithmetic."""

    precision: str
    flops_s: float  # 2 x MAC
    side: int  # of the square matrices
    threads: int


def peaks(device: str) -> tuple[Peak, ...]:
    """The fastest square product of each arithmetic that the device has; the process's float32 state is as before."""
    return tuple(peak(device, precision) for precision in PRECISIONS[_kind(device)])


def peak(device: str, precision: str) -> Peak:
    """The fastest square product of one arithmetic."""
    import torch

    kind = _kind(device)
    best = Peak(precision, 0.0, 0, torch.get_num_threads())
    for side in SIDES[kind]:
        rate = product_rate(device, precision, side, partial(_fastest, device))
        if rate > best.flops_s:
            best = Peak(precision, rate, side, best.threads)
        if 8 * 2 * side**3 / rate > PATIENCE_S:
            break
    return best


def _kind(device: str) -> str:
    return "cuda" if device.startswith("cuda") else "cpu"


def product_rate(device: str, precision: str, side: int, seconds: Callable[[Callable[[], object]], float]) -> float:
    """FLOP/s, 2 x MAC, of a product of square matrices, timed by `seconds`."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        with torch.inference_mode():
            # Random: a GPU draws less power for smooth numbers, and is faster than any network will see it.
            a = torch.randn(side, side, generator=torch.Generator().manual_seed(0)).to(device)
            a = a.to({"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32))
            return 2 * side**3 / seconds(partial(torch.matmul, a, a))
    finally:
        torch.set_float32_matmul_precision(before)


def _fastest(device: str, work: Callable[[], object]) -> float:
    """Seconds of the fastest of some rounds; the first, which may choose an algorithm, left out."""
    clock = clock_for(device)
    until = clock.now() + ROUNDS_S
    if (first := clock.time(work).wall) >= PATIENCE_S:
        return first
    best = clock.time(work).wall
    while clock.now() < until:
        best = min(best, clock.time(work).wall)
    return best
