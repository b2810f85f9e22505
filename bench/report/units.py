"""Numbers as people read them: the only place where `76.8 %` and `1min 20s` exist.

Inside, everything is a plain fraction, a second, or an l2 length in [0, 1] pixels; nothing printed here is read back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

MISSING = "–"  # what a cell without a value shows


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as a percentage with its sign: 0.768 -> "76.8 %"."""
    return f"{points(fraction, digits)} %"


def points(fraction: float, digits: int = 1) -> str:
    """A fraction in percentage points without the sign, for columns whose title has it: 0.768 -> "76.8"."""
    return str((Decimal(repr(float(fraction))) * 100).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN))


def interval(low: float, high: float, digits: int = 1) -> str:
    """An interval of fractions in percentage points: "[72.9, 80.3]"."""
    return f"[{points(low, digits)}, {points(high, digits)}]"


def certified_radius(radius: float, digits: int = 3) -> str:
    """A certified l2 radius, rounded down: the printed promise is never larger than the true one.

    Raises: ValueError for a radius that is negative or not finite.
    """
    if not (math.isfinite(radius) and radius >= 0):
        raise ValueError(f"a certified radius must be finite and at least 0, got {radius!r}")
    # Decimal(float) is exact, so that 0.3 (stored as 0.29999...) prints as 0.299: true, if ugly.
    return str(Decimal(radius).quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR))


def grid(radii: Iterable[float]) -> tuple[str, ...]:
    """The radii of a table's columns, exact and with one number of decimals: (0, 0.25) -> ("0.00", "0.25")."""
    exact = [Decimal(repr(float(r))).normalize() for r in radii]
    decimals = max((max(0, -int(d.as_tuple().exponent)) for d in exact), default=0)
    return tuple(f"{d:.{max(1, decimals)}f}" for d in exact)


def noise_level(sigma: float) -> str:
    """A noise level with at least two decimals, never rounded: "0.25", "0.125"."""
    exact = Decimal(repr(float(sigma))).normalize()
    return f"{exact:.{max(2, -int(exact.as_tuple().exponent))}f}"


def count(number: int) -> str:
    """A whole number in groups of three: 100000 -> "100 000"."""
    return f"{number:,}".replace(",", " ")


def level(alpha: float) -> str:
    """A failure probability: "0.001", "1e-06"."""
    return f"{alpha:g}"


def duration(seconds: float) -> str:
    """A length of time in at most two units: "6s", "1min 20s", "2h 13min", "0.41s".

    Raises: ValueError for a time that is negative or not finite.
    """
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"a time must be finite and at least 0, got {seconds!r}")
    if seconds < 0.0995:
        return f"{seconds * 1000:.2g}ms"
    if seconds < 9.95:
        return f"{seconds:.2g}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return _two(whole, 60, "min", "s")
    whole = round(seconds / 60)
    return _two(whole, 60, "h", "min") if whole < 24 * 60 else _two(round(seconds / 3600), 24, "d", "h")


def _two(number: int, size: int, big: str, small: str) -> str:
    first, rest = divmod(number, size)
    return f"{first}{big} {rest}{small}" if rest else f"{first}{big}"


def parameters(millions: float) -> str:
    """A number of parameters given in millions: "26M"."""
    return f"{millions:.3g}M"


def p_value(p: float) -> str:
    """A p-value in two digits: "0.037", "3.1e-05", "1"."""
    return "1" if p >= 0.995 else f"{p:.2g}"
