"""N and alpha of a log, read off its radii, with the strength of the evidence; where these do not tell, nothing.

A radius from anywhere prints as one of a coarse grid by chance now and then, all radii of a log hardly ever: how often
is the evidence, and the log has to be of a grid that holds all of its radii.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.published.logs.infer_sampling import Array, Radii, Sampling, beyond
from bench.published.logs.records import ImportedRow

FIELD_SIGMAS = (0.12, 0.25, 0.5, 0.75, 1.0)
ROUND_N = tuple(m * 10**e for e in range(2, 7) for m in (1, 2, 5))
ROUND_ALPHA = (0.1, *(round(m * 10.0**-e, e) for e in range(2, 5) for m in (5, 2, 1)))  # down to 0.0001
_CUSTOMARY_N = (100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
_CUSTOMARY_ALPHA = (0.001, 0.01, 0.05)
_MOST = 400  # distinct radii that are held against a grid, the largest first
# Of 2640 simulated logs of 33 pairs (11 customary, 11 rare, 11 of odd N) none is given a wrong name by these; at 0.01
# and 0.02 three are, all of pairs that are not customary.
_CHANCE = 0.005  # an answer stands if no other round one is likelier than this beside it
_BY_CHANCE = 0.01  # ... and if radii of no round grid would lie on it no more often than this,
_AT_END = 0.1  # or than this where images pile up at its end: the end alone leaves few N to an alpha
_RARE = 30  # times rarer than a customary one is another round N, or alpha, held to be before looking


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the radii of a log say about its sampling."""

    sampling: Sampling | None  # the one that fits; None where they do not tell
    fits: tuple[Sampling, ...]  # all round ones that are not ruled out, the likeliest first
    ranges: tuple[tuple[float, int, int], ...]  # where no round N fits: alpha, least and largest N that do
    radii: int  # distinct radii that were looked at
    reason: str  # why there is no answer, or on what it rests
    chance: float | None = None  # that radii of no grid would all lie on that of `sampling`


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """A sampling whose grid holds all radii."""

    sampling: Sampling
    spacing: Array  # of its grid at each radius
    gain: Array  # nats, of each radius: how rare it is to print as one of this grid by chance
    pile: float  # nats, at most 0: how rare are so many images at the largest radius, where the grid goes on above it
    prior: float  # nats, at most 0

    @property
    def evidence(self) -> float:
        """How rare it is that radii of no grid all lie on this one, in nats."""
        return float(self.gain.sum())

    def over(self, other: _Fit, radii: Radii) -> float:
        """How much likelier the radii are of this grid than of another that holds them too, in nats.

        Images that print alike count once where the other grid has one point there, for they may share its count of
        votes; where it has several, they would have fallen on some that this grid lacks.
        """
        times = np.minimum(radii.times, np.maximum(radii.width / other.spacing, 1.0))
        times[0] = 1.0  # a pile at the end says nothing about what lies between
        gain = float((times * (self.gain - other.gain)).sum())
        return gain + self.pile + self.prior - other.pile - other.prior


def infer(
    rows: Sequence[ImportedRow], sigma: float | None = None, n: int | None = None, alpha: float | None = None
) -> Reading:
    """N and alpha, and sigma where it is not given, by which the log's radii came about; `n`, `alpha`: where stated.

    Of the round N and alpha whose grid holds every radius, the one on which chance would not have put those of any
    other. 100, 1000, 10 000 and 100 000 and alpha=0.001 and 0.01 are held to be likelier before looking: without that
    N=200 000, alpha=0.0002 could not be told from N=100 000, alpha=0.01 at three digits. Images that pile up at a
    largest radius speak against grids that go on above it.
    """
    radii = Radii.of(rows)
    seen = min(len(radii), _MOST)
    if not seen:
        return _nothing(0, "no image is certified at a radius above 0")
    sigmas = (sigma,) if sigma is not None else FIELD_SIGMAS
    if beyond(radii, max(sigmas)):
        return _nothing(seen, "its radii are of another unit, or sigma")
    tried = [
        Sampling(votes, level, s)
        for s in sigmas
        for level in (ROUND_ALPHA if alpha is None else (alpha,))
        for votes in (ROUND_N if n is None else (n,))
    ]
    fitting = [fit for s in tried if (fit := _fit(s, radii, stated=n is not None)) is not None]
    if not fitting:
        ranges = _ranges(radii, sigma) if sigma is not None else ()
        return _nothing(seen, "no round N and alpha give all of its radii", ranges=ranges)
    best = max(fitting, key=lambda fit: (fit.evidence + fit.pile + fit.prior, -fit.sampling.n, fit.sampling.alpha))
    margins = [(best.over(fit, radii), fit.sampling) for fit in fitting if fit is not best]
    needed = math.log(1 / _CHANCE)
    fits = (best.sampling, *(s for margin, s in sorted(margins) if margin < needed))
    if best.pile < -needed:
        words = f"{radii.times[0]} images share its largest radius {radii.texts[0]}, the end of no round grid"
        return _nothing(seen, words, ranges=_ranges(radii, best.sampling.sigma))
    if len(fits) > 1:
        return _nothing(seen, "its radii fit more than one", fits=fits)
    # Another N, or no grid at all, is never ruled out by the round ones alone.
    piled = _ends(best.sampling, radii) and _pile(radii, 0.0) < -needed
    if best.evidence + best.pile + best.prior < math.log(1 / (_AT_END if piled else _BY_CHANCE)):
        words = (
            "too few of its radii lie where the grids are coarser than their digits to name the one round pair that is "
            f"left (by chance 1 time in {math.exp(best.evidence):.2g})"
        )
        return _nothing(seen, words, fits=fits)
    return _named(best, radii)


def _named(best: _Fit, radii: Radii) -> Reading:
    sampling = best.sampling
    chance = max(math.exp(-best.evidence), 1e-12)
    end = f", {radii.times[0]} images at its end" if _ends(sampling, radii) else ", none at its end"
    told = int((best.gain > 0).sum())
    reason = (
        f"all of its {len(radii)} radii are on the grid{end}; {told} lie where it is coarser than their digits, by "
        f"chance 1 time in {1 / chance:.1g}"
    )
    return Reading(sampling=sampling, fits=(sampling,), ranges=(), radii=len(radii), reason=reason, chance=chance)


def _fit(sampling: Sampling, radii: Radii, *, stated: bool) -> _Fit | None:
    """How well a sampling's grid holds the radii; None where one is not on it."""
    if radii.low[0] > sampling.ceiling * (1 + 1e-9):
        return None
    width = radii.width
    # Two bounds in a row lie at most 2.6/N apart (the first two, at alpha=0.0001): closer, and printing hides the grid.
    spacing = 3.0 * sampling.sigma / (sampling.n * _density(radii.middle / sampling.sigma))
    look = np.flatnonzero(width < spacing)[:_MOST]
    gain = np.zeros(len(radii))
    for some in (look[:16], look):  # few are enough for most grids to lack one
        least, most = sampling.counts(radii.low[some], radii.high[some])
        if (least > most).any():
            return None
    if len(look):
        inner = np.clip(least, 2, sampling.n - 1)
        spacing[look] = (sampling.radius(inner + 1) - sampling.radius(inner - 1)) / 2
        gain[look] = np.log(np.clip(spacing[look] / width[look], 1.0, 1e6))
    return _Fit(
        sampling=sampling,
        spacing=spacing,
        gain=gain,
        pile=0.0 if _ends(sampling, radii) else _pile(radii, float(spacing[0])),
        prior=0.0 if stated else _prior(sampling),
    )


def _ends(sampling: Sampling, radii: Radii) -> bool:
    """Whether the largest radius is that of N votes of N."""
    return bool(sampling.ceiling <= radii.high[0] * (1 + 1e-9))


def _pile(radii: Radii, spacing: float) -> float:
    """How rarely a smooth density would put so many images, or more, at the largest radius, in nats."""
    from scipy.special import betainc

    some = slice(0, 21)
    middle, images = radii.middle[some], int(radii.times[some].sum())
    width = max(float(radii.width[0]), spacing)
    if len(middle) == 1:  # nothing to compare with: the pile speaks for itself from three images on
        return math.log(_CHANCE) if radii.times[0] > 2 else 0.0
    share = width / (float(middle[0] - middle[-1]) + width)
    others = int(radii.times[0]) - 1  # of images - 1, at least so many beside the first: a binomial tail
    return math.log(max(float(betainc(others, images - others, share)), 1e-300)) if others else 0.0


def _density(z: Array) -> Array:
    """Of the standard normal distribution; nowhere 0."""
    return np.maximum(np.exp(-z * z / 2) / math.sqrt(2 * math.pi), 1e-300)


def _prior(sampling: Sampling) -> float:
    rare = (sampling.n not in _CUSTOMARY_N) + (sampling.alpha not in _CUSTOMARY_ALPHA)
    return -rare * math.log(_RARE)


def _ranges(radii: Radii, sigma: float) -> tuple[tuple[float, int, int], ...]:
    """For each round alpha the N that end at the largest radius and hold all, if any; tried at 40 places each."""
    from scipy.special import log_ndtr

    found = []
    for alpha in ROUND_ALPHA:
        ends = [math.log(alpha) / float(log_ndtr(edge / sigma)) for edge in (radii.low[0], radii.high[0])]
        least, most = math.ceil(ends[0]), math.floor(min(ends[1], 1e9))
        if least > most or least < 10:
            continue
        places = sorted({int(n) for n in np.linspace(least, most, 40)})
        good = [n for n in places if _fit(Sampling(n, alpha, sigma), radii, stated=True) is not None]
        if good:
            found.append((alpha, good[0], good[-1]))
    return tuple(found)


def _nothing(
    seen: int, reason: str, fits: tuple[Sampling, ...] = (), ranges: tuple[tuple[float, int, int], ...] = ()
) -> Reading:
    return Reading(sampling=None, fits=fits, ranges=ranges, radii=seen, reason=reason)
