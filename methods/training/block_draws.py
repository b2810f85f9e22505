"""The draws of `views.recipe` for the pictures of several steps, of one size, all at once: the same numbers.

There each picture has a generator of its own, so that its draw depends on nothing else. Here the first numbers of all
these generators are computed side by side: torch's on a CPU is a Mersenne Twister (Matsumoto & Nishimura 1998), whose
first outputs need a part of its state alone. Equal to the bit (tests/methods/training/test_resident.py), and a hundred
times as fast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from methods.training.augment import Name
from methods.training.views import (
    AREA,
    BLUR_AND_SOLARISE,
    FLIPPED,
    GREY,
    JITTER,
    JITTERED,
    RADII,
    STRONG_AREA,
    ViewDraw,
    central,
    log_ratios,
)  # fmt: skip

Words = np.ndarray[Any, np.dtype[np.uint32]]
Numbers = np.ndarray[Any, np.dtype[np.float64]]
Whole = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

SHIFT = 397  # of the twister
TRIES = 10  # of a region
MOST = {"none": 0, "flip": 1, "crop_flip": 3, "resized_crop_flip": 23, "strong": 23, "moco": 71}  # outputs of a picture


def draw_views(name: Name, side: int, size: tuple[int, int], seed: int, steps: range, batch: int) -> Numbers:
    """The draws of all views of all pictures of some steps, in their order.

    Shapes: size (H, W) of each decoded picture; result (steps * batch, views, fields of a ViewDraw).
    """
    count = len(steps) * batch
    front = f"{'view'!r}\x1f{seed!r}\x1f"
    keys = [f"{front}{step}\x1f{slot}" for step in steps for slot in range(batch)]
    source = _Sources(_outputs(keys, MOST[name]))
    height, width = size
    if name == "moco":
        plain = _columns(count, flip=source.chance(FLIPPED))
        views = [plain, *(_contrasted(source, count, height, width, *own) for own in BLUR_AND_SOLARISE)]
    elif name == "none":
        views = [_columns(count)]
    elif name == "flip":
        views = [_columns(count, flip=source.chance(FLIPPED))]
    elif name == "crop_flip":
        most = side // 8
        down, right = ((most - source.below(2 * most + 1)) if most else np.zeros(count) for _ in range(2))
        views = [_columns(count, down=down, right=right, flip=source.chance(FLIPPED))]
    else:
        region = _region(source, count, height, width, STRONG_AREA if name == "strong" else AREA)
        views = [_columns(count, **region, flip=source.chance(FLIPPED))]
    return np.stack(views, axis=1)


def _contrasted(source: _Sources, count: int, height: int, width: int, blur: float, solarise: float) -> Numbers:
    region = _region(source, count, height, width, AREA)
    jitter = source.chance(JITTERED)
    order = source.permutations(4, jitter)
    factors = [source.uniform(*bounds, jitter) for bounds in JITTER]
    factors = [np.where(jitter, factor, still) for factor, still in zip(factors, (1.0, 1.0, 1.0, 0.0), strict=True)]
    grey, blurred = source.chance(GREY), source.chance(blur)
    radius = np.where(blurred, source.uniform(*RADII, blurred), 0.0)
    inverted, flip = source.chance(solarise), source.chance(FLIPPED)
    return _columns(
        count, **region, jitter=jitter, order=np.stack(order, axis=1), factors=np.stack(factors, axis=1), grey=grey,
        blur=radius, solarise=inverted, flip=flip,
    )  # fmt: skip


def _region(source: _Sources, count: int, height: int, width: int, least: float) -> dict[str, Whole]:
    """`views`'s random region, tried by all pictures that have none yet."""
    top, left, heights, widths = (np.full(count, value, dtype=np.int64) for value in central(height, width))
    trying = np.ones(count, dtype=np.bool_)
    for _ in range(TRIES):
        if not trying.any():
            break
        area = height * width * source.uniform(least, 1.0, trying)
        # By torch, whose exponential of single precision is another than NumPy's in the last bit.
        logs = torch.from_numpy(source.uniform(*log_ratios(), trying).astype(np.float32))
        ratio = torch.exp(logs).numpy().astype(np.float64)
        w_, h_ = np.rint(np.sqrt(area * ratio)).astype(np.int64), np.rint(np.sqrt(area / ratio)).astype(np.int64)
        found = trying & (w_ > 0) & (w_ <= width) & (h_ > 0) & (h_ <= height)
        # Where nothing is found the range does not matter, and must not be 0.
        down = source.below(np.where(found, height - h_ + 1, 1), found)
        right = source.below(np.where(found, width - w_ + 1, 1), found)
        for values, new in ((top, down), (left, right), (heights, h_), (widths, w_)):
            values[found] = new[found]
        trying &= ~found
    return {"top": top, "left": left, "height": heights, "width": widths}


def _columns(count: int, **given: np.ndarray[Any, Any]) -> Numbers:
    """Draws in the order of their fields."""
    row = ViewDraw()
    parts = []
    for name in ViewDraw.__slots__:
        values = given.get(name)
        if values is None:
            values = np.broadcast_to(
                np.asarray(getattr(row, name), dtype=np.float64), (count, *np.shape(getattr(row, name)))
            )
        parts.append(values.reshape(count, -1).astype(np.float64))
    return np.concatenate(parts, axis=1)


class _Sources:
    """Generators side by side, each at a place of its own in its numbers."""

    def __init__(self, outputs: Words) -> None:
        self._outputs = outputs
        self._at = np.zeros(outputs.shape[1], dtype=np.int64)
        self._every = np.arange(outputs.shape[1])

    def below(self, n: int | Whole, where: Mask | None = None) -> Whole:
        """Whole numbers below n, as torch.randint's."""
        return (self._next(where) % np.asarray(n, dtype=np.uint32)).astype(np.int64)

    def uniform(self, low: float, high: float, where: Mask | None = None) -> Numbers:
        """Numbers of single precision, as those of torch's uniform_."""
        unit = (self._next(where) & np.uint32(2**24 - 1)).astype(np.float64) * 2.0**-24
        first, last = np.float32(low), np.float32(high)
        # Rounded once, as torch's multiply-add.
        return (unit * np.float64(last - first) + np.float64(first)).astype(np.float32).astype(np.float64)

    def chance(self, p: float) -> Mask:
        """Whether a number is below p."""
        return self.uniform(0.0, 1.0) < p

    def permutations(self, n: int, where: Mask) -> list[Whole]:
        """Permutations, as torch.randperm's; in order where there is none. Columns of them."""
        made = np.tile(np.arange(n), (len(self._every), 1))
        for i in range(n - 1):
            other = np.where(where, i + self.below(n - i, where), i)
            here = made[:, i].copy()
            made[:, i] = made[self._every, other]
            made[self._every, other] = here
        return list(made.T)

    def _next(self, where: Mask | None) -> Words:
        found: Words = self._outputs[self._at, self._every]
        self._at += 1 if where is None else where
        return found


def _outputs(keys: Sequence[str], most: int) -> Words:
    """The first outputs of the generators that `rng.generator` seeds by these texts, (most, texts)."""
    hashed = b"".join([hashlib.sha256(key.encode()).digest()[:8] for key in keys])
    state = np.empty((SHIFT + most, len(keys)), dtype=np.uint32)
    state[0] = (np.frombuffer(hashed, dtype=">u8") >> np.uint64(1)).astype(np.uint32)  # as torch, the low half
    mixed = np.empty(len(keys), dtype=np.uint32)
    for i in range(1, len(state)):
        np.right_shift(state[i - 1], np.uint32(30), out=mixed)
        mixed ^= state[i - 1]
        np.multiply(mixed, np.uint32(1812433253), out=mixed)
        np.add(mixed, np.uint32(i), out=state[i])
    low = state[1 : most + 1]
    y: Words = (state[:most] & np.uint32(0x80000000)) | (low & np.uint32(0x7FFFFFFF))
    y = state[SHIFT:] ^ (y >> np.uint32(1)) ^ ((low & np.uint32(1)) * np.uint32(0x9908B0DF))
    y ^= y >> np.uint32(11)
    y ^= (y << np.uint32(7)) & np.uint32(0x9D2C5680)
    y ^= (y << np.uint32(15)) & np.uint32(0xEFC60000)
    y ^= y >> np.uint32(18)
    return y
