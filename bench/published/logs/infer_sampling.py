"""Which radii N votes can give at an alpha, and the counts behind printed ones: near saturation the grid is coarse.

The radius of an image with k of N votes is sigma * Phi^-1(CP_lower(k, N, alpha)) with a whole k (Cohen et al. 2019,
Section 3.2.2). Which N and alpha a log is of is told in bench/published/logs/sampling.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.published.logs.records import ImportedRow, Precision, number, printed_radii

Array = np.ndarray[Any, np.dtype[Any]]

_SLACK = 1e-9  # relative: the last bits of two implementations of the same quantile
_SINGLE = 2.0**-23  # relative: a radius may have gone through float32 before it was printed in full
_LARGEST_Z = 7.0  # radius / sigma: 5e12 votes of as many would reach it at alpha=0.001


@dataclass(frozen=True, slots=True, order=True)
class Sampling:
    """What decides which radii there can be."""

    n: int
    alpha: float
    sigma: float

    def radius(self, counts: Array) -> Array:
        """Radius of each count of votes, negative where the certifier abstains. Shapes: any."""
        from scipy.special import betaincinv, ndtri

        safe = np.maximum(counts, 1)
        return np.asarray(self.sigma * ndtri(betaincinv(safe, self.n - safe + 1, self.alpha)))

    @property
    def ceiling(self) -> float:
        """The radius when all votes agree."""
        return float(self.radius(np.array([self.n]))[0])

    def counts(self, low: Array, high: Array) -> tuple[Array, Array]:
        """The least and largest count with a radius within each [low, high]; least > largest where there is none."""
        return self._first(low * (1 - 1e-12), self.alpha * (1 + _SLACK)), (
            self._first(high * (1 + 1e-12), self.alpha * (1 - _SLACK)) - 1
        )

    def _first(self, radius: Array, alpha: float) -> Array:
        """The least count whose radius reaches that one; n + 1 where none does.

        CP_lower(k) >= p is P(Bin(n, p) >= k) <= alpha, which falls in k: bisection, for all radii at once.
        """
        from scipy.special import betainc, ndtr

        p = ndtr(np.asarray(radius, dtype=float) / self.sigma)
        low, high = np.zeros(p.shape, dtype=np.int64), np.full(p.shape, self.n + 1, dtype=np.int64)
        while (high - low > 1).any():
            middle = (low + high) // 2
            inside = np.clip(middle, 1, self.n)
            reaches = betainc(inside, self.n - inside + 1, p) <= alpha
            high, low = np.where(reaches, middle, high), np.where(reaches, low, middle)
        return high


@dataclass(frozen=True, slots=True)
class Radii:
    """The distinct radii of certified images above 0, largest first: the bounds of each, and how many images have it.

    A radius printed as 0 says no more than that there is none to speak of: it is left out.
    """

    texts: tuple[str, ...]
    low: Array
    high: Array
    times: Array

    @classmethod
    def of(cls, rows: Sequence[ImportedRow]) -> Radii:
        """Those of a log."""
        seen = {text: times for text, times in printed_radii(rows).items() if number(text)}
        low, high = _spreads(list(seen), Precision.of(seen))
        return cls(tuple(seen), low, high, np.array(list(seen.values()), dtype=np.int64))

    @property
    def width(self) -> Array:
        """What printing left open of each."""
        return self.high - self.low

    @property
    def middle(self) -> Array:
        """The middle of the bounds of each."""
        return (self.low + self.high) / 2

    def __len__(self) -> int:
        return len(self.texts)


def on_grid(radii: Radii, sampling: Sampling) -> int:
    """How many of the radii that sampling can give."""
    least, most = sampling.counts(radii.low, radii.high)
    return int((least <= most).sum())


def misfit(radii: Radii, sampling: Sampling) -> str:
    """Why the radii cannot have come of that sampling, or nothing where they can; its numbers come after."""
    if not len(radii):
        return ""
    if radii.low[0] > sampling.ceiling * (1 + _SLACK):
        return f"radius {radii.texts[0]} is above {sampling.ceiling:.4g}, the largest of"
    on = on_grid(radii, sampling)
    return f"only {on} of its {len(radii)} radii can come of" if on < len(radii) else ""


def beyond(radii: Radii, sigma: float) -> str:
    """Why the radii are no lengths in the unit of that noise level, or nothing where they may be."""
    if not len(radii) or radii.low[0] <= _LARGEST_Z * sigma:
        return ""
    text = radii.texts[0]
    return (
        f"its largest radius {text} is {float(text) / sigma:.3g} times sigma {sigma:g}, which no number of votes "
        "reaches: the unit of its radii is not that of pixels in [0, 1] (0 to 255?), or its sigma is another"
    )


def count_ranges(rows: Sequence[ImportedRow], sampling: Sampling) -> dict[str, tuple[int, int, int]]:
    """Per printed radius the least, nearest and largest count of votes behind it.

    Where the print names no count (a log of another grid) the nearest one stands alone.
    """
    texts = list(printed_radii(rows))
    if not texts:
        return {}
    low, high = _spreads(texts, Precision.of(texts))
    least, most = sampling.counts(low, high)
    value = np.array([float(text) for text in texts])
    above = np.clip(sampling._first(value, sampling.alpha), 1, sampling.n)
    below = np.maximum(above - 1, 1)
    nearer = np.where(sampling.radius(above) - value <= value - sampling.radius(below), above, below)
    nearest = np.where(least <= most, np.clip(nearer, least, most), nearer)
    least, most = np.where(least <= most, least, nearest), np.where(least <= most, most, nearest)
    return {text: (int(a), int(b), int(c)) for text, a, b, c in zip(texts, least, nearest, most, strict=True)}


def _spreads(texts: list[str], precision: Precision) -> tuple[Array, Array]:
    pairs = np.array([precision.spread(text) for text in texts]).reshape(-1, 2)
    value = np.array([float(text) for text in texts])
    return np.minimum(pairs[:, 0], value * (1 - _SINGLE)), np.maximum(pairs[:, 1], value * (1 + _SINGLE))
