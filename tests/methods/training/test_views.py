"""Views of colour pictures: to the bit those of torchvision's transforms, and drawn alike for workers and devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from bench.data.centre_crops import CentreCrop
from methods.training.augment import Name
from methods.training.rng import generator, seeded_globals
from methods.training.views import pil_view, rand_augment, recipe

SIDE = 32


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with edges, as of a photograph: noise alone would hide errors of place."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    large += rng.integers(-20, 21, large.shape)
    large[height // 3 :, width // 2 :] = 255 - large[height // 3 :, width // 2 :]
    return Image.fromarray(large.clip(0, 255).astype(np.uint8))


def theirs(name: Name) -> list[Any]:
    """The transforms of torchvision, each view's own."""
    from torchvision.transforms import v2

    def blur(image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(radius=float(torch.empty(()).uniform_(0.1, 2.0))))

    def contrasted(blurred: float, solarised: float) -> Any:
        return v2.Compose(
            [
                v2.RandomResizedCrop(SIDE, scale=(0.08, 1.0), antialias=True),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
                v2.RandomGrayscale(p=0.2),
                v2.RandomApply([v2.Lambda(blur)], p=blurred),
                v2.RandomSolarize(threshold=128, p=solarised),
                v2.RandomHorizontalFlip(),
            ]
        )

    flip, bicubic = v2.RandomHorizontalFlip(), v2.InterpolationMode.BICUBIC
    return {
        "none": [lambda image: image],
        "flip": [flip],
        "crop_flip": [v2.Compose([v2.RandomCrop(SIDE, padding=SIDE // 8), flip])],
        "resized_crop_flip": [v2.Compose([v2.RandomResizedCrop(SIDE, antialias=True), flip])],
        "strong": [
            v2.Compose([v2.RandomResizedCrop(SIDE, scale=(0.4, 1.0), interpolation=bicubic, antialias=True), flip])
        ],
        "moco": [flip, contrasted(1.0, 0.0), contrasted(0.1, 0.2)],
    }[name]


@pytest.mark.parametrize("name", ["none", "flip", "crop_flip", "resized_crop_flip", "strong", "moco"])
def test_views_are_torchvisions_to_the_bit(name: Name) -> None:
    made = recipe(name, SIDE)
    assert made is not None
    shapes = (
        [(SIDE, SIDE), (50, 37), (200, 20), (20, 200)] if name in ("resized_crop_flip", "strong") else [(SIDE, SIDE)]
    )
    for number, (width, height) in enumerate(shapes * (40 // len(shapes))):
        image = picture(width, height, number)
        draws = made.draw(height, width, generator("cpu", "view", number))
        ours = [pil_view(image, draw, SIDE, None, bicubic=made.bicubic) for draw in draws]
        with seeded_globals("view", number):
            expected = [view(image) for view in theirs(name)]
        assert len(ours) == len(expected)
        assert all(np.array_equal(a, b) for a, b in zip(ours, expected, strict=True))


def test_contrasted_views_are_cut_from_the_whole_picture_and_the_plain_one_from_its_centre() -> None:
    wide = np.zeros((32, 96, 3), dtype=np.uint8)
    wide[:, :32, 0] = 255  # what a centre crop never shows
    image, crop, made = Image.fromarray(wide), CentreCrop("box-bicubic", SIDE, SIDE), recipe("moco", SIDE)
    assert made is not None
    seen = np.zeros(3, dtype=int)
    for number in range(60):
        draws = made.draw(32, 96, generator("cpu", "view", number))
        shown = [np.asarray(pil_view(image, draw, SIDE, crop, bicubic=False)) for draw in draws]
        assert all(view.shape == (SIDE, SIDE, 3) for view in shown)
        seen += [int(view.std() > 0 or view.max() > 100) for view in shown]
    assert seen[0] == 0
    assert min(seen[1:]) > 20


def test_rand_augment_is_timms_with_bicubic_interpolation() -> None:
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.transforms import RandomResizedCropAndInterpolation
    from torchvision.transforms import Compose, RandomHorizontalFlip

    bicubic = Image.Resampling.BICUBIC
    options = {"translate_const": int(SIDE * 0.45), "img_mean": (128, 128, 128), "interpolation": bicubic}
    expected = Compose(
        [
            RandomResizedCropAndInterpolation(SIDE, interpolation="bicubic"),
            RandomHorizontalFlip(),
            rand_augment_transform("rand-m9-mstd0.5-inc1", options),
        ]
    )
    for number in range(20):
        shown = []
        for changes in (rand_augment(SIDE), expected):
            with seeded_globals("a", number):
                shown.append(np.asarray(changes(picture(50, 40, number))))
        assert np.array_equal(*shown)
