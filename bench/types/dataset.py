"""Images and datasets: what a dataset supplies, and the facts of it that others go by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.types.errors import DataError

if TYPE_CHECKING:
    import numpy as np


RADII = tuple(0.25 * k for k in range(9))  # l2, 0 to 2: of tables on a dataset that states no other
ClassOrder = str | tuple[str, ...]  # "natural", "text", or the names of all classes in the order of their labels


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One image of a dataset, ready to be smoothed."""

    index: int  # position in the dataset
    pixels: np.ndarray[Any, np.dtype[np.float32]]  # (C, H, W) in [0, 1]
    label: int
    fingerprint: str  # sha256 of shape and pixels: the image's identity across datasets, orders and storage


class Dataset(Protocol):
    """Labelled images in a fixed order.

    Where the order of the classes was to be chosen, an attribute `class_order` has the word for it, as in a spec. Where
    a method `decoded(index)` gives the whole picture as bytes, (H, W, C) uint8, views for training are cut from that.
    """

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
class PublishedLogs:
    """How published certification logs name a dataset, and which of its images they are of."""

    names: str  # regular expression of its name in a path, in small letters
    others: str = ""  # regular expression of names that resemble it and are of other images: "cifar10c"
    called: str  # its certified images in a sentence: "CIFAR-10's test set"
    subsets: tuple[str, ...]  # that the field's tables are made on, in the words of `--subset`
    order: str  # of the labels by index: "class-sorted" or "mixed classes"
    class_size: int | None = None  # images of each class, where the label is index // class_size


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSource:
    """A dataset as a value: where it comes from, how it is opened, and what is known of it unopened."""

    name: str
    title: str
    cite: str
    default_subset: str  # the field's own: "skip:20" for CIFAR-10
    open: Callable[..., Dataset]  # (root, size, split), the class order where it takes one, preprocessing=... likewise
    num_classes: int | None = None  # known without opening it; None: depends on the folder
    shape: tuple[int, int, int] | None = None
    takes_class_order: bool = False
    side: Callable[[Path | None, str, int], int | None] | None = None  # (root, split, a method's wish): what to open at
    crop: int | None = None  # side of the centre crop of photographs that published networks take; None: no crop
    preprocessings: tuple[str, ...] = ()  # by name: ways from a file to pixels that can be chosen, its own first
    images: Mapping[str, int] = field(default_factory=dict)  # split -> how many there are officially
    radii: tuple[float, ...] = RADII  # l2, ascending: where its tables are printed
    # Mean and standard deviation of each channel that networks for it are normalised by, pixels in [0, 1].
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    logs: PublishedLogs | None = None  # None: published logs of it are told by nothing

    def __post_init__(self) -> None:
        radii = tuple(self.radii)
        if not radii or not all(_is_length(r) for r in radii) or any(a >= b for a, b in pairwise(radii)):
            raise DataError(
                f"dataset {self.name!r} states the radii {self.radii!r}; expected l2 lengths of 0 or more, ascending"
            )
        object.__setattr__(self, "radii", tuple(map(float, radii)))


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
