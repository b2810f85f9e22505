"""Whether two proportions differ: tests on common and on other images, corrections for many cells; no tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.05  # of the tests, over the declared family
POWER = 0.8  # at which a difference counts as detectable
DRAWS = 10_000  # of the bootstrap


@dataclass(frozen=True, slots=True)
class Discordance:
    """What two methods say of the same images."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @classmethod
    def of(cls, a: Sequence[bool], b: Sequence[bool]) -> Discordance:
        """From the verdicts on the same images, in one order."""
        pairs = list(zip(a, b, strict=True))
        both, only_a, only_b = (pairs.count(kind) for kind in ((True, True), (True, False), (False, True)))
        return cls(both, only_a, only_b, len(pairs) - both - only_a - only_b)

    @property
    def images(self) -> int:
        """All of them."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def difference(self) -> float:
        """Accuracy of a minus that of b, as a fraction."""
        return (self.only_a - self.only_b) / self.images

    @property
    def share(self) -> float:
        """Fraction of the images on which they differ."""
        return (self.only_a + self.only_b) / self.images


def mcnemar(table: Discordance) -> float:
    """Two-sided p-value of equal accuracies, from the images on which the two differ.

    Exact: Binomial(only_a + only_b, 1/2); 1 where they never differ.
    Source: McNemar 1947; the exact form, Fay 2010, Section 2.
    """
    from statsmodels.stats.contingency_tables import mcnemar as test

    if table.only_a + table.only_b == 0:
        return 1.0
    counts = [[table.both, table.only_a], [table.only_b, table.neither]]
    return min(1.0, float(test(counts, exact=True).pvalue))


def two_proportions(successes_a: float, images_a: int, successes_b: float, images_b: int) -> float:
    """Two-sided p-value of equal accuracies on different images: the pooled z-test.

    Successes may be fractions of an image, as a printed percentage of unknown images is.
    Source: Newcombe 1998, with the pooled variance.
    """
    from statsmodels.stats.proportion import proportions_ztest

    pooled = (successes_a + successes_b) / (images_a + images_b)
    if pooled in (0.0, 1.0) or successes_a * images_b == successes_b * images_a:
        return 1.0
    return float(proportions_ztest([successes_a, successes_b], [images_a, images_b])[1])


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values corrected so that the family's chance of any false alarm is at most the level.

    Source: Holm 1979.
    """
    return _corrected(p_values, "holm")


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values corrected so that the expected share of false alarms among the alarms is at most the level.

    For exploration only. Source: Benjamini & Hochberg 1995.
    """
    return _corrected(p_values, "fdr_bh")


def bootstrap(
    differences: Sequence[float] | np.ndarray[Any, Any], *, confidence: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval on the mean of per-image differences, images drawn with replacement.

    The same for the same differences and seed. Error: the endpoints by the draws alone, about 2 % of the width at
    10 000 draws.
    Source: Efron & Tibshirani 1993, Chapter 13.
    Raises: ValueError for no images.
    """
    import numpy as np

    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0:
        raise ValueError("a bootstrap needs at least one image")
    kinds, counts = np.unique(values, return_counts=True)
    generator = np.random.default_rng(seed)
    if len(kinds) > 64:
        from scipy.stats import bootstrap as resampled

        step = max(1, 4_000_000 // values.size)  # draws held at a time: 32 MB
        found = resampled(
            (values,), np.mean, n_resamples=draws, batch=step, confidence_level=confidence, method="percentile",
            rng=generator,
        ).confidence_interval  # fmt: skip
        return float(found.low), float(found.high)
    # To draw images with replacement is to draw how often each value comes: scipy draws every image by itself, 300
    # times as long for the three values of 5 000 images (0.5 s against 1.6 ms a radius).
    means = generator.multinomial(values.size, counts / values.size, size=draws) @ kinds / values.size
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def detectable(
    images: int, discordance: float | None = None, level: float = LEVEL, power: float = POWER
) -> float | None:
    """The smallest true difference of accuracies that a test of one cell finds with that power, as a fraction.

    With `discordance`, the share of images on which two methods differ: paired, on common images. Without: unpaired,
    as many images each, near an accuracy of 1/2, where it is hardest. None where no difference can be found: methods
    that differ on so few images, even all in one direction, cannot be told apart.
    Source: paired, Connor 1987, Eq. 3; unpaired, Fleiss, Levin & Paik 2003, Section 4.2.1.
    Raises: ValueError for no images, or a discordance outside [0, 1].
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    if images <= 0 or not 0 <= (discordance or 0.0) <= 1:
        raise ValueError(f"images must be positive and discordance in [0, 1], got {images!r}, {discordance!r}")
    z_level, z_power = float(norm.isf(level / 2)), float(norm.isf(1 - power))

    def needed(difference: float) -> float:
        if discordance is None:
            p, q = 0.5 + difference / 2, 0.5 - difference / 2
            spread = z_level * math.sqrt(0.5) + z_power * math.sqrt(p * (1 - p) + q * (1 - q))
        else:
            spread = z_level * math.sqrt(discordance) + z_power * math.sqrt(max(0.0, discordance - difference**2))
        return (spread / difference) ** 2

    largest = 1.0 if discordance is None else discordance
    if largest == 0 or needed(largest) > images:
        return None
    return float(brentq(lambda d: needed(d) - images, 1e-9, largest))


def _corrected(p_values: Sequence[float], how: str) -> tuple[float, ...]:
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return ()
    return tuple(float(p) for p in multipletests(list(p_values), method=how)[1])
