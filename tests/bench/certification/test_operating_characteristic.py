"""Exact operating characteristics against golden sizes, against all paths of a tiny design, and against simulation."""

from __future__ import annotations

import json
import math
from itertools import product

import numpy as np
import pytest
from places import GOLDEN_FILES
from scipy.special import betaincinv
from scipy.stats import binom

from bench.certification.operating_characteristic import crossing, exact_size, operating, simulate
from bench.certification.sequential import Design, design, fewest_successes, look_sizes, start, step

GOLDEN = json.loads((GOLDEN_FILES / "sequential.json").read_text())
ALPHA, N = 0.001, 100_000
GRIDS = {
    0.25: (0.0, 0.25, 0.5, 0.75),
    0.5: (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
    1.0: (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.5),
}
# Counts chosen for the enumeration, not for any level: corridors that overlap, and that have no overlap at some look.
TINY = Design(
    sigma=1.0,
    alpha=0.3,
    beta=0.3,
    n=8,
    radii=(0.0, 0.5, 1.0),
    thresholds=(0.5, 0.69, 0.84),
    looks=(2, 4, 7, 8),
    alphas=(0.05, 0.05, 0.05, 0.15),
    betas=(0.1, 0.1, 0.05, 0.05),
    accept=((2, 3, 3), (3, 4, 5), (4, 5, 7), (5, 7, 8)),
    futile=((-1, 0, 0), (0, 1, 3), (2, 2, 5), (2, 6, 7)),
)


def test_every_golden_size_holds(golden_certificate: dict) -> None:
    golden = golden_certificate["sequential"]["grid"]
    plan = design(1.0, [entry["radius_over_sigma"] for entry in golden], N, ALPHA)
    for entry in golden:
        assert exact_size(plan, entry["p0"]) == pytest.approx(entry["exact_size"], rel=1e-10)


def test_sizes_are_those_computed_elsewhere() -> None:
    plan = design(1.0, [entry["radius"] for entry in GOLDEN["grid"]], N, ALPHA)
    for entry, p in zip(GOLDEN["grid"], plan.thresholds, strict=True):
        assert exact_size(plan, p) == pytest.approx(entry["size"], rel=1e-10)


@pytest.mark.parametrize("sigma", GRIDS)
def test_the_size_is_at_most_alpha_wherever_it_can_be_worst(sigma: float) -> None:
    plan = design(sigma, GRIDS[sigma], N, ALPHA)
    for p in plan.thresholds:
        assert 0.6 * ALPHA < exact_size(plan, p) <= ALPHA
        assert exact_size(plan, p - 1e-4) < exact_size(plan, p)  # below a threshold it is harder to be wrong
    assert exact_size(plan, 1.0) == 0.0


def test_peeking_with_the_fixed_bound_is_fifteen_times_too_bold() -> None:
    looks = look_sizes(N)
    naive = [fewest_successes(n, ALPHA, sigma=1.0, radius=0.0) for n in looks]
    size = sum(crossing(looks, [-1] * len(looks), naive, 0.5).above)
    assert size == pytest.approx(1.5e-2, abs=5e-4)
    last = crossing([N], [-1], naive[-1:], 0.5).above[0]
    assert last <= ALPHA < size


@pytest.mark.parametrize("p", [0.0, 1e-9, 0.3, 0.5, 0.77, 0.97, 1.0])
def test_all_paths_of_a_tiny_design_add_up_to_what_is_computed(p: float) -> None:
    accept = [[] for _ in TINY.radii]
    going = [[] for _ in TINY.looks]
    samples, false = [], []
    for path in product((0, 1), repeat=TINY.n):
        weight = p ** sum(path) * (1 - p) ** (TINY.n - sum(path))
        decision = start(TINY)
        while not decision.done:
            n = TINY.looks[decision.looks]
            decision = step(TINY, decision, sum(path[:n]), n)
            if not decision.done:
                going[decision.looks - 1].append(weight)
        samples.append(weight * decision.n)
        for k in range(decision.accepted):
            accept[k].append(weight)
        if any(
            sum(path[:n]) >= row[k]
            for n, row in zip(TINY.looks, TINY.accept, strict=True)
            for k, threshold in enumerate(TINY.thresholds)
            if threshold >= p
        ):
            false.append(weight)
    known = operating(TINY, p)
    assert known.accept == pytest.approx([math.fsum(weights) for weights in accept], abs=1e-12)
    assert known.going == pytest.approx([math.fsum(weights) for weights in going], abs=1e-12)
    assert known.samples == pytest.approx(math.fsum(samples), rel=1e-12)
    assert exact_size(TINY, p) == pytest.approx(math.fsum(false), abs=1e-12)


@pytest.mark.parametrize("p", [1e-5, 0.02, 0.5, 0.8413, 0.99865, 1 - 1e-6])
def test_a_walk_without_edges_is_binomial_in_the_end(p: float) -> None:
    looks = look_sizes(N)
    never = [n + 1 for n in looks[:-1]]
    for z in (-4, 0, 3):
        least = min(max(1, math.ceil(N * p + z * math.sqrt(N * p * (1 - p)))), N)
        above = crossing(looks, [-1] * len(looks), [*never, least], p).above[-1]
        assert above == pytest.approx(binom.sf(least - 1, N, p), abs=1e-12)


def test_a_walk_is_refused_where_it_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="p must lie"):
        crossing([1, 2], [-1, -1], [2, 3], 1.1)
    with pytest.raises(ValueError, match="looks must be positive and ascend"):
        crossing([2, 2], [-1, -1], [2, 3], 0.5)
    with pytest.raises(ValueError, match="p must lie"):
        operating(TINY, math.nan)


def test_all_bounds_of_all_looks_hold_at_once() -> None:
    # No stopping at all: the union over looks is what every stopping rule inherits.
    alpha, images = 0.05, 20_000
    plan = design(0.5, (0.0, 0.5, 1.0), 2000, alpha)
    sizes = np.diff([0, *plan.looks])
    for k, p in enumerate(plan.thresholds):
        counts = np.random.default_rng(k).binomial(sizes, p, size=(images, len(sizes))).cumsum(axis=1)
        bounds = betaincinv(np.maximum(counts, 1), np.array(plan.looks) - np.maximum(counts, 1) + 1, plan.alphas)
        wrong = int((np.where(counts > 0, bounds, 0.0) > p).any(axis=1).sum())
        # Two sides of three draws: a false alarm in 10**8 runs. The lower side shows that the claim is not idle.
        assert binom.ppf(1e-9, images, 0.6 * alpha) <= wrong <= binom.ppf(1 - 1e-9, images, alpha)


def test_simulated_images_are_accepted_and_cost_as_computed() -> None:
    images = 1500
    plan = design(0.5, (0.0, 0.25, 0.5, 0.75), 2000, 0.05)
    for k, p in enumerate(plan.thresholds):
        generator = np.random.default_rng(k)
        decisions = [simulate(plan, p, generator) for _ in range(images)]
        false = sum(decision.accepted > k for decision in decisions)
        assert false <= binom.ppf(1 - 1e-9, images, 0.05)  # over all looks and larger radii
        known = operating(plan, p)
        for i, probability in enumerate(known.accept):
            accepted = sum(decision.accepted > i for decision in decisions)
            low, high = binom.ppf([1e-9, 1 - 1e-9], images, probability)  # 40 sides in all: 1 in 10**7 runs
            assert low <= accepted <= high
        cost = np.array([decision.n for decision in decisions])
        assert abs(cost.mean() - known.samples) <= 7 * max(cost.std(), 1) / math.sqrt(images)  # below 1 in 10**9


def test_easy_images_are_cheap_and_only_hard_ones_take_all() -> None:
    plan = design(0.5, (0.0, 0.5), N, ALPHA)
    assert operating(plan, 0.0).samples == 50
    assert operating(plan, 1.0).samples == 79  # as many straight successes as the first look needs that can accept 0.5
    assert operating(plan, plan.thresholds[1]).samples > 0.99 * N
