"""Views of colour pictures for training: what is drawn for each, and how Pillow makes it; batches: device_views.

A draw is keyed and made before any pixel is touched, so that workers and devices make the same views. It takes its
numbers in the order in which the transforms of torchvision (v2) take theirs; Pillow's views equal theirs to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from bench.data.centre_crops import CentreCrop
from methods.training.augment import Name

HALF = 128  # what solarisation inverts from
RATIOS = (3 / 4, 4 / 3)  # of width to height, of random regions
# The two views of Chen et al. 2021 (MoCo v3), Appendix A; Grill et al. 2020, Table 6.
AREA = 0.08  # least share of the picture
STRONG_AREA = 0.4
JITTER = ((0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1))  # brightness, contrast, saturation; hue in turns
JITTERED, GREY, FLIPPED = 0.8, 0.2, 0.5  # probabilities
RADII = (0.1, 2.0)  # of the blur, pixels
BLUR_AND_SOLARISE = ((1.0, 0.0), (0.1, 0.2))  # probabilities, by view


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewDraw:
    """One view of a picture: a region of it, resized, or its centre crop; then what is done to the pixels, in order."""

    top: int = 0  # of the region, in pixels of the decoded picture
    left: int = 0
    height: int = 0  # 0: the centre crop of the data set
    width: int = 0
    down: int = 0  # the centre crop is shifted by so many pixels, black coming in
    right: int = 0
    flip: bool = False
    jitter: bool = False
    order: tuple[int, ...] = (0, 1, 2, 3)  # in which the four of JITTER are changed
    factors: tuple[float, ...] = (1.0, 1.0, 1.0, 0.0)
    grey: bool = False
    blur: float = 0.0  # radius of Pillow's Gaussian blur, pixels; 0: none
    solarise: bool = False

    def as_numbers(self) -> list[float]:
        """All fields in order, flat."""
        flat: list[float] = []
        for name in self.__slots__:
            value = getattr(self, name)
            flat += value if isinstance(value, tuple) else (value,)
        return flat


Drawer = Callable[[int, int, torch.Generator], tuple[ViewDraw, ...]]  # (H, W) of the decoded picture


@dataclass(frozen=True, slots=True)
class Recipe:
    """An augmentation of colour pictures."""

    draw: Drawer
    bicubic: bool = False  # how regions are resized; else bilinear


def recipe(name: Name, size: int) -> Recipe | None:
    """How an augmentation draws its views, or None where it is not of this kind.

    "flip": centre crop, flip. "crop_flip": centre crop padded by size / 8, random crop, flip (Cohen et al. 2019 for
    CIFAR-10). "resized_crop_flip": random region of the whole picture, flip (the same, for ImageNet). "strong": region
    of 0.4 to 1 of the area, bicubic, flip (Lei et al. 2025). "moco": the flipped centre crop, and the two asymmetric
    views of Chen et al. 2021 (BYOL's recipe), each of its own region of the whole picture.
    """
    recipes = {
        "none": Recipe(lambda _h, _w, _source: (ViewDraw(),)),
        "flip": Recipe(lambda _h, _w, source: (ViewDraw(flip=_chance(FLIPPED, source)),)),
        "crop_flip": Recipe(lambda _h, _w, source: (_shifted(size // 8, source),)),
        "resized_crop_flip": Recipe(lambda h, w, source: (_region(h, w, AREA, source),)),
        "strong": Recipe(lambda h, w, source: (_region(h, w, STRONG_AREA, source),), bicubic=True),
        "moco": Recipe(_three),
    }
    return recipes.get(name)


def _three(height: int, width: int, source: torch.Generator) -> tuple[ViewDraw, ...]:
    plain = ViewDraw(flip=_chance(FLIPPED, source))
    return plain, *(_contrasted(height, width, source, *own) for own in BLUR_AND_SOLARISE)


def _contrasted(height: int, width: int, source: torch.Generator, blur: float, solarise: float) -> ViewDraw:
    top, left, h, w = _box(height, width, AREA, source)
    jitter = _chance(JITTERED, source)
    order: tuple[int, ...] = (0, 1, 2, 3)
    factors: tuple[float, ...] = (1.0, 1.0, 1.0, 0.0)
    if jitter:
        order = tuple(torch.randperm(4, generator=source).tolist())
        factors = tuple(_uniform(*bounds, source) for bounds in JITTER)
    grey = _chance(GREY, source)
    radius = _uniform(*RADII, source) if _chance(blur, source) else 0.0
    inverted = _chance(solarise, source)
    return ViewDraw(
        top=top, left=left, height=h, width=w, jitter=jitter, order=order, factors=factors, grey=grey, blur=radius,
        solarise=inverted, flip=_chance(FLIPPED, source),
    )  # fmt: skip


def _region(height: int, width: int, least: float, source: torch.Generator) -> ViewDraw:
    top, left, h, w = _box(height, width, least, source)
    return ViewDraw(top=top, left=left, height=h, width=w, flip=_chance(FLIPPED, source))


def _shifted(most: int, source: torch.Generator) -> ViewDraw:
    down, right = (int(torch.randint(0, 2 * most + 1, (), generator=source)) if most else 0 for _ in range(2))
    return ViewDraw(down=most - down, right=most - right, flip=_chance(FLIPPED, source))


def _box(height: int, width: int, least: float, source: torch.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a region of `least` to all of the area (Szegedy et al. 2015)."""
    logs = log_ratios()
    for _ in range(10):
        area = height * width * _uniform(least, 1.0, source)
        ratio = float(torch.exp(torch.empty(1).uniform_(*logs, generator=source)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(0, height - h + 1, (1,), generator=source))
            return top, int(torch.randint(0, width - w + 1, (1,), generator=source)), h, w
    return central(height, width)


def central(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of the largest region in the middle whose ratio of sides is allowed."""
    narrow, wide = RATIOS
    h, w = height, width
    if width / height < narrow:
        h = round(width / narrow)
    elif width / height > wide:
        w = round(height * wide)
    return (height - h) // 2, (width - w) // 2, h, w


@cache
def log_ratios() -> tuple[float, float]:
    """Logarithms of `RATIOS`."""
    low, high = torch.log(torch.tensor(RATIOS)).tolist()  # in single precision, as torchvision has them
    return low, high


def _chance(p: float, source: torch.Generator) -> bool:
    return float(torch.rand(1, generator=source)) < p


def _uniform(low: float, high: float, source: torch.Generator) -> float:
    return float(torch.empty(1).uniform_(low, high, generator=source))


def pil_view(picture: Any, draw: ViewDraw, size: int, crop: CentreCrop | None, *, bicubic: bool) -> Any:
    """The view of a PIL picture, as a PIL picture of that side."""
    from PIL import ImageFilter
    from torchvision.transforms.v2 import InterpolationMode, functional

    if draw.height:
        way = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
        where = draw.top, draw.left, draw.height, draw.width
        picture = functional.resized_crop(picture, *where, size=[size, size], interpolation=way, antialias=True)
    elif crop is not None:
        picture = crop.of(picture)
    if draw.down or draw.right:
        # What lies outside of a PIL picture is black when it is cropped.
        picture = functional.crop(picture, -draw.down, -draw.right, picture.height, picture.width)
    if draw.jitter:
        changes = (
            functional.adjust_brightness, functional.adjust_contrast,
            functional.adjust_saturation, functional.adjust_hue,
        )  # fmt: skip
        for which in draw.order:
            picture = changes[which](picture, draw.factors[which])
    if draw.grey:
        picture = functional.rgb_to_grayscale(picture, num_output_channels=3)
    if draw.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(radius=draw.blur))
    if draw.solarise:
        picture = functional.solarize(picture, threshold=HALF)
    return functional.horizontal_flip(picture) if draw.flip else picture


def rand_augment(size: int) -> Callable[[Any], Any]:
    """A random region of a PIL picture, bicubic, flipped, and two random changes (Cubuk et al. 2020), as timm's.

    It draws from the global generators, so it is only called inside `rng.seeded_globals`.
    """
    from timm.data import create_transform

    half = (0.5, 0.5, 0.5)  # what is shifted in is the grey of 128, as for networks of this normaliser
    geometry, changes, _ = create_transform(
        size, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", interpolation="bicubic", mean=half, std=half,
        separate=True,
    )  # fmt: skip
    return lambda picture: changes(geometry(picture))
