from __future__ import annotations

import math

import numpy as np
import pytest

from bench.report.hypothesis_tests import (
    Discordance,
    benjamini_hochberg,
    bootstrap,
    detectable,
    holm,
    mcnemar,
    two_proportions,
)


def exact(only_a: int, only_b: int) -> float:
    n, k = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)


def test_mcnemar_is_the_binomial_tail_of_the_discordant_images() -> None:
    for a, b in ((0, 1), (6, 0), (9, 1), (30, 12), (5, 5)):
        assert mcnemar(Discordance(40, a, b, 10)) == pytest.approx(exact(a, b), rel=1e-9)
    assert mcnemar(Discordance(40, 0, 0, 10)) == 1.0


def test_five_discordant_images_are_never_significant_and_six_can_be() -> None:
    assert mcnemar(Discordance(0, 5, 0, 495)) > 0.05 > mcnemar(Discordance(0, 6, 0, 494))


def test_a_discordance_counts_each_image_once() -> None:
    table = Discordance.of([True, True, False, False, True], [True, False, True, False, False])
    assert (table.both, table.only_a, table.only_b, table.neither) == (1, 2, 1, 1)
    assert (table.images, table.difference, table.share) == (5, 0.2, 0.6)
    with pytest.raises(ValueError, match="shorter"):
        Discordance.of([True], [])


def test_the_unpaired_test_gives_the_hand_computed_p() -> None:
    # 51.2 % against 44.6 % of 500: z = 0.066 / sqrt(0.479 * 0.521 * 2 / 500) = 2.0888.
    assert two_proportions(256, 500, 223, 500) == pytest.approx(0.0367, abs=5e-5)
    assert two_proportions(5, 10, 50, 100) == 1.0
    assert two_proportions(0, 10, 0, 100) == two_proportions(10, 10, 100, 100) == 1.0


def test_holm_and_benjamini_hochberg_give_the_textbook_values() -> None:
    p = (0.01, 0.04, 0.03, 0.005)
    assert holm(p) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert benjamini_hochberg(p) == pytest.approx((0.02, 0.04, 0.04, 0.02))
    assert holm(()) == ()


def test_the_bootstrap_is_that_of_every_image_drawn_by_itself() -> None:
    values = np.random.default_rng(3).normal(size=200)
    picks = np.random.default_rng(0).integers(200, size=(10_000, 200))
    expected = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    assert bootstrap(values) == pytest.approx(tuple(expected), rel=1e-12)
    # Few values: how often each comes, which is the same in law; 0.02 is ten times the endpoints' error by the draws.
    few = np.sign(np.round(values))
    drawn = np.quantile(few[picks].mean(axis=1), [0.025, 0.975])
    assert bootstrap(few) == pytest.approx(tuple(drawn), abs=0.02)


def test_the_bootstrap_agrees_with_the_normal_interval_where_that_is_right() -> None:
    # Resamples are drawn from a fixed seed: right once is right always.
    values = [1.0] * 300 + [-1.0] * 200 + [0.0] * 1500
    low, high = bootstrap(values)
    half = 1.96 * float(np.std(values)) / math.sqrt(len(values))
    assert (low, high) == pytest.approx((0.05 - half, 0.05 + half), abs=0.05 * 2 * half)
    assert bootstrap(values) == (low, high)
    spread = np.random.default_rng(1).normal(2.0, 1.0, size=1000)  # more than 64 values: the other way
    low, high = bootstrap(spread)
    half = 1.96 * float(spread.std()) / math.sqrt(1000)
    assert (low, high) == pytest.approx((spread.mean() - half, spread.mean() + half), abs=0.05 * 2 * half)
    with pytest.raises(ValueError, match="at least one image"):
        bootstrap([])


def test_the_detectable_difference_is_found_with_the_stated_power() -> None:
    # Drawn 400 times at that very difference, the test must reject about 80 %: sd of the share is 2 points, and the
    # exact test is conservative, so 0.65 to 0.90 is left by chance less than once in 10**6.
    images, share = 2000, 0.10
    d = detectable(images, share)
    assert d is not None
    draws = np.random.default_rng(0).multinomial(images, [(share + d) / 2, (share - d) / 2, 1 - share], size=400)
    rejected = np.mean([mcnemar(Discordance(int(rest), int(a), int(b), 0)) <= 0.05 for a, b, rest in draws])
    assert 0.65 < rejected < 0.90


def test_the_detectable_difference_matches_the_published_orders() -> None:
    paired, unpaired = detectable(500, 0.09), detectable(500)
    assert paired == pytest.approx(math.sqrt(7.85 * 0.09 / 500), rel=0.02)
    assert unpaired == pytest.approx(math.sqrt(7.85 * 2 * 0.25 / 500), rel=0.02)


def test_too_few_discordant_images_can_show_no_difference() -> None:
    assert detectable(100, 0.01) is None
    assert detectable(100, 0.0) is None
    with pytest.raises(ValueError, match="images must be positive"):
        detectable(0)
