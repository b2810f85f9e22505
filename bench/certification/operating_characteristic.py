"""What a sequential design does at a known probability: exact size, power and cost, and simulated paths.

For planning and for proof; certifying needs none of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.certification.sequential import Decision, Design, copies_to_next_look, start, step

if TYPE_CHECKING:
    import numpy as np

_GONE = 1e-18  # below it no path is left that could move a sum at the stated error


@dataclass(frozen=True, slots=True, kw_only=True)
class Operating:
    """What a design does with an image whose class has probability p."""

    p: float
    accept: tuple[float, ...]  # a radius: the probability that it is accepted
    going: tuple[float, ...]  # a look: the probability that it leaves some radius undecided
    samples: float  # expected


@dataclass(frozen=True, slots=True)
class Crossing:
    """How a walk of successes leaves a corridor, look by look."""

    above: tuple[float, ...]  # the probability to be at or above the upper edge there first
    inside: tuple[float, ...]  # the probability never to have touched an edge


def crossing(looks: Sequence[int], lower: Sequence[int], upper: Sequence[int], p: float) -> Crossing:
    """The exact chances of a binomial walk to stay strictly between two edges and to leave by the upper one.

    Error: absolute 1e-12 (tests/bench/certification/test_operating_characteristic.py, against all paths enumerated).
    Source: Armitage, McPherson & Rowe 1969, the recursion over looks.
    Raises: ValueError unless 0 <= p <= 1 and the looks ascend.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p must lie in [0, 1], got {p!r}")
    if list(looks) != sorted(set(looks)) or not looks or looks[0] < 1:
        raise ValueError(f"looks must be positive and ascend, got {tuple(looks)!r}")
    return _crossing(looks, lower, upper, _steps(looks, p), p)


def exact_size(design: Design, p: float) -> float:
    """The probability that a design accepts a radius that p does not support, were it never to give up.

    Giving up can only lower it. At p equal to a threshold that radius counts as unsupported: the worst case of its
    null hypothesis. 0 where p supports the whole grid.
    Raises: ValueError unless 0 <= p <= 1.
    """
    false = next((k for k, threshold in enumerate(design.thresholds) if threshold >= p), None)
    if false is None:
        return 0.0
    upper = [row[false] for row in design.accept]  # the smallest such radius: whoever accepts a larger accepts it too
    return sum(crossing(design.looks, [-1] * len(upper), upper, p).above)


def operating(design: Design, p: float) -> Operating:
    """The exact chance to accept each radius and the expected number of samples.

    A radius is undecided while the walk stays in its corridor; the undecided ones are neighbours, so some are exactly
    if the corridors entered minus the overlaps of neighbours entered is one, and an overlap is a corridor again.
    Error: absolute 1e-12 for probabilities, relative 1e-12 for samples.
    Raises: ValueError unless 0 <= p <= 1.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p must lie in [0, 1], got {p!r}")
    steps = _steps(design.looks, p)
    lower = list(zip(*design.futile, strict=True))
    upper = list(zip(*design.accept, strict=True))
    own = [_crossing(design.looks, low, high, steps, p) for low, high in zip(lower, upper, strict=True)]
    shared = [_crossing(design.looks, low, high, steps, p) for low, high in zip(lower[1:], upper[:-1], strict=True)]
    going = [
        max(0.0, math.fsum([c.inside[j] for c in own] + [-c.inside[j] for c in shared]))
        for j in range(len(design.looks) - 1)
    ]
    going.append(0.0)
    sizes = [b - a for a, b in zip((0, *design.looks), design.looks, strict=False)]
    return Operating(
        p=p,
        accept=tuple(math.fsum(c.above) for c in own),
        going=tuple(going),
        samples=math.fsum(size * left for size, left in zip(sizes, (1.0, *going), strict=False)),
    )


def simulate(design: Design, p: float, generator: np.random.Generator) -> Decision:
    """One image's path to its decision, its class drawn with probability p."""
    decision = start(design)
    while not decision.done:
        copies = copies_to_next_look(design, decision)
        successes = decision.successes + int(generator.binomial(copies, p))
        decision = step(design, decision, successes, decision.n + copies)
    return decision


def _crossing(
    looks: Sequence[int], lower: Sequence[int], upper: Sequence[int], steps: Sequence[tuple[int, np.ndarray]], p: float
) -> Crossing:
    import numpy as np

    above = [0.0] * len(looks)
    inside = [0.0] * len(looks)
    first, mass = 0, np.ones(1)  # mass[i]: probability to be here, at first + i successes, without having left
    for j, (n, low, high) in enumerate(zip(looks, lower, upper, strict=True)):
        mass = np.convolve(mass, steps[j][1])
        first += steps[j][0]
        least, most = _window(n, p)
        keep = slice(max(least - first, 0), max(most + 1 - first, 0))
        mass, first = mass[keep], first + keep.start
        top = max(high - first, 0)
        bottom = max(low + 1 - first, 0)
        above[j] = float(mass[top:].sum())
        mass, first = mass[bottom:top], first + bottom
        inside[j] = float(mass.sum())
        if inside[j] < _GONE:
            break
    return Crossing(tuple(above), tuple(inside))


def _steps(looks: Sequence[int], p: float) -> list[tuple[int, np.ndarray]]:
    return [_binomial(b - a, p) for a, b in zip((0, *looks), looks, strict=False)]


def _window(n: int, p: float) -> tuple[int, int]:
    # Bernstein: at most exp(-50) lies beyond either edge, whatever n and p.
    reach = 10 * math.sqrt(n * p * (1 - p)) + 40
    return max(0, math.floor(n * p - reach)), min(n, math.ceil(n * p + reach))


def _binomial(n: int, p: float) -> tuple[int, np.ndarray]:
    """The first count of the window and the probabilities from there on."""
    import numpy as np

    least, most = _window(n, p)
    mode = min(math.floor((n + 1) * p), n)
    # By ratios from the mode: log-gamma loses six digits at n = 100 000.
    up = np.arange(mode, most)
    down = np.arange(mode, least, -1)
    rising = np.cumprod((n - up) / (up + 1) * (p / (1 - p))) if len(up) else np.empty(0)
    falling = np.cumprod(down / (n - down + 1) * ((1 - p) / p)) if len(down) and p else np.empty(0)
    mass = np.concatenate([falling[::-1], [1.0], rising])
    return least, mass / mass.sum()
