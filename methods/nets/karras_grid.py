"""The discrete noise levels of rRCM, in units of pixels normalised to [-1, 1]; no torch."""

from __future__ import annotations

T_MIN, T_MAX, RHO = 0.002, 80.0, 7.0


def karras_grid(n: int, t_max: float = T_MAX) -> tuple[float, ...]:
    """The n noise levels, from 80, or another noisiest one, down to 0.002.

    Source: Karras et al. 2022, Eq. 5; rRCM paper, Section 3.1.
    Raises: ValueError unless n >= 2.
    """
    if n < 2:
        raise ValueError(f"a grid needs at least 2 levels, got n={n!r}")
    high, low = t_max ** (1 / RHO), T_MIN ** (1 / RHO)
    return tuple((high + i / (n - 1) * (low - high)) ** RHO for i in range(n))


def nearest_time(sigma_normalised: float, n: int = 81) -> float:
    """The level of the n-point grid nearest to a noise level in [-1, 1] pixels; of two, the noisier."""
    return min(karras_grid(n), key=lambda t: abs(t - sigma_normalised))
