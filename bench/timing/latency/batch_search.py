"""The probe: a batch, a warm-up until the clock is steady, repeats of one certificate; of a part where it takes long.

Every method is given the same effort. All randomness is the certifier's, so that each repeat is the same work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

from bench.runs.clock import Clock, Reading
from bench.timing.records import Telemetry, spread
from bench.timing.telemetry import Sensor
from bench.timing.workload import Workload
from bench.types.errors import DeviceError, SpecError

STEADY = 0.03  # the last forward passes of a warm-up lie this close together
STEADY_PASSES = 5
GAIN = 1.03  # a larger batch must be faster by this: of equals the smaller is taken
SEARCH_SHARE, WARM_SHARE, SPLIT_SHARE = 0.2, 0.2, 0.1  # of the budget, at most
UNSTEADY = 0.03  # a spread of the repeats that has the series timed once more
FEWEST = 2  # repeats, where the budget is short
SIZES = 3  # a repeat of a part: once the small size, once twice as much


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePlan:
    """How a certificate is to be timed."""

    n0: int
    n: int
    batch: int | None  # None: searched
    batch_from: str = "given"
    repeats: int = 6
    budget_s: float = 120.0
    smallest_batch: int = 1  # of the search
    largest_batch: int = 8192
    warm_passes: int = STEADY_PASSES  # at least
    warm_seconds: float = 0.0  # at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What the probe found; fields as in LatencyRecord."""

    batch: int
    batch_from: str
    curve: tuple[tuple[int, float | None], ...]
    copies: int
    readings: tuple[Reading, ...]
    discarded: tuple[float, ...]
    warmup: tuple[float, ...]
    steady: bool
    setup_s: float
    extrapolated_from: tuple[tuple[int, float], ...]
    stages: dict[str, float]
    noise_host: float
    watch: Telemetry
    replayed: bool
    unreplayed: str  # why not, where it was tried


def measure(workload: Workload, clock: Clock, sensor: Sensor, plan: ProbePlan) -> Timing:
    """Time a certificate within the budget.

    Raises: SpecError where the budget is too small for a part of it, DeviceError where one copy does not fit.
    """
    began = clock.now()

    def left() -> float:
        return plan.budget_s - (clock.now() - began)

    whole = plan.n0 + plan.n
    setup = clock.time(lambda: workload.passes(1, 1)).wall
    if plan.batch is None:
        batch, curve, note = search(workload, clock, plan, whole)
        batch_from = "searched" + note
    else:
        batch, curve, batch_from = _fitting(workload, clock, min(plan.batch, whole), plan)
    workload.settle()
    warmup, steady = warm(workload, clock, plan, batch)
    a_copy = median(warmup[-STEADY_PASSES:]) / batch
    share = 1 - SPLIT_SHARE
    copies, sizes, repeats = whole, tuple[tuple[int, float], ...](), plan.repeats
    if whole * a_copy * plan.repeats > share * left():
        small, repeats = _part(plan, batch, a_copy, share * left())
        copies, small_readings = 2 * small, _series(clock, lambda: workload.passes(small, batch), repeats)
        sizes = ((small, median(r.seconds for r in small_readings)),)
    else:
        workload.rehearse(batch)

    def series() -> tuple[Reading, ...]:
        once = partial(workload.passes, copies, batch) if sizes else partial(workload.certificate, batch)
        return _series(clock, once, repeats)

    sensor.start()
    readings = series()
    watch = sensor.stop()
    discarded: tuple[float, ...] = ()
    if spread([r.seconds for r in readings]) > UNSTEADY and sum(r.wall for r in readings) < share * left():
        sensor.start()
        again = series()
        seen = sensor.stop()
        first, second = [r.seconds for r in readings], [r.seconds for r in again]
        # The steadier series counts; the other is kept beside it.
        if spread(second) < spread(first):
            readings, discarded, watch = again, tuple(first), seen
        else:
            discarded = tuple(second)
    if sizes:
        sizes = (*sizes, (copies, median(r.seconds for r in readings)))
    replayed, unreplayed = workload.launch()
    _release()
    rounds = max(1, min(5, int(SPLIT_SHARE * plan.budget_s / max(a_copy * batch, 1e-9))))
    stages, host = workload.split(clock, batch, rounds)
    return Timing(
        batch=batch,
        batch_from=batch_from,
        curve=curve,
        copies=copies,
        readings=readings,
        discarded=discarded,
        warmup=tuple(warmup),
        steady=steady,
        setup_s=setup,
        extrapolated_from=sizes,
        stages=stages,
        noise_host=host,
        watch=watch,
        replayed=replayed,
        unreplayed=unreplayed,
    )


def search(
    workload: Workload, clock: Clock, plan: ProbePlan, whole: int
) -> tuple[int, tuple[tuple[int, float | None], ...], str]:
    """The batch of most copies a second, doubled until it no longer pays, does not fit, or the search's time is up.

    Gives the batch, the curve, and how the search ended.
    """
    began, curve, note = clock.now(), list[tuple[int, float | None]](), ""
    best, best_rate, batch = plan.smallest_batch, 0.0, plan.smallest_batch
    while batch <= min(plan.largest_batch, whole):
        rate = _rate(workload, clock, batch)
        curve.append((batch, rate))
        if rate is None:
            if batch == plan.smallest_batch and batch > 1:  # even the first is too large: go down instead
                return _descend(workload, clock, batch, curve)
            note = ", out of memory above"
            break
        if rate > GAIN * best_rate:
            best, best_rate = batch, rate
        elif batch >= 8 * best:
            break
        # The next one is three passes of about twice this one.
        if clock.now() - began + 6 * batch / rate > SEARCH_SHARE * plan.budget_s:
            note = ", ended by the budget"
            break
        batch *= 2
    reached = [(b, rate) for b, rate in curve if rate is not None]
    if not reached:
        raise _too_large()
    top = max(rate for _, rate in reached)
    return min(b for b, rate in reached if GAIN * rate >= top), tuple(curve), note


def _descend(
    workload: Workload, clock: Clock, batch: int, curve: list[tuple[int, float | None]]
) -> tuple[int, tuple[tuple[int, float | None], ...], str]:
    while batch > 1:
        batch //= 2
        rate = _rate(workload, clock, batch)
        curve.append((batch, rate))
        if rate is not None:
            return batch, tuple(curve), ", out of memory above"
    raise _too_large()


def _fitting(
    workload: Workload, clock: Clock, batch: int, plan: ProbePlan
) -> tuple[int, tuple[tuple[int, float | None], ...], str]:
    """A batch that was asked for, or the half, quarter, ... that fits; never smaller in silence."""
    curve: list[tuple[int, float | None]] = []
    while True:
        rate = _rate(workload, clock, batch, rounds=1)
        curve.append((batch, rate))
        if rate is not None:
            fits = batch == min(plan.batch or batch, plan.n0 + plan.n)
            return batch, tuple(curve), plan.batch_from + ("" if fits else f" {plan.batch}, out of memory above")
        if batch == 1:
            raise _too_large()
        batch //= 2


def _rate(workload: Workload, clock: Clock, batch: int, rounds: int = 2) -> float | None:
    """Copies a second in passes of a batch, the fastest of some; None where it does not fit the memory."""
    try:
        workload.passes(batch, batch)  # its first pass may choose algorithms
        # The fastest: what else runs on the machine only ever slows a pass down.
        return batch / min(clock.time(lambda: workload.passes(batch, batch)).seconds for _ in range(rounds))
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
    _release()
    return None


def _out_of_memory(error: BaseException) -> bool:
    # torch raises OutOfMemoryError (a RuntimeError) on CUDA, a plain RuntimeError on a CPU.
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("out of memory", "not enough memory", "can't allocate memory")
    )


def _release() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _too_large() -> DeviceError:
    return DeviceError("not even one copy fits the memory of the device; expected a smaller network or a larger device")


def warm(workload: Workload, clock: Clock, plan: ProbePlan, batch: int) -> tuple[list[float], bool]:
    """Forward passes until the last ones take the same time; their seconds, and whether they got there in time."""
    began, seconds = clock.now(), list[float]()
    while True:
        seconds.append(clock.time(lambda: workload.passes(batch, batch)).seconds)
        last = seconds[-STEADY_PASSES:]
        even = len(last) == STEADY_PASSES and (max(last) - min(last)) <= STEADY * median(last)
        spent = clock.now() - began
        if even and len(seconds) >= plan.warm_passes and spent >= plan.warm_seconds:
            return seconds, True
        if spent > WARM_SHARE * plan.budget_s:
            return seconds, False


def _part(plan: ProbePlan, batch: int, a_copy: float, left: float) -> tuple[int, int]:
    """Copies of the smaller size, and repeats: whole batches, as many as the time allows for both sizes.

    Repeats are given up before the measurement is; the record shows how many there were, and doubts too few.
    """
    room = int(left / (SIZES * a_copy * batch)) if left > 0 else 0  # batches of the smaller size, all repeats together
    repeats = min(plan.repeats, room)
    if repeats < FEWEST:
        need = SIZES * FEWEST * a_copy * batch / (1 - SPLIT_SHARE - SEARCH_SHARE - WARM_SHARE)
        raise SpecError(
            f"a budget of {plan.budget_s:g} s is too small: {FEWEST} repeats of {batch} and {2 * batch} copies "
            f"at {a_copy:.3g} s each need about {need:.3g} s; give a larger --budget, or a smaller --batch"
        )
    return max(1, min(room // repeats, (plan.n0 + plan.n) // 2 // batch)) * batch, repeats


def _series(clock: Clock, work: Callable[[], object], repeats: int) -> tuple[Reading, ...]:
    return tuple(clock.time(work) for _ in range(repeats))
