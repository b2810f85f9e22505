"""The variational bound, level by level, by which a diffusion network learns its variances; no network, no sampling.

Images z are in [-1, 1]; x_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps, at level t = 0 ... T - 1 of a schedule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from methods.diffusion.schedules import Schedule

HALF_BIN = 1 / 255  # of an 8-bit image in [-1, 1]
LEAST = 1e-12  # probability of a bin, as the originals: below it there is no gradient


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tables:
    """A schedule's coefficients, each (T,) float64, on the device of the images."""

    signal: Tensor  # sqrt(abar)
    noise: Tensor  # sqrt(1 - abar)
    mean_z: Tensor  # weight of z in the posterior's mean
    mean_x: Tensor  # weight of x_t in it
    log_least: Tensor  # log of the posterior's variance; at level 0, where that is 0, level 1's
    log_most: Tensor  # log beta


def tables(schedule: Schedule, device: str) -> Tables:
    """Coefficients of the bound for each level of a schedule.

    Source: Ho et al. 2020, Eq. 7; Nichol & Dhariwal 2021, Section 3.1.
    """
    betas, abar = schedule.betas, schedule.alphas_bar
    before = np.concatenate([[1.0], abar[:-1]])
    variance = betas * (1 - before) / (1 - abar)
    columns = {
        "signal": np.sqrt(abar),
        "noise": np.sqrt(1 - abar),
        "mean_z": betas * np.sqrt(before) / (1 - abar),
        "mean_x": (1 - before) * np.sqrt(1 - betas) / (1 - abar),
        "log_least": np.log(np.concatenate([variance[1:2], variance[1:]])),
        "log_most": np.log(betas),
    }
    return Tables(**{name: torch.from_numpy(column).to(device) for name, column in columns.items()})


def at(column: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """A coefficient of each image's level, (B, 1, 1, 1), in the images' precision."""
    return column[t].to(like.dtype).view(-1, 1, 1, 1)


def noised(table: Tables, z: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t, (B, C, H, W). Source: Ho et al. 2020, Eq. 4."""
    return at(table.signal, t, z) * z + at(table.noise, t, z) * eps


def bound(table: Tables, z: Tensor, x_t: Tensor, t: Tensor, *, eps: Tensor, spread: Tensor) -> Tensor:
    """The term L_t of the variational bound, in bits per value, (B,).

    `eps` is the network's guess of the noise, and only its mean: no gradient goes through it. `spread` is where its
    variance lies between the two extremes, -1 for the posterior's and 1 for beta. Level 0 counts how likely the 8-bit
    image is, every other the divergence from the true posterior.
    Shapes: z, x_t, eps, spread (B, C, H, W); t (B,) int64.
    Source: Nichol & Dhariwal 2021, Eq. 4-7, 15 and 16. Differs: the normal distribution function is exact, where the
    authors' code approximates it by tanh.
    """
    eps = eps.detach()
    # Not clamped to [-1, 1] as in sampling: the originals do not either while they train.
    guess = (x_t - at(table.noise, t, z) * eps) / at(table.signal, t, z)
    mean_z, mean_x = at(table.mean_z, t, z), at(table.mean_x, t, z)
    mean, truth = mean_z * guess + mean_x * x_t, mean_z * z + mean_x * x_t
    least, most = at(table.log_least, t, z), at(table.log_most, t, z)
    share = (spread + 1) / 2
    log_variance = share * most + (1 - share) * least
    differing = divergence(truth, least, mean, log_variance)
    unlikely = -log_likelihood(z, mean, log_variance / 2)
    nats = torch.where((t == 0).view(-1, 1, 1, 1), unlikely, differing)
    return nats.flatten(1).mean(dim=1) / math.log(2)


def divergence(mean_p: Tensor, log_variance_p: Tensor, mean_q: Tensor, log_variance_q: Tensor) -> Tensor:
    """KL(p || q) of two normal distributions, value by value, in nats."""
    ratio = log_variance_p - log_variance_q
    return (ratio.exp() - 1 - ratio + (mean_p - mean_q).square() * (-log_variance_q).exp()) / 2


def log_likelihood(z: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability of each 8-bit value under a normal distribution, in nats; the outermost bins have no end.

    Source: Ho et al. 2020, Eq. 13.
    """
    scale = log_scale.exp()
    low, high = (z - HALF_BIN - mean) / scale, (z + HALF_BIN - mean) / scale
    # Both ends mirrored into the lower tail, where the distribution function keeps its digits.
    upper = low > 0
    low, high = torch.where(upper, -high, low), torch.where(upper, -low, high)
    inner = _below(high) - _below(low)
    # After mirroring, the end that is open is the other one.
    darkest, brightest = (z < -1 + HALF_BIN / 4), (z > 1 - HALF_BIN / 4)
    open_below = torch.where(upper, brightest, darkest)
    open_above = torch.where(upper, darkest, brightest)
    inner = torch.where(open_below, _below(high), inner)
    inner = torch.where(open_above, _below(-low), inner)
    return inner.clamp(min=LEAST).log()


def _below(x: Tensor) -> Tensor:
    # torch.special.ndtr goes by erf, which leaves 0 below -5.5 in float32.
    below: Tensor = torch.special.erfc(-x / math.sqrt(2)) / 2
    return below
