"""From votes to a bound to a radius: pure functions of counts, no torch, no files."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bench.types import ABSTAIN, Certificate, Counts
from bench.types.errors import SpecError
from bench.types.limits import ALPHA, SAMPLES, SIGMA, check_within

BOUNDS = ("pa", "papb")
# No published network is certified at a noise above 2, in pixels of [0, 1]; with 100 000 samples at alpha 0.001 its
# radii end at 3.81 sigma.
LARGEST_SIGMA, LARGEST_RADIUS = 2.0, 8.0


def lower_bound(successes: int, n: int, alpha: float) -> float:
    """Exact one-sided lower confidence bound on a proportion.

    With probability at least 1 - alpha over the draw, the true proportion is no smaller.
    Error: relative 1e-9 for n <= 100 000 against 60-digit arithmetic (tests/bench/certification/test_bounds.py).
    Source: Clopper & Pearson 1934; as used in Cohen et al. 2019, Section 3.2.2.
    Raises: ValueError unless 0 <= successes <= n, n > 0 and 0 < alpha < 1.
    """
    _check(successes, n, alpha)
    if successes == 0:  # betaincinv(0, n + 1, alpha) is nan, and nan < 1/2 is False: a certificate out of nothing
        return 0.0
    from scipy.special import betaincinv

    bound = float(betaincinv(successes, n - successes + 1, alpha))
    return 0.0 if math.isnan(bound) else bound  # of an alpha below 1e-284: nothing is promised then


def upper_bound(successes: int, n: int, alpha: float) -> float:
    """Exact one-sided upper confidence bound on a proportion.

    Source: Clopper & Pearson 1934, by the symmetry successes <-> failures.
    Raises: ValueError as `lower_bound`.
    """
    return 1.0 - lower_bound(n - successes, n, alpha)


def randomised_bound(successes: int, n: int, alpha: float, uniform: float) -> float:
    """One-sided lower confidence bound on a proportion that spends alpha whole, by one uniform number beside the draw.

    `uniform`: drawn from (0, 1) once, independently of the draw. 1 gives `lower_bound`, less gives more; what is below
    2 alpha counts as 2 alpha, where n successes out of n would prove a proportion of 1, so an infinite radius.
    With probability at least 1 - alpha over both, the true proportion is no smaller.
    Source: Stevens 1950: L solves U I_L(x, n - x + 1) + (1 - U) I_L(x + 1, n - x) = alpha.
    Raises: ValueError as `lower_bound`, or unless 0 < uniform <= 1.
    """
    _check(successes, n, alpha)
    if not 0 < uniform <= 1:
        raise ValueError(f"uniform must lie in (0, 1], got {uniform!r}")
    if successes == 0 or uniform == 1:
        return lower_bound(successes, n, alpha)
    from scipy.special import betainc

    u = min(max(uniform, 2 * alpha), 1.0)

    def tail(p: float) -> float:
        # P(X > x) + u P(X = x); beyond n there is nothing, and betainc(n + 1, 0, p) is nan.
        above = float(betainc(successes + 1, n - successes, p)) if successes < n else 0.0
        return u * float(betainc(successes, n - successes + 1, p)) + (1 - u) * above

    low, high = lower_bound(successes, n, alpha), lower_bound(successes + 1, n, alpha) if successes < n else 1.0
    while low < (middle := (low + high) / 2) < high:  # to the last bit; the end whose tail is at most alpha
        low, high = (middle, high) if tail(middle) <= alpha else (low, middle)
    return low


def certify(
    selection: Counts,
    estimation: Counts,
    *,
    sigma: float,
    alpha: float,
    bound: str = "pa",
    uniform: float | None = None,
) -> Certificate:
    """The promise that two independent draws allow.

    The class comes from `selection` (ties to the lowest class), the bound from `estimation` alone.
    "pa": p_B <= 1 - p_A, radius sigma * Phi^-1(p_A); abstains if p_A < 1/2.
    "papb": p_A at alpha / 2 and the empirical runner-up's upper bound at alpha / 2, radius
    sigma / 2 * (Phi^-1(p_A) - Phi^-1(p_B)); abstains if it is not positive. No factor for the number of classes is
    owed: a radius too large needs one of the two bounds of the *true* runner-up to fail (intersection-union test).
    `uniform`: of this image, for `randomised_bound` in place of the exact one; "pa" alone.
    The promise fails with probability at most alpha per image. The two bounds are never mixed in one table.
    Source: Cohen et al. 2019, CERTIFY (Theorem 1; Section 3.2.2); rRCM paper, Eq. 5; Berger 1982.
    Raises: ValueError for an empty draw, sigma <= 0, another bound, or a uniform number beside "papb".
    """
    if bound not in BOUNDS:
        raise ValueError(f"bound must be one of {BOUNDS!r}, got {bound!r}")
    if not sigma > 0 or not math.isfinite(sigma):
        raise ValueError(f"sigma must be positive and finite, got {sigma!r}")
    if selection.n == 0 or estimation.n == 0:
        raise ValueError("both stages need votes")
    if uniform is not None and bound != "pa":
        raise ValueError("a randomised bound is of bound 'pa' alone")
    from scipy.special import ndtri

    label = selection.ranked()[0][0]
    if bound == "pa":
        if uniform is None:
            p_lower = lower_bound(estimation[label], estimation.n, alpha)
        else:
            p_lower = randomised_bound(estimation[label], estimation.n, alpha, uniform)
        if p_lower < 0.5:
            return Certificate(ABSTAIN, 0.0, p_lower)
        return Certificate(label, sigma * float(ndtri(p_lower)), p_lower)
    p_lower = lower_bound(estimation[label], estimation.n, alpha / 2)
    rest = max((votes for c, votes in estimation.votes if c != label), default=0)
    # p_B is never above 1 - p_A: where that is smaller, it is the tighter bound, and it holds on the same event.
    p_upper = min(upper_bound(rest, estimation.n, alpha / 2), 1.0 - p_lower)
    radius = sigma / 2 * (float(ndtri(p_lower)) - float(ndtri(p_upper)))
    if not radius > 0:
        return Certificate(ABSTAIN, 0.0, p_lower)
    return Certificate(label, radius, p_lower)


def predict(counts: Counts, *, alpha: float) -> int:
    """The smoothed classifier's label, or ABSTAIN.

    Wrong with probability at most alpha: a two-sided binomial test of the top two classes at p = 1/2.
    Source: Cohen et al. 2019, PREDICT (Proposition 2); Hung & Fithian 2019.
    Raises: ValueError for an empty draw or alpha outside (0, 1).
    """
    _check(0, counts.n, alpha)
    ranked = counts.ranked()
    first = ranked[0][1]
    second = ranked[1][1] if len(ranked) > 1 else 0
    from scipy.special import betainc

    # P(Bin(n, 1/2) >= first) = I_{1/2}(first, second + 1); doubled, and 1 where the two tie.
    p_value = 1.0 if first == second else min(1.0, 2 * float(betainc(first, second + 1, 0.5)))
    return ABSTAIN if p_value > alpha else ranked[0][0]


def smallest_n(alpha: float, bound: str = "pa") -> int:
    """The fewest estimation samples with which a certificate is possible at all: all votes agree and p_lower >= 1/2."""
    level = alpha if bound == "pa" else alpha / 2
    n = max(1, math.ceil(math.log(level) / math.log(0.5)))
    while lower_bound(n, n, level) < 0.5:
        n += 1
    return n


def largest_radius(n: int, *, sigma: float, alpha: float) -> float:
    """The radius of an image on which all n votes agree: the ceiling of every curve at that sigma."""
    from scipy.special import ndtri

    return sigma * float(ndtri(lower_bound(n, n, alpha)))


def check_samples(n0: int, n: int, alpha: float, sigma: float) -> None:
    """Refuse sample sizes, alpha or sigma that can never certify.

    Raises: SpecError, with the smallest n that works; UsageError for numbers without measure.
    """
    if not 0 < alpha < 0.5:
        raise SpecError(f"alpha must lie in (0, 0.5), got {alpha!r}; the field uses 0.001")
    if not (sigma > 0 and math.isfinite(sigma)):
        raise SpecError(
            f"sigma must be a positive l2 noise level in [0, 1] pixels, got {sigma!r}; the field uses 0.25, 0.5, 1.0"
        )
    if n0 < 1:
        raise SpecError(f"n0 must be at least 1, got {n0!r}; the field uses 100")
    check_within("--alpha", alpha, ALPHA, 0.5)
    check_within("--sigma", sigma, *SIGMA)
    check_within("--n0", n0, 1, SAMPLES)
    check_within("--n", n, -math.inf, SAMPLES)
    least = smallest_n(alpha)
    if n < least:
        raise SpecError(
            f"n={n} can never certify at alpha={alpha:g}: every image would abstain; the smallest n that can is {least}"
        )


def _check(successes: int, n: int, alpha: float) -> None:
    if n <= 0:
        raise ValueError(f"n must be positive, got {n!r}")
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in [0, {n}], got {successes!r}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie in (0, 1), got {alpha!r}")


def off_scale(sigmas: Iterable[float], radii: Iterable[float] = ()) -> tuple[str, ...]:
    """A line on each length so far beyond the range of pixels that it may be meant in another unit, 0 to 255."""
    lengths = [("sigma", value, LARGEST_SIGMA) for value in sigmas] + [("radius", r, LARGEST_RADIUS) for r in radii]
    return tuple(
        f"{what} {value:g} is an l2 length in pixels of [0, 1], far beyond what is published (at most {limit:g}); "
        f"in pixels of 0 to 255 it would be {value:g}/255 = {value / 255:.3g}"
        for what, value, limit in dict.fromkeys(lengths)
        if value > limit
    )
