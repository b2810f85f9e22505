"""Sequential tests of others: their levels by exact recursion, their definitions the slow way, and what they cost."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from places import PROJECT
from scipy.stats import binom, norm

from bench.certification.bounds import lower_bound, upper_bound
from bench.certification.operating_characteristic import crossing, exact_size, operating
from bench.certification.published_designs import (
    adaptive_design,
    betting_design,
    log_wealth,
    union_design,
    union_looks,
)
from bench.certification.sequential import Design, design, start, step
from bench.types.errors import SpecError

RADII = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
SIGMA, ALPHA, N = 0.5, 0.001, 100_000
MADE: dict[str, Callable[..., Design]] = {
    "sequential": design,
    "betting": betting_design,
    "union": union_design,
    "adaptive": adaptive_design,
}
OTHERS = ("betting", "union", "adaptive")


@pytest.fixture(scope="module")
def plans() -> dict[str, Design]:
    return {name: make(SIGMA, RADII, N, ALPHA) for name, make in MADE.items()}


@pytest.mark.parametrize("name", OTHERS)
def test_the_chance_of_a_false_promise_is_at_most_alpha(plans: dict[str, Design], name: str) -> None:
    for p in plans[name].thresholds:
        assert 0 < exact_size(plans[name], p) <= ALPHA
    assert all(exact_size(plans[name], p) <= ALPHA for p in np.linspace(0.01, 0.9999, 25))


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("level", [0.05, 0.3])
def test_the_level_holds_where_it_is_large_and_n_small(name: str, level: float) -> None:
    plan = MADE[name](1.0, (0.0, 0.3, 0.6, 1.0), 400, level, reachable=True)
    assert all(exact_size(plan, p) <= level for p in (*plan.thresholds, *np.linspace(0.02, 0.98, 49)))


@pytest.mark.parametrize("name", OTHERS)
def test_a_radius_that_holds_is_given_up_with_a_chance_of_at_most_beta(plans: dict[str, Design], name: str) -> None:
    plan = plans[name]
    # Mirrored, giving up on p is accepting 1 - p: the same recursion sizes it.
    mirrored = [[n - row[k] for n, row in zip(plan.looks, plan.futile, strict=True)] for k in range(len(RADII))]
    for k, p in enumerate(plan.thresholds):
        assert sum(crossing(plan.looks, [-1] * len(plan.looks), mirrored[k], 1 - p).above) <= plan.beta


@pytest.mark.parametrize("name", OTHERS)
def test_simulated_paths_break_no_promise_more_often_than_alpha(name: str) -> None:
    plan, p, paths = MADE[name](1.0, (0.0, 0.5), 300, 0.05), 0.5, 500
    generator = np.random.default_rng(7)
    false = 0
    for _ in range(paths):
        outcomes, decision = np.cumsum(generator.random(300) < p - 1e-9), start(plan)
        while not decision.done:
            n = plan.looks[decision.looks]
            decision = step(plan, decision, int(outcomes[n - 1]), n)
        false += decision.accepted > 0
    assert false <= binom.ppf(1 - 1e-9, paths, 0.05)  # one false alarm in 10**9 test runs


# ---- definitions -----------------------------------------------------------------------------------------------------


def test_the_union_bound_looks_where_the_program_does() -> None:
    looks = union_looks(131_100)
    assert looks[:6] == (3, 4, 5, 6, 7, 8)  # 1.1 ** 11 = 2.85 and the next unused integers
    for t, n in enumerate(looks[:-1], start=1):
        assert n > 1.1 ** (t + 10)
    assert looks[-1] == 131_100
    assert all(a < b for a, b in pairwise(looks))
    assert union_looks(1) == (1,)


def test_the_union_bound_decides_by_exact_bounds_that_spend_less_than_alpha() -> None:
    plan = union_design(1.0, (0.0, 0.4), 300, 0.1, 0.1)
    spent = [5 / ((t + 4) * (t + 5)) * 0.1 for t in range(1, len(plan.looks) + 1)]
    assert math.fsum(spent) < 0.1
    assert plan.alphas == pytest.approx(spent)
    for n, a, up, down in zip(plan.looks, spent, plan.accept, plan.futile, strict=True):
        for threshold, fewest, most in zip(plan.thresholds, up, down, strict=True):
            for s in range(n + 1):
                assert (s >= fewest) == (lower_bound(s, n, a) >= threshold - 1e-12)
                assert (s <= most) == (upper_bound(s, n, a) < threshold)


@pytest.mark.parametrize("z", [-1.5, 0.0, 0.7, 3.0])
def test_the_wealth_of_a_bettor_is_a_fair_game(z: float) -> None:
    n, p = 40, float(norm.cdf(z))
    mean = math.fsum(float(binom.pmf(s, n, p)) * math.exp(log_wealth(s, n, z)) for s in range(n + 1))
    assert mean == pytest.approx(1.0, rel=1e-9)


def test_the_wealth_is_the_product_of_the_bets() -> None:
    outcomes, z = np.random.default_rng(1).random(200) < 0.8, 0.5
    p, total, successes = float(norm.cdf(z)), 0.0, 0
    for n, outcome in enumerate(outcomes):
        guess = (successes + 0.5) / (n + 1)
        total += math.log(guess / p) if outcome else math.log((1 - guess) / (1 - p))
        successes += int(outcome)
    assert log_wealth(successes, len(outcomes), z) == pytest.approx(total, rel=1e-10)


def test_the_bettor_accepts_at_the_line_and_not_one_success_before() -> None:
    plan, line = betting_design(1.0, (0.0, 0.8, 2.0), 5_000, 0.01), math.log(1 / 0.01)
    for n, row in zip(plan.looks, plan.accept, strict=True):
        for radius, p, fewest in zip(plan.radii, plan.thresholds, row, strict=True):
            if fewest <= n:
                assert fewest >= p * n
                assert log_wealth(fewest, n, radius) >= line
            if fewest - 1 >= p * n:
                assert log_wealth(fewest - 1, n, radius) < line + 1e-5
    # For all that are less likely than p the bettor is at least as rich: one bet decides all radii.
    richer = [log_wealth(4_500, 5_000, z) for z in np.linspace(-1, 1.2, 50)]
    assert all(a >= b for a, b in pairwise(richer))


def test_the_adaptive_test_shares_alpha_over_its_four_budgets(plans: dict[str, Design]) -> None:
    plan = plans["adaptive"]
    assert plan.looks == (100, 1_100, 11_100, N)
    assert plan.alphas == (ALPHA / 4,) * 4
    for j, n in enumerate(plan.looks):
        for p, fewest in zip(plan.thresholds, plan.accept[j], strict=True):
            assert fewest == n + 1 or lower_bound(fewest, n, ALPHA / 4) >= p - 1e-12
            assert lower_bound(min(fewest, n + 1) - 1, n, ALPHA / 4) < p


@pytest.mark.parametrize("name", OTHERS)
def test_what_can_certify_nothing_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="can never certify"):
        MADE[name](1.0, (0.0,), 9, ALPHA)
    with pytest.raises(SpecError, match=r"radius 9\.0 is out of reach"):
        MADE[name](1.0, (0.0, 9.0), 1_000, ALPHA)
    with pytest.raises(SpecError, match="beta must lie"):
        MADE[name](1.0, (0.0,), 1_000, ALPHA, 2.0)
    assert MADE[name](1.0, (0.0, 9.0), 1_000, ALPHA, reachable=True).radii == (0.0,)


# ---- what they cost --------------------------------------------------------------------------------------------------


def test_the_table_of_the_document_is_computed_by_this_version(plans: dict[str, Design]) -> None:
    text = (PROJECT / "docs" / "certifiers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (0\.\d+|1) \| ([\d ]+) \| ([\d ]+) \| ([\d ]+) \| ([\d ]+) \|$", text, re.MULTILINE)
    assert len(rows) >= 12
    for p, *cells in rows:
        expected = [round(operating(plans[name], float(p)).samples) for name in MADE]
        assert [int(cell.replace(" ", "")) for cell in cells] == expected, p
