"""Bounds against 60-digit arithmetic and statsmodels; certificates against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm
from statsmodels.stats.proportion import proportion_confint

from bench.certification.bounds import (
    certify,
    check_samples,
    largest_radius,
    lower_bound,
    off_scale,
    predict,
    randomised_bound,
    smallest_n,
    upper_bound,
)
from bench.types import ABSTAIN, Counts
from bench.types.errors import SpecError

# One-sided Clopper-Pearson lower bounds, solved in 60-digit arithmetic.
EXACT = [
    (1, 100, 0.001, 0.00001000495328595637650448504),
    (50, 100, 0.001, 0.3447980064253177565943679),
    (60, 100, 0.01, 0.4789036127977120523443071),
    (90, 100, 0.001, 0.7753298801677749252966198),
    (99, 100, 2.6470588235294117e-6, 0.8544078733360642140910423),
    (100, 100, 0.001, 0.9332543007969910435320966),
    (1, 1000, 2.6470588235294117e-6, 2.647062323492332423158885e-9),
]


@pytest.mark.parametrize(("k", "n", "alpha", "p"), EXACT)
def test_the_bound_equals_sixty_digit_arithmetic(k: int, n: int, alpha: float, p: float) -> None:
    assert lower_bound(k, n, alpha) == pytest.approx(p, rel=1e-9)


def test_every_golden_bound_holds(golden_certificate: dict) -> None:
    for case in golden_certificate["bounds"]:
        bound = lower_bound(case["k"], case["n"], float(case["alpha"]))
        assert bound == pytest.approx(float(case["p_lower"]), rel=1e-9), case
        assert norm.ppf(bound) == pytest.approx(float(case["z"]), rel=1e-8, abs=1e-10), case


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 100_000), st.floats(0, 1), st.sampled_from([0.05, 0.01, 0.001, 1e-6]))
def test_the_bound_is_statsmodels_two_sided_one_at_twice_alpha(n: int, share: float, alpha: float) -> None:
    k = round(n * share)
    assert lower_bound(k, n, alpha) == pytest.approx(
        proportion_confint(k, n, 2 * alpha, "beta")[0], rel=1e-9, abs=1e-300
    )


@settings(deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.05, 0.001]))
def test_at_the_bound_the_tail_is_alpha(n: int, share: float, alpha: float) -> None:
    k = max(1, round(n * share))
    assert binom.sf(k - 1, n, lower_bound(k, n, alpha)) == pytest.approx(alpha, rel=1e-6)


def test_no_success_bounds_nothing_instead_of_nan() -> None:
    assert lower_bound(0, 100, 0.001) == 0.0
    assert certify(Counts.of([(3, 1)]), Counts.of([(2, 100)]), sigma=1.0, alpha=0.001).label == ABSTAIN


def test_lower_and_upper_bounds_mirror_each_other() -> None:
    assert upper_bound(30, 100, 0.01) == pytest.approx(1 - lower_bound(70, 100, 0.01), abs=1e-15)
    assert upper_bound(100, 100, 0.01) == 1.0


@pytest.mark.parametrize(("n", "least"), [(100_000, 50_490), (10_000, 5_156), (100, 66)])
def test_certification_begins_at_the_known_number_of_votes(n: int, least: int) -> None:
    # The counts that Cohen's procedure needs at alpha = 0.001.
    selection = Counts.of([(0, 1)])
    for votes, certified in ((least, True), (least - 1, False)):
        found = certify(selection, Counts.of([(0, votes), (1, n - votes)]), sigma=0.5, alpha=0.001)
        assert (not found.abstained) is certified


@pytest.mark.parametrize(("n", "ceiling"), [(100_000, 3.8114565633899145), (10_000, 3.1985775147383384)])
def test_a_unanimous_vote_gives_the_ceiling_of_the_radius(n: int, ceiling: float) -> None:
    assert largest_radius(n, sigma=1.0, alpha=0.001) == pytest.approx(ceiling, rel=1e-9)
    found = certify(Counts.of([(7, 100)]), Counts.of([(7, n)]), sigma=0.25, alpha=0.001)
    assert found.label == 7
    assert found.radius == pytest.approx(0.25 * ceiling, rel=1e-9)


def test_selection_ties_go_to_the_lowest_class() -> None:
    found = certify(Counts.of([(4, 50), (2, 50)]), Counts.of([(2, 990), (4, 10)]), sigma=1.0, alpha=0.001)
    assert found.label == 2


def test_a_class_that_selection_missed_is_never_certified() -> None:
    # The estimation's own winner must not be taken: that would use one draw for both stages.
    found = certify(Counts.of([(1, 51), (0, 49)]), Counts.of([(0, 1000)]), sigma=1.0, alpha=0.001)
    assert found.label == ABSTAIN
    assert found.radius == 0.0


def test_an_abstention_certifies_no_class_even_at_radius_zero() -> None:
    found = certify(Counts.of([(0, 1)]), Counts.of([(0, 50), (1, 50)]), sigma=1.0, alpha=0.001)
    assert found.abstained
    assert not any(found.certifies(label, 0.0) for label in (0, 1))


def test_a_radius_counts_at_exactly_its_own_length() -> None:
    found = certify(Counts.of([(0, 1)]), Counts.of([(0, 900), (1, 100)]), sigma=1.0, alpha=0.001)
    assert found.certifies(0, found.radius)
    assert not found.certifies(0, math.nextafter(found.radius, 9))
    assert not found.certifies(1, 0.0)


def test_the_two_sided_bound_follows_its_formula() -> None:
    votes = Counts.of([(0, 6000), (1, 1000), (2, 1000), (3, 2000)])
    found = certify(Counts.of([(0, 10)]), votes, sigma=0.5, alpha=0.001, bound="papb")
    p_a, p_b = lower_bound(6000, 10_000, 0.0005), upper_bound(2000, 10_000, 0.0005)
    assert found.radius == pytest.approx(0.25 * (norm.ppf(p_a) - norm.ppf(p_b)), rel=1e-9)


def test_the_two_sided_bound_certifies_a_plurality_that_one_minus_pa_cannot() -> None:
    selection, votes = Counts.of([(0, 10)]), Counts.of([(0, 4500), (1, 1500), (2, 2000), (3, 2000)])
    assert certify(selection, votes, sigma=1.0, alpha=0.001).abstained
    assert certify(selection, votes, sigma=1.0, alpha=0.001, bound="papb").radius > 0.2


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_the_two_sided_bound_never_beats_both_halves_of_alpha(a: int, b: int) -> None:
    # With two classes p_B = 1 - p_A: the two-sided radius is the one-sided one at alpha / 2, never more.
    if a + b == 0:
        return
    selection, votes = Counts.of([(0, 1)]), Counts.of([(0, a), (1, b)])
    two = certify(selection, votes, sigma=1.0, alpha=0.002, bound="papb")
    one = certify(selection, votes, sigma=1.0, alpha=0.001)
    assert two.radius == pytest.approx(one.radius, abs=1e-9)


def test_the_two_sided_bound_covers_the_true_radius() -> None:
    # Three classes; alpha = 0.05 so that 2000 draws see failures. One false alarm in 10**9 runs of this test.
    import numpy as np

    rng, alpha, truth = np.random.default_rng(5), 0.05, (0.5, 0.3, 0.2)
    radius = 0.5 * (norm.ppf(truth[0]) - norm.ppf(truth[1]))
    failed = 0
    for votes in rng.multinomial(300, truth, size=2000):
        found = certify(
            Counts.of([(0, 1)]), Counts.of(list(enumerate(votes.tolist()))), sigma=1.0, alpha=alpha, bound="papb"
        )
        failed += found.radius > radius
    assert failed <= binom.ppf(1 - 1e-9, 2000, alpha)


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from([0.001, 0.05]))
def test_prediction_is_the_two_sided_binomial_test(first: int, second: int, alpha: float) -> None:
    if first + second == 0:
        return
    label = predict(Counts.of([(0, first), (1, second)]), alpha=alpha)
    p_value = binomtest(max(first, second), first + second, 0.5).pvalue
    expected = ABSTAIN if p_value > alpha else (0 if first >= second else 1)
    if abs(p_value - alpha) > 1e-9:
        assert label == expected


def test_too_few_samples_are_refused_with_the_smallest_that_works() -> None:
    assert smallest_n(0.001) == 10
    with pytest.raises(SpecError, match=r"n=5 .* smallest n that can is 10"):
        check_samples(100, 5, 0.001, 0.5)
    check_samples(100, 10, 0.001, 0.5)
    assert not certify(Counts.of([(0, 1)]), Counts.of([(0, 10)]), sigma=1.0, alpha=0.001).abstained
    assert certify(Counts.of([(0, 1)]), Counts.of([(0, 9)]), sigma=1.0, alpha=0.001).abstained


@pytest.mark.parametrize(
    ("n0", "n", "alpha", "sigma"),
    [
        (100, 1000, 0.0, 0.5),
        (100, 1000, 0.5, 0.5),
        (100, 1000, 0.001, -1.0),
        (100, 1000, 0.001, math.nan),
        (0, 1000, 0.001, 0.5),
    ],
)
def test_senseless_settings_are_refused(n0: int, n: int, alpha: float, sigma: float) -> None:
    with pytest.raises(SpecError, match="must"):
        check_samples(n0, n, alpha, sigma)


def test_only_lengths_far_beyond_the_range_of_pixels_are_doubted() -> None:
    assert off_scale((0.12, 1.0, 2.0), (0.0, 0.25, 3.0, 7.5)) == ()
    (line,) = off_scale((64.0, 0.5, 64.0))
    assert "sigma 64 " in line
    assert "64/255 = 0.251" in line
    assert [each.partition(" is")[0] for each in off_scale((0.25,), (0.0, 64.0, 128.0))] == ["radius 64", "radius 128"]


# ---- a bound that takes a uniform number -----------------------------------------------------------------------------


@given(st.integers(1, 400), st.data())
def test_a_randomised_bound_lies_between_two_exact_ones(n: int, data: st.DataObject) -> None:
    successes, u = data.draw(st.integers(0, n)), data.draw(st.floats(0.0, 1.0, exclude_min=True))
    bound = randomised_bound(successes, n, 0.001, u)
    above = lower_bound(successes + 1, n, 0.001) if successes < n else math.nextafter(1.0, 0.0)
    assert lower_bound(successes, n, 0.001) <= bound <= above < 1
    assert randomised_bound(successes, n, 0.001, 1.0) == lower_bound(successes, n, 0.001)


@pytest.mark.parametrize("n", [1, 7, 60])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_a_randomised_bound_fails_as_often_as_it_says_and_no_more(n: int, alpha: float) -> None:
    counts = np.arange(n + 1)
    for p in (0.06, 0.3, 0.5, 0.9, 0.999):
        # It is above p exactly where P(X > x) + u P(X = x) < alpha: the share of u below is the failure of x.
        share = np.clip((alpha - binom.sf(counts, n, p)) / binom.pmf(counts, n, p), 0, 1)
        assert binom.pmf(counts, n, p) @ share == pytest.approx(alpha, rel=1e-9)  # before its ceiling: alpha, whole
        for x, u in zip(counts.tolist(), share.tolist(), strict=True):
            for v in (u * 0.999, min(u * 1.001 + 1e-9, 1.0)):
                if v > 2 * alpha:
                    assert (randomised_bound(x, n, alpha, v) > p) == (v < u or u == 1)
                elif v > 0:  # below twice alpha it is the bound of twice alpha, which is smaller
                    assert randomised_bound(x, n, alpha, v) == randomised_bound(x, n, alpha, 2 * alpha)


def test_simulated_draws_break_a_randomised_bound_as_often_as_alpha() -> None:
    generator, draws, n, p, alpha = np.random.default_rng(11), 2_000, 50, 0.8, 0.1
    failed = 0
    for _ in range(draws):
        u = 1 - generator.random()  # in (0, 1]
        failed += randomised_bound(int(generator.binomial(n, p)), n, alpha, u) > p
    # Exactly alpha but for the ceiling, which spares some; one false alarm in 10**9 test runs.
    assert failed <= binom.ppf(1 - 1e-9, draws, alpha)
    exact = sum(float(binom.pmf(x, n, p)) for x in range(n + 1) if lower_bound(x, n, alpha) > p)
    assert failed > draws * exact  # the exact bound leaves some of its alpha unspent


def test_a_bound_without_randomness_in_range_is_refused() -> None:
    for u in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="uniform must lie in"):
            randomised_bound(5, 10, 0.001, u)
    with pytest.raises(ValueError, match="'pa' alone"):
        certify(Counts.of([(0, 10)]), Counts.of([(0, 10)]), sigma=1.0, alpha=0.01, bound="papb", uniform=0.5)
