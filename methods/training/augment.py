"""Views of images for training: the usual ones for colour images, and small analogues for 8x8 grey digits.

A colour view maps a PIL image to a PIL image and draws from the global generators, so it is only called inside
`rng.seeded_globals`. A digits view maps a whole batch at once and draws from the generator that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

View = Callable[[Any], Any]  # PIL image -> PIL image
BatchView = Callable[[Tensor, torch.Generator], Tensor]  # (B, C, H, W) in [0, 1] -> the same

Name = Literal[
    "none", "flip", "crop_flip", "resized_crop_flip", "strong", "rand_augment", "moco", "digits", "digits_moco"
]
THREE_VIEWS = ("moco", "digits_moco")  # the image itself, and two of it to be contrasted with other images


def colour_views(name: Name, size: int) -> tuple[View, ...] | None:
    """The views of one colour image that an augmentation makes, or None where it works on batches.

    "flip": horizontal flip. "crop_flip": random crop with padding size / 8, flip (Cohen et al. 2019 for CIFAR-10).
    "resized_crop_flip": random resized crop, flip (the same, for ImageNet). "strong": crop scale 0.4-1, bicubic, flip.
    "rand_augment": Cubuk et al. 2020 as timm's rand-m9-mstd0.5-inc1, after a resized crop and a flip.
    "moco": three views: the flipped image, and the two asymmetric ones of Chen et al. 2021 (BYOL's recipe).
    Differs: views are cut from the data set's own square crop, not from the whole file.
    """
    from torchvision.transforms import v2

    flip = v2.RandomHorizontalFlip()
    bicubic = v2.InterpolationMode.BICUBIC
    crops: dict[str, list[Any]] = {
        "flip": [flip],
        "crop_flip": [v2.RandomCrop(size, padding=size // 8), flip],
        "resized_crop_flip": [v2.RandomResizedCrop(size, antialias=True), flip],
        "strong": [v2.RandomResizedCrop(size, scale=(0.4, 1.0), interpolation=bicubic, antialias=True), flip],
    }
    if name in crops:
        return (v2.Compose(crops[name]),)
    if name == "none":
        return (_same,)
    if name == "rand_augment":
        from timm.data.auto_augment import rand_augment_transform

        options = {"translate_const": int(size * 0.45), "img_mean": (128, 128, 128)}
        resized = v2.RandomResizedCrop(size, interpolation=bicubic, antialias=True)
        return (v2.Compose([resized, flip, rand_augment_transform("rand-m9-mstd0.5-inc1", options)]),)
    if name == "moco":
        return (flip, _moco_view(size, blur=1.0, solarise=0.0), _moco_view(size, blur=0.1, solarise=0.2))
    return None


def _moco_view(size: int, *, blur: float, solarise: float) -> View:
    """Chen et al. 2021 (MoCo v3), Appendix A; Grill et al. 2020, Table 6."""
    from torchvision.transforms import v2

    view: View = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.08, 1.0), antialias=True),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.RandomApply([v2.Lambda(_pil_blur)], p=blur),
            v2.RandomSolarize(threshold=128, p=solarise),
            v2.RandomHorizontalFlip(),
        ]
    )
    return view


def _pil_blur(image: Any) -> Any:
    from PIL import ImageFilter

    radius = float(torch.empty(()).uniform_(0.1, 2.0))  # inside rng.seeded_globals, so keyed
    return image.filter(ImageFilter.GaussianBlur(radius=radius))


def _same(image: Any) -> Any:
    return image


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

    Own code: timm's Mixup draws from NumPy's global generator; here the step's generator alone decides.
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
        height, width = round(H * math.sqrt(1 - share)), round(W * math.sqrt(1 - share))
        top, left = int(row * (H - height + 1)), int(column * (W - width + 1))
        mixed = x.clone()
        mixed[:, :, top : top + height, left : left + width] = other[:, :, top : top + height, left : left + width]
        share = 1 - height * width / (H * W)  # what is really left, after rounding
    else:
        mixed = share * x + (1 - share) * other
    p = functional.one_hot(labels, num_classes).to(x.dtype)
    return mixed, share * p + (1 - share) * p.flip(0)


def _beta(u: float, v: float, a: float, generator: torch.Generator) -> float:
    """Beta(a, a) for a <= 1 by Johnk 1964: two powers of uniforms, until they sum to at most 1."""
    if a > 1:
        raise ValueError(f"mixing needs a Beta parameter in (0, 1], got {a!r}")
    while u ** (1 / a) + v ** (1 / a) > 1 or u + v == 0:
        u, v = torch.rand(2, generator=generator, device=generator.device).tolist()
    x, y = u ** (1 / a), v ** (1 / a)
    return float(x / (x + y))
