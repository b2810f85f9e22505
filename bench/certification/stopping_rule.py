"""When an image of a run needs no further sample, and what its row then says; pure, from the spec and the votes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from bench.certification.curtailment import Curtailment, curtail, forced
from bench.certification.published_designs import adaptive_design, betting_design, union_design
from bench.certification.sequential import (
    Decision,
    Design,
    design,
    replay,
    start,
    step,
    target,
)
from bench.types import FORCED, WRONG, Counts, Row, RunSpec
from bench.types.errors import SpecError

# Tests that look at the votes of an image as they grow, by what --certifier calls them.
DESIGNS: Mapping[str, Callable[..., Design]] = {
    "sequential": design,
    "union": union_design,
    "betting": betting_design,
    "adaptive": adaptive_design,
}
RANDOMISED = "randomised"  # a fixed n, whose bound takes one uniform number an image
CERTIFIERS = ("cohen", RANDOMISED, *DESIGNS)
BETA = 0.001
# Of a fixed n that may stop early: the last looks save most, so they lie evenly.
EARLY_LOOKS = 100


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a row says of its image: the class in question holds at the first `accepted` of the spec's radii."""

    label: int  # the class that was counted: the true one in mode "table" of the sequential certifier
    accepted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """The fields of a spec that fix when its images stop."""

    radii: tuple[float, ...]
    looks: tuple[int, ...]
    alphas: tuple[float, ...]
    beta: float
    mode: str


def register(
    certifier: str, *, sigma: float, radii: Sequence[float], n: int, alpha: float, beta: float, mode: str
) -> Registration:
    """What must be fixed before the first sample.

    Raises: SpecError for numbers that can certify nothing; a radius out of reach of n is no error, it holds nowhere.
    """
    grid = tuple(map(float, radii))
    if not is_sequential(certifier):
        curtail(sigma, grid, n, alpha)
        looks = tuple(sorted({max(1, n * k // EARLY_LOOKS) for k in range(1, EARLY_LOOKS + 1)}))
        return Registration(radii=grid, looks=looks, alphas=(), beta=0.0, mode=mode)
    made = reachable_design(sigma, grid, n, alpha, beta, certifier)
    return Registration(radii=grid, looks=made.looks, alphas=made.alphas, beta=beta, mode=mode)


def is_sequential(certifier: str) -> bool:
    """Whether it looks at an image's votes as they grow, and each look is stored."""
    return certifier in DESIGNS


@lru_cache(maxsize=64)
def reachable_design(
    sigma: float, radii: tuple[float, ...], n: int, alpha: float, beta: float, certifier: str = "sequential"
) -> Design:
    """The sequential test at those of the radii that n can reach.

    Raises: SpecError for numbers that can certify nothing.
    """
    return DESIGNS[certifier](sigma, radii, n, alpha, beta, reachable=True)


def design_of(spec: RunSpec) -> Design:
    """The sequential test that a spec registers, at those of its radii that n can reach.

    Raises: SpecError where this version would look elsewhere, or spend otherwise, than the spec says.
    """
    made = reachable_design(spec.sigma, spec.radii, spec.n, spec.alpha, spec.beta, spec.certifier)
    if (made.looks, made.alphas) != (spec.looks, spec.alphas):
        raise SpecError(
            f"run {spec.digest()[:10]} registered {len(spec.looks)} looks other than those of this version; "
            "read it with the version that wrote it"
        )
    return made


def stop(
    spec: RunSpec, label: int, selection: Counts, estimation: Counts, before: Decision | None
) -> tuple[str | None, Decision | None]:
    """Why the image needs no sample more after a look, None where it does; and what is known then, for the next look.

    `estimation` has the votes of all looks taken, `before` what was known after the last but one: None at first.
    "" is the end of a sequential test or of all n samples.
    Raises: ValueError for a number of votes at which no look was registered.
    """
    if is_sequential(spec.certifier):
        made = design_of(spec)
        counted = target(spec.mode, label=label, selection=selection)
        known = step(made, before or start(made), estimation[counted], estimation.n)
        return "" if known.done else None, known
    return _forced(spec, label, selection, estimation), None


def verdict(spec: RunSpec, row: Row) -> Verdict:
    """What a stored row of a run that may stop says, decided again from its votes.

    Raises: ValueError for votes that the spec does not lead to: too few to decide, or drawn beyond the decision.
    """
    if is_sequential(spec.certifier):
        counted = target(spec.mode, label=row.label, selection=row.selection)
        if sum(row.looks, Counts((), 0)) != row.estimation:
            raise ValueError(f"image {row.index}: its looks do not add up to its votes")
        decision = replay(design_of(spec), accumulate(look[counted] for look in row.looks))
        if not decision.done:
            raise ValueError(f"image {row.index}: not decided by its {len(row.looks)} looks")
        return Verdict(counted, decision.accepted)
    selected = row.selection.ranked()[0][0]
    truth = row.label if spec.mode == "table" else None
    # Never a radius from the bound on the votes at hand: fewer than n were drawn, and which, depends on the votes.
    accepted = forced(_curtailment(spec), row.estimation, selected=selected, label=truth)
    if accepted is None:
        raise ValueError(f"image {row.index}: its {row.estimation.n} votes force no verdict")
    return Verdict(selected, accepted)


def fits(spec: RunSpec, row: Row) -> bool:
    """Whether a row has the sample sizes that the spec allows."""
    if row.selection.n != spec.n0:
        return False
    if is_sequential(spec.certifier):
        taken = tuple(accumulate(look.n for look in row.looks))
        return bool(taken) and taken == spec.looks[: len(taken)] and taken[-1] == row.estimation.n
    return not row.looks and row.estimation.n in (spec.looks or (spec.n,))


def _forced(spec: RunSpec, label: int, selection: Counts, estimation: Counts) -> str | None:
    """Why a fixed n needs no sample more."""
    if estimation.n == spec.n:
        return ""
    selected = selection.ranked()[0][0]
    truth = label if spec.mode == "table" else None
    if forced(_curtailment(spec), estimation, selected=selected, label=truth) is None:
        return None
    return WRONG if truth is not None and selected != truth else FORCED


def _curtailment(spec: RunSpec) -> Curtailment:
    return _curtail(spec.sigma, spec.radii, spec.n, spec.alpha)


@lru_cache(maxsize=64)
def _curtail(sigma: float, radii: tuple[float, ...], n: int, alpha: float) -> Curtailment:
    return curtail(sigma, radii, n, alpha)
