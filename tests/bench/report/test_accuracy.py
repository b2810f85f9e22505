from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import pytest
from report_runs import row, run

from bench.report.accuracy import certified_accuracy, curve
from bench.report.envelope import envelope
from bench.report.statistics import noise_correction, wilson
from bench.types.errors import ReportError

# All of n votes agree: the lower bound is alpha ** (1 / n), whatever computes it.
UNANIMOUS = NormalDist().inv_cdf(0.001 ** (1 / 1000))  # 2.46 in units of sigma


def test_certified_accuracies_are_those_counted_by_hand() -> None:
    # sigma 0.5: 1000 votes certify 1.23, 900 certify 0.56 (p_lower 0.867), 500 abstain, 0 is the wrong class.
    score = certified_accuracy(run([1000, 900, 500, 0]), (0.0, 0.5, 0.75, 1.0, 1.25))
    assert score.certified == (2, 2, 1, 1, 0)
    assert score.fractions == (0.5, 0.5, 0.25, 0.25, 0.0)
    assert (score.abstained, score.images) == (1, 4)


def test_an_abstention_is_wrong_even_at_radius_zero() -> None:
    # 520 of 1000 votes are a right majority, but no certificate at alpha = 0.001.
    score = certified_accuracy(run([520, 520]), (0.0,))
    assert (score.certified, score.abstention, score.acr) == ((0,), 1.0, 0.0)


def test_the_average_radius_counts_wrong_and_abstained_images_as_zero() -> None:
    score = certified_accuracy(run([1000, 500, 0, 1000]), (0.0,))
    assert score.acr == pytest.approx(2 * 0.5 * UNANIMOUS / 4, rel=1e-9)


def test_an_image_counts_at_its_own_radius_and_not_beyond() -> None:
    steps = curve(run([1000]))
    radius = steps.steps[0]
    assert (steps.count(0.0), steps.count(radius), steps.count(radius * (1 + 1e-12))) == (1, 1, 0)


def test_the_curve_agrees_with_the_table_at_every_radius() -> None:
    some = run([1000, 950, 900, 800, 700, 600, 540, 0])
    radii = tuple(k / 20 for k in range(30))
    assert certified_accuracy(some, radii).certified == tuple(curve(some).count(r) for r in radii)


def test_another_alpha_rereads_the_same_votes() -> None:
    loose = certified_accuracy(run([1000]), (0.0,), alpha=0.05)
    assert loose.acr == pytest.approx(0.5 * NormalDist().inv_cdf(0.05 ** (1 / 1000)), rel=1e-9)


def test_the_runner_up_bound_certifies_what_the_plain_one_cannot() -> None:
    # 480 of 1000 against nine classes of a handful: no majority, so only the bound with p_B can speak.
    votes = [(3, 480), *((c, 65) for c in range(10, 18))]
    spread = run([1000])
    counts = replace(spread.rows[0].estimation, votes=tuple(votes))
    spread = replace(spread, rows=(replace(spread.rows[0], estimation=counts),))
    assert certified_accuracy(spread, (0.0,), "pa").certified == (0,)
    assert certified_accuracy(spread, (0.0,), "papb").certified == (1,)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (run([1000], certifier="cpseq"), "certified by 'cpseq'"),
        (run([], images=4), "no certified image yet"),
        (replace(run([1000]), rows=(row(0, 500, 500),)), "image 0 has 500 samples, expected n=1000"),
    ],
)
def test_rows_that_allow_no_certificate_are_refused(broken: object, words: str) -> None:
    with pytest.raises(ReportError, match=words):
        certified_accuracy(broken, (0.0,))  # type: ignore[arg-type]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, float("nan")])
def test_an_alpha_that_promises_nothing_is_refused(alpha: float) -> None:
    with pytest.raises(ReportError, match="alpha must lie in"):
        certified_accuracy(run([1000]), (0.0,), alpha=alpha)


def test_the_envelope_names_the_winner_at_each_radius() -> None:
    low, high = run([1000, 1000, 500], sigma=0.25), run([1000, 500, 500], sigma=1.0)
    best = envelope([high, low], (0.0, 0.5, 1.0)).best
    assert [(b.certified, b.run.spec.sigma) for b in best] == [(2, 0.25), (2, 0.25), (1, 1.0)]


def test_the_envelope_gives_a_tie_to_the_smaller_sigma() -> None:
    best = envelope([run([1000], sigma=1.0), run([1000], sigma=0.25)], (0.0,)).best
    assert best[0].run.spec.sigma == 0.25


def test_a_few_images_cannot_win_the_envelope_over_many() -> None:
    whole, begun = run([1000, 0, 0, 0], sigma=0.25), run([1000], sigma=0.5, images=4)
    made = envelope([begun, whole], (0.0,))
    assert (made.best[0].run, made.best[0].certified, made.images) == (whole, 1, 4)
    assert made.left_out == (begun,)


def test_an_envelope_of_incomplete_runs_is_over_the_images_they_share() -> None:
    made = envelope([run([0, 1000], sigma=0.25, images=9), run([0, 0, 1000], sigma=0.5, images=9)], (0.0,))
    assert (made.images, made.best[0].certified, made.best[0].run.spec.sigma) == (2, 1, 0.25)


@pytest.mark.parametrize("change", [{"method": "other"}, {"subset_fingerprint": "cd" * 32}, {"shape": (1, 9, 9)}])
def test_the_envelope_refuses_runs_that_do_not_compare(change: dict[str, object]) -> None:
    with pytest.raises(ReportError, match="separate tables"):
        envelope([run([1000]), run([1000], **change)], (0.0,))


def test_wilson_equals_the_literature() -> None:
    # Newcombe 1998, Statistics in Medicine 17, Table I, method 3: 81/263 and 15/148.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_wilson_stays_within_zero_and_one() -> None:
    assert all(0 <= wilson(k, n)[0] <= k / n <= wilson(k, n)[1] <= 1 for n in (1, 7, 500) for k in (0, n // 2, n))


def test_the_noise_correction_is_the_smallest_that_holds() -> None:
    from math import comb

    def tail(k: int, m: int) -> float:  # P(Binomial(m, 0.001) > k)
        return 1 - sum(comb(m, j) * 0.001**j * 0.999 ** (m - j) for j in range(k + 1))

    for m in (100, 500, 1000):
        k = round(noise_correction(m, 0.001) * m)
        assert tail(k, m) <= 0.001 < tail(k - 1, m)
    # 300 copies of one image fail together with it: at that level at most 3 of 201 distinct ones fail.
    assert tail(3, 201) <= 0.001 < tail(2, 201)
    assert noise_correction([1] * 200 + [300], 0.001) == (300 + 2) / 500
    # Without the factor 2 in Bernstein's root the correction at 10 000 images is 20.6 images: one too few.
    assert noise_correction(10_000, 0.001) == 21 / 10_000
