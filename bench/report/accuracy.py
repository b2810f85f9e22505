"""Rows in, certified accuracies out: counts of images, their averages, and the step curve over the radius.

Pure, and the same for every method. What is printed, and beside what, is decided elsewhere.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bench.certification.bounds import BOUNDS, certify
from bench.certification.stopping_rule import CERTIFIERS, RANDOMISED, verdict
from bench.data.installed import natural_radii
from bench.runs.store import Run
from bench.smoothing.noise import bound_uniform
from bench.types import ABSTAIN, Certificate, Row, RunSpec
from bench.types.errors import ReportError
from bench.types.limits import ALPHA


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Certified accuracies of one run at some radii, as counts of images."""

    radii: tuple[float, ...]  # l2, pixels in [0, 1]
    certified: tuple[int, ...]  # images with the right class and a radius of at least r
    abstained: int | None  # None where the run's verdicts do not tell it from a wrong class
    images: int  # that these counts are of; fewer than the spec's where the run is not done
    acr: float  # average certified radius: mean of correct * radius, l2
    alpha: float
    bound: str
    # Of a run whose images may stop: a verdict holds at its radii, so what lies between is known from below alone.
    at_least: tuple[bool, ...] = ()  # a radius: whether its count is only a lower bound; empty: none is
    acr_at_least: bool = False

    @property
    def fractions(self) -> tuple[float, ...]:
        """Certified accuracy at each radius."""
        return tuple(k / self.images for k in self.certified)

    @property
    def abstention(self) -> float | None:
        """Fraction of the images without a certificate; they count as wrong at every radius."""
        return None if self.abstained is None else self.abstained / self.images


@dataclass(frozen=True, slots=True)
class Curve:
    """Certified accuracy as a step function of the radius."""

    steps: tuple[float, ...]  # certified radii of the rightly classified images, ascending
    images: int

    def count(self, radius: float) -> int:
        """Images certified at that radius; an image whose radius is exactly r counts."""
        return len(self.steps) - bisect_left(self.steps, radius)


def curve(run: Run, bound: str = "pa", alpha: float | None = None, only: Collection[int] | None = None) -> Curve:
    """Certified accuracy of a run over all radii.

    `only`: the indices to count; None counts every row.
    Raises: ReportError as `certified_accuracy`.
    """
    return _certify(run, bound, alpha, only)[0]


def certified_accuracy(
    run: Run,
    radii: Sequence[float],
    bound: str = "pa",
    alpha: float | None = None,
    only: Collection[int] | None = None,
) -> Accuracy:
    """Fraction of the images whose smoothed class is right and certified within each radius.

    An image counts at r if its class is right and its radius at least r; abstentions are wrong everywhere, r = 0 too.
    `alpha` other than the run's re-reads the same votes; `only` restricts to those indices. Where images may stop
    before n, counts are exact at the run's own radii and lower bounds elsewhere, the average radius too.
    Source: Cohen et al. 2019, Section 4; average certified radius, Zhai et al. 2020, Section 4.
    Raises: ReportError for a run without rows, of an unknown certifier, with rows of another n, for a bad alpha or
    bound, or for any but its own where images may stop.
    """
    if any(not (r >= 0 and math.isfinite(r)) for r in radii):
        raise ReportError(f"radii must be finite l2 lengths of at least 0, got {tuple(radii)!r}")
    steps, abstained = _certify(run, bound, alpha, only)
    return Accuracy(
        radii=tuple(float(r) for r in radii),
        certified=tuple(steps.count(r) for r in radii),
        abstained=abstained,
        images=steps.images,
        acr=math.fsum(steps.steps) / steps.images,
        alpha=run.spec.alpha if alpha is None else alpha,
        bound=bound,
        at_least=tuple(r not in run.spec.radii for r in radii) if run.spec.stops else (),
        acr_at_least=run.spec.stops,
    )


def table_radii(run: Run) -> tuple[float, ...]:
    """The radii to print a run at: those of the dataset's tables, or its own where its verdicts are at these alone."""
    return run.spec.radii or run.table_radii or natural_radii(run.spec.dataset)


def promise(spec: RunSpec, row: Row, bound: str = "pa", alpha: float | None = None) -> Certificate:
    """The certificate of one row; of an image that may stop, the largest of the run's radii that it was decided for.

    Raises: ReportError where the image may stop, for a bound or alpha that are not the run's; for bound "papb" of a
    run whose bound is randomised.
    """
    if not spec.stops:
        level = spec.alpha if alpha is None else alpha
        uniform = None
        if spec.certifier == RANDOMISED:
            if bound != "pa":
                raise ReportError(f"run {spec.digest()[:10]} has randomised bounds, of 'pa' alone; got {bound!r}")
            uniform = bound_uniform(spec.seed, row.fingerprint, spec.sigma)
        return certify(row.selection, row.estimation, sigma=spec.sigma, alpha=level, bound=bound, uniform=uniform)
    if (spec.alpha if alpha is None else alpha, bound) != (spec.alpha, "pa"):
        # When an image stopped depends on its votes at that alpha: another bound on them would not hold.
        raise ReportError(
            f"run {spec.digest()[:10]} stopped its images at alpha={spec.alpha:g} and bound 'pa'; expected these, got "
            f"alpha={alpha!r} and {bound!r}; certify with all n samples for others"
        )
    try:
        found = verdict(spec, row)
    except ValueError as error:
        raise ReportError(f"run {spec.digest()[:10]}: {error}; certify it again in a new folder") from None
    if not found.accepted:
        return Certificate(ABSTAIN, 0.0, 0.0)
    radius = spec.radii[found.accepted - 1]
    # What the verdict proves of the class, no more: that the radius holds.
    return Certificate(found.label, radius, 0.5 * math.erfc(-radius / spec.sigma / math.sqrt(2)))


def right(spec: RunSpec, row: Row) -> bool:
    """Whether the row's image counts at the smallest radius that the run knows of: 0, unless it may stop."""
    return promise(spec, row).certifies(row.label, 0.0)


def _certify(run: Run, bound: str, alpha: float | None, only: Collection[int] | None) -> tuple[Curve, int | None]:
    spec = run.spec
    level = spec.alpha if alpha is None else alpha
    if bound not in BOUNDS:
        raise ReportError(f"bound must be one of {', '.join(BOUNDS)}, got {bound!r}")
    if not ALPHA <= level < 0.5:
        raise ReportError(f"alpha must lie in [{ALPHA:g}, 0.5), got {level!r}; the field uses 0.001")
    if spec.certifier not in CERTIFIERS:
        raise ReportError(
            f"{name(run)} was certified by {spec.certifier!r}; this report reads {' and '.join(CERTIFIERS)} runs only"
        )
    rows = run.rows if only is None else tuple(row for row in run.rows if row.index in only)
    if not rows:
        raise ReportError(f"{name(run)} has no certified image yet; resume it with the same spec, or leave it out")
    steps: list[float] = []
    abstained = 0
    for row in rows:
        if not spec.stops and row.estimation.n != spec.n:
            # A draw that stopped early is no draw of fixed size: its bound would not hold.
            raise ReportError(
                f"{name(run)}: image {row.index} has {row.estimation.n} samples, expected n={spec.n}; "
                "certify it again in a new folder"
            )
        certificate = promise(spec, row, bound, level)
        abstained += certificate.abstained
        if certificate.label == row.label:
            steps.append(certificate.radius)
    # Given up on the true label, or at a smallest radius above 0: wrong and abstained are not told apart.
    told = not spec.stops or (spec.mode == "deploy" and spec.radii[0] == 0.0)
    return Curve(tuple(sorted(steps)), len(rows)), abstained if told else None


def name(run: Run) -> str:
    """What a message or a footnote calls a run: its method, sigma and digest."""
    return f"run {digest(run)} ({run.spec.method}, sigma {run.spec.sigma:g})"


def digest(run: Run) -> str:
    """The first ten letters of the spec's digest, as in the run's folder."""
    return run.spec.digest()[:10]
