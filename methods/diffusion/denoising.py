"""From a state of the diffusion to a clean image: in one step, or along a sub-sequence of levels.

Own code beside diffusers' DDPMScheduler, which computes in float32 along a respaced schedule, and draws its own noise.
States and images are on the network's scale, z = 2x - 1. The noise that smoothing added is already in the state; what a
sampler draws itself comes from its caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bench.types.errors import MethodError
from methods.diffusion.schedules import Subsequence
from methods.diffusion.unets import UNet


def one_shot(unet: UNet, x_t: Tensor, t: int) -> Tensor:
    """The image that the network sees behind a state of level t, in [-1, 1].

    Shapes: (B, C, H, W) in and out.
    Source: Carlini et al. 2023, Algorithm 1; Ho et al. 2020, equation 15.
    """
    eps, _ = _predict(unet, x_t, t)
    return _clean(x_t, eps, float(unet.schedule.alphas_bar[t]))


def reverse(unet: UNet, sub: Subsequence, x_t: Tensor, randn: Callable[[], Tensor]) -> Tensor:
    """An image sampled backwards from a state of the first level of `sub`, with learned variances.

    Shapes: (B, C, H, W) in and out; `randn()` gives fresh standard normals of that shape. The last step draws none: it
    is the predicted image itself.
    Source: Xiao et al. 2023 (DensePure); Nichol & Dhariwal 2021, equations 9 to 15.
    Raises: MethodError where the network has no learned variances.
    """
    last = len(sub.times) - 1
    if last and not unet.learned_sigma:
        raise MethodError(
            "sampling in steps needs a diffusion network with learned variances (2C channels out), this one predicts "
            "noise alone; use one step, or another network"
        )
    x = x_t
    for j, t in enumerate(sub.times):
        eps, v = _predict(unet, x, t)
        clean = _clean(x, eps, sub.alphas_bar[j])
        if j == last:
            return clean
        assert v is not None  # noqa: S101  learned_sigma
        beta, abar, before = sub.betas[j], sub.alphas_bar[j], sub.previous[j]
        mean = (beta * math.sqrt(before) * clean + (1 - before) * math.sqrt(1 - beta) * x) / (1 - abar)
        share = (v + 1) / 2
        log_variance = share * math.log(beta) + (1 - share) * math.log(sub.posterior_variances[j])
        x = mean + torch.exp(0.5 * log_variance) * randn()
    raise AssertionError("a sub-sequence has at least one level")


def _predict(unet: UNet, x: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
    y = unet(x, t)
    if not unet.learned_sigma:
        return y, None
    eps, v = y.chunk(2, dim=1)
    return eps, v


def _clean(x: Tensor, eps: Tensor, abar: float) -> Tensor:
    """The image, given the noise in the state; images end at black and white."""
    return ((x - math.sqrt(1 - abar) * eps) / math.sqrt(abar)).clamp(-1, 1)
