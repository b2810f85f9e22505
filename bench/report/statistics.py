"""How far a table's numbers may be from the truth: images are a sample, and each certificate may fail.

Comparisons between methods (paired tests, corrections for many cells) are not here.
"""

from __future__ import annotations

from collections.abc import Sequence

CONFIDENCE = 0.95  # of the intervals in tables and figures, over the choice of images
FAILURE = 0.001  # rho: how often the noise correction of a whole table may be too small


def wilson(successes: int, images: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided interval on the proportion in the population that the images were drawn from.

    Error: of the images alone; the Monte Carlo error of each certificate is `noise_correction`'s.
    Source: Wilson 1927; Brown, Cai & DasGupta 2001, Eq. 4.
    Raises: ValueError unless 0 <= successes <= images, images > 0 and 0 < confidence < 1.
    """
    if images <= 0 or not 0 <= successes <= images:
        raise ValueError(f"successes must lie in [0, images] and images be positive, got {successes!r} of {images!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence!r}")
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, images, alpha=1 - confidence, method="wilson")
    # The formula is exactly 0 or 1 at the ends, where rounding leaves 1e-17 on either side.
    return 0.0 if successes == 0 else float(low), 1.0 if successes == images else float(high)


def noise_correction(images: int | Sequence[int], alpha: float, rho: float = FAILURE) -> float:
    """What to subtract from a certified accuracy so that the noise made it too high with probability at most rho.

    Certificates fail independently, each with probability at most alpha: at most Binomial(images, alpha) of them do.
    Copies of one image share its noise and fail together; `images` is then how many rows each distinct image has.
    Units: a fraction; it may exceed the accuracy itself.
    Source: the question and the independence argument, Cohen et al. 2019 ("high-probability" certified accuracy).
    Differs: the exact binomial tail in place of Bernstein's inequality, 0.80 against 1.09 points at 500 images and
    alpha = rho = 0.001. Bernstein's square root holds 2 alpha (1 - alpha) ln(1 / rho) / images; without the 2, as in
    the authors' script (0.93 points), it promises too much at 10 000 images.
    Raises: ValueError unless images > 0, 0 < alpha < 1 and 0 < rho < 1.
    """
    copies = [1] * images if isinstance(images, int) else sorted(images, reverse=True)
    if not copies or min(copies) < 1 or not 0 < alpha < 1 or not 0 < rho < 1:
        raise ValueError(f"images must be positive, alpha and rho in (0, 1), got {images!r}, {alpha!r}, {rho!r}")
    from scipy.stats import binom

    # The images that fail may be those with most copies.
    return sum(copies[: int(binom.isf(rho, len(copies), alpha))]) / sum(copies)
