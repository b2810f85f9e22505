"""Images and datasets: what a dataset supplies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np


ClassOrder = str | tuple[str, ...]  # "natural", "text", or the names of all classes in the order of their labels


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One image of a dataset, ready to be smoothed."""

    index: int  # position in the dataset
    pixels: np.ndarray[Any, np.dtype[np.float32]]  # (C, H, W) in [0, 1]
    label: int
    fingerprint: str  # sha256 of shape and pixels: the image's identity across datasets, orders and storage


class Dataset(Protocol):
    """Labelled images in a fixed order."""

    name: str
    split: str
    shape: tuple[int, int, int]  # (C, H, W)
    num_classes: int
    class_names: tuple[str, ...]
    notes: tuple[str, ...]  # what a user should know of these images: "indices 0 to 1016 only"
    preprocessing: str  # "resize256-crop224"; part of what is measured: the l2 radius lives in these pixels

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image: ...

    def label(self, index: int) -> int:
        """The true class, without decoding the image."""

    def digest(self, index: int) -> str:
        """sha256 of the image as stored, without decoding it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSource:
    """A dataset as a value: where it comes from and how it is opened."""

    name: str
    title: str
    cite: str
    default_subset: str  # the field's own: "skip:20" for CIFAR-10
    open: Callable[..., Dataset]  # (root, size, split), and the class order where it takes one
    num_classes: int | None = None  # known without opening it; None: depends on the folder
    shape: tuple[int, int, int] | None = None
    takes_class_order: bool = False
    side: Callable[[Path | None, str, int], int | None] | None = None  # (root, split, a method's wish): what to open at
