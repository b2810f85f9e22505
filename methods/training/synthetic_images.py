"""Random images in the place of a dataset that is not here: for cost, never for training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from bench.types import Dataset, DatasetSource, Image


@dataclass(slots=True)  # not frozen: a Dataset's attributes may be set
class SyntheticImages:
    """As many images as the dataset has officially, of its shape; each has its own random bytes."""

    name: str
    split: str
    shape: tuple[int, int, int]
    num_classes: int
    length: int
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ("random images",)
    preprocessing: str = "none"
    class_order: str = ""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Image:
        drawn = np.random.default_rng(index).integers(0, 256, self.shape, dtype=np.uint8)
        return Image(index, drawn.astype(np.float32) / np.float32(255), self.label(index), self.digest(index))

    def label(self, index: int) -> int:
        """A class, by turns."""
        return index % self.num_classes

    def digest(self, index: int) -> str:
        """Of the index: there is no file."""
        return hashlib.sha256(str(index).encode()).hexdigest()


def in_place_of(source: DatasetSource, split: str) -> Dataset | None:
    """Random images of what is known of a dataset unopened; None where its shape or size is not."""
    if source.shape is None or source.num_classes is None or split not in source.images:
        return None
    return SyntheticImages(source.name, split, source.shape, source.num_classes, source.images[split])
