"""Protocols of representations: features of images, and images sampled from features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Representation(Protocol):
    """A frozen network as a function from noisy pixels to features."""

    title: str  # "rRCM-tiny"
    layer: str  # the features' place in the network, in words
    sha256: str  # of its file
    cleanest: float  # ends of its noise trajectory, l2 in [0, 1] pixels
    noisiest: float

    def features(self, x: Tensor, sigma: float) -> Tensor:
        """Features of images that hold noise of that sigma; 0 for clean ones.

        Shapes: x (B, C, H, W) float32, not confined to [0, 1]; result (B, D) float32.
        """


class Generator(Protocol):
    """A network that samples images from features."""

    def sample(self, condition: Tensor | None, sigma: float, first: int, count: int) -> Tensor:
        """Images, the first with that number in the stream of the request's seed.

        `condition`: images whose features it samples from, clean, to which noise of that sigma is added; None: noise
        alone, so that nothing of an image goes in. Equal numbers, seed and features give equal images.
        Shapes: condition (count, C, H, W) in [0, 1]; result (count, C, H, W) float32 in [0, 1].
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RepresentRequest:
    """A file of a pre-trained network, and the images that it is to see."""

    weights: Path
    shape: tuple[int, int, int]  # (C, H, W)
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """The files of a generator and of the network whose features it samples from."""

    weights: Path
    encoder: Path
    shape: tuple[int, int, int]  # (C, H, W)
    steps: int  # of the sampler
    seed: int
    device: str
