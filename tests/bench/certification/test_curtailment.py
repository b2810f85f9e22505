"""Curtailment against what it claims: the verdicts of every possible completion."""

from __future__ import annotations

import math
from functools import cache

import pytest

from bench.certification.bounds import certify
from bench.certification.curtailment import Curtailment, curtail, expected_copies, forced
from bench.types import Counts
from bench.types.errors import SpecError

SIGMA, ALPHA, N = 0.5, 0.01, 40
RADII = (0.0, 0.2, 0.4, 2.0)  # the last is out of reach of 40 samples
SMALL = curtail(SIGMA, RADII, N, ALPHA)


def counted(successes: int, n: int) -> Counts:
    return Counts.of([(7, successes), (3, n - successes)])


def certified(successes: int) -> int:
    promise = certify(Counts.of([(7, 1)]), counted(successes, N), sigma=SIGMA, alpha=ALPHA)
    return sum(promise.certifies(7, r) for r in RADII)


def test_verdicts_are_forced_exactly_when_no_completion_changes_them() -> None:
    for drawn in range(N + 1):
        for successes in range(drawn + 1):
            worst, best = certified(successes), certified(successes + N - drawn)
            expected = worst if worst == best else None
            assert forced(SMALL, counted(successes, drawn), selected=7) == expected
            assert forced(SMALL, counted(successes, drawn), selected=7, label=7) == expected


def test_a_wrong_class_counts_as_wrong_before_any_sample() -> None:
    assert forced(SMALL, Counts((), 0), selected=7, label=3) == 0
    assert forced(SMALL, Counts((), 0), selected=7) is None


@pytest.mark.parametrize("block", [1, 7, 40, 100])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 0.82, 1.0])
def test_the_mean_number_of_copies_is_that_of_the_recursion(p: float, block: int) -> None:
    @cache
    def cost(successes: int, drawn: int) -> float:
        if forced(SMALL, counted(successes, drawn), selected=7) is not None:
            return 0.0
        size = min(block, N - drawn)
        return size + math.fsum(
            math.comb(size, k) * p**k * (1 - p) ** (size - k) * cost(successes + k, drawn + size)
            for k in range(size + 1)
        )

    assert expected_copies(SMALL, p, block=block) == pytest.approx(cost(0, 0), rel=1e-12)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="at most n=40 samples, got 41"):
        forced(SMALL, counted(20, 41), selected=7)
    with pytest.raises(ValueError, match="p must lie"):
        expected_copies(SMALL, -0.1)
    with pytest.raises(SpecError, match="smallest n that can is 10"):
        curtail(0.5, (0.0,), 9, 0.001)
    with pytest.raises(SpecError, match="radii must be distinct"):
        curtail(0.5, (0.5, 0.25), 100, 0.001)


def test_a_radius_out_of_reach_is_no_reason_to_go_on() -> None:
    unreachable = Curtailment(n=N, radii=RADII[-1:], need=SMALL.need[-1:])
    assert forced(unreachable, Counts((), 0), selected=7) == 0
    assert expected_copies(unreachable, 0.9) == 0.0
