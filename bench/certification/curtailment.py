"""Stopping a fixed-n certification as soon as its verdicts are forced: exact, and for that reason a small saving."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from bench.certification.bounds import smallest_n
from bench.certification.sequential import check_grid, fewest_successes
from bench.types import Counts
from bench.types.errors import SpecError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Curtailment:
    """When the verdicts of a fixed-n certification at a grid of radii are certain before n samples are drawn."""

    n: int
    radii: tuple[float, ...]
    need: tuple[int, ...]  # the fewest successes out of n that certify each radius; n + 1 where none do


def curtail(sigma: float, radii: Sequence[float], n: int, alpha: float) -> Curtailment:
    """The counts that force the verdicts of `bench.certification.bounds.certify` at these radii.

    The verdicts are those of all n samples, always; the radius between grid points is not known when stopped early.
    Raises: SpecError as `sequential.design`; a radius out of reach of n is not refused, its verdict is forced.
    """
    grid = check_grid(sigma, radii, alpha)
    if n < smallest_n(alpha):
        raise SpecError(f"n={n!r} can never certify at alpha={alpha:g}; the smallest n that can is {smallest_n(alpha)}")
    need = tuple(fewest_successes(n, alpha, sigma=sigma, radius=r) for r in grid)
    return Curtailment(n=n, radii=grid, need=need)


def forced(curtailment: Curtailment, estimation: Counts, *, selected: int, label: int | None = None) -> int | None:
    """How many radii, from the smallest, are certified if that is certain by now; None if it is not.

    With the true label it is 0 at once where the selected class is another: certified accuracy counts it as wrong
    whatever its radius. Without it, the verdicts are those of a deployed classifier.
    Raises: ValueError for more than n samples.
    """
    if estimation.n > curtailment.n:
        raise ValueError(f"expected at most n={curtailment.n} samples, got {estimation.n}")
    if label is not None and selected != label:
        return 0
    certified = bisect_right(curtailment.need, estimation[selected])
    possible = bisect_right(curtailment.need, estimation[selected] + curtailment.n - estimation.n)
    return certified if certified == possible else None


def expected_copies(curtailment: Curtailment, p: float, *, block: int = 1) -> float:
    """Mean number of samples until the verdicts are forced, looking after each block.

    p is the probability of the selected class. Error: relative 1e-9.
    Raises: ValueError unless 0 <= p <= 1 and block >= 1.
    """
    if not 0 <= p <= 1 or block < 1:
        raise ValueError(f"p must lie in [0, 1] and block be at least 1, got {p!r} and {block!r}")
    import numpy as np
    from scipy.special import bdtr

    n = curtailment.n
    drawn = np.arange(0, n, block)
    sizes = np.minimum(block, n - drawn)
    # Forced with a radii certified: at least need[a - 1] successes, and too few left to come for need[a].
    edges = (0, *curtailment.need, 2 * n + 1)
    decided = np.zeros(len(drawn))
    for low, high in pairwise(edges):
        most = np.minimum(high - 1 - (n - drawn), drawn)
        decided += np.where(most >= low, _at_most(most, drawn, p, bdtr) - _at_most(low - 1, drawn, p, bdtr), 0.0)
    return float(np.sum(sizes * (1.0 - decided)))


def _at_most(k: np.ndarray | int, n: np.ndarray, p: float, bdtr: np.ufunc) -> np.ndarray:
    import numpy as np

    k = np.broadcast_to(k, n.shape)
    inside = np.clip(k, 0, n).astype(float)
    return np.where(k < 0, 0.0, np.where(k >= n, 1.0, bdtr(inside, n, p)))
