"""Keys of the smoothing noise, and of a method's own: equal keys are the same noise on every machine.

Noise is counter-based: copy `i` of a stage is a pure function of (seed, fingerprint, sigma, stage, i). Batch size,
order, workers and resumption cannot reach it, and the other images of a run neither.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.smoothing.philox import integers, normals

if TYPE_CHECKING:
    from torch import Tensor


# Names integers, transform and layout: other noise is another run.
NOISE_VERSION = "philox4x64-boxmuller-1"


SELECT, ESTIMATE = "select", "estimate"


@dataclass(frozen=True, slots=True)
class NoiseKey:
    """What a stream of noise belongs to; equal keys are the same noise on every machine."""

    seed: int
    fingerprint: str  # of the image's pixels
    sigma: float
    stage: str  # SELECT or ESTIMATE: the two are independent, as the certificate needs

    def philox(self, purpose: str) -> int:
        """128-bit Philox key of a purpose: "smoothing", or the method's own randomness."""
        words = f"{NOISE_VERSION}|{self.seed}|{self.fingerprint}|{self.sigma!r}|{self.stage}|{purpose}"
        return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=16).digest(), "little")


def bound_uniform(seed: int, fingerprint: str, sigma: float) -> float:
    """The one number in (0, 1) that a randomised bound on an image takes: never redrawn, and independent of all noise.

    The same for every method and every n: who would draw it again has to draw the votes again, by another seed.
    """
    key = NoiseKey(seed, fingerprint, sigma, ESTIMATE).philox("bound")
    high, low = (int(word) for word in integers(key, 0, 0, 1, 2).ravel()[:2])
    return (((high << 32 | low) >> 12) + 0.5) / 2**52  # exact in float64, never 0 nor 1


@dataclass(slots=True)
class MethodNoise:
    """A method's own randomness for one batch: keyed per copy, fresh at each call, independent of the smoothing noise.

    The k-th call of a batch gives copy i the same values whichever batch it is in.
    """

    key: int  # NoiseKey.philox("method")
    first: int  # the first copy of the batch
    copies: int
    device: str = "cpu"
    _draws: int = field(default=0, repr=False)

    def randn(self, *shape: int) -> Tensor:
        """Fresh standard normals, (copies, *shape) float32."""
        draw, self._draws = self._draws, self._draws + 1
        return normals(self.key, draw, self.first, self.copies, shape, self.device)


@dataclass(slots=True)
class PackedNoise:
    """A method's own randomness for a batch of several images' copies: each copy's is what it would be alone."""

    parts: tuple[MethodNoise, ...]  # in the order of the batch

    def randn(self, *shape: int) -> Tensor:
        """Fresh standard normals, (copies of all parts, *shape) float32."""
        import torch

        return torch.cat([part.randn(*shape) for part in self.parts])
