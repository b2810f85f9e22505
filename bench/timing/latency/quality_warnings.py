"""When to distrust a latency record, in words that stand beside its number."""

from __future__ import annotations

from collections.abc import Sequence

from bench.timing.records import Telemetry, agreement, clock_difference, nonlinearity, quantile, spread

SPREAD = 0.03
AGREE = 0.03
CLOCKS = 0.01
LINEAR = 0.05
OVERHEAD = 0.01
SHORT_S = 30.0  # all repeats together
ENERGY_S = 10.0  # NVML's counter moves in steps of tenths of a second
CPU_SHARE = 0.9  # of its threads' time


def doubts(
    *,
    kind: str,
    seconds: Sequence[float],
    wall: Sequence[float],
    warmup: Sequence[float],
    steady: bool,
    discarded: Sequence[float],
    sizes: Sequence[tuple[int, float]],
    overhead_s: float,
    watch: Telemetry,
    threads: int,
    unreplayed: str = "",
    mfu: float | None = None,
) -> tuple[str, ...]:
    """All that speaks against the number; nothing is dropped for it."""
    middle = quantile(seconds, 0.5)
    said: list[str] = []
    if (wide := spread(seconds)) > SPREAD:
        again = ", also when timed again" if discarded else ""
        said.append(f"spread {wide:.0%} of the median, 10th to 90th percentile{again}: the clock was not steady")
    apart = agreement(seconds)
    if apart is None:
        said.append(f"{len(seconds)} repeats are too few to check that two probes agree")
    elif apart > AGREE:
        said.append(f"two probes of this run differ by {apart:.1%}, more than {AGREE:.0%}")
    if (off := clock_difference(seconds, wall)) > CLOCKS:
        said.append(f"the device's clock and the wall clock differ by {off:.1%}")
    if not steady:
        said.append(f"the warm-up of {len(warmup)} passes ended by its budget before the clock was steady")
    if (bent := nonlinearity(sizes)) > LINEAR:
        said.append(
            f"the time a copy differs by {bent:.0%} between {sizes[0][0]} and {sizes[-1][0]} copies: not linear"
        )
    if unreplayed:
        said.append(f"passes not replayed from CUDA graphs, but launched kernel by kernel: {unreplayed}")
    if sum(seconds) < SHORT_S:
        said.append(f"short run: {sum(seconds):.2g} s on the clock in all, under {SHORT_S:g} s")
    if mfu is not None and mfu > 1:
        said.append(f"{mfu:.0%} of the peak cannot be: the peak, itself measured, was seen on a busier machine")
    if overhead_s > OVERHEAD * middle:
        said.append(f"timing itself takes {overhead_s / middle:.1%} of a repeat")
    return (*said, *(_of_cpu(watch, threads) if kind == "cpu" else _of_gpu(watch, sum(seconds))))


def _of_cpu(watch: Telemetry, threads: int) -> list[str]:
    said = []
    if watch.cpu_share is not None and watch.cpu_share < CPU_SHARE:
        said.append(f"it got {watch.cpu_share:.0%} of the time of its {threads} threads: others ran, or it waited")
    if watch.load is not None and watch.load > 0.5:
        said.append(f"the machine was busy: load average {watch.load:.1f} beyond our {threads} threads")
    return said


def _of_gpu(watch: Telemetry, seconds: float) -> list[str]:
    if watch.clocks_mhz is None:
        return ["clocks, heat and other programs not seen: NVML does not answer (pip install 'rrcm-bench[gpu]')"]
    said = []
    low, high = watch.clocks_mhz
    if watch.others:
        said.append(f"{watch.others} other processes on the GPU")
    if watch.others is None:
        said.append("not known whether the GPU was ours alone")
    if watch.throttled:
        said.append(f"throttled: {', '.join(watch.throttled)}")
    if not watch.clocks_locked:
        said.append(f"clocks unlocked: {low} to {high} MHz seen, limit {watch.clock_limit_mhz or 'unknown'}")
    if watch.energy_j is not None and seconds < ENERGY_S:
        said.append(f"energy over {seconds:.2g} s only, under {ENERGY_S:g} s")
    return said
