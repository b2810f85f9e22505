"""Probability of the true class under the smoothing noise, image by image: p_A from stored votes; no layout.

An average certified radius is carried by its easiest images, for the radius diverges where p_A nears 1, and ends where
N ends. The distribution of p_A shows each image alike, and does not grow with N.
Source: Sun et al., arXiv 2410.06895.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.certification.bounds import lower_bound
from bench.report.accuracy import name
from bench.types.errors import ReportError

if TYPE_CHECKING:
    from bench.runs.store import Run

NAME = "probability"  # of the table and of the figure
LEVELS = (0.5, 0.7, 0.9, 0.99)  # at which Sun et al. read the distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassProbabilities:
    """The true class's share of the noise around each image of a run, ascending."""

    plug_in: tuple[float, ...]  # votes / N: what it is likely to be
    lower: tuple[float, ...]  # exact bound at the run's alpha, each with its own image's chance to be wrong
    alpha: float

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self.plug_in)


def class_probabilities(run: Run, alpha: float | None = None) -> ClassProbabilities:
    """The distribution of p_A in a run, from the estimation votes alone.

    `alpha`: of the lower bounds, other than the run's own.
    Raises: ReportError for a run without rows, or one whose images may stop: how many of their votes are for a class
    depends on when they did.
    """
    if not usable(run):
        raise ReportError(
            f"{name(run)} has no image with all of its n samples; p_A needs runs of a fixed n with rows, as of "
            "--certifier cohen without --early-stop"
        )
    level = run.spec.alpha if alpha is None else alpha
    votes = [(row.estimation[row.label], row.estimation.n) for row in run.rows]
    known = {pair: lower_bound(*pair, level) for pair in set(votes)}
    return ClassProbabilities(
        plug_in=tuple(sorted(k / n for k, n in votes)), lower=tuple(sorted(known[pair] for pair in votes)), alpha=level
    )


def usable(run: Run) -> bool:
    """Whether its votes tell p_A."""
    return bool(run.rows) and not run.spec.stops


def at_least(values: Sequence[float], level: float) -> int:
    """Images whose p_A is at least that; `values` ascend."""
    return len(values) - bisect_left(values, level)


def quantiles(values: Sequence[float], shares: Iterable[float]) -> tuple[float, ...]:
    """The least p_A that is not exceeded by that share of the images: the inverse of the distribution."""
    import numpy as np

    return tuple(float(q) for q in np.quantile(values, list(shares), method="inverted_cdf"))
