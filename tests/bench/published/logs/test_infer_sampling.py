"""N and alpha are read off simulated logs of known N and alpha, and only where the radii tell."""

from __future__ import annotations

import numpy as np
import published_logs as made
import pytest

from bench.certification.bounds import largest_radius
from bench.published.logs.infer_sampling import Radii, Sampling, count_ranges, misfit, on_grid
from bench.published.logs.records import ImportedRow, Precision, number, printed_radii
from bench.published.logs.sampling import infer
from bench.published.logs.scores import rounded_up, score
from bench.types.errors import ReportError


def rows(made_rows: list[made.Row], form: str = "{:.3}") -> list[ImportedRow]:
    return [
        ImportedRow(index=i, label=y, predict=p, correct=y == p, radius=form.format(r), seconds=s)
        for i, y, p, r, s in made_rows
    ]


@pytest.mark.parametrize(
    ("n", "alpha", "sigma"),
    [(100_000, 0.001, 0.25), (100_000, 0.01, 0.5), (10_000, 0.001, 1.0), (1_000, 0.001, 0.5), (100_000, 0.001, 1.0)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_n_and_alpha_are_read_off_three_digits(n: int, alpha: float, sigma: float, seed: int) -> None:
    found = infer(rows(made.simulated(500, n=n, alpha=alpha, sigma=sigma, seed=seed)), sigma)
    assert found.sampling == Sampling(n, alpha, sigma), found


@pytest.mark.parametrize("form", ["{:.4f}", "{:.5}", "{!r}"])
def test_n_and_alpha_are_read_off_more_digits_too(form: str) -> None:
    found = infer(rows(made.simulated(300, n=100_000, alpha=0.01, sigma=0.25), form), 0.25)
    assert found.sampling == Sampling(100_000, 0.01, 0.25), found


def test_sigma_is_read_too_where_no_path_says_it() -> None:
    found = infer(rows(made.simulated(500, n=100_000, sigma=0.25)))
    assert found.sampling == Sampling(100_000, 0.001, 0.25)


def test_a_log_of_abstentions_tells_nothing() -> None:
    found = infer(rows([(k, 1, -1, 0.0, 1.0) for k in range(50)]), 0.5)
    assert found.sampling is None
    assert found.fits == ()
    assert "no image" in found.reason


@pytest.mark.parametrize("seed", range(5))
def test_a_log_without_saturation_tells_the_truth_or_nothing(seed: int) -> None:
    some = [r for r in made.simulated(300, certain=0.0, seed=seed) if r[3] < 1.2]
    found = infer(rows(some), 0.5)
    assert found.sampling in (None, Sampling(10_000, 0.001, 0.5))
    assert (found.chance is None) == (found.sampling is None)


@pytest.mark.parametrize("seed", range(12))
def test_an_honest_log_fits_its_sampling_and_is_given_no_other_name(seed: int) -> None:
    """By scipy's own beta and normal quantiles, over customary and odd pairs, digits and difficulties."""
    from scipy.stats import beta, norm

    rng = np.random.default_rng(seed)
    pairs = [(100, 0.001), (1_000, 0.01), (10_000, 0.001), (100_000, 0.001), (100_000, 0.01), (64_000, 0.001)]
    n, alpha = pairs[seed % 6]
    sigma, form = rng.choice([0.12, 0.25, 0.5, 1.0]), ("{:.3}", "{:.4f}", "{:.2f}", "{!r}")[seed % 4]
    votes = rng.binomial(n, 1 - 10.0 ** rng.uniform(-7, -0.2, 120))
    radii = sigma * norm.ppf(beta.ppf(alpha, votes, n - votes + 1))
    log = rows([(k, 1, 1, float(r), 1.0) if r >= 0 else (k, 1, -1, 0.0, 1.0) for k, r in enumerate(radii)], form)
    true = Sampling(n, alpha, float(sigma))
    assert misfit(Radii.of(log), true) == ""
    assert infer(log, float(sigma)).sampling in (None, true)


def test_radii_below_the_coarse_part_of_the_grid_tell_nothing() -> None:
    assert infer(rows([r for r in made.simulated(300, certain=0.0) if r[3] < 0.9]), 0.5).sampling is None


def test_full_digits_need_no_image_at_the_end() -> None:
    some = [r for r in made.simulated(60, n=100_000, certain=0.0, seed=2) if r[3] < 1.0]
    found = infer(rows(some, "{!r}"), 0.5)
    assert found.sampling == Sampling(100_000, 0.001, 0.5)
    assert found.chance is not None
    assert found.chance < 1e-9


def test_odd_n_is_not_named_but_bounded() -> None:
    found = infer(rows(made.simulated(800, n=70_000, sigma=0.25)), 0.25)
    assert found.sampling is None
    ranges = {alpha: (low, high) for alpha, low, high in found.ranges}
    low, high = ranges[0.001]
    assert low <= 70_000 <= high
    assert high - low < 4_000


@pytest.mark.parametrize("n", [8_000, 12_345, 56_000, 90_000, 125_000])
def test_odd_n_is_not_taken_for_a_round_one(n: int) -> None:
    assert infer(rows(made.simulated(500, n=n, sigma=0.5, seed=n)), 0.5).sampling is None


def test_radii_of_another_sigma_fit_no_sampling() -> None:
    assert infer(rows(made.simulated(500, n=100_000, sigma=0.25)), 1.0).sampling is None


def test_the_true_count_lies_within_its_range() -> None:
    n, alpha, sigma = 10_000, 0.001, 0.5
    votes = [5_200, 6_000, 8_000, 9_500, 9_900, 9_990, 9_998, 9_999, 10_000]
    radii = [made.radius(k, n, alpha, sigma) for k in votes]
    printed = rows([(k, 1, 1, r or 0.0, 1.0) for k, r in enumerate(radii)])
    ranges = count_ranges(printed, Sampling(n, alpha, sigma))
    for k, row in zip(votes, printed, strict=True):
        least, nearest, most = ranges[row.radius]
        assert least <= k <= most
        assert least <= nearest <= most
    # Near saturation the grid is coarser than three digits: the count is known.
    assert [ranges[row.radius] for row in printed[-4:]] == [(k, k, k) for k in votes[-4:]]


def test_count_ranges_are_the_counts_whose_radius_prints_alike() -> None:
    """By a slow way: every count's radius, printed."""
    n, alpha, sigma = 2_000, 0.01, 0.25
    texts: dict[str, list[int]] = {}
    for k in range(1_100, n + 1):
        texts.setdefault(f"{made.radius(k, n, alpha, sigma):.3}", []).append(k)
    printed = [
        ImportedRow(index=k, label=1, predict=1, correct=True, radius=text, seconds=None)
        for k, text in enumerate(texts)
    ]
    ranges = count_ranges(printed, Sampling(n, alpha, sigma))
    assert {t: ranges[t][::2] for t in list(texts)[1:]} == {t: (k[0], k[-1]) for t, k in list(texts.items())[1:]}


def test_the_ceiling_is_that_of_the_certificate() -> None:
    sampling = Sampling(100_000, 0.001, 0.25)
    assert sampling.ceiling == pytest.approx(largest_radius(100_000, sigma=0.25, alpha=0.001), rel=1e-12)


def test_radii_are_on_their_own_grid_and_not_all_on_another() -> None:
    log = rows(made.simulated(500, n=100_000, alpha=0.01, sigma=0.25))
    radii = Radii.of(log)
    assert on_grid(radii, Sampling(100_000, 0.01, 0.25)) == len(radii) > 10
    assert on_grid(radii, Sampling(100_000, 0.001, 0.25)) < len(radii)


def test_another_alpha_reads_what_the_votes_give() -> None:
    """From votes, printed at 0.01, read back at 0.001, against certificates computed from the votes at 0.001."""
    n, sigma, rng = 100_000, 0.5, np.random.default_rng(7)
    votes = [int(rng.binomial(n, 1 - 0.6 * rng.random() ** 3)) for _ in range(300)]
    log = rows([(k, 1, 1, r, 1.0) for k, v in enumerate(votes) if (r := made.radius(v, n, 0.01, sigma)) is not None])
    strict = [made.radius(v, n, 0.001, sigma) or -1.0 for v in votes if made.radius(v, n, 0.01, sigma) is not None]
    radii = (0.0, 0.5, 1.0, 1.5)
    found = score(log, radii, Sampling(n, 0.01, sigma), 0.001)
    for k, r in enumerate(radii):
        truth = sum(value >= r for value in strict)
        assert found.least[k] <= truth <= found.most[k]
        assert found.least[k] <= found.certified[k] <= found.most[k]


def test_a_smaller_alpha_cannot_be_undone() -> None:
    log = rows(made.simulated(50))
    with pytest.raises(ReportError, match="abstentions"):
        score(log, (0.0,), Sampling(10_000, 0.001, 0.5), 0.01)


def test_accuracy_counts_right_classes_of_at_least_that_radius() -> None:
    log = rows([(0, 1, 1, 0.5, 1.0), (1, 1, 2, 0.9, 1.0), (2, 1, -1, 0.0, 1.0), (3, 1, 1, 0.25, 1.0)])
    found = score(log, (0.0, 0.25, 0.5, 0.75))
    assert found.certified == (2, 2, 1, 0)
    assert found.abstained == 1
    assert found.acr == pytest.approx(0.75 / 4)


def test_a_radius_that_rounding_lifted_over_the_threshold_is_found() -> None:
    log = rows([(0, 1, 1, 0.4996, 1.0), (1, 1, 1, 0.501, 1.0), (2, 1, 2, 0.4996, 1.0), (3, 1, 1, 0.123, 1.0)])
    assert log[0].radius == "0.5"
    assert rounded_up(log, (0.0, 0.25, 0.5)) == {0.5: 1}
    found = score(log, (0.5,))
    assert (found.least, found.certified, found.most) == ((1,), (2,), (2,))


def test_the_largest_radius_comes_first_and_precision_is_the_logs() -> None:
    log = rows(made.simulated(100))
    radii = printed_radii(log)
    values = [number(text) for text in radii]
    assert values == sorted(values, reverse=True)
    assert Precision.of(radii).significant == 3
