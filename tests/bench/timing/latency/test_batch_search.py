"""The probe on a clock of its own: nothing here sleeps, and every figure is known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch

from bench.runs.clock import Reading, overhead
from bench.timing.latency.batch_search import ProbePlan, measure, search, warm
from bench.timing.latency.quality_warnings import doubts
from bench.timing.records import Telemetry, agreement, clock_difference, nonlinearity, quantile, spread
from bench.types.errors import DeviceError, SpecError

PLAN = ProbePlan(n0=100, n=9900, batch=None, repeats=4, budget_s=1000.0)


class FakeClock:
    """Time passes only when the work says so."""

    name = "fake"

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def time(self, work: Callable[[], object]) -> Reading:
        began = self.at
        work()
        return Reading(self.at - began, self.at - began)

    def mark(self) -> float:
        return self.at

    def between(self, earlier: float, later: float) -> float:
        return later - earlier


@dataclass
class FakeWork:
    """A pass takes `fixed` seconds and `each` a copy; the first ones more; above `room` copies there is no memory."""

    clock: FakeClock
    fixed: float = 1e-3
    each: float = 1e-4
    start: float = 0.0  # of every certificate or part
    room: int = 1 << 30
    slow: list[float] = field(default_factory=list)  # factors of the first calls
    calls: list[tuple[int, int]] = field(default_factory=list)
    steps: list[tuple[str, int]] = field(default_factory=list)  # what was asked for, after how many calls

    def settle(self) -> None:
        self.steps.append(("settle", len(self.calls)))

    def rehearse(self, batch: int) -> None:
        self.steps.append(("rehearse", len(self.calls)))

    def launch(self) -> tuple[bool, str]:
        self.steps.append(("launch", len(self.calls)))
        return False, "no graph"

    def passes(self, copies: int, batch: int) -> None:
        if min(copies, batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.calls.append((copies, batch))
        factor = self.slow.pop(0) if self.slow else 1.0
        self.clock.at += factor * (self.start + -(-copies // batch) * self.fixed + copies * self.each)

    def certificate(self, batch: int) -> None:
        self.passes(PLAN.n0, batch)
        self.passes(PLAN.n, batch)

    def split(self, clock: FakeClock, batch: int, repeats: int) -> tuple[dict[str, float], float]:
        self.steps.append(("split", len(self.calls)))
        return {"noise": 0.1, "denoise": 0.0, "classify": 0.8, "count": 0.1}, 0.05


class FakeSensor:
    def start(self) -> None: ...

    def stop(self) -> Telemetry:
        return Telemetry()


def test_a_certificate_that_fits_the_budget_is_timed_whole() -> None:
    clock = FakeClock()
    timing = measure(FakeWork(clock), clock, FakeSensor(), replace(PLAN, batch=100))
    assert timing.copies == 10_000
    assert timing.extrapolated_from == ()
    assert [r.seconds for r in timing.readings] == pytest.approx([100 * 1e-3 + 1.0] * 4)


def test_a_certificate_that_does_not_fit_is_timed_in_part_and_marked() -> None:
    clock = FakeClock()
    timing = measure(FakeWork(clock), clock, FakeSensor(), replace(PLAN, batch=100, budget_s=3.0))
    (small, short), (large, long) = timing.extrapolated_from
    assert 0 < small < large == 2 * small == timing.copies < 10_000
    assert small % 100 == 0  # whole batches: a torn one would cost more a copy
    assert long / large * 10_000 == pytest.approx(1.1)  # in proportion, what the whole takes
    assert short / small == pytest.approx(long / large)
    assert clock.at <= 3.0


def test_a_constant_cost_shows_as_non_linear_and_never_makes_the_extrapolation_too_fast() -> None:
    clock = FakeClock()
    timing = measure(FakeWork(clock, start=0.05), clock, FakeSensor(), replace(PLAN, batch=100, budget_s=5.0))
    truth = 0.05 + 1.1
    large, long = timing.extrapolated_from[-1]
    assert nonlinearity(timing.extrapolated_from) > 0.05
    assert long / large * 10_000 >= truth


def test_a_budget_that_is_too_small_is_refused_with_what_it_takes() -> None:
    clock = FakeClock()
    with pytest.raises(SpecError, match=r"budget of 0.01 s is too small.*need about .* s; give a larger --budget"):
        measure(FakeWork(clock), clock, FakeSensor(), replace(PLAN, batch=100, budget_s=0.01))


def test_the_search_doubles_until_it_no_longer_pays_and_keeps_its_curve() -> None:
    clock = FakeClock()
    work = FakeWork(clock, fixed=1e-3, each=1e-4)
    batch, curve, note = search(work, clock, PLAN, 10_000)
    rates = dict(curve)
    assert [b for b, _ in curve] == [1 << k for k in range(len(curve))]
    assert rates[64] == pytest.approx(64 / (1e-3 + 64e-4))
    # Of batches within 3 % of the fastest the smallest is taken.
    assert 1.03 * rates[batch] >= max(rates.values()) > 1.03 * rates[batch // 2]
    assert note == ""


def test_the_search_backs_off_from_what_does_not_fit() -> None:
    clock = FakeClock()
    batch, curve, note = search(FakeWork(clock, fixed=1.0, room=50), clock, PLAN, 10_000)
    assert batch == 32
    assert curve[-1] == (64, None)
    assert note == ", out of memory above"


def test_a_search_that_begins_too_large_goes_down() -> None:
    clock = FakeClock()
    plan = replace(PLAN, smallest_batch=32)
    batch, curve, _ = search(FakeWork(clock, fixed=1.0, room=10), clock, plan, 10_000)
    assert batch == 8
    assert [b for b, rate in curve if rate is None] == [32, 16]


def test_the_papers_batch_is_halved_where_it_does_not_fit_and_says_so() -> None:
    clock = FakeClock()
    plan = replace(PLAN, batch=4000, batch_from="paper")
    timing = measure(FakeWork(clock, room=1000), clock, FakeSensor(), plan)
    assert timing.batch == 1000
    assert timing.batch_from == "paper 4000, out of memory above"
    assert timing.curve[:2] == ((4000, None), (2000, None))


def test_one_copy_that_does_not_fit_is_one_line() -> None:
    clock = FakeClock()
    with pytest.raises(DeviceError, match="not even one copy fits"):
        search(FakeWork(clock, room=0), clock, PLAN, 10_000)


def test_another_failure_is_not_taken_for_too_little_memory() -> None:
    class Broken(FakeWork):
        def passes(self, copies: int, batch: int) -> None:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    clock = FakeClock()
    with pytest.raises(RuntimeError, match="mat1"):
        search(Broken(clock), clock, PLAN, 10_000)


def test_the_warm_up_ends_when_the_clock_is_steady_not_before() -> None:
    clock = FakeClock()
    seconds, steady = warm(FakeWork(clock, slow=[9.0, 5.0, 3.0, 2.0, 1.5, 1.2]), clock, PLAN, 10)
    assert steady
    assert len(seconds) == 6 + 5
    assert max(seconds[-5:]) == pytest.approx(min(seconds[-5:]))


def test_a_clock_that_never_gets_steady_ends_the_warm_up_by_its_budget() -> None:
    clock = FakeClock()
    work = FakeWork(clock, slow=[1.0, 2.0] * 100_000)
    seconds, steady = warm(work, clock, replace(PLAN, budget_s=1.0), 10)
    assert not steady
    assert sum(seconds) == pytest.approx(0.2, rel=0.05)


def test_a_warm_up_lasts_at_least_as_long_as_it_must() -> None:
    clock = FakeClock()
    seconds, steady = warm(FakeWork(clock), clock, replace(PLAN, warm_passes=10, warm_seconds=0.5), 100)
    assert steady
    assert len(seconds) >= 10
    assert sum(seconds) >= 0.5


def test_an_uneven_series_is_timed_again_and_the_worse_one_kept_beside_it() -> None:
    clock = FakeClock()
    work = FakeWork(clock)
    setup, batch_passes, warm_passes = 1, 2, 5
    even = [1.0] * (setup + batch_passes + warm_passes)
    work.slow = [*even, *[1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 3.0, 3.0]]  # two calls a certificate
    timing = measure(work, clock, FakeSensor(), replace(PLAN, batch=100))
    assert [r.seconds for r in timing.readings] == pytest.approx([1.1] * 4)
    assert timing.discarded == pytest.approx((1.1, 2.2, 1.1, 3.3))


def test_passes_are_made_as_a_run_makes_them_from_the_search_to_the_split() -> None:
    clock = FakeClock()
    work = FakeWork(clock)
    timing = measure(work, clock, FakeSensor(), PLAN)
    searched, warmed, timed = 1 + 3 * len(timing.curve), len(timing.warmup), 2 * len(timing.readings)
    expected = ("settle", searched), ("rehearse", searched + warmed), ("launch", searched + warmed + timed)
    assert tuple(work.steps) == (*expected, ("split", searched + warmed + timed))
    assert (timing.replayed, timing.unreplayed) == (False, "no graph")


def test_a_part_has_no_smaller_batches_to_rehearse() -> None:
    clock = FakeClock()
    work = FakeWork(clock)
    timing = measure(work, clock, FakeSensor(), replace(PLAN, batch=100, budget_s=3.0))
    assert timing.extrapolated_from
    assert [step for step, _ in work.steps] == ["settle", "launch", "split"]
    assert all(copies % 100 == 0 for copies, _ in work.calls[1:])


# ---- doubts ----------------------------------------------------------------------------------------------------------

QUIET = {
    "kind": "cpu", "seconds": [10.0] * 6, "wall": [10.0] * 6, "warmup": [1.0] * 5, "steady": True, "discarded": [],
    "sizes": [], "overhead_s": 0.0, "watch": Telemetry(cpu_share=0.99, load=0.0), "threads": 2,
}  # fmt: skip
GPU = Telemetry(clocks_mhz=(1410, 1410), clock_limit_mhz=1410, clocks_locked=True, others=0, energy_j=100.0)


def test_a_quiet_machine_raises_no_doubt() -> None:
    assert doubts(**QUIET) == ()
    assert doubts(**{**QUIET, "kind": "cuda", "watch": GPU}) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seconds": [10, 10, 10, 10, 12, 12]}, "spread"),
        ({"seconds": [10, 10, 10, 10.5, 10.5, 10.5]}, "two probes of this run differ by 5.0%"),
        ({"seconds": [10, 10, 10]}, "3 repeats are too few"),
        ({"wall": [10.2] * 6}, "wall clock differ by 2.0%"),
        ({"steady": False}, "before the clock was steady"),
        ({"sizes": [(100, 1.2), (200, 2.0)]}, "20% between 100 and 200 copies"),
        ({"seconds": [1.0] * 6, "wall": [1.0] * 6}, "short run: 6 s"),
        ({"unreplayed": "no memory"}, "not replayed from CUDA graphs, but launched kernel by kernel: no memory"),
        ({"mfu": 1.5}, "150% of the peak cannot be"),
        ({"overhead_s": 0.2}, "timing itself takes 2.0%"),
        ({"watch": Telemetry(cpu_share=0.5, load=0.0)}, "50% of the time of its 2 threads"),
        ({"watch": Telemetry(cpu_share=1.0, load=3.0)}, "load average 3.0 beyond our 2 threads"),
        ({"kind": "cuda", "watch": Telemetry()}, "NVML does not answer"),
        ({"kind": "cuda", "watch": replace(GPU, others=2)}, "2 other processes"),
        ({"kind": "cuda", "watch": replace(GPU, throttled=("software power cap",))}, "throttled: software power cap"),
        ({"kind": "cuda", "watch": replace(GPU, clocks_locked=False)}, "clocks unlocked: 1410 to 1410 MHz"),
    ],
)
def test_each_thing_that_is_off_is_said_in_words(change: dict, words: str) -> None:
    said = doubts(**{**QUIET, **change})
    assert any(words in doubt for doubt in said), said


# ---- figures ---------------------------------------------------------------------------------------------------------


def test_figures_of_repeats_are_those_of_their_definitions() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.5) == 3.0
    assert quantile([1.0, 2.0], 0.9) == pytest.approx(1.9)
    assert spread([1.0] * 10) == 0.0
    assert agreement([1.0, 1.0, 2.0, 2.0]) == 1.0
    assert agreement([1.0, 1.0, 2.0]) is None
    assert clock_difference([1.0], [1.01]) == pytest.approx(0.01 / 1.01)
    assert nonlinearity([(10, 1.0), (20, 2.0)]) == 0.0


def test_the_clock_itself_costs_what_an_empty_piece_of_work_takes() -> None:
    assert overhead(FakeClock()) == 0.0
