"""A dataset whose images are held in memory as they are stored; knows no file format."""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.data.subset import pixel_fingerprint
from bench.types import Image
from bench.types.errors import DataError

Octets = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(slots=True, kw_only=True, eq=False)
class ArrayDataset:
    """Labelled images in their official order, of which some may be missing."""

    name: str
    split: str
    values: np.ndarray[Any, Any]  # (N, C, H, W) small integers or float32, for the covered images only
    labels: np.ndarray[Any, Any]  # (N,)
    top: int  # the stored value that is pixel 1.0
    class_names: tuple[str, ...]
    length: int  # of the whole dataset: an index means the same image whether or not all are here
    covered: tuple[range, ...]  # indices that are here, in the order of `values`
    notes: tuple[str, ...] = ()  # what a reader of the numbers must know of the files
    preprocessing: str = "none"
    shape: tuple[int, int, int] = field(init=False)
    num_classes: int = field(init=False)

    def __post_init__(self) -> None:
        if not len(self.values) == len(self.labels) == sum(map(len, self.covered)):
            raise ValueError(f"{len(self.values)} images, {len(self.labels)} labels, {spans(self.covered)} covered")
        channels, height, width = self.values.shape[1:]
        self.shape = (channels, height, width)
        self.num_classes = len(self.class_names)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Image:
        at = self._position(index)
        pixels = self.values[at].astype(np.float32) / np.float32(self.top)
        return Image(operator.index(index), pixels, int(self.labels[at]), pixel_fingerprint(pixels))

    def decoded(self, index: int) -> Octets:
        """The image as bytes, (H, W, C)."""
        stored = self.values[self._position(index)]
        if self.top != 255 or stored.dtype != np.uint8:
            stored = np.rint(stored.astype(np.float32) / np.float32(self.top) * 255).astype(np.uint8)
        return np.ascontiguousarray(stored.transpose(1, 2, 0))

    def label(self, index: int) -> int:
        """The true class."""
        return int(self.labels[self._position(index)])

    def digest(self, index: int) -> str:
        """sha256 of the record: the label in as few bytes as hold it, then the values, channel by channel."""
        at = self._position(index)
        label = int(self.labels[at])
        front = label.to_bytes(max(1, -(-label.bit_length() // 8)), "big")
        return hashlib.sha256(front + self.values[at].tobytes()).hexdigest()

    def _position(self, index: int) -> int:
        index, before = operator.index(index), 0
        if not 0 <= index < self.length:
            raise DataError(f"{self.name} {self.split} has images 0 to {self.length - 1}, got index {index}")
        for span in self.covered:
            if index in span:
                return before + index - span.start
            before += len(span)
        raise DataError(
            f"{self.name} {self.split} image {index} is not in these files, which hold {spans(self.covered)} of "
            f"{self.length}; choose a subset inside, or give the complete files"
        )


def spans(covered: tuple[range, ...]) -> str:
    """Ranges of indices for a sentence: "0 to 1016 and 10000 to 11016"."""
    return " and ".join(f"{span.start} to {span.stop - 1}" for span in covered)
