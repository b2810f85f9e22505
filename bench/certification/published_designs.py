"""Sequential tests of others as designs: union bound over looks, betting, and a few fixed budgets; pure, no files.

Each decides the same grid of radii by integer tables, as `bench.certification.sequential` does, so that all are
replayed, sized and priced by the same code.
Source: Voracek 2024, arXiv 2406.17830, the tests of its program. Differs: one growing sample decides all radii of an
image; the last look is at n, whatever n is.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace

from bench.certification.sequential import Design, check_beta, check_grid, fewest_successes, most_successes
from bench.types.errors import SpecError

_GROWTH, _SKIPPED = 1.1, 10  # the t-th look of the union bound is above 1.1 ** (t + 10)
_BUDGETS = (100, 1_100, 11_100)  # samples by the looks of the adaptive test, before its last
# Wealth is computed in floating point: near the line it counts as below, so that rounding accepts nothing. Its error is
# of the order of 1e-16 n log n: 1e-9 at n = 100 000, 1e-5 at 1e9.
_MARGIN, _MARGIN_UP_TO = 1e-6, 100_000


def union_design(
    sigma: float, radii: Sequence[float], n: int, alpha: float, beta: float = 0.001, *, reachable: bool = False
) -> Design:
    """Exact bounds at geometric looks, the t-th of which spends 5 alpha / ((t + 4) (t + 5)).

    With probability at least 1 - alpha every accepted radius holds: the spending adds up to less than alpha.
    Differs: it acts at its looks alone; the program also between two of them, once the later is sure to decide.
    Raises: SpecError for numbers that can certify nothing, or, unless `reachable`, a radius out of reach.
    """
    looks = union_looks(n)
    shares = [5 / ((t + 4) * (t + 5)) for t in range(1, len(looks) + 1)]
    alphas, betas = (tuple(level * share for share in shares) for level in (alpha, beta))
    asked = replace(_asked(sigma, radii, looks, alpha, beta), alphas=alphas, betas=betas)
    return _spending(asked, reachable=reachable)


def adaptive_design(
    sigma: float, radii: Sequence[float], n: int, alpha: float, beta: float = 0.001, *, reachable: bool = False
) -> Design:
    """Exact bounds after 100, 1 100, 11 100 and n samples, each at an equal share of alpha.

    Source: also Horvath et al. 2022 (CertifyAdp), there on fresh samples at each look.
    Raises: as `union_design`.
    """
    looks = (*(m for m in _BUDGETS if m < n), n)
    alphas, betas = ((level / len(looks),) * len(looks) for level in (alpha, beta))
    asked = replace(_asked(sigma, radii, looks, alpha, beta), alphas=alphas, betas=betas)
    return _spending(asked, reachable=reachable)


def betting_design(
    sigma: float, radii: Sequence[float], n: int, alpha: float, beta: float = 0.001, *, reachable: bool = False
) -> Design:
    """A bet against p = Phi(r / sigma) by the predictor of Krichevsky & Trofimov, whose wealth is an e-process.

    A radius is accepted once the wealth is at least 1 / alpha and the share of successes at least p. With probability
    at least 1 - alpha every accepted radius holds, at whatever looks: for the true p' < p the wealth is no smaller than
    against p, and it reaches 1 / alpha with probability at most alpha (Ville). No look spends, so that there are many:
    those of the union bound.
    Source: also Ville 1939; Krichevsky & Trofimov 1981. Differs: the line is 1 / alpha; the program has 1 / (2 alpha).
    Raises: as `union_design`.
    """
    looks = union_looks(n)
    return _decided(
        _asked(sigma, radii, looks, alpha, beta),
        accept=lambda j, r: _fewest_by_wealth(looks[j], r / sigma, alpha),
        futile=lambda j, r: looks[j] - _fewest_by_wealth(looks[j], -r / sigma, beta),
        reachable=reachable,
    )


def union_looks(n: int) -> tuple[int, ...]:
    """Samples drawn by each look: the t-th is the first unused integer above 1.1 ** (t + 10), and n the last."""
    sizes: list[int] = []
    while not sizes or sizes[-1] < n:
        above = math.floor(_GROWTH ** (len(sizes) + 1 + _SKIPPED)) + 1
        sizes.append(min(max(above, sizes[-1] + 1 if sizes else 1), n))
    return tuple(sizes)


def log_wealth(successes: int, n: int, z: float) -> float:
    """Logarithm of what a bettor against p = Phi(z) has of 1 after n outcomes, in whatever order they came."""
    from scipy.special import betaln, log_ndtr

    against = successes * float(log_ndtr(z)) + (n - successes) * float(log_ndtr(-z))
    return float(betaln(successes + 0.5, n - successes + 0.5)) - math.log(math.pi) - against


def _fewest_by_wealth(n: int, z: float, alpha: float) -> int:
    """The fewest successes at or above the share Phi(z) at which the wealth is 1 / alpha; n + 1 where none are."""
    from scipy.special import ndtr

    # From a share of Phi(z) on another success raises the wealth; below, more failures do.
    first = min(math.ceil(n * float(ndtr(z))), n)
    line = math.log(1 / alpha) + _MARGIN * max(1.0, n / _MARGIN_UP_TO)
    return first + bisect_left(range(first, n + 1), line, key=lambda s: log_wealth(s, n, z))


def _asked(sigma: float, radii: Sequence[float], looks: tuple[int, ...], alpha: float, beta: float) -> Design:
    """A design that spends nothing and decides nothing yet."""
    from scipy.special import ndtr

    check_beta(beta)
    grid = check_grid(sigma, radii, alpha)
    return Design(
        sigma=sigma,
        alpha=alpha,
        beta=beta,
        n=looks[-1],
        radii=grid,
        thresholds=tuple(float(ndtr(r / sigma)) for r in grid),
        looks=looks,
        alphas=(),
        betas=(),
        accept=(),
        futile=(),
    )


def _spending(asked: Design, *, reachable: bool) -> Design:
    """The design whose looks spend alpha on exact bounds."""
    from scipy.special import ndtr

    return _decided(
        asked,
        accept=lambda j, r: fewest_successes(asked.looks[j], asked.alphas[j], sigma=asked.sigma, radius=r),
        futile=lambda j, r: most_successes(asked.looks[j], asked.betas[j], float(ndtr(r / asked.sigma))),
        reachable=reachable,
    )


def _decided(
    asked: Design, *, accept: Callable[[int, float], int], futile: Callable[[int, float], int], reachable: bool
) -> Design:
    """The design by these tables, at the radii that some look can accept, at least the first.

    Raises: SpecError where that is none, or, unless `reachable`, not all.
    """
    accepting, giving_up = (
        tuple(tuple(table(j, r) for r in asked.radii) for j in range(len(asked.looks))) for table in (accept, futile)
    )
    most = [
        k for k in range(len(asked.radii)) if any(row[k] <= n for n, row in zip(asked.looks, accepting, strict=True))
    ]
    if not most and asked.radii[0] == 0.0:
        raise SpecError(f"n={asked.n} can never certify by this test at alpha={asked.alpha:g}; raise n")
    if len(most) < len(asked.radii) and not reachable:
        raise SpecError(
            f"radius {asked.radii[len(most)]!r} is out of reach of n={asked.n} at sigma={asked.sigma!r}, "
            f"alpha={asked.alpha:g}; leave it out or raise n"
        )
    kept = max(len(most), 1)
    return replace(
        asked,
        radii=asked.radii[:kept],
        thresholds=asked.thresholds[:kept],
        accept=tuple(row[:kept] for row in accepting),
        futile=tuple(row[:kept] for row in giving_up),
    )
