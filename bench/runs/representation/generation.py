"""Images generated from features, and how far they are from real ones in spaces that are said; no picture is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.runs.representation.frechet import Array, frechet_distance
from bench.types import Dataset, Generator, Representation

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 100
PIXELS = "pixels in [0, 1]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """A Frechet distance between generated and real images, none of them FID, whose features are Inception's."""

    space: str  # the features that are compared
    width: int
    distance: float
    floor: float  # the same distance between real images of the two splits: what a perfect generator would be near
    generated: int
    reference: int  # images of the training split
    others: int  # of the test split, behind the floor


def samples(generator: Generator, count: int, tell: Callable[[str], None], first: int = 0) -> Tensor:
    """Images from features of pure noise."""
    import torch

    parts = []
    for start in range(0, count, BATCH):
        parts.append(generator.sample(None, 0.0, first + start, min(BATCH, count - start)))
        tell(f"sampled {min(start + BATCH, count):,} of {count:,}")
    return torch.cat(parts)


def along_levels(generator: Generator, images: Tensor, sigmas: Sequence[float]) -> list[Tensor]:
    """Images sampled from features of each image with noise of each sigma: one batch a sigma.

    The start of the sampler is the same in all, so that what differs is the condition.
    """
    return [generator.sample(images, sigma, 0, len(images)) for sigma in sigmas]


def distances(
    made: Tensor, train: Dataset, test: Dataset, encoder: Representation, device: str, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Distances of generated images from the training split, in pixels and in an encoder's features of clean images.

    Source of the formula: bench.runs.representation.frechet.
    """
    tell(f"distances: {len(made):,} generated, {len(train):,} training and {len(test):,} test images")
    real, others = _pixels(train), _pixels(test)

    def pixels(rows: Array) -> Array:
        return rows.reshape(len(rows), -1)

    def features(rows: Array) -> Array:
        import torch

        with torch.inference_mode():
            parts = torch.split(torch.from_numpy(np.ascontiguousarray(rows)), 256)
            return np.concatenate([encoder.features(part.to(device), 0.0).cpu().numpy() for part in parts])

    found = []
    for space, seen in ((PIXELS, pixels), (f"{encoder.title}: {encoder.layer}", features)):
        drawn, reference, rest = (seen(rows) for rows in (made.numpy(), real, others))
        found.append(
            Distance(
                space=space,
                width=drawn.shape[1],
                distance=frechet_distance(drawn, reference),
                floor=frechet_distance(rest, reference),
                generated=len(drawn),
                reference=len(reference),
                others=len(rest),
            )
        )
    return [asdict(each) for each in found]


def _pixels(dataset: Dataset) -> Array:
    return np.stack([dataset[index].pixels for index in range(len(dataset))])
