"""Sequential certification: registered looks, alpha spending, integer decisions at a grid of radii; pure, no files."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.certification.bounds import largest_radius, lower_bound, smallest_n, upper_bound
from bench.types import ABSTAIN, Certificate, Counts
from bench.types.errors import SpecError

FIRST_LOOK = 50  # fewer samples settle next to no image at the alpha of an early look
# Hard images decide a table's cells, and only the last look matters to them; easy ones need few samples at any alpha.
FINAL_SHARE = 0.9
MODES = ("table", "deploy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What is fixed before the first sample; nothing of it may change after, n least of all: the alpha is spent."""

    sigma: float  # l2, pixels in [0, 1]
    alpha: float  # bounds the chance that any promise about an image is false, over all looks and radii
    beta: float  # bounds the loss of power by giving up early; owes nothing to the promise
    n: int  # the last look
    radii: tuple[float, ...]  # the grid on which there are verdicts, ascending; K of them
    thresholds: tuple[float, ...]  # a radius holds if the class's probability is at least this: Phi(radius / sigma)
    looks: tuple[int, ...]  # samples drawn by each look; J of them
    alphas: tuple[float, ...]  # spent at each look; they add up to alpha; empty where no look spends
    betas: tuple[float, ...]
    accept: tuple[tuple[int, ...], ...]  # (J, K): the fewest successes that accept; look + 1 where none do
    futile: tuple[tuple[int, ...], ...]  # (J, K): the most successes that reject; -1 where none do


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is known of one image after some looks; accepting r accepts all smaller radii, rejecting it all larger."""

    looks: int  # taken
    n: int  # samples drawn
    successes: int  # among them, of the class in question
    accepted: int  # radii[:accepted] hold
    rejected: int  # radii[rejected:] are given up; those between are undecided
    p_lower: float  # the highest lower bound of any look taken, or what the verdicts prove; all of them hold at once
    done: bool  # every radius decided, or the last look taken; what is undecided then is not certified


def look_sizes(n: int) -> tuple[int, ...]:
    """Samples drawn by each look: 50, then a quarter more each time, and n at last."""
    sizes = [min(FIRST_LOOK, n)]
    while sizes[-1] < n:
        sizes.append(min(-(-5 * sizes[-1] // 4), n))  # ceil(1.25 n) in integers
    return tuple(sizes)


def spending(alpha: float, looks: int) -> tuple[float, ...]:
    """What of alpha each look may spend: nine tenths at the last, the rest evenly."""
    if looks == 1:
        return (alpha,)
    return ((1 - FINAL_SHARE) * alpha / (looks - 1),) * (looks - 1) + (FINAL_SHARE * alpha,)


def design(
    sigma: float, radii: Sequence[float], n: int, alpha: float, beta: float = 0.001, *, reachable: bool = False
) -> Design:
    """A sequential test of p >= Phi(r / sigma) at every radius r of a grid.

    With probability at least 1 - alpha every accepted radius of an image holds, whatever the stopping rule: each look's
    bound is exact at its fixed n_j and fails with probability at most alpha_j, and all radii share that one bound.
    Source: Clopper & Pearson 1934; union over looks as in Horvath et al. 2022 (CertifyAdp) and Voracek 2024, here on
    one growing sample. Differs: nine tenths of alpha wait for the last look, so a fixed-n table is kept almost whole.
    `reachable`: leave out the radii beyond reach of n, which are given up before the first sample, as with a fixed n.
    Raises: SpecError for numbers that can certify nothing, or a radius out of reach.
    """
    grid = check_grid(sigma, radii, alpha)
    check_beta(beta)
    least = smallest_n(alpha)
    if least > FIRST_LOOK:
        least = max(smallest_n(FINAL_SHARE * alpha), FIRST_LOOK + 1)
    if n < least:
        raise SpecError(f"n={n!r} can never certify at alpha={alpha:g}; the smallest n that can is {least}")
    looks = look_sizes(n)
    alphas = spending(alpha, len(looks))
    betas = (beta / len(looks),) * len(looks)
    top = largest_radius(n, sigma=sigma, alpha=alphas[-1])
    if reachable:
        grid = grid[: max(bisect_right(grid, top), 1)]
    if grid[-1] > top:
        raise SpecError(
            f"radius {grid[-1]!r} is out of reach of n={n} at sigma={sigma!r}, alpha={alpha:g}, where {top:.4g} is the "
            "largest; leave it out or raise n"
        )
    from scipy.special import ndtr

    thresholds = tuple(float(ndtr(r / sigma)) for r in grid)
    return Design(
        sigma=sigma,
        alpha=alpha,
        beta=beta,
        n=n,
        radii=grid,
        thresholds=thresholds,
        looks=looks,
        alphas=alphas,
        betas=betas,
        accept=tuple(
            tuple(fewest_successes(m, a, sigma=sigma, radius=r) for r in grid)
            for m, a in zip(looks, alphas, strict=True)
        ),
        futile=tuple(tuple(most_successes(m, b, p) for p in thresholds) for m, b in zip(looks, betas, strict=True)),
    )


def fewest_successes(n: int, alpha: float, *, sigma: float, radius: float) -> int:
    """The smallest count out of n that certifies the radius; n + 1 where none does.

    Decides as `bench.certification.bounds.certify` does, to the last bit: radii are compared, not probabilities.
    """
    from scipy.special import ndtri

    def certified(successes: int) -> float:
        p_lower = lower_bound(successes, n, alpha)
        return sigma * float(ndtri(p_lower)) if p_lower >= 0.5 else -math.inf

    return bisect_left(range(n + 1), radius, key=certified)


def target(mode: str, *, label: int | None = None, selection: Counts | None = None) -> int:
    """The class whose successes are counted; fixed before the samples that count, or the promise is void.

    "table": the true class, which asks no selection and knows no wrong one; good for certified accuracy alone.
    "deploy": the most frequent class of n0 samples that are used for nothing else; ties to the lowest class.
    Raises: ValueError for another mode, or without what the mode needs.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES!r}, got {mode!r}")
    if mode == "table":
        if label is None:
            raise ValueError("mode 'table' needs the true label")
        return label
    if selection is None or selection.n == 0:
        raise ValueError("mode 'deploy' needs the votes of a selection of its own")
    return selection.ranked()[0][0]


def start(design: Design) -> Decision:
    """What is known before the first sample: nothing."""
    return Decision(looks=0, n=0, successes=0, accepted=0, rejected=len(design.radii), p_lower=0.0, done=False)


def copies_to_next_look(design: Design, decision: Decision) -> int:
    """How many samples to draw now; 0 when done."""
    return 0 if decision.done else design.looks[decision.looks] - decision.n


def step(design: Design, decision: Decision, successes: int, n: int) -> Decision:
    """The decision after the next look, from the successes among all n samples so far.

    Verdicts are final. The promise does not lean on giving up: a rejection never makes an acceptance likelier.
    Raises: ValueError after the end, for another n than the next look's, or for counts that cannot have grown so.
    """
    if decision.done:
        raise ValueError(f"every radius is decided at n={decision.n}; there is no further look")
    j = decision.looks
    if n != design.looks[j]:
        raise ValueError(f"look {j + 1} is registered at n={design.looks[j]}, got n={n!r}")
    if not 0 <= successes - decision.successes <= n - decision.n:
        raise ValueError(
            f"successes went from {decision.successes} to {successes!r} while n went from {decision.n} to {n}"
        )
    accepted = max(decision.accepted, min(bisect_right(design.accept[j], successes), decision.rejected))
    rejected = max(accepted, min(bisect_left(design.futile[j], successes), decision.rejected))
    if design.alphas:
        proven = lower_bound(successes, n, design.alphas[j])
    else:
        proven = design.thresholds[accepted - 1] if accepted else 0.0
    return Decision(
        looks=j + 1,
        n=n,
        successes=successes,
        accepted=accepted,
        rejected=rejected,
        p_lower=max(decision.p_lower, proven),
        done=accepted == rejected or j + 1 == len(design.looks),
    )


def replay(design: Design, successes: Iterable[int]) -> Decision:
    """The decision that a stored path of counts, one a look, leads to.

    Raises: ValueError as `step`, so also for counts kept beyond the look that decided.
    """
    decision = start(design)
    for count in successes:
        if decision.done:
            raise ValueError(f"every radius is decided at n={decision.n}; there is no further look")
        decision = step(design, decision, count, design.looks[decision.looks])
    return decision


def certificate(design: Design, decision: Decision, label: int) -> Certificate:
    """The promise about the class that was counted, valid after any look.

    On the grid it says what the verdicts say. Off the grid it is a lower bound of what n samples would have shown,
    since sampling stopped when the grid was settled; it never leaves the grid's top for the same reason. Curves
    between radii, and average radii, need a fixed n or a fine grid.
    """
    from scipy.special import ndtri

    if decision.p_lower < 0.5:
        return Certificate(ABSTAIN, 0.0, decision.p_lower)
    radius = min(design.sigma * float(ndtri(decision.p_lower)), design.radii[-1])
    if decision.rejected < len(design.radii) and radius >= design.radii[decision.rejected]:
        # Given up at one look, within reach at a later one that another radius asked for: the verdict stands.
        radius = design.radii[decision.accepted - 1] if decision.accepted else 0.0
    return Certificate(label, radius, decision.p_lower)


def check_grid(sigma: float, radii: Sequence[float], alpha: float) -> tuple[float, ...]:
    """The radii as a tuple, once they, sigma and alpha are such as a certifier can use.

    Raises: SpecError, with what came.
    """
    if not 0 < alpha < 0.5:
        raise SpecError(f"alpha must lie in (0, 0.5), got {alpha!r}; the field uses 0.001")
    if not (sigma > 0 and math.isfinite(sigma)):
        raise SpecError(f"sigma must be a positive l2 noise level, got {sigma!r}; the field uses 0.25, 0.5, 1.0")
    grid = tuple(float(r) for r in radii)
    if not grid or not all(math.isfinite(r) and r >= 0 for r in grid) or list(grid) != sorted(set(grid)):
        raise SpecError(f"radii must be distinct, ascending and not negative, got {grid!r}; try 0.0 0.25 0.5")
    return grid


def check_beta(beta: float) -> None:
    """Nothing for a loss of power that a design may have.

    Raises: SpecError.
    """
    if not 0 < beta < 0.5:
        raise SpecError(f"beta must lie in (0, 0.5), got {beta!r}; 0.001 loses no visible power")


def most_successes(n: int, beta: float, p: float) -> int:
    """The largest count out of n whose upper bound is below p; -1 where none is."""
    return bisect_left(range(n + 1), p, key=lambda successes: upper_bound(successes, n, beta)) - 1
