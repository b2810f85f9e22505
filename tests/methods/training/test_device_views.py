"""Views of a batch, made at once, against Pillow's of each picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data.centre_crops import CentreCrop
from methods.training.augment import Name
from methods.training.device_views import make_views, unpack
from methods.training.pieces import Packer, shared_buffers
from methods.training.rng import generator
from methods.training.views import ViewDraw, pil_view, recipe

SIDE = 32
SHAPES = [(75, 50), (50, 75), (32, 32), (33, 140), (20, 25), (129, 131), (300, 64), (64, 64)]
CROPS = [CentreCrop("resize", 37, SIDE), CentreCrop("bicubic", 37, SIDE), CentreCrop("box-bicubic", SIDE, SIDE)]


def picture(width: int, height: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    large += rng.integers(-20, 21, large.shape)
    large[height // 3 :, width // 2 :] = 255 - large[height // 3 :, width // 2 :]
    return large.clip(0, 255).astype(np.uint8)


PICTURES = [picture(*shape, seed) for seed, shape in enumerate(SHAPES)]


def both(
    draws: list[tuple[ViewDraw, ...]], crop: CentreCrop | None, pictures: list[np.ndarray], *, bicubic: bool = False
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The device's and Pillow's views, (B, views, 3, side, side) as whole numbers, view by view."""
    items = [(image, [draw.as_numbers() for draw in own]) for image, own in zip(pictures, draws, strict=True)]
    flat, sizes, drawn = Packer().pack(items)
    ours = make_views(flat, torch.from_numpy(sizes), torch.from_numpy(drawn), SIDE, crop, bicubic=bicubic)
    made = []
    for k, view in enumerate(ours):
        pil = [
            pil_view(Image.fromarray(i), own[k], SIDE, crop, bicubic=bicubic)
            for i, own in zip(pictures, draws, strict=True)
        ]
        made.append(
            (view.numpy().astype(int), np.stack([np.asarray(p) for p in pil]).transpose(0, 3, 1, 2).astype(int))
        )
    return made


def drawn(name: Name, seed: int) -> tuple[list[tuple[ViewDraw, ...]], bool]:
    made = recipe(name, SIDE)
    assert made is not None
    own = [made.draw(*image.shape[:2], generator("cpu", seed, number)) for number, image in enumerate(PICTURES)]
    return own, made.bicubic


def same_order(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Off by a level in one of 40 pixels (ties), or in as many as there are where Pillow mixed the rows first."""
    off = np.abs(ours - theirs).reshape(len(ours), -1)
    assert off.mean(axis=1).max() < 0.5
    assert off.max() <= 12
    alike = (off > 0).mean(axis=1) < 0.025
    assert alike.sum() >= 3
    assert off[alike].max() <= 1


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("name", ["none", "flip", "crop_flip"])
def test_centre_crops_differ_by_roundings_alone(crop: CentreCrop, name: Name) -> None:
    [(ours, theirs)] = both(drawn(name, 1)[0], crop, PICTURES)
    same_order(ours, theirs)


@pytest.mark.parametrize("name", ["resized_crop_flip", "strong"])
def test_regions_differ_by_roundings_alone(name: Name) -> None:
    for seed in range(10):
        draws, bicubic = drawn(name, seed)
        [(ours, theirs)] = both(draws, CROPS[0], PICTURES, bicubic=bicubic)
        same_order(ours, theirs)


PLAIN = ViewDraw()


@pytest.mark.parametrize(
    ("draw", "most"),
    [
        *((replace(PLAIN, jitter=True, factors=(f, 1.0, 1.0, 0.0)), 0) for f in (0.6, 0.93, 1.4)),
        *((replace(PLAIN, jitter=True, factors=(1.0, f, 1.0, 0.0)), 0) for f in (0.6, 0.93, 1.4)),
        *((replace(PLAIN, jitter=True, factors=(1.0, 1.0, f, 0.0)), 0) for f in (0.8, 0.93, 1.2)),
        *((replace(PLAIN, jitter=True, factors=(1.0, 1.0, 1.0, f)), 0) for f in (-0.1, -0.03, 0.0, 0.1)),
        *((replace(PLAIN, blur=radius), 2) for radius in (0.1, 0.5, 1.0, 1.99)),
        (replace(PLAIN, grey=True), 0),
        (replace(PLAIN, solarise=True), 0),
        (replace(PLAIN, flip=True), 0),
        (replace(PLAIN, down=3, right=-4), 0),
    ],
)
def test_each_change_is_pillows(draw: ViewDraw, most: int) -> None:
    some = [picture(SIDE, SIDE, seed) for seed in range(6)]
    [(ours, theirs)] = both([(draw,)] * 6, None, some)
    assert np.abs(ours - theirs).max() <= most


def test_contrasted_views_are_pillows_but_for_roundings() -> None:
    off = []
    for seed in range(12):
        for ours, theirs in both(drawn("moco", seed)[0], CROPS[2], PICTURES):
            off.append(np.abs(ours - theirs))
    levels = np.concatenate([each.ravel() for each in off])
    assert levels.mean() < 0.2
    assert (levels > 3).mean() < 0.002


def test_pictures_of_any_size_are_unpacked_as_they_were() -> None:
    flat, sizes, _ = Packer().pack([(image, [[0.0]]) for image in PICTURES])
    whole = unpack(flat, torch.from_numpy(sizes))
    for image, shown in zip(PICTURES, whole, strict=True):
        height, width = image.shape[:2]
        assert np.array_equal(shown[:, :height, :width].numpy(), image.transpose(2, 0, 1))
        assert float(shown.sum()) == float(image.astype(np.float64).sum())


@pytest.mark.parametrize("fitting", range(len(PICTURES) + 1))
def test_what_a_buffer_does_not_hold_is_sent_with_the_rest(fitting: int) -> None:
    items = [(image, [[0.0]]) for image in PICTURES]
    buffers = shared_buffers(2, 1)
    packer = Packer(tuple(buffer[: sum(image.size for image in PICTURES[:fitting])] for buffer in buffers))
    sent, _, _ = packer.pack(items, number=3)
    assert (sent == (1, sum(image.size for image in PICTURES))) is (fitting == len(PICTURES))
    assert torch.equal(packer.flat(sent, "cpu"), Packer().pack(items)[0])


def test_large_pictures_are_resized_apart_and_come_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draws, _ = drawn("moco", 3)
    together = both(draws, CROPS[2], PICTURES)
    monkeypatch.setattr("methods.training.device_views.PLANE", 20_000)
    for (one, _), (other, _) in zip(together, both(draws, CROPS[2], PICTURES), strict=True):
        assert np.array_equal(one, other)


def test_views_on_a_device_leave_what_was_sent_as_it_was() -> None:
    draws, _ = drawn("moco", 0)
    items = [(image, [draw.as_numbers() for draw in own]) for image, own in zip(PICTURES, draws, strict=True)]
    flat, sizes, rows = Packer().pack(items)
    before = flat.clone()
    first = make_views(flat, torch.from_numpy(sizes), torch.from_numpy(rows), SIDE, CROPS[2], bicubic=False)
    assert torch.equal(flat, before)
    assert all(
        map(
            torch.equal,
            first,
            make_views(flat, torch.from_numpy(sizes), torch.from_numpy(rows), SIDE, CROPS[2], bicubic=False),
        )
    )
