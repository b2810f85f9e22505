"""Augmentations by name, those of 8x8 grey digits, and mixing; views of colour pictures are in views.py.

A digits view maps a whole batch at once and draws from the generator that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

BatchView = Callable[[Tensor, torch.Generator], Tensor]  # (B, C, H, W) in [0, 1] -> the same

Name = Literal[
    "none", "flip", "crop_flip", "resized_crop_flip", "strong", "rand_augment", "moco", "digits", "digits_moco"
]
THREE_VIEWS = ("moco", "digits_moco")  # the image itself, and two of it to be contrasted with other images


def batch_views(name: Name) -> tuple[BatchView, ...] | None:
    """The views of a batch of digits that an augmentation makes, or None where it works on single images.

    "digits": shift by up to one pixel, rotation, zoom. "digits_moco": that one, and two stronger ones with a change of
    contrast and a blur; a digit is neither flipped nor cut to a corner, since that makes another digit of it.
    """
    if name == "none":
        return (_same_batch,)
    light = partial(jitter_digits, degrees=10.0, zoom=0.1, shift=1.0, contrast=0.0, blur=0.0)
    if name == "digits":
        return (light,)
    if name == "digits_moco":
        strong = partial(jitter_digits, degrees=20.0, zoom=0.2, shift=1.5, contrast=0.4)
        return (light, partial(strong, blur=0.5), partial(strong, blur=0.1))
    return None


def jitter_digits(
    x: Tensor, generator: torch.Generator, *, degrees: float, zoom: float, shift: float, contrast: float, blur: float
) -> Tensor:
    """Random affine (bilinear, black outside), contrast and blur, each image its own.

    Units: shift in pixels; zoom and contrast as shares; blur is the probability of a 3x3 binomial filter.
    """
    B, _, H, W = x.shape
    u = torch.rand(B, 6, generator=generator, device=generator.device).to(x.device)
    spread = 2 * u - 1
    angle = spread[:, 0] * math.radians(degrees)
    scale = 1 + spread[:, 1] * zoom
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    # affine_grid counts in half images, so that one pixel is 2 / W.
    rows = [cos, -sin * H / W, spread[:, 2] * shift * 2 / W, sin * W / H, cos, spread[:, 3] * shift * 2 / H]
    grid = functional.affine_grid(torch.stack(rows, dim=1).view(B, 2, 3), list(x.shape), align_corners=False)
    moved = functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    moved = moved * (1 + spread[:, 4] * contrast).view(B, 1, 1, 1)
    if blur > 0:
        soft = _binomial(moved)
        moved = torch.where((u[:, 5] < blur).view(B, 1, 1, 1), soft, moved)
    return moved.clamp(0.0, 1.0)


def _binomial(x: Tensor) -> Tensor:
    line = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
    return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])


def _same_batch(x: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG001 - the signature of a BatchView
    return x


def mix(
    x: Tensor, labels: Tensor, generator: torch.Generator, *, num_classes: int, mixup: float, cutmix: float
) -> tuple[Tensor, Tensor]:
    """Images mixed with the batch in reverse, and their probabilities (B, K): mixup or cutmix, a draw a batch.

    Own code: timm's Mixup draws from NumPy's global generator; here the step's generator alone decides. The boxes and
    shares are timm's (tests/methods/training/test_mixing.py): the box's centre is uniform over the picture, what lies
    outside is cut off, and the share is that of what is really pasted, 0.324 on average.
    Units: mixup and cutmix are the parameters of Beta(a, a); 0 switches one off, both 0 is refused.
    Source: Zhang et al. 2018, Eq. 1-2; Yun et al. 2019, Eq. 1-2; switched evenly as in Touvron et al. 2021.
    """
    if mixup <= 0 and cutmix <= 0:
        raise ValueError("mixup or cutmix must be positive to mix")
    coin, a, b, row, column = torch.rand(5, generator=generator, device=generator.device).tolist()
    cut = cutmix > 0 and (mixup <= 0 or coin < 0.5)
    share = _beta(a, b, cutmix if cut else mixup, generator)
    other = x.flip(0)
    if cut:
        H, W = x.shape[2:]
        (top, bottom), (left, right) = _cut(H, row, share), _cut(W, column, share)
        mixed = x.clone()
        mixed[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (H * W)
    else:
        mixed = share * x + (1 - share) * other
    p = functional.one_hot(labels, num_classes).to(x.dtype)
    return mixed, share * p + (1 - share) * p.flip(0)


def _cut(length: int, u: float, share: float) -> tuple[int, int]:
    """One side of the box that is pasted: its centre from a uniform number, its length cut to whole pixels."""
    long, centre = int(length * math.sqrt(1 - share)), int(u * length)
    return max(centre - long // 2, 0), min(centre + (long + 1) // 2, length)


def _beta(u: float, v: float, a: float, generator: torch.Generator) -> float:
    """Beta(a, a) for a <= 1 by Johnk 1964: two powers of uniforms, until they sum to at most 1."""
    if a > 1:
        raise ValueError(f"mixing needs a Beta parameter in (0, 1], got {a!r}")
    while u ** (1 / a) + v ** (1 / a) > 1 or u + v == 0:
        u, v = torch.rand(2, generator=generator, device=generator.device).tolist()
    x, y = u ** (1 / a), v ** (1 / a)
    return float(x / (x + y))
