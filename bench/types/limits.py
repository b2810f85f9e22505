"""How large the numbers of a request may be, in one place; whether they fit each other is checked where they are used.

Far beyond what any machine ends in a lifetime, and below what would fill its memory before the first image.
"""

from __future__ import annotations

import math
import re

from bench.types.errors import UsageError

SAMPLES = 10**9  # of an image, in either stage, and of a forward pass
SIGMA = (1e-6, 1e6)  # l2; float32 noise beyond is nothing, or infinite
ALPHA = 1e-100  # at least; below 1e-284 scipy's inverse of the incomplete beta function ends in nan
SIDE = 4096  # pixels
WORKERS = 4096
IMAGES = 10**7  # of a forecast
DEVICES = 10**5  # of a forecast
REPEATS = 10**5
SECONDS = 10**7  # of a measurement: four months
COST = (1e-9, 1e6)  # seconds of a sample
SEED = 2**63  # below it, and not below its negative: what 64 bits hold


def digits(words: str) -> int | None:
    """The number that some ASCII digits are; None for other words, and for more digits than any number here has."""
    return int(words) if re.fullmatch("[0-9]{1,18}", words) else None


def check_within(what: str, value: int | float | None, least: int | float, most: int | float) -> None:
    """Nothing for a number from `least` to `most`, or for none.

    Raises: UsageError, for nan too.
    """
    if value is not None and not least <= value <= most:
        raise UsageError(f"{what} {_short(value)}: expected a number from {_short(least)} to {_short(most)}")


def check_seed(seed: int) -> None:
    """Nothing for a seed of 64 bits.

    Raises: UsageError.
    """
    if not -SEED <= seed < SEED:
        raise UsageError(f"--seed {_short(seed)}: expected a whole number of 64 bits, as 0 or 1")


def _short(value: int | float) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    # The logarithm first: Python refuses to write a number of more than 4 300 digits.
    return str(value) if value == 0 or math.log10(abs(value)) < 20 else f"of {int(math.log10(abs(value))) + 1} digits"
