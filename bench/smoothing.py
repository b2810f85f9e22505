"""The only place that makes smoothing noise: draws noisy copies of images and counts the votes on them.

Noise is counter-based: copy `i` of a stage is a pure function of (seed, fingerprint, sigma, stage, i). Batch size,
order, workers and resumption cannot reach it, and the other images of a run neither.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.errors import DeviceError, MethodError
from bench.types import BaseClassifier, Counts

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    from torch import Tensor

# Names integers, transform and layout: other noise is another run.
NOISE_VERSION = "philox4x64-boxmuller-1"

SELECT, ESTIMATE = "select", "estimate"

WORDS = 8  # 32-bit words in one Philox 4x64 counter block
_COUNTERS = 1 << 256


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


def integers(key: int, draw: int, first: int, copies: int, values: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Random 32-bit words of `copies` copies from copy `first` on.

    Shapes: (copies, P), P = values rounded up to a multiple of 8. Copy i owns counters
    draw * 2^128 + [i, i+1) * P/8.
    Source: Salmon et al. 2011, Philox 4x64 with 10 rounds, by numpy; tests hold an independent slow one.
    """
    import numpy as np

    blocks = -(-values // WORDS)
    counter = (draw << 128) + first * blocks
    # numpy advances the counter before the first block; full-range integers hand out its words as they are.
    limbs = np.array(_limbs((counter - 1) % _COUNTERS, 4), dtype=np.uint64)
    source = np.random.Philox(counter=limbs, key=np.array(_limbs(key, 2), dtype=np.uint64))
    words = np.random.Generator(source).integers(0, 2**64, size=copies * blocks * 4, dtype=np.uint64)
    # The low half of each 64-bit word comes first, on every machine.
    return words.astype("<u8", copy=False).view("<u4").astype(np.uint32, copy=False).reshape(copies, blocks * WORDS)


def normals(key: int, draw: int, first: int, copies: int, shape: tuple[int, ...], device: str) -> Tensor:
    """Standard normals of `copies` copies, (copies, *shape) float32 on `device`.

    Units: none; the largest magnitude is 6.8, which a true normal passes once in 10^11 values.
    Error: the integers are equal on every machine, the normals to the last bits of its log, sin and cos.
    Source: Box & Muller 1958, from two 32-bit uniforms: radii from a copy's first half, angles from its second.
    """
    import torch

    values = math.prod(shape)
    words = torch.from_numpy(integers(key, draw, first, copies, values)).to(device).to(torch.float32)
    half = words.shape[1] // 2
    # Off zero by half a step, so that the logarithm is finite.
    radius = words[:, :half].mul(2.0**-32).add_(2.0**-33).log_().mul_(-2.0).sqrt_()
    angle = words[:, half:].mul(2.0 * math.pi * 2.0**-32)
    out = torch.empty_like(words)
    torch.mul(radius, torch.cos(angle), out=out[:, :half])
    torch.mul(radius, angle.sin_(), out=out[:, half:])
    return out[:, :values].reshape(copies, *shape)


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


@dataclass(frozen=True, slots=True)
class Segment:
    """Some copies of one image, to share a forward pass with others'."""

    x: Tensor  # (C, H, W) float32 in [0, 1] on the classifier's device
    key: NoiseKey
    first: int  # of the copies
    copies: int


@dataclass(slots=True)
class PackedNoise:
    """A method's own randomness for a batch of several images' copies: each copy's is what it would be alone."""

    parts: tuple[MethodNoise, ...]  # in the order of the batch

    def randn(self, *shape: int) -> Tensor:
        """Fresh standard normals, (copies of all parts, *shape) float32."""
        import torch

        return torch.cat([part.randn(*shape) for part in self.parts])


def sample(
    classifier: BaseClassifier,
    x: Tensor,
    *,
    seed: int,
    fingerprint: str,
    sigma: float,
    n0: int,
    n: int,
    batch: int,
    precision: str = "fp32",
    shrunk: Callable[[int], None] | None = None,
) -> tuple[Counts, Counts]:
    """Votes of both stages of one image: selection (n0 copies) and estimation (n further, independent copies).

    A batch that does not fit the memory is halved, here and for the rest of the image, and `shrunk` is told: the keys
    of the noise make it the same votes. Without `shrunk` it is an error.
    Shapes: x (C, H, W) float32 in [0, 1] on the classifier's device.
    Raises: as `draw`; DeviceError where a single copy does not fit.
    """
    stages = ((SELECT, n0), (ESTIMATE, n))
    votes = []
    for stage, copies in stages:
        counted, batch = _votes(
            classifier, x, NoiseKey(seed, fingerprint, sigma, stage), copies, batch, precision, 0, shrunk
        )
        votes.append(counted)
    selection, estimation = _counts(classifier, votes)
    return selection, estimation


def draw(
    classifier: BaseClassifier, x: Tensor, *, key: NoiseKey, n: int, batch: int, precision: str = "fp32", first: int = 0
) -> Counts:
    """Votes of the base classifier on `n` noisy copies of one image, from copy `first` on.

    Shapes: x (C, H, W) float32 in [0, 1] on the classifier's device. The copies x + sigma * eps are not clipped, and no
    normalisation comes before the noise (Cohen et al. 2019, Section 3.2.2).
    Raises: MethodError if the classifier breaks its protocol.
    """
    return _counts(classifier, [_votes(classifier, x, key, n, batch, precision, first)[0]])[0]


def draw_packed(classifier: BaseClassifier, segments: Sequence[Segment], *, precision: str = "fp32") -> list[Counts]:
    """Votes of each segment, from one forward pass of all: the votes that each would have by itself.

    Raises: MethodError if the classifier breaks its protocol; torch.OutOfMemoryError where the pass does not fit.
    """
    import torch

    device = segments[0].x.device
    with torch.inference_mode(), autocast(device.type, precision):
        x = torch.cat([_noisy(s.x, s.key, s.first, s.copies) for s in segments])
        noise = PackedNoise(
            tuple(MethodNoise(s.key.philox("method"), s.first, s.copies, str(device)) for s in segments)
        )
        labels = classifier.predict(x, noise)
        _check_labels(labels, len(x), classifier)
        owners = torch.tensor([s.copies for s in segments], device=device)
        owners = torch.arange(len(segments), device=device).repeat_interleave(owners, output_size=len(x))
        votes = _tally(labels, classifier, owners, len(segments))
    return _counts(classifier, list(votes))


def largest_batch(classifier: BaseClassifier, x: Tensor, *, key: NoiseKey, start: int, precision: str) -> int:
    """`start`, halved until one forward pass fits the device's memory.

    Raises: DeviceError when a single copy does not.
    """
    import torch

    batch = start
    while True:
        try:
            draw(classifier, x, key=key, n=batch, batch=batch, precision=precision)
        except torch.OutOfMemoryError as error:
            batch = half(batch, x, str(error))
        else:
            return batch


def half(batch: int, x: Tensor, said: str) -> int:
    """Half of a batch that did not fit, and its memory given back.

    Raises: DeviceError when it was a single copy.
    """
    import torch

    if batch == 1:
        first_line = (said.splitlines() or ["out of memory"])[0]
        raise DeviceError(
            f"one copy of shape {tuple(x.shape)} does not fit the memory of {x.device}; "
            f"expected a smaller network or a larger device ({first_line})"
        ) from None
    if x.device.type == "cuda":
        torch.cuda.empty_cache()
    return batch // 2


def autocast(device_type: str, precision: str) -> AbstractContextManager[Any]:
    """The arithmetic of a run: bf16 and fp16 by autocast, fp32 and tf32 by the backend's flags."""
    from contextlib import nullcontext

    import torch

    if precision in ("bf16", "fp16"):
        return torch.autocast(device_type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)
    return nullcontext()


def _check_labels(labels: Tensor, copies: int, classifier: BaseClassifier) -> None:
    import torch

    if labels.dtype != torch.int64 or labels.shape != (copies,):
        raise MethodError(
            f"{type(classifier).__name__}.predict must return int64 labels of shape ({copies},), "
            f"got {labels.dtype} of shape {tuple(labels.shape)}"
        )


def _tally(labels: Tensor, classifier: BaseClassifier, owners: Tensor | int = 0, count: int = 1) -> Tensor:
    """Votes per class of each owner, (count, K + 1) int64 on the labels' device; the last slot counts what is no class.

    Shapes: labels (B,); owners (B,), the owner of each copy.
    """
    import torch

    k = classifier.num_classes
    slots = torch.where((labels >= 0) & (labels < k), labels, k) + owners * (k + 1)
    # scatter_add, not bincount: on CUDA bincount waits for the device to learn its size.
    votes = torch.zeros(count * (k + 1), dtype=torch.int64, device=labels.device)
    return votes.scatter_add_(0, slots, torch.ones_like(slots)).view(count, k + 1)


def _votes(
    classifier: BaseClassifier,
    x: Tensor,
    key: NoiseKey,
    n: int,
    batch: int,
    precision: str,
    first: int,
    shrunk: Callable[[int], None] | None = None,
) -> tuple[Tensor, int]:
    """Votes per class, (K + 1,) int64, still on the device: nothing here waits for it; and the batch that fitted."""
    import torch

    votes = torch.zeros(classifier.num_classes + 1, dtype=torch.int64, device=x.device)
    done = 0
    with torch.inference_mode(), autocast(x.device.type, precision):
        while done < n:
            copies, unfit = min(batch, n - done), None
            try:
                votes += _pass(classifier, x, key, first + done, copies)
            except torch.OutOfMemoryError as error:
                if shrunk is None:
                    raise
                unfit = str(error)
            # Not in the handler: its traceback keeps the tensors of the failed pass alive.
            if unfit is None:
                done += copies
            elif shrunk is not None:
                batch = half(copies, x, unfit)
                shrunk(batch)
    return votes, batch


def _pass(classifier: BaseClassifier, x: Tensor, key: NoiseKey, first: int, copies: int) -> Tensor:
    """Votes per class of one forward pass, on copies `first` to `first + copies`."""
    noise = MethodNoise(key.philox("method"), first, copies, str(x.device))
    labels = classifier.predict(_noisy(x, key, first, copies), noise)
    _check_labels(labels, copies, classifier)
    return _tally(labels, classifier)[0]


def _noisy(x: Tensor, key: NoiseKey, first: int, copies: int) -> Tensor:
    """The copies x + sigma * eps, (copies, C, H, W), not clipped."""
    eps = normals(key.philox("smoothing"), 0, first, copies, tuple(x.shape), str(x.device))
    return eps.mul_(key.sigma).add_(x)


def _counts(classifier: BaseClassifier, votes: list[Tensor]) -> list[Counts]:
    import torch

    stages: list[list[int]] = torch.stack(votes).tolist()  # the one synchronisation of an image
    outside = sum(counted[-1] for counted in stages)
    if outside:
        raise MethodError(
            f"{type(classifier).__name__}.predict must return labels in [0, {classifier.num_classes}), "
            f"got {outside} of {sum(map(sum, stages))} outside; run `rrcm-bench check` on the method"
        )
    return [Counts.of(list(enumerate(counted))) for counted in stages]


def _limbs(value: int, count: int) -> list[int]:
    return [(value >> (64 * i)) & (2**64 - 1) for i in range(count)]
