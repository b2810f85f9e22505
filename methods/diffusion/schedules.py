"""Noise schedules of diffusion models in float64, and the level of one that fits a smoothing sigma; no network.

diffusers' schedulers hold them in float32: abar is 4e-7 off for linear-1000 and 1e-5 for cosine-4000, relative, where
levels and certificates here are held to 1e-12 of the authors' code. Nor do they invert a schedule.

Pixels x are in [0, 1] and a network sees z = 2x - 1, so a smoothing sigma is 2 sigma there. Of a state
x_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps the noise-to-signal ratio is r_t = sqrt((1 - abar_t) / abar_t), and a level
fits a sigma where r_t = 2 sigma.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from bench.types.errors import MethodError

Array = np.ndarray[Any, np.dtype[np.float64]]

_LARGEST_BETA = 0.999  # Nichol & Dhariwal 2021, Section 3.2: the cosine schedule is cut there, and so is a long stride
_OFFSET = 0.008  # Nichol & Dhariwal 2021, equation 17: s


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Schedule:
    """Signal and noise at each level of a diffusion."""

    name: str  # "linear-1000", "cosine-4000"
    betas: Array  # (T,)
    alphas_bar: Array  # (T,) cumulative product of 1 - beta
    time_scale: float  # a network's time input is level * time_scale
    continuous: Callable[[float], float] | None  # abar(u), u in [0, 1], where the schedule has a closed form


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Subsequence:
    """A few levels of a schedule with a diffusion of their own; everything in the order of sampling, noisiest first."""

    times: tuple[int, ...]  # levels, as the network is given them
    alphas_bar: tuple[float, ...]  # relative to level 0
    previous: tuple[float, ...]  # abar of the next cleaner level; 1.0 at the end
    betas: tuple[float, ...]
    posterior_variances: tuple[float, ...]  # of the step from each level; 0.0 at the end
    scale: float  # 1 / sqrt(1 + 4 sigma^2): takes 2 (x + delta) - 1 to the state that sampling starts from


@cache
def schedule(name: str) -> Schedule:
    """The schedule of that name: "linear-T" or "cosine-T", T levels; the same object each time.

    The time input of a cosine schedule runs over [0, 1000) whatever T is.
    Source: linear, Ho et al. 2020, Section 4; cosine, Nichol & Dhariwal 2021, equation 17.
    Raises: MethodError for any other name.
    """
    match = re.fullmatch(r"(linear|cosine)-([1-9]\d{0,5})", name)
    if match is None or int(match[2]) < 2:
        raise MethodError(f"schedule {name!r}: expected 'linear-T' or 'cosine-T' with T levels; give 'linear-1000'")
    levels = int(match[2])
    if match[1] == "linear":
        # The ends are those of 1000 levels; with others, the same noise in all.
        betas = np.linspace(0.1 / levels, 20.0 / levels, levels, dtype=np.float64)
        if betas[-1] > _LARGEST_BETA:
            raise MethodError(f"schedule {name!r}: expected 21 levels or more, got {levels}; give 'linear-1000'")
        return _frozen(name, betas, time_scale=1.0, continuous=None)
    edges = [_cosine(i / levels) for i in range(levels + 1)]
    betas = np.array([min(1 - after / before, _LARGEST_BETA) for before, after in pairwise(edges)])
    return _frozen(name, betas, time_scale=1000.0 / levels, continuous=_cosine)


def level_sigma(schedule: Schedule, t: int) -> float:
    """The noise of a level as a smoothing sigma, in [0, 1] pixels: r_t / 2."""
    return float(_ratios(schedule)[t]) / 2


def level(schedule: Schedule, sigma: float, rounding: Literal["first", "nearest"]) -> int:
    """The level that fits a smoothing sigma.

    "first" is the first level after 0 with no less noise (Carlini et al. 2023, Section 3), "nearest" the closest one
    (Xiao et al. 2023); a cosine schedule is then inverted in continuous time.
    Raises: MethodError where sigma is no positive number, or beyond the schedule.
    """
    if rounding == "first":
        _check_sigma(schedule, sigma)
        return max(1, int(np.searchsorted(_ratios(schedule), 2 * sigma, side="left")))
    return round(_nearest(schedule, sigma))


def subsequence(schedule: Schedule, sigma: float, steps: int) -> Subsequence:
    """The levels t*, t* - t*/b, ..., t*/b for b steps, each rounded, and the diffusion that visits them alone.

    Source: Xiao et al. 2023 (DensePure). The noise is counted from level 0, which is taken as clean, by the closed form
    of abar where there is one: this is no respaced schedule.
    Raises: MethodError where sigma has no level, or fewer levels below it than steps.
    """
    if steps < 1:
        raise MethodError(f"steps={steps!r}: expected at least 1 denoising step; give 5 or 10")
    start = _nearest(schedule, sigma)
    times = [round(start - i * start / steps) for i in range(steps)]
    ascending = [0, *reversed(times)]
    if any(low >= high for low, high in pairwise(ascending)):
        raise MethodError(
            f"sigma {sigma:g} is level {round(start)} of {schedule.name}, too few for {steps} steps; give fewer steps, "
            "or a larger sigma"
        )
    abar = [_abar(schedule, t) for t in ascending]
    betas = np.array([min(1 - after / before, _LARGEST_BETA) for before, after in pairwise(abar)], np.float64)
    alphas_bar: Array = np.cumprod(1 - betas, dtype=np.float64)
    previous = np.concatenate([[1.0], alphas_bar[:-1]])
    posterior = betas * (1 - previous) / (1 - alphas_bar)
    return Subsequence(
        times=tuple(times),
        alphas_bar=_descending(alphas_bar),
        previous=_descending(previous),
        betas=_descending(betas),
        posterior_variances=_descending(posterior),
        scale=1 / math.sqrt(1 + 4 * sigma * sigma),
    )


def _frozen(name: str, betas: Array, *, time_scale: float, continuous: Callable[[float], float] | None) -> Schedule:
    alphas_bar: Array = np.cumprod(1 - betas, dtype=np.float64)
    betas.setflags(write=False)  # one object serves all networks
    alphas_bar.setflags(write=False)
    return Schedule(name=name, betas=betas, alphas_bar=alphas_bar, time_scale=time_scale, continuous=continuous)


def _cosine(u: float) -> float:
    return math.cos((u + _OFFSET) / (1 + _OFFSET) * math.pi / 2) ** 2


def _ratios(schedule: Schedule) -> Array:
    return np.sqrt((1 - schedule.alphas_bar) / schedule.alphas_bar)


def _abar(schedule: Schedule, t: int) -> float:
    if schedule.continuous is not None:
        return schedule.continuous(t / len(schedule.betas))
    return float(schedule.alphas_bar[t])


def _check_sigma(schedule: Schedule, sigma: float) -> None:
    if not sigma > 0:
        raise MethodError(f"sigma {sigma!r}: expected a positive number; without noise there is nothing to denoise")
    largest = level_sigma(schedule, len(schedule.betas) - 1)
    if sigma > largest:
        raise MethodError(
            f"sigma {sigma:g} is beyond {schedule.name}, whose noisiest level has sigma {largest:.4g}; give a smaller "
            "sigma"
        )


def _nearest(schedule: Schedule, sigma: float) -> float:
    """The level whose noise is sigma: fractional where the schedule has a closed form, else the closest one."""
    _check_sigma(schedule, sigma)
    if schedule.continuous is None:
        return float(np.argmin(np.abs(_ratios(schedule) - 2 * sigma)))
    levels = len(schedule.betas)
    # abar(u) = cos^2(...) / cos^2(at u = 0) solved for u; sine and complement keep the digits that cosine would lose
    clean = math.sin(math.pi / 2 / (1 + _OFFSET))
    angle = math.asin(clean / math.sqrt(1 + 4 * sigma * sigma))
    t = levels * (1 - (1 + _OFFSET) * 2 / math.pi * angle)
    return min(max(t, 0.0), levels - 1.0)


def _descending(values: Array) -> tuple[float, ...]:
    return tuple(float(v) for v in values[::-1])
