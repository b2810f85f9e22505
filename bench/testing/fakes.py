"""Fakes whose certificates are known in closed form, and images that need no files; no claim about any method."""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.data.subset import pixel_fingerprint
from bench.types import Image, Noise
from bench.types.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class HalfSpace:
    """Class 1 where w.x + b > 0, else class 0: smoothing keeps the plane, so the exact radius is the distance to it.

    Source: Cohen et al. 2019, Appendix B (the bound is tight for a linear classifier).
    """

    num_classes = 2

    def __init__(self, w: Tensor, b: float) -> None:
        self.w, self.b = w.double(), b

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """1 above the plane, 0 below and on it."""
        del noise  # no randomness of its own
        return (self._height(x) > 0).long()

    def label(self, x: Tensor) -> int:
        """The smoothed classifier's true label of one image (C, H, W)."""
        return int(self._height(x[None]) > 0)

    def radius(self, x: Tensor) -> float:
        """The exact l2 distance of one image (C, H, W) to the plane."""
        return float(self._height(x[None]).abs() / self.w.norm())

    def probability(self, x: Tensor, sigma: float) -> float:
        """The exact probability of the label under noise: Phi(radius / sigma)."""
        return 0.5 * math.erfc(-self.radius(x) / sigma / math.sqrt(2))

    def _height(self, x: Tensor) -> Tensor:
        # float64 and one row at a time in memory order: the batch must not decide on which side a copy falls.
        return (x.double() * self.w.to(x.device)).flatten(1).sum(1) + self.b


class Constant:
    """One label for all: certifies everything as far as n allows."""

    def __init__(self, label: int, num_classes: int) -> None:
        self.constant, self.num_classes = label, num_classes

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """The label, once a copy."""
        del noise
        import torch

        return torch.full((len(x),), self.constant, dtype=torch.int64, device=x.device)


class RandomClassifier:
    """A label drawn from the method's own noise, blind to the image: the smoothed classifier must abstain."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def predict(self, x: Tensor, noise: Noise) -> Tensor:
        """Uniform labels, the same for the same noise."""
        del x
        return noise.randn(self.num_classes).argmax(dim=1)


@dataclass(slots=True, eq=False)
class ToyImages:
    """Deterministic random images; label 1 where the mean is above a half, unless another rule is given."""

    n: int
    shape: tuple[int, int, int]
    seed: int = 0
    num_classes: int = 2
    rule: Callable[[np.ndarray[Any, np.dtype[np.float32]]], int] = lambda pixels: int(
        pixels.mean(dtype="float64") > 0.5
    )
    name: str = "toy"
    split: str = "test"
    preprocessing: str = "none"
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.class_names = tuple(map(str, range(self.num_classes)))

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Image:
        import numpy as np

        index = operator.index(index)
        if not 0 <= index < self.n:
            raise DataError(f"toy images are 0 to {self.n - 1}, got index {index}")
        source = np.random.Generator(np.random.Philox(key=[self.seed, index]))
        # A brightness for each image, so that means spread over [0.2, 0.8] whatever the number of pixels.
        centre, texture = source.uniform(0.2, 0.8), source.uniform(-0.2, 0.2, self.shape)
        pixels = (centre + texture).astype(np.float32)
        return Image(index, pixels, self.rule(pixels), pixel_fingerprint(pixels))

    def label(self, index: int) -> int:
        """By the rule."""
        return self[index].label

    def digest(self, index: int) -> str:
        """sha256 of the pixels' bytes."""
        return hashlib.sha256(self[index].pixels.tobytes()).hexdigest()
