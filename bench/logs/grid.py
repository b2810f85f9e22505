"""N and alpha read off the radii of a log, and the counts behind them: near saturation radii lie on a coarse grid.

The radius of an image with k of N votes is sigma * Phi^-1(CP_lower(k, N, alpha)) with a whole k (Cohen et al. 2019,
Section 3.2.2). Its largest values, k = N, N - 1, ..., lie further apart than printed digits: few N and alpha fit them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.logs.records import ImportedRow, Precision, printed_radii

Array = np.ndarray[Any, np.dtype[Any]]

FIELD_SIGMAS = (0.12, 0.25, 0.5, 0.75, 1.0)
ROUND_N = tuple(m * 10**e for e in range(2, 7) for m in (1, 2, 5))
ROUND_ALPHA = tuple(round(m * 10.0**-e, e) for e in range(2, 5) for m in (5, 2, 1))  # 0.05 to 0.0001
_TOP = 60  # distinct radii that are looked at: below them the grid is finer than any print
_CHANCE = 0.01  # an answer stands if chance would give one no more often than this
_SLACK = 1e-9  # relative: the last bits of two implementations of the same quantile


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the radii of a log say about its sampling."""

    sampling: Sampling | None  # the one that fits; None where they do not tell
    fits: tuple[Sampling, ...]  # all round ones that fit, the likeliest first
    ranges: tuple[tuple[float, int, int], ...]  # where no round N fits: alpha, least and largest N that do
    radii: int  # distinct radii that were looked at
    reason: str  # why there is no answer, or on what it rests


@dataclass(frozen=True, slots=True)
class _Top:
    """The largest distinct radii of a log, largest first."""

    low: Array
    high: Array
    times: Array

    @property
    def middle(self) -> Array:
        return (self.low + self.high) / 2


def infer(rows: Sequence[ImportedRow], sigma: float | None = None) -> Reading:
    """N and alpha (and sigma, where it is not given) by which the log's radii came about.

    Every radius must be one that some count gives, and the largest, where many images share it, must be that of N votes
    of N; of several that fit, the one on whose coarser grid chance would not have put the radii. Only round N and alpha
    are named, and powers of ten are held to be likelier before looking: without that N=200 000, alpha=0.0002 could not
    be told from N=100 000, alpha=0.01 at three digits. Nothing is said of a log in which no images pile up at a largest
    radius.
    """
    top = _top(rows)
    seen = len(top.low)
    if seen == 0:
        return _nothing(0, "no image is certified")
    pile = _pile(top)
    if pile > _CHANCE:
        times = int(top.times[0])
        text = next(iter(printed_radii(rows)))
        return _nothing(seen, f"the largest radius {text} comes {times} times, so it need not be that of N votes of N")
    tried = [
        Sampling(n, alpha, s)
        for s in ([sigma] if sigma is not None else FIELD_SIGMAS)
        for alpha in ROUND_ALPHA
        for n in ROUND_N
    ]
    scored = sorted(
        ((evidence + _prior(s), s) for s in tried if (evidence := _evidence(s, top)) is not None),
        key=lambda pair: (-pair[0], pair[1]),
    )
    fits = tuple(s for _, s in scored)
    if not scored:
        ranges = _ranges(top, sigma) if sigma is not None else ()
        return Reading(
            sampling=None, fits=(), ranges=ranges, radii=seen, reason="no round N and alpha give all of its radii"
        )
    best, found = scored[0]
    if len(scored) > 1 and best - scored[1][0] < math.log(1 / _CHANCE):
        return Reading(sampling=None, fits=fits, ranges=(), radii=seen, reason="its radii fit more than one")
    if _prior(found) < 0:
        # An odd N at a plain alpha is as likely: at sigma 0.5 three digits may leave room for both.
        odd = tuple(r for r in _ranges(top, found.sigma) if _is_power(r[0]) and r[0] != found.alpha)
        if odd:
            return Reading(sampling=None, fits=fits, ranges=odd, radii=seen, reason="its radii fit more than one")
    if best - math.log(pile) < math.log(len(tried) / _CHANCE):
        return Reading(sampling=None, fits=fits, ranges=(), radii=seen, reason="too few radii near the largest to tell")
    grounds = f"all of its {seen} largest radii are on the grid, {int(top.times[0])} images at its end"
    return Reading(sampling=found, fits=fits, ranges=(), radii=seen, reason=grounds)


def on_grid(rows: Sequence[ImportedRow], sampling: Sampling) -> tuple[int, int]:
    """How many of the log's largest distinct radii that sampling can give, and of how many."""
    top = _top(rows)
    least, most = sampling.counts(top.low, top.high)
    return int((least <= most).sum()), len(top.low)


def misfit(rows: Sequence[ImportedRow], sampling: Sampling) -> str:
    """Why the radii cannot have come of that sampling, or nothing where they can; the numbers come after."""
    top = _top(rows)
    text, times = next(iter(printed_radii(rows))), int(top.times[0])
    ceiling = sampling.ceiling
    if top.low[0] > ceiling * (1 + _SLACK):
        return f"radius {text} is above {ceiling:.4g}, the largest of"
    on, of = on_grid(rows, sampling)
    if on < of:
        return f"only {on} of its {of} largest radii can come of"
    if top.high[0] < ceiling * (1 - _SLACK) and _pile(top) <= _CHANCE:
        return f"{times} images share its largest radius {text}, which is not {ceiling:.4g}, the largest of"
    return ""


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
    return pairs[:, 0], pairs[:, 1]


def _top(rows: Sequence[ImportedRow]) -> _Top:
    radii = printed_radii(rows)
    texts = list(radii)[:_TOP]
    low, high = _spreads(texts, Precision.of(radii))
    return _Top(low, high, np.array([radii[text] for text in texts], dtype=np.int64))


def _pile(top: _Top) -> float:
    """How often a smooth density of radii would put so many images, or more, at the largest."""
    from scipy.stats import binom

    some = slice(0, 21)
    middle, rows = top.middle[some], int(top.times[some].sum())
    width = float(top.high[0] - top.low[0])
    if len(middle) == 1:  # nothing to compare with: the pile speaks for itself from three images on
        return 1.0 if top.times[0] < 3 else _CHANCE
    share = width / (float(middle[0] - middle[-1]) + width)
    return max(float(binom.sf(int(top.times[0]) - 2, rows - 1, share)), 1e-300)


def _evidence(sampling: Sampling, top: _Top) -> float | None:
    """How much less likely chance would put all radii on that grid, in nats; None where one is not on it."""
    ceiling = sampling.ceiling
    slack = ceiling * 1e-12
    if not top.low[0] - slack <= ceiling <= top.high[0] + slack:
        return None
    least, most = sampling.counts(top.low, top.high)
    if (least > most).any():
        return None
    inner = np.clip(least, 2, sampling.n - 1)
    spacing = (sampling.radius(inner + 1) - sampling.radius(inner - 1)) / 2
    covered = np.clip((top.high - top.low) / spacing, 1e-6, 1.0)  # radii in full leave nothing open
    return float(-np.log(covered).sum())


def _prior(sampling: Sampling) -> float:
    """In nats: each number that is no power of ten is held to be a 30th as likely as one that is."""
    return -(2 - _is_power(sampling.n) - _is_power(sampling.alpha)) * math.log(30)


def _is_power(value: float) -> bool:
    digits, _, _ = f"{value:e}".partition("e")
    return float(digits) == 1.0


def _ranges(top: _Top, sigma: float) -> tuple[tuple[float, int, int], ...]:
    """For each round alpha the N at which all radii fit, if any; tried at no more than 40 places each."""
    from scipy.special import log_ndtr

    found = []
    for alpha in ROUND_ALPHA:
        ends = [math.log(alpha) / float(log_ndtr(edge / sigma)) for edge in (top.low[0], top.high[0])]
        least, most = math.ceil(ends[0]), math.floor(min(ends[1], 1e9))
        if least > most or least < 10:
            continue
        places = sorted({int(n) for n in np.linspace(least, most, 40)})
        good = [n for n in places if _evidence(Sampling(n, alpha, sigma), top) is not None]
        if good:
            found.append((alpha, good[0], good[-1]))
    return tuple(found)


def _nothing(seen: int, reason: str) -> Reading:
    return Reading(sampling=None, fits=(), ranges=(), radii=seen, reason=reason)
